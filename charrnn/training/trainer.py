"""Truncated backpropagation through time, as a generator of events."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from shlex import quote

import numpy as np
import torch

from charrnn.config import AVERAGINGS, Config
from charrnn.errors import RunError
from charrnn.events import (
    ChangeEvent,
    CheckpointEvent,
    EndEvent,
    EvalEvent,
    Event,
    NoticeEvent,
    PlanEvent,
    RemarkEvent,
    SampleEvent,
    StepEvent,
)
from charrnn.files import locked, stamp
from charrnn.model.network import Network, NetworkState
from charrnn.model.scoring import TextView
from charrnn.runs import TRAINER, read_header, start_directory
from charrnn.sampling import SamplingConfig, Speaker
from charrnn.text.streams import Streams
from charrnn.training import saving
from charrnn.training.changes import changes_of, moves_of
from charrnn.training.distributed import ALONE, Team
from charrnn.training.feed import Window, make_feed, step_seed
from charrnn.training.job import Job
from charrnn.training.lengths import next_length, rate_factor, varies
from charrnn.training.log import EventLog, ended, write_end
from charrnn.training.schedules import scheduled
from charrnn.training.state import Counters, load_trainer
from charrnn.training.telling import divergence, end_of, place_of, plan_of
from charrnn.training.trust import make_replay, make_step

REPORT_STEPS = 10
"""The loss is read, checked and reported every so many steps (and at each of the first ones)."""
WARM_UP_STEPS = 10
"""Steps left out of ``chars_per_second``."""
SAVE_SECONDS = 60.0
EVAL_SHARE = 0.05
"""With a time budget, the largest share of it that looks at the validation split may take."""
SAMPLE_CHARS = 160
HOPELESS = 1e4
"""Nats per character from which on a network has diverged, although its loss may be finite still."""


@dataclass
class Trainer:
    """Trains a network and tells what happens.

    Args:
        job: What to train on and with.
        device: Where.
        precision: ``fp32``; on CUDA ``auto``, ``tf32``, ``fp16`` or ``bf16`` too.
        started: ``time.monotonic()`` when the command began; the time budget counts from there.
        initial: Weights to begin with, instead of random ones.
        found: The stamp of ``last/trainer.safetensors`` when the directory was chosen.
        team: Processes that train together; the others are told by ``team.share`` where this one begins.
    """

    job: Job
    device: torch.device
    precision: str = "fp32"
    started: float = field(default_factory=time.monotonic)
    initial: Network | None = None
    found: tuple[int, ...] | None = None
    team: Team = ALONE

    def __post_init__(self) -> None:
        config = self.job.config
        network = self.initial or self.job.first_network()
        self.network = network.to(self.device)
        self.step = make_step(self.network, config.training, self.device, self.precision, self.team)
        self.precision = self.step.path.precision
        self.optimizer = self.step.optimizer
        # an average takes every step's weights in, so it wants to see every step
        self.replay = make_replay(self.step, REPORT_STEPS if config.training.averaging == "none" else 1)
        splits, training = self.job.splits, config.training
        self.table = self.job.corpus.id_table(self.job.vocabulary)
        sizes = (training.batch_size, training.seq_len)
        own = self.team.rows(training.batch_size)
        self.streams = Streams(self.job.corpus.places, self.table, *splits.train, *sizes, own)
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
        self.whole_state = self.state  # that of all processes, as it is saved
        self._stop_reason = ""
        self.seconds_before = 0.0
        self._eval_seconds = 0.0
        self._slowest_eval = 0.0
        self.saved_at = 0.0
        self.changes: tuple[ChangeEvent, ...] = ()
        self.ahead: tuple[int, float] | None = None
        """Step and loss of a ``best/`` that a killed process wrote after ``last/``."""

    def _limits(self) -> dict[str, int]:
        """Return the budgets that are counted in steps."""
        training = self.job.config.training
        limits = {"steps": training.steps} if training.steps is not None else {}
        if training.epochs is not None and not varies(training):
            limits["epochs"] = max(1, round(training.epochs * self.streams.num_windows))
        return limits

    def resume(self, before: Config | None = None) -> None:
        """Continue exactly where ``last/`` was written.

        Args:
            before: The settings it was written with, if others hold now; a finished run then goes on.

        Raises:
            CheckpointError: The checkpoint is damaged or belongs to another configuration.
        """
        path = self.job.folder / "last" / TRAINER
        training = self.job.config.training
        parts = (self.network, self.optimizer, training, self.average, self.step.scaling)
        self.state, self.counters = load_trainer(path, *parts)
        self.step.parts = self.counters.parts
        self.seconds_before = self.saved_at = self.counters.seconds
        self.changes = changes_of(before or self.job.config, self.job.config, self.counters.step)
        if self.changes:
            self.counters.stopped_by = ""
            # looks are counted over the budget, which may be a larger one now
            self.counters.evals = min(self.counters.evals, self._evals_wanted())
        self.changes += moves_of(read_header(path).get("place"), place_of(self), self.counters.step)
        self.ahead = saving.better_ahead(self.job.folder, self.counters.step)

    def request_stop(self, reason: str = "interrupted") -> None:
        """Ask to stop after the step in progress; everything is saved first."""
        self._stop_reason = reason

    def events(self) -> Iterator[Event]:
        """Train until a budget is used up; yield what happens, and log it to ``log.jsonl``.

        Raises:
            TrainingError: The loss is not finite or beyond hope; ``last/`` and ``best/`` are from before.
            CheckpointError: A checkpoint cannot be written; the one before is still whole.
            RunError: Another process trains into the directory, or has meanwhile.
        """
        if self.counters.stopped_by not in ("", "interrupted"):
            self._end_log()
            yield self._end_event(self.counters.seconds)
            return
        self.counters.stopped_by = ""
        if not self.team.first:
            yield from self._run()
            return
        with locked(self.job.folder):
            if stamp(self.job.folder / "last" / TRAINER) != self.found:
                raise RunError(
                    f"another process has trained into `{self.job.folder}` meanwhile",
                    f"`charrnn train --resume {quote(str(self.job.folder))}` continues what it left",
                )
            yield from self._logged()

    def _end_log(self) -> None:
        """Write what a process that was killed after its last checkpoint still had to log."""
        counters, path = self.counters, self.job.folder / "log.jsonl"
        if self.team.first and not ended(path, counters.log_bytes):
            with locked(self.job.folder):
                write_end(path, counters.log_bytes, self._end_event(counters.seconds))

    def _logged(self) -> Iterator[Event]:
        """Yield what happens, write it to the log, and save what it says is saved."""
        saving.remove_leftovers(self.job.folder)
        new = self.counters.step == 0
        if new:
            self.counters.log_bytes = 0
            saving.save_first(self.job, self._snapshot())
        else:
            start_directory(self.job.folder, self.job.config, self.job.vocabulary, self.job.record)
        with EventLog(self.job.folder / "log.jsonl", self.counters.log_bytes) as log:
            if log.size < self.counters.log_bytes:
                yield RemarkEvent(self.counters.step, "`log.jsonl` has lost events since the last checkpoint")
            for event in self._run():
                saves = isinstance(event, CheckpointEvent) and not new
                new = new and not isinstance(event, CheckpointEvent)
                stops = self.counters.stopped_by == "interrupted"
                if saves and stops:  # on resume the log is cut back to here, as no whole run stops here
                    self._save_last(log)
                if event.logged:
                    log.write(event)
                if saves and not stops:
                    self._save_last(log)
                yield event

    def _run(self) -> Iterator[Event]:
        if self.team.first:
            yield self.plan_event()
        yield from self._notices()
        if self.counters.step == 0:
            yield from self._checkpoint()
        else:
            yield RemarkEvent(self.counters.step, f"continuing after step {self.counters.step:,}")
        if self.changes:
            yield from self.changes
            yield from self._checkpoint()
        while not (reason := self._finished()):
            report = self._train_step()
            yield from self._notices()
            if report is not None:
                yield report
            if self._eval_due():
                yield from self._evaluate()
                if self.team.first:
                    yield SampleEvent(self.counters.step, self._sample())
                yield from self._checkpoint()
            elif self._elapsed() - self.saved_at > SAVE_SECONDS:
                yield from self._checkpoint()
        if self._evals_wanted() > self.counters.evals and reason != "interrupted":
            yield from self._evaluate()
        if self.counters.best_val_loss is None:  # nothing to choose by: the last is the best there is
            self._save_best()
        self.counters.stopped_by = reason
        yield from self._checkpoint()
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
            counters.trained_chars += self.streams.batch_size * sum(w.ids.shape[1] for w in windows)
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
        window = Window(ids, targets, inside, step_seed(training.seed, counters.step), rate)
        self._advance(ids.shape[1])
        return window

    def _next_length(self) -> int:
        return next_length(self.job.config.training, self.counters.step, self._progress())

    def _learning_rate(self, length: int) -> float:
        training = self.job.config.training
        factor = scheduled(training, self._progress(0.5), self.counters.misses)
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
        rows = self.streams.num_rows
        self.state = self.network.initial_state(rows) if self.counters.position == 0 else state

    # -- budget -------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self.seconds_before + self.team.clock(self.started)

    def _agree(self) -> str:
        """Return why to stop, if anybody wants to; all processes have the same answer and the same time."""
        return self.team.agree(self.started, self._stop_reason)

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
        if asked := self._agree():
            return asked
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
        begun = self._elapsed()
        judged = self.average.judged.eval()
        extra = self.job.corpus.extra_nats(self.job.vocabulary)
        loss, chars = self.team.mean_nats(judged, self.val, extra)
        if not loss < HOPELESS:
            raise divergence(self, loss)
        counters = self.counters
        if self.ahead not in (None, (counters.step, loss)):  # not what the killed process did, once more
            counters.best_val_loss = min(self.ahead[1], counters.best_val_loss or math.inf)
        self.ahead = None
        best = counters.best_val_loss is None or loss < counters.best_val_loss
        counters.evals, counters.last_val_loss = self._evals_wanted(), loss
        counters.stale = 0 if best else counters.stale + 1
        counters.misses += not best
        if best:
            counters.best_val_loss = loss
            self._save_best()
        self.average.after_look(loss)
        self._agree()
        spent = self._elapsed() - begun
        self._eval_seconds += spent
        self._slowest_eval = max(self._slowest_eval, spent)
        yield EvalEvent(counters.step, loss, loss / math.log(2), chars, best, self._elapsed())

    def _sample(self) -> str:
        speaker = Speaker(self.average.judged.eval(), self.job.vocabulary, SamplingConfig(temperature=0.8))
        with np.errstate(all="ignore"):  # of weights that are about to diverge
            return "".join(speaker.characters("", SAMPLE_CHARS, self.job.config.training.seed))

    # -- saving -------------------------------------------------------------------------------

    def _save_best(self) -> None:
        if self.team.first:
            saving.save_best(self.job, self._snapshot())

    def _checkpoint(self) -> Iterator[Event]:
        """Yield what is written when it is seen; every process is asked for its part of it."""
        self.whole_state = self.team.whole(self.state, self.streams.batch_size)
        yield CheckpointEvent(self.counters.step, "last", self._elapsed())
        self.team.has_saved()
        self._agree()
        self.saved_at = self._elapsed()
        if wrong := self.team.put_right(self):
            yield NoticeEvent(self.counters.step, wrong)

    def _save_last(self, log: EventLog) -> None:
        log.flush()  # first, as the state says how much of the log belongs to it
        self.counters.log_bytes = log.size
        saving.save_last(self.job, self._snapshot())

    def _snapshot(self) -> saving.Snapshot:
        """Return what is saved; what could not be loaded is not, such as a symbol that no look has met."""
        for network in (self.network, self.average.judged):
            if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
                raise divergence(self, math.nan)
        self.counters.seconds, self.counters.parts = self._elapsed(), self.step.parts
        parts = (self.network, self.average, self.optimizer, self.whole_state, self.counters)
        return saving.Snapshot(*parts, self._epochs(), self.step.scaling, place_of(self))

    # -- events -------------------------------------------------------------------------------

    def _step_event(self, loss: float, rate: float, norm: float) -> StepEvent:
        if not loss < HOPELESS:
            raise divergence(self, loss)
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

    def plan_event(self) -> PlanEvent:
        """Return the settings that will be used, and what they amount to."""
        return plan_of(self)

    def _end_event(self, seconds: float) -> EndEvent:
        return end_of(self, self._epochs(), seconds, self._chars_per_second())
