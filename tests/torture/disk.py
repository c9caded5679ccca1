"""Every operation on the files of a run: counted, hit by a kill or an error, or lost with the power."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch


class Operation(NamedTuple):
    """Something done to a file or folder: ``open write truncate fsync replace unlink mkdir``."""

    kind: str
    path: Path
    data: Any = None
    """What is written, the length that is left, the new name, or whether a file is emptied when opened."""


Fate = Callable[[int, Operation], None]
"""Called with the number of every operation before it is done; it may raise, or end the process."""


class Killed(BaseException):
    """Stands for SIGKILL within a process that goes on: after it, nothing reaches the disk any more."""


def killed_at(number: int) -> Fate:
    """Return the fate of a process that dies before an operation, without ending this one."""

    def fate(count: int, _: Operation) -> None:
        if count >= number:
            raise Killed

    return fate


@dataclass
class Disk:
    """Files below a folder, seen through every operation that Python code does to them.

    A write is two: half of the data, then the rest.

    Args:
        root: The folder.
        fate: What operations meet.
    """

    root: Path
    fate: Fate = lambda number, operation: None
    operations: list[Operation] = field(default_factory=list)
    _names: dict[int, Path] = field(default_factory=dict)

    def do(self, operation: Operation, action: Callable[[], Any]) -> Any:
        self.fate(len(self.operations), operation)
        self.operations.append(operation)
        return action()

    @contextmanager
    def watched(self) -> Iterator[Disk]:
        """See what is done meanwhile."""
        names = ("fsync", "replace", "unlink", "mkdir", "open", "fdopen", "close")
        real = {name: getattr(os, name) for name in names}
        open_file = Path.open

        def fsync(descriptor: int) -> None:
            path = self._names.get(descriptor)
            if path is None:
                return real["fsync"](descriptor)
            return self.do(Operation("fsync", path), lambda: real["fsync"](descriptor))

        def replace(source: Any, target: Any) -> None:
            self._at(source, "replace", Path(target), lambda: real["replace"](source, target))

        def unlink(path: Any, **more: Any) -> None:
            if Path(path).exists():
                self._at(path, "unlink", None, lambda: real["unlink"](path, **more))
            else:
                real["unlink"](path, **more)

        def mkdir(path: Any, *more: Any) -> None:
            if Path(path).exists():
                real["mkdir"](path, *more)
            else:
                self._at(path, "mkdir", None, lambda: real["mkdir"](path, *more))

        def open_low(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if not self._below(path) or "dir_fd" in named:
                return real["open"](path, flags, *more, **named)
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            operation = Operation("open", Path(path), bool(flags & os.O_TRUNC))
            action = lambda: real["open"](path, flags, *more, **named)  # noqa: E731
            descriptor = self.do(operation, action) if writes else action()
            if writes or Path(path).is_dir():
                self._names[descriptor] = Path(path)
            return descriptor

        def fdopen(descriptor: int, mode: str = "r", *more: Any, **named: Any) -> Any:
            file, path = real["fdopen"](descriptor, mode, *more, **named), self._names.get(descriptor)
            return file if path is None or mode[0] not in "wax" else Watched(self, path, file)

        def close(descriptor: int) -> None:
            self._names.pop(descriptor, None)
            real["close"](descriptor)

        def opened(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
            if mode[0] not in "wax" or not self._below(path):
                return open_file(path, mode, *more, **named)
            operation = Operation("open", path, mode[0] == "w")
            file = self.do(operation, lambda: open_file(path, mode, buffering=0))
            self._names[file.fileno()] = path
            return Watched(self, path, file)

        with (
            patch.object(os, "fsync", fsync),
            patch.object(os, "replace", replace),
            patch.object(os, "unlink", unlink),
            patch.object(os, "mkdir", mkdir),
            patch.object(os, "open", open_low),
            patch.object(os, "fdopen", fdopen),
            patch.object(os, "close", close),
            patch.object(Path, "open", opened),
        ):
            yield self

    def forget(self, descriptor: int) -> None:
        self._names.pop(descriptor, None)

    def _below(self, path: Any) -> bool:
        return Path(path).absolute().is_relative_to(self.root)

    def _at(self, path: Any, kind: str, data: Any, action: Callable[[], Any]) -> None:
        if self._below(path):
            self.do(Operation(kind, Path(path), data), action)
        else:
            action()


class Watched:
    """An open file whose every write is an operation of its disk."""

    def __init__(self, disk: Disk, path: Path, file: Any) -> None:
        self.disk, self.path, self.file = disk, path, file

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        for piece in (data[:half], data[half:]):
            self.disk.do(Operation("write", self.path, bytes(piece)), lambda piece=piece: self._all(piece))
        return len(data)

    def _all(self, data: bytes) -> None:
        while data:
            data = data[self.file.write(data) :]

    def truncate(self, size: int) -> None:
        self.disk.do(Operation("truncate", self.path, size), lambda: self.file.truncate(size))

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        if not self.file.closed:
            self.disk.forget(self.file.fileno())
        self.file.close()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- what a power failure leaves ----------------------------------------------------------------


@dataclass(eq=False)
class File:
    """Content as programs see it, and what of it is certain to be on the disk."""

    content: bytes = b""
    flushed: bytes = b""


class PowerFailure:
    """What may be on a disk after the power failed behind some operations.

    Of a file, what it held when it was last flushed is there, and any part of what came after; of a folder,
    the names that it had when it was last flushed, and the changes after that up to any of them. That is
    what POSIX promises, and less than most file systems do.

    Args:
        operations: Those that were done, in order, on a folder that was empty.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self.names: dict[Path, File | None] = {}
        self.certain: dict[Path, File | None] = {}
        self.pending: dict[Path, list[dict[Path, Any]]] = {}
        for operation in operations:
            self._do(operation)

    def _do(self, operation: Operation) -> None:
        kind, path, data = operation
        if kind == "open":
            if path not in self.names:
                self._change({path: File()})
            elif data:
                self.names[path].content = b""
        elif kind == "write":
            self.names[path].content += data
        elif kind == "truncate":
            self.names[path].content = self.names[path].content[:data]
        elif kind == "mkdir":
            self._change({path: None})
        elif kind == "unlink":
            self._change({path: GONE})
        elif kind == "replace":
            self._change({data: self.names[path], path: GONE})
        elif kind == "fsync":
            self._flush(path)

    def _change(self, entries: dict[Path, Any]) -> None:
        _apply(self.names, entries)
        self.pending.setdefault(next(iter(entries)).parent, []).append(entries)

    def _flush(self, path: Path) -> None:
        file = self.names.get(path)
        if isinstance(file, File):
            file.flushed = file.content
            return
        for entries in self.pending.pop(path, []):
            _apply(self.certain, entries)

    def write(self, luck: random.Random, how: str) -> None:
        """Write one of the possible states.

        Args:
            luck: What else it depends on.
            how: ``least``: nothing but what is certain; ``names``: every name, but no data that was not
                flushed; ``any``: anything in between.
        """
        names = dict(self.certain)
        for changes in self.pending.values():
            kept = {"least": 0, "names": len(changes)}.get(how, luck.randint(0, len(changes)))
            for entries in changes[:kept]:
                _apply(names, entries)
        for path in sorted(names, key=lambda path: len(path.parts)):
            if not path.parent.is_dir():
                continue
            if names[path] is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(_left(names[path], luck, how))


GONE = object()


def _apply(names: dict[Path, Any], entries: dict[Path, Any]) -> None:
    for path, file in entries.items():
        if file is GONE:
            names.pop(path, None)
        else:
            names[path] = file


def _left(file: File, luck: random.Random, how: str) -> bytes:
    """Return what may be left of a file: flushed data, and with luck a part of the rest, or room for it."""
    if how != "any" or file.content == file.flushed:
        return file.flushed
    start = len(file.flushed) if file.content.startswith(file.flushed) else 0
    end = luck.randint(start, len(file.content))
    zeros = bytes(len(file.content) - end) if luck.random() < 0.5 else b""
    return luck.choice([file.flushed, file.content[:end] + zeros])
