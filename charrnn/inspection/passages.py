"""Places where a neuron fails and where it works, picked out of a text while it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from charrnn.inspection.findings import Excerpt, line_start
from charrnn.inspection.measures import Setting
from charrnn.inspection.pieces import Piece
from charrnn.inspection.scores import EPSILON

BEFORE, AFTER = 110, 50
"""Characters of an excerpt before and after the one it is about."""
HISTOGRAM_BINS = 20
KEPT = 25_000
"""Activations that are kept with the hypothesis on, and as many with it off, evenly from all."""

Spot = tuple[int, int]
"""Number of a piece and a character in it."""


@dataclass(frozen=True)
class Candidate:
    """A place that may be shown: how much it deserves it, the number of its piece, and what is to be seen."""

    merit: float
    piece: int
    excerpt: Excerpt


class Passages:
    """What is shown of a neuron and a hypothesis: the values around a few places, and a sample of all.

    Args:
        column: The hypothesis's column in the labels.
        binary: Whether it is only ever on or off.
        setting: What the choosing half decided.
        on: Scored characters with the hypothesis above 0, which are still to come.
        off: Those with it at 0.
        anywhere: A random place.
    """

    def __init__(
        self, column: int, binary: bool, setting: Setting, on: int, off: int, anywhere: Spot | None = None
    ) -> None:
        self._column, self._binary, self._setting, self._anywhere = column, binary, setting, anywhere
        both = -(-(on + off) // (2 * KEPT))
        self._steps = [max(1, -(-n // KEPT) if binary else both) for n in (off, on)]
        self._seen = [0, 0]
        self._kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._labels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._sums = np.zeros(2)
        self._bins = np.zeros((2, HISTOGRAM_BINS), dtype=np.int64)
        self._fails_on: list[Candidate] = []
        self._fails_off: list[Candidate] = []
        self._works: list[Candidate] = []
        self._random: list[Candidate] = []

    def add(self, number: int, piece: Piece, values: np.ndarray) -> None:
        """Add a piece with its number and the neuron's activations at all of it, (len(piece),)."""
        a, y = values[piece.skip :], piece.labels[piece.skip :, self._column]
        self._sample(a, y)
        slope, intercept = self._setting.line
        excess = self._setting.sign * (a - slope * y - intercept)
        scored = ~np.isnan(y)
        above, below = np.where(scored, excess, -np.inf), np.where(scored, -excess, -np.inf)
        if self._binary:
            above[y > 0] = -np.inf
            below[y <= 0] = -np.inf
        self._largest(self._fails_on, above, number, piece, values, "fails on")
        self._largest(self._fails_off, below, number, piece, values, "fails off")
        merit, middle = best_window(self._setting.sign * a, y)
        if merit > -np.inf and not any((c.merit, -c.piece) > (merit, -number) for c in self._works):
            excerpt = self._excerpt(piece, values, piece.skip + middle, "works")
            self._works = [Candidate(merit, number, excerpt)]
        if self._anywhere is not None and self._anywhere[0] == number:
            excerpt = self._excerpt(piece, values, self._anywhere[1], "random")
            self._random = [Candidate(0.0, number, excerpt)]

    def _sample(self, a: np.ndarray, y: np.ndarray) -> None:
        bins = np.clip((np.clip(a, -1, 1) + 1) * (HISTOGRAM_BINS / 2), 0, HISTOGRAM_BINS - 1).astype(np.int64)
        for side, where in enumerate((y <= 0, y > 0)):
            self._sums[side] += a[where].sum(dtype=np.float64)
            self._bins[side] += np.bincount(bins[where], minlength=HISTOGRAM_BINS)
            own = np.flatnonzero(where)
            kept = own[-self._seen[side] % self._steps[side] :: self._steps[side]]
            self._seen[side] += len(own)
            self._kept[side].append(a[kept])
            self._labels[side].append(y[kept])

    def _largest(
        self,
        kept: list[Candidate],
        excess: np.ndarray,
        number: int,
        piece: Piece,
        values: np.ndarray,
        why: str,
    ) -> None:
        """Keep the largest of this piece if it is among the two largest of all pieces."""
        if not len(excess):
            return
        at = int(excess.argmax())
        merit = float(excess[at])
        if merit == -np.inf or sum((c.merit, c.piece) > (merit, number) for c in kept) > 1:
            return
        excerpt = self._excerpt(piece, values, piece.skip + at, why)
        kept.append(Candidate(merit, number, excerpt))
        kept.sort(key=lambda c: (-c.merit, -c.piece))
        del kept[2:]

    def _excerpt(self, piece: Piece, values: np.ndarray, spot: int, why: str) -> Excerpt:
        start = line_start(piece.text, max(0, spot - BEFORE), spot)
        window = slice(start, min(len(piece), spot + AFTER))
        return Excerpt(
            source=f"document {piece.document + 1}, character {piece.begin + window.start + 1:,}",
            text=piece.text[window],
            values=values[window].copy(),
            labels=piece.labels[window, self._column],
            why=why,
            middle=spot - window.start,
            binary=self._binary,
        )

    def excerpts(self) -> tuple[Excerpt, ...]:
        """Return the worst failures of both sorts, from two pieces if there are, the best success, any."""
        on = self._fails_on[:1]
        elsewhere = [c for c in self._fails_off if not on or c.piece != on[0].piece]
        off = (elsewhere or self._fails_off)[:1]
        return tuple(candidate.excerpt for candidate in (*on, *off, *self._works, *self._random))

    def means(self) -> tuple[float, float]:
        """Return the mean activation with the hypothesis on, and off."""
        off, on = (float(total / max(1, seen)) for total, seen in zip(self._sums, self._seen, strict=True))
        return on, off

    def histogram(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the shares of activations in 20 bins from -1 to 1, on and off."""
        off, on = (tuple((own / max(1, own.sum())).tolist()) for own in self._bins)
        return on, off

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return activations, labels, and how many characters each stands for, all (K,)."""
        sides = [np.concatenate(own or [np.empty(0, np.float32)]) for own in self._kept]
        labels = [np.concatenate(own or [np.empty(0, np.float32)]) for own in self._labels]
        weights = [np.full(len(own), float(step)) for own, step in zip(sides, self._steps, strict=True)]
        return np.concatenate(sides), np.concatenate(labels), np.concatenate(weights)

    def quantiles(self, shares: tuple[float, ...]) -> tuple[float, ...]:
        """Return the activations below which so many of all characters lie."""
        a, _, weight = self.sample()
        if not len(a):
            return (0.0,) * len(shares)
        order = np.argsort(a, kind="stable")
        # of equal weights this is numpy's linear interpolation between order statistics
        place = np.cumsum(weight[order]) - weight[order]
        found = np.interp(np.array(shares) * place[-1], place, a[order].astype(np.float64))
        return tuple(float(value) for value in found)


def best_window(a: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """Return how well the best of the windows of 160 characters agrees with the labels, and its middle.

    One that is half on and half off shows more than one with a single event. The merit is -inf where no
    window varies or all have labels that are not scored.
    """
    size, count = BEFORE + AFTER, len(range(BEFORE, len(y) - AFTER, BEFORE + AFTER))
    if not count:
        return -np.inf, 0
    a, y = (values[: count * size].reshape(count, size).astype(np.float64) for values in (a, y))
    on = (y > 0).mean(1)
    known, varies = ~np.isnan(y).any(1), np.nan_to_num(y).std(1) > 0
    y = np.nan_to_num(y)
    a, y = (values - values.mean(1, keepdims=True) for values in (a, y))
    scale = np.sqrt((a * a).sum(1) * (y * y).sum(1))
    r = np.divide((a * y).sum(1), scale, out=np.zeros(count), where=scale > EPSILON * size)
    merit = np.where(known & varies, r * (0.5 + 2 * on * (1 - on)), -np.inf)
    best = int(merit.argmax())
    return float(merit[best]), BEFORE + best * size
