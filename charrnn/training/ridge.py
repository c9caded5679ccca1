"""The readout of a network with fixed recurrent weights, by ridge regression in one pass over the text.

What follows each symbol, as a one-hot vector, is regressed on the states (Lukoševičius 2012, section 4). The
regression's outputs estimate probabilities, but may be negative; so they become logits around the share p of
each symbol,

    logit_v = ln p_v + gain (output_v - p_v) / p_v^power

and strength, gain and power are those with the lowest loss on the begin of the validation split. With power 1
and gain 1 that is ln output_v to first order; with power 0 it is temperature scaling (Guo et al. 2017) with
the shares as prior. It is linear in the states, so it is an ordinary readout; one fitted by gradient to the
cross-entropy itself has a lower loss, and takes many passes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from charrnn.devices import arithmetic
from charrnn.events import Event, StepEvent
from charrnn.training.averaging import NoAverage
from charrnn.training.trainer import WARM_UP_STEPS, Trainer

WASHOUT = 100
"""Timesteps after which a row that begins inside a document has forgotten that it began from zeros."""
CALIBRATION_SYMBOLS = 20_000
STRENGTHS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Penalties that are tried, per character read."""
GAINS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
POWERS = (0.0, 0.25, 0.5)
DEFAULT = (1e-5, 3.0, 0.25)
"""Strength, gain and power where no validation split can choose them."""

Readout = tuple[Tensor, Tensor]
"""Weights (V, H) and biases (V,)."""


