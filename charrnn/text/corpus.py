"""An encoded corpus on disk, memory-mapped and keyed by what was read.

The cache knows nothing of any model: it holds the text as *places* in a table of the distinct
symbols met, in order of appearance. Place 0 is the boundary that precedes every document. A run
maps places to its own ids with one small table, so one cache serves every split and vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, TextError
from charrnn.text.cache_dir import cache_dir
from charrnn.text.documents import Piece, document_splitter
from charrnn.text.reading import Source, check_encoding, decode, read_bytes
from charrnn.text.vocabulary import MAX_CODE_POINT, Vocabulary, escape_nats, symbols_of, text_of

FORMAT = 1
INFO_KEYS = {"key", "kind", "sources", "sha256", "characters", "documents"}
PIECE = 1 << 24
"""Symbols that are held in memory at once."""


@dataclass(frozen=True)
class Corpus:
    """A text as places in the table of its distinct symbols.

    Args:
        places: Memory-mapped, (N,) of uint8, uint16 or uint32.
        universe: The symbol of every place, (U,) int64; -1 at place 0, the boundary.
        info: What was read and how: ``key kind sources sha256 characters documents``.
    """

    places: np.ndarray
    universe: np.ndarray
    info: dict[str, Any]

    @property
    def kind(self) -> str:
        """``chars`` or ``bytes``."""
        return self.info["kind"]

    def text(self, start: int, stop: int) -> str:
        """Return the characters between two positions, boundaries left out."""
        places = self.places[start:stop]
        return text_of(self.universe[places[places != 0]], self.kind)

    def boundaries(self, start: int, stop: int) -> np.ndarray:
        """Return the positions of the boundaries between two positions, (D,), in pieces of memory."""
        pieces = range(start, stop, PIECE)
        found = [np.flatnonzero(self.places[b : min(b + PIECE, stop)] == 0) + b for b in pieces]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    def documents(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the begin and end of every document or part of one between two positions."""
        edges = [*self.boundaries(start, stop).tolist(), stop]
        edges = edges if edges[0] == start else [start, *edges]
        for begin, end in pairwise(edges):
            yield begin + int(self.places[begin] == 0), end

    def training_vocabulary(self, start: int, stop: int) -> Vocabulary:
        """Return the vocabulary of the part that is trained on."""
        if self.kind == "bytes":
            return Vocabulary.of_bytes()
        seen = np.zeros(len(self.universe), dtype=bool)
        for begin in range(start, stop, PIECE):
            seen[np.unique(self.places[begin : min(begin + PIECE, stop)])] = True
        seen[0] = False
        return Vocabulary.of_chars(self.universe[seen])

    def id_table(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the id of every place, (U,) int64.

        Raises:
            ConfigError: The vocabulary is of the other kind of symbol.
        """
        if vocabulary.kind != self.kind:
            raise ConfigError(f"the text was read as {self.kind}, but the model reads {vocabulary.kind}")
        return vocabulary.lookup(self.universe)

    def extra_nats(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return what naming the symbol of every place costs beyond its id's probability, (U,) float64."""
        unknown = (
            self.id_table(vocabulary) == 1 if self.kind == "chars" else np.zeros(len(self.universe), bool)
        )
        return np.array([escape_nats(s) if u else 0.0 for s, u in zip(self.universe, unknown, strict=True)])


def open_corpus(sources: list[Source], config: TextConfig) -> Corpus:
    """Return the encoded corpus, from the cache if the same bytes were read before in the same way.

    Raises:
        TextError: Nothing to read, or something that cannot be decoded.
        ConfigError: The encoding or the document pattern is not valid.
    """
    config = replace(config, encoding=check_encoding(config.encoding))
    splitter = document_splitter(config.documents)
    if config.symbols == "bytes" and config.encoding != "utf-8":
        raise ConfigError(
            "`--encoding` has no meaning with `--symbols bytes`: the bytes are taken as they are"
        )
    folder = cache_dir() / "encoded"
    if all(source.path is not None for source in sources):
        cached = load_corpus(_key([_digest(source) for source in sources], config))
        if cached is not None:
            return cached
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="part-") as part:
            key = _write(Path(part), sources, config, splitter)
            _move(Path(part), folder / key)
    except OSError as error:
        raise TextError(
            f"cannot write the encoded text below `{folder}`: {error.strerror}",
            "set CHARRNN_CACHE to another folder",
        ) from None
    return load_corpus(key)


