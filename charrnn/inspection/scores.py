"""How well one neuron's activations go with a hypothesis: statistics and nothing else.

``a`` are activations and ``y`` hypothesis values at the same characters, both (N,), without NaN.
"""

from __future__ import annotations

from collections.abc import Iterable

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

    def add(self, a: torch.Tensor, y: torch.Tensor) -> None:
        """Add characters.

        Args:
            a: Activations, (M, N) float32.
            y: Hypothesis values, NaN where they are not scored, (M, Y) float32.
        """
        scored = (~y.isnan()).to(a.dtype)
        y = y.nan_to_num()
        self._per_neuron += torch.stack([a.t() @ scored, a.square().t() @ scored, a.t() @ y]).double().cpu()
        self._per_hypothesis += torch.stack([scored.sum(0), y.sum(0), y.square().sum(0)]).double().cpu()

    def correlations(self) -> np.ndarray:
        """Return Pearson's r, (N, Y); 0 where one of both does not vary."""
        sum_a, sum_aa, sum_ay = self._per_neuron
        count, sum_y, sum_yy = self._per_hypothesis
        count = count.clamp(min=1)
        cov = sum_ay - sum_a * sum_y / count
        var_a = (sum_aa - sum_a.square() / count).clamp(min=0)
        var_y = (sum_yy - sum_y.square() / count).clamp(min=0)
        scale = (var_a * var_y).sqrt()
        # float32 products leave about 1e-7 of a neuron's energy where it does not vary at all
        floor = 1e-6 * (sum_aa * sum_yy).sqrt()
        return torch.where(scale > floor.clamp(min=EPSILON), cov / scale, torch.zeros(())).numpy()


NULL_BLOCK_CHARS = 2_000
MIN_NULL_BLOCKS = 20
NULL_SWAPS = 999


def count_blocks(lengths: Iterable[int]) -> int:
    """Return how many blocks the null has to swap in pieces of these lengths."""
    return sum(length // NULL_BLOCK_CHARS for length in lengths)


def swap_null(a: list[np.ndarray], y: list[np.ndarray], seed: int = 0) -> float | None:
    """Return the chance of a correlation this large, from swapped labels.

    Activations keep the order in which they came, and so do labels, so both keep their
    autocorrelation; only which belongs to which is shuffled, block by block ("session perturbation",
    Harris 2020).

    Args:
        a: Activations of one neuron, by piece.
        y: Values of one hypothesis, by piece; NaN where it is not scored.
        seed: Of the shuffles.

    Returns:
        p: the share of swaps that correlate at least as much, the true pairing counted in. None where
        fewer than 20 blocks of 2,000 characters are to be had: there is no valid null.
    """
    blocks = [_stack(a), _stack(y)]
    count = len(blocks[0])
    if count < MIN_NULL_BLOCKS:
        return None
    sums = _pair_sums(*blocks)
    random = np.random.default_rng(seed)
    own = np.arange(count)
    observed = abs(_paired_correlation(sums, own))
    swapped = [abs(_paired_correlation(sums, random.permutation(count))) for _ in range(NULL_SWAPS)]
    return (1 + sum(r >= observed - EPSILON for r in swapped)) / (1 + NULL_SWAPS)


def _stack(values: list[np.ndarray]) -> np.ndarray:
    """Return whole blocks of every piece, (blocks, 2000) float64."""
    cut = [v[: len(v) // NULL_BLOCK_CHARS * NULL_BLOCK_CHARS].reshape(-1, NULL_BLOCK_CHARS) for v in values]
    return np.concatenate(cut).astype(np.float64) if cut else np.empty((0, NULL_BLOCK_CHARS))


def _pair_sums(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return, for activations of block i with labels of block j: count, Σa, Σa², Σy, Σy², Σay, (6, n, n)."""
    scored = (~np.isnan(y)).astype(np.float64)
    y = np.nan_to_num(y)
    ones = np.ones_like(a)
    return np.stack(
        [ones @ scored.T, a @ scored.T, (a * a) @ scored.T, ones @ y.T, ones @ (y * y).T, a @ y.T]
    )


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
