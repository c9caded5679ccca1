"""Tasks timed in turn, so that what disturbs one disturbs the others, and ratios of what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WARM_UPS = 2
"""Rounds left out; the last of them says how many more fit into the time."""
MIN_ROUNDS, MAX_ROUNDS = 5, 101


@dataclass(frozen=True)
class Task:
    """Something to time.

    Args:
        name: What it is called in ``Timings``.
        run: Does it once.
        work: How much one run does, in units of the task's own.
        tries: It runs so many times a round, and the fastest counts: for a limit.
    """

    name: str
    run: Callable[[], object]
    work: float = 1.0
    tries: int = 1


@dataclass(frozen=True)
class Spread:
    """The middle of one figure per round, and between which values 8 of 10 rounds lie."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Return the spread of values, (R,)."""
        low, middle, high = np.percentile(values, [10, 50, 90])
        return cls(float(middle), float(low), float(high))


@dataclass(frozen=True)
class Timings:
    """What every task took in every round.

    Args:
        seconds: Task to the seconds for one unit of its work, (R,) float64.
    """

    seconds: dict[str, np.ndarray]

    @property
    def rounds(self) -> int:
        """Number of rounds, R."""
        return len(next(iter(self.seconds.values())))

    def rate(self, name: str) -> float:
        """Return the median units of work per second."""
        return 1 / float(np.median(self.seconds[name]))

    def ratio(self, task: str, other: str) -> Spread:
        """Return how many times as fast a task is as another, of the same round each."""
        return Spread.of(self.seconds[other] / self.seconds[task])


def measure(
    tasks: Sequence[Task],
    rounds: int | None,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time tasks in turn, every other round in the opposite order.

    Args:
        tasks: What is timed.
        rounds: How often; None takes what fits into ``seconds``, from 5 to 101.
        seconds: Time for all rounds, those left out too.
        clock: Returns seconds.
    """
    started = clock()
    for _ in range(WARM_UPS):
        begun = clock()
        _round(tasks, clock)
    if rounds is None:
        left, one = seconds - (clock() - started), max(clock() - begun, 1e-9)
        rounds = int(np.clip(left / one, MIN_ROUNDS, MAX_ROUNDS))
    taken = [_round(tasks if n % 2 == 0 else tasks[::-1], clock) for n in range(rounds)]
    return Timings({task.name: np.array([r[task.name] for r in taken]) for task in tasks})


def _round(tasks: Sequence[Task], clock: Callable[[], float]) -> dict[str, float]:
    return {task.name: min(_once(task, clock) for _ in range(task.tries)) / task.work for task in tasks}


def _once(task: Task, clock: Callable[[], float]) -> float:
    begun = clock()
    task.run()
    return clock() - begun
