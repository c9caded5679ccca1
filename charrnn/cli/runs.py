"""``charrnn runs``: list, show."""

from __future__ import annotations

from typing import Any

import typer

from charrnn.cli.console import print_json
from charrnn.cli.options import JsonOption, LastOption, RunArgument
from charrnn.errors import CharrnnError

app = typer.Typer(no_args_is_help=True, help="What was trained.")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the runs below runs/, the newest first."""
    from charrnn.rendering.tables import print_stdout, table
    from charrnn.runs import list_runs

    rows = [_summary(str(path)) for path in list_runs()]
    if as_json:
        print_json({"runs": rows})
        return
    heads = ["run", "cell", ">size", ">step", ">epochs", ">val bpc"]
    print_stdout(table(heads, [_shown(row) for row in rows], "no run below runs/ yet"))


@app.command()
def show(run: RunArgument = None, last: LastOption = False, as_json: JsonOption = False) -> None:
    """Show the settings of a run, its text, and where it stands."""
    from charrnn.rendering.tables import print_stdout, table
    from charrnn.runs import find_checkpoint, load_checkpoint

    checkpoint = load_checkpoint(find_checkpoint(run, last=last))
    data = {
        "path": str(checkpoint.path),
        "params": checkpoint.network.num_params,
        "vocab_size": len(checkpoint.vocabulary),
        "progress": checkpoint.progress,
        "config": checkpoint.config.to_json(),
        "corpus": checkpoint.corpus,
    }
    if as_json:
        print_json(data)
        return
    data["corpus"] = {k: v for k, v in checkpoint.corpus.items() if k != "sources"}
    print_stdout(table(["setting", "value"], list(_flat(data))))


def _summary(path: str) -> dict[str, Any]:
    from math import log

    from charrnn.runs import find_checkpoint, read_header

    try:
        header = read_header(find_checkpoint(path))
        model, progress = header["config"]["model"], header["progress"]
        loss = progress["val_loss"]
        bpc = None if loss is None else float(loss) / log(2)
        sizes = (int(model["num_layers"]), int(model["hidden_size"]))
        found = (model["cell"], *sizes, int(progress["step"]), float(progress["epochs"]), bpc)
    except (CharrnnError, KeyError, TypeError, ValueError, OverflowError):
        found = ("damaged", *(None,) * 5)
    keys = ("run", "cell", "num_layers", "hidden_size", "step", "epochs", "val_bpc")
    return dict(zip(keys, (path, *found), strict=True))


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    if row["step"] is None:
        return (row["run"], row["cell"], "", "", "", "")
    size = f"{row['num_layers']}×{row['hidden_size']}"
    bpc = "" if row["val_bpc"] is None else f"{row['val_bpc']:.3f}"
    return (row["run"], row["cell"], size, f"{row['step']:,}", f"{row['epochs']:.1f}", bpc)


def _flat(data: dict[str, Any], prefix: str = "") -> Any:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
