"""Figures of a neuron and a hypothesis: settings come from one half of the text, figures from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.inspection import histograms
from charrnn.inspection.figures import Measures
from charrnn.inspection.histograms import MAX_LEVELS, Histogram
from charrnn.inspection.scores import pearson
from charrnn.inspection.sums import (
    MAX_LAG,
    DocumentSums,
    GroupSums,
    Lags,
    Switches,
    correlation,
    lagged,
    products,
    spreads,
)

USUAL = 0.95
"""Quantile of a count up to which its slope is fitted: beyond, a neuron may be saturated."""
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda k: k,
    "log": np.log1p,
    "exp(-k/3)": lambda k: np.exp(-k / 3),
    "exp(-k/10)": lambda k: np.exp(-k / 10),
    "exp(-k/30)": lambda k: np.exp(-k / 30),
}
"""How a neuron may count."""


@dataclass(frozen=True)
class Series:
    """One neuron and one hypothesis over some pieces of text.

    Args:
        a: Activations by piece, each (n,).
        y: Hypothesis values by piece, NaN where they are not scored.
        documents: The document of each piece.
    """

    a: Sequence[np.ndarray]
    y: Sequence[np.ndarray]
    documents: Sequence[int]

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scored activations and values, both (N,)."""
        a, y = np.concatenate(list(self.a)), np.concatenate(list(self.y))
        scored = ~np.isnan(y)
        return a[scored], y[scored].astype(np.float64)


@dataclass(frozen=True)
class Setting:
    """What the choosing half decides about a neuron and a hypothesis.

    Args:
        sign: Of their correlation.
        shift: The neuron's mean, near enough.
        edges: Between the bins of activations.
        bins: How many bins, from the side of the sign, count as on; 0 where that was not asked.
        shape: How it counts, the best of five; None for a yes-or-no hypothesis.
        line: Slope and intercept of the activation over the values of the hypothesis, by least squares.
    """

    sign: float
    shift: float
    edges: np.ndarray
    bins: int
    shape: str | None
    line: tuple[float, float]

    @classmethod
    def of(cls, chosen: Series, kind: str, r_chosen: float) -> Setting:
        """Return what a half of the text decides, given the type of the hypothesis and r."""
        a, y = chosen.joined()
        sign, edges = -1.0 if r_chosen < 0 else 1.0, histograms.quantile_edges(a, y)
        binary = kind == "binary"
        slope = _slope(products(a - a.mean(dtype=np.float64), y - y.mean())) if len(a) else 0.0
        shift = _middle(a)
        return cls(
            sign=sign,
            shift=shift,
            edges=edges,
            bins=histograms.best_f1(*Histogram.of(a, y, edges).binary(sign)) if binary and len(a) else 0,
            shape=None if binary else max(SHAPES, key=lambda name: abs(pearson(a, SHAPES[name](y)))),
            line=(slope, shift - slope * float(y.mean()) if len(y) else 0.0),
        )

    @property
    def threshold(self) -> float | None:
        """The activation between the first ``bins`` bins, seen from the side of the sign, and the rest."""
        if not self.bins:
            return None
        return float(self.edges[-self.bins] if self.sign >= 0 else self.edges[self.bins - 1])


@dataclass(frozen=True)
class Labels:
    """What is known of a hypothesis in the reporting half before anything is read.

    Args:
        mean: Of the scored values.
        usual: Their 95th percentile.
        autocorrelation: At lags from 0 on, (200,).
    """

    mean: float
    usual: float
    autocorrelation: np.ndarray

    @classmethod
    def of(cls, y: Sequence[np.ndarray]) -> Labels:
        """Return the facts about values by piece, NaN where they are not scored."""
        joined = np.concatenate(list(y))
        joined = joined[~np.isnan(joined)].astype(np.float64)
        if not len(joined):
            return cls(0.0, 0.0, np.zeros(MAX_LAG))
        mean, total = float(joined.mean()), np.zeros(MAX_LAG)
        for piece in y:
            own = lagged(np.nan_to_num(piece.astype(np.float64) - mean))
            total[: len(own)] += own
        rho = total / total[0] if total[0] > 1e-12 else np.zeros(MAX_LAG)
        return cls(mean, float(np.quantile(joined, USUAL)), rho)


