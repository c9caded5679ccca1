"""The clock of the day jumps by years, back and forth, or at every look: training does not mind."""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torture.work import SETTINGS, Place, differences, in_child, outcome, place

YEAR = 365 * 86400.0
TICK = 0.01
"""Seconds between two looks at the steady clock."""
MINUTES = SETTINGS | {"training.steps": None, "training.minutes": 0.03}
JUMPS: dict[str, Callable[[int, random.Random], float]] = {
    "forward": lambda look, luck: 10 * YEAR * (look > 5),
    "back": lambda look, luck: -10 * YEAR * (look > 5),
    "standing": lambda look, luck: 0.0,
    "backwards": lambda look, luck: -float(look),
    "anywhere": lambda look, luck: luck.uniform(-20, 20) * YEAR,
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20, help="runs")
    parser.add_argument("--seed", type=int, default=1, help="of the jumps")


def run(options: argparse.Namespace) -> dict[str, Any]:
    failures, names = [], list(JUMPS)
    with place(options.seed) as there:
        for number in range(options.count):
            name = names[number % len(names)]
            settings = MINUTES if number % 2 else SETTINGS
            failures += [f"{name} {number}: {wrong}" for wrong in wrong_with(there, name, settings)]
            there.remove("cut")
            there.remove("whole")
    failed = len({failure.partition(":")[0] for failure in failures})
    return {"passed": options.count - failed, "of": options.count, "failures": failures}


def wrong_with(there: Place, jump: str, settings: Any) -> list[str]:
    """Train twice by the same steady clock, once with a clock of the day that jumps; return what differs."""

    def both() -> None:
        with clocks(lambda look, luck: float(look), there.random):
            there.train("whole", settings)
        with clocks(JUMPS[jump], there.random):
            there.train("cut", settings)

    if outcome(in_child(both)) != 0:
        return ["it does not end well"]
    return differences(there.folder / "whole", there.folder / "cut", timings=True)


@contextmanager
def clocks(jump: Callable[[int, random.Random], float], luck: random.Random) -> Iterator[None]:
    """Have a steady clock that is the same at every look, and a clock of the day that jumps."""
    steady, looks, begun = itertools.count(), itertools.count(), time.time()
    with (
        patch.object(time, "monotonic", lambda: 1000 + next(steady) * TICK),
        patch.object(time, "time", lambda: begun + jump(next(looks), luck)),
    ):
        yield
