"""A window of training in parts: some of its rows, where memory does not hold all; segments of its time,
where activations are computed again for the gradient instead of being kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charrnn.model.network import NetworkState


class Part(NamedTuple):
    """What of a window is read at once; arguments as for ``Step``."""

    ids: Tensor
    targets: Tensor
    state: NetworkState
    noise: torch.Generator
    inside: bool | None

    def rows(self, begin: int, stop: int) -> Part:
        """Return some rows of it."""
        cut = slice(begin, stop)
        state = tuple(tuple(values[cut] for values in layer) for layer in self.state)
        return self._replace(ids=self.ids[cut], targets=self.targets[cut], state=state)

    def segments(self) -> list[Part]:
        """Return about √T parts of about √T timesteps, all with the state before the first."""
        length = math.isqrt(self.ids.shape[1] - 1) + 1
        inside = None if self.inside else self.inside  # which of them a document begins in, has to be seen
        pairs = zip(self.ids.split(length, 1), self.targets.split(length, 1), strict=True)
        return [self._replace(ids=ids, targets=targets, inside=inside) for ids, targets in pairs]


Loss = Callable[[Part, float], tuple[Tensor, Tensor, NetworkState]]
"""What reads a part and returns a share of its loss, that with the loss scale, and the state after."""


def backward_in_segments(
    loss: Loss, part: Part, share: float, *, redrawn: bool
) -> tuple[Tensor, NetworkState]:
    """Add the gradients of a part, exactly, and keep no more activations than those of one segment.

    It is read twice: once for the states between segments, then from the last segment to the first.

    Args:
        loss: What reads some of it.
        part: All of it.
        share: What its loss and gradients are multiplied by.
        redrawn: Whether each segment has dropout masks of its own.

    Returns:
        The share of the loss, (), and the state after; no gradient flows through either.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", on time as in Gruslys et al.
    2016, "Memory-Efficient Backpropagation Through Time".
    """
    segments, seed = part.segments(), part.noise.initial_seed()

    def read(number: int, state: NetworkState) -> tuple[Tensor, Tensor, NetworkState]:
        part.noise.manual_seed(seed + number if redrawn else seed)
        own = segments[number]._replace(state=state)
        return loss(own, share * own.ids.shape[1] / part.ids.shape[1])

    try:
        states = [part.state]
        with torch.no_grad():
            for number in range(len(segments) - 1):
                states.append(read(number, states[-1])[2])
        losses, wanted, end = [], [], None
        for number in reversed(range(len(segments))):
            begin = _leaves(states.pop()) if number else part.state
            nats, scaled, after = read(number, begin)
            _backward(scaled, after, wanted)
            wanted = [values.grad for layer in begin for values in layer]
            losses.append(nats)
            end = end or detached(after)
        return torch.stack(losses).sum(), end
    finally:
        part.noise.manual_seed(seed)


def _backward(loss: Tensor, state: NetworkState, wanted: list[Tensor | None]) -> None:
    """Add the gradients of a loss, and of a state whose own are known."""
    flat = [values for layer in state for values in layer]
    pairs = zip(flat, wanted, strict=bool(wanted))
    known = [(values, d) for values, d in pairs if values.requires_grad and d is not None]
    torch.autograd.backward([loss, *(values for values, _ in known)], [None, *(d for _, d in known)])


def _leaves(state: NetworkState) -> NetworkState:
    return tuple(tuple(values.detach().requires_grad_() for values in layer) for layer in state)


def detached(state: NetworkState) -> NetworkState:
    """Return a state through which no gradient flows."""
    return tuple(tuple(values.detach() for values in layer) for layer in state)


def joined(ends: Sequence[NetworkState]) -> NetworkState:
    """Return the state of all rows from those of parts of them."""
    return tuple(
        tuple(torch.cat(parts) for parts in zip(*layers, strict=True)) for layers in zip(*ends, strict=True)
    )
