"""A wheel and an sdist: the same bytes from any folder; they install and run where there is nothing else.

    python -m tests.torture supply         builds twice, downloads what is needed, installs and runs each
    python -m tests.torture.supply FOLDER  builds the last commit into a folder

Once everything is downloaded there is no network, where the system lets commands run without one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = ("unshare", "--user", "--map-root-user", "--net")
COMMANDS = (
    ("--version",),
    ("doctor",),
    ("corpora", "list"),
    ("train", "ferry", "--run", "first", "--steps", "20", "--hidden-size", "16"),
    ("sample", "first", "--length", "40", "--seed", "1"),
    ("evaluate", "first", "--json"),
    ("sample", "demo", "--length", "40", "--seed", "1"),
    ("inspect", "neurons", "demo"),
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wheels", type=Path, default=None, help="folder with what was downloaded before")


def run(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = [build(folder / f"built in {path}", folder / path) for path in ("one", "another and longer")]
        failures = [
            f"{first.name} is not the same when it is built in another folder"
            for first, second in zip(*built, strict=True)
            if hash_of(first) != hash_of(second)
        ]
        wheels = options.wheels or download(folder / "wheels", built[0])
        for artefact in built[0]:
            wrong = wrong_when_installed(folder, artefact, wheels)
            failures += [f"{artefact.name}: {sentence}" for sentence in wrong]
        hashes = {path.name: hash_of(path) for path in built[0]}
    checks = len(built[0]) * (2 + len(COMMANDS))
    found = {"passed": checks - len(failures), "of": checks, "failures": failures}
    return found | {"sha256": hashes, "without_network": can_leave_network()}


def build(target: Path, source: Path) -> list[Path]:
    """Build the last commit in a folder of its own; return the wheel and the sdist, in that order."""
    source.mkdir(parents=True)
    packed = subprocess.run(("git", "archive", "HEAD"), cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(("tar", "-x"), cwd=source, input=packed, check=True)
    seconds = subprocess.run(
        ("git", "log", "-1", "--format=%ct"), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    command = (sys.executable, "-m", "hatchling", "build", "-d", str(target.absolute()))
    environment = os.environ | {"SOURCE_DATE_EPOCH": seconds}
    subprocess.run(command, cwd=source, env=environment, check=True, stdout=subprocess.DEVNULL)
    return [*target.glob("*.whl"), *target.glob("*.tar.gz")]


def download(folder: Path, built: Sequence[Path]) -> Path:
    """Download what the wheel needs, and what builds it from the sdist, into a folder."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder))
    subprocess.run((*pip, "-c", str(ROOT / "constraints.txt"), str(built[0]), "hatchling"), check=True)
    return folder


def wrong_when_installed(folder: Path, artefact: Path, wheels: Path) -> list[str]:
    """Install into a new environment without a network, run some commands there, and return what failed."""
    place = folder / f"bare-{artefact.suffix[1:]}"
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels))
    if wrong := wrong_with((*pip, str(artefact)), place):
        return [wrong]
    found = [wrong_with((python, "-m", "charrnn", *words), place) for words in COMMANDS]
    return [wrong for wrong in found if wrong]


def wrong_with(command: Sequence[str], folder: Path) -> str:
    """Run a command where nothing of this project is in reach, and return what it complains of."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = keep | {"CHARRNN_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    leave = NO_NETWORK if can_leave_network() else ()
    done = subprocess.run((*leave, *command), cwd=folder, env=environment, capture_output=True, text=True)
    return f"{' '.join(command[3:])}: {done.stderr[-300:]}" if done.returncode else ""


def can_leave_network() -> bool:
    """Return whether this system lets a command run where there is no network."""
    try:
        return subprocess.run((*NO_NETWORK, "true"), capture_output=True).returncode == 0
    except OSError:
        return False


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for path in build(Path(sys.argv[1]), Path(scratch) / "source"):
            print(f"{hash_of(path)}  {path}")
