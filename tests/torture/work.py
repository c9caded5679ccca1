"""A run of less than a second, the processes that train it, and what two equal runs have in common."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from small_runs import write_words

from charrnn.errors import RunError
from charrnn.runs import find_checkpoint, load_checkpoint, load_tensors
from charrnn.training import start, trainer

SETTINGS = {
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "model.dropout": 0.2,
    "training.batch_size": 4,
    "training.seq_len": 16,
    "training.steps": 8,
    "training.num_evals": 4,
}
TIMINGS = {"seconds", "chars_per_second", "trained_seconds", "log_bytes", "run"}
"""What two runs need not have in common: clocks, how many digits those take, and the folder's name."""
MODELS = ("best/model.safetensors", "last/model.safetensors", "last/trainer.safetensors")
Settings = Mapping[str, Any]


class Place:
    """A folder with a text, in which runs are trained, killed and compared.

    Args:
        folder: Where; it belongs to this test.
        seed: Of what is done at random.
    """

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        self.text = write_words(folder)
        self.random = random.Random(seed)

    def train(self, name: str, settings: Settings = SETTINGS, overwrite: bool = False) -> None:
        """Train a run from its beginning to its end in this process."""
        for _ in self.trainer(name, settings, overwrite).events():
            pass

    def trainer(self, name: str, settings: Settings = SETTINGS, overwrite: bool = False) -> trainer.Trainer:
        return start.start(
            [self.text], run=str(self.folder / name), settings=settings, device="cpu", overwrite=overwrite
        )

    def go_on(self, name: str, settings: Settings = SETTINGS) -> None:
        """Do what a user does after a crash: resume the run, or begin it where it had not begun."""
        try:
            going = start.resume(str(self.folder / name), device="cpu")
        except RunError as error:
            if "there is no run" not in error.message and "has no checkpoint" not in error.message:
                raise
            going = self.trainer(name, settings)
        for _ in going.events():
            pass

    def copy(self, name: str, other: str) -> None:
        shutil.copytree(self.folder / name, self.folder / other)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)


@contextmanager
def place(seed: int = 1) -> Iterator[Place]:
    """Yield a place in a temporary folder, with a cache of its own, where every step is saved."""
    torch.set_num_threads(1)
    before = trainer.SAVE_SECONDS, os.environ.get("CHARRNN_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        trainer.SAVE_SECONDS, os.environ["CHARRNN_CACHE"] = 0.0, f"{folder}/cache"
        try:
            yield Place(Path(folder), seed)
        finally:
            trainer.SAVE_SECONDS = before[0]
            del os.environ["CHARRNN_CACHE"]
            if before[1] is not None:
                os.environ["CHARRNN_CACHE"] = before[1]


# -- processes ----------------------------------------------------------------------------------


def in_child(action: Callable[[], object]) -> int:
    """Start a process that does something and ends with 0, or 1 after an error; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def outcome(child: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)


# -- comparisons --------------------------------------------------------------------------------


def unloadable(run: Path) -> list[str]:
    """Return what is wrong with the checkpoints of a run that was hit: each that is there must load."""
    wrong = []
    for name in MODELS[:2]:
        if (run / name).exists():
            try:
                load_checkpoint(find_checkpoint(run / name))
            except RunError as error:
                wrong.append(f"{name}: {error.message}")
    return wrong


def differences(whole: Path, cut: Path, timings: bool = False) -> list[str]:
    """Return what two finished runs do not have in common: weights, moments, counters, log, files.

    Args:
        whole: A run.
        cut: Another, which must equal it.
        timings: Whether they have the same clock, too.
    """
    ignored = {"run"} if timings else TIMINGS
    found = []
    for name in MODELS:
        (a, head_a), (b, head_b) = load_tensors(whole / name), load_tensors(cut / name)
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            found.append(f"{name}: other tensors")
        if without(head_a, ignored) != without(head_b, ignored):
            found.append(f"{name}: another header")
    for name in ("config.json", "vocabulary.json", "last/trainer.json"):
        first, second = (without(json.loads((run / name).read_bytes()), ignored) for run in (whole, cut))
        if first != second:
            found.append(f"{name} differs")
    logs = [[without(json.loads(line), ignored) for line in lines_of(run)] for run in (whole, cut)]
    if logs[0] != logs[1]:
        found.append(f"log.jsonl: {len(logs[1])} events, or others than the {len(logs[0])} wanted")
    files = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (whole, cut)]
    if files[0] != files[1]:
        found.append(f"other files: {sorted(set(files[0]) ^ set(files[1]))}")
    return found


def lines_of(run: Path) -> list[bytes]:
    return (run / "log.jsonl").read_bytes().splitlines()


def without(value: Any, names: set[str]) -> Any:
    """Return JSON without what some names stand for."""
    if isinstance(value, dict):
        return {key: without(part, names) for key, part in value.items() if key not in names}
    return value
