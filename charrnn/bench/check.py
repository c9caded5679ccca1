"""Whether charrnn and ``torch.nn`` compute the same, before anybody asks which is faster."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.bench.stock import StockNetwork, own_name, random_ids
from charrnn.errors import CharrnnError
from charrnn.model.network import Network
from charrnn.sampling.samplers import Sampler
from charrnn.text.vocabulary import BOUNDARY

MAX_ERROR = 1e-4
"""Largest error of the loss and of any gradient, relative to its norm."""
MAX_LOGIT_ERROR = 1e-3
"""How far below the best symbol's logit that of a greedy choice may lie."""
GREEDY_CHARS = 200
READOUT_GAIN = 30.0
"""The logits of an untrained network hardly depend on its state; with this, and around their mean, they do.
Larger recurrent weights would do so too, but with them rounding grows from step to step."""


def check_window(network: Network, batch_size: int, seq_len: int) -> float:
    """Return the largest relative error of the loss and all gradients of one window.

    Raises:
        CharrnnError: It is above 1e-4.
    """
    ids = random_ids(batch_size, seq_len + 1)
    stock = StockNetwork(network)
    logits, _ = stock(ids[:, :-1].t())
    theirs = cross_entropy(logits.flatten(0, 1), ids[:, 1:].t().flatten())
    theirs.backward()
    network.zero_grad()
    ours, _ = network.loss(ids[:, :-1], ids[:, 1:], network.initial_state(batch_size))
    ours.backward()
    own = dict(network.named_parameters())
    errors = {name: _error(own[own_name(name)].grad, p.grad) for name, p in stock.named_parameters()}
    errors = {"loss": _error(ours.detach(), theirs.detach())} | errors
    network.zero_grad()
    return _worst(errors, network)


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def _worst(errors: dict[str, float], network: Network) -> float:
    for name, error in errors.items():
        if not error < MAX_ERROR:  # NaN too
            what = "the loss" if name == "loss" else f"the gradient of `{name}`"
            config = network.config
            raise CharrnnError(
                f"{what} of {config.cell} {config.num_layers}×{config.hidden_size} misses that of "
                f"torch.nn by {error:.1g}, so no speed is reported",
                "`CHARRNN_NATIVE=0` leaves the native kernels out; please report this",
            )
    return max(errors.values())


@torch.inference_mode()
def check_greedy(sampler: Sampler, network: Network, what: str) -> None:
    """Compare a sampler's choices at temperature 0, one after each symbol of a text, with ``torch.nn``'s.

    Args:
        sampler: One stream at the begin of a document, that never draws the boundary.
        network: With the weights that the sampler stores.
        what: Its name, for the message.

    Raises:
        CharrnnError: Another symbol is better by more than rounding explains.
    """
    read = [BOUNDARY]
    for symbol in random_ids(GREEDY_CHARS).tolist():
        sampler.read(np.array([[symbol]]))
        read += [symbol, int(sampler.draw(np.zeros((1, 1)))[0, 0])]
    logits = StockNetwork(network)(torch.tensor(read[:-1])[:, None])[0][1::2, 0]
    chosen = logits.gather(1, torch.tensor(read[2::2])[:, None])[:, 0]
    error = float((logits[:, BOUNDARY + 1 :].max(1).values - chosen).max())
    if not error < MAX_LOGIT_ERROR:
        raise CharrnnError(
            f"the {what} sampler of {network.config.cell} writes what torch.nn does not: its choice is worse "
            f"by {error:.1g}, so no speed is reported",
            "`CHARRNN_NATIVE=0` leaves the native sampler out; please report this",
        )


@torch.no_grad()
def lively(network: Network) -> Network:
    """Return the network with a readout that makes its choices depend on what it has read."""
    hidden, _ = network.hidden(random_ids(1, GREEDY_CHARS), network.initial_state(1))
    network.readout.weight.mul_(READOUT_GAIN)
    network.readout.bias.copy_(-network.readout.weight @ hidden.mean((0, 1)))
    return network
