"""Feed a target changed files and keep what is neither taken nor refused."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from charrnn.errors import CharrnnError
from fuzzing.guard import Hang, little_memory, little_time, watched
from fuzzing.targets import Target

TOGETHER = 200
"""Inputs before which it is looked how much memory there is."""
KEPT = 5
"""Failures of a kind that are told."""


@dataclass
class Outcome:
    """What became of the inputs of one target.

    Args:
        inputs: How many there were.
        taken: Those that were no worse for the change.
        refused: Those that were answered with a ``CharrnnError``.
        seconds: In all, the changing included.
        slowest: Seconds of the slowest one.
        failures: What else happened, with the number of the input that it happened with.
    """

    inputs: int = 0
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: list[Outcome]) -> Outcome:
        """Return what became of all inputs together; the seconds of processes side by side are added."""
        counts = [
            sum(getattr(part, name) for part in parts) for name in ("inputs", "taken", "refused", "seconds")
        ]
        failures = [failure for part in parts for failure in part.failures]
        return cls(*counts, max(part.slowest for part in parts), failures)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        seconds = max(self.seconds, 1e-9)
        rounded = {"seconds": round(self.seconds, 2), "slowest": round(self.slowest, 4)}
        return vars(self) | rounded | {"inputs_per_second": round(self.inputs / seconds)}


def fuzz(
    name: str, target: Target, folder: Path, count: int, seed: int = 1, keep: Path | None = None
) -> Outcome:
    """Feed changed files to a target, those that took too long twice.

    Args:
        name: Of the target; with ``seed`` it fixes the inputs.
        target: What reads them.
        folder: Nothing may be written outside.
        count: How many inputs.
        seed: Of the changes.
        keep: Folder for the inputs that failed.
    """
    outcome, begun = Outcome(), time.perf_counter()
    inputs = enumerate(target.inputs(f"{seed} {name}", count))
    while some := list(islice(inputs, TOGETHER)):
        with little_memory():
            for number, data in some:
                started = time.perf_counter()
                failure = _failure(target, data, folder, outcome)
                if (failure or "").startswith(Hang.__name__):  # or was the machine busy with something else?
                    failure = _failure(target, data, folder, outcome)
                outcome.slowest = max(outcome.slowest, time.perf_counter() - started)
                outcome.inputs += 1
                if failure is not None:
                    _note(outcome, f"{name}: {failure}", number, data, keep)
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _failure(target: Target, data: bytes, folder: Path, outcome: Outcome) -> str | None:
    """Return what an input did that it must not."""
    try:
        with little_time(), watched(folder, reads_elsewhere=target.reads_elsewhere):
            target.read(data)
    except CharrnnError as error:
        if not error.message.strip():
            return "an error without a word"
        outcome.refused += 1
        return None
    except (Exception, Hang) as error:
        return f"{type(error).__name__}: {error}{_where(error)}"[:300]
    outcome.taken += 1
    return None


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def _note(outcome: Outcome, failure: str, number: int, data: bytes, keep: Path | None) -> None:
    place = failure.rpartition("(")[2]
    if sum(known.rpartition("(")[2].startswith(place) for known in outcome.failures) < KEPT:
        outcome.failures.append(f"{failure} input {number}")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
