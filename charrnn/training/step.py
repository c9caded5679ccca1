"""One step of training: gradients of a window, clipping, and the optimizer's update."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_

from charrnn.config import OPTIMIZERS, TrainingConfig
from charrnn.devices import arithmetic
from charrnn.model.network import Network, NetworkState
from charrnn.training.optimizers import parameter_groups, pull_to_zero
from charrnn.training.updates import clip_gradients


class Outcome(NamedTuple):
    """What a step leaves behind."""

    loss: Tensor
    """Mean nats per symbol, (); on the device, so that nothing waits for it."""
    norm: Tensor
    """Norm of all gradients before they were clipped, ()."""
    state: NetworkState
    """After the window; no gradient flows through it."""


class Step:
    """Updates a network's weights in place, a window at a time.

    Args:
        network: On its device.
        training: Its optimizer, rates and clipping.
        device: Where.
        precision: ``tf32`` or ``fp32`` for the recurrent products.
    """

    def __init__(self, network: Network, training: TrainingConfig, device: torch.device, precision: str):
        self.network = network
        self.training = training
        self.device = device
        self.precision = precision
        self.recipe = OPTIMIZERS[training.optimizer]
        groups = parameter_groups(network, self.recipe, training)
        self.optimizer = self.recipe.build(groups, training.learning_rate)

    def __call__(
        self, ids: Tensor, targets: Tensor, state: NetworkState, noise: torch.Generator, rate: float
    ) -> Outcome:
        """Do one step on ids and targets (B, T), continuing from a state.

        Args:
            ids: Symbols read.
            targets: Symbols to be predicted.
            state: From the window before.
            noise: Source of dropout masks.
            rate: Learning rate of this step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        with arithmetic(self.device, self.precision):
            loss, after = self.network.loss(ids, targets, state, noise)
            self.optimizer.zero_grad()
            loss.backward()
        norm = self._update()
        return Outcome(loss.detach(), norm, tuple(tuple(part.detach() for part in layer) for layer in after))

    def _update(self) -> Tensor:
        training = self.training
        if training.grad_clip_value is not None:
            clip_grad_value_(self.network.parameters(), training.grad_clip_value)
        norm = clip_gradients(self.network.parameters(), training.grad_clip)
        pull_to_zero(self.optimizer, self.recipe, training)
        self.optimizer.step()
        return norm
