"""A text as ids that is read a piece at a time, and how often each of them occurs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PIECE = 1 << 20
"""Symbols that are held in memory at once."""


@dataclass(frozen=True)
class Symbols:
    """A stretch of a text as ids, which may be far larger than memory.

    Args:
        places: The text, (M,); may be memory-mapped.
        table: Place to id, (U,); None where places are ids.
        start: First position.
        stop: End.
    """

    places: np.ndarray
    table: np.ndarray | None
    start: int
    stop: int

    @classmethod
    def of(cls, ids: np.ndarray, vocab_size: int) -> Symbols:
        """Return ids as such a text.

        Raises:
            ValueError: They are not integers in [0, V), (N,).
        """
        return cls(_checked(ids, vocab_size), None, 0, len(ids))

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Return the ids of a slice, or at positions counted from the begin of the stretch."""
        places = self.places[self.start : self.stop][key]
        return places if self.table is None else self.table[places]

    def since(self, begin: int) -> Symbols:
        """Return the same without what stands before a position."""
        return Symbols(self.places, self.table, self.start + begin, self.stop)

    def pieces(self, size: int = PIECE) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all ids, a piece at a time, each with its begin."""
        for begin in range(0, len(self), size):
            yield begin, self[begin : begin + size]


def unigram_costs(train: Symbols, vocab_size: int) -> np.ndarray:
    """Return ``-ln p`` of every id under add-one smoothed counts of a training text, in nats, (V,)."""
    counts = np.ones(vocab_size, dtype=np.int64)
    for _, ids in train.pieces():
        counts += np.bincount(ids, minlength=vocab_size)
    return -np.log(counts / counts.sum())


def unigram_nats(train_ids: np.ndarray, ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Score each symbol by how often it occurs in the training text.

    Args:
        train_ids: Symbols to count, integers in [0, V), (M,). May be empty.
        ids: Symbols to score, integers in [0, V), (N,).
        vocab_size: Number of symbols V.

    Returns:
        ``-ln p`` of each symbol under add-one smoothed counts, in nats, (N,) float64.

    Raises:
        ValueError: The ids are not one-dimensional integers in [0, V).
    """
    train, scored = Symbols.of(train_ids, vocab_size), Symbols.of(ids, vocab_size)
    return unigram_costs(train, vocab_size)[scored[:]]


def _checked(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return ids as an array, or raise ValueError where they are not integers in [0, V), (N,)."""
    ids = np.asarray(ids)
    if vocab_size < 1:
        raise ValueError(f"vocab_size must be positive, got {vocab_size}")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids must be one-dimensional integers, got {ids.dtype} of shape {ids.shape}")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise ValueError(f"ids must lie in [0, {vocab_size}), got {ids.min()} to {ids.max()}")
    # NumPy neither counts uint64 nor adds it to int64.
    return ids.astype(np.int64) if ids.dtype == np.uint64 else ids
