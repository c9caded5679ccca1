"""The longest stretches that short texts share, letter for letter, with a long one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 1 << 20
"""Positions of the long text that are looked at in one go, whatever its length."""
ANCHOR = 16
"""Only positions that share this many symbols are looked at for longer stretches."""
_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Overlap:
    """A stretch of a short text that stands in the long one too.

    Args:
        length: Symbols in it; 0 if no symbol is shared.
        start: Where it begins in the short text.
        position: Where it begins in the long text; the first such place.
    """

    length: int = 0
    start: int = 0
    position: int = 0


def longest_overlaps(
    text: np.ndarray,
    part: tuple[int, int],
    table: np.ndarray,
    queries: Sequence[np.ndarray],
    progress: Callable[[float], None] = lambda _: None,
) -> list[Overlap]:
    """Find for every short text its longest stretch that occurs in a part of the long text.

    The time grows with the long text, some seconds for 10 MB and minutes for 1 GB, and the memory, about
    200 MB, does not: windows are compared by polynomial hashes modulo 2**64 (Karp & Rabin 1987), what is
    found letter for letter.

    Args:
        text: The long text as places, (N,); may be memory-mapped.
        part: Begin and end position.
        table: Place to id, (U,).
        queries: Short texts as ids; 0, the boundary, is shared with nothing.
        progress: Called with the share done.
    """
    reach = max((len(query) for query in queries), default=0)
    tools = _Tools(CHUNK + reach, int(table.max()) + 2)
    asked = [_Query(tools, np.where(query == 0, -1, query)) for query in queries]
    for begin in range(*part, CHUNK):
        ids = table[text[begin : min(begin + CHUNK + reach - 1, part[1])]]
        chunk = _Chunk(tools, ids, asked)
        for query in asked:
            query.look(chunk, begin)
        progress(min(1.0, (begin + CHUNK - part[0]) / (part[1] - part[0])))
    return [query.best for query in asked]


class _Tools:
    """Random values of the symbols, and powers of the base and of its inverse modulo 2**64."""

    def __init__(self, length: int, symbols: int) -> None:
        random = np.random.Generator(np.random.Philox(key=1))
        self.values = random.integers(0, 1 << 64, symbols, dtype=np.uint64)
        self.powers = _powers(_BASE, length + 1)
        self.inverses = _powers(pow(_BASE, -1, 1 << 64), length + 1)


def _powers(base: int, count: int) -> np.ndarray:
    steps = np.full(count, base & _MASK, dtype=np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)


class _Hashed:
    """Hashes of all windows of a text; equal windows have equal hashes wherever they lie."""

    def __init__(self, tools: _Tools, ids: np.ndarray) -> None:
        self.ids = ids
        self._tools = tools
        terms = tools.values[ids] * tools.powers[: len(ids)]
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])

    def windows(self, length: int, starts: np.ndarray | None = None) -> np.ndarray:
        """Return the hash of the window at every start, or at some that leave room for it."""
        if starts is None:
            count = max(0, len(self.ids) - length + 1)
            return (self._sums[length:][:count] - self._sums[:count]) * self._tools.inverses[:count]
        return (self._sums[starts + length] - self._sums[starts]) * self._tools.inverses[starts]


class _Chunk(_Hashed):
    """A piece of the long text."""

    def __init__(self, tools: _Tools, ids: np.ndarray, queries: Sequence[_Query]) -> None:
        super().__init__(tools, ids)
        self._short: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        anchors = np.concatenate([np.empty(0, np.uint64), *(query.windows(ANCHOR) for query in queries)])
        hashes = self.windows(ANCHOR)
        self._anchored = _hits(hashes, _heads(hashes), anchors)

    def first(self, wanted: np.ndarray, length: int) -> int | None:
        """Return the first start whose window of a length has one of the hashes, or None."""
        if length >= ANCHOR:
            starts = self._anchored[self._anchored <= len(self.ids) - length]
            hashes = self.windows(length, starts)
            hits = _hits(hashes, _heads(hashes), wanted)
            return int(starts[hits[0]]) if len(hits) else None
        if length not in self._short:
            hashes = self.windows(length)
            self._short[length] = hashes, _heads(hashes)
        hits = _hits(*self._short[length], wanted)
        return int(hits[0]) if len(hits) else None


class _Query(_Hashed):
    """A short text, and the longest stretch of it that was found so far."""

    best = Overlap()

    def look(self, chunk: _Chunk, begin: int) -> None:
        """Find a longer stretch in a chunk, which begins at a position of the long text."""

        def shares(length: int) -> bool:
            return chunk.first(self.windows(length), length) is not None

        length = _longest(shares, self.best.length, min(len(self.ids), len(chunk.ids)))
        if length == self.best.length:
            return
        own = self.windows(length)
        at = chunk.first(own, length)
        start = int(np.flatnonzero(own == chunk.windows(length, np.array([at])))[0])
        assert np.array_equal(self.ids[start : start + length], chunk.ids[at : at + length])
        self.best = Overlap(length, start, begin + at)


def _heads(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(48)).astype(np.uint16)


def _hits(hashes: np.ndarray, heads: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where hashes are among the wanted ones; a small table of their heads rules most out."""
    table = np.zeros(1 << 16, dtype=bool)
    table[_heads(wanted)] = True
    maybe = np.flatnonzero(table[heads])
    if not len(wanted):
        return maybe
    ordered = np.sort(wanted)
    at = np.minimum(np.searchsorted(ordered, hashes[maybe]), len(ordered) - 1)
    return maybe[ordered[at] == hashes[maybe]]


def _longest(holds: Callable[[int], bool], low: int, limit: int) -> int:
    """Return the largest number up to a limit for which something holds that holds for all smaller ones."""
    step = 1
    while low + step <= limit and holds(low + step):
        low += step
        step *= 2
    high = min(low + step, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