class Tally:
    """The figures of a neuron and a hypothesis over text that comes in parts, in memory that does not grow.

    Args:
        kind: Type of the hypothesis.
        setting: What the choosing half decides.
        labels: What is known of the labels.
        groups: Number of characters, and of pairs of them, that there are.
    """

    def __init__(self, kind: str, setting: Setting, labels: Labels, groups: tuple[int, int]) -> None:
        self._kind, self._setting, self._labels = kind, setting, labels
        self._documents = DocumentSums()
        self._chars, self._pairs = (GroupSums(number) for number in groups)
        self._lags, self._switches = Lags(setting.shift), Switches(setting.sign)
        self._counts = np.zeros((len(setting.edges) + 1, MAX_LEVELS), dtype=np.int64)
        self._by_level = np.zeros(MAX_LEVELS)
        self._usual, self._shaped = np.zeros((2, 6))
        self._on = 0

    def add(self, part: Series, char: np.ndarray, pair: np.ndarray) -> None:
        """Add some pieces, with the numbers of their characters and pairs of characters, joined."""
        self._lags.add(part.a)
        for own, labels in zip(part.a, part.y, strict=True):
            self._switches.add(own, labels)
        a, y = np.concatenate(list(part.a)), np.concatenate(list(part.y))
        documents, where = np.unique(part.documents, return_inverse=True)
        where = np.repeat(where, [len(piece) for piece in part.a])
        scored = ~np.isnan(y)
        if not scored.all():
            a, y, char, pair, where = (values[scored] for values in (a, y, char, pair, where))
        y = y.astype(np.float64)
        centred, label = a.astype(np.float64) - self._setting.shift, y - self._labels.mean
        self._documents.add(centred, label, where, documents.tolist())
        self._chars.add(centred, label, char)
        self._pairs.add(centred, label, pair)
        self._counts += Histogram.of(a, y, self._setting.edges).counts
        self._on += int((y > 0).sum())
        if self._kind != "binary":
            self._add_count(centred, y)

    def _add_count(self, centred: np.ndarray, y: np.ndarray) -> None:
        self._by_level += np.bincount(histograms.level_of(y), centred, MAX_LEVELS)
        usual = y <= self._labels.usual
        self._usual += products(centred[usual], y[usual])  # whole numbers: all the same have no spread at all
        self._shaped += products(centred, SHAPES[self._setting.shape](y))

    def measures(self) -> Measures:
        """Return the figures."""
        total = self._documents.table().sum(0)
        counted, number = Histogram(self._counts), self.effective_number()
        low, high = self._documents.interval()
        empty = dict.fromkeys(("ap", "f1", "mcc", "auc", "threshold", "eta2", "eta2_on_off"))
        empty |= dict.fromkeys(("shape", "r_shape", "slope_per_char", "latency_on", "latency_off"))
        own = self._detector(counted) if self._kind == "binary" else self._counter(total)
        return Measures(
            r=float(correlation(total)),
            r_low=low,
            r_high=high,
            prevalence=float(self._on / max(total[0], 1)),
            mutual_information=histograms.mutual_information(counted, number),
            num_effective=number,
            r_within_char=self._chars.correlation(total),
            r_within_bigram=self._pairs.correlation(total),
            **(empty | own | self._switches.latencies() | self._switches.correlations()),
        )

    def effective_number(self) -> float:
        """Return how many characters count as independent for a correlation of these two signals.

        Source: Bartlett 1946: N / Σ ρ_a(k) ρ_y(k) over all lags, here up to 200 characters.
        """
        both = self._lags.autocorrelation() * self._labels.autocorrelation
        return float(self._lags.count / max(1.0, 1.0 + 2.0 * float(both[1:].sum())))

    def _detector(self, counted: Histogram) -> dict[str, float | None]:
        on, off = counted.binary(self._setting.sign)
        f1, mcc = histograms.f1_and_mcc(on, off, self._setting.bins)
        return {
            "ap": histograms.average_precision(on, off),
            "f1": f1,
            "mcc": mcc,
            "auc": histograms.area_under_roc(on, off),
            "threshold": self._setting.threshold,
        }

    def _counter(self, total: np.ndarray) -> dict[str, Any]:
        size = self._counts.sum(0)
        sides = [np.array([part[0], part[1:].sum()]) for part in (size, self._by_level)]
        return {
            "eta2": explained(size, self._by_level, total),
            "eta2_on_off": explained(*sides, total),
            "shape": self._setting.shape,
            "r_shape": float(correlation(self._shaped)),
            "slope_per_char": _slope(self._usual),
        }


def explained(size: np.ndarray, sums: np.ndarray, total: np.ndarray) -> float:
    """Return the share of the variance of ``a`` that lies between levels.

    Args:
        size: Characters of every level, (K,).
        sums: Sum of a over them, (K,).
        total: ``products`` of all.
    """
    spread, _, _ = spreads(total)
    if spread <= 1e-12 * total[0]:
        return 0.0
    mean = sums / np.maximum(size, 1)
    return float((size * (mean - total[1] / total[0]) ** 2).sum() / spread)


def _slope(sums: np.ndarray) -> float:
    """Return the slope of the least-squares line from y to a, given ``products``."""
    _, of_y, of_both = spreads(sums)
    return float(of_both / max(float(of_y), 1e-12))


def _middle(a: np.ndarray) -> float:
    """Return about the mean; of what never changes, exactly its value."""
    return float(np.float32(a.mean(dtype=np.float64))) if len(a) else 0.0
