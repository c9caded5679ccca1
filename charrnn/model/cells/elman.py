"""The simple recurrent network.

    h' = tanh(W x + U h + b)      or max(0, ·)

Source: Elman 1990; with rectified units Le, Jaitly & Hinton 2015.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from charrnn.config import ModelConfig
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched


class Elman(RecurrentLayer, nn.RNN):
    """Simple recurrent layer with tanh; it has no gates."""

    gate_names = ()
    retraces = True
    nonlinearity_name: ClassVar[str] = "tanh"

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, nonlinearity=self.nonlinearity_name)

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, H)."""
        total = gate_input + nn.functional.linear(state[0], self.weight_hh_l0, self.bias_hh_l0)
        return (hold("h", torch.tanh(total) if self.nonlinearity_name == "tanh" else torch.relu(total)),)

    def retrace(self, inputs: Tensor, outputs: Tensor, state: State, reset: Tensor) -> dict[str, Tensor]:
        """Return the outputs, made once more in one product; arguments as for the base."""
        return {"h": self.step(self.gate_input(inputs), (self._before(outputs, state[0], reset),))[0]}


RETENTION = 0.9
"""Share of its state that a rectified unit keeps for the next timestep, before it has learned."""


class ElmanReLU(Elman):
    """Simple recurrent layer with rectified units; the recurrent matrix starts near the identity."""

    nonlinearity_name = "relu"
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"h": (0, 1e6)}

    def initialise(self, config: ModelConfig, depth: int) -> None:
        """Start from nearly the identity, which neither grows nor forgets (Le, Jaitly & Hinton 2015).

        The whole of it would never forget: state goes on from window to window, and training diverges.
        """
        with torch.no_grad():
            nn.init.eye_(self.weight_hh_l0).mul_(RETENTION)
        nn.init.normal_(self.weight_ih_l0, std=0.001)
        nn.init.zeros_(self.bias_ih_l0)
        nn.init.zeros_(self.bias_hh_l0)
