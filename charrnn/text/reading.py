"""Files, folders, globs, stdin and corpus names become streams of bytes and of text."""

from __future__ import annotations

import codecs
import glob
import io
import lzma
import os
import re
import stat
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, TextError
from charrnn.files import exists
from charrnn.text import corpora
from charrnn.text.unpacking import opener_of

PIECE_BYTES = 1 << 20
GUESS_BYTES = 50_000
GUESSES = (
    "cp1252",
    "cp1251",
    "koi8_r",
    "shift_jis",
    "euc_jp",
    "gb18030",
    "big5",
    "euc_kr",
    "utf_16",
    "cp1250",
)
"""Encodings that a text which is not UTF-8 is guessed to be in: those that texts are met in."""

PIPE_SECONDS = 10.0
"""How long a named pipe that nobody writes to is waited for."""
FREE_BYTES = 16 << 20
"""What compressed text may become however small it is."""

_NO_TEXTS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Encodings of other things than texts: of host names, in time that grows with the square, and of code."""
_STRICT = ("utf-8", "utf-16", "utf-32", "iso8859-1")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Source:
    """One file, or standard input (``path`` is None)."""

    name: str
    path: Path | None

    @property
    def can_be_read_again(self) -> bool:
        """Whether it is a file on a disk, not a pipe."""
        return self.path is not None and self.path.is_file()

    @property
    def size(self) -> int:
        """Its bytes on the disk; 0 where that is not known."""
        try:
            return self.path.stat().st_size if self.path is not None else 0
        except OSError:
            return 0


def find_sources(texts: Iterable[str]) -> list[Source]:
    """Resolve what a user may call a text, in the order given.

    Args:
        texts: Files, folders (read recursively in path order), globs, corpus names, ``-`` for stdin.

    Raises:
        TextError: A text cannot be found, or a folder has no readable text in it.
        CorpusError: A known corpus has not been downloaded yet.
    """
    sources = [source for text in texts for source in _resolve(text)]
    if sum(source.path is None for source in sources) > 1:
        raise TextError("standard input `-` was named twice")
    return sources


def _resolve(text: str) -> list[Source]:
    if text == "-":
        return [Source("stdin", None)]
    if not text.strip():
        raise TextError(f"`{text}` is no text: its name is empty", "name a file, a folder, or a corpus")
    path = Path(text)
    if exists(path):
        return _folder(path) if path.is_dir() else [Source(path.name, path)]
    if text in corpora.catalogue():
        return [Source(p.name, p) for p in corpora.locate(corpora.find(text))]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    files = [Source(str(p), p) for p in matches if p.is_file()]
    if files:
        return files
    raise TextError(
        f"`{text}` is no file, folder, glob or corpus name", "`charrnn corpora list` shows the names"
    )


def _folder(folder: Path) -> list[Source]:
    """Every file below a folder that is not hidden and has no NUL byte at its beginning.

    Links to files are followed, links to folders are not: they may lead back.
    """
    names = sorted(_names_below(folder), key=lambda name: name.split("/"))
    sources = [Source(name, path) for name in names if _is_text_file(path := folder / name)]
    if not sources:
        raise TextError(
            f"the folder `{folder}` has no text in it", "hidden and binary files are not looked at"
        )
    return sources


def _names_below(folder: Path) -> Iterator[str]:
    """Yield the names of what is below a folder and not hidden, relative to it, with slashes.

    Raises:
        TextError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise TextError(f"cannot read `{error.filename}`: {error.strerror}") from None

    for where, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        inside = Path(where).relative_to(folder)
        yield from ((inside / name).as_posix() for name in files if not name.startswith("."))


def _is_text_file(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(8192)
    except OSError as error:
        raise TextError(f"cannot read `{path}`: {error.strerror}") from None
    return bool(head) and (b"\0" not in head or opener_of(head) is not None or _is_marked_text(head))


def _is_marked_text(head: bytes) -> bool:
    """Return whether a file begins with the mark of UTF-16 or UTF-32 and goes on in it, without a NUL."""
    encoding = _marked_encoding(head)
    if encoding is None:
        return False
    try:
        return "\0" not in codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False


def read_bytes(source: Source, max_ratio: float = TextConfig.max_ratio) -> Iterator[bytes]:
    """Yield the bytes of a source in pieces, decompressed where they are compressed.

    Compression is recognised by the first bytes, so it works for stdin and any file name.

    Args:
        source: What to read.
        max_ratio: What compressed text may become, in times its compressed size.

    Raises:
        TextError: The file cannot be read, its compressed data is damaged or becomes too large, or it
            changes meanwhile.
    """
    try:
        with _Counted(source) as counted, io.BufferedReader(counted) as raw:
            before = _stamp(raw)
            opener = opener_of(raw.peek(8)[:8])
            stream, done = opener(raw) if opener else raw, 0
            while piece := stream.read(PIECE_BYTES):
                yield piece
                done += len(piece)
                if opener and done > FREE_BYTES + max_ratio * counted.bytes:
                    raise _bomb(source, max_ratio)
            if _stamp(raw) != before:
                raise changed_while_read(f"`{source.name}`")
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error) or "the compressed data ends too early"
        raise TextError(f"cannot read `{source.name}`: {reason}") from None


def changed_while_read(what: str) -> TextError:
    """Return the error for a text that somebody writes to."""
    return TextError(f"{what} changed while it was read", "start again when nothing writes to it")


