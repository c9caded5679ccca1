"""Compressed texts, unpacked piece by piece for little memory; one that is cut is an error."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO

from charrnn.errors import TextError

XZ_MEMORY_BYTES = 256 << 20
"""What unpacking xz may take: four times what ``xz -9`` needs."""

_XZ_MAGIC = b"\xfd7zXZ\0"
_ZSTANDARD_PIECE = 1 << 10
"""Bytes that are unpacked together: they cannot become more than 32 MiB, 128 KiB from every four."""


def opener_of(head: bytes) -> Callable[[BinaryIO], BinaryIO] | None:
    """Return what opens a compressed stream that begins with ``head``; None for plain bytes."""
    if head.startswith(b"\x1f\x8b"):
        return lambda raw: gzip.GzipFile(fileobj=raw)
    if head.startswith(b"BZh"):
        return bz2.BZ2File
    if head.startswith(_XZ_MAGIC):
        return _Xz
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _Zstandard
    return None


class _Xz:
    """The content of an xz file, for no more memory than is allowed, whatever its header asks for.

    Args:
        raw: The file; what follows its last stream is left alone, as by ``lzma.LZMAFile``.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._data = raw, b""
        self._stream = _xz_stream()

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        while not self._stream.eof or self._follows():
            if self._stream.needs_input and not self._data:
                self._data = self._raw.read(size)
                if not self._data:
                    raise EOFError
            data, self._data = self._data, b""
            if piece := self._stream.decompress(data, size):
                return piece
        return b""

    def _follows(self) -> bool:
        """Begin with the next stream, if there is one."""
        data = self._stream.unused_data
        while len(data) < len(_XZ_MAGIC) and (more := self._raw.read(len(_XZ_MAGIC))):
            data += more
        self._data, self._stream = data, _xz_stream()
        return data.startswith(_XZ_MAGIC)


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES)


class _Zstandard:
    """The content of a zstandard file, frame by frame: the package's own reader takes a cut one for whole.

    Args:
        raw: The file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._begin, self._error = _zstandard()
        self._raw, self._frame = raw, self._begin()

    def read(self, size: int) -> bytes:
        """Return about so many bytes; none at the end."""
        held, length = [], 0
        while length < size and (piece := self._piece()):
            held.append(piece)
            length += len(piece)
        return b"".join(held)

    def _piece(self) -> bytes:
        try:
            while True:
                whole, data = self._frame.eof, self._frame.unused_data or self._raw.read(_ZSTANDARD_PIECE)
                if whole and not data:
                    return b""
                if whole:
                    self._frame = self._begin()
                if not data:
                    raise EOFError
                if piece := self._frame.decompress(data):
                    return piece
        except self._error as error:
            raise EOFError(str(error)) from None


def _zstandard() -> tuple[Callable[[], Any], type[Exception]]:
    """Return what begins to unpack a frame, and the error of one that is damaged."""
    try:
        zstd = importlib.import_module("compression.zstd")
        return zstd.ZstdDecompressor, zstd.ZstdError
    except ImportError:
        pass
    try:
        zstd = importlib.import_module("zstandard")
    except ImportError:
        raise TextError("reading zstandard needs one more package", "pip install 'charrnn[zst]'") from None
    return lambda: zstd.ZstdDecompressor().decompressobj(read_across_frames=False), zstd.ZstdError
