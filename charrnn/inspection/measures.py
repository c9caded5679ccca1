"""Figures of a neuron and a hypothesis: settings come from one half of the text, figures from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.inspection import histograms
from charrnn.inspection.figures import Measures
from charrnn.inspection.histograms import Histogram
from charrnn.inspection.scores import pearson, within_groups

DRAWS = 200
MIN_DOCUMENTS = 5
LAGS = 16
"""Characters after an event in which a neuron may answer."""
MAX_LAG = 200
"""Characters over which neighbours are taken to depend on one another."""
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
    """One neuron and one hypothesis over one half of the text.

    Args:
        a: Activations by piece, each (n,).
        y: Hypothesis values by piece, NaN where they are not scored.
        chars: Places of the characters by piece.
        documents: The document of each piece.
    """

    a: Sequence[np.ndarray]
    y: Sequence[np.ndarray]
    chars: Sequence[np.ndarray]
    documents: Sequence[int]

    def joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return scored activations, values, characters and pairs of characters, each (N,)."""
        pairs = [c + np.int64(1 << 32) * np.concatenate(([0], c[:-1])) for c in self.chars]
        a, y, char, pair = (np.concatenate(list(part)) for part in (self.a, self.y, self.chars, pairs))
        scored = ~np.isnan(y)
        return a[scored], y[scored].astype(np.float64), char[scored], pair[scored]


def measure(chosen: Series, report: Series, kind: str, r_chosen: float) -> Measures:
    """Measure a neuron.

    Args:
        chosen: The half that chose it; sign, threshold, bins and shape come from here.
        report: The half that gives the figures.
        kind: Type of the hypothesis.
        r_chosen: Correlation on the half that chose it.
    """
    sign = -1.0 if r_chosen < 0 else 1.0
    a_chosen, y_chosen, _, _ = chosen.joined()
    a, y, char, pair = report.joined()
    edges = histograms.quantile_edges(a_chosen, y_chosen)
    counted = Histogram.of(a, y, edges)
    num_effective = effective_number(report)
    low, high = interval(report)
    as_binary = (
        _binary(Histogram.of(a_chosen, y_chosen, edges), counted, edges, sign) if kind == "binary" else {}
    )
    as_count = _count(a_chosen, y_chosen, a, y) if kind != "binary" else {}
    empty = dict.fromkeys(("ap", "f1", "mcc", "auc", "threshold", "eta2", "eta2_on_off"))
    empty |= dict.fromkeys(("shape", "r_shape", "slope_per_char", "latency_on", "latency_off"))
    return Measures(
        r=pearson(a, y),
        r_low=low,
        r_high=high,
        prevalence=float((y > 0).mean()),
        mutual_information=histograms.mutual_information(counted, num_effective),
        num_effective=num_effective,
        r_within_char=within_groups(a, y, char),
        r_within_bigram=within_groups(a, y, pair),
        **(empty | as_binary | as_count | latencies(report, sign)),
    )


def _binary(chosen: Histogram, report: Histogram, edges: np.ndarray, sign: float) -> dict[str, float]:
    bins = histograms.best_f1(*chosen.binary(sign))
    on, off = report.binary(sign)
    f1, mcc = histograms.f1_and_mcc(on, off, bins)
    return {
        "ap": histograms.average_precision(on, off),
        "f1": f1,
        "mcc": mcc,
        "auc": histograms.area_under_roc(on, off),
        "threshold": float(_edge(edges, bins, sign)),
    }


def _edge(edges: np.ndarray, bins: int, sign: float) -> float:
    """Return the activation between the first ``bins`` bins, seen from the side of the sign, and the rest."""
    return edges[-bins] if sign >= 0 else edges[bins - 1]


