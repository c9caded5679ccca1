"""Averages of the weights over steps: what is judged, saved as best, and speaks, instead of the last ones."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from charrnn.config import TrainingConfig
from charrnn.model.network import Network
from charrnn.training.state import Counters

NON_MONOTONE = 5
"""Looks at the validation split that NT-ASGD waits for an improvement (Merity et al. 2018: n = 5)."""


class NoAverage:
    """The weights of the last step are those that are judged; also what all averages have in common.

    Args:
        network: What is trained.
        training: The settings.
        counters: Where the run stands; what an average needs to go on is kept there.
    """

    def __init__(self, network: Network, training: TrainingConfig, counters: Counters) -> None:
        self.trained, self.decay = network, training.ema_decay
        self.counters = counters
        self.average = self._make()

    def _make(self) -> Network | None:
        return None

    @property
    def judged(self) -> Network:
        """The network that is evaluated, saved as a model, and speaks."""
        return self.trained

    def after_step(self) -> None:
        """Take the weights of a step into the average; ``counters.step`` has counted it."""

    def after_look(self, loss: float) -> None:
        """Hear of the validation loss of what is judged."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the average by name of weight; empty without one."""
        return {} if self.average is None else self.average.state_dict()

    def restore(self, tensors: dict[str, Tensor], counters: Counters) -> None:
        """Go on from what was saved; ``RuntimeError`` if it belongs to another network."""
        self.counters = counters
        if self.average is not None:
            self.average.load_state_dict(tensors)

    @torch.no_grad()
    def _move(self, share: float) -> None:
        """Move the average towards the trained weights by a share of the difference."""
        own, trained = list(self.average.parameters()), list(self.trained.parameters())
        torch._foreach_lerp_(own, trained, share)


class ExponentialAverage(NoAverage):
    """An exponential moving average whose memory grows with the run, to ``ema_decay`` at most.

    The decay at step n is min(``ema_decay``, (1 + n) / (10 + n)): the first weights, which are random,
    are soon forgotten, and a short run is averaged over its last tenth.

    Source: Polyak & Juditsky 1992; the decay's rise is that of TensorFlow's ``ExponentialMovingAverage``.
    """

    def _make(self) -> Network:
        return _copy(self.trained)

    @property
    def judged(self) -> Network:
        """The average."""
        return self.average

    def after_step(self) -> None:
        """Take a step's weights in."""
        step = self.counters.step
        self._move(1 - min(self.decay, (1 + step) / (10 + step)))


class NonMonotonicAverage(NoAverage):
    """NT-ASGD: the mean of all weights since validation stopped improving, and the last ones before that.

    Averaging begins at the look whose loss is above the lowest of all but the last five before it.

    Source: Merity, Keskar & Socher 2018, "Regularizing and Optimizing LSTM Language Models", algorithm 1.
    """

    def _make(self) -> Network:
        return _copy(self.trained)

    @property
    def judged(self) -> Network:
        """The average, once there is one."""
        return self.trained if self.counters.averaged_since is None else self.average

    def after_step(self) -> None:
        """Take a step's weights in, each with the same weight."""
        if self.counters.averaged_since is not None:
            self._move(1 / (self.counters.step - self.counters.averaged_since))

    def after_look(self, loss: float) -> None:
        """Begin to average if this is no improvement."""
        counters = self.counters
        before = counters.val_losses[:-NON_MONOTONE]
        if counters.averaged_since is None and before and loss > min(before):
            counters.averaged_since = counters.step
            self._move(1.0)
        counters.val_losses.append(loss)


def _copy(network: Network) -> Network:
    return deepcopy(network).requires_grad_(False).eval()
