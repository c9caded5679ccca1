"""What training tells the world: one small dataclass per kind of event."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened after ``step`` optimizer steps."""

    step: int

    name = "event"
    logged = True
    """Whether it belongs to the run, and so into ``log.jsonl``, or to one sitting alone."""

    def to_json(self) -> dict[str, Any]:
        """Return the event as one line of ``log.jsonl``."""
        return {"event": self.name, **asdict(self)}


@dataclass(frozen=True)
class StepEvent(Event):
    """An optimizer step: ``loss`` in nats per character before the update."""

    epochs: float
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    """Wall time of the run so far."""
    chars_per_second: float
    """Training characters over seconds inside steps, warm-up left out."""
    progress: float
    """Share of the budget that is used, 0 to 1."""

    name = "step"


@dataclass(frozen=True)
class EvalEvent(Event):
    """A look at the validation split."""

    loss: float
    bpc: float
    chars: int
    best: bool
    seconds: float

    name = "eval"


@dataclass(frozen=True)
class SampleEvent(Event):
    """A few characters from the model as it is now."""

    text: str

    name = "sample"


@dataclass(frozen=True)
class CheckpointEvent(Event):
    """A checkpoint was written: ``which`` is ``last`` or ``best``."""

    which: str
    seconds: float

    name = "checkpoint"


@dataclass(frozen=True)
class NoticeEvent(Event):
    """Something the user should know, in one sentence."""

    message: str

    name = "notice"


class RemarkEvent(NoticeEvent):
    """A notice of one sitting: a run that was never stopped has none."""

    logged = False


@dataclass(frozen=True)
class ChangeEvent(Event):
    """A run goes on with another value of a setting than it had, or on something else."""

    setting: str
    before: Any
    after: Any

    name = "change"

    @property
    def message(self) -> str:
        """The same for people."""
        return f"`{self.setting}` is {self.after} from here on, not {self.before}"


@dataclass(frozen=True)
class PlanEvent(Event):
    """The settings that will be used, before the first step."""

    config: dict[str, Any]
    params: int
    train_chars: int
    val_chars: int
    test_chars: int
    vocab_size: int
    device: str

    name = "plan"
    logged = False


@dataclass(frozen=True)
class EndEvent(Event):
    """Training is over; ``stopped_by`` says why."""

    run: str
    epochs: float
    seconds: float
    chars_per_second: float
    params: int
    best_val_loss: float | None
    best_val_bpc: float | None
    stopped_by: str

    name = "end"
