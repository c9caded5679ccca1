"""The colours of the page: 33 steps from -1 to +1, in colour and in grey, on light and on dark paper."""

from __future__ import annotations

import numpy as np

from charrnn.rendering.paint import value_style

STEPS = 16
"""Steps on each side of zero; zero itself is not painted."""

Stops = tuple[tuple[int, int, int], ...]

# On dark paper the weak values must be the dark ones; the hues are those of RdBu.
_DARK_RED: Stops = ((58, 35, 37), (110, 44, 44), (166, 62, 56), (214, 96, 77), (250, 158, 132))
_DARK_BLUE: Stops = ((28, 44, 62), (30, 72, 112), (38, 108, 166), (78, 153, 212), (146, 202, 242))
_LIGHT_GREY: Stops = ((232, 232, 230), (196, 196, 194), (150, 150, 148), (102, 102, 100), (48, 48, 46))
_DARK_GREY: Stops = ((44, 46, 50), (76, 79, 84), (116, 119, 124), (164, 167, 171), (222, 223, 224))
_CONTRAST_EVEN = 0.179  # the luminance on which black and white are equally readable (WCAG 2)


def palettes() -> dict[str, list[list[str] | None]]:
    """Return ``[paper, ink]`` for every step from -16 to 16, None at zero, by the name of the palette."""
    return {
        "colour-light": [_terminal(step) for step in range(-STEPS, STEPS + 1)],
        "colour-dark": _both(_DARK_RED, _DARK_BLUE),
        "grey-light": _both(_LIGHT_GREY, _LIGHT_GREY),
        "grey-dark": _both(_DARK_GREY, _DARK_GREY),
    }


def _terminal(step: int) -> list[str] | None:
    """Return what a terminal would show, so that pictures from both agree."""
    style = value_style(step / STEPS)
    return style and [color.get_truecolor().hex for color in (style.bgcolor, style.color)]


def _both(negative: Stops, positive: Stops) -> list[list[str] | None]:
    shades = [_shades(stops) for stops in (negative, positive)]
    return [*shades[0][::-1], None, *shades[1]]


def _shades(stops: Stops) -> list[list[str]]:
    at, wanted = np.linspace(0, 1, len(stops)), np.linspace(0, 1, STEPS)
    channels = [np.rint(np.interp(wanted, at, channel)) for channel in zip(*stops, strict=True)]
    return [
        [_hex(rgb), "#000000" if _luminance(rgb) > _CONTRAST_EVEN else "#ffffff"]
        for rgb in zip(*channels, strict=True)
    ]


def _hex(rgb: tuple[float, ...]) -> str:
    return "#" + "".join(f"{int(channel):02x}" for channel in rgb)


def _luminance(rgb: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
