"""The neural history compressor: a second level that reads only what the first did not expect.

Level 1 predicts every symbol. One that was not its most probable is unexpected, as is the begin of a
document; level 2 reads it, with the number of symbols skipped since the last one, and advances only then:

    h¹ = level 1 (x, h¹)                  prediction  P h¹
    where x ≠ argmax of the last prediction:
        h² = level 2 (ln(1 + skipped), x, h²)
    logits = R [h¹, h²]

Both levels learn to predict: the loss counts the logits and level 1's own prediction. What level 1 expects
carries no information beyond its own state, so level 2 sees a shorter history with nothing missing.

Source: Schmidhuber 1992, "Learning complex, extended sequences using the principle of history compression"
(Neural Computation 4), and 1991, "Neural sequence chunkers" (FKI-148-91). There the levels are simple
recurrent networks, and an input is unexpected where the prediction errs; here they are LSTM layers that
learn at the same time and share a readout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import PackedSequence

from charrnn.config import ModelConfig
from charrnn.errors import ConfigError
from charrnn.model.cells.base import Hold, State
from charrnn.model.cells.lstm import LSTM
from charrnn.model.initial import initialise
from charrnn.model.network import LayerHold, Network, NetworkState, no_hold
from charrnn.model.regularisation import NO_PULL, Pull
from charrnn.model.segments import cut_at_resets
from charrnn.model.visits import find_visits
from charrnn.text.vocabulary import BOUNDARY


class Compressor(Network):
    """Two levels of LSTM layers, those of level 2 counted on from those of level 1.

    Behind the states of the layers the state holds how many symbols level 2 has skipped, (B, 1).
    """

    stacked = False
    fixed: ClassVar[bool] = LSTM.fixed
    gate_names: ClassVar[tuple[str, ...]] = LSTM.gate_names
    state_names: ClassVar[tuple[str, ...]] = LSTM.state_names
    neuron_kind: ClassVar[str] = LSTM.neuron_kind

    def _build(self, config: ModelConfig, vocab_size: int, seq_len: int | None) -> None:
        _check(config)
        size, hidden = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(vocab_size, size) if size else None
        first, above = size or vocab_size, [hidden] * (config.num_layers - 1)
        widths = [first, *above, 1 + first, *above]
        self.layers = nn.ModuleList(LSTM(width, hidden) for width in widths)
        self.predictor = nn.Linear(hidden, vocab_size)
        self.readout = nn.Linear(2 * hidden, vocab_size)
        for place, layer in enumerate(self.layers):
            initialise(layer, config, place % config.num_layers, seq_len)

    @classmethod
    def num_matrix_weights(cls, input_size: int, hidden_size: int, vocab_size: int, last: bool) -> int:
        """Return how many weights a layer's matrices have in both levels, with the last what comes once."""
        both = 2 * LSTM.num_matrix_weights(input_size, hidden_size, vocab_size, last)
        return both + (4 * hidden_size + 2 * hidden_size * vocab_size if last else 0)

    @property
    def read_layers(self) -> tuple[int, ...]:
        """The top layer of either level, from 1."""
        return self.config.num_layers, 2 * self.config.num_layers

    @property
    def symbol_layers(self) -> tuple[int, ...]:
        """The lowest layer of either level, from 1."""
        return 1, self.config.num_layers + 1

    def outgoing(self, layer: int) -> Tensor:
        """Return the weights from a layer's outputs upwards, (·, H)."""
        if layer in self.read_layers:
            readout = self.readout.weight.chunk(2, dim=1)[self.read_layers.index(layer)]
            return torch.cat([readout, self.predictor.weight]) if layer == self.read_layers[0] else readout
        return self.layers[layer].weight_ih_l0

    def initial_state(self, batch_size: int) -> NetworkState:
        """Return the state at the begin of a document."""
        return *super().initial_state(batch_size), (self.readout.weight.new_zeros(batch_size, 1),)

    # -- step by step: the definition -----------------------------------------------------------------

    def step(
        self, ids: Tensor, state: NetworkState, hold: LayerHold = no_hold
    ) -> tuple[Tensor, NetworkState]:
        """Read one id per row; arguments and results as for every network."""
        state = self._advance(ids, state, hold)
        return self.readout(self._outputs(state)), state

    def _outputs(self, state: NetworkState) -> Tensor:
        return self.join([layer[0] for layer in state[:-1]])

    def join(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return what the readout reads, the top outputs of both levels side by side."""
        return torch.cat([outputs[len(outputs) // 2 - 1], outputs[-1]], dim=-1)

    def _advance(self, ids: Tensor, state: NetworkState, hold: LayerHold) -> NetworkState:
        count = self.config.num_layers
        keep = (ids != BOUNDARY).unsqueeze(-1)
        state = tuple(tuple(part * keep for part in layer) for layer in state)
        ((skipped,),) = state[2 * count :]
        expected = keep & (self.predictor(state[count - 1][0]).argmax(-1) == ids).unsqueeze(-1)
        inputs = self.inputs(ids)
        lower = self._level(0, inputs, state, hold)
        upper = self._level(count, torch.cat([skipped.log1p(), inputs], dim=-1), state, hold)
        upper = [
            tuple(torch.where(expected, old, new) for old, new in zip(before, after, strict=True))
            for before, after in zip(state[count : 2 * count], upper, strict=True)
        ]
        return *lower, *upper, (torch.where(expected, skipped + 1, 0.0),)

    def _level(self, first: int, inputs: Tensor, state: NetworkState, hold: LayerHold) -> list[State]:
        """Advance the layers of a level, whether or not it is to keep what comes of it."""
        after = []
        for place in range(first, first + self.config.num_layers):
            layer = self.layers[place]
            after.append(layer.step(layer.gate_input(inputs), state[place], hold(place + 1)))
            inputs = after[-1][0]
        return after

    def reference(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Read a window step by step; arguments and results as in ``forward``."""
        hidden, state = self.reference_hidden(ids, state)
        return self.readout(hidden).transpose(0, 1), state

    def reference_hidden(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Return what ``hidden`` returns, step by step."""
        outputs = []
        for symbols in ids.unbind(1):
            state = self._advance(symbols, state, no_hold)
            outputs.append(self._outputs(state))
        return torch.stack(outputs), state

    @torch.no_grad()
    def trace(
        self, ids: Tensor, state: NetworkState, kinds: Collection[str] | None = None
    ) -> tuple[list[dict[str, Tensor]], NetworkState]:
        """Read a window step by step and return what the layers did; arguments as for every network.

        Where level 2 does not advance, its states are those it keeps, and its gates those it would have had.
        """
        kept: list[dict[str, list[Tensor]]] = [{} for _ in self.layers]

        def keep(place: int, kind: str, values: Tensor) -> Tensor:
            if kinds is None or kind in kinds:
                kept[place].setdefault(kind, []).append(values)
            return values

        def gates(number: int) -> Hold:
            return lambda kind, v: v if kind in LSTM.state_names else keep(number - 1, kind, v)

        for symbols in ids.unbind(1):
            state = self._advance(symbols, state, gates)
            for place, layer in enumerate(self.layers):
                for kind, part in zip(layer.state_names, state[place], strict=True):
                    keep(place, kind, part)
        return [{kind: torch.stack(values) for kind, values in layer.items()} for layer in kept], state

    # -- whole windows --------------------------------------------------------------------------------

    def hidden(
        self, ids: Tensor, state: NetworkState, noise: torch.Generator | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Return the top hidden states of both levels side by side, (T, B, 2 H), and the state after.

        What is dropped of a symbol is dropped for both levels.
        """
        count, symbols = self.config.num_layers, ids.t()
        reset = symbols == BOUNDARY
        state = tuple(tuple(part * ~reset[0].unsqueeze(1) for part in layer) for layer in state)
        inputs = self._drop(self.inputs(symbols), noise, self.config.input_dropout)
        lower, lower_after = self._run_lower(inputs, reset, state[:count], noise)
        with torch.no_grad():
            before = torch.cat([state[count - 1][0].unsqueeze(0), lower[:-1]])
            unexpected = reset | (self.predictor(before).argmax(-1) != symbols)
            skipped = _skipped(unexpected, state[-1][0].squeeze(1))  # (T + 1, B)
        inputs = torch.cat([(skipped[:-1] * ~reset).log1p().unsqueeze(-1), inputs], dim=-1)
        upper, upper_after = self._run_upper(inputs, unexpected, reset, state[count : 2 * count], noise)
        after = (*lower_after, *upper_after, (skipped[-1].unsqueeze(1),))
        return torch.cat([lower, upper], dim=-1), after

    def _run_lower(
        self, inputs: Tensor, reset: Tensor, state: NetworkState, noise: torch.Generator | None
    ) -> tuple[Tensor, list[State]]:
        layers = self.layers[: len(state)]
        if not bool(reset[1:].any()):
            return self._run(layers, inputs, state, noise)
        cut = cut_at_resets(reset)
        begins = [tuple(cut.begin(part) for part in layer) for layer in state]
        packed, ends = self._run(layers, cut.pack(inputs), begins, noise)
        return cut.unpack(packed), [tuple(cut.end(part) for part in layer) for layer in ends]

    def _run_upper(
        self,
        inputs: Tensor,
        unexpected: Tensor,
        reset: Tensor,
        state: NetworkState,
        noise: torch.Generator | None,
    ) -> tuple[Tensor, Sequence[State]]:
        if not bool(unexpected.any()):
            return state[-1][0].expand(len(inputs), -1, -1), state
        visits = find_visits(unexpected, reset)
        begins = [tuple(visits.begin(part) for part in layer) for layer in state]
        packed, ends = self._run(self.layers[len(state) :], visits.pack(inputs), begins, noise)
        after = [tuple(map(visits.end, new, old)) for new, old in zip(ends, state, strict=True)]
        return visits.spread(packed, state[-1][0]), after

    def _run(
        self,
        layers: Iterable[LSTM],
        values: Tensor | PackedSequence,
        state: Sequence[State],
        noise: torch.Generator | None,
    ) -> tuple[Any, list[State]]:
        """Run the layers of a level on their fast path, with dropout between them."""
        after = []
        for layer, own in zip(layers, state, strict=True):
            if after and isinstance(values, PackedSequence):
                dropped = self._drop(values.data, noise, self.config.dropout)
                values = PackedSequence(dropped, values.batch_sizes)
            elif after:
                values = self._drop(values, noise, self.config.dropout)
            values, own = layer.recurrence(values, own)
            after.append(own)
        return values, after

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        state: NetworkState,
        noise: torch.Generator | None = None,
        pull: Pull = NO_PULL,
    ) -> tuple[Tensor, NetworkState]:
        """Return the mean cross-entropy of targets, (B, T), in nats; the gradient is that of both levels'."""
        hidden, after = self.hidden(ids, state, noise)
        values, wanted = self._drop(hidden, noise, self.config.readout_dropout), targets.t().flatten()
        loss = cross_entropy(self.readout(values).flatten(0, 1), wanted)
        lower = values[..., : self.config.hidden_size]
        own = cross_entropy(self.predictor(lower).flatten(0, 1), wanted)
        loss = loss + (own - own.detach())
        return pull.added(loss, hidden, values, self._outputs(state), ids), after


def _check(config: ModelConfig) -> None:
    """Refuse the levers that act on a stack of layers."""
    for name in ("zoneout", "weight_drop", "skip_connections"):
        if getattr(config, name):
            raise ConfigError(f"`model.{name}` is for stacks of layers, which `compressor` is not")


def _skipped(unexpected: Tensor, before: Tensor) -> Tensor:
    """Return how many symbols in a row were expected before each, and before the next window, (T + 1, B).

    Args:
        unexpected: (T, B) bool.
        before: Expected symbols in a row before the window, (B,).
    """
    time = torch.arange(1, len(unexpected) + 1, device=before.device).unsqueeze(1)
    newest = (unexpected * time).cummax(0).values
    since = torch.where(newest > 0, time - newest, before + time)
    return torch.cat([before.unsqueeze(0), since.to(before.dtype)])
