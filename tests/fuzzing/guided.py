"""Hostile files found by coverage: libFuzzer, by atheris, looks for inputs that reach new lines of charrnn.

    python tests/fuzzing/guided.py "cache, places.npy" -max_total_time=300 -rss_limit_mb=2048

Arguments after the name of a target are libFuzzer's. Half of the changes are its own, half those of
``mutations.py``, which know of checksums. It ends at the first input that is neither taken nor refused. Not a
part of any other check: it needs ``pip install atheris``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
with atheris.instrument_imports(include=["charrnn"]):
    from charrnn.errors import CharrnnError
    from fuzzing.targets import Target, make_targets

TARGETS = ("model, header", "cache, places.npy", "compressed text", "config.toml", "config, JSON", "answer")


def main(name: str, options: list[str]) -> None:
    """Fuzz a target until time is up or something fails."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ["CHARRNN_CACHE"] = f"{folder}/cache"
        target = make_targets(Path(folder))[name]
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, data in enumerate(target.good):
            (seeds / str(number)).write_bytes(data)
        change = lambda data, most, seed: changed(target, data, most, seed)  # noqa: E731
        words = [sys.argv[0], "-timeout=10", *options, str(seeds)]
        atheris.Setup(words, lambda data: read(target, data), custom_mutator=change)
        atheris.Fuzz()


def read(target: Target, data: bytes) -> None:
    try:
        target.read(data)
    except CharrnnError as error:
        assert error.message.strip()


def changed(target: Target, data: bytes, most: int, seed: int) -> bytes:
    random = Random(seed)
    if random.random() < 0.5:
        return atheris.Mutate(data, most)
    try:
        return target.mutate(random, data)[:most]
    except Exception:  # no longer of the form that the mutation knows
        return target.mutate(random, random.choice(target.good))[:most]


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in TARGETS:
        main(sys.argv[1], sys.argv[2:])
    sys.exit(f"a target, please: {', '.join(map(repr, TARGETS))}")
