"""A layer's window by the persistent kernels, behind autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, linear

from charrnn.model import kernels as native
from charrnn.model.cells.base import RecurrentLayer, State
from charrnn.model.persistent.tiling import Tiling, choose

CELLS = ("lstm", "gru")
CAPABILITY = (8, 0)
"""Oldest CUDA architecture: the first whose tensor cores multiply bf16."""
HOST = (1, 128 * 1024)
"""Programs that Triton's interpreter can let wait for one another, and shared memory that they would have."""


def why_not(cell: str, device: torch.device) -> str | None:
    """Return why the persistent kernels cannot run a cell on a device; None if they can."""
    if cell not in CELLS:
        return f"there is no persistent kernel for `{cell}`"
    try:
        from charrnn.model.persistent.kernels import INTERPRETED
    except ImportError:
        return "Triton is not installed"
    if INTERPRETED:
        return None
    if device.type != "cuda":
        return f"Triton's kernels do not run on `{device.type}`"
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        return "the device is older than compute capability 8.0"
    return None


def tiling_for(hidden_size: int, batch_size: int, dtype: torch.dtype, device: torch.device) -> Tiling:
    """Return how a window is parted on a device."""
    if device.type != "cuda":
        return choose(hidden_size, batch_size, *HOST, dtype.itemsize)
    found = torch.cuda.get_device_properties(device)
    shared_bytes = found.shared_memory_per_multiprocessor - 1024  # which the system takes of every program
    return choose(hidden_size, batch_size, found.multi_processor_count, shared_bytes, dtype.itemsize)


def run_layer(
    cell: str,
    layer: RecurrentLayer,
    source: Tensor | None,
    ids: Tensor | None,
    state: State,
    reset: Tensor | None,
    dtype: torch.dtype = torch.bfloat16,
    tiling: Tiling | None = None,
) -> tuple[Tensor, State]:
    """Run one layer over a window.

    Args:
        cell: ``lstm`` or ``gru``.
        layer: The weights.
        source: Inputs (T, B, I); or with ids the embedding of every symbol (V, I), None if that is one-hot.
        ids: (T, B) int64, or None.
        state: The state before the first timestep, each (B, H).
        reset: Where the state is set to zero before the timestep, (T, B) bool or uint8, or None.
        dtype: Of the products' operands, of the outputs, and of what is kept for the way back. Sums,
            c of an LSTM and what a GRU carries are fp32 whatever it is.
        tiling: How to part the window; None: as fits the device.

    Returns:
        Hidden states, (T, B, H) of ``dtype``, and the state after the last timestep, as ``state``'s dtype.
    """
    gate_input, inner_bias = _gate_input(cell, layer, source, ids, dtype)
    weight = layer.weight_hh_l0.to(dtype)
    if cell == "gru":
        weight = weight.roll(layer.hidden_size, 0)  # r z n become n r z, the order of slots
    tiling = tiling or tiling_for(layer.hidden_size, gate_input.shape[1], dtype, gate_input.device)
    first = state[0].to(dtype), state[-1].float()
    outputs, last = _LayerWindow.apply(tiling, gate_input, weight, inner_bias, *first, reset)
    last = last.to(state[-1].dtype)
    return outputs, (outputs[-1].to(state[0].dtype), last) if cell == "lstm" else (last,)


