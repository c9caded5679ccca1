"""Files that anybody may have written: what they claim is checked before memory is taken."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from charrnn import __version__
from charrnn.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

MAX_JSON_BYTES = 16 << 20
"""More than any header of ours takes: a vocabulary of all of Unicode needs 9 MB."""
MAX_CONTAINERS = 1 << 20
"""Lists and objects in one JSON text; an empty one takes 20 times as much memory as space in the file."""
MAX_VALUES = 1 << 22
"""Commas in one JSON text: a short string takes ten times as much memory as space in the file. A vocabulary
of all of Unicode has a million values, and so has the record of a text of a third of a million files."""
MAX_DEPTH = 32
"""Lists and objects inside each other, so that functions which call themselves can walk them."""

_NPY_MAGIC = b"\x93NUMPY"
_NPY_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_MAX_NPY_HEADER = 10_000
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|]?[biufcSU]\d{1,4})', 'fortran_order': (?:True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*\d{0,18})\),? ?\}\s*"
)
"""A .npy header as numpy writes it (NEP 1), of plain numbers or strings."""


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Args:
        data: No larger than its caller believes in.

    Raises:
        ValueError: It is no JSON, or has more or deeper nested lists and objects than anything of ours.
    """
    lists, objects, commas = ("[", "{", ",") if isinstance(data, str) else (b"[", b"{", b",")
    if data.count(lists) + data.count(objects) > MAX_CONTAINERS:
        raise ValueError("too many lists and objects")
    if data.count(commas) > MAX_VALUES:
        raise ValueError("too many values")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _deeper_than(MAX_DEPTH, value):
        raise ValueError("nested too deeply")
    return value


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than ``max_bytes``, or as for ``parse_json``.
    """
    return parse_json(read_whole(path, max_bytes))


def read_whole(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than ``max_bytes``, or a pipe, which might be waited for without end.
    """
    _check_pipe(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > max_bytes else file.read(max_bytes + 1)  # a device has no size, a file may grow
    if max(size, len(data)) > max_bytes:
        raise ValueError(f"larger than {max_bytes:,} bytes")
    return data


def _check_pipe(path: Path) -> None:
    if stat.S_ISFIFO(path.stat().st_mode):
        raise ValueError("it is a pipe")


def check_safetensors(path: Path) -> None:
    """Raise ``CheckpointError`` for what is no file, or has a header that would take much memory."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"`{path}` is no file", "name a run, or the file of a checkpoint")
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
    except OSError:  # said by whoever opens it next
        return
    if MAX_JSON_BYTES < size < found.st_size:
        raise CheckpointError(f"`{path}` has a header of {size:,} bytes, more than a run of charrnn has")


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """Yield a name of a file in UTF-8, which safetensors asks for: its own, or that of an open descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def _deeper_than(limit: int, value: Any) -> bool:
    """Return whether lists and objects are nested more deeply, without a function that calls itself."""
    level = [value]
    for _ in range(limit):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterator[Any]:
    """Return the lists and objects that a value holds."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (part for part in inside if isinstance(part, dict | list))


def map_array(path: Path) -> np.ndarray:
    """Return the array in a ``.npy`` file, memory-mapped. Its header is matched, not evaluated.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds no array of plain numbers, or fewer than its header says.
    """
    import numpy as np

    _check_pipe(path)
    with path.open("rb") as file:
        descr, shape = _npy_header(file)
        begin, end = file.tell(), file.seek(0, 2)
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise ValueError(f"no array of plain numbers, but of `{descr}`") from None
    size = dtype.itemsize * math.prod(shape)
    if size > end - begin:
        raise ValueError("fewer numbers than its header says")
    return np.memmap(path, dtype, "r", begin, shape) if size else np.empty(shape, dtype)


def _npy_header(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    """Return the type and the shape that a ``.npy`` file declares; its data follow in the file."""
    start = file.read(len(_NPY_MAGIC) + 2)
    width = _NPY_LENGTH_BYTES.get(start[-2]) if len(start) == 8 and start.startswith(_NPY_MAGIC) else None
    if width is None:
        raise ValueError("no .npy file")
    length = int.from_bytes(file.read(width), "little")
    found = _NPY_HEADER.fullmatch(file.read(length)) if length <= _MAX_NPY_HEADER else None
    if found is None:
        raise ValueError("no array of plain numbers")
    return found[1].decode(), tuple(int(size) for size in found[2].replace(b",", b" ").split())


def other_version(header: Mapping[str, Any]) -> str:
    """Return, as a hint, which other version wrote a file; nothing if it was this one."""
    written = header.get("charrnn")
    known = isinstance(written, str) and written != __version__
    return f"charrnn {written:.20} wrote it, and this is {__version__}" if known else ""
