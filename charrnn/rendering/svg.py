"""What a terminal would show, as one SVG file without any outside reference."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from charrnn.errors import CharrnnError
from charrnn.rendering.console import SafeConsole

_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="#ffffff" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_INK = [
    (20, 20, 20),
    (178, 24, 43),
    (30, 130, 60),
    (160, 110, 0),
    (33, 102, 172),
    (120, 60, 140),
    (0, 120, 130),
]
_INK += [(90, 90, 90)]
_LIGHT = TerminalTheme((255, 255, 255), (20, 20, 20), _INK)


def save_svg(path: str | Path, draw: Callable[[Console], None], width: int) -> None:
    """Write what ``draw`` prints on a light terminal of ``width`` columns.

    Raises:
        CharrnnError: The file cannot be written.
    """
    console = SafeConsole(
        record=True,
        width=width,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    draw(console)
    picture = console.export_svg(title="", theme=_LIGHT, code_format=_FORMAT, unique_id="charrnn")
    try:
        Path(path).write_text(picture, encoding="utf-8")
    except OSError as error:
        raise CharrnnError(f"cannot write `{path}`: {error.strerror}") from None
