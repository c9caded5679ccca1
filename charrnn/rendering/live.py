"""Training as it happens: a live view on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from charrnn.events import (
    ChangeEvent,
    EndEvent,
    EvalEvent,
    Event,
    NoticeEvent,
    PlanEvent,
    SampleEvent,
    StepEvent,
)
from charrnn.rendering.plan import plan_line
from charrnn.rendering.text import one_line, sparkline, visible

PLAIN_SECONDS = 10.0
"""Without a terminal, the longest silence between two lines of progress."""
SMOOTHING = 0.9
STEEPEST = 1.3
"""The curve of validation losses is drawn up to this many times the lowest."""


@contextmanager
def make_reporter(console: Console, *, quiet: bool = False) -> Iterator[Callable[[Event], None]]:
    """Yield the function that shows an event."""
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            view = _View(console)
            yield lambda event: view.show(event, live)
    else:
        yield _Lines(console).show


def duration(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Progress:
    """What both views know: the newest step, a smoothed loss, the validation losses."""

    def __init__(self) -> None:
        self.step: StepEvent | None = None
        self.loss: float | None = None
        self.bpcs: list[float] = []
        self.first: tuple[float, float] | None = None

    def note(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            self.step = event
            self.loss = (
                event.loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * event.loss
            )
            self.first = self.first or (event.seconds, event.progress)
        elif isinstance(event, EvalEvent):
            self.bpcs.append(event.bpc)

    @property
    def bpc(self) -> float:
        return (self.loss or 0.0) / log(2)

    @property
    def eta(self) -> str:
        """Time left, from the speed since this sitting began."""
        begun, share = self.first or (0.0, 0.0)
        done = self.step.progress - share
        return duration((self.step.seconds - begun) / done * (1 - self.step.progress)) if done > 0 else "…"


class _View:
    """The live view: a bar, the loss, the validation curve, and a line of what the model would say."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = _Progress()
        self.sample = ""

    def show(self, event: Event, live: Live) -> None:
        self.progress.note(event)
        if isinstance(event, SampleEvent):
            self.sample = event.text
        if isinstance(event, PlanEvent | EndEvent | NoticeEvent | ChangeEvent):
            live.console.print(Text(_sentence(event)))
        if isinstance(event, EndEvent):
            live.update(Text(""))
        elif self.progress.step is not None:
            live.update(self._picture())

    def _picture(self) -> RenderableType:
        step, progress = self.progress.step, self.progress
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        left = f"{step.progress:4.0%}  {duration(step.seconds)} done, {progress.eta} left"
        bar.add_row(ProgressBar(total=1.0, completed=step.progress), left)
        figures = (
            f"step {step.step:,} · epoch {step.epochs:.2f} · train {progress.bpc:.3f} bpc · "
            f"{step.chars_per_second:,.0f} chars/s"
        )
        lines: list[RenderableType] = [bar, Text(figures, no_wrap=True, overflow="ellipsis")]
        if progress.bpcs:
            # the first looks lie so high that they would press the rest of the curve flat
            top = STEEPEST * min(progress.bpcs)
            curve = sparkline([min(bpc, top) for bpc in progress.bpcs[-40:]])
            lines.append(
                Text.assemble(
                    "val ",
                    (curve, "cyan"),
                    f" {progress.bpcs[-1]:.3f} bpc, best ",
                    f"{min(progress.bpcs):.3f}",
                )
            )
        if self.sample:
            line = " ".join(visible(self.sample).split())
            lines.append(Text(f"“{line}", style="dim italic", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


class _Lines:
    """Plain lines: every look at the validation split, and a sign of life between."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = _Progress()
        self.shown = time.monotonic()

    def show(self, event: Event) -> None:
        self.progress.note(event)
        if isinstance(event, PlanEvent | EndEvent | NoticeEvent | ChangeEvent):
            self._print(_sentence(event))
        elif isinstance(event, EvalEvent):
            step = self.progress.step
            best = ", the best so far" if event.best else ""
            share = f"{step.progress:4.0%} · " if step else ""
            self._print(
                f"{share}step {event.step:,} · {duration(event.seconds)} · val {event.bpc:.3f} bpc{best}"
            )
        elif isinstance(event, SampleEvent):
            self._print("  “" + " ".join(visible(event.text).split())[:90])
        elif isinstance(event, StepEvent) and time.monotonic() - self.shown > PLAIN_SECONDS:
            self._print(
                f"{event.progress:4.0%} · step {event.step:,} · {duration(event.seconds)} · "
                f"train {self.progress.bpc:.3f} bpc · {event.chars_per_second:,.0f} chars/s"
            )

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)
        self.shown = time.monotonic()


def _sentence(event: PlanEvent | EndEvent | NoticeEvent | ChangeEvent) -> str:
    if isinstance(event, PlanEvent):
        return plan_line(event)
    if isinstance(event, NoticeEvent | ChangeEvent):
        return f"note: {one_line(event.message)}"
    best = "" if event.best_val_bpc is None else f", best val {event.best_val_bpc:.3f} bpc"
    return (
        f"stopped by {event.stopped_by} after {event.step:,} steps, {event.epochs:.2f} epochs, "
        f"{duration(event.seconds)}{best}; {event.chars_per_second:,.0f} chars/s"
    )
