"""A roofline as one SVG file: what was reached, below what the machine can multiply and read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from charrnn.bench.roofline import Point, Roofline
from charrnn.errors import CharrnnError

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 64, 580, 64, 420
LINE, LEAST_HEIGHT = 16, 470
STYLE = """<style>
text { font: 12px sans-serif; fill: #222 } .head { font-weight: bold } .number { font-size: 9px; fill: #fff }
.paper { fill: #fff } .grid { stroke: #ddd } .roof { stroke: #222; stroke-width: 2; fill: none }
.a { fill: #1f5fa8 } .b { fill: #b3560f }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .paper { fill: #161616 } .grid { stroke: #3a3a3a } .roof { stroke: #ddd }
.a { fill: #3f7fd0 } .b { fill: #c9691a } .number { fill: #fff }
}
</style>"""


def save_roofline(path: str | Path, roofline: Roofline, title: str) -> None:
    """Write the picture.

    Raises:
        CharrnnError: The file cannot be written.
    """
    try:
        Path(path).write_text(roofline_svg(roofline, title), encoding="utf-8")
    except OSError as error:
        raise CharrnnError(f"cannot write `{path}`: {error.strerror}") from None


def roofline_svg(roofline: Roofline, title: str) -> str:
    """Return the picture, readable on light and dark pages, without any outside reference."""
    axes = _Axes(roofline)
    height = max(LEAST_HEIGHT, TOP + LINE * (len(roofline.points) + 3))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        STYLE,
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text class="head" x="{LEFT}" y="22">{escape(title)}</text>',
        *axes.draw(),
        *_roofs(roofline, axes),
        *_points(roofline.points, axes),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axes:
    """Logarithmic axes: operations per byte to the right, GF/s upwards, whole decades of both."""

    def __init__(self, roofline: Roofline) -> None:
        ridges = [roofline.peak_gflops / bandwidth for bandwidth in roofline.bandwidths.values()]
        self.x = _decades([*(p.intensity for p in roofline.points), *ridges])
        self.y = _decades([*(p.gflops for p in roofline.points), roofline.peak_gflops])

    def place(self, intensity: float, gflops: float) -> tuple[float, float]:
        """Return where a point is drawn."""
        across, up = (
            (math.log10(value) - low) / (high - low)
            for value, (low, high) in ((intensity, self.x), (gflops, self.y))
        )
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    def draw(self) -> Iterator[str]:
        """Yield the grid and its numbers."""
        for power in range(self.x[0], self.x[1] + 1):
            x, _ = self.place(10**power, 10 ** self.y[0])
            yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}"/>'
            yield f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{10**power:g}</text>'
        for power in range(self.y[0], self.y[1] + 1):
            _, y = self.place(10 ** self.x[0], 10**power)
            yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>'
        middle = (LEFT + RIGHT) / 2
        yield f'<text x="{middle}" y="{BOTTOM + 38}" text-anchor="middle">operations per byte</text>'
        yield f'<text x="{LEFT - 8}" y="{TOP - 14}" text-anchor="end">GF/s</text>'


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _roofs(roofline: Roofline, axes: _Axes) -> Iterator[str]:
    peak, right = roofline.peak_gflops, 10 ** axes.x[1]
    fastest = max(roofline.bandwidths.values())
    yield _roof(axes, (peak / fastest, peak), (right, peak))
    x, y = axes.place(right, peak)
    yield f'<text x="{x - 4:.1f}" y="{y - 6:.1f}" text-anchor="end">matmul {peak:.0f} GF/s</text>'
    for name, bandwidth in _distinct(roofline).items():
        begin = max(10 ** axes.x[0], 10 ** axes.y[0] / bandwidth)
        yield _roof(axes, (begin, begin * bandwidth), (peak / bandwidth, peak))
        x, y = axes.place(begin, begin * bandwidth)
        slope = math.degrees(math.atan2(*_slope(axes)))
        yield (
            f'<text transform="translate({x + 30:.1f} {y - 30 * math.tan(math.radians(slope)) - 5:.1f}) '
            f'rotate({-slope:.1f})">{escape(name)} {bandwidth:.0f} GB/s</text>'
        )


def _distinct(roofline: Roofline) -> dict[str, float]:
    """Return the slowest and the fastest of what was read."""
    by_speed = sorted(roofline.bandwidths.items(), key=lambda item: item[1])
    return dict([by_speed[0], by_speed[-1]])


def _slope(axes: _Axes) -> tuple[float, float]:
    """Return how far a decade goes up and to the right."""
    return (BOTTOM - TOP) / (axes.y[1] - axes.y[0]), (RIGHT - LEFT) / (axes.x[1] - axes.x[0])


def _roof(axes: _Axes, begin: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = axes.place(*begin), axes.place(*end)
    return f'<line class="roof" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _points(points: Sequence[Point], axes: _Axes) -> Iterator[str]:
    groups = list(dict.fromkeys(point.group for point in points))
    for number, point in enumerate(points, start=1):
        kind = "ab"[groups.index(point.group) % 2]
        yield _mark(kind, number, *axes.place(point.intensity, point.gflops))
        y = TOP + LINE * number
        yield _mark(kind, number, RIGHT + 24, y - 4)
        ratio = "" if point.ratio is None else f", {point.ratio:.3g}× torch"
        words = f"{point.label}: {point.gflops:.3g} GF/s{ratio}"
        yield f'<text x="{RIGHT + 38}" y="{y}">{escape(words)}</text>'


def _mark(kind: str, number: int, x: float, y: float) -> str:
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
        f'<text class="number" x="{x:.1f}" y="{y + 3:.1f}" text-anchor="middle">{number}</text>'
    )
