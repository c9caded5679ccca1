"""Rates of some ways to do the same, in turns in one process, and their ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_book import is_broken, wait

from charrnn.bench.timing import Task, Timings, measure

TURN_SECONDS = 0.05


def timed(
    device: torch.device, works: dict[str, tuple[Callable[[], object], float]], seconds: float
) -> Timings:
    """Time works in turn, each a call and how much it does; in no seconds, once: a rehearsal."""
    tasks = []
    for name, (work, amount) in works.items():
        count = _fitting(device, work) if seconds else 1
        tasks.append(Task(name, partial(_turn, device, work, count), amount * count))
    return measure(tasks, None if seconds else 1, seconds)


def _turn(device: torch.device, work: Callable[[], object], count: int) -> None:
    for _ in range(count):
        work()
    wait(device)


def _fitting(device: torch.device, work: Callable[[], object]) -> int:
    """Return how many calls take about ``TURN_SECONDS``; the first few set things up."""
    for _ in range(4):
        work()
    wait(device)
    begun = time.perf_counter()
    _turn(device, work, 2)
    return int(np.clip(2 * TURN_SECONDS / max(time.perf_counter() - begun, 1e-9), 1, 500))


def _failing(make: Callable[[], Callable[[], object]]) -> Callable[[], object] | str:
    """Return what can be called, or why it cannot."""
    try:
        work = make()
        work()
    except (RuntimeError, ImportError, ValueError) as problem:
        if is_broken(problem):
            raise
        return f"{type(problem).__name__}: {str(problem).strip()[:200]}"
    return work


def rated(
    device: torch.device,
    ways: dict[str, Callable[[], Callable[[], object]]],
    amounts: dict[str, float],
    seconds: float,
) -> tuple[dict[str, Any], Timings]:
    """Time the ways that can run; return their rates, and what is wrong with the others."""
    works, failed = {}, {}
    for name, make in ways.items():
        work = _failing(make)
        if isinstance(work, str):
            failed[name] = work
        else:
            works[name] = (work, amounts[name])
    timings = timed(device, works, seconds)
    row: dict[str, Any] = {"rounds": timings.rounds, "per_second": {n: timings.rate(n) for n in works}}
    return row | ({"failed": failed} if failed else {}), timings


def over(timings: Timings, own: str, others: Sequence[str]) -> dict[str, Any]:
    """Return how many times as fast as the best of some others a way is, and as each of them."""
    there = [name for name in others if name in timings.seconds]
    if own not in timings.seconds or not there:
        return {}
    best = max(there, key=timings.rate)
    return {
        "best": best,
        **asdict(timings.ratio(own, best)),
        "each": {n: timings.ratio(own, n).median for n in there},
    }
