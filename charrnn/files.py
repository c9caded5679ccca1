"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from charrnn.errors import CheckpointError, RunError, TextError


def exists(path: Path) -> bool:
    """Return whether there is something at a path; one that cannot be looked up has nothing there."""
    try:
        return path.exists()
    except OSError:  # a name that is too long, say
        return False


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
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise CheckpointError(f"cannot write `{path}`: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another process is training into `{folder}`", "wait for it, or name another with `--run`"
            ) from None
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it.

    Raises:
        CheckpointError: The disk is full or refuses; what stood at ``path`` before is untouched.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write `{path}`: {error.strerror}", "what was saved there before is still whole"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` when it is whole; after an error nothing has changed.

    What is no regular file, such as ``/dev/null``, is written as it is.

    Raises:
        TextError: It cannot be written.
    """
    plain = path.is_file() or not exists(path)
    part = path.with_name(path.name + ".part") if plain else path
    try:
        with part.open("wb") as file:
            yield file
        if plain:
            os.replace(part, path)
    except BaseException as error:
        if plain:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TextError(f"cannot write `{path}`: {error.strerror}") from None
        raise
