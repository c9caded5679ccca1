"""Sums over text that comes in parts, and the figures that follow from them; they do not grow with the text.

``a`` are activations and ``y`` hypothesis values at the same characters, both (N,) float64, without NaN and
less a constant near their means, so that the sums of their squares keep their digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charrnn.inspection.scores import EPSILON

LAGS = 16
"""Characters after an event in which a neuron may answer."""
MAX_LAG = 200
"""Characters over which neighbours are taken to depend on one another."""
MIN_DOCUMENTS = 5
DRAWS = 200
LEFT = 1e-13
"""A smaller share of a variance is a rounding error."""


def products(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the count, and the sums of a, a², y, y² and a y, (6,)."""
    return np.array([len(a), a.sum(), a @ a, y.sum(), y @ y, a @ y])


def spreads(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums of squares of a and of y about their means, and that of their product."""
    n, a, aa, y, yy, ay = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1)
    return np.maximum(aa - a * a / n, 0), np.maximum(yy - y * y / n, 0), ay - a * y / n


def correlation(sums: np.ndarray) -> np.ndarray:
    """Return r from ``products``, (…, 6); 0 where one of both does not vary."""
    of_a, of_y, of_both = spreads(sums)
    scale = np.sqrt(of_a * of_y)
    return np.divide(
        of_both, scale, out=np.zeros_like(scale), where=scale > EPSILON * np.maximum(sums[..., 0], 1)
    )


class DocumentSums:
    """``products`` by document."""

    def __init__(self) -> None:
        self._sums: dict[int, np.ndarray] = {}

    def add(self, a: np.ndarray, y: np.ndarray, where: np.ndarray, documents: Sequence[int]) -> None:
        """Add characters; ``where`` numbers the document of each in ``documents``."""
        size = len(documents)
        parts = [np.bincount(where, minlength=size)]
        parts += [np.bincount(where, weights, size) for weights in (a, a * a, y, y * y, a * y)]
        for document, own in zip(documents, np.stack(parts, axis=1), strict=True):
            self._sums[document] = self._sums.get(document, 0.0) + own

    def table(self) -> np.ndarray:
        """Return the sums of every document, in their order, (D, 6)."""
        return np.array([self._sums[document] for document in sorted(self._sums)]).reshape(-1, 6)

    def interval(self, draws: int = DRAWS, seed: int = 0) -> tuple[float | None, float | None]:
        """Return the 95 % interval of r from a bootstrap over documents, or Nones with fewer than five."""
        table = self.table()
        if len(table) < MIN_DOCUMENTS:
            return None, None
        drawn = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
        low, high = np.quantile(correlation(table[drawn].sum(1)), (0.025, 0.975))
        return float(low), float(high)


class GroupSums:
    """Count, sum of a and sum of y at the characters of every group."""

    def __init__(self, groups: int) -> None:
        self._sums = np.zeros((3, groups))

    def add(self, a: np.ndarray, y: np.ndarray, group: np.ndarray) -> None:
        """Add characters with their groups."""
        for total, weights in zip(self._sums, (None, a, y), strict=True):
            total += np.bincount(group, weights, len(total))

    def correlation(self, sums: np.ndarray) -> float:
        """Return r after subtracting from both their means over each group, given ``products`` of all."""
        count, a, y = self._sums
        _, _, aa, _, yy, ay = sums
        share = 1 / np.maximum(count, 1)
        of_a, of_y = aa - (a * a * share).sum(), yy - (y * y * share).sum()
        if of_a <= LEFT * aa or of_y <= LEFT * yy:
            return 0.0
        scale = np.sqrt(of_a * of_y)
        return float((ay - (a * y * share).sum()) / scale) if scale > EPSILON * sums[0] else 0.0


class Lags:
    """A signal's products with itself some characters later."""

    def __init__(self, shift: float) -> None:
        self._shift = shift
        self._products, self._sums, self._pairs = np.zeros((3, MAX_LAG))
        self._total = 0.0
        self.count = 0
        """Characters."""

    def add(self, pieces: Sequence[np.ndarray]) -> None:
        """Add pieces, none of which goes on into another."""
        for piece in pieces:
            values = piece.astype(np.float64) - self._shift
            own = lagged(values)
            lag, until = np.arange(len(own)), np.concatenate(([0.0], np.cumsum(values)))
            self._products[: len(own)] += own
            self._sums[: len(own)] += until[len(values) - lag] + until[-1] - until[lag]
            self._pairs[: len(own)] += len(values) - lag
            self._total += until[-1]
            self.count += len(values)

    def autocorrelation(self) -> np.ndarray:
        """Return the autocorrelation about the mean of all, at lags from 0 on, (200,)."""
        mean = self._total / max(self.count, 1)
        lags = self._products - mean * self._sums + mean * mean * self._pairs
        return lags / lags[0] if lags[0] > EPSILON else np.zeros(MAX_LAG)


def lagged(values: np.ndarray) -> np.ndarray:
    """Return Σ v(t) v(t + k) for k from 0 on, (≤ 200,)."""
    lags = min(MAX_LAG, len(values))
    size = 1 << int(np.ceil(np.log2(max(len(values) + lags, 2))))
    spectrum = np.fft.rfft(values, size)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[:lags]


class Switches:
    """How a neuron changes in the characters after a hypothesis goes on, and after it goes off."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        # by lag: ``products`` of the size of a change and of whether there was a switch; and the change
        self._on, self._off = np.zeros((2, LAGS, 7))

    def add(self, a: np.ndarray, y: np.ndarray) -> None:
        """Add a piece; y may be NaN, and between such a character and the next nothing is known to switch."""
        if len(a) < 2:
            return
        scored, state = ~np.isnan(y), y > 0
        known = scored[1:] & scored[:-1]
        change = self._sign * np.diff(a.astype(np.float64))
        count, size = np.ones(len(change)), np.abs(change)
        every = [_after(known, values) for values in (count, size, size * size)]
        for sums, switch in ((self._on, state[1:] & ~state[:-1]), (self._off, state[:-1] & ~state[1:])):
            events, sizes, changes = (_after(known & switch, values) for values in (count, size, change))
            sums += np.stack([*every, events, events, sizes, changes], axis=1)

    def latencies(self) -> dict[str, int | None]:
        """Return after how many characters the neuron answers most to either."""
        return {"latency_on": _lag(self._on, 1), "latency_off": _lag(self._off, -1)}

    def correlations(self) -> dict[str, float | None]:
        """Return r between the size of a change and whether there was a switch, so many characters before."""
        lags = self.latencies().values()
        found = [
            None if lag is None else float(correlation(sums[lag, :6]))
            for lag, sums in zip(lags, (self._on, self._off), strict=True)
        ]
        return dict(zip(("r_switch_on", "r_switch_off"), found, strict=True))


def _after(events: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sum of the values from 0 to 15 characters after each event, (16,)."""
    return np.correlate(np.pad(values, (0, LAGS - 1)), events.astype(np.float64), "valid")


def _lag(sums: np.ndarray, direction: int) -> int | None:
    """Return the lag of the largest mean change in a direction."""
    mean = direction * sums[:, 6] / np.maximum(sums[:, 3], 1)
    return int(mean.argmax()) if mean.max() > 0 else None
