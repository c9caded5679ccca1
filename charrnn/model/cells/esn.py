"""The echo state network: a sparse random reservoir that is never trained.

    h' = (1 - a) h + a tanh(W x + U h + b)      a is the leak

Only the readout learns. U is drawn with a few connections into each neuron and scaled to a spectral
radius; below 1 it makes two different states converge on the same text (the echo state property)
in all but contrived cases.

Source: Jaeger 2001 (GMD report 148); leak and rules of thumb from Jaeger et al. 2007 and Lukoševičius 2012.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from charrnn.config import ModelConfig
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched


class ESN(RecurrentLayer):
    """Reservoir of leaky tanh neurons with weights named as in ``torch.nn.RNN``; it has no gates."""

    gate_names = ()
    fixed = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.leak = 1.0
        self.weight_ih_l0 = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.zeros(hidden_size))
        for weight in (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0):
            nn.init.uniform_(weight, -1 / sqrt(hidden_size), 1 / sqrt(hidden_size))

    def initialise(self, config: ModelConfig, depth: int) -> None:
        """Draw the reservoir; inputs that are not one-hot are many, and weighted down by their number."""
        self.leak = config.leak
        one_hot = depth == 0 and not config.embedding_size
        scaling = config.input_scaling / (1.0 if one_hot else sqrt(self.weight_ih_l0.shape[1]))
        nn.init.uniform_(self.weight_ih_l0, -scaling, scaling)
        nn.init.uniform_(self.bias_ih_l0, -config.input_scaling, config.input_scaling)
        with torch.no_grad():
            self.weight_hh_l0.copy_(reservoir(self.weight_hh_l0, config.fan_in, config.spectral_radius))

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, H)."""
        (h,) = state
        new = torch.tanh(gate_input + nn.functional.linear(h, self.weight_hh_l0, self.bias_hh_l0))
        return (hold("h", h + self.leak * (new - h)),)

    def recurrence(
        self, inputs: Tensor | PackedSequence, state: State
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run a window, the input's part for all timesteps at once; arguments as for every cell."""
        if not isinstance(inputs, PackedSequence):
            outputs, after = self._run(self.gate_input(inputs).unbind(0), state[0])
            return torch.stack(outputs), (after,)
        rows = self.gate_input(inputs.data).split(inputs.batch_sizes.tolist())
        outputs, after = self._run(rows, state[0])
        return PackedSequence(torch.cat(outputs), inputs.batch_sizes), (after,)

    def _run(self, gate_inputs: tuple[Tensor, ...], h: Tensor) -> tuple[list[Tensor], Tensor]:
        """Advance while rows end, the last ones first; return all outputs and the last state of every row."""
        outputs, ended = [], []
        recurrent = self.weight_hh_l0.t()
        for gate_input in gate_inputs:
            if len(gate_input) < len(h):
                ended.append(h[len(gate_input) :])
                h = h[: len(gate_input)]
            new = torch.addmm(gate_input + self.bias_hh_l0, h, recurrent).tanh()
            h = new if self.leak == 1.0 else torch.lerp(h, new, self.leak)
            outputs.append(h)
        return outputs, torch.cat([h, *reversed(ended)])


def reservoir(like: Tensor, fan_in: int, spectral_radius: float) -> Tensor:
    """Return sparse random weights, (H, H), with the largest absolute eigenvalue asked for.

    Args:
        like: Weights whose size, device and kind are taken.
        fan_in: Connections into each neuron; all where the reservoir has no more neurons.
        spectral_radius: Of the result, unless chance made every eigenvalue zero.
    """
    if like.is_meta:  # only shapes are wanted
        return torch.empty_like(like)
    size = len(like)
    weights = torch.rand(size, size, dtype=torch.float64) * 2 - 1
    chosen = torch.rand(size, size).argsort(dim=1)[:, : min(fan_in, size)]
    weights *= torch.zeros_like(weights).scatter_(1, chosen, 1.0)
    radius = torch.linalg.eigvals(weights).abs().max()
    return (weights * (spectral_radius / radius.clamp(min=1e-9))).to(like)
