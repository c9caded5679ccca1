"""``charrnn inspect neurons``."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from charrnn.cli.console import print_json, stderr_console
from charrnn.cli.options import DeviceOption, JsonOption, LastOption, RunArgument, whole
from charrnn.errors import ConfigError


def neurons(
    run: RunArgument = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="TEXT", help="Text to read; the run's held-out text if left out. Repeatable."
        ),
    ] = None,
    neuron: Annotated[
        str | None, typer.Option("--neuron", metavar="L2.c117", help="Show one neuron closely.")
    ] = None,
    hypothesis: Annotated[
        list[str] | None, typer.Option("--hypothesis", metavar="NAME", help="Ask only this. Repeatable.")
    ] = None,
    top: Annotated[int, whole("--top", "Neurons per hypothesis.")] = 1,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="K", help="Kind of neurons: c, h or a gate."),
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
    svg: Annotated[
        str | None, typer.Option("--svg", metavar="FILE", help="Save the picture as SVG too.")
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Save an interactive page too.")
    ] = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the neurons that track quotes, columns, indentation, comments …, and paint them.

    Half of the held-out text chooses a neuron for every hypothesis; all figures come from the other
    half, beside those of an untrained twin. What tracks something is then held, beside 20 matched
    controls, to see whether the model uses it, and whether it drives what the model writes.

    [dim]charrnn inspect neurons · charrnn inspect neurons mine --neuron L1.c17[/dim]
    """
    if top < 1:
        raise ConfigError(f"`--top` is `{top}`, but must be at least 1")
    if steer is not None and neuron not in (None, steer):
        raise ConfigError("`--steer` and `--neuron` name different neurons")
    from charrnn.api import load
    from charrnn.inspection.page import make_page
    from charrnn.rendering.card import MAX_WIDTH
    from charrnn.rendering.html import save_html
    from charrnn.rendering.neurons import print_findings
    from charrnn.rendering.svg import save_svg

    loaded = load(run, last=last, device=device)
    console = stderr_console()
    with console.status("reading") if console.is_terminal else nullcontext() as status:
        subject = loaded.subject(texts=text or (), hypotheses=hypothesis or ())
        findings = loaded.inspect_neurons(
            subject=subject,
            neuron=neuron or steer,
            top=top,
            kind=kind,
            steer=steer is not None,
            ablation=None if ablation == "none" else ablation,
            progress=status.update if status else lambda _: None,
        )
        if html is not None:
            command = shlex.join(["charrnn", *sys.argv[1:]])
            save_html(html, make_page(subject, findings, vocabulary=loaded.vocabulary, command=command))
    if svg is not None:
        save_svg(svg, lambda console: print_findings(findings, console), MAX_WIDTH)
    if as_json:
        print_json(findings.to_json())
    else:
        print_findings(findings)