def _gate_input(
    cell: str, layer: RecurrentLayer, source: Tensor | None, ids: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return the gate inputs of a window, (T, B, G H), and the GRU's inner bias in fp32, (H,)."""
    bias, inner_bias = native.biases(cell, layer)
    inner_bias = None if inner_bias is None else inner_bias.float()
    if ids is None:
        weight = layer.weight_ih_l0
        return linear(source.to(dtype), weight.to(dtype), bias.to(dtype)), inner_bias
    table, ids = native.gate_table(layer.weight_ih_l0, bias, source, ids)
    return embedding(ids, table.to(dtype)), inner_bias


def options(tiling: Tiling) -> dict[str, Any]:
    """Return how Triton is to compile and launch the kernels."""
    return {
        "num_warps": tiling.warps,
        "num_stages": 1,  # a pipelined loop would read ahead, past the barrier
        "launch_cooperative_grid": True,  # all programs run at once or the launch fails: none waits for ever
    }


class Window:
    """The arrays of one layer's window, and the launches that fill them.

    Args:
        tiling: How it is parted.
        gate_input: (T, B, G H), contiguous, of the operands' dtype.
        weight: Recurrent weights in the order of slots, (G H, H), alike.
        inner_bias: A GRU's, (H,) fp32; None makes it an LSTM.
        h: What the products begin with, (B, H) of the operands' dtype.
        carried: c of an LSTM, h of a GRU, (B, H) fp32.
        reset: (T, B) bool or uint8, or None.
        keep: Whether ``backward`` will be asked for.
    """

    def __init__(
        self,
        tiling: Tiling,
        gate_input: Tensor,
        weight: Tensor,
        inner_bias: Tensor | None,
        h: Tensor,
        carried: Tensor,
        reset: Tensor | None,
        *,
        keep: bool,
    ) -> None:
        self.tiling, self.keep, self.inner_bias = tiling, keep, inner_bias
        self.gate_input, self.weight = gate_input.contiguous(), weight.contiguous()
        self.length, self.rows, _ = gate_input.shape
        self.size = weight.shape[1]
        self.num_gates = len(weight) // self.size
        self.h = h.new_empty(self.length + 1, self.rows, self.size)
        self.h[0] = h
        self.state = carried.new_empty(self.length + 1 if keep else 1, self.rows, self.size)
        self.state[0] = carried
        self.slots = h.new_empty(self.length + 1, self.rows, 4 * self.size) if keep else None
        self.reset = None if reset is None else _with_row(reset.to(torch.uint8))
        self.counter = torch.zeros(tiling.groups, dtype=torch.int32, device=h.device)

    def forward(self) -> None:
        """Fill ``h``, ``state`` and, if they are kept, ``slots``."""
        step = self.rows * self.size if self.keep else 0
        for t, steps in self._launches():
            arrays = [self.gate_input[t:], self.weight, self.inner_bias, _from(self.reset, t)]
            arrays += [_from(self.slots, t), self.h[t:], self.state[t if self.keep else 0 :]]
            self._launch(arrays, steps, step, backward=False)

    def backward(self, d_output: Tensor, carry: Tensor) -> Tensor:
        """Return the gradients of the slots before their nonlinearities, (T, B, 4 H), which take their place.

        Args:
            d_output: Gradient of the outputs, (T, B, H), contiguous.
            carry: Gradient of the carried state after the window, (B, H) fp32; afterwards of that before it.
        """
        self.slots[-1].zero_()
        for begin, steps in self._launches():
            t = self.length - begin - 1
            arrays = [self.weight, _from(self.reset, t), self.slots[t:], d_output[t:], self.state[t:], carry]
            self._launch(arrays, steps, backward=True)
        return self.slots[:-1]

    def before(self) -> Tensor:
        """Return h before every timestep, (T B, H), zero where it was reset."""
        before = self.h[:-1]
        if self.reset is not None:
            before = before * (self.reset[:-1] == 0).unsqueeze(2)
        return before.flatten(0, 1)

    def _launches(self) -> list[tuple[int, int]]:
        """Return where the launches begin, counted in timesteps, and how many each takes."""
        steps = self.tiling.steps or self.length
        return [(t, min(steps, self.length - t)) for t in range(0, self.length, steps)]

    def _launch(self, arrays: list[Tensor | None], steps: int, *more: int, backward: bool) -> None:
        from charrnn.model.persistent import kernels

        tiling, slices = self.tiling, self.tiling.slices(self.size)
        kernel = kernels.backward if backward else kernels.forward
        sizes = [steps, self.rows, tiling.tiles(self.rows), slices, *more]
        item_bytes = self.weight.element_size()
        constants = tiling.constants(self.size, self.num_gates, item_bytes, backward=backward)
        self.counter.zero_()
        with torch.cuda.device_of(self.h):
            kernel[(slices, tiling.groups)](
                *arrays, self.counter, *sizes, **constants, TYPE=self._product(), **options(tiling)
            )

    def _product(self) -> Any:
        """Return the dtype in which operands are multiplied; the interpreter has no products of bf16."""
        from triton import language

        from charrnn.model.persistent.kernels import INTERPRETED

        if INTERPRETED and self.weight.dtype == torch.bfloat16:
            return language.float32
        return getattr(language, str(self.weight.dtype).removeprefix("torch."))


class _LayerWindow(torch.autograd.Function):
    """A layer over a window: ``Window``'s arguments to outputs, (T, B, H), and the carried state, (B, H)."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        window = Window(*args, keep=any(ctx.needs_input_grad))
        window.forward()
        if window.keep:
            window.gate_input = None
            # the arrays are nobody else's and backward overwrites them, so they need no versions
            ctx.window = window
        return window.h[1:], window.state[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, d_carried: Tensor) -> tuple[Tensor | None, ...]:
        window, ctx.window = ctx.window, None
        if window is None:
            raise RuntimeError("the gradients of a window overwrite its activations: backward runs once")
        carry = d_carried.clone()
        slots, size = window.backward(d_output.contiguous(), carry), window.size
        recurrent = slots[:, :, : window.num_gates * size]
        d_weight = recurrent.flatten(0, 1).t() @ window.before()
        first = recurrent[0]
        if window.reset is not None:
            first = first * (window.reset[0] == 0).unsqueeze(1)
        d_bias = None
        if window.inner_bias is not None:
            d_bias = slots[:, :, :size].sum((0, 1), dtype=torch.float32)
            slots = slots[:, :, size:]
        return None, slots, d_weight, d_bias, first @ window.weight, carry, None


def _with_row(reset: Tensor) -> Tensor:
    """Return resets (T, B) with a row of zeros after the last, which the way back looks at."""
    return torch.cat([reset, torch.zeros_like(reset[:1])])


def _from(array: Tensor | None, t: int) -> Tensor | None:
    return None if array is None else array[t:]
