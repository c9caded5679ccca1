"""What every recurrent layer can do; a new cell is one file with a subclass of this."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from charrnn.config import ModelConfig

State = tuple[Tensor, ...]
"""What one layer carries from one timestep to the next, each (B, H): ``(h, c)`` or ``(h,)``."""

Hold = Callable[[str, Tensor], Tensor]
"""Given the name of a quantity and its values at one timestep, (…, H), what takes their place."""


def untouched(kind: str, values: Tensor) -> Tensor:
    """Hold nothing."""
    return values


class RecurrentLayer(nn.Module):
    """One recurrent layer. Subclasses with a ``torch.nn`` layer inherit it too: it is their fast path.

    Their weights have PyTorch's names, shapes and gate order: ``weight_ih_l0`` (G H, I), ``weight_hh_l0``
    (G H, H) and a bias for each, so they move to and from ``torch.nn`` unchanged.
    """

    gate_names: ClassVar[tuple[str, ...]]
    """Recorded gates, in the order of their rows."""
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    """What is carried."""
    neuron_kind: ClassVar[str] = "h"
    """The recorded quantity whose neurons are tested by default."""
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}
    """What a state can be where that is not -1 … 1."""
    packs: ClassVar[bool] = True
    """Whether ``recurrence`` takes documents that begin inside a window as a packed batch, or ``reset``."""
    retraces: ClassVar[bool] = False
    """Whether there is a ``retrace``."""
    fixed: ClassVar[bool] = False
    """Whether the first weights stay as they are, and only the network's readout is trained."""

    input_size: int
    hidden_size: int
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep in plain PyTorch: the definition of the cell.

        Args:
            gate_input: ``W_ih x + b_ih``, (B, G H).
            state: The state before this timestep.
            hold: Called with every gate and every new part of the state before anything follows from it.

        Returns:
            The state after it; its first tensor is the output.
        """
        raise NotImplementedError

    def initialise(self, config: ModelConfig, depth: int) -> None:
        """Change the first weights; PyTorch's uniform ones stay where nothing is said.

        Args:
            config: Settings with nothing left open.
            depth: Layers below this one.
        """

    def connect(self, readout: nn.Linear, last: bool) -> None:
        """Hear of the network's readout, and whether this is the layer that it reads."""

    @classmethod
    def num_matrix_weights(cls, input_size: int, hidden_size: int, vocab_size: int, last: bool) -> int:
        """Return how many weights the layer's matrices have, for the plan."""
        return max(1, len(cls.gate_names)) * hidden_size * (input_size + hidden_size)

    def zero_state(self, batch_size: int) -> State:
        """Return the state at the begin of a document, each (B, H)."""
        return tuple(self.weight_ih_l0.new_zeros(batch_size, self.hidden_size) for _ in self.state_names)

    def gate_input(self, inputs: Tensor) -> Tensor:
        """Return ``W_ih x + b_ih``, (…, G H), for inputs (…, I)."""
        return nn.functional.linear(inputs, self.weight_ih_l0, self.bias_ih_l0)

    def recurrence(
        self, inputs: Tensor | PackedSequence, state: State
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run a window on torch's own kernel (oneDNN, cuDNN or ATen).

        Args:
            inputs: (T, B, I), or a packed sequence of B rows.
            state: The state before the first timestep.

        Returns:
            Hidden states for every timestep, (T, B, H) or packed alike, and the state after the last one.
        """
        layered = tuple(part.unsqueeze(0) for part in state)
        # a single-layer torch.nn.RNN or GRU carries a bare tensor, an LSTM a pair
        outputs, after = self(inputs, layered if len(layered) > 1 else layered[0])
        after = after if isinstance(after, tuple) else (after,)
        return outputs, tuple(part.squeeze(0) for part in after)

    def reference(self, inputs: Tensor, state: State, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window step by step in plain PyTorch: slow, and what every faster path must equal.

        Args:
            inputs: (T, B, I).
            state: The state before the first timestep.
            reset: Where the state is set to zero before the timestep, (T, B) bool.

        Returns:
            Hidden states for every timestep, (T, B, H), and the state after the last one.
        """
        return self._steps(inputs, state, reset, untouched)

    def trace(
        self, inputs: Tensor, state: State, reset: Tensor, kinds: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """Run a window step by step and keep what the cell does; arguments as for ``reference``.

        Args:
            inputs: (T, B, I).
            state: The state before the first timestep.
            reset: Where the state is set to zero before the timestep, (T, B) bool.
            kinds: Names of what is kept; None keeps all.

        Returns:
            Gates and new states by name, each (T, B, H), and the state after the last timestep.
        """
        kept: dict[str, list[Tensor]] = {}

        def keep(kind: str, values: Tensor) -> Tensor:
            if kinds is None or kind in kinds:
                kept.setdefault(kind, []).append(values)
            return values

        _, after = self._steps(inputs, state, reset, keep)
        return {kind: torch.stack(values) for kind, values in kept.items()}, after

    def retrace(self, inputs: Tensor, outputs: Tensor, state: State, reset: Tensor) -> dict[str, Tensor]:
        """Return what ``trace`` does, the outputs made once more, where they are known: without steps.

        Args:
            inputs: (T, B, I).
            outputs: Hidden states for every timestep, (T, B, H), from a faster path.
            state: The state before the first timestep.
            reset: Where the state is set to zero before the timestep, (T, B) bool.
        """
        raise NotImplementedError

    def _before(self, outputs: Tensor, first: Tensor, reset: Tensor) -> Tensor:
        """Return the output that each timestep goes on from, (T, B, H)."""
        return torch.cat([first.unsqueeze(0), outputs[:-1]]) * ~reset.unsqueeze(2)

    def _steps(self, inputs: Tensor, state: State, reset: Tensor | None, hold: Hold) -> tuple[Tensor, State]:
        gate_input = self.gate_input(inputs)
        cut = [False] * len(inputs) if reset is None else reset.any(1).tolist()
        outputs = []
        for t in range(len(inputs)):
            if cut[t]:
                state = tuple(part * ~reset[t].unsqueeze(1) for part in state)
            state = self.step(gate_input[t], state, hold)
            outputs.append(state[0])
        return torch.stack(outputs), state
