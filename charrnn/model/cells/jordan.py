"""The sequential network of Jordan: what it says is what it remembers.

    y = softmax(R h + r)                  output units, V of them, of the timestep before
    s' = α s + U y                        state units, seen through their weights to the hidden units
    h' = tanh(W x + b + s')

Source: Jordan 1986, "Serial order: a parallel distributed processing approach" (ICS report 8604): state units
add up the outputs with a decay α and feed the hidden units. They are linear, so what reaches the hidden
units, U Σ α^k y, can be carried instead of them. The outputs are the network's probabilities of the next
character; the character that came instead is the next input x. In a stack every layer is such a network:
the last one's output units are the network's readout, the others have their own. Before a document h and
s are 0, and y is what the readout says of nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched

DECAY = 0.5


class Jordan(RecurrentLayer):
    """Layer whose only memory is its own output; it has no gates."""

    gate_names = ()
    state_names = ("h", "s")
    packs: ClassVar[bool] = False
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"s": (-1e6, 1e6)}

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih_l0 = self._fresh(hidden_size, input_size)
        self.bias_ih_l0 = self._fresh(hidden_size)

    def _fresh(self, *shape: int) -> nn.Parameter:
        """Return weights as torch.nn's recurrent layers begin with."""
        bound = self.hidden_size**-0.5
        return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def connect(self, readout: nn.Linear, last: bool) -> None:
        """Make weights from output units to hidden units, and output units where there are none yet."""
        self.weight_yh_l0 = self._fresh(self.hidden_size, readout.out_features)
        self.outputs = None if last else nn.Linear(self.hidden_size, readout.out_features)
        self._shared = (readout,) if last else ()  # in a tuple: its weights are the network's, saved once

    @classmethod
    def num_matrix_weights(cls, input_size: int, hidden_size: int, vocab_size: int, last: bool) -> int:
        """Return the weights of its matrices; the last layer's output units are the readout's."""
        return hidden_size * (input_size + vocab_size * (1 if last else 2))

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, H)."""
        h, s = state
        said = (self.outputs or self._shared[0])(h).softmax(-1)
        s = hold("s", DECAY * s + nn.functional.linear(said, self.weight_yh_l0))
        return hold("h", torch.tanh(gate_input + s)), s

    def recurrence(self, inputs: Tensor, state: State, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window step by step: there is no kernel for it."""
        return self.reference(inputs, state, reset)
