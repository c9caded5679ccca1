"""An n-gram model with interpolated, modified Kneser-Ney smoothing, in bounded memory.

An n-gram is known by a hash of 64 bits: that any two of ten million different ones share it has a probability
of 3e-6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from charrnn.baselines.counts import PIECE, Symbols

ORDER = 6
"""Symbols of context."""
MAX_GRAMS = 12 << 20
"""Different n-grams of all lengths that are held; about 25 bytes each, twice that while they are counted."""
COUNTED_PIECE = 2 << 20
_BASE = np.uint64(0x9E3779B97F4A7C15)
_FALLBACK_DISCOUNTS = np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's, for counts 0, 1, 2, 3 and more


class _Grams:
    """All different n-grams of one length.

    Attributes:
        keys: Their hashes in order, (G,) uint64.
        counts: How often each was added, (G,) int32.
        places: Where one of them stands, (G,) int32.
    """

    def __init__(self) -> None:
        self.keys = np.empty(0, dtype=np.uint64)
        self.counts, self.places = np.empty((2, 0), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, keys: np.ndarray, places: np.ndarray) -> None:
        """Add n-grams by their hashes and places, (N,)."""
        order = np.argsort(keys)
        keys = keys[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
        counts = np.diff(first, append=len(keys)).astype(np.int32)
        keys, places = keys[first], places[order[first]]
        at = np.searchsorted(self.keys, keys)
        known = at < len(self.keys)
        known[known] = self.keys[at[known]] == keys[known]
        self.counts[at[known]] += counts[known]
        at, new = at[~known], ~known
        # one array after the other: together they would take twice the memory
        self.keys = np.insert(self.keys, at, keys[new])
        self.counts = np.insert(self.counts, at, counts[new])
        self.places = np.insert(self.places, at, places[new])


class _Level(NamedTuple):
    """What the model holds of the n-grams of one length.

    Attributes:
        keys: Their hashes in order, (G,) uint64.
        counts: Count of each, (G,) int32.
        discounts: What is taken off a count of 0, 1, 2, 3 and more, (4,).
        total: Sum of the counts behind each context, (C,); contexts are numbered like the keys one shorter.
        freed: Sum of the discounts there, (C,) float64.
    """

    keys: np.ndarray
    counts: np.ndarray
    discounts: np.ndarray
    total: np.ndarray
    freed: np.ndarray

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the number of every n-gram, -1 for those the training text lacks, int32."""
        at = np.searchsorted(self.keys, hashes).astype(np.int32)
        at[at == len(self.keys)] = 0
        known = self.keys[at] == hashes if len(self.keys) else np.zeros(len(hashes), dtype=bool)
        return np.where(known, at, np.int32(-1))

    def interpolated(self, contexts: np.ndarray, grams: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Mix the discounted counts of n-grams with the probabilities from shorter contexts.

        Args:
            contexts: Number of each n-gram without its last symbol, or -1, (N,).
            grams: Number of each n-gram, or -1, (N,).
            shorter: Probability of each n-gram's last symbol, one symbol of context less, (N,).
        """
        known = np.flatnonzero(contexts >= 0)
        total = self.total[contexts[known]]
        known, total = known[total > 0], total[total > 0]
        freed, grams = self.freed[contexts[known]], grams[known]
        counts = (
            np.where(grams >= 0, self.counts[grams], 0) if len(self.counts) else np.zeros(len(known), int)
        )
        kept = counts - self.discounts[np.minimum(counts, 3)]
        mixed = shorter.copy()
        mixed[known] = (kept + freed * shorter[known]) / total
        return mixed


class NgramModel:
    """Counts of all n-grams of a training text, or of as much of its end as there is memory for.

    The longest n-grams are counted as they occur, shorter ones by their number of different left
    neighbours; the beginning of the text is such a neighbour too. Below the single symbols lies the
    uniform distribution, so no probability is zero.

    Memory is bounded by the number of different n-grams, whatever the length of the texts: about 700 MB.

    Args:
        train: The training text; may be empty.
        vocab_size: Number of symbols V.
        order: Number of symbols of context, 0 or more.
        max_grams: Different n-grams of all lengths to hold. A text that has more is cut to its second half,
            as often as it takes.

    Attributes:
        symbols: How many symbols at the end of the training text were counted.

    Source:
        Kneser & Ney 1995; three discounts per length from Chen & Goodman 1998.
    """

    def __init__(
        self, train: Symbols, vocab_size: int, order: int = ORDER, max_grams: int = MAX_GRAMS
    ) -> None:
        if order < 0:
            raise ValueError(f"order must not be negative, got {order}")
        while (grams := _all_grams(train, order + 1, max_grams)) is None:
            train = train.since(len(train) - len(train) // 2)
        self.order, self.symbols = order, len(train)
        self._vocab_size = vocab_size
        self._levels = _levels(train, grams)

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """Score each symbol given the ``order`` symbols before it; a context ends at the first of ``ids``.

        Args:
            ids: Symbols in [0, V), (N,).

        Returns:
            ``-ln p`` of each, in nats, (N,) float64.
        """
        values = _scrambled(ids)
        probability = np.full(len(ids), 1.0 / self._vocab_size)
        hashes, numbers = np.zeros(len(ids) + 1, np.uint64), np.zeros(len(ids) + 1, np.int32)
        for length, level in enumerate(self._levels[: len(ids)], start=1):
            hashes = hashes[:-1] * _BASE + values[length - 1 :]
            found = level.find(hashes)
            tail = probability[length - 1 :]
            tail[:] = level.interpolated(numbers[:-1], found, tail)
            numbers = found
        return -np.log(probability)


def ngram_nats(train_ids: np.ndarray, ids: np.ndarray, vocab_size: int, order: int = ORDER) -> np.ndarray:
    """Score each symbol by the n-gram model of a training text.

    Args:
        train_ids: Symbols to count, integers in [0, V), (M,). May be empty.
        ids: Symbols to score, integers in [0, V), (N,).
        vocab_size: Number of symbols V.
        order: Number of symbols of context, 0 or more.

    Returns:
        ``-ln p`` of each symbol given the ``order`` symbols before it, in nats, (N,) float64.

    Raises:
        ValueError: The ids are not one-dimensional integers in [0, V), or ``order`` is negative.
    """
    scored = Symbols.of(ids, vocab_size)
    return NgramModel(Symbols.of(train_ids, vocab_size), vocab_size, order).nats(scored[:])


def _all_grams(train: Symbols, longest: int, max_grams: int) -> list[_Grams] | None:
    """Return the different n-grams of every length, the longest first; None if they are too many."""
    found: list[_Grams] = []
    room = max_grams
    for length in range(longest, 0, -1):
        grams = _Grams()
        for places in _places(train, length, found):
            grams.add(_hashes_at(train, places, length), places)
            if len(grams) > room:
                return None
        found.append(grams)
        room -= len(grams)
    return found


def _places(train: Symbols, length: int, longer: list[_Grams]) -> Iterator[np.ndarray]:
    """Yield where all different n-grams stand: they begin a longer one, but for the last; or everywhere."""
    end = len(train) - length + 1
    if not longer:
        for begin in range(0, end, COUNTED_PIECE):
            yield np.arange(begin, min(begin + COUNTED_PIECE, end), dtype=np.int32)
        return
    places = longer[-1].places
    for begin in range(0, len(places), COUNTED_PIECE):
        yield places[begin : begin + COUNTED_PIECE]
    if end > 0:
        yield np.array([end - 1], dtype=np.int32)


def _levels(train: Symbols, grams: list[_Grams]) -> list[_Level]:
    """Return what the model holds, the single symbols first; ``grams`` are used up."""
    levels: list[_Level] = []
    longer = grams.pop(0)
    counts = longer.counts
    for length in range(len(grams) + 1, 0, -1):
        discounts = _discounts(counts)
        shorter = grams.pop(0) if grams else _no_symbols()
        contexts = _numbers(shorter.keys, train, longer.places, length - 1)
        behind = _behind(contexts, counts, discounts, len(shorter))
        levels.append(_Level(longer.keys, counts, discounts, *behind))
        if length > 1:
            counts = _left_neighbours(train, shorter, longer.places + 1, length - 1)
        longer = shorter
    return levels[::-1]


def _no_symbols() -> _Grams:
    """Return the only n-gram of length 0."""
    grams = _Grams()
    grams.add(np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.int32))
    return grams


def _behind(
    contexts: np.ndarray, counts: np.ndarray, discounts: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the counts behind every context, (C,), and that of their discounts, (C,)."""
    total = np.bincount(contexts, weights=counts, minlength=num).astype(np.int64)
    freed = np.zeros(num)
    for count in (1, 2, 3):  # whole numbers first: then the order of the n-grams changes no bit
        has = counts == count if count < 3 else counts >= 3
        freed += discounts[count] * np.bincount(contexts[has], minlength=num)
    return total, freed


def _left_neighbours(train: Symbols, grams: _Grams, places: np.ndarray, length: int) -> np.ndarray:
    """Count the different symbols that precede each n-gram: one longer n-gram ends so at each place, (G,)."""
    numbers = _numbers(grams.keys, train, places, length)
    counts = np.bincount(numbers, minlength=len(grams.keys)).astype(np.int32)
    if len(train) >= length:
        counts[_numbers(grams.keys, train, np.zeros(1, np.int32), length)] += 1  # the beginning of the text
    return counts


def _numbers(keys: np.ndarray, train: Symbols, places: np.ndarray, length: int) -> np.ndarray:
    """Return the numbers of the n-grams that begin at some places, (N,) int32; all are among the keys."""
    numbers = np.empty(len(places), dtype=np.int32)
    for begin in range(0, len(places), PIECE):
        part = slice(begin, begin + PIECE)
        numbers[part] = np.searchsorted(keys, _hashes_at(train, places[part], length))
    return numbers


def _hashes_at(train: Symbols, places: np.ndarray, length: int) -> np.ndarray:
    """Return the hashes of the n-grams that begin at some places, (N,) uint64."""
    hashes = np.zeros(len(places), dtype=np.uint64)
    for begin in range(0, len(places), PIECE):
        part = slice(begin, begin + PIECE)
        for i in range(length):
            hashes[part] = hashes[part] * _BASE + _scrambled(train[places[part] + i])
    return hashes


def _scrambled(ids: np.ndarray) -> np.ndarray:
    """Return a number of 64 bits for each id, a different one for each (splitmix64; Steele et al. 2014)."""
    z = ids.astype(np.uint64) + _BASE
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return what is taken off a count of 0, 1, 2, 3 and more, (4,).

    The estimate needs n-grams of every count from 1 to 4 and is of use only where every discount is
    positive; small or odd texts get fixed discounts instead.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not n1 * n2 * n3 * n4:
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimate = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return estimate if estimate[1:].min() > 0 else _FALLBACK_DISCOUNTS
