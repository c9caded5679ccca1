"""Text that is painted while it is made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from rich.console import COLOR_SYSTEMS
from rich.style import Style
from rich.text import Text

from charrnn.rendering.card import View
from charrnn.rendering.paint import legend, paint, value_style
from charrnn.rendering.text import BLOCKS, visible

SURPRISAL = "surprisal"
MAX_BITS = 8.0
"""Surprisal with the darkest colour or the highest block; one character in 256."""
_LEGEND_BITS = (0.0, 2.0, 4.0, 6.0, 8.0)


class Painter:
    """Turns text with a number per character into what a terminal or a file gets.

    Args:
        view: With colour, text comes out painted at once; without, line by line above rows of blocks.
        colour: ``surprisal`` or the name of a neuron.
    """

    def __init__(self, view: View, colour: str) -> None:
        self._view = view
        self._surprisal = colour == SURPRISAL
        self._text = ""
        self._values: list[float] = []

    def add(self, text: str, values: Sequence[float]) -> str:
        """Return what follows from further characters; NaN leaves one unpainted."""
        scaled = self._scaled(np.asarray(values, dtype=float))
        if not self._view.plain:
            return self._painted(text, scaled)
        out = ""
        for char, value in zip(text, scaled, strict=True):
            self._text += char
            self._values.append(float(value))
            if char == "\n" or len(self._text) >= self._view.width:
                out += self.end()
        return out

    def end(self) -> str:
        """Return the line that is not ended yet."""
        rows = paint(self._text, np.array(self._values), width=self._view.width, plain=True)
        self._text, self._values = "", []
        return "".join(f"{row.plain.rstrip()}\n" for row in rows)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Return numbers from -1 to 1: surprisal is red in colour, and fills the blocks without."""
        if not self._surprisal:
            return values
        return 2 * values / MAX_BITS - 1 if self._view.plain else -values / MAX_BITS

    def _painted(self, text: str, values: np.ndarray) -> str:
        system = self._view.color_system
        styled = [(char, value_style(float(v), system)) for char, v in zip(text, values, strict=True)]
        runs = groupby(styled, key=lambda pair: pair[1])
        return "".join(_rendered("".join(_drawn(c) for c, _ in run), style, system) for style, run in runs)


def _drawn(char: str) -> str:
    """Return a character as ``paint`` draws it, the end of a line with the line break behind it."""
    if char == "\n":
        return "⏎\n"
    return "→" if char == "\t" else visible(char)


def _rendered(text: str, style: Style | None, color_system: str | None) -> str:
    if style is None or color_system is None:
        return text
    # paint is closed before the end of a line, so that it never bleeds to the edge
    lines = text.split("\n")
    return "\n".join(style.render(line, color_system=COLOR_SYSTEMS[color_system]) for line in lines)


def colour_legend(colour: str, view: View) -> Text:
    """Return the scale in one line."""
    if colour != SURPRISAL:
        return legend(view.plain, view.color_system).append(f"   {colour} after reading the character")
    line = Text("", no_wrap=True, overflow="ignore")
    line.append(f"surprisal 0 {BLOCKS}" if view.plain else "surprisal 0 ")
    for bits in () if view.plain else _LEGEND_BITS:
        line.append("  ", value_style(-bits / MAX_BITS, view.color_system))
    return line.append(f" {MAX_BITS:g} bits or more")
