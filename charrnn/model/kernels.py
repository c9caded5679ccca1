"""The native kernels behind autograd: a layer's window, its trace, and the loss.

They equal the reference steps (outputs, final state, every gradient) at any size, and take documents that
begin inside a window as they come. Each thread takes some rows through a whole window, so there is no
waiting, and a row's result does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from charrnn.model.cells.base import RecurrentLayer, State
from charrnn.native import CELLS, Library, Window, library

MIN_ROWS = 4
"""Rows that are worth a thread: with fewer, reading the weights costs more than the products."""


def usable(cell: str, weight: Tensor) -> bool:
    """Return whether the native kernels can run a cell with weights like this one."""
    return cell in CELLS and run_with(weight)


def run_with(values: Tensor) -> bool:
    """Return whether there are native kernels for numbers like these, whatever the cell."""
    return values.dtype == torch.float32 and values.device.type == "cpu" and bool(library())


def run_layer(
    cell: str,
    layer: RecurrentLayer,
    source: Tensor | None,
    ids: Tensor | None,
    state: State,
    reset: Tensor | None,
) -> tuple[Tensor, State]:
    """Run one layer over a window.

    Args:
        cell: Name of the layer's cell.
        layer: The weights.
        source: Inputs (T, B, I); or with ids the embedding of every symbol (V, I), None if that is one-hot.
        ids: (T, B) int64, or None.
        state: The state before the first timestep, each (B, H).
        reset: Where the state is set to zero before the timestep, (T, B) uint8, or None.

    Returns:
        Hidden states, (T, B, H), and the state after the last timestep.
    """
    outputs, *after = _LayerWindow.apply(*_arguments(cell, layer, source, ids, state, reset))
    return outputs, tuple(after[: len(state)])


def trace_layer(
    cell: str,
    layer: RecurrentLayer,
    source: Tensor | None,
    ids: Tensor | None,
    state: State,
    reset: Tensor | None,
    kinds: Collection[str] | None,
) -> tuple[dict[str, Tensor], State]:
    """Run one layer as ``run_layer`` does and return what it did, each (T, B, H), and the state after."""
    run = _Run(*_arguments(cell, layer, source, ids, state, reset))
    names = [*layer.gate_names, *layer.state_names]
    parts = [*(run.gates.chunk(len(layer.gate_names), dim=2) if layer.gate_names else ()), *run.states()]
    trace = {name: part for name, part in zip(names, parts, strict=True) if kinds is None or name in kinds}
    return trace, run.after()


def _arguments(
    cell: str,
    layer: RecurrentLayer,
    source: Tensor | None,
    ids: Tensor | None,
    state: State,
    reset: Tensor | None,
) -> tuple[Any, ...]:
    """Return what ``_LayerWindow`` takes."""
    input_bias, recurrent_bias = biases(cell, layer)
    weight_ih: Tensor | None = layer.weight_ih_l0
    if ids is not None:
        source, ids = gate_table(weight_ih, input_bias, source, ids)
        weight_ih = None
    c = state[1] if len(state) > 1 else None
    recurrent = (layer.weight_hh_l0, recurrent_bias, state[0], c, reset)
    return cell, source, ids, weight_ih, input_bias, *recurrent


def gate_table(weight: Tensor, bias: Tensor, symbols: Tensor | None, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gate inputs of symbols, (V, G H), and ids into it: all symbols, or those of the window."""
    if weight.shape[1] > ids.numel() or (symbols is not None and len(symbols) > ids.numel()):
        present, ids = torch.unique(ids, return_inverse=True)
        if symbols is None:
            return weight.t()[present] + bias, ids
        symbols = symbols[present]
    table = weight.t() + bias if symbols is None else torch.addmm(bias, symbols, weight.t())
    return table, ids.contiguous()


def biases(cell: str, layer: RecurrentLayer) -> tuple[Tensor, Tensor | None]:
    """Return the bias of the gate inputs, (G H,), and the GRU's inner one, (H,), which r scales."""
    if cell != "gru":
        return layer.bias_ih_l0 + layer.bias_hh_l0, None
    size = layer.hidden_size
    return layer.bias_ih_l0 + pad(layer.bias_hh_l0[: 2 * size], (0, size)), layer.bias_hh_l0[2 * size :]


