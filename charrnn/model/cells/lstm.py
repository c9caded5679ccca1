"""The long short-term memory.

    i, f, o = σ(W x + U h + b)      g = tanh(W x + U h + b)
    c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')

Source: Hochreiter & Schmidhuber 1997; forget gate from Gers, Schmidhuber & Cummins 2000.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charrnn.config import ModelConfig
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched
from charrnn.model.cells.scanned import scan


class LSTM(RecurrentLayer, nn.LSTM):
    """LSTM layer; rows of the weights are the gates ``i f g o``."""

    gate_names = ("i", "f", "g", "o")
    state_names = ("h", "c")
    neuron_kind = "c"
    retraces = True

    def initialise(self, config: ModelConfig, depth: int) -> None:
        """Set the forget-gate bias, the sum of PyTorch's two (Jozefowicz et al. 2015 recommend 1)."""
        rows = slice(self.hidden_size, 2 * self.hidden_size)
        with torch.no_grad():
            self.bias_ih_l0[rows] = config.forget_bias
            self.bias_hh_l0[rows] = 0.0

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, 4H)."""
        h, c = state
        gates = self._gates(gate_input, h)
        i, f, g, o = (hold(name, gate) for name, gate in zip(self.gate_names, gates, strict=True))
        c = hold("c", f * c + i * g)
        return hold("h", o * torch.tanh(c)), c

    def retrace(self, inputs: Tensor, outputs: Tensor, state: State, reset: Tensor) -> dict[str, Tensor]:
        """Return all gates in one product, and c by a scan; arguments as for the base."""
        gates = self._gates(self.gate_input(inputs), self._before(outputs, state[0], reset))
        i, f, g, o = gates
        c = scan(f * ~reset.unsqueeze(2), i * g, state[1])
        return dict(zip(self.gate_names, gates, strict=True)) | {"c": c, "h": o * torch.tanh(c)}

    def _gates(self, gate_input: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return _activate(gate_input + nn.functional.linear(h, self.weight_hh_l0, self.bias_hh_l0))


def _activate(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, dim=-1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
