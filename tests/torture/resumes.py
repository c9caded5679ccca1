"""Every optimizer with every cell, and all else that has a state: killed anywhere, it ends bit for bit."""

from __future__ import annotations

import argparse
from typing import Any

from charrnn.config import AVERAGINGS, CELLS, OPTIMIZERS, SCHEDULES
from torture.disk import Disk, Killed, killed_at
from torture.work import SETTINGS, Place, differences, place

LEVERS: dict[str, dict[str, Any]] = {
    "variational dropout": {"model.dropout_kind": "variational"},
    "dropout of three places": {"model.input_dropout": 0.1, "model.output_dropout": 0.4},
    "activations": {"training.activation_l2": 2.0, "training.temporal_l2": 1.0},
    "weight drop": {"model.weight_drop": 0.3},
    "zoneout": {"model.zoneout": 0.2},
    "all levers": {
        "model.zoneout": 0.2,
        "model.weight_drop": 0.3,
        "model.dropout_kind": "variational",
        "model.skip_connections": True,
        "model.num_layers": 2,
    },
    "random lengths": {"training.random_seq_len": True},
    "growing lengths": {"training.seq_len_start": 4},
    "both lengths": {"training.random_seq_len": True, "training.seq_len_start": 4},
    "epochs": {"training.steps": None, "training.epochs": 0.13},
    "two epochs": {"training.batch_size": 32, "training.steps": 21, "training.seq_len": 13},
    "early stopping": {
        "training.patience": 2,
        "training.learning_rate": 4.0,
        "training.optimizer": "nesterov",
        "training.grad_clip": 50.0,
        "training.steps": 20,
        "training.num_evals": 10,
    },
    "decay": {"training.weight_decay": 0.1, "training.l2": 0.01, "training.optimizer": "momentum"},
    "clipped values": {"training.grad_clip_value": 0.001},
    "no validation": {"text.val_fraction": 0.0},
    "bytes": {"text.symbols": "bytes"},
    "lines": {"text.documents": "lines"},
    "embedding": {"model.embedding_size": 5},
    "one-hot": {"model.embedding_size": 0},
    "ridge": {"model.cell": "esn"},
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="of the moments")


def run(options: argparse.Namespace) -> dict[str, Any]:
    failures, ways = [], settings_of_all()
    with place(options.seed) as there:
        for name, settings in ways.items():
            failures += [f"{name}: {wrong}" for wrong in wrong_with(there, SETTINGS | settings)]
            there.remove("whole")
            there.remove("cut")
    failed = len({failure.partition(":")[0] for failure in failures})
    return {"passed": len(ways) - failed, "of": len(ways), "ways": list(ways), "failures": failures}


def settings_of_all() -> dict[str, dict[str, Any]]:
    """Return the settings of every way to train that is tried, by a name."""
    ways = {
        f"{optimizer} {cell}": of_cell(cell) | {"training.optimizer": optimizer}
        for optimizer in OPTIMIZERS
        for cell in CELLS
    }
    for averaging in AVERAGINGS:
        for schedule in SCHEDULES:
            settings = {"training.averaging": averaging, "training.schedule": schedule}
            ways[f"{averaging} {schedule}"] = settings
    return ways | LEVERS


def of_cell(cell: str) -> dict[str, Any]:
    """Return the settings of a cell, trained by gradient."""
    fixed = {"training.readout": "gradient"} if CELLS[cell].fixed else {}
    return {"model.cell": cell} | fixed


def wrong_with(there: Place, settings: dict[str, Any], share: float | None = None) -> list[str]:
    """Train whole, and killed before an operation and resumed; return what differs.

    Args:
        there: Where.
        settings: Those of the run.
        share: Of the operations, how many are done; None takes any.
    """
    with Disk(there.folder / "whole").watched() as disk:
        there.train("whole", settings)
    share = there.random.random() if share is None else share
    try:
        with Disk(there.folder / "cut", killed_at(int(share * len(disk.operations)))).watched():
            there.train("cut", settings)
    except Killed:
        pass
    there.go_on("cut", settings)
    return differences(there.folder / "whole", there.folder / "cut")
