"""How gates are saturated: a table, a scatter per gate, and how long neurons remember."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from shlex import quote

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from charrnn.inspection.gates import MAX_TAU, Gate, GateFindings, Timescale
from charrnn.rendering.braille import Dots
from charrnn.rendering.card import View
from charrnn.rendering.figures import unsigned
from charrnn.rendering.tables import stdout_console
from charrnn.rendering.text import BLOCKS, one_line

MAX_SIDE = 20
"""Columns of a scatter at most; a row is about twice as high as a column is wide, so it has half as many."""
AXIS = 3
GAP = 2
MEANING = {
    "i": "input gate: lets new in",
    "f": "forget gate: 1 keeps",
    "g": "what is new, tanh",
    "o": "output gate: lets out",
    "r": "reset gate: 0 ignores h",
    "z": "update gate: 1 keeps",
    "n": "what is new, tanh",
}
HISTOGRAM_ROWS = 4
MAX_BINS = 20
"""Columns per decade at most."""
FIRST_DECADE = -1
"""A timescale below .1 characters is shown as .1: nothing is left after one."""


def print_gates(findings: GateFindings, console: Console | None = None) -> None:
    """Print the table of saturation, the scatters, and the timescales."""
    console = console or stdout_console()
    view = View.of(console)
    for part in _parts(findings, view):
        console.print(part, width=view.width)


def _parts(findings: GateFindings, view: View) -> Iterator[RenderableType]:
    yield Text.assemble((one_line(findings.run), "bold"), f" · {findings.model}")
    yield Text(_method(findings), style="dim")
    yield saturation_table(findings.trained.gates, findings.untrained.gates)
    for layer, gates in groupby(findings.trained.gates, key=lambda gate: gate.layer):
        yield Text(f"layer {layer}: one dot per neuron", style="bold")
        yield from scatters(list(gates), view.width)
    yield Text(_reading(findings.trained.gates), style="dim")
    if findings.trained.timescales:
        yield Text("")
        yield from _timescales(findings, view)


def _method(findings: GateFindings) -> str:
    return (
        f"{findings.chars:,} characters of {findings.documents:,} documents; "
        f"outputs as defined to {findings.float_error:.0e}"
    )


def _reading(gates: Sequence[Gate]) -> str:
    tanh = [gate for gate in gates if gate.bounds[0] < 0]
    special = f" ({tanh[0].name}, a tanh: below −.9, above .9)" if tanh else ""
    return (
        f"shut: share of characters at which a neuron's gate is below .1, open: above .9{special}; "
        "in parentheses the same before training; > ½: neurons that are so most of the time; "
        "a dot on the line ╲ is saturated at every character, one in the corner 0 never"
    )


def saturation_table(gates: Sequence[Gate], untrained: Sequence[Gate]) -> Table:
    """Return one line per layer and gate."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    heads = (">mean", ">shut", ">open", ">> ½ shut", ">> ½ open", "most shut", "most open")
    for head in ("gate", *heads):
        right = head.startswith(">")
        table.add_column(head.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    for gate, before in zip(gates, untrained, strict=True):
        table.add_row(f"L{gate.layer}.{gate.name}", *_saturation(gate, before))
    return table


def _saturation(gate: Gate, before: Gate) -> Iterator[Text]:
    yield Text(_number(float(gate.mean.mean())))
    for side in ("left", "right"):
        now, then = (float(getattr(g, side).mean()) for g in (gate, before))
        yield Text.assemble(unsigned(now), (f" ({unsigned(then)})", "dim"))
    for side in ("left", "right"):
        yield Text(f"{100 * gate.mostly(side):.0f} %")
    for side, style in (("left", "red"), ("right", "blue")):
        (name, share), *_ = gate.extremes(side, 1)
        yield Text.assemble((name, style), f" {unsigned(share)}")


def scatters(gates: Sequence[Gate], width: int) -> Iterator[Group]:
    """Yield rows of scatters, as many side by side as fit, at most all gates of a layer."""
    fitting = max(1, min(len(gates), (width + GAP) // (AXIS + 14 + GAP)))
    side = max(4, min(MAX_SIDE, (width + GAP) // fitting - AXIS - GAP) // 2 * 2)
    for start in range(0, len(gates), fitting):
        panels = [_scatter(gate, side) for gate in gates[start : start + fitting]]
        lines = [Text(" " * GAP).join(line) for line in zip(*panels, strict=True)]
        yield Group(*(_unwrapped(line) for line in lines))


def _scatter(gate: Gate, side: int) -> list[Text]:
    """Return the lines of one panel, each ``side`` and the axis wide."""
    width = side + AXIS
    title = f"{gate.name}  {MEANING.get(gate.name, '')}"
    if len(title) > side:
        title = title.partition(":")[0]
    lines = [Text.assemble(" " * AXIS, (gate.name, "bold"), title[len(gate.name) :])]
    lines += [Text.assemble((label, "dim"), row) for label, row in _labelled(_plot(gate, side))]
    lines.append(Text("  └┬" + "─" * (side - 2) + "┬", style="dim"))
    lines.append(Text("   0" + "open".center(side - 2) + "1", style="dim"))
    for line in lines:
        line.truncate(width, pad=True)
    return lines


def _labelled(rows: list[Text]) -> Iterator[tuple[str, Text]]:
    """Yield every row of a plot with what stands before it: 1, the word ``shut`` downwards, 0."""
    word = "shut".center(len(rows) - 2) if len(rows) > 5 else " " * (len(rows) - 2)
    for number, row in enumerate(rows):
        edge = {0: "1", len(rows) - 1: "0"}.get(number)
        yield f" {edge}┤" if edge else f" {word[number - 1]}│", row


def _plot(gate: Gate, side: int) -> list[Text]:
    """Return the dots, red where a gate is shut most of the time and blue where it is open."""
    height = side // 2
    dots = Dots(side, height)
    dots.put(gate.right, gate.left)
    result = []
    for y, row in enumerate(dots.rows()):
        line = Text()
        for x, cell in enumerate(row):
            line.append(*_cell(cell, x / (side - 1), 1 - y / max(1, height - 1), x == 2 * y))
        result.append(line)
    return result


def _cell(dots: str, right: float, left: float, diagonal: bool) -> tuple[str, str]:
    if dots == " ":
        return ("╲", "dim") if diagonal else (" ", "")
    return dots, "red" if left > 0.5 else "blue" if right > 0.5 else ""


def _timescales(findings: GateFindings, view: View) -> Iterator[RenderableType]:
    own, before = findings.trained.timescales, findings.untrained.timescales
    yield Text.assemble(
        ("timescales", "bold"),
        f"   −1 / mean(ln {own[0].gate}): characters until what is held has faded to 1/e",
    )
    yield timescale_table(own, before)
    for timescale, twin in zip(own, before, strict=True):
        yield Text(f"layer {timescale.layer}: neurons by timescale in characters", style="bold")
        yield histogram(timescale, twin, view.width)
    kind = {"f": "c", "z": "h"}[own[-1].gate]
    name = max((t.longest(1)[0] for t in own), key=lambda pair: pair[1])[0].replace(own[-1].gate, kind)
    yield Text(f"\nlook closer: charrnn inspect neurons {quote(findings.run)} --neuron {name}")


def timescale_table(timescales: Sequence[Timescale], untrained: Sequence[Timescale]) -> Table:
    """Return quantiles over the neurons of each layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("gate", ">5 %", ">25 %", ">median", ">75 %", ">95 %", ">by bias", "longest"):
        right = head.startswith(">")
        table.add_column(head.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    for timescale, before in zip(timescales, untrained, strict=True):
        cells = [Text(characters(tau)) for tau in timescale.quantiles()]
        cells[2].append(f" ({characters(before.quantiles()[2])})", "dim")
        ((longest, tau),) = timescale.longest(1)
        by_bias = characters(float(np.median(timescale.static)))
        table.add_row(f"L{timescale.layer}.{timescale.gate}", *cells, by_bias, f"{longest} {characters(tau)}")
    return table


def histogram(timescale: Timescale, untrained: Timescale, width: int) -> Group:
    """Return how many neurons have which timescale, on a logarithmic axis, and the same before training."""
    last = _last_decade((timescale, untrained))
    per_decade = max(1, min(MAX_BINS, (width - 16) // (last - FIRST_DECADE)))
    edges = np.linspace(FIRST_DECADE, last, (last - FIRST_DECADE) * per_decade + 1)
    counts, before = (
        np.histogram(np.clip(np.log10(t.tau), FIRST_DECADE, last), edges)[0] for t in (timescale, untrained)
    )
    top = max(1, counts.max())
    bars = [_bar_row(counts, top, level) for level in reversed(range(HISTOGRAM_ROWS))]
    lines = [Text.assemble((f"{label:>9} ", "dim"), bar) for label, bar in zip(_axis(top), bars, strict=True)]
    lines.append(Text.assemble(("          " + _ticks(last, per_decade), "dim")))
    small = "".join(BLOCKS[round(7 * count / max(1, before.max()))] if count else " " for count in before)
    lines.append(Text.assemble(("untrained ", "dim"), (small, "dim")))
    return Group(*(_unwrapped(line) for line in lines))


def _last_decade(timescales: Sequence[Timescale]) -> int:
    longest = max(float(timescale.tau.max()) for timescale in timescales)
    return max(1, int(np.ceil(np.log10(min(longest, MAX_TAU)) - 1e-9)))


def _axis(top: int) -> list[str]:
    return [f"{top:,}", *[""] * (HISTOGRAM_ROWS - 1)]


def _bar_row(counts: np.ndarray, top: int, level: int) -> str:
    """Return one row of vertical bars; a single neuron is never invisible."""
    eighths = np.ceil(counts / top * HISTOGRAM_ROWS * 8 - 1e-9).astype(int) - 8 * level
    return "".join(BLOCKS[min(8, n) - 1] if n > 0 else " " for n in eighths)


def _ticks(last: int, per_decade: int) -> str:
    decades = range(FIRST_DECADE, last)
    labels = [f"{10.0**decade:,.{max(0, -decade)}f}".ljust(per_decade) for decade in decades]
    return "".join(labels) + f"{10**last:,}"


def characters(tau: float) -> str:
    """Return a timescale in characters, to about two digits."""
    if tau >= MAX_TAU * (1 - 1e-9):
        return "≥1,000,000"
    return f"{tau:.1f}" if tau < 10 else f"{tau:,.0f}"


def _number(value: float) -> str:
    return ("−" if value < 0 else "") + unsigned(abs(value))


def _unwrapped(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ignore"
    return line
