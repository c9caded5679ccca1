"""Text painted by what its characters cost a model, and the characters that surprised it most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from charrnn.rendering.card import View
from charrnn.rendering.colour import MAX_BITS, colour_legend
from charrnn.rendering.paint import legend, paint
from charrnn.rendering.tables import table
from charrnn.rendering.text import one_line
from charrnn.surprisal import Alternatives, Surprisal

SHOWN = 4_000
"""Characters that are painted."""
MOST = 8
"""Most surprising characters that are listed."""
BEFORE = 24
MAX_DIFFERENCE = 4.0
"""Bits of difference with the darkest colour."""


class _ForView:
    """Something that is drawn once the console is known."""

    def __init__(self, draw: Callable[[View], list[RenderableType]]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._draw(View.of(console))


def surprisal_painted(found: Surprisal) -> RenderableType:
    """Return the text painted by bits per character, and a list of the most surprising ones."""

    def draw(view: View) -> list[RenderableType]:
        scaled = 2 * found.bits / MAX_BITS - 1 if view.plain else -found.bits / MAX_BITS
        worst = np.argsort(-found.bits, kind="stable")[:MOST]
        rows = [_row(found, int(index)) for index in worst]
        surprises = table(["most surprising", ">bits", "expected instead"], rows)
        return [colour_legend("surprisal", view), *_rows(found.text, scaled, view), _more(found), surprises]

    return _ForView(draw)


def difference_painted(own: Surprisal, other: Surprisal, name: str, other_name: str) -> RenderableType:
    """Return the text painted by how much less its characters cost one run than another."""

    def draw(view: View) -> list[RenderableType]:
        gain = other.bits - own.bits
        line = legend(view.plain, view.color_system)
        line.append(f"   +1: {MAX_DIFFERENCE:g} bits or more cheaper for {name}, −1: for {other_name}")
        apart = np.argsort(-np.abs(gain), kind="stable")[:MOST]
        rows = [
            (_place(own.text, int(i)), f"{own.bits[i]:.2f}", f"{other.bits[i]:.2f}", f"{-gain[i]:+.2f}")
            for i in apart
        ]
        most = table(["most different", f">{name}", f">{other_name}", ">difference in bits"], rows)
        return [line, *_rows(own.text, gain / MAX_DIFFERENCE, view), _more(own), most]

    return _ForView(draw)


def _rows(text: str, scaled: np.ndarray, view: View) -> list[RenderableType]:
    rows = paint(
        text[:SHOWN], scaled[:SHOWN], width=view.width, plain=view.plain, color_system=view.color_system
    )
    return list(rows)


def _more(found: Surprisal) -> RenderableType:
    rest = len(found.text) - SHOWN
    return Text(f"… and {rest:,} characters more (`--json` has them)" if rest > 0 else "", style="dim")


def _row(found: Surprisal, index: int) -> tuple[str, str, str]:
    return _place(found.text, index), f"{found.bits[index]:.2f}", _expected(found.expected[index])


def _place(text: str, index: int) -> str:
    return f"{one_line(text[max(0, index - BEFORE) : index])}[{one_line(text[index])}]"


def _expected(alternatives: Alternatives) -> str:
    return "  ".join(
        f"{'␣' if name == ' ' else one_line(name)} {100 * share:.0f} %" for name, share in alternatives
    )
