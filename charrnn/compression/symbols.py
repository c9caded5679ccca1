"""Bytes become ids for a model to predict, and ids become the same bytes again.

A character that the vocabulary lacks is the escape and its UTF-8 bytes; a byte that is no UTF-8 is the
escape, 0xFF (which begins no character) and the byte.
"""

from __future__ import annotations

import re

import numpy as np

from charrnn.text.vocabulary import Vocabulary, symbols_of

RAW = 0xFF
_LINE = re.compile(r"(?<=\n)[^\r\n]")
_BLANK = re.compile(r"\n\s*\n(?=.)")
_SURROGATES = range(0xDC80, 0xDD00)


class Alphabet:
    """The symbols of a vocabulary as a compressed text uses them.

    Args:
        vocabulary: Symbols to ids.
        documents: What begins a document, as in ``text.documents``. It only helps the model to predict:
            the boundaries are coded, so whoever decodes need not find them.
    """

    def __init__(self, vocabulary: Vocabulary, documents: str) -> None:
        self.vocabulary = vocabulary
        self.has_escape = vocabulary.kind == "chars"
        self.written = [vocabulary.symbol_bytes(index) for index in range(len(vocabulary))]
        self._documents = documents

    def read(self, data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
        """Return ids and symbols of some bytes, boundaries between them, each (N,), and the characters."""
        text = data.decode("utf-8", "surrogateescape") if self.has_escape else data.decode("latin-1")
        symbols = symbols_of(text, "chars").astype(np.int64)
        symbols = np.insert(symbols, self._starts(text), -1)
        return self.vocabulary.lookup(symbols), symbols, len(text)

    def _starts(self, text: str) -> list[int]:
        """Return where documents begin, but for the first place: a text always begins one."""
        if self._documents == "files":
            return []
        if self._documents == "blank":
            return [match.end() for match in _BLANK.finditer(text, len(text) - len(text.lstrip()))]
        try:
            pattern = _LINE if self._documents == "lines" else re.compile(self._documents, re.MULTILINE)
        except (re.error, RecursionError, OverflowError):  # a model file may say anything
            return []
        return [match.start() for match in pattern.finditer(text) if match.start() and match.group()]


def spelled(symbol: int) -> bytes:
    """Return the bytes that follow the escape."""
    if symbol in _SURROGATES:
        return bytes((RAW, symbol - 0xDC00))
    return chr(symbol).encode("utf-8")


def num_following(lead: int) -> int:
    """Return how many bytes follow the first one behind an escape."""
    return 1 if lead == RAW else sum(lead >= limit for limit in (0xC0, 0xE0, 0xF0))


def unspelled(spelling: bytes) -> bytes:
    """Return what stands in the text for the bytes behind an escape."""
    return spelling[1:] if spelling[0] == RAW else spelling
