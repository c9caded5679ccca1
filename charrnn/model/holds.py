"""Neurons that are kept at values while a network reads: ablation, and steering while it speaks.

A hold acts on a quantity before anything follows from it: c before ``h = o tanh(c)``, so the readout and
the recurrence both see it; a gate before it gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched
from charrnn.model.network import LayerHold, Network
from charrnn.text.vocabulary import BOUNDARY

WINDOW = 50
LARGEST = 1 - 1e-6
"""Largest ``tanh(c)`` a c neuron is held at: the next ones are infinite in float32."""


@dataclass(frozen=True)
class Held:
    """One neuron kept at a value.

    Args:
        layer: From 1.
        kind: ``h``, ``c``, ``raw`` (c itself) or a gate.
        index: In its layer, from 0.
        value: As painted, ``tanh(c)`` for a c neuron, the value itself for h and gates; one number, or one
            for every row and timestep, (R, T).
    """

    layer: int
    kind: str
    index: int
    value: float | Tensor

    @property
    def site(self) -> str:
        """Return the quantity of the cell that is kept."""
        return "c" if self.kind == "raw" else self.kind

    def inner(self, like: Tensor) -> Tensor:
        """Return the value in the units of the network's own arithmetic."""
        value = torch.as_tensor(self.value, dtype=like.dtype, device=like.device)
        return torch.atanh(value.clamp(-LARGEST, LARGEST)) if self.kind == "c" else value


def hold_all(held: Sequence[Held], network: Network) -> LayerHold:
    """Return what keeps the same neurons at one value each in every row of a batch."""
    like = network.readout.weight
    holds = {layer: _same([h for h in held if h.layer == layer], like) for layer in {h.layer for h in held}}
    return lambda layer: holds.get(layer, untouched)


def hold_copies(copies: Sequence[Sequence[Held]], network: Network, num_rows: int) -> LayerHold:
    """Return what keeps other neurons at values in each of K copies of a batch, every tensor (K, R, ·)."""
    like = network.readout.weight
    blocks = {n: _Block(copies, n, like, num_rows) for n in range(1, len(network.layers) + 1)}
    return lambda layer: blocks[layer]


def _same(held: Sequence[Held], like: Tensor) -> Hold:
    own = [(one.site, one.index, one.inner(like)) for one in held]

    def hold(kind: str, values: Tensor) -> Tensor:
        for of, index, value in own:
            if of == kind:
                values[..., index] = value
        return values

    return hold


class _Block:
    """What keeps other neurons in each of K copies of a batch, at one timestep after the other."""

    def __init__(self, copies: Sequence[Sequence[Held]], layer: int, like: Tensor, num_rows: int) -> None:
        self.t = -1  # the boundary is read before the first symbol
        self._own: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        kinds = dict.fromkeys(one.site for held in copies for one in held if one.layer == layer)
        for kind in kinds:
            own = [
                (k, one)
                for k, held in enumerate(copies)
                for one in held
                if (one.layer, one.site) == (layer, kind)
            ]
            copy = torch.tensor([k for k, _ in own], device=like.device)
            index = torch.tensor([one.index for _, one in own], device=like.device)
            self._own[kind] = copy, index, _over_time([one.inner(like) for _, one in own], num_rows)

    def __bool__(self) -> bool:
        return bool(self._own)

    def __call__(self, kind: str, values: Tensor) -> Tensor:
        if kind in self._own:
            copy, index, value = self._own[kind]
            values[copy, :, index] = value[..., min(max(self.t, 0), value.shape[-1] - 1)]
        return values


def _over_time(values: list[Tensor], num_rows: int) -> Tensor:
    """Return values as one tensor, (n, 1 or R, 1 or T)."""
    if all(value.ndim == 0 for value in values):
        return torch.stack(values)[:, None, None]
    length = max(value.shape[-1] for value in values if value.ndim)
    return torch.stack([value.expand(num_rows, length) for value in values])


@torch.inference_mode()
def held_losses(network: Network, ids: Tensor, copies: Sequence[Sequence[Held]]) -> Tensor:
    """Read the same rows once for each set of held neurons, every row from a state of zeros.

    Layers below the lowest held one run once for all; layers that hold nothing run on the fast path.

    Args:
        network: In evaluation mode.
        ids: Symbols of each row, without boundaries, (R, T).
        copies: K sets of neurons to hold at every timestep, any of them empty.

    Returns:
        Nats that the next symbol costs after each one but the last, (K, R, T - 1).
    """
    runner = _runner(network, ids, copies)
    return torch.cat([runner.losses(begin) for begin in range(0, ids.shape[1], WINDOW)], dim=-1)


@torch.inference_mode()
def held_log_probs(network: Network, ids: Tensor, held: Sequence[Held], where: Tensor) -> Tensor:
    """Return the mean log probability of every next symbol at some characters while neurons are held.

    Args:
        network: In evaluation mode.
        ids: Symbols of each row, without boundaries, (R, T).
        held: Neurons to hold; none for the bare network.
        where: The characters after which the next one counts, (R, T - 1) bool.

    Returns:
        Nats, (V,).
    """
    runner = _runner(network, ids, [held])
    total = torch.zeros(network.vocab_size, dtype=torch.float64, device=ids.device)
    for begin in range(0, ids.shape[1], WINDOW):
        logits, target = runner.logits(begin)
        logits = logits.squeeze(1) if logits.ndim == 4 else logits
        here = where[:, begin : begin + len(target)].t()
        total += logits[here].log_softmax(-1).double().sum(0)
    return total / where.sum().clamp(min=1)


