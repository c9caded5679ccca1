"""Everything that affects the next step, written as one file and read back exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from charrnn.config import TrainingConfig
from charrnn.errors import CheckpointError
from charrnn.files import write_atomically
from charrnn.model.network import Network, NetworkState
from charrnn.runs import FORMAT, TRAINER, load_tensors, tensor_bytes
from charrnn.training.checks import check_counters, check_slots, check_tensors
from charrnn.training.scaling import LossScale
from charrnn.untrusted import other_version

if TYPE_CHECKING:
    from charrnn.training.averaging import NoAverage


@dataclass
class Counters:
    """Where a run stands.

    Args:
        step: Optimizer steps done.
        position: Symbols of every row that the epoch has read.
        epoch: Epochs completed.
        evals: Looks at the validation split taken.
        stale: Looks since the last improvement.
        misses: Looks that found no improvement.
        averaged_since: Step after which NT-ASGD began to average, if it has.
        val_losses: Every validation loss, for NT-ASGD alone.
        best_val_loss: Lowest validation loss so far, nats per character.
        last_val_loss: The newest one.
        seconds: Wall time of the run, over all its sittings.
        trained_chars: Characters in steps that were timed.
        trained_seconds: Seconds inside those steps.
        log_bytes: Length of ``log.jsonl`` when this was written.
        parts: Into how many windows of fewer rows each is cut, for want of memory.
        stopped_by: Why the run is over; empty while it is not.
    """

    step: int = 0
    position: int = 0
    epoch: int = 0
    evals: int = 0
    stale: int = 0
    misses: int = 0
    averaged_since: int | None = None
    val_losses: list[float] = field(default_factory=list)
    best_val_loss: float | None = None
    last_val_loss: float | None = None
    seconds: float = 0.0
    trained_chars: int = 0
    trained_seconds: float = 0.0
    log_bytes: int = 0
    parts: int = 1
    stopped_by: str = ""


def save_trainer(
    folder: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    state: NetworkState,
    counters: Counters,
    average: Mapping[str, torch.Tensor],
    about: Mapping[str, Any] | None = None,
    scaling: LossScale | None = None,
) -> None:
    """Write ``trainer.json`` for people to read, then ``trainer.safetensors``, alone enough to continue.

    Args:
        folder: ``last/`` of a run.
        network: What is trained.
        optimizer: Its moments are written.
        state: Carried to the next window.
        counters: Where the run stands.
        average: Averaged weights by name.
        about: What the run trains on and with, as ``runs.header_of`` says it.
        scaling: The factor of the loss, if there is one.

    Raises:
        CheckpointError: The disk is full or refuses; the file that was there before is untouched.
    """
    write_atomically(folder / "trainer.json", counters_bytes(counters))
    parts = (network, optimizer, state, counters, average, about, scaling)
    write_atomically(folder / TRAINER, trainer_bytes(*parts))


def counters_bytes(counters: Counters) -> bytes:
    """Return the content of ``trainer.json``."""
    return json.dumps({"format": FORMAT, "counters": asdict(counters)}, indent=1).encode()


def trainer_bytes(
    network: Network,
    optimizer: torch.optim.Optimizer,
    state: NetworkState,
    counters: Counters,
    average: Mapping[str, torch.Tensor],
    about: Mapping[str, Any] | None = None,
    scaling: LossScale | None = None,
) -> bytes:
    """Return the content of ``trainer.safetensors``; arguments as for ``save_trainer``."""
    tensors, header = pack_trainer(network, optimizer, state, counters, average, scaling)
    return tensor_bytes(tensors, {**(about or {}), **header})


def pack_trainer(
    network: Network,
    optimizer: torch.optim.Optimizer,
    state: NetworkState,
    counters: Counters,
    average: Mapping[str, torch.Tensor],
    scaling: LossScale | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return everything that affects the next step, as named tensors and a header."""
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items() if value is not None}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    if scaling is not None:
        tensors |= {f"scaling.{name}": value for name, value in scaling.tensors().items()}
    for index, layer in enumerate(state):
        tensors |= {f"state.{index}.{place}": part for place, part in enumerate(layer)}
    return tensors, {"format": FORMAT, "counters": asdict(counters)}


def load_trainer(
    path: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    training: TrainingConfig,
    average: NoAverage,
    scaling: LossScale | None = None,
) -> tuple[NetworkState, Counters]:
    """Put weights, optimizer, average and loss scale back; return the carried state and the counters.

    Raises:
        CheckpointError: The file is damaged or belongs to another configuration.
    """
    tensors, header = load_tensors(path)
    try:
        return unpack_trainer(tensors, header, network, optimizer, training, average, scaling)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"`{path}` does not fit this run: {error}", other_version(header)) from None


def unpack_trainer(
    tensors: Mapping[str, torch.Tensor],
    header: Mapping[str, Any],
    network: Network,
    optimizer: torch.optim.Optimizer,
    training: TrainingConfig,
    average: NoAverage,
    scaling: LossScale | None = None,
) -> tuple[NetworkState, Counters]:
    """Put back what ``pack_trainer`` returned; the errors are those of whatever does not fit."""
    check_tensors(tensors)
    network.load_state_dict(_below(tensors, "model."))
    restored = optimizer.state_dict()
    restored["state"] = _slots(_below(tensors, "optimizer."))
    check_slots(optimizer, training, restored["state"])
    optimizer.load_state_dict(restored)
    state = _state(_below(tensors, "state."), network, training.batch_size)
    counters = _counters(header["counters"], training.seq_len)
    average.restore(_below(tensors, "average."), counters)
    if scaling is not None:
        scaling.restore(_below(tensors, "scaling."))
    return state, counters


def _counters(data: dict[str, Any], seq_len: int) -> Counters:
    """Return the counters of a file; those of format 1 count windows, not symbols."""
    if "window" in data:
        data = {**data, "position": data["window"] * seq_len}
        del data["window"]
    if unknown := data.keys() - {known.name for known in fields(Counters)}:
        raise ValueError(f"unknown counter `{min(unknown)}`")
    counters = Counters(**data)
    check_counters(counters)
    return counters


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _slots(tensors: dict[str, torch.Tensor]) -> dict[int, dict[str, Any]]:
    slots: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    return slots


def _state(tensors: dict[str, torch.Tensor], network: Network, batch_size: int) -> NetworkState:
    empty = network.initial_state(batch_size)
    state = tuple(
        tuple(tensors[f"{index}.{place}"].to(part.device) for place, part in enumerate(layer))
        for index, layer in enumerate(empty)
    )
    shapes = [[part.shape for part in layer] for layer in state]
    if shapes != [[part.shape for part in layer] for layer in empty]:
        raise ValueError("the carried state has another shape")
    return state
