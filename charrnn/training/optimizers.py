"""Update rules: torch's own, each with a peak learning rate at which it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from charrnn.training.updates import AdamW

Groups = list[dict]


@dataclass(frozen=True)
class OptimizerRecipe:
    """How to make an optimizer.

    Args:
        default_rate: Peak learning rate of a layer with 256 neurons.
        build: Parameter groups and learning rate to a torch optimizer.
        falls_with_width: Whether the rate is inverse to the width, as for rules that divide by the
            gradient's size: a sum over twice as many inputs then moves twice as far.
    """

    default_rate: float
    build: Callable[[Groups, float], torch.optim.Optimizer]
    falls_with_width: bool = True

    def rate(self, hidden_size: int) -> float:
        """Return the peak learning rate for a width."""
        return self.default_rate * (min(1.25, 256 / hidden_size) if self.falls_with_width else 1.0)


def _adamw(groups: Groups, rate: float) -> torch.optim.Optimizer:
    return AdamW(groups, rate, betas=(0.9, 0.99), fused=True)


def _adam(groups: Groups, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, rate, betas=(0.9, 0.99), fused=True)


def _rmsprop(groups: Groups, rate: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, rate, alpha=0.95)


def _sgd(groups: Groups, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)


adamw = OptimizerRecipe(12e-3, _adamw)
"""Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

adam = OptimizerRecipe(12e-3, _adam)
"""Adam (Kingma & Ba 2015); weight decay is L2."""

rmsprop = OptimizerRecipe(5e-3, _rmsprop)
"""RMSprop with char-rnn's decay of 0.95 (Tieleman & Hinton 2012)."""

sgd = OptimizerRecipe(1.0, _sgd, falls_with_width=False)
"""Stochastic gradient descent with Nesterov momentum 0.9 (Sutskever et al. 2013)."""


def parameter_groups(network: nn.Module, weight_decay: float) -> Groups:
    """Return the matrices with weight decay, and the biases without."""
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