@torch.inference_mode()
def held_log_odds(network: Network, ids: Tensor, copies: Sequence[Sequence[Held]], symbol: int) -> Tensor:
    """Return the log odds that one symbol comes next, for each set of held neurons.

    Args:
        network: In evaluation mode.
        ids: Symbols of each row, without boundaries, (R, T).
        copies: K sets of neurons to hold at every timestep, any of them empty.
        symbol: The one.

    Returns:
        Nats after each symbol but the last, (K, R, T - 1) float64.
    """
    runner, odds = _runner(network, ids, copies), []
    for begin in range(0, ids.shape[1], WINDOW):
        logits = runner.logits(begin)[0].double()
        logits = logits if logits.ndim == 4 else logits.unsqueeze(1).expand(-1, len(copies), -1, -1)
        others = logits.clone()
        others[..., symbol] = -torch.inf
        odds.append((logits[..., symbol] - others.logsumexp(-1)).permute(1, 2, 0))
    return torch.cat(odds, dim=-1)


def _runner(network: Network, ids: Tensor, copies: Sequence[Sequence[Held]]) -> _Runner:
    return (_Runner if network.stacked else _StepRunner)(network, ids, copies)


class _Runner:
    """The same rows on their way through a network in K copies."""

    def __init__(self, network: Network, ids: Tensor, copies: Sequence[Sequence[Held]]) -> None:
        self.network = network
        self.ids = torch.nn.functional.pad(ids, (1, 0), value=BOUNDARY)
        self.copies = len(copies)
        like, rows = network.readout.weight, len(ids)
        self.blocks = [_Block(copies, n, like, rows) for n in range(1, len(network.layers) + 1)]
        self.lowest = next((i for i, block in enumerate(self.blocks) if block), len(self.blocks))
        self.states: list[State] = [
            self._wide(layer.zero_state(rows)) if i >= self.lowest else layer.zero_state(rows)
            for i, layer in enumerate(network.layers)
        ]

    def losses(self, begin: int) -> Tensor:
        """Read one window behind the boundary; nats of what follows each symbol, (K, R, ≤ WINDOW)."""
        logits, target = self.logits(begin)
        wide = target.unsqueeze(1).expand(-1, self.copies, -1) if logits.ndim == 4 else target
        nats = cross_entropy(logits.flatten(0, -2), wide.flatten(), reduction="none").view(wide.shape)
        nats = nats if nats.ndim == 3 else nats.unsqueeze(1).expand(-1, self.copies, -1)
        return nats.permute(1, 2, 0)

    def logits(self, begin: int) -> tuple[Tensor, Tensor]:
        """Read one window; logits (T, K, R, V), or (T, R, V) if nothing is held, and what follows, (T, R)."""
        first = 0 if begin == 0 else begin + 1
        window = self.ids[:, first : begin + WINDOW + 1]
        values = self.network.inputs(window.t())
        outputs = []
        for i, layer in enumerate(self.network.layers):
            values, self.states[i] = self._layer(i, layer, values)
            outputs.append(values)
        values = self.network.join([self._like(values, output) for output in outputs])
        target = self.ids[:, begin + 2 : begin + WINDOW + 2].t()
        values = values[begin + 1 - first :][: len(target)]
        return self.network.readout(values), target

    def _like(self, top: Tensor, output: Tensor) -> Tensor:
        """Return a layer's output, (T, R, H), with the copies that the top one has, (T, K, R, H)."""
        return output.unsqueeze(1) if output.ndim < top.ndim else output

    def _layer(self, i: int, layer: RecurrentLayer, values: Tensor) -> tuple[Tensor, State]:
        if self.blocks[i]:
            return self._held(self.blocks[i], layer, values, self.states[i])
        if i < self.lowest:
            return layer.recurrence(values, self.states[i])
        state = tuple(part.flatten(0, 1) for part in self.states[i])
        outputs, state = layer.recurrence(values.flatten(1, 2), state)
        shape = (self.copies, -1)
        return outputs.unflatten(1, shape), tuple(part.unflatten(0, shape) for part in state)

    def _held(
        self, block: _Block, layer: RecurrentLayer, values: Tensor, state: State
    ) -> tuple[Tensor, State]:
        gate_input = layer.gate_input(values)
        if gate_input.ndim == 3:  # below this layer nothing is held; gates need their copies even so
            gate_input = gate_input.unsqueeze(1).expand(-1, self.copies, -1, -1)
        outputs = []
        for t in range(len(values)):
            state = layer.step(gate_input[t], state, block)
            outputs.append(state[0])
            block.t += 1
        return torch.stack(outputs), state

    def _wide(self, state: State) -> State:
        return tuple(part.expand(self.copies, *part.shape).contiguous() for part in state)


class _StepRunner(_Runner):
    """The same for a network that is no stack: all of it in K copies, symbol by symbol."""

    def __init__(self, network: Network, ids: Tensor, copies: Sequence[Sequence[Held]]) -> None:
        super().__init__(network, ids, copies)
        self.state = tuple(self._wide(layer) for layer in network.initial_state(len(ids)))

    def logits(self, begin: int) -> tuple[Tensor, Tensor]:
        """Read one window; logits (T, K, R, V), and what follows, (T, R)."""
        found = []
        for symbols in self.ids[:, 0 if begin == 0 else begin + 1 : begin + WINDOW + 1].unbind(1):
            ids = symbols.expand(self.copies, -1)
            logits, self.state = self.network.step(ids, self.state, lambda n: self.blocks[n - 1])
            found.append(logits)
            for block in self.blocks:
                block.t += 1
        target = self.ids[:, begin + 2 : begin + WINDOW + 2].t()
        return torch.stack(found)[1 if begin == 0 else 0 :][: len(target)], target
