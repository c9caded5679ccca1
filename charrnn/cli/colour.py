"""``charrnn sample --colour``: text painted while it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from charrnn.cli.console import stderr_console, write_out

Valued = tuple[str, list[float]]
"""Some characters, and one number for each."""


def speak_painted(
    streams: Iterable[Iterator[Valued]], prompt: str, colour: str, write: Callable[[str], None], to_file: bool
) -> None:
    """Write texts painted, each after the unpainted prompt; the legend goes to stderr.

    Args:
        streams: The texts.
        prompt: What they continue.
        colour: ``surprisal`` or the name of a neuron.
        write: Writes text that is not painted in colour.
        to_file: Whether ``write`` writes to a file, which gets no colour.
    """
    from charrnn.rendering.card import MAX_WIDTH, View
    from charrnn.rendering.colour import Painter, colour_legend
    from charrnn.rendering.tables import stdout_console

    view = View(MAX_WIDTH, True, None) if to_file else View.of(stdout_console())
    write = write if to_file else partial(write_out, painted=True)
    stderr_console().print(colour_legend(colour, view))
    for index, stream in enumerate(streams):
        write("\n---\n" if index else "")
        painter = Painter(view, colour)
        write(painter.add(prompt, [math.nan] * len(prompt)))
        for text, values in stream:
            write(painter.add(text, values))
        write(painter.end())


def noting(stream: Iterator[Valued], values: list[float]) -> Iterator[str]:
    """Yield the text of a stream, and keep its values."""
    for text, own in stream:
        values.extend(own)
        yield text
