"""One step of training: gradients of a window, clipping, and the optimizer's update.

Off the CPU nothing in here waits for the device, so that a step can be recorded as a CUDA graph
(``replay.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_

from charrnn.config import OPTIMIZERS, TrainingConfig
from charrnn.devices import arithmetic
from charrnn.errors import TrainingError, ran_out_of_memory
from charrnn.model.network import Network, NetworkState
from charrnn.model.paths import Path, choose_path, find_gpu
from charrnn.model.regularisation import Pull
from charrnn.training.distributed import ALONE, Team
from charrnn.training.optimizers import parameter_groups, pull_to_zero
from charrnn.training.parts import Part, backward_in_segments, detached, joined
from charrnn.training.scaling import LossScale
from charrnn.training.updates import clip_gradients


class Outcome(NamedTuple):
    """What a step leaves behind."""

    loss: Tensor
    """Mean nats per symbol, (); on the device, so that nothing waits for it."""
    norm: Tensor
    """Norm of all gradients before they were clipped, (); 0 where fp16 overflowed and no weight moved."""
    state: NetworkState
    """After the window; no gradient flows through it."""


class Step:
    """Updates a network's weights in place, a window at a time.

    Args:
        network: On its device.
        training: Its optimizer, rates and clipping.
        device: Where.
        precision: ``auto``, ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        path: How windows are run; None lets the dispatcher choose.
        team: Processes that read the other rows of the batch.
    """

    def __init__(
        self,
        network: Network,
        training: TrainingConfig,
        device: torch.device,
        precision: str = "auto",
        path: Path | None = None,
        team: Team = ALONE,
    ) -> None:
        self.network = network
        self.team = team
        self.training = training
        self.device = device
        self.recipe = OPTIMIZERS[training.optimizer]
        self.pull = Pull(training.activation_l2, training.temporal_l2)
        groups = parameter_groups(network, self.recipe, training)
        self.optimizer = self.recipe.make(groups, training.learning_rate, device)
        self.parts = 1
        """Into how many windows of fewer rows each is cut, because memory would not hold it whole."""
        self.notices: list[str] = []
        """What a user should hear of, until the trainer has told it."""
        gpu = find_gpu(device)
        rows = -(-training.batch_size // team.size)
        self.take(path or choose_path(network.config, rows, precision, gpu))

    def take(self, path: Path) -> None:
        """Run windows like that from now on."""
        self.path = path
        self.scaling = LossScale(self.device) if path.precision == "fp16" else None

    def __call__(
        self,
        ids: Tensor,
        targets: Tensor,
        state: NetworkState,
        noise: torch.Generator,
        rate: float | Tensor,
        inside: bool | None = None,
    ) -> Outcome:
        """Do one step on ids and targets (B, T), continuing from a state.

        Args:
            ids: Symbols read.
            targets: Symbols to be predicted.
            state: From the window before.
            noise: Source of dropout masks, seeded for this step.
            rate: Learning rate of this step; as a tensor () on the device it can differ between replays.
            inside: Whether a document begins inside the window; None looks, for which the host waits.

        Raises:
            TrainingError: Memory does not even hold one row.
        """
        self.network.train()
        loss, after = self._gradients(Part(ids, targets, state, noise, inside))
        self.team.average(self.network.parameters(), loss, len(ids) / self.training.batch_size)
        return Outcome(loss, self._update(rate), after)

    def _gradients(self, reading: Part) -> tuple[Tensor, NetworkState]:
        """Set the gradients of a window, in as many parts as memory asks for."""
        before, (rows, length) = self.parts, reading.ids.shape
        while (found := self._try(reading)) is None:
            if self.parts >= rows:
                raise TrainingError(
                    f"memory does not hold a window of {length} symbols, even row by row",
                    "try `--set training.recompute=true`, or a smaller `--seq-len` or `--hidden-size`",
                )
            self.parts = min(2 * self.parts, rows)
            reading.noise.manual_seed(reading.noise.initial_seed())
        if self.parts != before:
            self.notices.append(
                f"memory does not hold a window of {rows} × {length}: from now on it is read in parts of "
                f"{-(-rows // self.parts)} rows, whose gradients are added up before a step"
            )
        return found

    def _try(self, reading: Part) -> tuple[Tensor, NetworkState] | None:
        """Set the gradients of a window; return its loss and the state after, None if memory ran out."""
        try:
            return self._accumulated(reading)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            self.optimizer.zero_grad()
            return None

    def _accumulated(self, reading: Part) -> tuple[Tensor, NetworkState]:
        """Add up the gradients of a window's parts, each by its share of the rows."""
        whole = len(reading.ids)
        rows = -(-whole // self.parts)
        losses, ends = [], []
        for begin in range(0, whole, rows):
            part = reading if rows == whole else reading.rows(begin, begin + rows)
            if begin == 0:
                self.optimizer.zero_grad()
            with arithmetic(self.device, self.path.precision):
                loss, after = self._backward(part, len(part.ids) / whole)
            losses.append(loss)
            ends.append(after)
        return (losses[0], ends[0]) if rows == whole else (torch.stack(losses).sum(), joined(ends))

    def _backward(self, part: Part, share: float) -> tuple[Tensor, NetworkState]:
        """Add the gradients of some rows, times a share; return that share of their loss, and their state."""

        if self.training.recompute:
            return backward_in_segments(self._read, part, share, redrawn=self._redrawn)
        loss, scaled, after = self._read(part, share)
        scaled.backward()
        return loss, detached(after)

    def _read(self, part: Part, share: float) -> tuple[Tensor, Tensor, NetworkState]:
        """Return a share of the loss, that with the loss scale, and the state after."""
        loss, after = self._loss(part)
        loss = loss if share == 1 else loss * share
        return loss.detach(), loss if self.scaling is None else loss * self.scaling.scale, after

    @property
    def _redrawn(self) -> bool:
        """Whether dropout masks are others at every timestep, not the same for a whole window."""
        model = self.network.config
        return model.dropout_kind != "variational" and not model.weight_drop

    def _loss(self, part: Part) -> tuple[Tensor, NetworkState]:
        given = part.ids, part.targets, part.state, part.noise
        if not self.network.stacked:  # a network of its own, which knows one way only
            return self.network.loss(*given, self.pull)
        return self.network.loss(*given, self.path, part.inside, self.pull)

    def _update(self, rate: float | Tensor) -> Tensor:
        training = self.training
        if self.scaling is not None:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            rate = self.scaling.unscale(gradients) * rate
        if training.grad_clip_value is not None:
            clip_grad_value_(self.network.parameters(), training.grad_clip_value)
        norm = clip_gradients(self.network.parameters(), training.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pull_to_zero(self.optimizer, self.recipe, training)
        self.optimizer.step()
        return norm
