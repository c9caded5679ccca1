"""``charrnn inspect gradients``."""

from __future__ import annotations

from typing import Annotated

from charrnn.cli.console import print_json, stderr_console
from charrnn.cli.options import (
    DeviceOption,
    FullPrecisionOption,
    JsonOption,
    LastOption,
    RunArgument,
    SvgOption,
    TextOption,
    whole,
)


def gradients(
    run: RunArgument = None,
    text: TextOption = None,
    lags: Annotated[
        int | None, whole("--lags", "Characters to follow gradients back; the run's seq_len if left out.")
    ] = None,
    svg: SvgOption = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    precision: FullPrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show how fast gradients fade on their way back in time, beside the same network before training.

    [dim]charrnn inspect gradients · charrnn inspect gradients mine --lags 200[/dim]
    """
    from charrnn.api import load
    from charrnn.rendering.card import MAX_WIDTH
    from charrnn.rendering.gradients import print_gradients
    from charrnn.rendering.svg import save_svg

    loaded = load(run, last=last, device=device)
    console = stderr_console()
    if console.is_terminal:
        with console.status("reading") as status:
            findings = loaded.inspect_gradients(texts=text or (), lags=lags, progress=status.update)
    else:
        findings = loaded.inspect_gradients(texts=text or (), lags=lags)
    if svg is not None:
        save_svg(svg, lambda console: print_gradients(findings, console), MAX_WIDTH)
    if as_json:
        print_json(findings.to_json())
    else:
        print_gradients(findings)
