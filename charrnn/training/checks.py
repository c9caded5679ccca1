"""Whether what a trainer file holds can be what a run left there; anybody may have written it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from charrnn.config import OPTIMIZERS, TrainingConfig
from charrnn.errors import CheckpointError
from charrnn.training.optimizers import OptimizerRecipe

LARGEST = 2**63
PLANNED = ("batch_size", "seq_len", "learning_rate", "weight_decay", "num_evals")
"""What a plan leaves in no run open; and of the budgets, one."""
BUDGETS = ("epochs", "steps", "minutes")


def check_settings(training: TrainingConfig) -> None:
    """Raise ``CheckpointError`` for settings with which no run has begun."""
    missing = [name for name in PLANNED if getattr(training, name) is None]
    if all(getattr(training, name) is None for name in BUDGETS):
        missing.append("steps")
    if missing:
        raise CheckpointError(f"the run leaves `training.{missing[0]}` open", "train a new one")


def check_place(counters: Any, row_length: int) -> None:
    """Raise ``CheckpointError`` for a place behind the end of the rows, of ``row_length`` symbols each."""
    if not counters.position < row_length:
        raise CheckpointError(f"the run stands at symbol {counters.position:,} of {row_length:,} in each row")


def check_counters(counters: Any) -> None:
    """Raise ``ValueError`` for a counter that is not of its kind, negative, or not finite."""
    for name, kind in _kinds(type(counters)).items():
        if not _is(getattr(counters, name), kind):
            raise ValueError(f"the counter `{name}` cannot be `{getattr(counters, name)!r:.40}`")


@cache
def _kinds(declared: type) -> dict[str, Any]:
    return typing.get_type_hints(declared)


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_is(value, part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_is(part, *typing.get_args(kind)) for part in value)
    if kind in (int, float):
        numbers = int if kind is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool) and 0 <= value < LARGEST
    return isinstance(value, kind)


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for a number that is none."""
    for name, tensor in tensors.items():
        number = tensor.is_floating_point() or name.startswith("scaling.")
        if not number or not bool(tensor.isfinite().all()):
            raise ValueError(f"`{name}` is not finite")


def check_slots(optimizer: Any, training: TrainingConfig, slots: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Raise ``ValueError`` for moments that the update rule does not leave for its weights.

    The step in C goes by the size of the weight alone, so a moment must have it.

    Args:
        optimizer: With the weights; the sums of a ridge regression check themselves.
        training: Names the update rule.
        slots: By the number of the weight, as in the optimizer's own state.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        return
    expected = _expected(optimizer, OPTIMIZERS[training.optimizer])
    for number, own in slots.items():
        wanted = expected.get(number, {})
        if {name: tensor.shape for name, tensor in own.items()} != wanted:
            raise ValueError(f"weight {number} has other moments than `{training.optimizer}` gives it")
        if any(tensor.dim() == 0 and not 0 <= float(tensor) < LARGEST for tensor in own.values()):
            raise ValueError(f"weight {number} was updated a number of times that cannot be")


def _expected(optimizer: torch.optim.Optimizer, recipe: OptimizerRecipe) -> dict[int, dict[str, torch.Size]]:
    """Return the shapes of what an update rule keeps, by the number of the weight and by name."""
    found = {}
    for group, numbered in zip(optimizer.param_groups, optimizer.state_dict()["param_groups"], strict=True):
        slots = _slots_of_one(recipe, "rows" in group)
        for number, weight in zip(numbered["params"], group["params"], strict=True):
            found[number] = {name: weight.shape if own.dim() else own.shape for name, own in slots.items()}
    return found


def _slots_of_one(recipe: OptimizerRecipe, has_rows: bool) -> dict[str, Tensor]:
    """Return what an update rule keeps for one weight, found by a step on a matrix of one number."""
    weight = nn.Parameter(torch.zeros(1, 1))
    weight.grad = torch.zeros(1, 1)
    rows = {"rows": 1} if has_rows else {}
    probe = recipe.build([{"params": [weight], "weight_decay": 0.0, **rows}], 1.0)
    probe.step()
    return {name: value for name, value in probe.state[weight].items() if value is not None}
