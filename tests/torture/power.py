"""The power fails at any operation: whatever a disk may hold then, the run goes on from what was promised."""

from __future__ import annotations

import argparse
import random
import shutil
from typing import Any

from charrnn.events import CheckpointEvent
from charrnn.runs import read_header
from torture.disk import Disk, Operation, PowerFailure
from torture.work import MODELS, Place, differences, in_child, outcome, place, unloadable

HOW = ("least", "names", "any", "any")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=150, help="power failures")
    parser.add_argument("--seed", type=int, default=1, help="of what the disk was lucky to keep")


def run(options: argparse.Namespace) -> dict[str, Any]:
    with place(options.seed) as there:
        operations, promises = recorded(there)
        failures = []
        for number in range(options.count):
            at = round((number + 1) * len(operations) / options.count)
            how = HOW[number % len(HOW)]
            wrong = wrong_after(there, operations[:at], promised(promises, at), how)
            failures += [f"after {at} operations ({how}): {one}" for one in wrong]
    failed = len({failure.partition(":")[0] for failure in failures})
    figures = {"passed": options.count - failed, "of": options.count, "operations_of_a_run": len(operations)}
    return figures | {"failures": failures}


def recorded(there: Place, settings: Any = None) -> tuple[list[Operation], list[tuple[int, int]]]:
    """Train a run called ``cut`` and move it to ``whole``.

    Returns:
        Its operations, and for every checkpoint how many were done when it was announced, and its step.
    """
    root = there.folder / "disk"
    root.mkdir(exist_ok=True)
    going, promises = there.trainer("disk/cut", *([settings] if settings else [])), []
    with Disk(root).watched() as disk:
        for event in going.events():
            if isinstance(event, CheckpointEvent):
                promises.append((len(disk.operations), event.step))
    shutil.move(root / "cut", there.folder / "whole")
    return disk.operations, promises


def promised(promises: list[tuple[int, int]], at: int) -> int | None:
    """Return the step that a run cannot fall behind any more after so many operations."""
    return max((step for done, step in promises if done <= at), default=None)


def wrong_after(there: Place, operations: list[Operation], step: int | None, how: str) -> list[str]:
    """Return what is wrong with a run whose power failed, and with what becomes of it."""
    cut = there.folder / "disk" / "cut"
    there.remove("disk/cut")
    PowerFailure(operations).write(random.Random(there.random.random()), how)
    wrong = unloadable(cut)
    if step is not None:
        state = cut / MODELS[2]
        found = read_header(state)["counters"]["step"] if state.exists() else -1
        wrong += [] if found >= step else [f"it is back at step {found}, although step {step} was saved"]
    if outcome(in_child(lambda: there.go_on("disk/cut"))) != 0:
        return [*wrong, "it does not go on"]
    return wrong + differences(there.folder / "whole", cut)
