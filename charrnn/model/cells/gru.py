"""The gated recurrent unit, with the reset gate applied after the recurrent product.

    r, z = σ(W x + b + U h + b')      n = tanh(W_n x + b_n + r ⊙ (U_n h + b'_n))
    h' = (1 - z) ⊙ n + z ⊙ h          z near 1 keeps

Source: Cho et al. 2014, in the form of cuDNN and ``torch.nn.GRU``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched


class GRU(RecurrentLayer, nn.GRU):
    """GRU layer; rows of the weights are the gates ``r z n``."""

    gate_names = ("r", "z", "n")
    retraces = True

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, 3H)."""
        (h,) = state
        _, z, n = self._gates(gate_input, h, hold)
        return (hold("h", n + z * (h - n)),)

    def retrace(self, inputs: Tensor, outputs: Tensor, state: State, reset: Tensor) -> dict[str, Tensor]:
        """Return all gates in one product; arguments as for the base."""
        before = self._before(outputs, state[0], reset)
        r, z, n = self._gates(self.gate_input(inputs), before)
        return {"r": r, "z": z, "n": n, "h": n + z * (before - n)}

    def _gates(self, gate_input: Tensor, h: Tensor, hold: Hold = untouched) -> tuple[Tensor, Tensor, Tensor]:
        recurrent = nn.functional.linear(h, self.weight_hh_l0, self.bias_hh_l0)
        (r, z, n), (ur, uz, un) = gate_input.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
        r, z = hold("r", torch.sigmoid(r + ur)), hold("z", torch.sigmoid(z + uz))
        return r, z, hold("n", torch.tanh(n + r * un))
