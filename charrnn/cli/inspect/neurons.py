"""``charrnn inspect neurons``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli.console import notice, print_json, stderr_console
from charrnn.cli.options import (
    DeviceOption,
    EncodingOption,
    FullPrecisionOption,
    JsonOption,
    LastOption,
    RunArgument,
    SvgOption,
    TextOption,
    whole,
)
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.inspection.findings import Findings


def neurons(
    run: RunArgument = None,
    text: TextOption = None,
    encoding: EncodingOption = None,
    neuron: Annotated[
        str | None, typer.Option("--neuron", metavar="L2.c117", help="Show one neuron closely.")
    ] = None,
    hypothesis: Annotated[
        list[str] | None,
        typer.Option(
            "--hypothesis", metavar="SPEC", help="Ask only this: a name, or one of your own. Repeatable."
        ),
    ] = None,
    top: Annotated[int, whole("--top", "Neurons per hypothesis.")] = 1,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="K", help="Kind of neurons: c (tanh), raw (c itself), h or a gate."),
    ] = None,
    steer: Annotated[
        str | None,
        typer.Option("--steer", metavar="L2.c117", help="Hold a neuron high and low while the model writes."),
    ] = None,
    ablation: Annotated[
        str,
        typer.Option(
            "--ablation",
            metavar="A",
            help="Hold neurons at: mean, zero, resample, or none.",
        ),
    ] = "mean",
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="TEXT", help="Find where else the neurons are on that are on over this."
        ),
    ] = None,
    max_chars: Annotated[
        int | None,
        whole("--max-chars", "Characters read at most, evenly from the whole; 400000 if left out."),
    ] = None,
    svg: SvgOption = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Save an interactive page too.")
    ] = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    precision: FullPrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the neurons that track quotes, columns, indentation, comments …, and paint them.

    Half of the held-out text chooses a neuron for every hypothesis; all figures come from the other
    half, beside those of untrained twins. What tracks something is then held, beside 20 matched
    controls, to see whether the model uses it, and whether it drives what the model writes.

    [dim]charrnn inspect neurons · charrnn inspect neurons mine --neuron L1.c17[/dim]
    """
    if top < 1:
        raise ConfigError(f"`--top` is `{top}`, but must be at least 1")
    if max_chars is not None and max_chars < 1:
        raise ConfigError(f"`--max-chars` is `{max_chars}`, but must be at least 1")
    if html is not None and "raw" in f"{kind} {neuron} {steer}":
        raise ConfigError(
            "the page paints values from −1 to 1, and raw ones have no bound", "leave out --html"
        )
    if steer is not None and neuron not in (None, steer):
        raise ConfigError("`--steer` and `--neuron` name different neurons")
    from charrnn.runs import find_checkpoint, location_of

    if like is not None:
        if any((neuron, steer, kind, html, top != 1)):
            raise ConfigError(
                "`--like` asks for no neuron: leave out --neuron, --steer, --kind, --top and --html"
            )
        from charrnn.cli.inspect.like import search

        model = find_checkpoint(run, last=last)
        search(model, like, text or (), encoding, hypothesis or (), max_chars, svg, device, as_json)
        return
    from charrnn.inspection import store
    from charrnn.rendering.neurons import print_findings

    model = find_checkpoint(run, last=last)
    wanted = steer if neuron is None else neuron
    question = {"neuron": wanted, "top": top, "kind": kind, "steer": steer is not None}
    question |= {"ablation": None if ablation == "none" else ablation, "hypotheses": list(hypothesis or ())}
    question["max_chars"] = max_chars
    key = store.key_of(model, text or (), question, encoding)
    findings = store.load_findings(key, str(location_of(model))) if key and html is None else None
    if findings is None and html is None:
        findings = store.demo_findings(model, text or (), question)
        if findings is not None:
            notice("these findings came with the demo; `--text` has it read something else")
            key = None
    if findings is None:
        findings = _inspect(model, text or (), encoding, question, html, device)
        if key:
            store.save_findings(key, findings)
    for message in findings.notices:
        notice(message)
    if svg is not None:
        from charrnn.rendering.card import MAX_WIDTH
        from charrnn.rendering.svg import save_svg

        save_svg(svg, lambda console: print_findings(findings, console), MAX_WIDTH)
    if as_json:
        print_json(findings.to_json())
    else:
        print_findings(findings)


def _inspect(
    model: Path,
    texts: Sequence[str],
    encoding: str | None,
    question: dict[str, Any],
    html: str | None,
    device: str,
) -> Findings:
    """Read the text and answer the question, with a status line on a terminal; save a page if asked."""
    from charrnn.api import load

    loaded = load(model, device=device)
    console = stderr_console()
    how = {name: value for name, value in question.items() if name not in ("hypotheses", "max_chars")}
    with console.status("reading") if console.is_terminal else nullcontext() as status:
        which = {name: question[name] for name in ("hypotheses", "max_chars")}
        subject = loaded.subject(texts=texts, encoding=encoding, **which)
        progress = status.update if status else lambda _: None
        findings = loaded.inspect_neurons(subject=subject, progress=progress, **how)
        if html is not None:
            from charrnn.rendering.html import save_html

            progress("making the page")
            command = shlex.join(["charrnn", *sys.argv[1:]])
            save_html(html, loaded.inspect_page(subject, findings, command=command))
    return findings