def _stamp(file: BinaryIO) -> tuple[int, int] | None:
    """Return the size and the time of the last change of a file; None for a pipe."""
    found = os.fstat(file.fileno())
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _bomb(source: Source, max_ratio: float) -> TextError:
    return TextError(
        f"`{source.name}` becomes more than {max_ratio:g} times as large as it is compressed",
        "if you trust it, unpack it first; `charrnn train` takes `--set text.max_ratio=5000`, too",
    )


class _Counted(io.FileIO):
    """A file that counts the bytes which were read of it."""

    def __init__(self, source: Source) -> None:
        if source.path is not None:
            super().__init__(source.path, opener=_descriptor)
        elif sys.stdin is None:
            raise TextError("`stdin` is closed", "name a file, or pipe a text into `-`")
        else:
            super().__init__(sys.stdin.fileno(), closefd=False)
        self.bytes = 0

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self.bytes += size or 0
        return size


def _descriptor(path: str | Path, flags: int) -> int:
    """Open a file; a named pipe only once somebody writes to it.

    Raises:
        TextError: It is a device, or nobody writes to the pipe.
        OSError: It cannot be opened.
    """
    name, mode = Path(path).name, os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise TextError(f"`{name}` is a device, not a text", "name a file, or pipe a text into `-`")
    return _pipe_descriptor(path, flags) if stat.S_ISFIFO(mode) else os.open(path, flags)


def _pipe_descriptor(path: str | Path, flags: int) -> int:
    """Open a named pipe, which waits for a writer, in a thread that need not be waited for."""
    opened: list[int | OSError] = []

    def open_it() -> None:
        try:
            opened.append(os.open(path, flags))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    thread.join(PIPE_SECONDS)
    if not opened:
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # lets the thread end
        thread.join(1.0)
        for descriptor in opened:
            if isinstance(descriptor, int):
                os.close(descriptor)
        raise TextError(f"nobody writes to the pipe `{Path(path).name}`", "start what writes to it first")
    if isinstance(opened[0], OSError):
        raise opened[0]
    return opened[0]


def check_encoding(name: str) -> str:
    """Return Python's own name of a text encoding.

    Raises:
        ConfigError: Python knows no such text encoding.
    """
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        info = None
    if info is None or not info._is_text_encoding or info.name in _NO_TEXTS:
        raise ConfigError(
            f"unknown encoding `{name}`", "for example utf-8, cp1252, latin-1, utf-16, koi8-r, gb18030"
        )
    return info.name


def decode(pieces: Iterable[bytes], encoding: str, newlines: str, name: str) -> Iterator[str]:
    """Decode pieces of bytes; a byte-order mark at the beginning is dropped.

    What shall be UTF-8 but begins with the mark of UTF-16 or UTF-32 is read as that: no UTF-8 begins so.

    Args:
        pieces: The bytes of one document.
        encoding: A text encoding that Python knows.
        newlines: ``keep`` leaves line ends alone, ``lf`` folds CRLF and CR.
        name: What to call the document in an error.

    Raises:
        TextError: A byte cannot be decoded, and the hint names the encoding that it looks like; or what
            comes out is no text.
    """
    if encoding == "utf-8":
        head, pieces = _beginning(pieces, len(codecs.BOM_UTF32_LE))
        encoding = _marked_encoding(head) or encoding
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)("strict")
    folder = io.IncrementalNewlineDecoder(None, translate=True) if newlines == "lf" else None
    done = 0
    for piece in chain(pieces, [b""]):
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise _undecodable(error, name, encoding, done, piece) from None
        done += len(piece)
        if encoding not in _STRICT and _SURROGATE.search(text):
            raise TextError(f"`{name}` has half a surrogate pair in it", "name another encoding")
        yield folder.decode(text, final=not piece) if folder else text


def _marked_encoding(head: bytes) -> str | None:
    """Return the encoding whose byte-order mark a text begins with, but for UTF-8's."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def _beginning(pieces: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return at least ``size`` bytes, if there are so many, and all pieces again."""
    rest = iter(pieces)
    head = b""
    while len(head) < size and (piece := next(rest, b"")):
        head += piece
    return head, chain([head] if head else [], rest)


def _undecodable(error: UnicodeDecodeError, name: str, encoding: str, done: int, piece: bytes) -> TextError:
    # error.object is what the decoder held back from the last piece, then this piece
    offset = done + len(piece) - len(error.object) + error.start
    byte = error.object[error.start]
    guess = _guess_encoding(error.object[max(0, error.start - GUESS_BYTES) : error.start + GUESS_BYTES])
    hint = (
        f"it looks like {guess}: add `--encoding {guess}`" if guess else "name its encoding with `--encoding`"
    )
    return TextError(
        f"`{name}` is not {encoding}: byte 0x{byte:02x} at offset {offset:,} cannot be decoded",
        f"{hint}, or read it as it is with `--symbols bytes`",
    )


def _guess_encoding(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(GUESSES)).best()
    if best is None:
        return None
    # Western and Central European texts look alike to the guesser, and most are Western
    western = best.encoding == "cp1250" and _is_western(sample)
    return "cp1252" if western else best.encoding.replace("_", "-")


def _is_western(sample: bytes) -> bool:
    """Return whether all letters beyond ASCII are common in Western Europe, read as cp1252."""
    try:
        letters = {char for char in sample.decode("cp1252").lower() if char.isalpha() and not char.isascii()}
    except UnicodeDecodeError:
        return False
    return letters <= set("äöüßéèêëàâçîïôùûñáíóúåæøœãõìòªº")
