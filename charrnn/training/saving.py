"""A run's files, written so that its process may die at any instant, and the power fail.

``last/trainer.safetensors`` is what a run continues from, and all else can be made again from it. So it is
the last file of a checkpoint and the first of a new run: whoever is killed before it leaves the run as it
was, whoever is killed after it leaves one that goes on.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charrnn.errors import CharrnnError, CheckpointError
from charrnn.files import parts_of, write_atomically
from charrnn.model.network import Network, NetworkState
from charrnn.runs import MODEL, TRAINER, header_of, model_bytes, read_header, start_directory
from charrnn.training.averaging import NoAverage
from charrnn.training.job import Job
from charrnn.training.scaling import LossScale
from charrnn.training.state import Counters, counters_bytes, save_trainer, trainer_bytes

BEST, LAST, STATE, COUNTERS = f"best/{MODEL}", f"last/{MODEL}", f"last/{TRAINER}", "last/trainer.json"


class Snapshot(NamedTuple):
    """A trainer between two steps."""

    network: Network
    average: NoAverage
    optimizer: torch.optim.Optimizer
    state: NetworkState
    counters: Counters
    epochs: float
    scaling: LossScale | None = None
    place: dict[str, Any] | None = None
    """What it runs on, as ``changes.place_of`` says it."""


def save_first(job: Job, now: Snapshot) -> None:
    """Make a directory a new run's at once, or, where the disk has no room for it, not at all.

    Raises:
        CheckpointError: The disk is full or refuses; the run that was there before still is.
    """
    model = _model(job, now, "last")
    files = {STATE: trainer_bytes(*_trainer_parts(job, now)), BEST: model, LAST: model}
    files |= {COUNTERS: counters_bytes(now.counters)}
    start_directory(job.folder, job.config, job.vocabulary, job.record, files)


def save_last(job: Job, now: Snapshot) -> None:
    """Write ``last/``.

    Raises:
        CheckpointError: The disk is full or refuses; the run goes on from the checkpoint before.
    """
    write_atomically(job.folder / LAST, _model(job, now, "last"))
    save_trainer(job.folder / "last", *_trainer_parts(job, now))


def save_best(job: Job, now: Snapshot) -> None:
    """Write ``best/``.

    Raises:
        CheckpointError: The disk is full or refuses; the best one before is still whole.
    """
    write_atomically(job.folder / BEST, _model(job, now, "best"))


def better_ahead(folder: Path, step: int) -> tuple[int, float] | None:
    """Return step and loss of a ``best/`` that is newer than ``last/``: a process was killed between the two.

    Args:
        folder: A run directory.
        step: Of its ``last/``.
    """
    with suppress(CharrnnError, KeyError, TypeError):
        progress = read_header(folder / BEST)["progress"]
        found, loss = progress["step"], progress["val_loss"]
        if type(found) is int and type(loss) is float and found > step > 0 and math.isfinite(loss):
            return found, loss
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while it saved left in a run directory.

    Raises:
        CheckpointError: ``best/`` or ``last/`` is a link: what is saved there would be somewhere else.
    """
    for path in (folder / "best", folder / "last"):
        if path.is_symlink():
            raise CheckpointError(f"`{path}` is a link, through which no run is written", "copy the folder")
    for name in (BEST, LAST, STATE, COUNTERS, "config.json", "vocabulary.json"):
        with suppress(OSError):
            next(parts_of(folder / name)).unlink(missing_ok=True)


def _model(job: Job, now: Snapshot, which: str) -> bytes:
    counters = now.counters
    progress = {"step": counters.step, "epochs": now.epochs, "seconds": counters.seconds}
    progress["val_loss"] = counters.best_val_loss if which == "best" else counters.last_val_loss
    return model_bytes(now.average.judged, job.config, job.vocabulary, job.record, progress)


def _trainer_parts(job: Job, now: Snapshot) -> tuple:
    about = header_of(job.config, job.vocabulary, job.record) | {"place": now.place}
    moving = (now.network, now.optimizer, now.state, now.counters, now.average.tensors())
    return *moving, about, now.scaling
