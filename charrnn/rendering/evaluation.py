"""The table of an evaluation."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from charrnn.evaluation import LN2, Evaluation
from charrnn.model.dynamic import SEGMENT
from charrnn.rendering.tables import table


def evaluation_table(result: Evaluation, run: str, text: str) -> RenderableType:
    """Return the model's loss among its baselines, the best first."""
    error = "" if result.stderr_bpc is None else f" ± {result.stderr_bpc:.3f}"
    lines = [(result.bpc, run, error)]
    if result.dynamic is not None:
        error = "" if result.dynamic.stderr_bpc is None else f" ± {result.dynamic.stderr_bpc:.3f}"
        lines.append((result.dynamic.bpc, f"{run}, dynamic", error))
    lines += [(bpc, name, "") for name, bpc in result.baselines.items() if bpc is not None]
    own = (run, f"{run}, dynamic")
    rows = [
        (f"{'▸ ' if name in own else '  '}{name}", f"{bpc:.3f}{mark or '        '}", f"{bpc * LN2:.4f}")
        for bpc, name, mark in sorted(lines, key=lambda line: line[0])
    ]
    head = f"{text}: {result.chars:,} characters, context {result.context}, {result.bpb:.3f} bits per byte"
    parts = [Text(head), table(["", ">bits per char", ">nats per char"], rows)]
    if result.dynamic is not None:
        parts.append(
            Text(
                f"dynamic: a copy that learns from each {SEGMENT} characters once they are scored, as "
                f"compressors do; rate {result.dynamic.rate:g}",
                style="dim",
            )
        )
    return Group(*parts)
