"""Where downloaded and encoded texts are kept between runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charrnn.errors import ConfigError

PART = "part-"
"""How the names of unfinished entries begin."""


def cache_dir() -> Path:
    """Return the folder for downloads; it need not exist yet.

    The first of: ``$CHARRNN_CACHE``; ``%LOCALAPPDATA%\\charrnn`` on Windows; ``$XDG_CACHE_HOME/charrnn``;
    ``~/.cache/charrnn``. Empty variables count as unset.

    Raises:
        ConfigError: There is no home to look in.
    """
    try:
        if chosen := os.environ.get("CHARRNN_CACHE"):
            return Path(chosen).expanduser()
        base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "charrnn"
    except RuntimeError as error:  # Python's word for a user without a home
        raise ConfigError(
            f"cannot tell where the cache is: {error}", "set CHARRNN_CACHE to a folder"
        ) from None


@contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder below ``parent`` for an entry that is not finished; it may be moved away.

    It is locked for as long as this process lives, so that whoever comes next can tell what a killed
    process left behind, and removes it.

    Raises:
        OSError: The disk is full or refuses.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    path, lock = _locked_folder(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=PART))
        lock = _lock(path, wait=True)
        if path.is_dir():  # nobody took it for abandoned before it was locked
            return path, lock
        if lock is not None:
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(PART + "*"):
        lock = _lock(path, wait=False)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, wait: bool) -> int | None:
    """Return the descriptor that holds the lock on a folder; None if it cannot be had."""
    with suppress(ImportError, OSError):
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    return None
