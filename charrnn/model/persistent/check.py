"""Whether the persistent kernels compute what ``torch.nn`` does, on the device at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

import torch
from torch import Tensor

from charrnn.config import CELLS as LAYERS
from charrnn.errors import CharrnnError
from charrnn.model.cells.base import RecurrentLayer
from charrnn.model.persistent.tiling import Tiling
from charrnn.model.persistent.window import CELLS, run_layer, why_not

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ROUNDINGS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}
"""Largest error that rounding explains, by dtype of the operands, as a share of the norm."""


@dataclass(frozen=True)
class Case:
    """A window to compare.

    Args:
        hidden_size: H.
        batch_size: B.
        length: T.
        input_size: Width of the inputs, I.
        resets: Probability that a row begins a document at a timestep.
    """

    hidden_size: int
    batch_size: int
    length: int
    input_size: int = 12
    resets: float = 0.0


SMALL = (Case(20, 5, 7), Case(33, 9, 5, resets=0.2))
LARGE = (*SMALL, Case(200, 70, 50, resets=0.02), Case(768, 16, 256, 128), Case(1024, 130, 100, 128))
"""What a GPU can be asked: odd sizes, many programs, several groups."""
MAX_FP32 = 64
"""Neurons up to which fp32 is compared: without tensor cores, larger products take minutes to compile."""


def self_check(device: torch.device | str, cases: Sequence[Case] | None = None) -> list[dict[str, object]]:
    """Compare windows with ``torch.nn`` in double precision, or with the reference where documents begin.

    Args:
        device: Where the kernels run; a CPU needs TRITON_INTERPRET=1.
        cases: The windows; None: as large as the device can be asked. In fp32 only the small ones are.

    Returns:
        One object per cell, dtype and window: its sizes; the errors of ``outputs``, ``state`` and
        ``gradients`` (the worst of inputs, weights and first state) as a share of the norm of what is
        right; ``allowed``, the share that rounding explains; ``right``, whether all are within it.

    Raises:
        CharrnnError: The kernels cannot run there.
    """
    device = torch.device(device)
    if reason := why_not(CELLS[0], device):
        raise CharrnnError(f"the persistent kernels cannot be checked: {reason}")
    cases = cases or (LARGE if device.type == "cuda" else SMALL)
    return [_row(*comparison, device) for comparison in comparisons(cases)]


def comparisons(cases: Sequence[Case]) -> list[tuple[str, torch.dtype, Case]]:
    """Return what can be compared: every cell and dtype for every window, but fp32 for small ones alone."""
    every = product(CELLS, DTYPES, cases)
    return [c for c in every if c[1] != torch.float32 or c[2].hidden_size <= MAX_FP32]


def _row(cell: str, dtype: torch.dtype, case: Case, device: torch.device) -> dict[str, object]:
    errors = compare(cell, dtype, case, device)
    allowed = ROUNDINGS[dtype]
    named = {"cell": cell, "dtype": str(dtype).removeprefix("torch."), **asdict(case)}
    return {**named, **errors, "allowed": allowed, "right": max(errors.values()) <= allowed}


def compare(
    cell: str,
    dtype: torch.dtype,
    case: Case,
    device: torch.device | str = "cpu",
    tiling: Tiling | None = None,
) -> dict[str, float]:
    """Return the errors of outputs, state and gradients for one window, as a share of the norm."""
    torch.manual_seed(1)
    layer: RecurrentLayer = LAYERS[cell](case.input_size, case.hidden_size)
    inputs = torch.randn(case.length, case.batch_size, case.input_size)
    state = [torch.randn(case.batch_size, case.hidden_size) for _ in layer.state_names]
    reset = torch.rand(case.length, case.batch_size) < case.resets
    exact = _everything(_exact, cell, layer.double(), inputs.double(), [s.double() for s in state], reset)

    def persistent(name: str, layer: RecurrentLayer, inputs: Tensor, state: list, reset: Tensor) -> tuple:
        resets = reset if case.resets else None
        return run_layer(name, layer, inputs, None, tuple(state), resets, dtype, tiling)

    there = [s.to(device) for s in state]
    mine = _everything(persistent, cell, layer.float().to(device), inputs.to(device), there, reset.to(device))
    errors = [_error(a.cpu(), b) for a, b in zip(mine, exact, strict=True)]
    parts = len(state)
    return {"outputs": errors[0], "state": max(errors[1 : 1 + parts]), "gradients": max(errors[1 + parts :])}


def _exact(
    cell: str, layer: RecurrentLayer, inputs: Tensor, state: list[Tensor], reset: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if reset.any():
        return layer.reference(inputs, tuple(state), reset)
    return layer.recurrence(inputs, tuple(state))


def _everything(path, cell, layer, inputs, state, reset) -> list[Tensor]:
    """Outputs, final state, and the gradients of inputs, first state and weights."""
    wanted = [inputs.requires_grad_(), *(part.requires_grad_() for part in state), *layer.parameters()]
    outputs, after = path(cell, layer, inputs, state, reset)
    weights = torch.linspace(-1, 1, outputs.numel(), device=outputs.device).view_as(outputs)
    loss = (outputs * weights).sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(after))
    found = [outputs, *after, *torch.autograd.grad(loss, wanted)]
    return [part.detach() for part in found]


def _error(mine: Tensor, right: Tensor) -> float:
    return ((mine.double() - right).norm() / right.norm()).item()
