"""Text painted by one number per character, in colour or, without it, above a row of blocks."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.style import Style
from rich.text import Text

from charrnn.rendering.text import BLOCKS, visible

# ColorBrewer RdBu (told apart by the colour-blind) from pale to dark, without its white middle: zero is
# unpainted, and the first step away from it must already show its sign on a white and a black terminal.
_REDS = ((253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31))
_BLUES = ((209, 229, 240), (146, 197, 222), (67, 147, 195), (33, 102, 172), (5, 48, 97))
# The same by hand: the nearest of 256 or 16 colours to a pale red or blue would be grey or white.
_REDS_256, _BLUES_256 = (224, 216, 167, 124, 52), (153, 110, 68, 25, 17)
_RED_16, _BLUE_16, _BRIGHT_WHITE_16 = 1, 4, 15
_STEPS_EACH_SIDE = {"truecolor": 16, "256": 5, "standard": 1, "windows": 1}
_CONTRAST_EVEN = 0.179  # the luminance on which black and white are equally readable (WCAG 2)

_JOINER = "\u200d"
_NO_BASE = "◌"
_PICTURES = {"\n": "⏎", "\t": "→"}
_LEGEND_VALUES = (-1.0, -0.6, -0.25, 0.0, 0.25, 0.6, 1.0)


def paint(
    text: str,
    values: np.ndarray,
    *,
    width: int,
    plain: bool,
    marks: np.ndarray | None = None,
    color_system: str | None = "truecolor",
) -> list[Text]:
    """Return the rows of a text painted by one value per character.

    Newline is drawn ``⏎`` and ends the row, tab ``→``, carriage return ``␍``; other control characters as
    ``visible`` shows them. What a terminal draws as one (a letter with its combining marks, an emoji
    sequence, a flag) is one piece: it is never folded apart and shows the value of its first code point.
    A mark with nothing to stand on gets ``◌``, a joiner that joins no emoji is drawn as its number.

    Print the rows as a ``Group``: rich forgets that a text must not be wrapped when it is printed bare.

    Args:
        text: Any text.
        values: One per code point, (N,); red at -1, unpainted at 0, blue at +1, clipped; NaN is unpainted.
        width: Terminal cells in a row, at least 2.
        plain: Carry the value by a row of blocks under each row of text instead of colour, a space for NaN.
        marks: Truth per code point, (N,), bracketed in a further row under each row that has any.
        color_system: As ``rich.console.Console.color_system``; the steps are 33, 11 or 3.

    Raises:
        ValueError: ``values`` or ``marks`` do not fit ``text``, or ``width`` is below 2.
    """
    values = _one_per_character(text, values, float)
    marks = None if marks is None else _one_per_character(text, marks, bool)
    if width < 2:
        raise ValueError(f"width must be at least 2, not {width}")
    glyphs = _glyphs(text)
    brackets = None if marks is None else _brackets(glyphs, marks)
    rows = []
    for start, stop in _fold(glyphs, width):
        row = glyphs[start:stop]
        rows.append(_line(glyph.text for glyph in row) if plain else _painted(row, values, color_system))
        if plain:
            rows.append(_line(_block(values[glyph.index]) * glyph.cells for glyph in row))
        if brackets is not None and (under := "".join(brackets[start:stop]).rstrip()):
            rows.append(_line(under))
    return rows


def legend(plain: bool, color_system: str | None = "truecolor") -> Text:
    """Return the scale in one line: what ``paint`` does to values from -1 to +1."""
    if plain:
        return _line(f"−1 {BLOCKS} +1")
    line = _line("−1 ")
    for value, shade in zip(_LEGEND_VALUES, "▓▒░ ░▒▓", strict=True):
        style = value_style(value, color_system)
        if style is None:
            line.append("  ")
        else:
            # Ink in the colour of the paper: a solid patch on screen, still a ramp where the text is copied.
            line.append(shade * 2, Style(color=style.bgcolor, bgcolor=style.bgcolor))
    line.append(" +1   ")
    line.append("red −", value_style(-0.6, color_system))
    line.append("  ")
    line.append("blue +", value_style(0.6, color_system))
    return line


def value_style(value: float, color_system: str | None = "truecolor") -> Style | None:
    """Return the background of a value in [-1, 1] and an ink readable on it, or None for zero and NaN."""
    if math.isnan(value) or color_system is None:
        return None
    step = round(max(-1.0, min(1.0, value)) * _STEPS_EACH_SIDE[color_system])
    return _step_style(step, color_system) if step else None


def is_plain(console: Console) -> bool:
    """Return whether a console shows no colour, so that ``paint`` has to use blocks."""
    return not console.is_terminal or console.no_color or console.color_system is None


@lru_cache(maxsize=64)
def _step_style(step: int, color_system: str) -> Style:
    index = abs(step) - 1
    if color_system in ("standard", "windows"):
        paper = Color.from_ansi(_RED_16 if step < 0 else _BLUE_16)
        return Style(color=Color.from_ansi(_BRIGHT_WHITE_16), bgcolor=paper)
    if color_system == "256":
        paper = Color.from_ansi((_REDS_256 if step < 0 else _BLUES_256)[index])
        black, white = Color.from_ansi(16), Color.from_ansi(231)
    else:
        paper = _between(_REDS if step < 0 else _BLUES, index / (_STEPS_EACH_SIDE["truecolor"] - 1))
        black, white = Color.from_rgb(0, 0, 0), Color.from_rgb(255, 255, 255)
    bright = _luminance(paper.get_truecolor()) > _CONTRAST_EVEN
    return Style(color=black if bright else white, bgcolor=paper)


def _between(stops: Sequence[tuple[int, int, int]], position: float) -> Color:
    """Return the colour at a position in [0, 1] along evenly spaced stops."""
    at = np.linspace(0.0, 1.0, len(stops))
    return Color.from_rgb(
        *(round(float(np.interp(position, at, channel))) for channel in zip(*stops, strict=True))
    )


def _luminance(color: ColorTriplet) -> float:
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color.normalized)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@dataclass(slots=True)
class _Glyph:
    """What is drawn as one piece, and the code point whose value it shows."""

    text: str
    index: int
    ends_row: bool
    cells: int = 0


def _glyphs(text: str) -> list[_Glyph]:
    glyphs: list[_Glyph] = []
    for index, char in enumerate(text):
        last = glyphs[-1] if glyphs and not glyphs[-1].ends_row else None
        loose = char == _JOINER and not (last and _joins(text[last.index], text[index + 1 : index + 2]))
        drawn = "\\u200d" if loose else _PICTURES.get(char) or visible(char)
        if last and drawn == char and _continues(last.text, char):
            last.text += char
        elif cell_len(drawn) == 0:
            glyphs.append(_Glyph(_NO_BASE + drawn, index, False))
        else:
            # The digits of an escape are glyphs of their own, so that it fits into any width.
            glyphs.extend(_Glyph(part, index, char == "\n") for part in drawn)
    for glyph in glyphs:
        glyph.cells = cell_len(glyph.text)
    return glyphs


def _continues(glyph: str, char: str) -> bool:
    if _is_flag_letter(char):
        return len(glyph) == 1 and _is_flag_letter(glyph)
    return glyph[-1] == _JOINER or cell_len(char) == 0


def _joins(base: str, following: str) -> bool:
    """Return whether a joiner makes one emoji of two.

    Between letters (Indic scripts) terminals draw both and rich counts one, so that rows would not line up.
    """
    return (
        unicodedata.category(base) == "So"
        and bool(following)
        and unicodedata.category(following) in ("So", "Sm")
    )


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _fold(glyphs: Sequence[_Glyph], width: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last glyph (exclusive) of each row."""
    start = used = 0
    for position, glyph in enumerate(glyphs):
        if used and used + glyph.cells > width:
            yield start, position
            start, used = position, 0
        used += glyph.cells
        if glyph.ends_row:
            yield start, position + 1
            start, used = position + 1, 0
    if start < len(glyphs):
        yield start, len(glyphs)


