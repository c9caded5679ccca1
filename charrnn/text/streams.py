"""Parallel streams of contiguous text, cut into windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """B rows of contiguous text, read some symbols at a time.

    Row b covers positions ``start + b m … start + (b + 1) m`` with ``m = (stop - start - 1) // B``; the
    last window of an epoch may be shorter than asked for, so every row is read whole. At most B - 1
    symbols at the very end are left out.

    Args:
        places: The corpus, (N,).
        table: Place to id, (U,) int64.
        start: First position of the split.
        stop: End of the split.
        batch_size: Rows, B.
        seq_len: Symbols per window of the usual length, T.
        rows: Those that are read; None reads all.
    """

    places: np.ndarray
    table: np.ndarray
    start: int
    stop: int
    batch_size: int
    seq_len: int
    rows: range | None = None

    @property
    def num_rows(self) -> int:
        """How many rows are read."""
        return self.batch_size if self.rows is None else len(self.rows)

    @property
    def first(self) -> int:
        """The first position that is read."""
        return self.start + (0 if self.rows is None else self.rows.start * self.row_length)

    @property
    def num_symbols(self) -> int:
        """How many symbols are read, those included that are only predicted."""
        return self.num_rows * self.row_length + 1

    @property
    def row_length(self) -> int:
        """Symbols that each row reads in one epoch, m."""
        return (self.stop - self.start - 1) // self.batch_size

    @property
    def num_windows(self) -> int:
        """Windows of the usual length in one epoch."""
        return -(-self.row_length // self.seq_len)

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids that are read and, one further, those to predict, each (B, T) int64
        or, with ``rows``, those of them.

        Raises:
            IndexError: The epoch has no such window.
        """
        if not 0 <= index < self.num_windows:
            raise IndexError(f"window {index} of {self.num_windows}")
        return self.read(index * self.seq_len, self.seq_len)

    def read(self, position: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids from a position in every row on, and those one further, as many as the rows still have.

        Raises:
            IndexError: The rows have no such position.
        """
        if not 0 <= position < self.row_length:
            raise IndexError(f"position {position} of {self.row_length}")
        begin = self.start + position
        length = min(length, self.row_length - position)
        rows = (begin + b * self.row_length for b in self.rows or range(self.batch_size))
        ids = self.table[np.stack([self.places[row : row + length + 1] for row in rows])]
        return ids[:, :-1], ids[:, 1:]
