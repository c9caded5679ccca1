"""What a hostile file must not do while it is read: run code, write elsewhere, hang, take memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
import sysconfig
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS = 2.0
BYTES = 200 << 20
_PROGRAM = tuple(
    str(Path(path).resolve())
    for path in (
        *sysconfig.get_paths().values(),
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[2] / "charrnn",
    )
)
_FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
_FORBIDDEN += (
    "socket.connect",
    "socket.bind",
    "ctypes.dlopen",
    "code.__new__",
    "os.putenv",
    "os.chmod",
    "os.link",
)
_WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "shutil.rmtree", "os.truncate")


class Violation(Exception):
    """Something that reading a file must not do."""


class Hang(BaseException):
    """It takes too long; not an ``Exception``, so that nothing on the way takes it for its own."""


class _Watch:
    """Sees every file that is opened and all code that is compiled, while it is on."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.reads_elsewhere = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _FORBIDDEN:
            raise Violation(event)
        if event == "exec" and not _is_of(arguments[0].co_filename, _PROGRAM) and not _of_typing():
            raise Violation(f"code of {arguments[0].co_filename} is run")
        if event == "open":
            self._check_open(*arguments)
        elif event in _WRITES:
            for path, folder in _changed(event, arguments):
                self._check(_below(path, folder), "changed")

    def _check_open(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int):
            return
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes or not (self.reads_elsewhere or _is_of(path, _PROGRAM)):
            self._check(path, "written" if writes else "read")

    def _check(self, path: Any, how: str) -> None:
        if not _is_of(path, (self.folder,)):
            raise Violation(f"`{os.fsdecode(path)}` is {how}")


def _changed(event: str, arguments: tuple[Any, ...]) -> list[tuple[Any, int]]:
    """Return every path that an event changes, and the descriptor of the folder that it is relative to."""
    if event == "os.rename":
        return [(arguments[0], arguments[2]), (arguments[1], arguments[3])]
    if event == "os.symlink":  # where it leads to, and where it is
        return [(arguments[0], -1), (arguments[1], arguments[2])]
    folder = arguments[-1] if event in ("os.remove", "os.mkdir", "os.rmdir") else -1
    return [(arguments[0], folder)]


def _below(path: Any, folder: int) -> Any:
    return path if folder < 0 else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))


def _of_typing() -> bool:
    """Return whether the standard library evaluates an annotation, as they stand in the program."""
    return sys._getframe(2).f_code.co_filename == typing.__file__


@lru_cache(maxsize=1 << 16)
def _is_of(path: Any, folders: tuple[str, ...]) -> bool:
    full = os.path.realpath(os.fsdecode(path))
    return any(full == folder or full.startswith(folder + os.sep) for folder in folders)


_watch: _Watch | None = None


def _installed() -> _Watch:
    """Return the watch of this process; a hook, once added, stays."""
    global _watch
    if _watch is None:
        _watch = _Watch()
        sys.addaudithook(_watch)
    return _watch


@contextmanager
def watched(folder: Path, *, reads_elsewhere: bool = False) -> Iterator[None]:
    """Raise ``Violation`` where something else is read or written than what lies in a folder, or code is run.

    Args:
        folder: Everything may be done in it.
        reads_elsewhere: Whether other files may be read, never written.
    """
    watch = _installed()
    watch.folder, watch.reads_elsewhere = str(folder.resolve()), reads_elsewhere
    try:
        yield
    finally:
        watch.folder = None


@contextmanager
def little_memory(extra: int = BYTES) -> Iterator[None]:
    """Let the process have no more memory than it has, and a little; beyond that is ``MemoryError``."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def little_time() -> Iterator[None]:
    """Raise ``Hang`` where something takes longer than ``SECONDS``, code in C at its end."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {SECONDS:g} seconds")

    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
