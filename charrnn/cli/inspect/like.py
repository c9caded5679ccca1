"""``charrnn inspect neurons --like``: search by example."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from charrnn.cli.console import print_json, stderr_console


def search(
    model: Path,
    example: str,
    texts: Sequence[str],
    encoding: str | None,
    hypotheses: Sequence[str],
    max_chars: int | None,
    svg: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Find where else the neurons are on that are on over the example, and print or save it."""
    from charrnn.api import load
    from charrnn.rendering.card import MAX_WIDTH
    from charrnn.rendering.examples import print_examples
    from charrnn.rendering.svg import save_svg

    loaded = load(model, device=device)
    console = stderr_console()
    with console.status("reading") if console.is_terminal else nullcontext() as status:
        progress = status.update if status else lambda _: None
        which = {"hypotheses": hypotheses, "max_chars": max_chars}
        subject = loaded.subject(texts=texts, encoding=encoding, **which)
        found = loaded.inspect_like(example, subject=subject, progress=progress)
    if svg is not None:
        save_svg(svg, lambda console: print_examples(found, console), MAX_WIDTH)
    if as_json:
        print_json(found.to_json())
    else:
        print_examples(found)
