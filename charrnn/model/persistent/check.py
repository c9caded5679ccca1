"""Whether the persistent kernels compute what ``torch.nn`` does, on the device at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from charrnn.config import CELLS as LAYERS
from charrnn.errors import CharrnnError
from charrnn.model.cells.base import State
from charrnn.model.persistent.tiling import Tiling
from charrnn.model.persistent.window import CELLS, run_layers, why_not

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
        layers: L.
        dropout: Probability that a layer does not see an output of the one below at a timestep.
    """

    hidden_size: int
    batch_size: int
    length: int
    input_size: int = 12
    resets: float = 0.0
    layers: int = 1
    dropout: float = 0.0


SMALL = (Case(20, 5, 7), Case(33, 9, 5, resets=0.2), Case(33, 9, 5, resets=0.2, layers=3, dropout=0.3))
LARGE = (*SMALL, Case(200, 70, 50, resets=0.02), Case(768, 16, 256, 128), Case(1024, 130, 100, 128))
LARGE += (Case(200, 70, 50, resets=0.02, layers=4, dropout=0.2), Case(512, 128, 256, 128, layers=3))
"""What a GPU can be asked: odd sizes, many programs, several groups, several layers a launch."""
Result = tuple[list[Tensor], Sequence[State]]
"""Hidden states of some layers, the top one last, and every layer's last state."""
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
    layers, inputs, state, reset, drop = _draw(cell, case)
    given = inputs.double(), [part.double() for part in state]
    if case.resets or case.dropout:
        exact = _everything(partial(_by_layers, reset=reset, drop=drop.double()), layers.double(), *given)
    else:
        exact = _everything(_stock, _as_stock(cell, layers), *given)

    def persistent(layers: nn.ModuleList, inputs: Tensor, state: list[Tensor]) -> Result:
        resets = reset.to(device) if case.resets else None
        between = drop.to(device) if case.dropout else None
        states = list(zip(*state, strict=True))
        return run_layers(cell, layers, inputs, None, states, resets, dtype, between, tiling)

    there = inputs.to(device), [part.to(device) for part in state]
    mine = _everything(persistent, layers.float().to(device), *there)
    errors = [_error(a.cpu(), b) for a, b in zip(mine, exact, strict=True)]
    parts = len(state)
    return {"outputs": errors[0], "state": max(errors[1 : 1 + parts]), "gradients": max(errors[1 + parts :])}


def _draw(cell: str, case: Case) -> tuple[nn.ModuleList, Tensor, list[Tensor], Tensor, Tensor]:
    """Return layers, inputs, the first states' parts (L, B, H), resets, and the factors of dropout."""
    torch.manual_seed(1)
    length, rows, size = case.length, case.batch_size, case.hidden_size
    widths = [case.input_size] + [size] * (case.layers - 1)
    layers = nn.ModuleList(LAYERS[cell](width, size) for width in widths)
    inputs = torch.randn(length, rows, case.input_size)
    state = [torch.randn(case.layers, rows, size) for _ in layers[0].state_names]
    reset = torch.rand(length, rows) < case.resets
    kept = torch.rand(case.layers - 1, length, rows, size) >= case.dropout
    return layers, inputs, state, reset, kept / (1 - case.dropout)


def _as_stock(cell: str, layers: nn.ModuleList) -> nn.Module:
    """Return ``torch.nn``'s module of several layers with these weights, in double precision."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    stock = kind(layers[0].input_size, layers[0].hidden_size, len(layers)).double()
    with torch.no_grad():
        for mine, weight in zip(stock.parameters(), layers.parameters(), strict=True):
            mine.copy_(weight)
    return stock


def _stock(module: nn.Module, inputs: Tensor, state: list[Tensor]) -> Result:
    outputs, after = module(inputs, tuple(state) if len(state) > 1 else state[0])
    return [outputs], list(zip(*(after if len(state) > 1 else (after,)), strict=True))


def _by_layers(
    layers: nn.ModuleList, inputs: Tensor, state: list[Tensor], reset: Tensor, drop: Tensor
) -> Result:
    after, outputs = [], inputs
    for n, before in enumerate(zip(*state, strict=True)):
        read = outputs * drop[n - 1] if n else inputs
        outputs, last = layers[n].reference(read, before, reset)
        after.append(last)
    return [outputs], after


def _everything(
    path: Callable[[nn.Module, Tensor, list[Tensor]], Result],
    module: nn.Module,
    inputs: Tensor,
    state: list[Tensor],
) -> list[Tensor]:
    """Outputs, final states, and the gradients of inputs, first states and weights."""
    wanted = [inputs.requires_grad_(), *(part.requires_grad_() for part in state), *module.parameters()]
    (*_, outputs), after = path(module, inputs, state)
    weights = torch.linspace(-1, 1, outputs.numel(), device=outputs.device).view_as(outputs)
    last = [torch.stack(parts) for parts in zip(*after, strict=True)]
    loss = (outputs * weights).sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(last))
    found = [outputs, *last, *torch.autograd.grad(loss, wanted)]
    return [part.detach() for part in found]


def _error(mine: Tensor, right: Tensor) -> float:
    return ((mine.double() - right).norm() / right.norm()).item()
