"""Train every cell on one text for the same time; measure what it predicts and how its gradients fade.

    python benchmarks/cells.py [CELL...] [--minutes 5] [--num-layers 2] [--seed 1] [--text FILE] [--out FILE]
    python benchmarks/cells.py --table [--out FILE]

Every cell gets the width that the plan chooses for its arithmetic, or the one of `--hidden-size`. The record
is written after each cell; cells that it has already, from the same settings, are not trained again.
`--table` prints it as docs/cells.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from quality import ROOT, TEXTS, machine, run, split

from charrnn.config import CELLS
from charrnn.files import write_atomically

WIDTH = 100
KEPT = ("command", "steps", "epochs", "seconds", "chars_per_second", "params", "best_val_bpc", "stopped_by")


def main() -> None:
    options = parse()
    record = read(options.out)
    if options.table:
        sys.exit("there is no record yet" if not record else show(record))
    budget = ["--steps", options.steps] if options.steps else ["--minutes", options.minutes]
    settings = [*budget, "--num-layers", options.num_layers, "--seed", options.seed]
    settings += ["--hidden-size", options.hidden_size] if options.hidden_size else []
    asked = {"text": options.text.name, "settings": " ".join(settings)}
    if record and {key: record[key] for key in asked} != asked:
        sys.exit(f"{options.out} holds a record of other settings: {record['settings']}, {record['text']}")
    record = record or machine() | asked | {"cells": {}}
    for cell in options.cells or list(CELLS):
        if cell not in record["cells"]:
            record["cells"][cell] = measure(cell, options.text, settings)
            write_atomically(options.out, as_text(record).encode())
        print(cell, record["cells"][cell]["evaluate"]["bpc"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"of {', '.join(CELLS)}; all if left out")
    parser.add_argument("--minutes", default="5")
    parser.add_argument("--steps", help="a budget in steps instead: a rehearsal")
    parser.add_argument("--num-layers", default="2")
    parser.add_argument("--hidden-size", help="the same width for all, instead of the plan's")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--text", type=Path, default=TEXTS / "tinyshakespeare.txt")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records" / "cells.json")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    for cell in options.cells:
        CELLS.check(cell)
    return options


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def as_text(record: dict[str, Any]) -> str:
    """Return JSON with every list of numbers on one line."""
    text = json.dumps(record, indent=1) + "\n"
    return re.sub(r"\[[^][{}]*]", lambda found: " ".join(found[0].split()), text)


def measure(cell: str, text: Path, settings: list[str]) -> dict[str, Any]:
    """Train one cell in a folder of its own; the last tenth of the text is scored, as in nanoGPT's split."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["train", str(text.resolve()), *split(0.1, 0), "--cell", cell, *settings, "--quiet"]
        train = run(folder, *words)
        config = json.loads(next(folder.glob("runs/*/config.json")).read_text(encoding="utf-8"))
        found = run(folder, "evaluate")
        faded = run(folder, "inspect", "gradients", "--lags", "256")
    return {
        "model": config["config"]["model"],
        "train": {key: train[key] for key in KEPT},
        "evaluate": {key: found[key] for key in ("command", "chars", "bpc", "stderr_bpc", "baselines")},
        "gradients": {
            "command": faded["command"],
            "positions": faded["positions"][0],
            "trained": [of_part(part) for part in faded["gradients"]],
            "untrained": [of_part(part) for part in faded["untrained"]["gradients"]],
        },
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


def of_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of one gradient: norms to four digits, from which the shares follow."""
    kept = {key: part[key] for key in ("layer", "kind", "half_life", "reach")}
    return kept | {"norm": [float(f"{norm:.3e}") for norm in part["norm"]]}


def show(record: dict[str, Any]) -> None:
    """Print the record as Markdown: a table, and a curve for what each cell's last layer carries."""
    from rich.console import Console

    from charrnn.rendering.gradients import panels

    print("| cell | H | weights | steps | bpc | half-life | 1 % |")
    print("|---|---|---|---|---|---|---|")
    by_bpc = sorted(record["cells"].items(), key=lambda item: item[1]["evaluate"]["bpc"])
    drawn = [(cell, *carried(cell, found)) for cell, found in by_bpc]
    for (cell, found), (_, fading, _) in zip(by_bpc, drawn, strict=True):
        bpc = f"{found['evaluate']['bpc']:.3f} ± {found['evaluate']['stderr_bpc']:.3f}"
        size = f"{found['model']['hidden_size']} | {found['train']['params']:,} | {found['train']['steps']:,}"
        half = "> 256" if fading.half_life is None else f"{fading.half_life:.1f}"
        print(f"| `{cell}` | {size} | {bpc} | {half} | {fading.reach} |")
    console = Console(width=WIDTH, color_system=None)
    titled = [(f"{cell}: {fading.name}", fading, twin) for cell, fading, twin in drawn]
    for part in panels(titled, WIDTH):
        console.print(part)


def carried(cell: str, found: dict[str, Any]) -> list[Any]:
    """Return the gradient of the part of the last layer's state that remembers, and the untrained twin's."""
    import numpy as np

    from charrnn.inspection.gradients import Fading

    wanted = (found["model"]["num_layers"], CELLS[cell].state_names[-1])
    return [
        Fading(part["layer"], part["kind"], np.array(part["norm"]))
        for side in ("trained", "untrained")
        for part in found["gradients"][side]
        if (part["layer"], part["kind"]) == wanted
    ]


if __name__ == "__main__":
    main()
