"""What a search by example found, painted in its context."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from charrnn.inspection.examples import Examples, Match
from charrnn.rendering.card import View
from charrnn.rendering.paint import paint, value_style
from charrnn.rendering.tables import stdout_console
from charrnn.rendering.text import BLOCKS, one_line

SHOWN = 12
NAMED = 8
MARGIN = 4


def print_examples(examples: Examples, console: Console | None = None) -> None:
    """Print which neurons were searched for, what the matches have in common, and the matches."""
    console = console or stdout_console()
    view = View.of(console)
    for part in _parts(examples, view):
        console.print(part, width=view.width)


def _parts(examples: Examples, view: View) -> Iterator[RenderableType]:
    yield Text.assemble((one_line(examples.run), "bold"), f" · {examples.model}")
    where = one_line(examples.source or "") or "not in the text, so it was read by itself"
    yield Text.assemble("like ", (f"`{one_line(examples.example)}`", "bold"), f"   {where}")
    yield _neurons(examples)
    yield _overlap_line(examples)
    yield Text("")
    yield _legend(len(examples.neurons), view)
    for match in examples.matches[:SHOWN]:
        yield _head(match, len(examples.neurons))
        yield _painted(match, view)
    if len(examples.matches) > SHOWN:
        yield Text(f"{len(examples.matches) - SHOWN} more with --json", style="dim")


def _neurons(examples: Examples) -> Text:
    """Return how many neurons are on over the example, and the first of them."""
    count = len(examples.neurons)
    line = Text(f"{count} of {examples.neurons_searched:,} neurons are on over all of it ")
    line.append("(≥ .3 or ≤ −.3), not nearly everywhere: ")
    for name, sign in examples.neurons[:NAMED]:
        line.append(f"{'+' if sign > 0 else '−'}{name} ", "blue" if sign > 0 else "red")
    return line.append("…" if count > NAMED else "")


def _overlap_line(examples: Examples) -> Text:
    if not examples.matches:
        return Text(f"none of them is on anywhere else in {examples.chars:,} characters")
    total = f"of {len(examples.matches)} matches in {examples.chars:,} characters, "
    said = [f"{o.inside} end in {o.hypothesis} (base {100 * o.base:.0f} %)" for o in examples.overlaps]
    return Text(total + (", ".join(said) or "no hypothesis holds at more than chance gives"))


def _legend(count: int, view: View) -> Text:
    line = Text("", no_wrap=True, overflow="ignore")
    line.append(f"0 {BLOCKS}" if view.plain else "0 ")
    for share in () if view.plain else (0.0, 0.25, 0.5, 0.75, 1.0):
        line.append("  ", value_style(share, view.color_system))
    return line.append(f" {count} of them on   └─┘ where the shared ones stay on")


def _head(match: Match, count: int) -> Text:
    return Text.assemble(
        (f"{match.shared} of {count}", "bold"),
        (f" on over {match.length} characters, {match.union} with others   {one_line(match.source)}", "dim"),
    )


def _painted(match: Match, view: View) -> RenderableType:
    """Return the span in its context, as long as one row of the terminal allows."""
    width = view.width - MARGIN
    text = match.text.replace("\n", "⏎")
    begin = min(match.start, max(0, (match.start + match.stop - width) // 2))
    window = slice(begin, begin + width)
    marks = np.zeros(len(text), dtype=bool)
    marks[match.start : match.stop] = True
    values = 2 * match.values - 1 if view.plain else match.values
    rows = paint(
        text[window],
        values[window],
        width=width,
        plain=view.plain,
        marks=marks[window],
        color_system=view.color_system,
    )
    return Padding(Group(*rows), (0, 0, 0, MARGIN))
