"""Hostile files: a million are taken or refused; no traceback, hang, gigabyte, or code that is run."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from fuzzing.runner import Outcome, fuzz
from fuzzing.targets import Target, make_targets


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inputs", type=int, default=1_000_000, help="changed files in all")
    parser.add_argument("--seed", type=int, default=1, help="of the changes")
    parser.add_argument("--processes", type=int, default=1, help="side by side, each with a seed of its own")
    parser.add_argument("--only", default="", help="a target, or the begin of its name")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the files that failed")


def run(options: argparse.Namespace) -> dict[str, Any]:
    parts = [(number, options) for number in range(options.processes)]
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        found = pool.starmap(_fuzzed, parts, chunksize=1)
    return recorded({name: Outcome.joined([part[name] for part in found]) for name in found[0]})


def _fuzzed(number: int, options: argparse.Namespace) -> dict[str, Outcome]:
    """Return what became of the inputs that one process makes."""
    seed, inputs = options.seed + number, -(-options.inputs // options.processes)
    warnings.simplefilter("ignore")  # as for a user: a warning is not a failure
    memory = Path("/dev/shm")  # opening a million files takes an hour on some disks
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        os.environ["CHARRNN_CACHE"] = f"{folder}/cache"
        targets = make_targets(Path(folder))
        wanted = {name: target for name, target in targets.items() if name.startswith(options.only)}
        return {
            name: fuzz(name, target, Path(folder), count, seed, options.keep)
            for name, target, count in dealt(wanted, inputs)
        }


def dealt(targets: dict[str, Target], inputs: int) -> list[tuple[str, Target, int]]:
    """Return how many inputs each target gets: together at least as many as there are."""
    shares = sum(target.share for target in targets.values())
    return [(name, target, -int(-inputs * target.share // shares)) for name, target in targets.items()]


def recorded(found: dict[str, Outcome]) -> dict[str, Any]:
    total = sum(outcome.inputs for outcome in found.values())
    failures = [failure for outcome in found.values() for failure in outcome.failures]
    failed = sum(outcome.inputs - outcome.taken - outcome.refused for outcome in found.values())
    targets = {name: outcome.to_json() for name, outcome in found.items()}
    return {"passed": total - failed, "of": total, "failures": failures, "targets": targets}
