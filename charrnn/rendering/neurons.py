"""The leader board of hypotheses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from shlex import quote

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from charrnn.inspection.findings import NAMED, Findings, Row
from charrnn.rendering.card import View, card_parts, samples
from charrnn.rendering.figures import change, signed, unsigned
from charrnn.rendering.paint import legend
from charrnn.rendering.tables import stdout_console
from charrnn.rendering.text import one_line

FOUND = ("drives", "used", "tracks", "redundant", "found")
HEADS = ("hypothesis", "neuron", ">r", ">AP (base)", ">×char", ">twin", "Δ on / off", "verdict")
LEAVE_OUT = (">AP (base)", ">×char", ">twin", "Δ on / off")
"""Columns that are left out where the terminal is narrow, the first of them first."""
MARKS = {
    "drives": ("●", "green"),
    "used": ("●", "cyan"),
    "tracks": ("◐", "yellow"),
    "redundant": ("○", "yellow"),
    "found": ("◐", "yellow"),
    "no valid null": ("?", "yellow"),
    "char detector": ("·", "dim"),
    "untrained too": ("·", "dim"),
    "not found": ("·", "dim"),
}
SHRUNK = "*"
"""Before an r that differs from that on the half that chose."""
MEANING = {
    "drives": "used, and held while sampling it moves the hypothesis its way, more than 20 controls",
    "used": "tracks, and holding it hurts where the hypothesis is on, more than 20 matched controls",
    "tracks": "beats chance (q ≤ .05), the untrained twin (by .10) and the current character alone",
    "redundant": "tracks; not used alone, but as a group with the neurons that go with it",
    "found": "as tracks, for a hypothesis that looks ahead",
    "char detector": "less than half of r is left among equal current characters",
    "untrained too": "an untrained twin comes within .10",
    "not found": "swapped labels do as well, or the place in the text, or the halves differ in sign",
    "no valid null": "too little text to know what chance would give",
}


def print_findings(findings: Findings, console: Console | None = None) -> None:
    """Print the board, then the cards, then how to look closer."""
    console = console or stdout_console()
    view = View.of(console)
    for part in _parts(findings, view):
        console.print(part, width=view.width)


def _parts(findings: Findings, view: View) -> Iterator[RenderableType]:
    yield Text.assemble((one_line(findings.run), "bold"), f" · {findings.model}")
    yield Text(_method(findings), style="dim")
    if findings.from_training:
        yield Text(
            f"{findings.from_training:,} characters are from the training text, as little was held out",
            style="yellow",
        )
    if findings.asked is None:
        yield board([row for row in findings.rows if row.verdict != "not found"], view.width)
        lacking = [row for row in findings.rows if row.verdict == "not found"]
        if lacking:
            yield Text(f"not found, {len(lacking)} of {len(findings.rows)}: the best neuron, its r and q")
            yield candidates(lacking, view.width)
        yield Text(_footer(findings), style="dim")
    if not findings.cards:
        return
    yield legend(view.plain, view.color_system).append("   └─┘ where the hypothesis holds")
    for card in findings.cards:
        yield from card_parts(card, view, whole=findings.asked is not None)
        if findings.steer and card.row.steering is not None:
            yield from samples(card.row)
    if findings.asked is None:
        run, neuron = quote(findings.run), findings.cards[0].neuron
        yield Text(f"\nlook closer: charrnn inspect neurons {run} --neuron {neuron}")


def _method(findings: Findings) -> str:
    half = {"documents": "half of the documents", "blocks": "every other block"}[findings.split_by]
    approximate = ", approximate as they come from few documents" if findings.null_by == "blocks" else ""
    null = (
        "no valid null: fewer than 20 blocks of 1,000 characters report"
        if findings.null_units is None
        else f"null: 999 swaps of the labels of {findings.null_units} {findings.null_by}{approximate}"
    )
    return (
        f"{findings.neurons_tested:,} {findings.kind} neurons × {findings.hypotheses_tested} hypotheses × "
        f"{findings.chars:,} characters ({findings.text_kind}, {findings.documents} documents); "
        f"chosen on {half}, all figures from the others; {null}"
    )


def _footer(findings: Findings) -> str:
    named = {row.neuron for row in findings.rows if row.verdict in FOUND}
    free = findings.neurons_tested - len(named)
    seen = Counter(row.verdict for row in findings.rows)
    lines = [f"{MARKS[name][0]} {count} {name}: {MEANING[name]}" for name, count in seen.items()]
    shrunk = [row for row in findings.rows if row.shrinks and row.verdict != "not found"]
    if shrunk:
        chosen = ", ".join(f"{row.hypothesis} {signed(row.r_chosen)}" for row in shrunk)
        lines.append(f"{SHRUNK} r differs by more than .05 from that on the half that chose: {chosen}")
    others = f" or of {findings.twins - 1} others like it" if findings.twins > 1 else ""
    lines.append(f"twin: the best neuron of the same network before training{others}, chosen alike")
    lines.append(f"{free:,} of {findings.neurons_tested:,} neurons have no label")
    lines.append(f"values after reading the character; {_errors(findings)}")
    if any(row.cause for row in findings.rows):
        lines.append(_ablation(findings))
    return "\n".join(lines)


def _errors(findings: Findings) -> str:
    outputs = f"outputs after 50 characters as defined to {findings.float_error:.0e}"
    if not findings.state_error:  # not measured, or made by the definition itself
        return outputs
    gates = f"gates as defined to {findings.gate_error:.0e}, " if findings.gate_error else ""
    return f"{gates}c and h follow to {findings.state_error:.0e}, {outputs}"


def _ablation(findings: Findings) -> str:
    c = "c, before h = o tanh(c)"
    site = {"c": c, "raw": c}.get(findings.kind, findings.kind)
    controls = sorted(v for row in findings.rows if row.cause for v in row.cause.alone.controls_on)
    line = f"Δ bpc: {site} held at its {findings.ablation} at every step"
    if not controls:
        return line
    low, high = np.quantile(controls, (0.025, 0.975))
    return f"{line} · 95 % of the matched controls in {change(low)} … {change(high)}"


def board(rows: Sequence[Row], width: int) -> Table:
    """Return the table with one line per hypothesis, its best neuron, and all runners-up beneath.

    Where the terminal is too narrow for all columns, those that say least are left out.
    """
    lines = [line for row in rows for line in (_cells(row), *_runners_up(row))]
    kept = _fitting(lines, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in (HEADS[i] for i in kept):
        right = head.startswith(">")
        table.add_column(head.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    for cells in lines:
        table.add_row(*(cells[i] for i in kept))
    return table


def candidates(rows: Sequence[Row], width: int) -> Table:
    """Return hypotheses that were not found, each with its best neuron, r and q, side by side."""
    lines = [_candidate(row) for row in rows]
    need = sum(max(cell.cell_len for cell in column) + 2 for column in zip(*lines, strict=True))
    height = -(-len(lines) // max(1, (width + 2) // need))
    table = Table.grid(padding=(0, 2, 0, 0))
    for number in range(0, len(lines), height):
        for place in range(len(lines[number])):
            table.add_column(justify="left" if place < 2 else "right", no_wrap=True)
    for first in range(height):
        table.add_row(*(cell for line in lines[first::height] for cell in line))
    return table


def _candidate(row: Row) -> tuple[Text, ...]:
    r = "–" if row.r is None else signed(row.r)
    q = "–" if row.q is None else unsigned(row.q)
    return tuple(Text(text, style="dim") for text in (row.hypothesis, row.neuron or "–", r, q))


def _runners_up(row: Row) -> Iterator[tuple[Text, ...]]:
    for name, r in row.runners_up:
        filled = (Text(), Text(name, style="dim"), Text(signed(r), style="dim"))
        yield filled + (Text(),) * (len(HEADS) - len(filled))


def _fitting(lines: Sequence[Sequence[Text]], width: int) -> list[int]:
    """Return the columns that fit, with a cell at either side of the table and two between columns."""
    need = [
        max(len(head.removeprefix(">")), *(line[i].cell_len for line in lines)) + 2
        for i, head in enumerate(HEADS)
    ]
    kept = list(range(len(HEADS)))
    for head in LEAVE_OUT:
        if sum(need[i] for i in kept) > width:
            kept.remove(HEADS.index(head))
    return kept


def _cells(row: Row) -> tuple[Text, ...]:
    mark, style = MARKS[row.verdict]
    named = row.verdict in NAMED
    sign = "blue" if (row.r or 0) > 0 else "red"
    precision = "" if row.ap is None else f"{unsigned(row.ap)} ({unsigned(row.prevalence)})"
    return (
        Text(row.hypothesis, style="" if named else "dim"),
        Text(row.neuron or "–", style=sign if named else "dim"),
        Text(_r(row), style=f"bold {sign}" if named else "dim"),
        Text(precision),
        Text("–" if row.r_within_char is None else signed(row.r_within_char)),
        Text("–" if row.r_untrained is None else signed(row.r_untrained)),
        _costs(row),
        Text.assemble((mark, style), " ", (row.verdict, "" if named else "dim")),
    )


def _r(row: Row) -> str:
    return "–" if row.r is None else f"{SHRUNK if row.shrinks else ''}{signed(row.r)}"


def _costs(row: Row) -> Text:
    if row.cause is None:
        return Text("–", style="dim")
    alone = row.cause.alone
    off = "n.a." if alone.off is None else change(alone.off)
    return Text.assemble(change(alone.on), (" / ", "dim"), off)
