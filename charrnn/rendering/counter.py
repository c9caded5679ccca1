"""The curve of a neuron that counts, above the probability of a newline."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from charrnn.inspection.curves import CounterCurve
from charrnn.rendering.braille import Dots
from charrnn.rendering.figures import unsigned
from charrnn.rendering.text import BLOCKS

if TYPE_CHECKING:
    from charrnn.rendering.card import View

HEIGHT = 9
"""Rows of the plot; odd, so that zero has a row of its own."""
MARGIN = 4
MAX_PLOT = 80
BAND = 4
"""Every fourth dot of a band is set, so that it stays paler than the curve where there is no colour."""
MIN_TICK_GAP = 8
TWIN_DOTS = ".·˙"
"""A dot in the lower, middle and upper third of a row."""
WIDE_STEPS = (1, 2, 5)


def counter_lines(curve: CounterCurve, view: View) -> Iterator[Text]:
    """Yield the lines of a plot: what it shows, the curve, the axis, and P(⏎) where it is known."""
    plot = min(MAX_PLOT, view.width - MARGIN - 2)
    limit = _limit(curve)
    yield _line(("mean activation by ", ""), (curve.hypothesis, "bold"), (f": {_said(curve)}", ""))
    yield _line(*_key(curve))
    for label, row in zip(_labels(limit), _plot(curve, plot, limit), strict=True):
        yield Text.assemble((label, "dim"), row, no_wrap=True, overflow="ignore")
    steps = _ticks(len(curve.mean), plot)
    yield _line((_axis(steps, curve, plot), "dim"))
    yield _line((_tick_labels(steps, curve, plot), "dim"))
    if curve.p_newline is not None:
        top = float(np.nanmax(curve.p_newline))
        yield _line(("P(⏎)", "dim"), (_blocks(curve.p_newline, plot, top), "green"))
        yield _line(
            (f"    P(⏎): the model's mean probability of a newline next, █ is {unsigned(top)}", "dim")
        )


def _said(curve: CounterCurve) -> str:
    """Return slope and straight part in words."""
    first, last = curve.straight
    digits = max(2, 1 - math.floor(math.log10(max(abs(curve.slope), 1e-6))))
    slope = ("−" if curve.slope < 0 else "+") + unsigned(abs(curve.slope), min(digits, 5))
    end = f"straight from {first} to {last}, then flat" if curve.flat else f"one line from {first} to {last}"
    return f"{slope} a step, {end}"


def _key(curve: CounterCurve) -> tuple[tuple[str, str], ...]:
    return (
        ("⠒⠒", "bold blue"),
        (f" {curve.neuron}, mean of {int(curve.chars.sum()):,} characters   ", "dim"),
        ("⡈⡈", "blue dim"),
        (" ± sd   ", "dim"),
        ("···", "magenta"),
        (f" untrained {curve.untrained}", "dim"),
    )


def _limit(curve: CounterCurve) -> float:
    """Return the end of the axis: 1, or more for a cell whose activations have no bound."""
    largest = max(float(np.nanmax(np.abs(m))) for m in (curve.mean, curve.untrained_mean))
    return float(max(1, math.ceil(largest)))


def _labels(limit: float) -> list[str]:
    edges = {0: f"+{limit:g}", HEIGHT // 2: "0", HEIGHT - 1: f"−{limit:g}"}
    return [edges.get(row, "").rjust(MARGIN - 1) + ("┤" if row in edges else "│") for row in range(HEIGHT)]


def _plot(curve: CounterCurve, width: int, limit: float) -> list[Text]:
    mean, sd, twin = (
        _spread(values, 2 * width) / limit for values in (curve.mean, curve.sd, curve.untrained_mean)
    )
    line, band = Dots(width, HEIGHT), Dots(width, HEIGHT)
    line.put_curve((mean + 1) / 2)
    _fill(band, (mean - sd + 1) / 2, (mean + sd + 1) / 2)
    dotted = _dotted((twin[::2] + 1) / 2)
    rows = zip(line.rows(), band.rows(), strict=True)
    return [_row(y, *pair, dotted) for y, pair in enumerate(rows)]


def _row(y: int, line: str, band: str, dotted: list[tuple[int, str]]) -> Text:
    result = Text()
    for x, (curve, around) in enumerate(zip(line, band, strict=True)):
        row, dot = dotted[x]
        if curve != " ":
            result.append(curve, "bold blue")
        elif row == y:
            result.append(dot, "magenta")
        else:
            result.append(around, "blue dim" if around != " " else "")
    return result


def _dotted(heights: np.ndarray) -> list[tuple[int, str]]:
    """Return the row and the dot for one height in [0, 1] per column; row -1 where it is unknown."""
    result = []
    for height in heights:
        if np.isnan(height):
            result.append((-1, " "))
            continue
        third = min(3 * HEIGHT - 1, int((1 - min(max(height, 0), 1)) * 3 * HEIGHT))
        result.append((third // 3, TWIN_DOTS[2 - third % 3]))
    return result


def _fill(dots: Dots, low: np.ndarray, high: np.ndarray) -> None:
    """Set every fourth dot between two curves, in a slanted pattern."""
    rows, columns = dots.on.shape
    heights = 1 - np.arange(rows)[:, None] / (rows - 1)
    pattern = (np.arange(columns) + 2 * np.arange(rows)[:, None]) % BAND == 0
    dots.on |= pattern & (heights >= low) & (heights <= high)


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    """Return values at ``count`` evenly spaced places from the first to the last, joined by lines."""
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.linspace(0, len(values) - 1, count), known, values[known])


def _blocks(p: np.ndarray, width: int, top: float) -> str:
    levels = np.rint(_spread(p, width) / max(top, 1e-12) * (len(BLOCKS) - 1)).astype(int)
    return "".join(BLOCKS[level] for level in levels)


def _ticks(count: int, width: int) -> list[int]:
    """Return the values on the axis: steps of 1, 2 or 5 times a power of ten, wide enough for labels."""
    wanted = max(1.0, (count - 1) * MIN_TICK_GAP / width)
    power = 10 ** math.floor(math.log10(wanted))
    step = next(s * power for s in (*WIDE_STEPS, 10) if s * power >= wanted)
    return list(range(0, count, max(1, step)))


def _place(value: int, curve: CounterCurve, width: int) -> int:
    return round(value / (len(curve.mean) - 1) * (width - 1))


def _axis(ticks: list[int], curve: CounterCurve, width: int) -> str:
    line = ["─"] * width
    for value in ticks:
        line[_place(value, curve, width)] = "┬"
    return " " * (MARGIN - 1) + "└" + "".join(line)


def _tick_labels(ticks: list[int], curve: CounterCurve, width: int) -> str:
    line = ""
    for value in ticks:
        line = line.ljust(MARGIN + _place(value, curve, width)) + str(value)
    room = MARGIN + width - len(line) - 2
    return line + ("  " + curve.hypothesis if room >= len(curve.hypothesis) else "")


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ignore")
