"""The tables of an evaluation."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from charrnn.contexts import Contexts
from charrnn.evaluation import LN2, Difference, Evaluation
from charrnn.memorisation import Memorisation
from charrnn.model.dynamic import SEGMENT
from charrnn.rendering.tables import table
from charrnn.rendering.text import one_line

COPIES = 5
COPY_CHARS = 80
ORIGINS = {"given": "", "default": "", "val": ", chosen on val"}


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
    bits = f"{result.bpb:.3f} bits per byte"
    head = f"{one_line(text)}: {result.chars:,} characters, context {result.context}, {bits}"
    parts = [Text(head), table(["", ">bits per char", ">nats per char"], rows)]
    if saw := result.baselines_saw:
        parts.append(
            Text(
                f"the baselines know the end of the training text: unigram {saw['unigram']:,} symbols, "
                f"ngram {saw['ngram']:,}, the compressors {saw['compressors']:,} bytes",
                style="dim",
            )
        )
    if result.dynamic is not None:
        parts.append(
            Text(
                f"dynamic: a copy that learns from each {SEGMENT} characters once they are scored, as "
                f"compressors do; rate {result.dynamic.rate:g}{ORIGINS[result.dynamic.rate_from]}",
                style="dim",
            )
        )
    return Group(*parts)


def difference_line(run: str, other: str, bpc: float, difference: Difference) -> RenderableType:
    """Return who is better, and whether by more than chance."""
    if difference.stderr_bpc is None:
        sure, error = "too little text to tell from chance", ""
    else:
        sure = "more" if abs(difference.bpc) > 2 * difference.stderr_bpc else "not more"
        sure, error = f"{sure} than two standard errors", f" ± {difference.stderr_bpc:.4f}"
    words = "better" if difference.bpc < 0 else "worse"
    return Text(
        f"{run} is {abs(difference.bpc):.4f}{error} bits per char {words} than {other} ({bpc:.3f}): {sure}\n"
    )


def contexts_tables(found: Contexts) -> RenderableType:
    """Return the cost by length of context and by place in a document, each with a bar."""
    top = max(row.bpc for row in found.reach)
    rows = [
        (
            "all" if row.context is None else f"{row.context:,}",
            f"{row.bpc:.3f}",
            "" if row.gain is None else f"{row.gain:+.3f} ± {row.stderr_gain:.3f}",
            _bar(row.bpc / top),
        )
        for row in found.reach
    ]
    said = f"cost of the same {found.targets:,} characters by how many before them are known"
    if found.reaches is not None:
        said += f"; 95 % of what context gains is there with {found.reaches:,}"
    elif found.reach[0].bpc > found.reach[-1].bpc:
        said += "; less than 95 % of what context gains is there with any of these"
    parts = [Text(said), table([">known", ">bits per char", ">gain", ""], rows)]
    if found.positions:
        top = max(row.bpc for row in found.positions)
        rows = [
            (
                f"{row.first:,}–{row.last:,}" if row.last > row.first else f"{row.first:,}",
                f"{row.bpc:.3f}",
                f"{row.chars:,}",
                _bar(row.bpc / top),
            )
            for row in found.positions
        ]
        parts.append(Text(f"cost by place in the document, of {found.documents:,} that begin here"))
        parts.append(table([">place", ">bits per char", ">characters", ""], rows))
    return Group(*parts)


def _bar(share: float, cells: int = 30) -> str:
    return "█" * round(share * cells)


def memorisation_report(found: Memorisation) -> RenderableType:
    """Return the longest copied stretches beside those of held-out text, and the longest of them."""
    rows = []
    names = {"sampled": f"{len(found.sampled)} samples", "held_out": f"{len(found.held_out)} held-out texts"}
    for key, quantiles in found.quantiles().items():
        if quantiles is not None:
            rows.append((names[key], *(f"{value:,.0f}" for value in quantiles.values())))
    head = f"longest stretch in the training text letter for letter, of every {found.length:,} characters"
    parts = [Text(head), table(["", ">median", ">90th percentile", ">longest"], rows)]
    shown = found.copies[:COPIES]
    if shown:
        lines = [(f"{copy.length:,}", _short(copy.text)) for copy in shown]
        parts.append(table([">characters", "the longest copied by the model"], lines))
    if not found.held_out:
        parts.append(Text("there is too little held-out text to compare with", style="dim"))
    return Group(*parts)


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= COPY_CHARS else f"{line[: COPY_CHARS - 1]}…"
