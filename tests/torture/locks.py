"""Two processes on one run: the second is refused, until the first is killed; then it goes on exactly."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from charrnn.errors import RunError
from torture.work import Place, differences, in_child, kill, outcome, place

REFUSED = 3


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20, help="pairs of processes")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")


def run(options: argparse.Namespace) -> dict[str, Any]:
    failures = []
    with place(options.seed) as there:
        there.train("whole")
        for number in range(options.count):
            failures += [f"pair {number}: {wrong}" for wrong in wrong_with_a_pair(there)]
            there.remove("cut")
    failed = len({failure.partition(":")[0] for failure in failures})
    return {"passed": options.count - failed, "of": options.count, "failures": failures}


def wrong_with_a_pair(there: Place) -> list[str]:
    """Stop a training process somewhere, try another beside it, kill the first, and go on."""
    first = in_child(lambda: there.train("cut"))
    wait_for(there.folder / "cut" / "log.jsonl")
    time.sleep(there.random.uniform(0, 0.02))
    os.kill(first, signal.SIGSTOP)
    found = [
        f"a process that would {how} beside it ended with {code}"
        for how, code in (("resume", beside(there, False)), ("overwrite", beside(there, True)))
        if code != REFUSED
    ]
    kill(first)
    if outcome(first) != -signal.SIGKILL:
        return ["the first process was over too soon"]
    if outcome(in_child(lambda: there.go_on("cut"))) != 0:
        return [*found, "the run does not go on after its owner was killed"]
    return found + differences(there.folder / "whole", there.folder / "cut")


def beside(there: Place, overwrite: bool) -> int:
    """Return how a process ends that trains into the run, too."""

    def second() -> None:
        try:
            there.train("cut", overwrite=True) if overwrite else there.go_on("cut")
        except RunError as error:
            os._exit(REFUSED if "another process is training" in error.message else 1)

    return outcome(in_child(second))


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)
