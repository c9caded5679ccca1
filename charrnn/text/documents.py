"""Where one document ends and the next begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from charrnn.errors import ConfigError, TextError
from charrnn.text.vocabulary import symbols_of

Piece = tuple[np.ndarray, np.ndarray]
"""Positions at which a new document begins, (D,), and the code points of a stretch of text, (N,)."""

LINE_FEED, CARRIAGE_RETURN = 10, 13
_SPACES = np.zeros(0x3002, dtype=bool)
_SPACES[[point for point in range(0x3001) if chr(point).isspace()]] = True
_MATCHES = 1 << 12
"""Matches of a pattern that are handed on together."""
LONG_LINE = 1 << 20
"""Characters of a line after which it is handed on in parts, and is not blank whatever it holds."""
STRETCH = 16 << 20
"""Characters of a text in which a pattern is looked for together."""
AHEAD = 8 << 20
"""Characters behind a match without which it is not believed: with them it might be longer."""
BEHIND = 1 << 16
"""Characters before a match that a pattern may look back at."""
LONGEST_MATCH = 128 << 20


def document_splitter(mode: str) -> Callable[[Iterable[str]], Iterator[Piece]]:
    """Return the function that cuts the text of one file into documents.

    No more is held in memory than a few pieces, or the match of a pattern.

    Args:
        mode: ``files``, ``lines``, ``blank``, or a regular expression whose every match is a document.

    Raises:
        ConfigError: ``mode`` is neither a known word nor a valid regular expression.
    """
    known = {"files": _files, "lines": _lines, "blank": _blank_blocks}
    if mode in known:
        return known[mode]
    try:
        pattern = re.compile(mode, re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"`{mode}` is no valid regular expression: {error}", "or say files, lines or blank"
        ) from None
    return lambda pieces: _matches(pieces, pattern)


def _files(pieces: Iterable[str]) -> Iterator[Piece]:
    starts = np.zeros(1, dtype=np.int64)
    for piece in pieces:
        if piece:
            yield starts, symbols_of(piece, "chars")
            starts = starts[:0]


def _whole_lines(pieces: Iterable[str]) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the code points of whole lines, joined across pieces, and whether a line begins there.

    A very long line comes in parts.
    """
    rest: list[str] = []
    length, begins = 0, True
    for piece in pieces:
        cut = piece.rfind("\n") + 1
        if cut:
            yield symbols_of("".join([*rest, piece[:cut]]), "chars"), begins
            rest, length, begins = [], 0, True
        rest.append(piece[cut:])
        length += len(piece) - cut
        if length > LONG_LINE:
            yield symbols_of("".join(rest), "chars"), begins
            rest, length, begins = [], 0, False
    if last := "".join(rest):
        yield symbols_of(last, "chars"), begins


def _line_starts(symbols: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(symbols == LINE_FEED) + 1
    return np.concatenate([[0], ends[ends < len(symbols)]])


def _long(symbols: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return which lines have more than ``LONG_LINE`` characters before their end."""
    ends = np.append(starts[1:], len(symbols) + (symbols[-1] != LINE_FEED))
    return ends - starts > LONG_LINE + 1


def _lines(pieces: Iterable[str]) -> Iterator[Piece]:
    """Every line that is not empty, with its line end, which the model learns as the end."""
    for symbols, begins in _whole_lines(pieces):
        starts = _line_starts(symbols)
        filled = np.logical_or.reduceat((symbols != LINE_FEED) & (symbols != CARRIAGE_RETURN), starts)
        filled |= _long(symbols, starts)
        filled[0] |= not begins
        if not filled.all():
            lengths = np.diff(starts, append=len(symbols))
            symbols = symbols[np.repeat(filled, lengths)]
            starts = np.cumsum(lengths[filled]) - lengths[filled]
        if len(symbols):
            yield starts[not begins :], symbols


def _blank_blocks(pieces: Iterable[str]) -> Iterator[Piece]:
    """Blocks of lines; blank lines belong to the block before them, at the beginning to the first."""
    first, blank, seen = True, False, False
    for symbols, is_begin in _whole_lines(pieces):
        starts = _line_starts(symbols)
        filled = ~np.logical_and.reduceat(_SPACES.take(symbols, mode="clip"), starts)
        filled |= _long(symbols, starts)
        filled[0] |= not is_begin
        after_blank = np.concatenate([[blank], ~filled[:-1]])
        after_text = np.concatenate([[seen], np.logical_or.accumulate(filled)[:-1] | seen])
        begins = filled & after_blank & after_text
        begins[0] |= first
        yield starts[begins], symbols
        first, blank, seen = False, not filled[-1], bool(seen or filled.any())


def _matches(pieces: Iterable[str], pattern: re.Pattern[str]) -> Iterator[Piece]:
    found: list[str] = []
    some = False
    for match in filter(None, _found(pieces, pattern)):
        found.append(match)
        some = True
        if len(found) == _MATCHES:
            yield _joined(found)
            found = []
    if found:
        yield _joined(found)
    if not some:
        raise TextError(
            f"no document matches `{pattern.pattern}`", "every match of --documents is one document"
        )


def _found(pieces: Iterable[str], pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield every match, looked for in stretches of the text.

    They are those in the whole text, unless one is longer than 8 Mi characters, or what decides about it lies
    as far behind its end, or more than 64 Ki before its begin.
    """
    text, at, size = "", 0, 0
    held: list[str] = []
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size < max(STRETCH, len(text) - at):
            continue
        text, held, size = "".join([text, *held]), [], 0
        sure = len(text) - AHEAD
        for match in pattern.finditer(text, at):
            if match.end() > sure:
                at = max(at, min(match.start(), sure))
                break
            at = match.end()
            yield match.group()
        else:
            at = max(at, sure)
        if len(text) - at > LONGEST_MATCH:
            raise _too_long(pattern)
        keep = max(0, at - BEHIND)
        text, at = text[keep:], at - keep
    for match in pattern.finditer("".join([text, *held]), at):
        yield match.group()


def _too_long(pattern: re.Pattern[str]) -> TextError:
    return TextError(
        f"a document that matches `{pattern.pattern}` has more than {LONGEST_MATCH:,} characters",
        "every match of --documents is one document: is the pattern greedy?",
    )


def _joined(texts: list[str]) -> Piece:
    lengths = np.array([len(text) for text in texts])
    return np.cumsum(lengths) - lengths, symbols_of("".join(texts), "chars")
