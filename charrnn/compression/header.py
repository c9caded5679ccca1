"""What stands before the compressed text: the model that it needs, and what must come out."""

from __future__ import annotations

import codecs
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from charrnn.compression.view import View
from charrnn.errors import TextError

MAGIC = b"\xc7rnn"
FORMAT = 1
NAME_BYTES = 24
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Header:
    """The first bytes of a compressed file.

    Args:
        model: Begin of the SHA-256 of the model's weights and vocabulary.
        content: Begin of the SHA-256 of the original file.
        size: Bytes of the original file.
        view: How the model sees it.
        run: Name of the run, for people.
    """

    model: bytes
    content: bytes
    size: int
    view: View
    run: str

    def to_bytes(self) -> bytes:
        """Return the header as it is written, with a checksum at its end."""
        name = self.run.encode("utf-8", "replace")[:NAME_BYTES]
        fields = self.model + self.content + number_bytes(self.size) + bytes([self.view.crlf])
        body = MAGIC + bytes([FORMAT]) + fields + _short(name) + _short(self.view.encoding.encode("ascii"))
        return body + zlib.crc32(body).to_bytes(4, "big")


def read_header(file: BinaryIO) -> Header:
    """Read the header of a compressed file.

    Raises:
        TextError: The file is damaged, foreign, or of a later format.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise TextError("the file was not written by `charrnn compress`")
    version = exactly(file, 1)[0]
    if version != FORMAT:
        raise TextError(f"the file has format {version}; this charrnn reads format {FORMAT}")
    model, content = exactly(file, DIGEST_BYTES), exactly(file, DIGEST_BYTES)
    size, crlf = read_number(file), exactly(file, 1)
    name, encoding = (exactly(file, exactly(file, 1)[0]) for _ in range(2))
    view = View(encoding.decode("ascii", "replace"), crlf == b"\1")
    header = Header(model, content, size, view, name.decode("utf-8", "replace"))
    length = file.tell()
    file.seek(0)
    check = zlib.crc32(file.read(length)).to_bytes(4, "big")
    if exactly(file, 4) != check or not _can_be(view):
        raise damaged()
    return header


def _can_be(view: View) -> bool:
    try:
        return not view.encoding or codecs.lookup(view.encoding)._is_text_encoding
    except (LookupError, ValueError):
        return False


def _short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def number_bytes(value: int) -> bytes:
    """Return a whole number as seven bits a byte, the lowest first; all but the last byte have bit 8."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_number(file: BinaryIO) -> int:
    """Read what ``number_bytes`` wrote, below 2^63."""
    value = 0
    for shift in range(0, 63, 7):
        byte = exactly(file, 1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise damaged()


def exactly(file: BinaryIO, size: int) -> bytes:
    """Read as many bytes, or raise ``TextError``."""
    data = file.read(size)
    if len(data) != size:
        raise TextError("the file ends too early", "was it copied whole?")
    return data


def damaged() -> TextError:
    """Return the error for a file that is not as it was written."""
    return TextError("the file is damaged", "was it copied whole?")
