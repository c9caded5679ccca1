"""What makes a layer forget at random while it learns, recurrent weight-drop and zoneout, and what keeps its
activations small and slow.

Masks come from the generator of the training step, so they depend on nothing but seed and step. Dropout
of inputs and outputs is ``Network``'s own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from charrnn.config import ModelConfig
from charrnn.errors import ConfigError
from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched
from charrnn.text.vocabulary import BOUNDARY

RECURRENT = "weight_hh_l0"


class Zoneout(RecurrentLayer):
    """A cell each of whose states keeps its old value with a probability, and else takes the new one.

    While it learns, a mask decides for every neuron and timestep; otherwise the state is the mean of old
    and new that this amounts to. The new h follows from the new c, before either is mixed with the old.

    Source: Krueger et al. 2017, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations".
    """

    probability: ClassVar[float]
    packs: ClassVar[bool] = False
    retraces: ClassVar[bool] = False
    noise: torch.Generator | None = None

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep of the cell, then keep some of the state."""

        def hold_gates(kind: str, values: Tensor) -> Tensor:
            return values if kind in self.state_names else hold(kind, values)

        after = super().step(gate_input, state, hold_gates)
        mixed = (self._mixed(old, new) for old, new in zip(state, after, strict=True))
        return tuple(hold(kind, part) for kind, part in zip(self.state_names, mixed, strict=True))

    def _mixed(self, old: Tensor, new: Tensor) -> Tensor:
        if self.noise is None:
            return torch.lerp(new, old, self.probability)
        return torch.where(bernoulli(new, self.probability, self.noise).bool(), old, new)

    def recurrence(self, inputs: Tensor, state: State, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window step by step: no kernel stops between timesteps to mix states."""
        return self.reference(inputs, state, reset)


def with_zoneout(cell: type[RecurrentLayer], probability: float) -> type[RecurrentLayer]:
    """Return the cell with zoneout, or the cell itself where the probability is 0."""
    if probability == 0:
        return cell
    return type(f"Zoneout{cell.__name__}", (Zoneout, cell), {"probability": probability})


class SharedNoise(torch.Generator):
    """The masks of some rows of a batch, as one generator draws them for the whole batch.

    So what is dropped does not depend on how many processes share the batch; each draws the masks of all.
    """

    rows: range
    batch_size: int


def bernoulli(like: Tensor, probability: float, noise: torch.Generator, *, by_row: bool = True) -> Tensor:
    """Return ones with a probability and zeros else, in the shape of a tensor.

    A quarter of a random 64-bit number decides each: probabilities are rounded to 2^-16, for a quarter of
    what ``Tensor.bernoulli_`` costs on a CPU, where that was an eighth of the training step.

    Args:
        like: What is to be masked.
        probability: Of a one.
        noise: Where randomness comes from.
        by_row: Whether the last dimension but one of ``like`` are rows of the batch.
    """
    rows = getattr(noise, "rows", None) if by_row else None
    shape = like.shape if rows is None else (*like.shape[:-2], noise.batch_size, like.shape[-1])
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    shorts = words.random_(-(2**63), None, generator=noise).view(torch.int16)[:count].view(shape)
    shorts = shorts if rows is None else shorts[..., rows.start : rows.start + like.shape[-2], :]
    limit = min(round(probability * 2**16), 2**16 - 1) - 2**15
    return (shorts < limit).to(like.dtype)


@contextmanager
def regularised(layer: RecurrentLayer, config: ModelConfig, noise: torch.Generator | None) -> Iterator[None]:
    """Let a layer read a window of training: with a part of its recurrent weights, and with zoneout.

    Weight-drop sets recurrent weights to zero for the whole window, the same for every row; those that
    are kept grow, so that evaluation needs no scaling.

    Source: Merity, Keskar & Socher 2018, "Regularizing and Optimizing LSTM Language Models".
    """
    if noise is None or not (config.weight_drop or config.zoneout):
        yield
        return
    whole = layer._parameters.get(RECURRENT)
    layer.noise = noise
    try:
        if config.weight_drop:
            keep = 1 - config.weight_drop
            _use(layer, whole * bernoulli(whole, keep, noise, by_row=False).div_(keep))
        yield
    finally:
        layer.noise = None
        if config.weight_drop:
            _use(layer, whole)


def _use(layer: RecurrentLayer, weight: Tensor) -> None:
    """Put a tensor, with its graph, where every path of a layer looks for its recurrent weights."""
    layer._parameters[RECURRENT] = weight
    if hasattr(layer, "_flat_weights"):  # torch.nn's own list of its weights
        layer._flat_weights[layer._flat_weights_names.index(RECURRENT)] = weight


class Pull(NamedTuple):
    """What large activations and fast ones cost while a network learns: AR and TAR.

    Source: Merity, McCann & Socher 2017, "Revisiting Activation Regularization for Language RNNs".
    """

    size: float
    """Factor of the mean square of what the readout reads, after dropout."""
    change: float
    """Factor of the mean square of its change from one timestep to the next, before dropout."""

    def added(self, loss: Tensor, outputs: Tensor, dropped: Tensor, before: Tensor, ids: Tensor) -> Tensor:
        """Return a loss with the same value whose gradient is that of its sum with both costs.

        The first timestep has changed since the window before, so that segments of a window cost what the
        window does; one that begins a document has not.

        Args:
            loss: ().
            outputs: What the readout reads, (T, B, H).
            dropped: The same after dropout.
            before: The same at the end of the window before, (B, H).
            ids: What was read, (B, T).
        """
        if not any(self):
            return loss
        outputs, dropped = outputs.to(loss.dtype), dropped.to(loss.dtype)
        changes = outputs - torch.cat([before.unsqueeze(0), outputs[:-1]])
        changes = changes * (ids.t() != BOUNDARY).unsqueeze(2)
        cost = self.size * dropped.square().mean() + self.change * changes.square().mean()
        return loss + (cost - cost.detach())


NO_PULL = Pull(0.0, 0.0)


def check_levers(config: ModelConfig, layer: RecurrentLayer) -> None:
    """Refuse what a cell cannot have.

    Raises:
        ConfigError: Weight-drop without recurrent weights, or chrono without a forget gate.
    """
    if config.weight_drop and not hasattr(layer, RECURRENT):
        raise ConfigError(f"`model.weight_drop` needs recurrent weights, and `{config.cell}` has none")
    if config.forget_init == "chrono" and not (
        {"f", "z"} & set(layer.gate_names) and hasattr(layer, "bias_hh_l0")
    ):
        raise ConfigError(
            f"`model.forget_init` is `chrono`, but `{config.cell}` has no forget gate to set",
            "chrono is for lstm and gru",
        )
