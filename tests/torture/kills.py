"""Training killed with SIGKILL at every kind of moment: it goes on, and ends bit for bit like a whole run."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import charrnn
from charrnn.runs import load_record
from charrnn.training import trainer
from charrnn.training.saving import remove_leftovers
from torture.disk import Disk, Operation
from torture.work import SETTINGS, Place, Settings, differences, in_child, kill, outcome, place, unloadable

OTHER = SETTINGS | {"model.hidden_size": 12, "training.seed": 5, "training.averaging": "ema"}
"""The run that ``--overwrite`` replaces."""
SHARES = {"operation": 0.4, "again": 0.15, "overwriting": 0.2, "moment": 0.2, "command": 0.05}
LONG = SETTINGS | {"training.steps": 200, "training.num_evals": 40}
"""What ``charrnn train`` itself does, which saves at every look and no more often."""
LONGEST = 60
"""Seconds to wait for a process to begin."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Kill, go on and compare until so many processes were killed."""
    with place(options.seed) as there:
        torture = Kills(there)
        for way, share in SHARES.items():
            torture.until(way, max(1, round(share * options.count)))
    failed = len({failure.partition(":")[0] for failure in torture.failures})
    kills = sum(torture.kills.values())
    return {
        "passed": torture.trials - failed,
        "of": torture.trials,
        "kills": kills,
        "kills_by_way": dict(torture.kills),
        "kills_before": dict(torture.operations),
        "operations_of_a_run": torture.length,
        "failures": torture.failures,
    }


class Kills:
    """Trials, each a run in ``cut`` that is killed at least once, and what was wrong with them."""

    def __init__(self, there: Place) -> None:
        self.there, self.random = there, there.random
        self.cut, self.whole = there.folder / "cut", there.folder / "whole"
        self.trials, self.failures = 0, []
        self.kills, self.operations = Counter(), Counter()
        self.length = self._whole_runs()

    def _whole_runs(self) -> int:
        """Train what others are compared with; return the operations that it took."""
        there = self.there
        done(lambda: there.train("other", OTHER))
        done(lambda: there.train("long", LONG), save_seconds=LONGEST)
        note = there.folder / "operations"

        def counted() -> None:
            with Disk(self.whole).watched() as disk:
                there.train("whole")
            note.write_text(str(len(disk.operations)))

        done(counted)
        return int(note.read_text())

    def until(self, way: str, count: int) -> None:
        """Do trials of a way until it has killed so many processes; the operations are spread evenly."""
        number = 0
        while self.kills[way] < count and number < 20 * count:
            at = round((number + 0.5) * self.length / count) % self.length
            wrong = getattr(self, way)(at)
            self.failures += [f"{way} {number} at {at}: {one}" for one in wrong]
            self.trials, number = self.trials + 1, number + 1
            self.there.remove("cut")

    # -- ways to die: each returns what was wrong -------------------------------------------------

    def operation(self, at: int) -> list[str]:
        """Kill a new run before an operation."""
        self._killed_at("operation", at, lambda: self.there.train("cut"))
        return self._goes_on()

    def again(self, at: int) -> list[str]:
        """Kill a new run, then kill it two more times as it goes on."""
        self._killed_at("again", at, lambda: self.there.train("cut"))
        wrong = unloadable(self.cut)
        for _ in range(2):
            left = max(2, self.length - at)
            self._killed_at("again", self.random.randrange(left), lambda: self.there.go_on("cut"))
            wrong += unloadable(self.cut)
        return wrong + self._goes_on()

    def overwriting(self, at: int) -> list[str]:
        """Kill a run that replaces another, mostly in its first operations."""
        self.there.copy("other", "cut")
        at = at % 60 if self.random.random() < 0.8 else at
        self._killed_at("overwriting", at, lambda: self.there.train("cut", overwrite=True))
        wrong = unloadable(self.cut)
        config = load_record(self.cut).config
        if config.training.seed != OTHER["training.seed"]:
            return wrong + self._goes_on()
        remove_leftovers(self.cut)  # a finished run is not changed by resuming it
        return wrong + self._goes_on("other")

    def moment(self, _: int) -> list[str]:
        """Kill a new run from outside, anywhere between its first event and its last."""
        child = in_child(lambda: self.there.train("cut"))
        self._wait_for_a_share(self.random.random(), child)
        kill(child)
        self.kills["moment"] += outcome(child) == -signal.SIGKILL
        return self._goes_on()

    def command(self, _: int) -> list[str]:
        """Kill ``charrnn train`` itself, as soon as its directory is there or some time later."""
        flags = [f"--set={name}={value}" for name, value in LONG.items()]
        words = ["train", self.there.text, "--run", str(self.cut), "--device", "cpu", "--quiet", *flags]
        environment = os.environ | {"PYTHONPATH": str(Path(charrnn.__file__).resolve().parents[1])}
        with subprocess.Popen(
            [sys.executable, "-m", "charrnn", *words], env=environment, stdout=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + LONGEST
            while not self.cut.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(self.random.uniform(0, 0.8))
            process.kill()
        self.kills["command"] += process.returncode == -signal.SIGKILL
        return self._goes_on("long", LONG, LONGEST)

    def _wait_for_a_share(self, share: float, child: int) -> None:
        """Wait until a run has logged a share of its events, and a little longer."""
        log = "log.jsonl"
        wanted = share * (self.whole / log).stat().st_size
        deadline = time.monotonic() + LONGEST
        while (
            time.monotonic() < deadline
            and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        ):
            if (self.cut / log).exists() and (self.cut / log).stat().st_size >= wanted:
                break
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, 0.01))

    # -- parts of them ----------------------------------------------------------------------------

    def _killed_at(self, way: str, number: int, action: Any) -> None:
        """Have a process that does something kill itself before an operation on the run."""
        note = self.there.folder / "operation"
        note.unlink(missing_ok=True)

        def fate(count: int, operation: Operation) -> None:
            if count == number:
                os.write(os.open(note, os.O_CREAT | os.O_WRONLY), operation.kind.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        def hit() -> None:
            with Disk(self.cut, fate).watched():
                action()

        ended = outcome(in_child(hit))
        if ended == -signal.SIGKILL:
            self.kills[way] += 1
            self.operations[note.read_text()] += 1
        elif ended != 0:
            self.failures.append(f"{way} at {number}: ended with {ended}")

    def _goes_on(self, whole: str = "whole", settings: Settings = SETTINGS, save: float = 0.0) -> list[str]:
        """Return what is wrong with what was left, and with what becomes of it."""
        wrong = unloadable(self.cut)
        try:
            done(lambda: self.there.go_on("cut", settings), save)
        except ChildProcessError:
            return [*wrong, "it does not go on"]
        return wrong + differences(self.there.folder / whole, self.cut)


def done(action: Callable[[], object], save_seconds: float = 0.0) -> None:
    """Do something in a process of its own, which saves as often as that."""

    def patched() -> None:
        trainer.SAVE_SECONDS = save_seconds
        action()

    if outcome(in_child(patched)) != 0:
        raise ChildProcessError
