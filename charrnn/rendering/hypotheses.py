"""The list of hypotheses, and what they say of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.hypotheses.trial import MIN_EVENTS, LabelledText, Trial, Trials
from charrnn.rendering.paint import is_plain, paint
from charrnn.rendering.tables import stdout_console, table
from charrnn.rendering.text import one_line

MAX_WIDTH = 98
AHEAD = "→"
AHEAD_MEANS = f"{AHEAD} looks ahead: what a network can only guess, so the best verdict is `found`"


def print_list(known: Sequence[Hypothesis]) -> None:
    """Print what the hypotheses are."""
    console = stdout_console()
    rows = [(_name(h), h.type, " ".join(sorted(h.kinds)), h.definition) for h in known]
    console.print(table(["hypothesis", "type", "text", "definition"], rows))
    if any(hypothesis.lookahead for hypothesis in known):
        console.print(Text(AHEAD_MEANS, style="dim"))


def print_trials(trials: Trials, name: str, console: Console | None = None) -> None:
    """Print what was found in a text, and if one hypothesis was tried, some of the text with its labels."""
    console = console or stdout_console()
    for part in _parts(trials, name, console):
        console.print(part)


def _parts(trials: Trials, name: str, console: Console) -> Iterator[RenderableType]:
    testable = sum(not trial.why_not for trial in trials.trials)
    yield Text.assemble((one_line(name), "bold"), f" · {_about(trials)}")
    heads = ["hypothesis", "type", ">on", ">mean", ">largest", ">events", ">not scored", "can be tested"]
    yield table(heads, [_row(trial) for trial in trials.trials])
    yield Text(_footer(trials, testable), style="dim")
    if trials.excerpts:
        (trial,) = trials.trials
        yield Text.assemble("\n", (trial.hypothesis.name, "bold"), f"   {trial.hypothesis.definition}")
        for excerpt in trials.excerpts:
            yield Text(f"document {excerpt.document + 1}, character {excerpt.begin:,}", style="dim")
            yield _painted(excerpt, console)


def _about(trials: Trials) -> str:
    read = f"{trials.chars:,}"
    if trials.chars < trials.total_chars:
        read += f" of {trials.total_chars:,}"
    noun = "document" if trials.documents == 1 else "documents"
    return (
        f"{trials.profile.kind} · {read} characters from {trials.documents:,} {noun} · "
        f"80 % of lines within {trials.profile.wrap_column} characters"
    )


def _row(trial: Trial) -> tuple[str, ...]:
    counts = trial.hypothesis.type != "binary"
    return (
        _name(trial.hypothesis),
        trial.hypothesis.type,
        _share(trial.prevalence),
        _number(trial.mean) if counts else "",
        _number(trial.largest) if counts else "",
        f"{trial.events:,}",
        _share(trial.unscored) if trial.unscored else "",
        trial.why_not or "yes",
    )


def _name(hypothesis: Hypothesis) -> str:
    return f"{hypothesis.name} {AHEAD}" if hypothesis.lookahead else hypothesis.name


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _footer(trials: Trials, testable: int) -> str:
    lines = [
        f"{testable} of {len(trials.trials)} can be tested: a binary one is on, and off, for "
        f"{MIN_EVENTS} characters in each half; any other varies",
        "on: share of the scored characters above 0 · events: how often it goes above 0",
    ]
    lines += [
        f"{trial.hypothesis.name}: {trial.matched:,} characters match; those count at which the text so far "
        "has the match"
        for trial in trials.trials
        if trial.matched is not None
    ]
    if any(trial.hypothesis.lookahead for trial in trials.trials):
        lines.append(AHEAD_MEANS)
    return "\n".join(lines)


def _painted(excerpt: LabelledText, console: Console) -> RenderableType:
    """Return text painted from 0 to its largest label; without colour, as blocks from low to high."""
    plain = is_plain(console)
    largest = float(np.nanmax(excerpt.labels, initial=0))
    values = excerpt.labels / (largest or 1)
    rows = paint(
        excerpt.text,
        values * 2 - 1 if plain else values,
        width=min(console.width, MAX_WIDTH) - 2,
        plain=plain,
        color_system=console.color_system,
    )
    return Padding(Group(*rows), (0, 0, 1, 2))
