"""The network: input, recurrent layers, readout."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charrnn.config import CELLS, ModelConfig
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched
from charrnn.model.segments import Segments, cut_at_resets
from charrnn.text.vocabulary import BOUNDARY

NetworkState = tuple[State, ...]
"""The state of every layer, first layer first."""

LayerHold = Callable[[int], Hold]


def no_hold(layer: int) -> Hold:
    """Hold nothing in any layer."""
    return untouched


class Network(nn.Module):
    """A character language model: ids and state in, logits and state out.

    Reading the document boundary (id 0) sets the state to zero first, so documents never see each
    other, wherever in a batch they begin.

    Args:
        config: Settings with nothing left open.
        vocab_size: Number of ids, V.
        seed: Fixes the first weights, the same on every device.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, seed: int = 1) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(config, vocab_size)

    def _build(self, config: ModelConfig, vocab_size: int) -> None:
        cell: type[RecurrentLayer] = CELLS[config.cell]
        size, hidden = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(vocab_size, size) if size else None
        widths = [size or vocab_size] + [hidden] * (config.num_layers - 1)
        self.layers = nn.ModuleList(cell(width, hidden) for width in widths)
        self.readout = nn.Linear(hidden, vocab_size)
        for layer in self.layers:
            layer.initialise(config.forget_bias)

    @property
    def num_params(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.parameters())

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state at the begin of a document, every tensor (B, H)."""
        return tuple(layer.zero_state(batch_size) for layer in self.layers)

    def forward(
        self, ids: Tensor, state: NetworkState, noise: torch.Generator | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Read a window on the fast path.

        Args:
            ids: (B, T) int64.
            state: The state before the first timestep. It is not detached: cutting the graph
                between windows is the trainer's choice.
            noise: Source of the dropout masks; without one there is no dropout.

        Returns:
            Logits of the next id, (B, T, V), and the state after the last timestep.
        """
        hidden, state = self.hidden(ids, state, noise)
        return self.readout(self._drop(hidden, noise)).transpose(0, 1), state

    def hidden(
        self, ids: Tensor, state: NetworkState, noise: torch.Generator | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Return the top layer's hidden states, (T, B, H), and the state after the window."""
        window, state = self._enter(ids, state)
        after = []
        for index, layer in enumerate(self.layers):
            inputs = self._drop(window.inputs, noise) if index else window.inputs
            window.inputs, layer_state = window.run(layer, inputs, state[index])
            after.append(layer_state)
        return window.inputs, tuple(after)

    @torch.no_grad()
    def trace(
        self, ids: Tensor, state: NetworkState, kinds: Collection[str] | None = None
    ) -> tuple[list[dict[str, Tensor]], NetworkState]:
        """Read a window step by step and return all that every layer did, without gradients.

        With the many rows of an inspection that is faster than to run torch's kernels, which say
        nothing of gates, and to recompute those from their outputs.

        Args:
            ids: (B, T) int64.
            state: The state before the first timestep.
            kinds: Names of what is returned, ``h`` among them; None means everything.

        Returns:
            For each layer the recorded quantities by name, each (T, B, H), and the state after the
            last timestep.
        """
        window, state = self._enter(ids, state)
        traces, after = [], []
        for layer, layer_state in zip(self.layers, state, strict=True):
            trace, layer_after = layer.trace(window.inputs, layer_state, window.reset, kinds)
            traces.append(trace)
            window.inputs = trace["h"]
            after.append(layer_after)
        return traces, tuple(after)

    def _enter(self, ids: Tensor, state: NetworkState) -> tuple[_Window, NetworkState]:
        reset = ids.t() == BOUNDARY  # (T, B)
        # a reset at the first timestep needs no cut: the state simply starts at zero
        state = tuple(tuple(part * ~reset[0].unsqueeze(1) for part in layer) for layer in state)
        segments = cut_at_resets(reset) if bool(reset[1:].any()) else None
        return _Window(self.inputs(ids.t()), reset, segments), state

    def reference(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Read a window step by step in plain PyTorch; arguments and results as in ``forward``."""
        reset = ids.t() == BOUNDARY
        inputs = self.inputs(ids.t())
        after = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            inputs, layer_state = layer.reference(inputs, layer_state, reset)
            after.append(layer_state)
        return self.readout(inputs).transpose(0, 1), tuple(after)

    def step(
        self, ids: Tensor, state: NetworkState, hold: LayerHold = no_hold
    ) -> tuple[Tensor, NetworkState]:
        """Read one id per row, (B,), and return the logits of the next, (B, V), and the state.

        Args:
            ids: (B,) int64, or with any further dimensions in front that the state has too.
            state: The state before.
            hold: Returns for a layer, from 1, what keeps some of its neurons at values.
        """
        keep = (ids != BOUNDARY).unsqueeze(-1)
        after = []
        hidden = None
        for number, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True), start=1):
            gate_input = self._first_gate_input(ids) if hidden is None else layer.gate_input(hidden)
            layer_state = layer.step(gate_input, tuple(part * keep for part in layer_state), hold(number))
            after.append(layer_state)
            hidden = layer_state[0]
        return self.readout(hidden), tuple(after)

    def _first_gate_input(self, ids: Tensor) -> Tensor:
        layer = self.layers[0]
        if self.embedding is not None:
            return layer.gate_input(self.embedding(ids))
        return layer.weight_ih_l0.t()[ids] + layer.bias_ih_l0

    def inputs(self, ids: Tensor) -> Tensor:
        """Return what the first layer reads, (…, I), for ids (…)."""
        if self.embedding is not None:
            return self.embedding(ids)
        return nn.functional.one_hot(ids, self.vocab_size).to(self.readout.weight.dtype)

    def _drop(self, values: Tensor, noise: torch.Generator | None) -> Tensor:
        """Inverted dropout: kept values grow, so evaluation needs no scaling."""
        keep = 1.0 - self.config.dropout
        if noise is None or keep == 1.0:
            return values
        return values * torch.empty_like(values).bernoulli_(keep, generator=noise).div_(keep)


@dataclass
class _Window:
    """A window on its way up through the layers: ``inputs`` (T, B, ·), ``reset`` (T, B)."""

    inputs: Tensor
    reset: Tensor
    segments: Segments | None

    def run(self, layer: RecurrentLayer, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Run one layer on torch's kernel, around the resets if there are any."""
        if self.segments is None:
            return layer.recurrence(inputs, state)
        cut = self.segments
        outputs, ends = layer.recurrence(cut.pack(inputs), tuple(cut.begin(part) for part in state))
        return cut.unpack(outputs), tuple(cut.end(part) for part in ends)
