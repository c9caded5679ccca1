"""The table of symbols: characters or bytes to ids and back.

Id 0 is the document boundary: it is read before the first symbol of a document, from a state of
zeros, and predicted after the last one. With ``chars``, id 1 is the escape: it stands for every
character that the training text lacks, whose UTF-8 bytes are then coded with 8 bits each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.errors import CheckpointError

BOUNDARY = 0
ESCAPE = 1
MAX_CODE_POINT = 0x10FFFF

NATS_PER_BYTE = 8 * float(np.log(2))


@dataclass(frozen=True)
class Vocabulary:
    """An ordered table of symbols.

    Args:
        kind: ``chars`` (``symbols`` are code points) or ``bytes`` (0 … 255).
        symbols: The symbols after the special ids, in id order.
    """

    kind: str
    symbols: tuple[int, ...]

    @classmethod
    def of_chars(cls, code_points: Iterable[int]) -> Vocabulary:
        """Return the vocabulary of a training text, in code-point order."""
        return cls("chars", tuple(sorted(int(p) for p in code_points)))

    @classmethod
    def of_bytes(cls) -> Vocabulary:
        """Return the vocabulary of all 256 bytes."""
        return cls("bytes", tuple(range(256)))

    @property
    def num_special(self) -> int:
        """Ids that stand for no symbol: the boundary, and with characters the escape."""
        return 2 if self.kind == "chars" else 1

    def __len__(self) -> int:
        return self.num_special + len(self.symbols)

    def lookup(self, symbols: np.ndarray) -> np.ndarray:
        """Return ids for symbols; -1 stands for a boundary, unknown characters become the escape.

        Args:
            symbols: Code points or bytes, -1 for a boundary, (N,).

        Returns:
            Ids, (N,) int64.
        """
        # no longer than needed: what lies beyond the last symbol takes the last entry, an escape
        table = np.full(max(self.symbols) + 3, ESCAPE, dtype=np.int64)
        table[np.asarray(self.symbols, dtype=np.int64) + 1] = np.arange(self.num_special, len(self))
        table[0] = BOUNDARY
        return table.take(symbols.astype(np.int64) + 1, mode="clip")

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text without boundaries, (N,) int64; unknown characters become the escape."""
        return self.lookup(symbols_of(text, self.kind))

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters of a text that this vocabulary lacks, in order of appearance."""
        if self.kind == "bytes":
            return []
        known = set(self.symbols)
        return [char for char in dict.fromkeys(text) if ord(char) not in known]

    def symbol_bytes(self, index: int) -> bytes:
        """Return what a sampled id writes: UTF-8 or a raw byte; nothing for special ids."""
        if index < self.num_special:
            return b""
        symbol = self.symbols[index - self.num_special]
        return bytes([symbol]) if self.kind == "bytes" else chr(symbol).encode("utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``from_json`` takes them back."""
        return {"kind": self.kind, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, data: Any) -> Vocabulary:
        """Rebuild a vocabulary.

        Raises:
            CheckpointError: The data describes no vocabulary.
        """
        if not isinstance(data, dict) or data.get("kind") not in ("chars", "bytes"):
            raise CheckpointError("the checkpoint describes no vocabulary")
        symbols = data.get("symbols")
        limit = 255 if data["kind"] == "bytes" else MAX_CODE_POINT
        if not isinstance(symbols, list) or not all(type(s) is int and 0 <= s <= limit for s in symbols):
            raise CheckpointError("the checkpoint's vocabulary has symbols that cannot be")
        if len(set(symbols)) != len(symbols) or not symbols:
            raise CheckpointError("the checkpoint's vocabulary is empty or has a symbol twice")
        if data["kind"] == "chars" and any(0xD800 <= symbol <= 0xDFFF for symbol in symbols):
            raise CheckpointError("the checkpoint's vocabulary has half a surrogate pair in it")
        if data["kind"] == "bytes" and symbols != list(range(256)):
            raise CheckpointError("the checkpoint's vocabulary does not have every byte in order")
        return cls(data["kind"], tuple(symbols))


def symbols_of(text: str, kind: str) -> np.ndarray:
    """Return the code points or the UTF-8 bytes of a text, (N,), in the smallest unsigned type at hand."""
    if kind == "bytes":
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8)
    try:
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        pass
    pairs = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    if len(pairs) == len(text):
        return pairs
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def text_of(symbols: np.ndarray, kind: str) -> str:
    """Return the text of code points or bytes, (N,), as one character per code point.

    Bytes that are no UTF-8 come back as lone surrogates (``surrogateescape``).
    """
    if kind == "bytes":
        return symbols.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
    return symbols.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def escape_nats(symbol: int) -> float:
    """Return the cost of naming an unseen character after the escape: 8 bits per UTF-8 byte, in nats."""
    return NATS_PER_BYTE * len(chr(symbol).encode("utf-8", "surrogatepass"))
