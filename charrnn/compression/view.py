"""How the model sees a file: decoded from the encoding it was trained on, CRLF folded if it knows no CR.

A view is only taken where it is checked that the way back gives the same bytes; else the bytes are taken
as they are.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from charrnn.config import TextConfig
from charrnn.text.vocabulary import Vocabulary

CR = 13


@dataclass(frozen=True)
class View:
    """The way from a file to UTF-8 and back.

    Args:
        encoding: Name of the file's text encoding; empty for bytes as they are.
        crlf: Whether every line end is CRLF, and the model sees LF.
    """

    encoding: str = ""
    crlf: bool = False

    def forward(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what the model sees; a ``UnicodeError`` says that the view does not suit the file."""
        if self.encoding:
            decoder = codecs.getincrementaldecoder(self.encoding)()
            pieces = _recoded(pieces, lambda piece, last: decoder.decode(piece, last).encode("utf-8"))
        return _folded(pieces) if self.crlf else iter(pieces)

    def back(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the bytes of the file; a ``UnicodeError`` says that no view has made this."""
        if self.crlf:
            pieces = (piece.replace(b"\n", b"\r\n") for piece in pieces)
        if not self.encoding:
            return iter(pieces)
        decoder = codecs.getincrementaldecoder("utf-8")()
        encoder = codecs.getincrementalencoder(self.encoding)()
        return _recoded(pieces, lambda piece, last: encoder.encode(decoder.decode(piece, last), last))


def wanted_views(text: TextConfig, vocabulary: Vocabulary) -> list[View]:
    """Return the views to try, the best first; the last one suits every file."""
    if vocabulary.kind == "bytes":
        return [View()]
    name = codecs.lookup(text.encoding).name
    encodings = [""] if name in ("utf-8", "utf-8-sig", "ascii") else [name, ""]
    folds = [False] if CR in vocabulary.symbols else [True, False]
    return [View(encoding, crlf) for encoding in encodings for crlf in folds]


def _recoded(pieces: Iterable[bytes], recode: Callable[[bytes, bool], bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield recode(piece, False)
    yield recode(b"", True)


def _folded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Turn CRLF into LF, across pieces too."""
    held = b""
    for piece in chain(pieces, [None]):
        data = held + (piece or b"")
        held = b"\r" if piece is not None and data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n")
