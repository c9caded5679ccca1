"""Torch's recurrent layers on weights and rows of padded size, in another type than the weights'.

cuDNN has its fastest kernel for a single fp16 layer whose sizes are multiples of 128 (``paths.py``). A layer
is made one: its weights are cast and padded inside autograd, so that gradients arrive at the fp32 weights and
what was padded has none. A neuron of zero weights stays zero (in LSTM and GRU, as tanh(0) = 0 is what would
come in), and nobody reads a padded row; so outputs, final state and every gradient are the layer's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import _VF, Tensor
from torch.nn.functional import pad

from charrnn.model.cells.base import RecurrentLayer, State
from charrnn.model.paths import Path, up

FUNCTIONS = {"LSTM": _VF.lstm, "GRU": _VF.gru, "RNN_TANH": _VF.rnn_tanh, "RNN_RELU": _VF.rnn_relu}
"""What runs a window, by torch's name of the kind of layer."""


@dataclass(frozen=True)
class StackWindow:
    """A window for layers of padded size: the path, what the first layer reads, (T, B, I), and the type."""

    path: Path
    first: Tensor
    dtype: torch.dtype

    def __call__(self, layer: RecurrentLayer, inputs: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Run one layer; states keep their type, outputs (T, B, H) have that of the window."""
        inputs = (self.first if inputs is None else inputs).to(self.dtype)
        rows, width = inputs.shape[1:]
        size, more = up(layer.hidden_size, self.path.hidden_multiple), -rows % self.path.rows_multiple
        padded = _grown(inputs, more, up(width, self.path.inputs_multiple) - width)
        weights = flat_weights(layer, padded.shape[-1], size, self.dtype)
        begin = [_grown(part.to(self.dtype), more, size - layer.hidden_size).unsqueeze(0) for part in state]
        outputs, *after = FUNCTIONS[layer.mode](
            padded,
            tuple(begin) if len(begin) > 1 else begin[0],
            weights,
            True,  # biases
            1,  # layers
            0.0,  # dropout, which is ours: cuDNN's own cannot be captured in a graph
            torch.is_grad_enabled(),  # cuDNN keeps what its backward needs only if told that it trains
            False,  # bidirectional
            False,  # batch first
        )
        kept = slice(None), slice(rows), slice(layer.hidden_size)
        ends = (end[kept][0].to(part.dtype) for end, part in zip(after, state, strict=True))
        return outputs[kept], tuple(ends)


def flat_weights(layer: RecurrentLayer, width: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    """Return a layer's weights for inputs (·, width) and ``size`` neurons, one after the other in memory.

    Returns:
        Input weights (G size, width), recurrent weights (G size, size) and a bias (G size,) for each: views
        of one array in cuDNN's order, which it therefore need not copy.
    """
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    num_gates, more = len(weights[1]) // layer.hidden_size, size - layer.hidden_size
    parts = [weight.to(dtype).view(num_gates, layer.hidden_size, -1) for weight in weights]
    columns = (width - parts[0].shape[2], more, 0, 0)
    parts = [_grown(part, more, extra) for part, extra in zip(parts, columns, strict=True)]
    flat = torch.cat([part.flatten() for part in parts])
    pieces = flat.split([part.numel() for part in parts])
    shapes = [(num_gates * size, width), (num_gates * size, size), (num_gates * size,), (num_gates * size,)]
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _grown(values: Tensor, rows: int, columns: int) -> Tensor:
    """Return values (…, R, C) with rows and columns of zeros after the others."""
    return pad(values, (0, columns, 0, rows)) if rows or columns else values
