"""Symbols to places, written to disk in the smallest type while they come.

A place is the number of a symbol in the order of appearance; place 0 is the boundary that precedes
every document.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType

import numpy as np

from charrnn.text.documents import Piece
from charrnn.text.vocabulary import MAX_CODE_POINT

BATCH = 1 << 18
"""Symbols that are looked up together: few enough to stay in a processor's cache."""


def batched(pieces: Iterable[Piece], symbols: int = BATCH) -> Iterator[Piece]:
    """Join small pieces, so that many short files cost little more than one long one."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1])
        if size >= symbols:
            yield _joined(batch)
            batch, size = [], 0
    if batch:
        yield _joined(batch)


def _joined(batch: list[Piece]) -> Piece:
    if len(batch) == 1:
        return batch[0]
    lengths = np.array([len(symbols) for _, symbols in batch])
    begins = np.cumsum(lengths) - lengths
    starts = [own + begin for (own, _), begin in zip(batch, begins, strict=True)]
    return np.concatenate(starts), np.concatenate([symbols for _, symbols in batch])


class PlaceTable:
    """Gives every new symbol the next place, and writes places into a ``.npy`` file.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self._place = np.zeros(MAX_CODE_POINT + 1, dtype=np.uint8)  # 0 where a symbol has no place yet
        self._symbols = [-1]
        self._file = _ArrayFile(path)
        self.characters = 0
        self.documents = 0

    def __enter__(self) -> PlaceTable:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, starts: np.ndarray, symbols: np.ndarray) -> None:
        """Write a stretch of text with a boundary before every start of a document."""
        self.characters += len(symbols)
        self.documents += len(starts)
        places = self._lookup(symbols)
        if len(places) and not places.min():
            self._admit(symbols[places == 0])
            places = self._lookup(symbols)
        self._file.write(np.insert(places, starts, 0) if len(starts) else places)

    def _lookup(self, symbols: np.ndarray) -> np.ndarray:
        if symbols.dtype == self._place.dtype == np.uint8:
            return np.frombuffer(symbols.tobytes().translate(self._place[:256].tobytes()), dtype=np.uint8)
        return self._place.take(symbols)

    def _admit(self, symbols: np.ndarray) -> None:
        values, first = np.unique(symbols, return_index=True)
        values = values[np.argsort(first)].astype(np.int64)
        dtype = np.min_scalar_type(len(self._symbols) + len(values) - 1)
        self._place = self._place.astype(dtype, copy=False)
        self._place[values] = np.arange(len(self._symbols), len(self._symbols) + len(values))
        self._symbols += values.tolist()

    def finish(self) -> np.ndarray:
        """Complete the file and return the symbol of every place, (U,) int64."""
        self._file.finish()
        return np.array(self._symbols, dtype=np.int64)


class _ArrayFile:
    """An array of unsigned numbers on disk that grows, and gets wider when it must."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dtype = np.dtype(np.uint8)
        self._length = 0
        # written, not mapped: a disk that fills up then is an error and not a signal
        self._file = path.open("wb")
        self._file.write(self._header())

    def write(self, values: np.ndarray) -> None:
        if values.dtype != self._dtype:
            self._widen(values.dtype)
        self._file.write(values.data)
        self._length += len(values)

    def _header(self) -> bytes:
        header = BytesIO()
        descr = np.lib.format.dtype_to_descr(self._dtype)
        # numpy leaves room for the length to grow, so that the header keeps its size
        np.lib.format.write_array_header_1_0(
            header, {"descr": descr, "fortran_order": False, "shape": (self._length,)}
        )
        return header.getvalue()

    def _widen(self, dtype: np.dtype) -> None:
        """Write what there is once more, in a wider type."""
        self._file.close()
        narrow = self._path.with_name("narrow")
        os.replace(self._path, narrow)
        before, self._dtype = self._dtype, dtype
        self._file = self._path.open("wb")
        self._file.write(self._header())
        with narrow.open("rb") as file:
            file.seek(len(self._header()))
            while piece := file.read(BATCH * before.itemsize):
                self._file.write(np.frombuffer(piece, dtype=before).astype(dtype).data)
        narrow.unlink()

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()

    def close(self) -> None:
        self._file.close()
