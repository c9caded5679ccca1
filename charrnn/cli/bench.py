"""``charrnn bench``: how fast this machine runs charrnn."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from charrnn.cli.console import notice, print_json, stderr_console
from charrnn.cli.options import JsonOption, SvgOption, whole
from charrnn.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Time charrnn on the CPU beside stock PyTorch and beside what the machine can do.",
)
CellOption = Annotated[
    str | None, typer.Option("--cell", metavar="CELL", help="Only this: lstm or gru.", show_default=False)
]
HiddenOption = Annotated[int | None, whole("--hidden-size", "Neurons per layer.", show_default=False)]
LayersOption = Annotated[int | None, whole("--num-layers", "Recurrent layers.", show_default=False)]
RoundsOption = Annotated[
    int | None, whole("--rounds", "Rounds measured; about a minute for all if left out.", show_default=False)
]


@app.command()
def train(
    cell: CellOption = None,
    hidden_size: HiddenOption = None,
    num_layers: LayersOption = None,
    batch_size: Annotated[int | None, whole("--batch-size", "Rows of a window.", show_default=False)] = None,
    seq_len: Annotated[int | None, whole("--seq-len", "Timesteps of a window.", show_default=False)] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="64 … 1,024 neurons × batches of 8 … 128; takes minutes.")
    ] = False,
    rounds: RoundsOption = None,
    svg: SvgOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time training: a window and a whole step.

    Sizes make one row of their own instead of the usual eight.

    [dim]charrnn bench train · charrnn bench train --cell gru --hidden-size 256 --svg roof.svg[/dim]
    """
    sizes = {"hidden_size": hidden_size, "num_layers": num_layers}
    sizes |= {"batch_size": batch_size, "seq_len": seq_len}
    if grid and any(size is not None for size in sizes.values()):
        raise ConfigError("`--grid` has sizes of its own", "leave out the others, or `--grid`")
    _check_rounds(rounds)
    from charrnn.bench.training import GRID, SHAPES, bench_train
    from charrnn.rendering.bench import train_table

    with _progress() as progress:
        shapes = _shapes(GRID if grid else SHAPES, cell, **sizes)
        bench = bench_train(shapes, rounds, progress)
    _report(bench, train_table, svg, as_json)


@app.command()
def sample(
    cell: CellOption = None,
    hidden_size: HiddenOption = None,
    num_layers: LayersOption = None,
    rounds: RoundsOption = None,
    svg: SvgOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time sampling: weights of 32, 16 and 8 bits, one text and many.

    Sizes make one network of their own instead of the usual four.

    [dim]charrnn bench sample · charrnn bench sample --hidden-size 1024 --json[/dim]
    """
    _check_rounds(rounds)
    from charrnn.bench.sampling import SHAPES, bench_sample
    from charrnn.rendering.bench import sample_table

    shapes = _shapes(SHAPES, cell, hidden_size=hidden_size, num_layers=num_layers)
    with _progress() as progress:
        bench = bench_sample(shapes, rounds, progress)
    _report(bench, sample_table, svg, as_json)


@app.command("inspect")
def inspect_(
    cell: CellOption = None,
    hidden_size: HiddenOption = None,
    num_layers: LayersOption = None,
    rounds: RoundsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time inspection: recording and correlating, beside the plain forward pass.

    [dim]charrnn bench inspect · charrnn bench inspect --hidden-size 128 --num-layers 2[/dim]
    """
    _check_rounds(rounds)
    from charrnn.bench.recording import bench_inspect
    from charrnn.rendering.bench import inspect_table

    sizes = {"cell": cell, "hidden_size": hidden_size, "num_layers": num_layers}
    with _progress() as progress:
        given = {name: value for name, value in sizes.items() if value is not None}
        bench = bench_inspect(**given, rounds=rounds, progress=progress)
    _report(bench, inspect_table, None, as_json)


def _check_rounds(rounds: int | None) -> None:
    if rounds is not None and rounds < 1:
        raise ConfigError(f"`--rounds` is `{rounds}`, but must be at least 1")


def _shapes(usual: Sequence[Any], cell: str | None, **sizes: int | None) -> Sequence[Any]:
    """Return the usual shapes, those of one cell, or where sizes are given one of its own."""
    from charrnn.bench.stock import check_cell
    from charrnn.bench.training import SHAPES, Shape

    check_cell(cell or SHAPES[0].cell)
    given = {name: value for name, value in sizes.items() if value is not None}
    if not given:
        return [shape for shape in usual if cell in (None, shape.cell)]
    return [Shape(**vars(SHAPES[0]) | given | ({"cell": cell} if cell else {}))]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    console = stderr_console()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("looking at the machine") as status:
        yield status.update


def _report(bench: Any, draw: Callable[[Any], Any], svg: str | None, as_json: bool) -> None:
    from charrnn.bench.machine import is_busy
    from charrnn.rendering.bench import machine_line
    from charrnn.rendering.roofline import save_roofline
    from charrnn.rendering.tables import print_stdout

    if is_busy(bench.machine):
        load = bench.machine["load_before"]
        notice(f"other programs were running (load {load:.1f} at the start): the figures are disturbed")
    if as_json:
        print_json({"command": shlex.join(["charrnn", *sys.argv[1:]])} | bench.to_json())
    else:
        print_stdout(draw(bench))
    if svg is not None:  # last: a wrong path does not cost the figures
        save_roofline(svg, bench.roofline(), machine_line(bench.machine))
