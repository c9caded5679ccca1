"""Small charts as SVG, written by hand so that nothing needs to be installed for them."""

from __future__ import annotations

from collections.abc import Iterable

Point = tuple[float, float]


def page(width: int, height: int, parts: Iterable[str]) -> str:
    """Return a white picture with its parts, one a line."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
            ' font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def label(x: float, y: float, text: str, *, anchor: str = "", fill: str = "", bold: bool = False) -> str:
    """Return a text; ``anchor`` is ``middle`` or ``end``."""
    words = f' text-anchor="{anchor}"' if anchor else ""
    words += f' fill="{fill}"' if fill else ""
    words += ' font-weight="bold"' if bold else ""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.0f}" y="{y:.0f}"{words}>{text}</text>'


def line(points: Iterable[Point], colour: str) -> list[str]:
    """Return a line through points, and a dot on each."""
    at = [f"{x:.0f},{y:.1f}" for x, y in points]
    dots = ['<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*p.split(","), colour) for p in at]
    return [f'<polyline points="{" ".join(at)}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]
