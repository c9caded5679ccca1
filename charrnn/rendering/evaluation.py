"""The table of an evaluation."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from charrnn.evaluation import LN2, Evaluation
from charrnn.rendering.tables import table


def evaluation_table(result: Evaluation, run: str, text: str) -> RenderableType:
    """Return the model's loss among its baselines, the best first."""
    error = "" if result.stderr_bpc is None else f" ± {result.stderr_bpc:.3f}"
    lines = [(result.bpc, run, error)]
    lines += [(bpc, name, "") for name, bpc in result.baselines.items() if bpc is not None]
    rows = [
        (f"{'▸ ' if name is run else '  '}{name}", f"{bpc:.3f}{mark or '        '}", f"{bpc * LN2:.4f}")
        for bpc, name, mark in sorted(lines, key=lambda line: line[0])
    ]
    head = f"{text}: {result.chars:,} characters, context {result.context}, {result.bpb:.3f} bits per byte"
    return Group(Text(head), table(["", ">bits per char", ">nats per char"], rows))