class RidgeSums:
    """Everything that the regression needs of what was read; saved and restored in an optimizer's place.

    Args:
        hidden_size: Neurons that are read out, H.
        vocab_size: Number of ids, V.
        device: Where to add up, in float64.
    """

    def __init__(self, hidden_size: int, vocab_size: int, device: torch.device) -> None:
        like = {"dtype": torch.float64, "device": "cpu" if device.type == "mps" else device}
        self.gram = torch.zeros(hidden_size + 1, hidden_size + 1, **like)
        self.cross = torch.zeros(vocab_size, hidden_size + 1, **like)

    @property
    def count(self) -> float:
        """Characters that were added."""
        return float(self.gram[-1, -1])

    def add(self, states: Tensor, targets: Tensor) -> None:
        """Add states (N, H) and the ids that followed them (N,)."""
        states = states.to(self.gram.device).double()
        wide = torch.cat([states, states.new_ones(len(states), 1)], dim=1)
        followed = one_hot(targets.to(wide.device), len(self.cross)).double()
        self.gram += wide.t() @ wide
        self.cross += followed.t() @ wide

    def solve(self, strengths: tuple[float, ...]) -> list[Readout]:
        """Return for each strength what minimises ``|Y - X W' - b|² + strength |W|²``; b is not penalised."""
        mean, share = self.gram[-1, :-1] / self.count, self.shares()
        gram = self.gram[:-1, :-1] - self.count * torch.outer(mean, mean)
        cross = self.cross[:, :-1] - self.count * torch.outer(share, mean)
        values, vectors = torch.linalg.eigh(gram)
        rotated = cross @ vectors
        found = []
        for strength in strengths:
            weight = (rotated / (values.clamp(min=0) + strength)) @ vectors.t()
            found.append((weight, share - weight @ mean))
        return found

    def shares(self) -> Tensor:
        """Return the share of every id among what followed, (V,)."""
        return self.cross[:, -1] / self.count

    def state_dict(self) -> dict[str, Any]:
        """Return the sums in the form of an optimizer's state."""
        return {"state": {0: {"gram": self.gram, "cross": self.cross}}, "param_groups": []}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the sums back; ``ValueError`` if they belong to another network."""
        found = state["state"][0]
        for name, own in (("gram", self.gram), ("cross", self.cross)):
            if found[name].shape != own.shape:
                raise ValueError(f"the sums `{name}` have another shape")
            own.copy_(found[name])


def as_logits(readout: Readout, shares: Tensor, gain: float, power: float) -> Readout:
    """Return the readout whose outputs are logits instead of estimated probabilities."""
    weight, bias = readout
    factor = gain / shares**power
    return weight * factor.unsqueeze(1), shares.log() + (bias - shares) * factor


class RidgeTrainer(Trainer):
    """Reads the training split once, adds up, and solves where the validation split is looked at.

    A step reads one window; its loss is that of the readout last solved for. Neither optimizer, learning rate
    nor dropout play a part.
    """

    optimizer: RidgeSums

    def __post_init__(self) -> None:
        super().__post_init__()
        self.average = NoAverage(self.network, self.job.config.training, self.counters)
        self.optimizer = RidgeSums(self.job.config.model.hidden_size, self.network.vocab_size, self.device)

    def _limits(self) -> dict[str, int]:
        limits, once = super()._limits(), self.streams.num_windows
        return limits | {"epochs": min(limits.get("epochs", once), once)}  # reading again says nothing new

    def _read_window(self) -> tuple[np.ndarray, np.ndarray]:
        return self.streams.read(self.counters.position, self.job.config.training.seq_len)

    @torch.no_grad()
    def _train_step(self) -> StepEvent | None:
        counters = self.counters
        begun = time.monotonic()
        ids, targets = (torch.from_numpy(a).to(self.device) for a in self._read_window())
        with arithmetic(self.device, self.precision):
            hidden, after = self.network.hidden(ids, self.state)
            loss = cross_entropy(self.network.readout(hidden).flatten(0, 1), targets.t().flatten())
        known = max(0, WASHOUT - counters.position)
        self.optimizer.add(hidden[known:].flatten(0, 1), targets.t()[known:].flatten())
        self._advance(ids.shape[1])
        self._carry(after)
        event = self._step_event(loss.item(), 0.0, 0.0) if self._report_due() else None
        if counters.step > WARM_UP_STEPS:
            counters.trained_chars += ids.numel()
            counters.trained_seconds += time.monotonic() - begun
        return event

    def _finished(self) -> str:
        reason = super()._finished()
        if self.val is None and reason not in ("", "interrupted"):
            self._solve()
        return reason

    def _evaluate(self) -> Iterator[Event]:
        begun = time.monotonic()
        self._solve()
        spent = time.monotonic() - begun
        yield from super()._evaluate()
        self._eval_seconds += spent
        self._slowest_eval = max(self._slowest_eval, spent + time.monotonic() - begun)

    @torch.no_grad()
    def _solve(self) -> None:
        """Put the best readout for what was read so far in place."""
        sums = self.optimizer
        if not sums.count:
            return
        shares = (sums.shares() + 0.5 / sums.count).clamp(max=1.0)  # an id that never followed may follow
        if self.val is None:
            strength, gain, power = DEFAULT
            (found,) = sums.solve((strength * sums.count,))
        else:
            found, gain, power = self._calibrated(shares)
        weight, bias = as_logits(found, shares, gain, power)
        self.network.readout.weight.copy_(weight)
        self.network.readout.bias.copy_(bias)

    def _calibrated(self, shares: Tensor) -> tuple[Readout, float, float]:
        """Return the regression, gain and power with the lowest loss on the begin of the validation split."""
        states, targets = self._validation_states()
        best = (float("inf"), None, 0.0, 0.0)
        for weight, bias in self.optimizer.solve(tuple(s * self.optimizer.count for s in STRENGTHS)):
            over = (states @ weight.float().t() + bias.float()) - shares.float()
            for power, gain in product(POWERS, GAINS):
                logits = shares.log().float() + gain * over / shares.float() ** power
                loss = float(cross_entropy(logits, targets))
                if loss < best[0]:
                    best = (loss, (weight, bias), gain, power)
        return best[1:]

    def _validation_states(self) -> tuple[Tensor, Tensor]:
        """Return states (N, H) and the ids that followed them, from rows read side by side."""
        symbols = min(len(self.val) - 1, CALIBRATION_SYMBOLS)
        rows = max(1, symbols // (10 * WASHOUT))
        length = symbols // rows
        places = torch.stack(
            [torch.from_numpy(self.val.read(row * length, length + 1)) for row in range(rows)]
        ).numpy()
        ids = torch.from_numpy(self.table[places]).to(self.device)
        hidden, _ = self.network.hidden(ids[:, :-1], self.network.initial_state(rows))
        skip = WASHOUT if rows > 1 else 0
        device = self.optimizer.gram.device
        return hidden[skip:].flatten(0, 1).to(device), ids[:, 1:].t()[skip:].flatten().to(device)
