"""``charrnn inspect``: look inside a model."""

from __future__ import annotations

import typer

from charrnn.cli.inspect.gates import gates
from charrnn.cli.inspect.gradients import gradients
from charrnn.cli.inspect.hypotheses import hypotheses
from charrnn.cli.inspect.neurons import neurons

app = typer.Typer(no_args_is_help=True, help="Look inside a model.")
app.command()(neurons)
app.command()(gates)
app.command()(gradients)
app.command()(hypotheses)
