"""A file compressed with a run, and back: a header, then blocks of up to 4 MiB of text."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from charrnn.compression.block import decode_block, encode_block, num_streams
from charrnn.compression.header import (
    DIGEST_BYTES,
    Header,
    damaged,
    exactly,
    number_bytes,
    read_header,
    read_number,
)
from charrnn.compression.network import FixedPointNetwork
from charrnn.compression.symbols import Alphabet
from charrnn.compression.view import View, wanted_views
from charrnn.config import Config
from charrnn.errors import CharrnnError, CheckpointError, ConfigError, RunError, TextError
from charrnn.files import exists, replacing
from charrnn.runs import find_checkpoint, load_arrays, location_of
from charrnn.text.reading import check_encoding
from charrnn.text.vocabulary import Vocabulary

BLOCK_BYTES = 1 << 22
MAX_RATIO, FREE_BYTES = 256, 1 << 20
"""A file that says it becomes more than 256 times as large, and more than 1 MiB, is not believed."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Model:
    """A run in whole numbers: what compresses and decompresses."""

    name: str
    config: Config
    vocabulary: Vocabulary
    network: FixedPointNetwork

    @property
    def digest(self) -> bytes:
        """What names the model in a file, (16,)."""
        return self.network.digest[:DIGEST_BYTES]


@dataclass(frozen=True)
class Compressed:
    """What became of a file: its bytes before and after, and its characters (or symbols, of bytes)."""

    bytes_in: int
    bytes_out: int
    chars: int

    @property
    def bpc(self) -> float | None:
        """Bits per character, the header included; None for an empty file."""
        return 8 * self.bytes_out / self.chars if self.chars else None


def load_model(run: str | Path | None = None, *, last: bool = False) -> Model:
    """Load a run for compression, without torch.

    Raises:
        RunError: There is no such run, or its cell has no form in whole numbers.
        CheckpointError: Its file is damaged or foreign.
    """
    path = find_checkpoint(run, last=last)
    tensors, header = load_arrays(path)
    try:
        config, vocabulary = Config.from_json(header["config"]), Vocabulary.from_json(header["vocabulary"])
        check_encoding(config.text.encoding)
        network = FixedPointNetwork(config.model, vocabulary, tensors)
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"`{path}` cannot be loaded: {error.message}", error.hint) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"`{path}` has a header that charrnn cannot read") from None
    where = location_of(path)
    return Model(where.stem if where == path else where.name, config, vocabulary, network)


def compress(model: Model, source: Path, target: Path, progress: Progress = lambda _: None) -> Compressed:
    """Write a file that ``decompress`` with the same run turns into exactly the same bytes.

    Args:
        model: Predicts.
        source: Any file; what the vocabulary lacks costs 8 bits a byte and an escape.
        target: Written under a temporary name until it is whole.
        progress: Called with the share done.

    Raises:
        TextError: The source cannot be read or changes meanwhile, or the target cannot be written.
    """
    _check_two(source, target)
    size, digest = _measure(_pieces(source))
    view = _suitable_view(model, source, digest)
    header = Header(model.digest, digest, size, view, model.name).to_bytes()
    alphabet = Alphabet(model.vocabulary, model.config.text.documents)
    chars, written, done = 0, len(header), 0
    with replacing(target) as file:
        file.write(header)
        for block in _blocks(view.forward(_pieces(source))):
            share = len(block) / max(size, 1)
            ids, symbols, count = alphabet.read(block)
            tell = partial(_part_done, progress, done / max(size, 1), share)
            streams = encode_block(model.network, alphabet, ids, symbols, tell)
            data = _packed(block, len(ids), streams)
            file.write(data)
            chars, written, done = chars + count, written + len(data), done + len(block)
        if _measure(_pieces(source)) != (size, digest):
            raise TextError(f"`{source}` has changed while it was read")
    return Compressed(size, written, chars)


def decompress(
    model: Model,
    source: Path,
    target: Path,
    *,
    max_bytes: int | None = None,
    progress: Progress = lambda _: None,
) -> int:
    """Write the file that was compressed, and return its size in bytes.

    Args:
        model: That it was compressed with.
        source: What ``compress`` wrote.
        target: Written under a temporary name until the checksum has been compared.
        max_bytes: Largest size to believe; None means 256 times that of ``source``, at least 1 MiB.
        progress: Called with the share done.

    Raises:
        TextError: The file is damaged, foreign, too large, or cannot be read or written.
        RunError: It was compressed with another model.
    """
    _check_two(source, target)
    try:
        with source.open("rb") as file:
            header = read_header(file)
            _check_model(header, model, source)
            if header.view not in wanted_views(model.config.text, model.vocabulary):
                raise damaged()
            length = source.stat().st_size
            limit = FREE_BYTES + MAX_RATIO * length if max_bytes is None else max_bytes
            _check_size(header.size, limit)
            with replacing(target) as out:
                _decode_all(model, header, file, length, out, progress)
    except OSError as error:
        raise TextError(f"cannot read `{source}`: {error.strerror}") from None
    except UnicodeError:
        raise _named(damaged(), source) from None
    except TextError as error:
        raise _named(error, source) from None
    return header.size


