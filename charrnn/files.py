"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from charrnn.errors import CheckpointError, RunError, TextError

_AS_IT_IS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
"""Flags with which a link is not followed, and a pipe not waited for."""


def exists(path: Path) -> bool:
    """Return whether there is something at a path; one that cannot be looked up has nothing there."""
    try:
        return path.exists()
    except OSError:  # a name that is too long, say
        return False


def open_own(path: Path, *, write: bool = False) -> BinaryIO:
    """Open a file of a run, unbuffered: to read, or to be read and added to, and made if it is not there.

    Somebody else may have made the run: what is no regular file, such as a link or a pipe, is left alone.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if write else os.O_RDONLY
    descriptor = os.open(path, flags | _AS_IT_IS, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return os.fdopen(descriptor, "ab" if write else "rb", buffering=0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of charrnn from writing into a folder; where there are no file locks, do nothing.

    Raises:
        RunError: Another process writes into it.
        CheckpointError: The disk is full or refuses.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = folder / ".lock"
    try:
        make_folder(folder)
        file = open_own(path, write=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot write `{path}`: {error.strerror}", "name another place with `--run`"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is training into `{folder}`", "wait for it, or name another with `--run`"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def parts_of(path: Path) -> Iterator[Path]:
    """Yield the temporary names of a file that is being written, the usual one first."""
    for number in count(1):
        yield path.with_name(f"{path.name}.part" if number == 1 else f"{path.name}.part-{number}")


def _new_part(path: Path) -> tuple[Path, BinaryIO]:
    """Make a file under a temporary name that nothing has, not even a link; return its name and itself."""
    for part in parts_of(path):
        with suppress(FileExistsError):
            return part, part.open("xb")
    raise AssertionError("there is always another name")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it.

    Raises:
        CheckpointError: The disk is full or refuses; what stood at ``path`` before is untouched.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files under temporary names, flush them to the disk, and rename them in their order.

    None is renamed before all are on the disk, so one without room for all of them changes nothing. Each
    name is on the disk before the next changes: whoever finds a file there finds those before it, too.

    Raises:
        CheckpointError: The disk is full or refuses.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            make_folder(path.parent)
            parts[path], file = _new_part(path)
            with file:
                file.write(data)
                flush(file)
        for path, part in parts.items():
            os.replace(part, path)
            flush_folder(path.parent)
    except OSError as error:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write `{path}`: {error.strerror}", "what was saved there before is still whole"
        ) from None


def flush(file: BinaryIO) -> None:
    """Have what was written to a file survive a power failure."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the names in a folder survive a power failure; where folders cannot be flushed, do nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or a folder that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def flush_files(folder: Path) -> None:
    """Have the files in a folder survive a power failure, and their names."""
    for path in folder.iterdir():
        with path.open("r+b") as file:
            flush(file)
    flush_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it lies in, all of which survive a power failure."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        flush_folder(path.parent)


def stamp(path: Path) -> tuple[int, ...] | None:
    """Return what is another when a file has been replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` when it is whole; after an error nothing has changed.

    What is no regular file, such as ``/dev/null``, is written as it is.

    Raises:
        TextError: It cannot be written.
    """
    plain, part = path.is_file() or not exists(path), None
    try:
        part, file = _new_part(path) if plain else (None, path.open("wb"))
        with file:
            yield file
            if plain:
                flush(file)
        if plain:
            os.replace(part, path)
            flush_folder(path.parent)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TextError(f"cannot write `{path}`: {error.strerror}") from None
        raise
