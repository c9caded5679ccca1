"""Dynamic evaluation: the cost of a text under a network that learns from it while it is read.

Source:
    Mikolov et al. 2010, "Recurrent neural network based language model"; Krause et al. 2018, "Dynamic
    Evaluation of Neural Sequence Models", from which the update is.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.model.network import Network, NetworkState
from charrnn.model.scoring import ScoredWindow, TextView

SEGMENT = 20
"""Symbols that are scored, then learned from, at a time."""
RATE = 7e-4
"""Learning rate where the size of the gradients is known, about the change of a weight in one update."""
PLAIN_RATE = 0.1
"""Learning rate of plain gradient descent."""
DECAY = 1e-3
"""Share of the way back to its trained value that an average weight goes in one update."""
EPSILON = 0.1
"""What the size of a weight's gradient is raised by before dividing by it, as a share of the average."""
STATISTICS = 300
"""Segments of training text that tell the size of the gradients."""
WARM_UP = 100

Weights = list[Tensor]
"""One tensor for each of ``network.parameters()``, in their order."""


def gradient_sizes(network: Network, training: TextView) -> Weights:
    """Return the root mean square of every weight's gradient over segments of the training text.

    The segments lie at even distances, and each is read from the state that the 100 symbols before it leave.

    Args:
        network: Left as it is.
        training: The training text.
    """
    copy = _copied(network)
    weights = list(copy.parameters())
    squares = [torch.zeros_like(weight) for weight in weights]
    begins = np.linspace(0, max(0, len(training) - 1 - WARM_UP - SEGMENT), STATISTICS).astype(int)
    for begin in np.unique(begins):
        ids = _ids(copy, training, begin, WARM_UP + SEGMENT + 1)
        with torch.no_grad():
            state = copy.hidden(ids[:, :WARM_UP], copy.initial_state(1))[1]
        _learnable(copy, ids[:, WARM_UP:], state)[0].mean().backward()
        for square, weight in zip(squares, weights, strict=True):
            if weight.grad is not None:  # a weight without a part in the loss
                square.addcmul_(weight.grad, weight.grad)
            weight.grad = None
    return [(square / len(np.unique(begins))).sqrt() for square in squares]


def score_dynamic(
    network: Network, view: TextView, rate: float, sizes: Weights | None = None
) -> Iterator[ScoredWindow]:
    """Score a text in one stream under a copy of the network that learns from each segment once it is scored.

    Args:
        network: Left as it is.
        view: The text.
        rate: Learning rate.
        sizes: What ``gradient_sizes`` returned: each weight moves by ``rate`` times its gradient in these
            units, and goes back the faster the larger they are. Without, all weights learn and go back alike.
    """
    copy = _copied(network)
    update = _Update(copy, rate, sizes)
    state = copy.initial_state(1)
    symbols = len(view) - 1
    for begin in range(0, symbols, SEGMENT):
        size = min(SEGMENT, symbols - begin)
        places = view.read(begin, size + 1)
        nats, state = _learnable(copy, _tensor(copy, view.table[places]), state)
        yield ScoredWindow(
            np.arange(begin + 1, begin + size + 1)[None],
            places[None, 1:],
            nats.detach().cpu().double().numpy()[None],
        )
        state = tuple(tuple(part.detach() for part in layer) for layer in state)
        nats.mean().backward()
        update()


class _Update:
    """One step of gradient descent, and of decay towards the weights there were at first."""

    @torch.no_grad()
    def __init__(self, network: Network, rate: float, sizes: Weights | None) -> None:
        self.weights = list(network.parameters())
        self.first = [weight.detach().clone() for weight in self.weights]
        if sizes is None:
            self.speed: list[Tensor] = [torch.full_like(weight, rate) for weight in self.weights]
            self.back: list[Tensor] = [torch.full_like(weight, DECAY) for weight in self.weights]
            return
        average = sum(float(size.sum()) for size in sizes) / sum(size.numel() for size in sizes)
        average = max(average, torch.finfo(torch.float32).tiny)
        self.speed = [rate / (size + EPSILON * average) for size in sizes]
        self.back = [(DECAY * size / average).clamp(max=1.0) for size in sizes]

    @torch.no_grad()
    def __call__(self) -> None:
        for weight, first, speed, back in zip(self.weights, self.first, self.speed, self.back, strict=True):
            if weight.grad is not None:
                weight.addcmul_(weight.grad, speed, value=-1.0).lerp_(first, back)
            weight.grad = None


def _copied(network: Network) -> Network:
    """Return a copy that can learn; cuDNN differentiates only what is in training mode."""
    return deepcopy(network).requires_grad_(True).train()


def _learnable(network: Network, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
    """Return -ln p of ids[:, 1:], (T,), with their graph, and the state after reading ids[:, :-1]."""
    logits, state = network(ids[:, :-1], state)
    return cross_entropy(logits[0], ids[0, 1:], reduction="none"), state


def _ids(network: Network, view: TextView, begin: int, length: int) -> Tensor:
    return _tensor(network, view.table[view.read(begin, length)])


def _tensor(network: Network, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids).to(network.readout.weight.device)[None]
