"""Update rules: torch's own, each with a peak learning rate at which it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerRecipe:
    """How to make an optimizer.

    Args:
        default_rate: Peak learning rate of a layer with a few hundred neurons.
        build: Parameter groups and learning rate to a torch optimizer.
    """

    default_rate: float
    build: Callable[[list[dict], float], torch.optim.Optimizer]


adamw = OptimizerRecipe(
    3e-3, lambda groups, rate: torch.optim.AdamW(groups, rate, betas=(0.9, 0.99), fused=True)
)
"""Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

adam = OptimizerRecipe(
    3e-3, lambda groups, rate: torch.optim.Adam(groups, rate, betas=(0.9, 0.99), fused=True)
)
"""Adam (Kingma & Ba 2015); weight decay is L2."""

rmsprop = OptimizerRecipe(2e-3, lambda groups, rate: torch.optim.RMSprop(groups, rate, alpha=0.95))
"""RMSprop with char-rnn's decay of 0.95 (Tieleman & Hinton 2012)."""

sgd = OptimizerRecipe(1.0, lambda groups, rate: torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True))
"""Stochastic gradient descent with Nesterov momentum 0.9 (Sutskever et al. 2013)."""


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Return the matrices with weight decay, and the biases without."""
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
