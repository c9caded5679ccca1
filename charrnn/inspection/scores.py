"""How well one neuron's activations go with a hypothesis: statistics and nothing else.

``a`` are activations and ``y`` hypothesis values at the same characters, both (N,), without NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from charrnn.devices import home_of_sums

EPSILON = 1e-12


def pearson(a: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation coefficient; 0 where one of both does not vary."""
    a, y = a - a.mean(dtype=np.float64), y - y.mean(dtype=np.float64)
    scale = np.sqrt((a @ a) * (y @ y))
    return float(a @ y / scale) if scale > EPSILON * len(a) else 0.0


def within_groups(a: np.ndarray, y: np.ndarray, group: np.ndarray) -> float:
    """Return the correlation after subtracting from both their means over positions of one group.

    With the current character as the group, what is left is not explained by it.
    """
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group)
    centred = [
        v - (np.bincount(group, v) / size)[group] for v in (a.astype(np.float64), y.astype(np.float64))
    ]
    return pearson(*centred)


class Moments:
    """Sums from which the correlation of every neuron with every hypothesis follows.

    They are kept where the activations are, and read when the correlations are asked for.

    Args:
        num_neurons: N.
        num_hypotheses: Y.
        device: Where the activations are.
    """

    def __init__(self, num_neurons: int, num_hypotheses: int, device: torch.device | str = "cpu") -> None:
        home = home_of_sums(torch.device(device))
        self._per_neuron = torch.zeros(3, num_neurons, num_hypotheses, dtype=torch.float64, device=home)
        self._per_hypothesis = torch.zeros(3, num_hypotheses, dtype=torch.float64, device=home)
        self._shift: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, a: torch.Tensor | Sequence[torch.Tensor], y: torch.Tensor) -> None:
        """Add characters.

        Args:
            a: Activations, (M, N) float32, or some neurons' each, side by side.
            y: Hypothesis values, NaN where they are not scored, (M, Y) float32.
        """
        parts = [a] if isinstance(a, torch.Tensor) else a
        if not len(y):
            return
        if self._shift is None:
            # r does not change, and float32 products keep their digits where a neuron hardly varies
            self._shift = torch.cat([part.mean(0) for part in parts]), y.nanmean(0).nan_to_num()
        scored = ~y.isnan()
        first, mask = _masks(scored)
        scored, y = scored.to(parts[0].dtype), (y - self._shift[1]).nan_to_num()
        home = self._per_neuron.device
        self._per_hypothesis += torch.stack([scored.sum(0), y.sum(0), y.square().sum(0)]).to(home).double()
        masks = scored[:, first]
        right, begin = torch.cat([y, masks], dim=1), 0
        for part in parts:
            end = begin + part.shape[1]
            centred = part - self._shift[0][begin:end]
            products = (centred.t() @ right).to(home).double()
            squares = (centred.square_().t() @ masks).to(home).double()
            sum_a, sum_aa, sum_ay = self._per_neuron[:, begin:end]
            sum_a += products[:, y.shape[1] :][:, mask]
            sum_aa += squares[:, mask]
            sum_ay += products[:, : y.shape[1]]
            begin = end

    def correlations(self) -> np.ndarray:
        """Return Pearson's r, (N, Y); 0 where one of both does not vary."""
        sum_a, sum_aa, sum_ay = self._per_neuron.cpu()
        count, sum_y, sum_yy = self._per_hypothesis.cpu()
        count = count.clamp(min=1)
        covariance = (sum_ay - sum_a * sum_y / count) / count
        var_a = (sum_aa / count - (sum_a / count).square()).clamp(min=0)
        var_y = (sum_yy / count - (sum_y / count).square()).clamp(min=0)
        varies = (var_a > EPSILON) & (var_y > EPSILON)
        return torch.where(varies, covariance / (var_a * var_y).sqrt(), torch.zeros(())).numpy()


def _masks(scored: torch.Tensor) -> tuple[list[int] | slice, list[int] | slice]:
    """Return the first column of every mask there is, and for each column the number of its mask.

    On an accelerator all count as different: the products cost less there than waiting for the answer.
    """
    if scored.device.type != "cpu":
        return slice(None), slice(None)
    numbers: dict[bytes, int] = {}
    packed = np.packbits(scored.t().numpy(), axis=1)
    mask = [numbers.setdefault(row.tobytes(), len(numbers)) for row in packed]
    return [mask.index(number) for number in range(len(numbers))], mask


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return q: the smallest false-discovery rate at which each p would still be called significant, (N,).

    Source: Benjamini & Hochberg 1995.
    """
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return q
