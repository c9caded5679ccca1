"""How well one neuron's activations go with a hypothesis: statistics and nothing else.

``a`` are activations and ``y`` hypothesis values at the same characters, both (N,), without NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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


def average_precision(score: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the precision-recall curve, ``Σ P(k) ΔR(k)``; chance level is the prevalence.

    Equal scores count as one threshold, as in scikit-learn.
    """
    order = np.argsort(-score, kind="stable")
    score, label = score[order], label[order] > 0
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    hits = np.cumsum(label)[last]
    if hits[-1] == 0:
        return 0.0
    precision = hits / (last + 1)
    return float((precision * np.diff(np.append(0, hits))).sum() / hits[-1])


class Moments:
    """Sums from which the correlation of every neuron with every hypothesis follows.

    Args:
        num_neurons: N.
        num_hypotheses: Y.
    """

    def __init__(self, num_neurons: int, num_hypotheses: int) -> None:
        self._per_neuron = torch.zeros(3, num_neurons, num_hypotheses, dtype=torch.float64)
        self._per_hypothesis = torch.zeros(3, num_hypotheses, dtype=torch.float64)
        self._shift: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, a: torch.Tensor, y: torch.Tensor) -> None:
        """Add characters.

        Args:
            a: Activations, (M, N) float32.
            y: Hypothesis values, NaN where they are not scored, (M, Y) float32.
        """
        if not len(a):
            return
        if self._shift is None:
            # r does not change, and float32 products keep their digits where a neuron hardly varies
            self._shift = a.mean(0), y.nanmean(0).nan_to_num()
        scored = (~y.isnan()).to(a.dtype)
        a, y = a - self._shift[0], (y - self._shift[1]).nan_to_num()
        self._per_neuron += torch.stack([a.t() @ scored, a.square().t() @ scored, a.t() @ y]).cpu().double()
        self._per_hypothesis += torch.stack([scored.sum(0), y.sum(0), y.square().sum(0)]).cpu().double()

    def correlations(self) -> np.ndarray:
        """Return Pearson's r, (N, Y); 0 where one of both does not vary."""
        sum_a, sum_aa, sum_ay = self._per_neuron
        count, sum_y, sum_yy = self._per_hypothesis
        count = count.clamp(min=1)
        covariance = (sum_ay - sum_a * sum_y / count) / count
        var_a = (sum_aa / count - (sum_a / count).square()).clamp(min=0)
        var_y = (sum_yy / count - (sum_y / count).square()).clamp(min=0)
        varies = (var_a > EPSILON) & (var_y > EPSILON)
        return torch.where(varies, covariance / (var_a * var_y).sqrt(), torch.zeros(())).numpy()


NULL_BLOCK_CHARS = 2_000
MIN_NULL_UNITS = 20
MAX_NULL_VALUES = 20_000_000
NULL_SWAPS = 999


def null_units(values: list[np.ndarray], documents: Sequence[int]) -> list[np.ndarray]:
    """Return what is swapped: whole documents if at least 20 report, else blocks of 2,000 characters.

    Blocks of one document resemble one another, so a null from blocks is only approximate.

    Args:
        values: Activations or labels, by piece.
        documents: The document of each piece.
    """
    if len(set(documents)) >= MIN_NULL_UNITS:
        return [
            np.concatenate([v for v, d in zip(values, documents, strict=True) if d == document])
            for document in dict.fromkeys(documents)
        ]
    size = NULL_BLOCK_CHARS
    return [v[start : start + size] for v in values for start in range(0, len(v) - size + 1, size)]


def swap_null(a: list[np.ndarray], y: list[np.ndarray], seed: int = 0) -> float | None:
    """Return the chance of a correlation this large, from swapped labels.

    Activations keep the order in which they came, and so do labels, so both keep their
    autocorrelation; only which belongs to which is shuffled, unit by unit, cut to the shorter one
    ("session perturbation", Harris 2020).

    Args:
        a: Activations of one neuron, by unit.
        y: Values of one hypothesis, by unit; NaN where it is not scored.
        seed: Of the shuffles.

    Returns:
        p: the share of swaps that correlate at least as much, the true pairing counted in. None where
        there are fewer than 20 units: there is no valid null.
    """
    count = len(a)
    if count < MIN_NULL_UNITS:
        return None
    sums = _pair_sums(_padded(a), _padded(y))
    random = np.random.default_rng(seed)
    observed = abs(_paired_correlation(sums, np.arange(count)))
    swapped = [abs(_paired_correlation(sums, random.permutation(count))) for _ in range(NULL_SWAPS)]
    return (1 + sum(r >= observed - EPSILON for r in swapped)) / (1 + NULL_SWAPS)


def _padded(units: list[np.ndarray]) -> np.ndarray:
    """Return units as rows of one matrix, NaN behind their ends, (n, length) float64."""
    length = min(max(len(unit) for unit in units), MAX_NULL_VALUES // len(units))
    rows = np.full((len(units), length), np.nan)
    for row, unit in zip(rows, units, strict=True):
        row[: len(unit)] = unit[:length]
    return rows


def _pair_sums(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return, for activations of unit i with labels of unit j: count, Σa, Σa², Σy, Σy², Σay, (6, n, n)."""
    has_a, has_y = ((~np.isnan(v)).astype(np.float64) for v in (a, y))
    a, y = np.nan_to_num(a), np.nan_to_num(y)
    left, right = (has_a, a, a * a), (has_y, y, y * y)
    pairs = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1))
    return np.stack([left[i] @ right[j].T for i, j in pairs])


def _paired_correlation(sums: np.ndarray, partner: np.ndarray) -> float:
    n, a, aa, y, yy, ay = sums[:, np.arange(len(partner)), partner].sum(1)
    n = max(n, 1.0)
    scale = np.sqrt(max(aa - a * a / n, 0.0) * max(yy - y * y / n, 0.0))
    return float((ay - a * y / n) / scale) if scale > EPSILON * n else 0.0


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return q: the smallest false-discovery rate at which each p would still be called significant, (N,).

    Source: Benjamini & Hochberg 1995.
    """
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return q
