"""The minimal long short-term memory: its gates do not see the state, and share what there is.

    f̃, ĩ = σ(W x + b)      n = g(W_n x + b_n), g(x) = x + 1/2 above 0, σ(x) below
    f = f̃ / (f̃ + ĩ)        i = ĩ / (f̃ + ĩ)
    h' = f ⊙ h + i ⊙ n

Source: Feng et al. 2024, "Were RNNs All We Needed?". There is no c: nothing lies between it and h.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from charrnn.config import ModelConfig
from charrnn.model.cells.base import Hold, untouched
from charrnn.model.cells.scanned import ScannedLayer, positive


class MinLSTM(ScannedLayer):
    """Minimal LSTM layer; rows of the weights are the gates ``i f`` and the candidate."""

    gate_names = ("i", "f")

    def initialise(self, config: ModelConfig, depth: int) -> None:
        """Set the forget gate's bias."""
        with torch.no_grad():
            self.bias_ih_l0[self.hidden_size : 2 * self.hidden_size] = config.forget_bias

    def keep_and_new(self, gate_input: Tensor, hold: Hold = untouched) -> tuple[Tensor, Tensor]:
        """Return f and i ⊙ n."""
        i, f, n = gate_input.chunk(3, dim=-1)
        # f̃ / (f̃ + ĩ) = σ(ln f̃ - ln ĩ), which is never 0 / 0
        more = logsigmoid(f) - logsigmoid(i)
        i, f = hold("i", torch.sigmoid(-more)), hold("f", torch.sigmoid(more))
        return f, i * positive(n)
