"""What a trainer tells before its first step and after its last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from charrnn.config import OPTIMIZERS
from charrnn.errors import TrainingError
from charrnn.events import EndEvent, PlanEvent
from charrnn.text.splits import count_characters

if TYPE_CHECKING:
    from charrnn.training.trainer import Trainer


def plan_of(trainer: Trainer) -> PlanEvent:
    """Return the settings that will be used, and what they amount to."""
    job = trainer.job
    parts = (job.splits.train, job.splits.val, job.splits.test)
    return PlanEvent(
        trainer.counters.step,
        job.config.to_json(),
        trainer.network.num_params,
        *(count_characters(job.corpus, part) for part in parts),
        len(job.vocabulary),
        where(trainer),
    )


def where(trainer: Trainer) -> str:
    """Return device, precision and on CUDA how the layers run, for the plan's line."""
    place, config = f"{trainer.device.type} {trainer.precision}", trainer.job.config
    place = f"{trainer.team.size} × {place}" if trainer.team.size > 1 else place
    if trainer.device.type != "cuda":
        return place
    return f"{place} ({trainer.step.path.words(config.model.hidden_size, config.training.batch_size)})"


def place_of(trainer: Trainer) -> dict[str, Any]:
    """Return what a run is trained on, which may be something else when it goes on."""
    return {
        "device": trainer.device.type,
        "precision": trainer.precision,
        "processes": trainer.team.size,
    }


def divergence(trainer: Trainer, loss: float) -> TrainingError:
    """Return the error for a loss that is not finite or beyond hope."""
    config, message = trainer.job.config, f"training diverged: the loss is {loss:.3g}"
    if trainer.counters.step == 0:
        return TrainingError(
            f"{message} at step 0", "the first weights are too large: look at `model.` settings"
        )
    usual = OPTIMIZERS[config.training.optimizer].rate(config.model.hidden_size)
    rate = min(config.training.learning_rate / 3, usual)
    return TrainingError(
        f"{message} at step {trainer.counters.step:,}",
        f"`{trainer.job.folder}` still holds the last good checkpoint; try `--learning-rate {rate:.1g}`",
    )


def end_of(trainer: Trainer, epochs: float, seconds: float, chars_per_second: float) -> EndEvent:
    """Return that training is over, and what came of it."""
    counters, best = trainer.counters, trainer.counters.best_val_loss
    return EndEvent(
        counters.step,
        str(trainer.job.folder),
        epochs,
        seconds,
        chars_per_second,
        trainer.network.num_params,
        best,
        None if best is None else best / math.log(2),
        counters.stopped_by,
    )
