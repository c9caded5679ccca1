"""A console that a text cannot speak to: whatever a terminal would obey is shown instead."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from charrnn.rendering.text import visible


class SafeConsole(Console):
    """Rich's console, whose own colours and movements are the only escapes that come out of it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of something to look at, all text in them visible."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            safe = control or text == "\n" or text.isprintable()
            yield segment if safe else Segment(visible(text), style)
