"""Plain tables that read the same with and without colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from charrnn.rendering.console import SafeConsole
from charrnn.rendering.text import one_line


def stdout_console(width: int | None = None) -> Console:
    """Return a console for results; pipes get plain text, at least 100 columns wide."""
    console = SafeConsole(highlight=False, width=width)
    if width is None and not console.is_terminal:
        console = SafeConsole(highlight=False, width=max(100, console.width))
    return console


def print_stdout(*parts: RenderableType) -> None:
    """Print results to stdout."""
    console = stdout_console()
    for part in parts:
        console.print(part)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> RenderableType:
    """Return a table; a head that begins with ``>`` is aligned to the right."""
    if not rows and empty:
        return Text(empty)
    result = Table(box=box.SIMPLE_HEAD, show_header=any(heads), pad_edge=False)
    for head in heads:
        name = Text(one_line(head.removeprefix(">")))
        result.add_column(name, justify="right" if head.startswith(">") else "left")
    for row in rows:
        result.add_row(*(Text(one_line(str(cell))) for cell in row))
    return result
