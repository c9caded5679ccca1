"""One neuron and one hypothesis counted into a joint histogram, and all that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 256
MAX_LEVELS = 64
"""Larger values of a count share the last level."""
LEVELS = (0, 1, 2, 3, 5, 9, 17, 33)
"""First values of the levels that mutual information tells apart."""


def quantile_edges(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return edges between bins, strictly ascending, (≤ 512,).

    They are 256 quantiles of the activations where the hypothesis is on and 256 of those where it is off:
    all that a rare one is on would else lie in a single bin.
    """
    parts = (a[y > 0], a[y <= 0])
    levels = np.linspace(0, 1, BINS + 1)[1:]
    return np.unique([np.quantile(part, levels).astype(np.float32) for part in parts if len(part)])


def level_of(y: np.ndarray) -> np.ndarray:
    """Return the level of every value, (N,) int64."""
    return np.clip(np.round(y), 0, MAX_LEVELS - 1).astype(np.int64)


@dataclass(frozen=True)
class Histogram:
    """How often an activation in each bin goes with each value of a hypothesis.

    Args:
        counts: Bins from low to high activations, levels from 0, (B, K).
    """

    counts: np.ndarray

    @classmethod
    def of(cls, a: np.ndarray, y: np.ndarray, edges: np.ndarray) -> Histogram:
        """Count activations and hypothesis values at the same characters, both (N,), without NaN."""
        cell = np.searchsorted(edges, a, side="left") * MAX_LEVELS + level_of(y)
        return cls(np.bincount(cell, minlength=(len(edges) + 1) * MAX_LEVELS).reshape(-1, MAX_LEVELS))

    def binary(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """Return, from the bin that speaks most for the hypothesis on, counts on and off, each (B,)."""
        counts = self.counts[::-1] if sign >= 0 else self.counts
        return counts[:, 1:].sum(1), counts[:, 0]


def average_precision(on: np.ndarray, off: np.ndarray) -> float:
    """Return the area under the precision-recall curve, ``Σ P(k) ΔR(k)``; chance level is the prevalence."""
    hits, taken = np.cumsum(on), np.cumsum(on + off)
    if not len(hits) or hits[-1] == 0:
        return 0.0
    return float((hits / np.maximum(taken, 1) * on).sum() / hits[-1])


def area_under_roc(on: np.ndarray, off: np.ndarray) -> float:
    """Return the share of pairs of an on and an off character that are ordered rightly; ties count half.

    Insensitive to missing labels (NeuronEval, Oikarinen et al. 2025): to be shown, not to rank by.
    """
    total = float(on.sum()) * float(off.sum())
    if total == 0:
        return 0.5
    below = off.sum() - np.cumsum(off)
    return float((on * (below + off / 2)).sum() / total)


def best_f1(on: np.ndarray, off: np.ndarray) -> int:
    """Return how many bins to call on, but not all of them, so that F1 is largest."""
    hits, taken = np.cumsum(on), np.cumsum(on + off)
    return int(np.argmax((2 * hits / np.maximum(taken + hits[-1], 1))[:-1])) + 1


def f1_and_mcc(on: np.ndarray, off: np.ndarray, bins: int) -> tuple[float, float]:
    """Return F1 and Matthews' correlation when so many bins are called on."""
    tp, fp = float(on[:bins].sum()), float(off[:bins].sum())
    fn, tn = float(on[bins:].sum()), float(off[bins:].sum())
    f1 = 2 * tp / max(2 * tp + fp + fn, 1.0)
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return f1, float((tp * tn - fp * fn) / scale) if scale else 0.0


def mutual_information(histogram: Histogram, num_effective: float) -> float:
    """Return the mutual information in bits, corrected for the size of the sample; at least 0.

    Bins are joined to 16 and levels to 8 first, or the correction would be larger than what is to be found.

    Args:
        histogram: The counts.
        num_effective: Characters that count as independent; fewer than there are, as text goes on.

    Source: Miller 1955, with the number of independent samples in place of all.
    """
    at = np.arange(0, len(histogram.counts), max(1, len(histogram.counts) // 16))
    counts = np.add.reduceat(np.add.reduceat(histogram.counts, at, axis=0), LEVELS, axis=1)
    p = counts / max(counts.sum(), 1)
    rows, columns = p.sum(1), p.sum(0)
    used = p > 0
    bits = (p[used] * np.log2(p[used] / np.outer(rows, columns)[used])).sum()
    freedom = ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1)
    return max(0.0, float(bits - freedom / (2 * max(num_effective, 1.0) * np.log(2))))
