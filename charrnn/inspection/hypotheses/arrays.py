"""Small causal array operations that the hypotheses are written in.

Index ``t`` of every result depends on the input up to and including ``t`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
CharTest = Callable[[str], bool]

_BASIC_PLANE = 1 << 16
_ALL_PLANES = 0x110000


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code point of every character, (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def among(codes: NDArray[np.uint32], chars: str) -> Bools:
    """Return where a character is one of ``chars``."""
    table = np.zeros(max(map(ord, chars)) + 2, dtype=bool)
    table[[ord(char) for char in chars]] = True
    return table[np.minimum(codes, len(table) - 1)]


def having(text: str, test: CharTest) -> Bools:
    """Return where ``test(character)`` holds; ``test`` is called once per code point and process."""
    codes = code_points(text)
    size = _BASIC_PLANE if not len(codes) or codes.max() < _BASIC_PLANE else _ALL_PLANES
    return _char_table(test, size)[codes]


@lru_cache(maxsize=16)
def _char_table(test: CharTest, size: int) -> Bools:
    return np.fromiter((test(chr(code)) for code in range(size)), dtype=bool, count=size)


def last_index(events: Bools) -> Ints:
    """Return the index of the last event up to here, -1 before the first."""
    return np.maximum.accumulate(np.where(events, np.arange(len(events)), -1))


def since(events: Bools) -> Ints:
    """Return the characters since the last event, as if one stood right before the text."""
    return np.arange(len(events)) - last_index(events)


def count_since(counted: Bools, resets: Bools) -> Ints:
    """Return how many ``counted`` there were since the last reset (the one at a reset is not counted)."""
    total = np.cumsum(counted)
    last = last_index(resets)
    return total - np.where(last >= 0, total[last], 0)


def floored_depth(opening: Bools, closing: Bools, resets: Bools | None = None) -> Ints:
    """Return openings minus closings, never below 0 (a closing too many is forgotten), 0 at a reset."""
    delta = opening.astype(np.int64) - closing
    if resets is not None:
        delta[resets] = -len(delta) - 1
    total = np.cumsum(delta)
    return total - np.minimum(np.minimum.accumulate(total), 0)


def paint(length: int, spans: Iterable[tuple[int, int]]) -> Bools:
    """Return where any of the half-open ``spans`` lies."""
    edges = np.array(list(spans), dtype=np.int64).reshape(-1, 2)
    delta = np.bincount(edges[:, 0], minlength=length + 1) - np.bincount(edges[:, 1], minlength=length + 1)
    return np.cumsum(delta[:length]) > 0


def span_age(length: int, spans: Iterable[tuple[int, int]]) -> Ints:
    """Return the characters since the start of the span, -1 outside; spans must not overlap."""
    spans = list(spans)
    inside = paint(length, spans)
    starts = np.zeros(length, dtype=bool)
    starts[[start for start, end in spans if start < end]] = True
    return np.where(inside, since(starts), -1)


def steps(length: int, events: Iterable[tuple[int, int]]) -> Ints:
    """Return the value of the last ``(position, value)`` event up to here, 0 before the first."""
    table = dict(events)
    values = np.zeros(length + 1, dtype=np.int64)
    marks = np.zeros(length, dtype=bool)
    marks[list(table)] = True
    values[list(table)] = list(table.values())
    return values[last_index(marks)]


def runs(mask: Bools) -> list[tuple[int, int]]:
    """Return the half-open spans in which ``mask`` holds."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def just_before(mask: Bools) -> Bools:
    """Return where ``mask`` held one character earlier."""
    return np.concatenate(([False], mask))[: len(mask)]


def at(values: NDArray, index: Ints) -> NDArray:
    """Return ``values[index]``, 0 where the index is -1."""
    return np.append(values, 0)[index]


def masked(values: NDArray, unknown: Bools) -> Floats:
    """Return ``values`` as float32 with NaN where ``unknown``."""
    return np.where(unknown, np.float32(np.nan), values).astype(np.float32)


def newlines(codes: NDArray[np.uint32]) -> Bools:
    """Return where a line ends."""
    return codes == ord("\n")


def blanks(codes: NDArray[np.uint32]) -> Bools:
    """Return where a character leaves a blank line blank."""
    return among(codes, " \t\r\n\f\v\u00a0\u3000")


def blank_line_ends(codes: NDArray[np.uint32]) -> Bools:
    """Return the newlines that end a line with nothing but blanks on it."""
    ends = newlines(codes)
    previous_end = np.concatenate(([-1], last_index(ends)))[: len(codes)]
    return ends & (last_index(~blanks(codes)) <= previous_end)


def spliced(codes: NDArray[np.uint32]) -> Bools:
    """Return the newlines that a backslash right before them takes back."""
    before = np.concatenate(([0, 0], codes))
    one, two = before[1:-1], before[:-2]
    return newlines(codes) & ((one == ord("\\")) | ((one == ord("\r")) & (two == ord("\\"))))
