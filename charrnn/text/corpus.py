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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, TextError
from charrnn.files import flush_files, flush_folder
from charrnn.text.cache_dir import cache_dir, part_folder
from charrnn.text.documents import Piece, document_splitter
from charrnn.text.places import PlaceTable, batched
from charrnn.text.reading import Source, changed_while_read, check_encoding, decode, read_bytes
from charrnn.text.vocabulary import MAX_CODE_POINT, Vocabulary, escape_nats, text_of
from charrnn.untrusted import map_array, read_json

Splitter = Callable[[Iterable[str]], Iterator[Piece]]
Progress = Callable[[float], None]

FORMAT = 1
INFO_KEYS = {"key", "kind", "sources", "sha256", "characters", "documents"}
MAX_INFO_BYTES = 1 << 26
"""A file's name and hash take 107 bytes and the name: this is 300,000 files with names of 100 characters."""
STRETCH = 1 << 20
"""Symbols that are held in memory at once."""
HASHING_SHARE = 0.25
"""Of the time that reading takes, if the text is not in the cache."""


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
        found = [np.flatnonzero(piece == 0) + begin for begin, piece in self._stretches(start, stop)]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    def count_boundaries(self, start: int, stop: int) -> int:
        """Return how many boundaries stand between two positions."""
        return sum(int(len(piece) - np.count_nonzero(piece)) for _, piece in self._stretches(start, stop))

    def _stretches(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the places between two positions, a stretch at a time, each with its begin."""
        for begin in range(start, stop, STRETCH):
            yield begin, self.places[begin : min(begin + STRETCH, stop)]

    def documents(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the begin and end of every document or part of one between two positions."""
        yield from map(tuple, self.spans(start, stop).tolist())

    def spans(self, start: int, stop: int) -> np.ndarray:
        """Return the begin and end of every document or part of one between two positions, (D, 2)."""
        begins = self.boundaries(start, stop)
        spans = np.stack([begins + 1, np.append(begins[1:], stop)[: len(begins)]], axis=1)
        first = int(begins[0]) if len(begins) else stop
        return np.concatenate([[[start, first]], spans]) if start < first else spans

    def training_vocabulary(self, start: int, stop: int) -> Vocabulary:
        """Return the vocabulary of the part that is trained on."""
        if self.kind == "bytes":
            return Vocabulary.of_bytes()
        seen = np.zeros(len(self.universe), dtype=bool)
        for _, piece in self._stretches(start, stop):
            seen |= np.bincount(piece, minlength=len(seen)) > 0
            if seen.all():
                break
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


def open_corpus(
    sources: list[Source],
    config: TextConfig,
    progress: Progress = lambda share: None,
    key: str | None = None,
) -> Corpus:
    """Return the encoded corpus, from the cache if the same bytes were read before in the same way.

    Args:
        sources: What to read.
        config: How.
        progress: Called with the share done.
        key: Of the only text that is wanted: of any other, nothing but its hash is taken.

    Raises:
        TextError: Nothing to read, something that cannot be decoded, a file that changed meanwhile, or
            another text than the one that is wanted.
        ConfigError: The encoding or the document pattern is not valid.
    """
    config = replace(config, encoding=check_encoding(config.encoding))
    splitter = document_splitter(config.documents)
    if config.symbols == "bytes" and config.encoding != "utf-8":
        raise ConfigError(
            "`--encoding` has no meaning with `--symbols bytes`: the bytes are taken as they are"
        )
    expected = None
    if all(source.can_be_read_again for source in sources):
        hashing = _Reading(sources, config.max_ratio, lambda share: progress(HASHING_SHARE * share))
        expected = _key([_digest(source, hashing) for source in sources], config)
        cached = load_corpus(expected)
        if cached is not None:
            return cached
    if key not in (None, expected):
        raise TextError("the text has another content than the one that is wanted")
    folder = cache_dir() / "encoded"
    try:
        with part_folder(folder) as part:
            begin = 0.0 if expected is None else HASHING_SHARE
            encoding = _Reading(
                sources, config.max_ratio, lambda share: progress(begin + (1 - begin) * share)
            )
            key = _write(part, sources, config, splitter, encoding)
            if expected not in (None, key):
                raise changed_while_read("the text")
            _move(part, folder / key)
            found = load_corpus(key)
    except OSError as error:
        raise TextError(
            f"cannot write the encoded text below `{folder}`: {error.strerror}",
            "set CHARRNN_CACHE to another folder",
        ) from None
    if found is None:
        raise TextError(
            f"the encoded text in `{folder / key}` cannot be read back", "set CHARRNN_CACHE to another folder"
        )
    return found


def load_corpus(key: str) -> Corpus | None:
    """Return the cached corpus of a key, or None where there is none."""
    if not re.fullmatch("[0-9a-f]{32}", key):  # it may come from a file that somebody else wrote
        return None
    folder = cache_dir() / "encoded" / key
    try:
        info = read_json(folder / "info.json", MAX_INFO_BYTES)
        universe = np.array(map_array(folder / "universe.npy"))
        places = map_array(folder / "places.npy")
    except (OSError, ValueError):
        return None
    corpus = Corpus(places, universe, info)
    return corpus if _says_enough(info, key) and _is_whole(corpus) else None


class _Reading:
    """Reads sources, and tells which share of them is read."""

    def __init__(self, sources: list[Source], max_ratio: float, progress: Progress) -> None:
        self._total, self._done = len(sources), 0
        self._max_ratio = max_ratio
        self._progress = progress

    def bytes_of(self, source: Source) -> Iterator[bytes]:
        size, done = source.size, 0
        for piece in read_bytes(source, self._max_ratio):
            yield piece
            done += len(piece)
            if size:  # that of a compressed file is smaller than what comes out of it
                self._progress((self._done + min(1.0, done / size)) / self._total)
        self._done += 1
        self._progress(self._done / self._total)


def _says_enough(info: Any, key: str) -> bool:
    """Return whether the record of a corpus can be one that was written under a key."""
    if not isinstance(info, dict) or not set(info) >= INFO_KEYS or info.get("format") != FORMAT:
        return False
    counts = (info["characters"], info["documents"])
    return (
        info["key"] == key
        and info["kind"] in ("chars", "bytes")
        and isinstance(info["sources"], list)
        and isinstance(info["sha256"], str)
        and all(type(count) is int and count > 0 for count in counts)
    )


def _is_whole(corpus: Corpus) -> bool:
    """Return whether places and symbols fit each other and the record."""
    places, universe, info = corpus.places, corpus.universe, corpus.info
    if (places.dtype.kind, places.ndim, universe.dtype, universe.ndim) != ("u", 1, np.int64, 1):
        return False
    if len(places) != info["characters"] + info["documents"] or not 1 < len(universe) <= MAX_CODE_POINT + 2:
        return False
    most = 255 if corpus.kind == "bytes" else MAX_CODE_POINT
    if universe[0] != -1 or universe[1:].min() < 0 or universe.max() > most:
        return False
    largest = (int(piece.max()) for _, piece in corpus._stretches(0, len(places)))
    return places[0] == 0 and max(largest) < len(universe)


def _digest(source: Source, reading: _Reading) -> dict[str, Any]:
    digest = _Digest()
    for _ in digest.of(reading.bytes_of(source)):
        pass
    return digest.to_json(source.name)


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
    """Put a finished entry in its place, unless another process was faster, whose own may be read already."""
    flush_files(part)
    try:
        os.replace(part, target)
    except OSError:
        if load_corpus(target.name) is not None:
            return
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    flush_folder(target.parent)


def _write(
    part: Path, sources: list[Source], config: TextConfig, splitter: Splitter, reading: _Reading
) -> str:
    """Encode every source into ``part`` and return the key of what was read."""
    digests: list[dict[str, Any]] = []
    with PlaceTable(part / "places.npy") as table:
        for starts, symbols in batched(_pieces(sources, config, splitter, digests, reading)):
            table.write(starts, symbols)
        if table.characters == 0:
            names = ", ".join(f"`{source.name}`" for source in sources[:3])
            raise TextError(f"there is no text in {names}", "an empty file teaches nothing")
        np.save(part / "universe.npy", table.finish())
    key = _key(digests, config)
    info = {"format": FORMAT, "key": key, "kind": config.symbols, "sources": digests}
    info |= {"sha256": _common_hash(digests), "characters": table.characters, "documents": table.documents}
    written = json.dumps(info).encode()
    if len(written) > MAX_INFO_BYTES:
        raise TextError(f"these are too many files: {len(digests):,}", "join them to fewer and larger ones")
    (part / "info.json").write_bytes(written)
    return key


def _pieces(
    sources: list[Source],
    config: TextConfig,
    splitter: Splitter,
    digests: list[dict[str, Any]],
    reading: _Reading,
) -> Iterator[Piece]:
    """Yield the text of every source, cut into documents; note what was read in ``digests``."""
    # latin-1 gives every byte one character, so the same splitters serve bytes
    encoding = "latin-1" if config.symbols == "bytes" else config.encoding
    for source in sources:
        digest = _Digest()
        read = digest.of(reading.bytes_of(source))
        yield from splitter(decode(read, encoding, config.newlines, source.name))
        digests.append(digest.to_json(source.name))


class _Digest:
    """The hash and the size of what passes through."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._bytes = 0

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._hash.update(piece)
            self._bytes += len(piece)
            yield piece

    def to_json(self, name: str) -> dict[str, Any]:
        return {"name": name, "bytes": self._bytes, "sha256": self._hash.hexdigest()}
