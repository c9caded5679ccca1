"""Truncated backpropagation through time, as a generator of events."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch

from charrnn.config import AVERAGINGS, SCHEDULES
from charrnn.errors import TrainingError
from charrnn.events import (
    CheckpointEvent,
    EndEvent,
    EvalEvent,
    Event,
    NoticeEvent,
    PlanEvent,
    SampleEvent,
    StepEvent,
)
from charrnn.files import locked
from charrnn.model.network import Network, NetworkState
from charrnn.model.scoring import TextView, mean_nats
from charrnn.runs import MODEL, TRAINER, save_model, start_directory
from charrnn.sampling import SamplingConfig, Speaker
from charrnn.text.splits import count_characters
from charrnn.text.streams import Streams
from charrnn.training.feed import Window, make_feed
from charrnn.training.job import Job
from charrnn.training.lengths import next_length, rate_factor, varies
from charrnn.training.log import EventLog
from charrnn.training.schedules import warmed_up
from charrnn.training.state import Counters, load_trainer, save_trainer
from charrnn.training.trust import make_replay, make_step

REPORT_STEPS = 10
"""The loss is read, checked and reported every so many steps (and at each of the first ones)."""
WARM_UP_STEPS = 10
"""Steps left out of ``chars_per_second``."""
SAVE_SECONDS = 60.0
EVAL_SHARE = 0.05
"""With a time budget, the largest share of it that looks at the validation split may take."""
SAMPLE_CHARS = 160


@dataclass
class Trainer:
    """Trains a network and tells what happens.

    Args:
        job: What to train on and with.
        device: Where.
        precision: ``fp32``; on CUDA ``auto``, ``tf32``, ``fp16`` or ``bf16`` too.
        started: ``time.monotonic()`` when the command began; the time budget counts from there.
        initial: Weights to begin with, instead of random ones.
    """

    job: Job
    device: torch.device
    precision: str = "fp32"
    started: float = field(default_factory=time.monotonic)
    initial: Network | None = None

    def __post_init__(self) -> None:
        config = self.job.config
        network = self.initial or self.job.first_network()
        self.network = network.to(self.device)
        self.step = make_step(self.network, config.training, self.device, self.precision)
        self.precision = self.step.path.precision
        self.optimizer = self.step.optimizer
        # an average takes every step's weights in, so it wants to see every step
        self.replay = make_replay(self.step, REPORT_STEPS if config.training.averaging == "none" else 1)
        self.schedule = SCHEDULES[config.training.schedule]
        splits, training = self.job.splits, config.training
        self.table = self.job.corpus.id_table(self.job.vocabulary)
        self.streams = Streams(
            self.job.corpus.places, self.table, *splits.train, training.batch_size, training.seq_len
        )
        self.feed = make_feed(self.streams, self.device)
        self.val = (
            TextView(self.job.corpus.places, self.table, *splits.val)
            if splits.val[1] > splits.val[0]
            else None
        )
        self._step_limits = self._limits()
        self.counters = Counters()
        self.average = AVERAGINGS[training.averaging](self.network, training, self.counters)
        self.state: NetworkState = self.network.initial_state(training.batch_size)
        self._stop_reason = ""
        self._seconds_before = 0.0
        self._eval_seconds = 0.0
        self._slowest_eval = 0.0
        self._saved_at = 0.0

    def _limits(self) -> dict[str, int]:
        """Return the budgets that are counted in steps."""
        training = self.job.config.training
        limits = {"steps": training.steps} if training.steps is not None else {}
        if training.epochs is not None and not varies(training):
            limits["epochs"] = max(1, round(training.epochs * self.streams.num_windows))
        return limits

    def resume(self) -> None:
        """Continue exactly where ``last/`` was written.

        Raises:
            CheckpointError: The checkpoint is damaged or belongs to another configuration.
        """
        path = self.job.folder / "last" / TRAINER
        training = self.job.config.training
        parts = (self.network, self.optimizer, training, self.average, self.step.scaling)
        self.state, self.counters = load_trainer(path, *parts)
        self.step.parts = self.counters.parts
        self._seconds_before = self.counters.seconds

    def request_stop(self, reason: str = "interrupted") -> None:
        """Ask to stop after the step in progress; everything is saved first."""
        self._stop_reason = reason

    def events(self) -> Iterator[Event]:
        """Train until a budget is used up; yield what happens, and log it to ``log.jsonl``.

        Raises:
            TrainingError: The loss is not finite any more; ``last/`` and ``best/`` are from before.
            CheckpointError: A checkpoint cannot be written; the one before is still whole.
        """
        if self.counters.stopped_by not in ("", "interrupted"):
            yield self._end_event(self.counters.seconds)
            return
        self.counters.stopped_by = ""
        with locked(self.job.folder):
            yield from self._logged()

    def _logged(self) -> Iterator[Event]:
        """Yield what happens, write it to the log, and save what it says is saved."""
        if self.counters.step == 0:
            # what an overwritten run left is replaced file by file, so that a full disk leaves it whole
            start_directory(self.job.folder, self.job.config, self.job.vocabulary, self.job.record)
            self._save_best()
        with EventLog(self.job.folder / "log.jsonl", self.counters.log_bytes) as log:
            if log.size < self.counters.log_bytes:
                yield NoticeEvent(self.counters.step, "`log.jsonl` has lost events since the last checkpoint")
            for event in self._run():
                if isinstance(event, CheckpointEvent) and event.which == "last":
                    # the log is cut back to here on resume, so this line comes after it
                    self._save_last(log.size)
                if not isinstance(event, PlanEvent | NoticeEvent):  # not part of what repeats exactly
                    log.write(event)
                yield event

    def _run(self) -> Iterator[Event]:
        yield self.plan_event()
        yield from self._notices()
        if self.counters.step == 0:
            yield self._checkpoint("last")
        else:
            yield NoticeEvent(self.counters.step, f"continuing after step {self.counters.step:,}")
        while not (reason := self._finished()):
            report = self._train_step()
            yield from self._notices()
            if report is not None:
                yield report
            if self._eval_due():
                yield from self._evaluate()
                yield self._checkpoint("last")
                yield SampleEvent(self.counters.step, self._sample())
            elif self._elapsed() - self._saved_at > SAVE_SECONDS:
                self._check_finite()
                yield self._checkpoint("last")
        if self._evals_wanted() > self.counters.evals and reason != "interrupted":
            yield from self._evaluate()
        self._check_finite()
        if self.counters.best_val_loss is None:  # nothing to choose by: the last is the best there is
            self._save_best()
        self.counters.stopped_by = reason
        yield self._checkpoint("last")
        yield self._end_event(self._elapsed())

    # -- one step -----------------------------------------------------------------------------

    def _train_step(self) -> StepEvent | None:
        """Take a step; where steps are replayed, as many as nobody needs to look at."""
        counters = self.counters
        begun = time.monotonic()
        known = len(self.replay.recordings)
        windows = self._next_windows()
        loss, norm, after = self.replay(windows, self.state)
        self._carry(after)
        self.average.after_step()
        event = None
        if self._report_due():
            event = self._step_event(loss.item(), windows[-1].rate, norm.item())
        if counters.step > WARM_UP_STEPS and known == len(self.replay.recordings):
            counters.trained_chars += sum(window.ids.numel() for window in windows)
            counters.trained_seconds += time.monotonic() - begun
        return event

    def _report_due(self) -> bool:
        return self.counters.step <= REPORT_STEPS or self.counters.step % REPORT_STEPS == 0

    def _next_windows(self) -> list[Window]:
        """Read the windows of the next steps, of one shape, up to one after which something else happens."""
        windows = [self._next_window()]
        while len(windows) < self.replay.group and not (
            self.counters.position == 0 or self._report_due() or self._finished() or self._eval_due()
        ):
            left = self.streams.row_length - self.counters.position
            if min(self._next_length(), left) != windows[0].ids.shape[1]:
                break
            windows.append(self._next_window())
        return windows

    def _next_window(self) -> Window:
        """Read the window of the next step, and count the step."""
        counters, training = self.counters, self.job.config.training
        ids, targets, inside = self.feed.read(counters.position, self._next_length())
        rate = self._learning_rate(ids.shape[1])
        window = Window(ids, targets, inside, _mix(training.seed, counters.step), rate)
        self._advance(ids.shape[1])
        return window

    def _next_length(self) -> int:
        return next_length(self.job.config.training, self.counters.step, self._progress())

    def _learning_rate(self, length: int) -> float:
        training = self.job.config.training
        progress = self._progress(0.5)
        factor = warmed_up(self.schedule(progress, self.counters.misses), progress, training.warmup_fraction)
        factor *= rate_factor(training, length, self._progress())
        return training.learning_rate * factor

    def _advance(self, length: int) -> None:
        """Count a step, and the symbols that its window had."""
        self.counters.step += 1
        self.counters.position += length
        if self.counters.position == self.streams.row_length:
            self.counters.position = 0
            self.counters.epoch += 1

    def _carry(self, state: NetworkState) -> None:
        """Keep the state for the next window; a new epoch begins from zeros."""
        batch_size = self.job.config.training.batch_size
        self.state = self.network.initial_state(batch_size) if self.counters.position == 0 else state

    # -- budget -------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self.started

    def _epochs(self) -> float:
        return self.counters.epoch + self.counters.position / self.streams.row_length

    def _shares(self, ahead: float) -> dict[str, float]:
        """Return the share of every budget that will be used in ``ahead`` steps; of ``minutes``, by now."""
        training = self.job.config.training
        shares = {name: (self.counters.step + ahead) / limit for name, limit in self._step_limits.items()}
        if training.epochs is not None and "epochs" not in self._step_limits:
            more = ahead * training.seq_len / self.streams.row_length
            shares["epochs"] = (self._epochs() + more) / training.epochs
        return shares | {"minutes": self._time_share()}

    def _progress(self, ahead: float = 0.0) -> float:
        """Return the share of the budget that is used, in [0, 1]; only ``minutes`` reads the clock."""
        return min(1.0, max(self._shares(ahead).values()))

    def _time_share(self) -> float:
        minutes = self.job.config.training.minutes
        if minutes is None:
            return 0.0
        reserve = 1.5 * self._slowest_eval + 1.0
        return self._elapsed() / max(minutes * 60 - reserve, 0.001)

    def _finished(self) -> str:
        """Return why training is over, or nothing."""
        patience = self.job.config.training.patience
        if self._stop_reason:
            return self._stop_reason
        if patience and self.counters.stale >= patience:
            return "patience"
        return next((name for name, share in self._shares(0.0).items() if share >= 1), "")

    # -- validation ---------------------------------------------------------------------------

    def _evals_wanted(self) -> int:
        if self.val is None:
            return 0
        return int(self._progress() * self.job.config.training.num_evals + 1e-9)

    def _eval_due(self) -> bool:
        wanted = self._evals_wanted()
        if wanted <= self.counters.evals:
            return False
        timed = self.job.config.training.minutes is not None
        last = wanted == self.job.config.training.num_evals
        return last or not timed or self._eval_seconds <= EVAL_SHARE * self._elapsed()

    def _evaluate(self) -> Iterator[Event]:
        begun = time.monotonic()
        judged = self.average.judged.eval()
        extra = self.job.corpus.extra_nats(self.job.vocabulary)
        loss, chars = mean_nats(judged, self.val, extra)
        if not math.isfinite(loss):
            self._diverged()
        counters = self.counters
        best = counters.best_val_loss is None or loss < counters.best_val_loss
        counters.evals, counters.last_val_loss = self._evals_wanted(), loss
        counters.stale = 0 if best else counters.stale + 1
        counters.misses += not best
        if best:
            counters.best_val_loss = loss
            self._save_best()
        self.average.after_look(loss)
        spent = time.monotonic() - begun
        self._eval_seconds += spent
        self._slowest_eval = max(self._slowest_eval, spent)
        yield EvalEvent(counters.step, loss, loss / math.log(2), chars, best, self._elapsed())

    def _check_finite(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            self._diverged()

    def _diverged(self) -> NoReturn:
        folder, rate = self.job.folder, self.job.config.training.learning_rate
        raise TrainingError(
            f"training diverged: the loss is not finite any more at step {self.counters.step}",
            f"`{folder}` still holds the last good checkpoint; try `--learning-rate {rate / 3:.1g}`",
        )

    def _sample(self) -> str:
        speaker = Speaker(self.average.judged.eval(), self.job.vocabulary, SamplingConfig(temperature=0.8))
        return "".join(speaker.characters("", SAMPLE_CHARS, self.job.config.training.seed))

    # -- saving -------------------------------------------------------------------------------

    def _save_best(self) -> None:
        self._save_model("best")

    def _save_last(self, log_bytes: int) -> None:
        self.counters.log_bytes = log_bytes
        self.counters.seconds = self._elapsed()
        self.counters.parts = self.step.parts
        self._save_model("last")
        parts = (self.network, self.optimizer, self.state, self.counters, self.average.tensors())
        save_trainer(self.job.folder / "last", *parts, self.step.scaling)
        self._saved_at = self._elapsed()

    def _save_model(self, which: str) -> None:
        job, counters = self.job, self.counters
        progress = {"step": counters.step, "epochs": self._epochs(), "seconds": self._elapsed()}
        progress["val_loss"] = counters.best_val_loss if which == "best" else counters.last_val_loss
        save_model(
            job.folder / which / MODEL, self.average.judged, job.config, job.vocabulary, job.record, progress
        )

    # -- events -------------------------------------------------------------------------------

    def _step_event(self, loss: float, rate: float, norm: float) -> StepEvent:
        if not math.isfinite(loss):
            self._diverged()
        step = self.counters.step
        return StepEvent(
            step,
            self._epochs(),
            loss,
            rate,
            norm,
            self._elapsed(),
            self._chars_per_second(),
            self._progress(),
        )

    def _chars_per_second(self) -> float:
        return self.counters.trained_chars / max(self.counters.trained_seconds, 1e-9)

    def _notices(self) -> Iterator[NoticeEvent]:
        """Yield what the step has to say, once."""
        while self.step.notices:
            yield NoticeEvent(self.counters.step, self.step.notices.pop(0))

    def _checkpoint(self, which: str) -> CheckpointEvent:
        return CheckpointEvent(self.counters.step, which, self._elapsed())

    def plan_event(self) -> PlanEvent:
        """Return the settings that will be used, and what they amount to."""
        job = self.job
        chars = (
            count_characters(job.corpus, part) for part in (job.splits.train, job.splits.val, job.splits.test)
        )
        return PlanEvent(
            self.counters.step,
            job.config.to_json(),
            self.network.num_params,
            *chars,
            len(job.vocabulary),
            self._where(),
        )

    def _where(self) -> str:
        """Return device, precision and on CUDA how the layers run, for the plan's line."""
        place, config = f"{self.device.type} {self.precision}", self.job.config
        if self.device.type != "cuda":
            return place
        return f"{place} ({self.step.path.words(config.model.hidden_size, config.training.batch_size)})"

    def _end_event(self, seconds: float) -> EndEvent:
        best = self.counters.best_val_loss
        return EndEvent(
            self.counters.step,
            str(self.job.folder),
            self._epochs(),
            seconds,
            self._chars_per_second(),
            self.network.num_params,
            best,
            None if best is None else best / math.log(2),
            self.counters.stopped_by,
        )


def _mix(seed: int, step: int) -> int:
    """Return a seed for one step, so that dropout masks depend on nothing but the step's number."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