class _Run:
    """The arrays of one layer's window, filled by the kernel; arguments as for ``_LayerWindow``."""

    def __init__(
        self,
        cell: str,
        source: Tensor,
        ids: Tensor | None,
        weight_ih: Tensor | None,
        input_bias: Tensor,
        weight_hh: Tensor,
        recurrent_bias: Tensor | None,
        h: Tensor,
        c: Tensor | None,
        reset: Tensor | None,
    ) -> None:
        self.code, self.num_gates = CELLS[cell]
        self.cell, self.reset = cell, reset
        self.length, self.rows = (source if ids is None else ids).shape[:2]
        self.size = weight_hh.shape[1]
        shape = (self.length, self.rows, self.num_gates * self.size)
        if ids is None:
            flat = torch.addmm(input_bias, source.flatten(0, 1), weight_ih.t())
            self.gates = table = flat.view(shape)
        else:
            self.gates, table = source.new_empty(shape), source.contiguous()
        self.h = _begun(h, self.length)
        self.c = None if c is None else _begun(c, self.length)
        self.kept = source.new_empty(self.length, self.rows, self.size) if cell == "gru" else None
        self.bias = recurrent_bias
        self.pack(weight_hh, backward=False)
        self.call(table, ids, backward=False)

    def pack(self, weight_hh: Tensor, *, backward: bool) -> None:
        """Pack the recurrent weights, (G H, H)."""
        native, weight_hh = _native(), weight_hh.contiguous()
        self.panels = weight_hh.new_empty(native.panels_size(self.num_gates, self.size, backward=backward))
        depth = self.num_gates * self.size if backward else self.num_gates
        function = native.pack_backward if backward else native.pack_forward
        function(_at(weight_hh), _at(self.panels), depth, self.size, torch.get_num_threads())

    def call(self, table: Tensor | None, ids: Tensor | None, *, backward: bool, **gradients: Tensor) -> None:
        """Call the kernel."""
        arrays = {"input": table, "ids": ids, "reset": self.reset, "bias": self.bias, "panels": self.panels}
        arrays |= {"gates": self.gates, "kept": self.kept, "h": self.h, "c": self.c, **gradients}
        pointers = {name: _at(array) for name, array in arrays.items()}
        window = Window(self.length, self.rows, self.size, **pointers)
        threads = max(1, min(torch.get_num_threads(), self.rows // MIN_ROWS))
        if _native().recurrence(window, self.code, backward, threads):
            raise MemoryError("no memory for a window")

    def states(self) -> list[Tensor]:
        """Return the states after every timestep, each (T, B, H)."""
        return [part[1:] for part in (self.h, self.c) if part is not None]

    def after(self) -> State:
        """Return the state after the window."""
        return tuple(part[-1] for part in (self.h, self.c) if part is not None)

    def before(self) -> Tensor:
        """Return h before every timestep, (T B, H), zero where it was reset."""
        before = self.h[:-1]
        if self.reset is not None:
            before = before * (self.reset == 0).unsqueeze(2)
        return before.flatten(0, 1)


class _LayerWindow(torch.autograd.Function):
    """A layer over a window.

    Inputs are the cell's name, inputs (T, B, I) or with ids the gate inputs of every symbol (V, G H), ids
    (T, B) or None, weights (G H, I) or with ids None, the bias of the gate inputs, which a table already
    has in it, recurrent weights (G H, H), the GRU's inner bias (H,), the state before, and resets.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor | None, ...]:
        run = _Run(*args)
        _, source, ids, weight_ih, _, weight_hh, *_ = args
        if any(ctx.needs_input_grad):
            # the arrays are nobody else's and backward overwrites them, so they need no versions
            ctx.run, ctx.num_symbols = run, len(source)
            ctx.save_for_backward(source if ids is None else None, ids, weight_ih, weight_hh)
        outputs, after = run.h[1:], [part.clone() for part in run.after()]
        return outputs, *after, *[None] * (2 - len(after))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, *after: Tensor | None) -> tuple[Tensor | None, ...]:
        run, ctx.run = ctx.run, None
        if run is None:
            raise RuntimeError("the gradients of a window overwrite its activations: backward runs once")
        source, ids, weight_ih, weight_hh = ctx.saved_tensors
        carry = [run.h.new_zeros(run.rows, run.size) if d is None else d.clone() for d in after]
        run.pack(weight_hh, backward=True)
        run.call(None, None, backward=True, dh=dh.contiguous(), carry_h=carry[0], carry_c=carry[1])
        gates, inner = run.gates.flatten(0, 1), None if run.kept is None else run.kept.flatten(0, 1)
        if ids is not None:
            d_source, d_weight_ih = _sum_by_id(gates, ids, ctx.num_symbols), None
        else:
            d_source = (gates @ weight_ih).view_as(source) if ctx.needs_input_grad[1] else None
            d_weight_ih = gates.t() @ source.flatten(0, 1)
        d_bias = gates.sum(0) if ids is None else None
        d_weight_hh = _recurrent_gradient(run, gates, inner)
        d_inner = None if inner is None else inner.sum(0)
        d_h, d_c = _state_gradients(ctx, run, weight_hh, carry)
        return None, d_source, None, d_weight_ih, d_bias, d_weight_hh, d_inner, d_h, d_c, None


def _recurrent_gradient(run: _Run, gates: Tensor, inner: Tensor | None) -> Tensor:
    """Return the gradient of the recurrent weights, (G H, H), from those of the gates, (T B, G H)."""
    before = run.before()
    if inner is None:
        return gates.t() @ before
    outer = 2 * run.size
    gradient = gates.new_empty(gates.shape[1], run.size)
    torch.mm(gates[:, :outer].t(), before, out=gradient[:outer])
    torch.mm(inner.t(), before, out=gradient[outer:])
    return gradient


def _state_gradients(ctx: Any, run: _Run, weight_hh: Tensor, carry: list[Tensor]) -> list[Tensor | None]:
    """Return the gradients of h and c before the window, where somebody asks."""
    if not ctx.needs_input_grad[7]:
        return [None, carry[1] if run.c is not None and ctx.needs_input_grad[8] else None]
    first = run.gates[0]
    if run.kept is not None:
        first = torch.cat([first[:, : 2 * run.size], run.kept[0]], dim=1)
    if run.reset is not None:
        first = first * (run.reset[0] == 0).unsqueeze(1)
    return [carry[0] + first @ weight_hh, carry[1] if run.c is not None else None]


def _sum_by_id(rows: Tensor, ids: Tensor, num_symbols: int) -> Tensor:
    """Return the sum of the rows (N, W) of every id, (V, W)."""
    total = rows.new_zeros(num_symbols, rows.shape[1])
    threads = torch.get_num_threads()
    _native().add_rows(_at(total), _at(rows), _at(ids), len(rows), rows.shape[1], threads)
    return total


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of a linear readout; the gradient is made along with the loss."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        logits = torch.addmm(bias, hidden, weight.t())
        nats = hidden.new_empty(len(hidden))
        shape = logits.shape
        _native().cross_entropy(_at(logits), _at(targets), _at(nats), *shape, torch.get_num_threads())
        ctx.save_for_backward(hidden, weight, logits)
        return nats.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        if d_loss != 1:
            gradient = gradient * d_loss
        return gradient @ weight, gradient.t() @ hidden, gradient.sum(0), None


def readout_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of ``hidden W' + b`` with targets.

    Args:
        hidden: (N, H) float32 on the CPU.
        weight: (V, H).
        bias: (V,).
        targets: (N,) int64.
    """
    return _CrossEntropy.apply(hidden, weight, bias, targets.contiguous())


def _begun(state: Tensor, length: int) -> Tensor:
    """Return room for a state and those after each of ``length`` timesteps, (T + 1, B, H)."""
    room = state.new_empty(length + 1, *state.shape)
    room[0] = state
    return room


def _native() -> Library:
    found = library()
    assert found is not None
    return found


def _at(array: Tensor | None) -> int | None:
    return None if array is None else array.data_ptr()
