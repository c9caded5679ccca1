"""How gradients fade: a table, and one curve per layer and part of the state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from charrnn.inspection.gradients import Fading, GradientFindings
from charrnn.rendering.braille import Dots
from charrnn.rendering.card import View
from charrnn.rendering.figures import unsigned
from charrnn.rendering.tables import stdout_console
from charrnn.rendering.text import one_line

LOWEST = -6
"""Decade below which nothing is drawn."""
HEIGHT = 8
MAX_PANEL = 56
AXIS = 6
GAP = 2
DOTTED = 4
"""The untrained network's curve has one dot in so many columns."""
LAGS = (1, 4, 16, 64, 256)


def print_gradients(findings: GradientFindings, console: Console | None = None) -> None:
    """Print the table and the curves."""
    console = console or stdout_console()
    view = View.of(console)
    for part in _parts(findings, view.width):
        console.print(part, width=view.width)


def _parts(findings: GradientFindings, width: int) -> Iterator[RenderableType]:
    yield Text.assemble(
        (one_line(findings.run), "bold"), f" · {findings.model} · trained on windows of {findings.seq_len}"
    )
    yield Text(
        f"norm of d loss(t) / d state(t − lag), mean over {findings.counted[0]:,} characters t, "
        "as a share of that at lag 0",
        style="dim",
    )
    yield _table(findings)
    parts = zip(findings.trained, findings.untrained, strict=True)
    yield from panels([(fading.name, fading, before) for fading, before in parts], width)
    yield Text(
        "curve: this network; dots: the same before training; half-life: lag in characters at which "
        "half is left; 1 %: the last lag at which a hundredth is",
        style="dim",
    )


def _table(findings: GradientFindings) -> Table:
    """Return two lines per part of the state: this network, and the same before training."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    lags = [lag for lag in LAGS if lag < len(findings.counted)]
    for head in ("state", "", "half-life", "1 %", *(f"lag {lag}" for lag in lags)):
        table.add_column(head, justify="left" if head in ("state", "") else "right", no_wrap=True)
    for fading, before in zip(findings.trained, findings.untrained, strict=True):
        table.add_row(fading.name, "", *_figures(fading, lags))
        table.add_row("", "untrained", *_figures(before, lags), style="dim")
    return table


def _figures(fading: Fading, lags: Sequence[int]) -> Iterator[str]:
    last = len(fading.norms) - 1
    yield _characters(fading.half_life, last)
    yield "–" if fading.reach is None else f"≥ {last}" if fading.reach == last else f"{fading.reach}"
    for lag in lags:
        yield _share(float(fading.relative[lag]))


def _characters(half_life: float | None, last: int) -> str:
    return f"> {last}" if half_life is None else f"{half_life:.1f}"


def _share(value: float) -> str:
    if np.isnan(value):
        return "–"
    return unsigned(value) if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-") if value else "0"


def panels(pairs: Sequence[tuple[str, Fading, Fading]], width: int) -> Iterator[Group]:
    """Yield rows of panels on one and the same axis, two side by side where there are several.

    Args:
        pairs: A title, the gradient of a trained network, and that of its untrained twin.
        width: Columns of the terminal.
    """
    fitting = min(len(pairs), 2)
    side = min(MAX_PANEL, (width + GAP) // fitting - GAP) - AXIS
    decades = _decades([fading for _, *both in pairs for fading in both])
    for first in range(0, len(pairs), fitting):
        drawn = [_panel(*pair, side, decades) for pair in pairs[first : first + fitting]]
        yield Group(*(_joined(lines) for lines in zip(*drawn, strict=True)))


def _joined(parts: Sequence[str]) -> Text:
    line = Text((" " * GAP).join(parts).rstrip())
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _decades(fadings: Sequence[Fading]) -> tuple[int, int]:
    """Return the lowest and the highest power of ten on the axis."""
    values = np.concatenate([fading.relative for fading in fadings])
    logs = np.log10(values[values > 0]) if (values > 0).any() else np.zeros(1)
    low, high = int(np.floor(logs.min())), int(np.ceil(logs.max() - 1e-9))
    return max(LOWEST, min(low, -1)), max(0, high)


def _panel(title: str, fading: Fading, before: Fading, side: int, decades: tuple[int, int]) -> list[str]:
    """Return the lines of one panel, each ``side`` and the axis wide."""
    dots = Dots(side, HEIGHT)
    dots.put_curve(_heights(fading, 2 * side, decades))
    dotted = _heights(before, 2 * side, decades)
    across = np.arange(0, 2 * side, DOTTED)
    dots.put(across / (2 * side - 1), dotted[across])
    low, high = decades
    labels = {0: _power(high), HEIGHT - 1: _power(low)}
    lines = [f"{'':{AXIS}}{title}"]
    for number, row in enumerate(dots.rows()):
        label = labels.get(number, "")
        lines.append(f"{label:>{AXIS - 1}}{'┤' if label else '│'}{row}")
    last = str(len(fading.norms) - 1)
    lines.append(f"{'':{AXIS - 1}}└{'─' * side}")
    lines.append(f"{'':{AXIS}}0{'lag':^{side - 1 - len(last)}}{last}")
    return [line.ljust(AXIS + side) for line in lines]


def _heights(fading: Fading, columns: int, decades: tuple[int, int]) -> np.ndarray:
    """Return heights in [0, 1] on a logarithmic axis, one per column of dots; NaN below the picture."""
    low, high = decades
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log10(fading.relative), low - 100.0)
    lags = np.linspace(0, len(logs) - 1, columns)
    heights = (np.interp(lags, np.arange(len(logs)), logs) - low) / (high - low)
    return np.where(heights >= 0, heights, np.nan)


def _power(decade: int) -> str:
    return "1" if decade == 0 else f"1e{decade}"
