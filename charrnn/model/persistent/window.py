"""A window of layers by the persistent kernels, behind autograd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, linear, pad

from charrnn.model import kernels as native
from charrnn.model.cells.base import RecurrentLayer, State
from charrnn.model.persistent.tiling import Tiling, choose

CELLS = ("lstm", "gru")
CAPABILITY = (8, 0)
"""Oldest CUDA architecture: the first whose tensor cores multiply bf16."""
HOST = (1, 128 * 1024)
"""Programs of a layer that Triton's interpreter can let wait for one another, and what memory they have."""


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


def tiling_for(
    hidden_size: int, batch_size: int, layers: int, dtype: torch.dtype, device: torch.device
) -> Tiling:
    """Return how a window is parted on a device, and how many of its layers a launch takes."""
    if device.type != "cuda":
        return replace(choose(hidden_size, batch_size, *HOST, dtype.itemsize), layers=layers)
    found = torch.cuda.get_device_properties(device)
    shared_bytes = found.shared_memory_per_multiprocessor - 1024  # which the system takes of every program
    programs = found.multi_processor_count
    return choose(hidden_size, batch_size, programs, shared_bytes, dtype.itemsize, layers)


def run_layers(
    cell: str,
    layers: Sequence[RecurrentLayer],
    source: Tensor | None,
    ids: Tensor | None,
    states: Sequence[State],
    reset: Tensor | None,
    dtype: torch.dtype = torch.bfloat16,
    drop: Tensor | None = None,
    tiling: Tiling | None = None,
) -> tuple[list[Tensor], tuple[State, ...]]:
    """Run layers of one H over a window, each of which reads the one below: as many a launch as fit.

    Args:
        cell: ``lstm`` or ``gru``.
        layers: The weights, lowest layer first.
        source: Inputs (T, B, I); or with ids the embedding of every symbol (V, I), None if that is one-hot.
        ids: (T, B) int64, or None.
        states: The state of every layer before the first timestep, each tensor (B, H).
        reset: Where the state is set to zero before the timestep, (T, B) bool or uint8, or None.
        dtype: Of the products' operands, of the outputs, and of what is kept for the way back. Sums,
            c of an LSTM and what a GRU carries are fp32 whatever it is.
        drop: Dropout: what every layer's outputs are multiplied by before the next reads them,
            (layers - 1, T, B, H), or (layers - 1, 1, B, H) for every timestep the same; or None.
        tiling: How to part the window, and how many layers a launch takes; None: as fits the device.

    Returns:
        Hidden states of every layer, (T, B, H) of ``dtype``, before dropout; and the states after the last
        timestep, as ``states``' dtype.
    """
    outputs: list[Tensor] = []
    after: list[State] = []
    rows, size = states[0][0].shape
    while (done := len(outputs)) < len(layers):
        if done:
            source, ids = outputs[-1] if drop is None else outputs[-1] * drop[done - 1], None
        parted = tiling or tiling_for(size, rows, len(layers) - done, dtype, layers[0].weight_hh_l0.device)
        some = layers[done : done + parted.layers]
        between = drop[done : done + len(some) - 1] if drop is not None and len(some) > 1 else None
        parted = replace(parted, layers=len(some))
        found = _launch(cell, some, source, ids, states[done:], reset, dtype, between, parted)
        outputs += found[0]
        after += found[1]
    return outputs, tuple(after)


def _launch(
    cell: str,
    layers: Sequence[RecurrentLayer],
    source: Tensor | None,
    ids: Tensor | None,
    states: Sequence[State],
    reset: Tensor | None,
    dtype: torch.dtype,
    drop: Tensor | None,
    tiling: Tiling,
) -> tuple[list[Tensor], list[State]]:
    """Run the layers of one launch; arguments and results as for ``run_layers``."""
    states = states[: len(layers)]
    gate_input = _gate_input(cell, layers[0], source, ids, dtype)
    weight = torch.stack([layer.weight_hh_l0.to(dtype) for layer in layers])
    if cell == "gru":
        weight = weight.roll(layers[0].hidden_size, 1)  # r z n become n r z, the order of slots
    upper = [layer.weight_ih_l0.to(dtype) for layer in layers[1:]]
    weights = weight, torch.stack(upper) if upper else None, _slot_bias(cell, layers)
    first = (torch.stack([s[0].to(dtype) for s in states]), torch.stack([s[-1].float() for s in states]))
    *outputs, last = _LayersWindow.apply(tiling, gate_input, *weights, *first, reset, drop)
    after = [
        (h[-1].to(s[0].dtype), c.to(s[1].dtype)) if cell == "lstm" else (c.to(s[0].dtype),)
        for h, c, s in zip(outputs, last, states, strict=True)
    ]
    return outputs, after


