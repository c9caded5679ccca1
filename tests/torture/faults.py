"""The disk refuses an operation, or all from one on: one sentence says so, and later the run goes on."""

from __future__ import annotations

import argparse
import errno
import os
from typing import Any

from charrnn.errors import CharrnnError
from torture.disk import Disk, Fate, Operation
from torture.work import Place, differences, in_child, outcome, place, unloadable

FAULTS = {
    "ENOSPC": ("open", "write", "mkdir", "fsync"),
    "EDQUOT": ("write", "fsync"),
    "EROFS": ("open", "write", "mkdir", "replace", "unlink", "truncate"),
    "EIO": ("write", "fsync", "replace", "truncate"),
    "EACCES": ("open", "mkdir", "replace"),
}
"""What a disk says, and the operations to which it says it."""
REFUSED = 3


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=150, help="disks that refuse")
    parser.add_argument("--seed", type=int, default=1, help="of when they begin to")


def run(options: argparse.Namespace) -> dict[str, Any]:
    failures, refused = [], 0
    with place(options.seed) as there:
        with Disk(there.folder / "whole").watched() as disk:
            there.train("whole")
        for number in range(options.count):
            name = list(FAULTS)[number % len(FAULTS)]
            begin = there.random.randrange(len(disk.operations))
            fate = refusing(name, begin, once=number % 2 == 0)
            code = outcome(in_child(lambda fate=fate: refused_in_one_sentence(there, fate)))
            wrong = [] if code in (0, REFUSED) else ["it ends otherwise than with an error of ours"]
            wrong += wrong_after(there)
            refused += code == REFUSED
            failures += [f"{name} from operation {begin} ({number}): {one}" for one in wrong]
            there.remove("cut")
    failed = len({failure.partition(":")[0] for failure in failures})
    return {"passed": options.count - failed, "of": options.count, "refused": refused, "failures": failures}


def refusing(name: str, begin: int, once: bool) -> Fate:
    """Return the fate of operations on a disk that refuses the next it can from one on, or all of them."""
    number, kinds, said = getattr(errno, name), FAULTS[name], []

    def fate(count: int, operation: Operation) -> None:
        if count >= begin and operation.kind in kinds and not (once and said):
            said.append(operation)
            raise OSError(number, os.strerror(number))

    return fate


def refused_in_one_sentence(there: Place, fate: Fate) -> None:
    """Train on such a disk; end the process with ``REFUSED`` where that is told as it should be."""
    try:
        with Disk(there.folder / "cut", fate).watched():
            there.train("cut")
    except CharrnnError as error:
        told = error.message and "\n" not in error.message and error.hint
        os._exit(REFUSED if told else 4)


def wrong_after(there: Place) -> list[str]:
    """Return what is wrong with what was left, and what becomes of it on a disk that is well again."""
    wrong = unloadable(there.folder / "cut")
    if outcome(in_child(lambda: there.go_on("cut"))) != 0:
        return [*wrong, "it does not go on"]
    return wrong + differences(there.folder / "whole", there.folder / "cut")