def _painted(row: Sequence[_Glyph], values: np.ndarray, color_system: str | None) -> Text:
    line = _line("")
    for style, run in groupby(row, key=lambda glyph: value_style(float(values[glyph.index]), color_system)):
        line.append("".join(glyph.text for glyph in run), style)
    return line


def _block(value: float) -> str:
    if math.isnan(value):
        return " "
    return BLOCKS[math.floor((max(-1.0, min(1.0, value)) + 1) / 2 * (len(BLOCKS) - 1) + 0.5)]


def _brackets(glyphs: Sequence[_Glyph], marks: np.ndarray) -> list[str]:
    """Return what stands under each glyph; a run that is folded stays open at the fold."""
    here = [bool(marks[glyph.index]) for glyph in glyphs]
    result = []
    for glyph, before, marked, after in zip(glyphs, [False, *here], here, [*here[1:], False], strict=False):
        opens, closes = not before, not after
        if not marked:
            result.append(" " * glyph.cells)
        elif opens and closes and glyph.cells == 1:
            result.append("╵")
        else:
            middle = "─" * (glyph.cells - opens - closes)
            result.append("└" * opens + middle + "┘" * closes)
    return result


def _line(parts: Iterable[str]) -> Text:
    return Text("".join(parts), no_wrap=True, overflow="ignore")


def _one_per_character(text: str, array: np.ndarray, dtype: type) -> np.ndarray:
    array = np.asarray(array, dtype=dtype)
    if array.shape != (len(text),):
        raise ValueError(
            f"{len(text)} characters need an array of that length, not one of shape {array.shape}"
        )
    return array