def _gate_input(
    cell: str, layer: RecurrentLayer, source: Tensor | None, ids: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Return the gate inputs of a window, (T, B, G H)."""
    bias, _ = native.biases(cell, layer)
    if ids is None:
        return linear(source.to(dtype), layer.weight_ih_l0.to(dtype), bias.to(dtype))
    table, ids = native.gate_table(layer.weight_ih_l0, bias, source, ids)
    return embedding(ids, table.to(dtype))


def _slot_bias(cell: str, layers: Sequence[RecurrentLayer]) -> Tensor | None:
    """Return the biases that no gate input has, (layers, 4 H) fp32; None if there are none."""
    if cell == "lstm" and len(layers) == 1:
        return None
    biases = []
    for layer in layers:
        bias, inner = native.biases(cell, layer)
        bias = bias if biases else torch.zeros_like(bias)
        biases.append(bias if inner is None else torch.cat([inner, bias]))
    return torch.stack(biases).float()


def options(tiling: Tiling) -> dict[str, Any]:
    """Return how Triton is to compile and launch the kernels."""
    return {
        "num_warps": tiling.warps,
        "num_stages": 1,  # a pipelined loop would read ahead, past the barrier
        "launch_cooperative_grid": True,  # all programs run at once or the launch fails: none waits for ever
    }


class Window:
    """The arrays of one window of some layers, and the launches that fill them.

    Args:
        tiling: How it is parted.
        gate_input: Of the lowest layer, (T, B, G H), of the operands' dtype.
        weight: Recurrent weights in the order of slots, (L, G H, H), alike.
        weight_in: Weights from the layers below, (L - 1, G H, H), alike; of one layer None.
        bias: What ``gate_input`` lacks, in the order of slots, (L, 4 H) fp32, or None.
        h: What the products begin with, (L, B, H) of the operands' dtype.
        carried: c of an LSTM, h of a GRU, (L, B, H) fp32.
        reset: (T, B) bool or uint8, or None.
        drop: Factors of what is read of a layer below, (L - 1, T or 1, B, H), or None.
        keep: Whether ``backward`` will be asked for.
    """

    def __init__(
        self,
        tiling: Tiling,
        gate_input: Tensor,
        weight: Tensor,
        weight_in: Tensor | None,
        bias: Tensor | None,
        h: Tensor,
        carried: Tensor,
        reset: Tensor | None,
        drop: Tensor | None,
        *,
        keep: bool,
    ) -> None:
        self.tiling, self.keep, self.bias = tiling, keep, bias
        self.gate_input, self.weight = gate_input.contiguous(), weight.contiguous()
        # the lowest layer's are zeros, which stand above the top layer, too
        self.weight_in = None if weight_in is None else pad(weight_in, (0, 0, 0, 0, 1, 0))
        self.length, self.rows, width = gate_input.shape
        self.layers, _, self.size = weight.shape
        self.num_gates = width // self.size
        self.h = h.new_empty(self.layers, self.length + 1, self.rows, self.size)
        self.h[:, 0] = h
        self.state = carried.new_empty(self.layers, self.length + 1 if keep else 1, self.rows, self.size)
        self.state[:, 0] = carried
        self.slots = h.new_empty(*self.h.shape[:3], 4 * self.size) if keep else None
        self.reset = None if reset is None else _with_row(reset.to(torch.uint8))
        self.drop, self.passed = None, self.h
        if drop is not None:
            self.drop = drop.to(h.dtype).contiguous().expand(-1, self.length, -1, -1)
            self.passed = torch.empty_like(self.h[1:])
        self.counter = torch.zeros(self.layers, tiling.groups, dtype=torch.int32, device=h.device)

    def forward(self) -> None:
        """Fill ``h``, ``passed``, ``state`` and, if they are kept, ``slots``."""
        for t, steps, layers in self._launches():
            arrays = [self.gate_input[t:], self.weight, self.weight_in, self.bias]
            arrays += [None if self.reset is None else self.reset[t:], *self._from(t, self.drop, self.slots)]
            arrays += self._from(t, self.h, self.passed)
            arrays += self._from(t if self.keep else 0, self.state)
            self._launch(arrays, steps, layers, backward=False)

    def backward(self, d_output: Tensor, carry: Tensor) -> Tensor:
        """Return the gradients of the slots before their nonlinearities, (L, T, B, 4 H), in their place.

        Args:
            d_output: Gradient of the outputs, (L, T, B, H), contiguous.
            carry: Gradient of the carried state after the window, (L, B, H) fp32; then of that before it.
        """
        self.slots[:, -1].zero_()
        for begin, steps, layers in self._launches():
            t = self.length - begin - 1
            arrays = [self.weight, self.weight_in, None if self.reset is None else self.reset[t:]]
            arrays += [*self._from(t, self.drop, self.slots, d_output, self.state), carry]
            self._launch(arrays, steps, [self.layers - 1 - layer for layer in layers], backward=True)
        return self.slots[:, :-1]

    def before(self) -> Tensor:
        """Return h before every timestep, (L, T B, H), zero where it was reset."""
        before = self.h[:, :-1]
        if self.reset is not None:
            before = before * (self.reset[:-1] == 0).unsqueeze(2)
        return before.flatten(1, 2)

    def _launches(self) -> Iterator[tuple[int, int, list[int]]]:
        """Yield where each launch begins, counted in timesteps, how many it takes, and of which layers."""
        steps, layers = self.tiling.steps or self.length, list(range(self.layers))
        for t in range(0, self.length, steps):
            for some in [layers] if self.tiling.steps is None else [[layer] for layer in layers]:
                yield t, min(steps, self.length - t), some

    def _launch(self, arrays: list[Tensor | None], steps: int, layers: list[int], *, backward: bool) -> None:
        from charrnn.model.persistent import kernels

        tiling, slices = self.tiling, self.tiling.slices(self.size)
        kernel = kernels.backward if backward else kernels.forward
        sizes = [steps, layers[0], self.length, self.rows, tiling.tiles(self.rows), slices]
        sizes += (0, 0) if self.drop is None else self.drop.stride()[:2]
        item_bytes = self.weight.element_size()
        constants = tiling.constants(self.size, self.num_gates, item_bytes, backward=backward)
        self._nobody_arrived(layers)
        with torch.cuda.device_of(self.h):
            kernel[(slices, tiling.groups, len(layers))](
                *arrays, self.counter, *sizes, **constants, TYPE=self._product(), **options(tiling)
            )

    def _nobody_arrived(self, layers: list[int]) -> None:
        """Begin to count; the others have done what is waited for, and it stays counted."""
        for layer in layers:
            self.counter[layer].zero_()

    @staticmethod
    def _from(t: int, *arrays: Tensor | None) -> list[Tensor | None]:
        return [None if array is None else array[:, t:] for array in arrays]

    def _product(self) -> Any:
        """Return the dtype in which operands are multiplied; the interpreter has no products of bf16."""
        from triton import language

        from charrnn.model.persistent.kernels import INTERPRETED

        if INTERPRETED and self.weight.dtype == torch.bfloat16:
            return language.float32
        return getattr(language, str(self.weight.dtype).removeprefix("torch."))


class _LayersWindow(torch.autograd.Function):
    """Layers over a window: ``Window``'s arguments to outputs of each, (T, B, H), and the carried states."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        window = Window(*args, keep=any(ctx.needs_input_grad))
        window.forward()
        if window.keep:
            window.gate_input = None
            # the arrays are nobody else's and backward overwrites them, so they need no versions
            ctx.window = window
        return *(window.h[layer, 1:] for layer in range(window.layers)), window.state[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        window, ctx.window = ctx.window, None
        if window is None:
            raise RuntimeError("the gradients of a window overwrite its activations: backward runs once")
        *d_outputs, d_carried = gradients
        d_output = d_outputs[0].contiguous()[None] if window.layers == 1 else torch.stack(d_outputs)
        carry = d_carried.clone()
        slots, size = window.backward(d_output, carry), window.size
        recurrent, inputs = slots[..., : window.num_gates * size], slots[..., -window.num_gates * size :]
        d_weight = recurrent.flatten(1, 2).mT @ window.before()
        d_weight_in = None
        if window.weight_in is not None:
            d_weight_in = inputs[1:].flatten(1, 2).mT @ window.passed[: window.layers - 1, 1:].flatten(1, 2)
        first = recurrent[:, 0]
        if window.reset is not None:
            first = first * (window.reset[0] == 0).unsqueeze(1)
        d_bias = None if window.bias is None else slots.sum((1, 2), dtype=torch.float32)
        weights = d_weight, d_weight_in, d_bias
        return None, inputs[0], *weights, first @ window.weight, carry, None, None


def _with_row(reset: Tensor) -> Tensor:
    """Return resets (T, B) with a row of zeros after the last, which the way back looks at."""
    return torch.cat([reset, torch.zeros_like(reset[:1])])
