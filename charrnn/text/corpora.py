"""The known corpora: what is said of each, and where its files are on this machine."""

from __future__ import annotations

import os
import sysconfig
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import charrnn
from charrnn.errors import CorpusError, suggest
from charrnn.text.cache_dir import cache_dir

STDLIB_CAP_BYTES = 3_000_000

# Tests, installed packages, tables and bundled applications: not the prose of the library itself.
_STDLIB_SKIPPED_FOLDERS = (
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "encodings",
    "pydoc_data",
    "lib2to3",
    "idlelib",
    "ensurepip",
    "config-*",
    "turtledemo",
)
# Tables, the first with the folder names of the machine that built the interpreter.
_STDLIB_SKIPPED_FILES = ("_sysconfigdata*", "entities.py")


@dataclass(frozen=True)
class CorpusEntry:
    """What is known of one corpus; exactly one of ``url``, ``file`` and ``builtin`` is its source."""

    name: str
    title: str
    description: str
    licence: str
    language: str
    symbols: str
    """``chars`` or ``bytes``."""
    val_fraction: float
    """Suggested contiguous part for validation, in [0, 1); the test part is the tail behind it."""
    test_fraction: float
    size_bytes: int | None = None
    """Size of the text, unpacked; None where it depends on the machine."""
    sha256: str | None = None
    """Hash of the text, unpacked; None where nobody has checked one."""
    url: str | None = None
    member: str | None = None
    """Name inside the zip archive that ``url`` answers with; None for a plain file."""
    file: str | None = None
    """Name inside the catalogue's folder, for the project's own texts."""
    builtin: str | None = None
    """``stdlib``, or None."""
    note: str = ""


def catalogue() -> dict[str, CorpusEntry]:
    """Return every known corpus by name, in alphabetical order.

    Raises:
        CorpusError: The catalogue's folder is not part of this installation.
    """
    return {path.stem: _parse(path) for path in sorted(_catalogue_dir().glob("*.toml"))}


def find(name: str) -> CorpusEntry:
    """Return the corpus of this name.

    Raises:
        CorpusError: No corpus has this name.
    """
    entries = catalogue()
    if name not in entries:
        raise CorpusError(f"unknown corpus `{name}`", suggest(name, entries))
    return entries[name]


def locate(entry: CorpusEntry) -> list[Path]:
    """Return the files of a corpus on this machine, in reading order.

    A downloaded file is checked for its size here, and for its hash when it is fetched.

    Raises:
        CorpusError: The corpus is not downloaded yet, its file is damaged, or Python's sources are
            not installed.
    """
    if entry.builtin == "stdlib":
        return stdlib_without((), STDLIB_CAP_BYTES)
    if entry.file is not None:
        return [_catalogue_dir() / entry.file]
    path = cached_path(entry)
    hint = f"charrnn corpora get {entry.name}"
    if not path.is_file():
        raise CorpusError(f"corpus `{entry.name}` is not on this machine yet", hint)
    size = path.stat().st_size
    if entry.size_bytes not in (None, size):
        raise CorpusError(f"`{path}` is damaged: {size:,} bytes instead of {entry.size_bytes:,}", hint)
    return [path]


def cached_path(entry: CorpusEntry) -> Path:
    """Return where a downloaded corpus is kept, whether or not it is there."""
    return cache_dir() / "corpora" / f"{entry.name}.txt"


def _parse(path: Path) -> CorpusEntry:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return CorpusEntry(name=path.stem, size_bytes=table.pop("bytes", None), **table)


def _catalogue_dir() -> Path:
    package = Path(charrnn.__file__).parent
    # In the wheel the folder lies inside the package, in a checkout beside it.
    for folder in (package / "corpora", package.parent / "corpora"):
        if (folder / "stdlib.toml").is_file():
            return folder
    raise CorpusError(f"the corpus catalogue is missing from `{package}`", "install charrnn again")


def stdlib_without(names: Collection[str], cap_bytes: int) -> list[Path]:
    """Return files of Python's library but for those named by their paths in it, evenly from the whole.

    Raises:
        CorpusError: Python's sources are not installed.
    """
    return _stdlib_files(Path(sysconfig.get_path("stdlib")), frozenset(names), cap_bytes)


def _stdlib_files(root: Path, without: Collection[str], cap_bytes: int) -> list[Path]:
    """Return whole files of the library in path order, at most so many bytes together.

    They are taken evenly from the whole list, so that the held-out tail is of the same kind.
    """
    names = sorted(name for name in _stdlib_names(root) if name not in without)
    sizes = {path: size for name in names if (size := _utf8_size(path := root / name))}
    share = min(1.0, cap_bytes / max(1, sum(sizes.values())))
    chosen, passed, total = [], 0, 0
    for path, size in sizes.items():
        passed += size
        if total + size <= share * passed:
            chosen.append(path)
            total += size
    if not chosen:
        raise CorpusError(f"no Python sources of the standard library in `{root}`", "name a text to train on")
    return chosen


def _stdlib_names(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        # Pruned here, not filtered later: site-packages may hold a hundred thousand files.
        subfolders[:] = [name for name in subfolders if not _matches(name, _STDLIB_SKIPPED_FOLDERS)]
        for name in files:
            if name.endswith(".py") and not _matches(name, _STDLIB_SKIPPED_FILES):
                yield Path(folder, name).relative_to(root).as_posix()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _utf8_size(path: Path) -> int | None:
    """Return the size of a readable UTF-8 file in bytes, or None for any other."""
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return len(content)
