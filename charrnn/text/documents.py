"""Where one document ends and the next begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from charrnn.errors import ConfigError, TextError

Piece = tuple[bool, str]
"""Whether a new document begins here, and the characters that follow."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def document_splitter(mode: str) -> Callable[[Iterable[str]], Iterator[Piece]]:
    """Return the function that cuts the text of one file into documents.

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
    starts = True
    for piece in pieces:
        if piece:
            yield starts, piece
            starts = False


def _whole_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends, joined across pieces."""
    rest = ""
    for piece in pieces:
        lines = _LINE.findall(rest + piece)
        rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        yield from lines
    if rest:
        yield rest


def _lines(pieces: Iterable[str]) -> Iterator[Piece]:
    """Every line that is not empty, with its line end, which the model learns as the end."""
    for line in _whole_lines(pieces):
        if line.strip("\r\n"):
            yield True, line


def _blank_blocks(pieces: Iterable[str]) -> Iterator[Piece]:
    """Blocks of lines; blank lines belong to the block before them, at the beginning to the first."""
    starts, blank, seen = True, False, False
    for line in _whole_lines(pieces):
        is_blank = not line.strip()
        if not is_blank and blank and seen:
            starts = True
        yield starts, line
        starts, blank, seen = False, is_blank, seen or not is_blank


def _matches(pieces: Iterable[str], pattern: re.Pattern[str]) -> Iterator[Piece]:
    found = False
    for match in pattern.finditer("".join(pieces)):
        if match.group():
            found = True
            yield True, match.group()
    if not found:
        raise TextError(
            f"no document matches `{pattern.pattern}`", "every match of --documents is one document"
        )