def load_corpus(key: str) -> Corpus | None:
    """Return the cached corpus of a key, or None where there is none."""
    if not re.fullmatch("[0-9a-f]{32}", key):  # it may come from a file that somebody else wrote
        return None
    folder = cache_dir() / "encoded" / key
    try:
        info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        universe = np.load(folder / "universe.npy", allow_pickle=False)
        places = np.load(folder / "places.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
    if not isinstance(info, dict) or info.get("format") != FORMAT or not set(info) >= INFO_KEYS:
        return None
    return Corpus(places, universe, info)


def _digest(source: Source) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for piece in read_bytes(source):
        digest.update(piece)
        size += len(piece)
    return {"name": source.name, "bytes": size, "sha256": digest.hexdigest()}


def _key(digests: list[dict[str, Any]], config: TextConfig) -> str:
    """Name a cache entry after the content and after every setting that shapes the encoding."""
    parts = [FORMAT, config.symbols, config.encoding, config.newlines, config.documents]
    parts += [len(digests), _common_hash(digests)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _common_hash(digests: list[dict[str, Any]]) -> str:
    """Return the hash of one file's content, or of several files' hashes in order."""
    if len(digests) == 1:
        return digests[0]["sha256"]
    return hashlib.sha256("".join(digest["sha256"] for digest in digests).encode()).hexdigest()


def _move(part: Path, target: Path) -> None:
    """Put a finished entry in its place; another process may have been faster."""
    try:
        os.replace(part, target)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    part.mkdir()  # for TemporaryDirectory to remove


def _write(part: Path, sources: list[Source], config: TextConfig, splitter: Any) -> str:
    """Encode every source into ``part`` and return the key of what was read."""
    table = _PlaceTable()
    digests = []
    raw = part / "raw"
    with raw.open("wb") as out:
        for source in sources:
            digest = hashlib.sha256()
            counted = _counting(read_bytes(source), digest, size := [0])
            _encode(counted, source.name, config, splitter, table, out)
            digests.append({"name": source.name, "bytes": size[0], "sha256": digest.hexdigest()})
    if table.characters == 0:
        names = ", ".join(f"`{source.name}`" for source in sources[:3])
        raise TextError(f"there is no text in {names}", "an empty file teaches nothing")
    table.finish(raw, part / "places.npy")
    raw.unlink()
    np.save(part / "universe.npy", table.universe())
    key = _key(digests, config)
    info = {"format": FORMAT, "key": key, "kind": config.symbols, "sources": digests}
    info |= {"sha256": _common_hash(digests), "characters": table.characters, "documents": table.documents}
    (part / "info.json").write_text(json.dumps(info), encoding="utf-8")
    return key


def _counting(pieces: Iterable[bytes], digest: Any, size: list[int]) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        size[0] += len(piece)
        yield piece


def _encode(
    pieces: Iterable[bytes], name: str, config: TextConfig, splitter: Any, table: _PlaceTable, out: BinaryIO
) -> None:
    if config.symbols == "bytes":
        # latin-1 gives every byte one character, so the same splitters serve bytes
        texts: Iterable[str] = decode(pieces, "latin-1", config.newlines, name)
    else:
        texts = decode(pieces, config.encoding, config.newlines, name)
    for batch in _batched(splitter(texts)):
        table.write(batch, out)


def _batched(pieces: Iterable[Piece], characters: int = 1 << 20) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1])
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _PlaceTable:
    """Gives every new symbol the next place, and writes places as uint32 until the size is known."""

    def __init__(self) -> None:
        self._place = np.full(MAX_CODE_POINT + 2, -1, dtype=np.int32)
        self._place[0] = 0
        self._symbols = [-1]
        self.characters = 0
        self.documents = 0

    def write(self, batch: list[Piece], out: BinaryIO) -> None:
        symbols = symbols_of("".join(text for _, text in batch), "chars").astype(np.int64)
        self.characters += len(symbols)
        lengths = np.cumsum([0, *(len(text) for _, text in batch)])[:-1]
        starts = lengths[np.array([new for new, _ in batch], dtype=bool)]
        self.documents += len(starts)
        shifted = np.insert(symbols + 1, starts, 0)
        places = self._place[shifted]
        if (places < 0).any():
            self._admit(shifted[places < 0])
            places = self._place[shifted]
        out.write(places.astype("<u4").tobytes())

    def _admit(self, shifted: np.ndarray) -> None:
        values, first = np.unique(shifted, return_index=True)
        for value in values[np.argsort(first)]:
            self._place[value] = len(self._symbols)
            self._symbols.append(int(value) - 1)

    def universe(self) -> np.ndarray:
        return np.array(self._symbols, dtype=np.int64)

    def finish(self, raw: Path, target: Path) -> None:
        """Rewrite the places in the smallest type that holds them."""
        wide = np.memmap(raw, dtype="<u4", mode="r")
        dtype = np.min_scalar_type(len(self._symbols) - 1)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": wide.shape}
        # written, not mapped: a disk that fills up then is an error and not a signal
        with target.open("wb") as narrow:
            np.lib.format.write_array_header_1_0(narrow, header)
            for start in range(0, len(wide), PIECE):
                narrow.write(wide[start : start + PIECE].astype(dtype).tobytes())
