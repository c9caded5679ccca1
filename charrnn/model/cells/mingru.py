"""The minimal gated recurrent unit: its gate does not see the state.

    z = σ(W_z x + b_z)      n = g(W_n x + b_n), g(x) = x + 1/2 above 0, σ(x) below
    h' = (1 - z) ⊙ n + z ⊙ h          z near 1 keeps

Source: Feng et al. 2024, "Were RNNs All We Needed?", whose z is 1 minus this one; theirs lets in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from charrnn.model.cells.base import Hold, untouched
from charrnn.model.cells.scanned import ScannedLayer, positive


class MinGRU(ScannedLayer):
    """Minimal GRU layer; rows of the weights are the gate ``z`` and the candidate."""

    gate_names = ("z",)

    def keep_and_new(self, gate_input: Tensor, hold: Hold = untouched) -> tuple[Tensor, Tensor]:
        """Return z and (1 - z) ⊙ n."""
        z, n = gate_input.chunk(2, dim=-1)
        z = hold("z", torch.sigmoid(z))
        return z, (1 - z) * positive(n)
