"""The network: input, recurrent layers, readout."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from charrnn.config import CELLS, ModelConfig
from charrnn.model import kernels
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched
from charrnn.model.initial import initialise
from charrnn.model.paths import Path
from charrnn.model.regularisation import (
    NO_PULL,
    Pull,
    bernoulli,
    check_levers,
    regularised,
    with_zoneout,
)
from charrnn.model.segments import Segments, cut_at_resets
from charrnn.model.stack import StackWindow
from charrnn.text.vocabulary import BOUNDARY

RETRACED = ("cuda",)
"""Devices on which starting a kernel costs so much that a trace is made from the outputs, not by steps."""
NetworkState = tuple[State, ...]
"""The state of every layer, first layer first."""

LayerHold = Callable[[int], Hold]


def no_hold(layer: int) -> Hold:
    """Hold nothing in any layer."""
    return untouched


def new_network(config: ModelConfig, vocab_size: int, seed: int = 1, seq_len: int | None = None) -> Network:
    """Return a stack of layers, or the network of its own that a cell is; arguments as for ``Network``."""
    kind = CELLS[config.cell]
    return (kind if issubclass(kind, Network) else Network)(config, vocab_size, seed, seq_len)


class Network(nn.Module):
    """A character language model: ids and state in, logits and state out.

    Reading the document boundary (id 0) sets the state to zero first, so documents never see each
    other, wherever in a batch they begin.

    Args:
        config: Settings with nothing left open.
        vocab_size: Number of ids, V.
        seed: Fixes the first weights, the same on every device.
        seq_len: Timesteps per window that it will be trained with, for ``forget_init``.
    """

    stacked: ClassVar[bool] = True
    """Whether every layer reads the one below at every timestep."""

    def __init__(
        self, config: ModelConfig, vocab_size: int, seed: int = 1, seq_len: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(config, vocab_size, seq_len)

    def _build(self, config: ModelConfig, vocab_size: int, seq_len: int | None) -> None:
        cell: type[RecurrentLayer] = with_zoneout(CELLS[config.cell], config.zoneout)
        size, hidden = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(vocab_size, size) if size else None
        widths = [size or vocab_size] + [hidden] * (config.num_layers - 1)
        self.layers = nn.ModuleList(cell(width, hidden) for width in widths)
        self.readout = nn.Linear(hidden, vocab_size)
        for depth, layer in enumerate(self.layers):
            layer.connect(self.readout, layer is self.layers[-1])
            check_levers(config, layer)
            initialise(layer, config, depth, seq_len)
        if cell.fixed:
            self.requires_grad_(False)
            self.readout.requires_grad_(True)

    @property
    def num_params(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def read_layers(self) -> tuple[int, ...]:
        """Layers whose outputs the readout reads, from 1."""
        top = len(self.layers)
        return tuple(range(1, top + 1)) if self.config.skip_connections else (top,)

    @property
    def symbol_layers(self) -> tuple[int, ...]:
        """Layers that read the symbols themselves, from 1."""
        return (1,)

    def outgoing(self, layer: int) -> Tensor:
        """Return the weights from the outputs of a layer, from 1, upwards: (·, H)."""
        above = [self.layers[layer].weight_ih_l0] if layer < len(self.layers) else []
        return torch.cat([*above, *([self.readout.weight] if layer in self.read_layers else [])])

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
            noise: Source of all masks; without one there is no dropout of any kind.

        Returns:
            Logits of the next id, (B, T, V), and the state after the last timestep.
        """
        hidden, state = self.hidden(ids, state, noise)
        dropped = self._drop(hidden, noise, self.config.readout_dropout)
        return self.readout(dropped).transpose(0, 1), state

    def hidden(
        self,
        ids: Tensor,
        state: NetworkState,
        noise: torch.Generator | None = None,
        path: Path | None = None,
        inside: bool | None = None,
    ) -> tuple[Tensor, NetworkState]:
        """Return what the readout reads, (T, B, H), and the state after the window.

        Args:
            ids: (B, T) int64.
            state: The state before the first timestep.
            noise: Source of all masks.
            path: How the layers are run; None leaves it to the network.
            inside: Whether a document begins after the first timestep; None looks, for which the host waits.
        """
        read = self._dropped_inputs(ids, noise)
        run, state = self._window(ids, state, path, inside, read)
        hidden, outputs, after = None, [], []
        for layer, layer_state in zip(self.layers, state, strict=True):
            inputs = read if hidden is None else self._drop(hidden, noise, self.config.dropout)
            with regularised(layer, self.config, noise):
                hidden, layer_state = run(layer, inputs, layer_state)
            outputs.append(hidden)
            after.append(layer_state)
        return self.join(outputs), tuple(after)

    def join(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return what the readout reads, given every layer's output: the top one, or the sum of all.

        Source of the sum: Melis, Dyer & Blunsom 2018, "On the State of the Art of Evaluation in Neural
        Language Models". It keeps the readout's size, and layers near the input a short way to the loss.
        """
        return sum(outputs[1:], outputs[0]) if self.config.skip_connections else outputs[-1]

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        state: NetworkState,
        noise: torch.Generator | None = None,
        path: Path | None = None,
        inside: bool | None = None,
        pull: Pull = NO_PULL,
    ) -> tuple[Tensor, NetworkState]:
        """Return the mean cross-entropy of targets, (B, T), in nats; the rest is as for ``hidden``.

        Its gradient is that of the loss with a pull on what the readout reads.
        """
        hidden, after = self.hidden(ids, state, noise, path, inside)
        dropped = self._drop(hidden, noise, self.config.readout_dropout)
        loss = self._cross_entropy(dropped.flatten(0, 1), targets.t().flatten())
        return pull.added(loss, hidden, dropped, self.join([layer[0] for layer in state]), ids), after

    def _cross_entropy(self, rows: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean cross-entropy of ids (N,) given what the readout reads, (N, H)."""
        if kernels.run_with(rows):
            return kernels.readout_loss(rows, self.readout.weight, self.readout.bias, wanted)
        weight, bias = (part.to(rows.dtype) for part in (self.readout.weight, self.readout.bias))
        logits = nn.functional.linear(rows, weight, bias).to(self.readout.weight.dtype)
        return nn.functional.cross_entropy(logits, wanted)

    @torch.no_grad()
    def trace(
        self,
        ids: Tensor,
        state: NetworkState,
        kinds: Collection[str] | None = None,
        inside: bool | None = None,
    ) -> tuple[list[dict[str, Tensor]], NetworkState]:
        """Read a window and return all that every layer did, without gradients.

        Args:
            ids: (B, T) int64.
            state: The state before the first timestep.
            kinds: Names of what is returned, ``h`` among them; None means everything.
            inside: As for ``hidden``.

        Returns:
            For each layer the recorded quantities by name, each (T, B, H), and the state after the
            last timestep.
        """
        run, state = self._window(ids, state, None, inside)
        hidden, traces, after = None, [], []
        for layer, layer_state in zip(self.layers, state, strict=True):
            trace, layer_after = run.trace(layer, hidden, layer_state, kinds)
            traces.append(trace)
            hidden = trace["h"]
            after.append(layer_after)
        return traces, tuple(after)

    @torch.no_grad()
    def step_errors(
        self, ids: Tensor, state: NetworkState, traces: Sequence[dict[str, Tensor]]
    ) -> tuple[float, float]:
        """Return by how much the worst step of a trace misses the definition: in a gate, and in a state.

        Every step goes on from the recorded state before it, so errors do not add up: gates are compared with
        those of that state, c with what the recorded gates make of it, h with what they make of the recorded
        c. Differences are relative where a value lies beyond ±1.

        Args:
            ids: (B, T) int64.
            state: The state before the first timestep.
            traces: Everything that ``trace`` returns of each layer.
        """
        keep = (ids.t() != BOUNDARY).unsqueeze(2)
        inputs = self.inputs(ids.t())
        of_gates, of_states = [inputs.new_zeros(())], []  # there may be no gates
        for layer, first, trace in zip(self.layers, state, traces, strict=True):
            names = layer.state_names
            before = [
                torch.cat([part.unsqueeze(0), trace[name][:-1]]) * keep
                for name, part in zip(names, first, strict=True)
            ]
            for kind, error in _step_errors(layer, inputs, before, trace).items():
                (of_states if kind in names else of_gates).append(error)
            inputs = trace["h"]
        return float(torch.stack(of_gates).max()), float(torch.stack(of_states).max())

    def _window(
        self,
        ids: Tensor,
        state: NetworkState,
        path: Path | None = None,
        inside: bool | None = None,
        read: Tensor | None = None,
    ) -> tuple[_NativeWindow | _TorchWindow | StackWindow, NetworkState]:
        reset = ids.t() == BOUNDARY  # (T, B)
        # a reset at the first timestep needs no cut: the state simply starts at zero
        state = tuple(tuple(part * ~reset[0].unsqueeze(1) for part in layer) for layer in state)
        inside = bool(reset[1:].any()) if inside is None else inside
        if path is not None and path.rebuilt and not inside:
            first = self.inputs(ids.t()) if read is None else read
            return StackWindow(path, first, path.half or self.readout.weight.dtype), state
        if not self.config.zoneout and kernels.usable(self.config.cell, self.readout.weight):
            symbols = None if self.embedding is None else self.embedding.weight
            resets = reset.to(torch.uint8).contiguous() if inside else None
            return _NativeWindow(self.config.cell, symbols, ids.t().contiguous(), resets), state
        first = self.inputs(ids.t()) if read is None else read
        return _TorchWindow(first, reset, cut_at_resets(reset) if inside else None), state

    def reference(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Read a window step by step in plain PyTorch; arguments and results as in ``forward``."""
        hidden, state = self.reference_hidden(ids, state)
        return self.readout(hidden).transpose(0, 1), state

    def reference_hidden(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Return what ``hidden`` does, step by step in plain PyTorch."""
        reset = ids.t() == BOUNDARY
        inputs = self.inputs(ids.t())
        outputs, after = [], []
        for layer, layer_state in zip(self.layers, state, strict=True):
            inputs, layer_state = layer.reference(inputs, layer_state, reset)
            outputs.append(inputs)
            after.append(layer_state)
        return self.join(outputs), tuple(after)

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
        return self.readout(self.join([layer_state[0] for layer_state in after])), tuple(after)

    def _first_gate_input(self, ids: Tensor) -> Tensor:
        layer = self.layers[0]
        if self.embedding is not None:
            return layer.gate_input(self.embedding(ids))
        return layer.weight_ih_l0.t()[ids] + layer.bias_ih_l0

    def inputs(self, ids: Tensor) -> Tensor:
        """Return what the first layer reads, (…, I), for ids (…)."""
        if self.embedding is not None:
            return self.embedding(ids)
        zeros = self.readout.weight.new_zeros(*ids.shape, self.vocab_size)
        return zeros.scatter_(-1, ids.unsqueeze(-1), 1.0)

    def _dropped_inputs(self, ids: Tensor, noise: torch.Generator | None) -> Tensor | None:
        """Return what is left of what the first layer reads, (T, B, I); None if it reads all of it."""
        share = self.config.input_dropout
        return self._drop(self.inputs(ids.t()), noise, share) if share and noise is not None else None

    def _drop(self, values: Tensor, noise: torch.Generator | None, share: float) -> Tensor:
        """Set a share of values (T, B, ·) to zero; kept ones grow, so evaluation needs no scaling.

        Source: Srivastava et al. 2014, "Dropout"; Gal & Ghahramani 2016 for one mask a window.
        """
        keep = 1.0 - share
        if noise is None or keep == 1.0:
            return values
        like = values[:1] if self.config.dropout_kind == "variational" else values
        return values * bernoulli(like, keep, noise).div_(keep)


def _step_errors(
    layer: RecurrentLayer, inputs: Tensor, before: Sequence[Tensor], trace: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the largest error of every recorded quantity of a layer."""
    errors = {}

    def compare(kind: str, values: Tensor) -> Tensor:
        recorded = trace[kind].flatten(0, 1)
        errors[kind] = ((values - recorded).abs() / recorded.abs().clamp(min=1)).max()
        return recorded

    layer.step(layer.gate_input(inputs).flatten(0, 1), tuple(part.flatten(0, 1) for part in before), compare)
    return errors


@dataclass(frozen=True)
class _NativeWindow:
    """A window for the native kernels: the embedding, ``ids`` and ``reset`` (T, B)."""

    cell: str
    symbols: Tensor | None
    ids: Tensor
    reset: Tensor | None

    def __call__(self, layer: RecurrentLayer, inputs: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Run one layer; the first reads the ids instead of inputs (T, B, H)."""
        return kernels.run_layer(self.cell, layer, *self._source(inputs), state, self.reset)

    def trace(
        self, layer: RecurrentLayer, inputs: Tensor | None, state: State, kinds: Collection[str] | None
    ) -> tuple[dict[str, Tensor], State]:
        """Run one layer and return what it did."""
        return kernels.trace_layer(self.cell, layer, *self._source(inputs), state, self.reset, kinds)

    def _source(self, inputs: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return (self.symbols, self.ids) if inputs is None else (inputs, None)


@dataclass(frozen=True)
class _TorchWindow:
    """A window for torch's kernels: what the first layer reads, (T, B, I), ``reset`` (T, B) and the cuts."""

    first: Tensor
    reset: Tensor
    segments: Segments | None

    def __call__(self, layer: RecurrentLayer, inputs: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Run one layer, around the resets if there are any."""
        inputs = self.first if inputs is None else inputs
        if self.segments is None:
            return layer.recurrence(inputs, state)
        if not layer.packs:
            return layer.recurrence(inputs, state, self.reset)
        cut = self.segments
        outputs, ends = layer.recurrence(cut.pack(inputs), tuple(cut.begin(part) for part in state))
        return cut.unpack(outputs), tuple(cut.end(part) for part in ends)

    def trace(
        self, layer: RecurrentLayer, inputs: Tensor | None, state: State, kinds: Collection[str] | None
    ) -> tuple[dict[str, Tensor], State]:
        """Run one layer and return what it did: by steps, where they are cheap or there is no other way."""
        inputs = self.first if inputs is None else inputs
        if inputs.device.type not in RETRACED or not layer.retraces:
            return layer.trace(inputs, state, self.reset, kinds)
        outputs, after = self(layer, inputs, state)
        trace = layer.retrace(inputs, outputs, state, self.reset)
        return {name: part for name, part in trace.items() if kinds is None or name in kinds}, after