def _decode_all(
    model: Model, header: Header, file: BinaryIO, length: int, out: BinaryIO, progress: Progress
) -> None:
    digest, done = hashlib.sha256(), 0
    for piece in header.view.back(_decoded_blocks(model, header, file, length, progress)):
        out.write(piece)
        digest.update(piece)
        done += len(piece)
    if done != header.size or digest.digest()[:DIGEST_BYTES] != header.content:
        raise damaged()


def _decoded_blocks(
    model: Model, header: Header, file: BinaryIO, length: int, progress: Progress
) -> Iterator[bytes]:
    """Yield what the model saw, block by block, never more than the header lets expect."""
    alphabet = Alphabet(model.vocabulary, model.config.text.documents)
    # in UTF-8 a character takes up to three bytes for each that it took in another encoding
    most = header.size * (3 if header.view.encoding else 1)
    done, left = 0, 2 * most  # a document has at least one symbol besides its boundary
    while file.tell() < length:
        symbols, streams = _unpacked(file, length)
        left -= symbols
        if left < 0 or symbols > 2 * BLOCK_BYTES or done > most:
            raise damaged()
        if symbols:
            begin = done / most
            tell = partial(_part_done, progress, begin, file.tell() / length - begin)
            streams = [decode_block(model.network, alphabet, symbols, streams, tell)]
        done += len(streams[0])
        yield streams[0]


def _packed(block: bytes, symbols: int, streams: list[bytes]) -> bytes:
    """Return a checksum, the number of symbols, the lengths of the streams, and these.

    Where the model would make the block longer, there are no symbols and the block is its only stream.
    """
    if sum(map(len, streams)) >= len(block):
        symbols, streams = 0, [block]
    lengths = b"".join(number_bytes(len(stream)) for stream in streams)
    body = number_bytes(symbols) + lengths + b"".join(streams)
    return zlib.crc32(body).to_bytes(4, "big") + body


def _unpacked(file: BinaryIO, length: int) -> tuple[int, list[bytes]]:
    """Return the symbols and the streams of the next block.

    Raises:
        TextError: It is damaged, or ends too early.
    """
    check, begin = exactly(file, 4), file.tell()
    symbols = read_number(file)
    sizes = [read_number(file) for _ in range(num_streams(symbols))]
    if sum(sizes) > length - file.tell():
        raise damaged()
    streams = [exactly(file, size) for size in sizes]
    end = file.tell()
    file.seek(begin)
    if zlib.crc32(file.read(end - begin)).to_bytes(4, "big") != check:
        raise damaged()
    return symbols, streams


def _suitable_view(model: Model, source: Path, digest: bytes) -> View:
    """Return the first view whose way back gives the same bytes."""
    *wanted, plain = wanted_views(model.config.text, model.vocabulary)
    for view in wanted:
        try:
            if _measure(view.back(view.forward(_pieces(source))))[1] == digest:
                return view
        except UnicodeError:
            continue
    return plain


def _measure(pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """Return the number of bytes and the begin of their SHA-256."""
    size, digest = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        digest.update(piece)
    return size, digest.digest()[:DIGEST_BYTES]


def _pieces(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
    except OSError as error:
        raise TextError(f"cannot read `{source}`: {error.strerror}") from None


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES])
            del held[:BLOCK_BYTES]
    if held:
        yield bytes(held)


def _part_done(progress: Progress, begin: float, share: float, done: float) -> None:
    progress(min(1.0, begin + share * done))


def _check_two(source: Path, target: Path) -> None:
    if exists(source) and not source.is_file() and not source.is_dir():  # a folder is told when it is opened
        raise TextError(f"`{source}` is no file", "it is read more than once: write it to a file first")
    try:
        same = os.path.samefile(source, target)
    except OSError:
        return
    if same:
        raise TextError(f"`{target}` is the file to read", "name another with `-o`")


def _check_model(header: Header, model: Model, source: Path) -> None:
    if header.model != model.digest:
        needed, given = header.model.hex()[:12], model.digest.hex()[:12]
        raise RunError(
            f"`{source}` needs the model {needed} of the run `{header.run}`, but `{model.name}` is {given}",
            "name the run it was compressed with, best or `--last`, as it was then",
        )


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TextError(
            f"the file says that it becomes {size:,} bytes large",
            f"if you trust it, add `--max-bytes {size}`",
        )


def _named(error: CharrnnError, source: Path) -> TextError:
    return TextError(f"cannot decompress `{source}`: {error.message}", error.hint)