def _count(a_chosen: np.ndarray, y_chosen: np.ndarray, a: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    shape = max(SHAPES, key=lambda name: abs(pearson(a_chosen, SHAPES[name](y_chosen))))
    level = np.clip(np.round(y), 0, histograms.MAX_LEVELS - 1).astype(np.int64)
    usual = y <= np.quantile(y, 0.95)
    return {
        "eta2": explained(a, level),
        "eta2_on_off": explained(a, (level > 0).astype(np.int64)),
        "shape": shape,
        "r_shape": pearson(a, SHAPES[shape](y)),
        "slope_per_char": slope(a[usual], y[usual]),
    }


def explained(a: np.ndarray, level: np.ndarray) -> float:
    """Return the share of the variance of ``a`` that lies between levels, both (N,)."""
    size = np.bincount(level)
    mean = np.bincount(level, a) / np.maximum(size, 1)
    total = float(np.var(a, dtype=np.float64))
    if total < 1e-12:
        return 0.0
    return float((size * (mean - a.mean(dtype=np.float64)) ** 2).sum() / len(a) / total)


def slope(a: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the least-squares line from ``y`` to ``a``."""
    varied = y - y.mean(dtype=np.float64)
    return float(varied @ (a - a.mean(dtype=np.float64)) / max(varied @ varied, 1e-12))


def interval(report: Series, draws: int = DRAWS, seed: int = 0) -> tuple[float | None, float | None]:
    """Return the 95 % interval of r from a bootstrap over documents, or Nones with fewer than five."""
    sums: dict[int, np.ndarray] = {}
    for a, y, document in zip(report.a, report.y, report.documents, strict=True):
        scored = ~np.isnan(y)
        u, v = a[scored].astype(np.float64), y[scored].astype(np.float64)
        own = np.array([len(u), u.sum(), u @ u, v.sum(), v @ v, u @ v])
        sums[document] = sums.get(document, 0) + own
    if len(sums) < MIN_DOCUMENTS:
        return None, None
    table = np.stack(list(sums.values()))
    drawn = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    n, a, aa, y, yy, ay = table[drawn].sum(1).T
    n = np.maximum(n, 1)
    scale = np.sqrt(np.maximum((aa - a * a / n) * (yy - y * y / n), 0))
    r = np.divide(ay - a * y / n, scale, out=np.zeros_like(scale), where=scale > 1e-9)
    low, high = np.quantile(r, (0.025, 0.975))
    return float(low), float(high)


def effective_number(report: Series) -> float:
    """Return how many characters count as independent for a correlation of these two signals.

    Source: Bartlett 1946: N / Σ ρ_a(k) ρ_y(k) over all lags, here up to 200 characters.
    """
    total = sum(len(a) for a in report.a)
    a, y = (_autocorrelation(part) for part in (report.a, report.y))
    return float(total / max(1.0, 1.0 + 2.0 * float((a * y)[1:].sum())))


def _autocorrelation(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return the autocorrelation of a signal in pieces at lags from 0 on, (≤ 200,)."""
    mean = np.nanmean(np.concatenate(list(pieces)))
    total = np.zeros(MAX_LAG)
    for piece in pieces:
        values = np.nan_to_num(piece - mean)
        size = 1 << int(np.ceil(np.log2(max(2 * len(values), 2))))
        power = np.abs(np.fft.rfft(values, size)) ** 2
        lags = np.fft.irfft(power, size)[:MAX_LAG]
        total[: len(lags)] += lags[: min(MAX_LAG, len(lags))]
    return total / total[0] if total[0] > 1e-12 else np.zeros(MAX_LAG)


def latencies(report: Series, sign: float) -> dict[str, int | None]:
    """Return after how many characters the neuron answers most to a switch-on and to a switch-off."""
    on, off = np.zeros((2, LAGS)), np.zeros((2, LAGS))
    for a, y in zip(report.a, report.y, strict=True):
        change = sign * np.diff(a.astype(np.float64), prepend=a[:1])
        state = np.nan_to_num(y) > 0
        switch = np.diff(state.astype(np.int8), prepend=state[:1].astype(np.int8))
        _gather(on, change, np.flatnonzero(switch > 0))
        _gather(off, -change, np.flatnonzero(switch < 0))
    return {"latency_on": _lag(on), "latency_off": _lag(off)}


def _gather(sums: np.ndarray, change: np.ndarray, events: np.ndarray) -> None:
    for lag in range(LAGS):
        at = events[events + lag < len(change)] + lag
        sums[:, lag] += change[at].sum(), len(at)


def _lag(sums: np.ndarray) -> int | None:
    total, count = sums
    if not count.any():
        return None
    mean = total / np.maximum(count, 1)
    return int(mean.argmax()) if mean.max() > 0 else None
