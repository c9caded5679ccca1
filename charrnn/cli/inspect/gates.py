"""``charrnn inspect gates``."""

from __future__ import annotations

from contextlib import nullcontext

from charrnn.cli.console import print_json, stderr_console
from charrnn.cli.options import (
    DeviceOption,
    EncodingOption,
    FullPrecisionOption,
    JsonOption,
    LastOption,
    RunArgument,
    SvgOption,
    TextOption,
)


def gates(
    run: RunArgument = None,
    text: TextOption = None,
    encoding: EncodingOption = None,
    svg: SvgOption = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    precision: FullPrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show how often gates are saturated, and how long neurons remember.

    [dim]charrnn inspect gates · charrnn inspect gates mine --svg gates.svg[/dim]
    """
    from charrnn.api import load
    from charrnn.rendering.card import MAX_WIDTH
    from charrnn.rendering.gates import print_gates
    from charrnn.rendering.svg import save_svg

    loaded = load(run, last=last, device=device)
    console = stderr_console()
    with console.status("reading") if console.is_terminal else nullcontext() as status:
        subject = loaded.subject(texts=text or (), encoding=encoding, hypotheses=("column",))
        progress = status.update if status else lambda _: None
        findings = loaded.inspect_gates(subject=subject, progress=progress)
    if svg is not None:
        save_svg(svg, lambda console: print_gates(findings, console), MAX_WIDTH)
    if as_json:
        print_json(findings.to_json())
    else:
        print_gates(findings)
