"""One neuron looked at closely: where it fails, where it works, and what else it goes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from charrnn.inspection.findings import Card, Excerpt, Row, line_start
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.pieces import Piece
from charrnn.inspection.scores import pearson

BEFORE, AFTER = 110, 50
"""Characters of an excerpt before and after the one it is about."""
OTHERS = 4
HISTOGRAM_BINS = 20
QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)
RANDOM_SEED = 0

Spot = tuple[int, int]
"""Number of a piece and a character in it."""


class Report(Protocol):
    """Activations over the half of the text that reports."""

    pieces: list[Piece]
    column: dict[int, int]
    values: list[np.ndarray]

    def joined(self, row: int, hypothesis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def make_card(
    row: Row,
    place: int,
    hypothesis: int,
    tested: Sequence[int],
    chosen_r: np.ndarray,
    report: Report,
    hypotheses: Sequence[Hypothesis],
) -> Card:
    """Return the card of a neuron.

    Args:
        row: Its figures for the hypothesis it is shown with.
        place: Its row in ``chosen_r``.
        hypothesis: Column of that hypothesis.
        tested: Columns of all hypotheses that were tested.
        chosen_r: Correlations on the choosing half, (N, Y).
        report: Activations on the reporting half.
        hypotheses: In column order.
    """
    a, y, _ = report.joined(place, hypothesis)
    others = sorted((i for i in tested if i != hypothesis), key=lambda i: -abs(chosen_r[place, i]))[:OTHERS]
    sign = np.sign(row.r) if row.r else 1.0
    return Card(
        neuron=row.neuron,
        row=row,
        others=tuple((hypotheses[i].name, pearson(*report.joined(place, i)[:2])) for i in others),
        mean_on=float(a[y > 0].mean()) if (y > 0).any() else 0.0,
        mean_off=float(a[y <= 0].mean()) if (y <= 0).any() else 0.0,
        quantiles=tuple(float(v) for v in np.quantile(a, QUANTILES)),
        excerpts=_excerpts(report, report.column[place], hypothesis, sign, _line(a, y), row.type == "binary"),
        histogram=(_shares(a[y > 0]), _shares(a[y <= 0])),
    )


def _shares(a: np.ndarray) -> tuple[float, ...]:
    """Return the shares of activations in 20 bins from -1 to 1."""
    counts, _ = np.histogram(np.clip(a, -1, 1), HISTOGRAM_BINS, (-1, 1))
    return tuple((counts / max(len(a), 1)).tolist())


def _line(a: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line from hypothesis values to activations."""
    varied = y - y.mean(dtype=np.float64)
    slope = float(varied @ (a - a.mean(dtype=np.float64)) / max(varied @ varied, 1e-12))
    return slope, float(a.mean(dtype=np.float64) - slope * y.mean(dtype=np.float64))


def _excerpts(
    report: Report, column: int, hypothesis: int, sign: float, line: tuple[float, float], binary: bool
) -> tuple[Excerpt, ...]:
    """Return the worst failures of both sorts, then the best success, then a random place."""
    slope, intercept = line
    on_side, off_side = [], []  # how far the activation lies beyond what the label explains
    for piece, values in zip(report.pieces, report.values, strict=True):
        labels = np.where(np.arange(len(piece)) < piece.skip, np.nan, piece.labels[:, hypothesis])
        excess = sign * (values[:, column] - slope * labels - intercept)
        on_side.append(np.where(labels > 0, np.nan, excess) if binary else excess)
        off_side.append(np.where(labels > 0, -excess, np.nan) if binary else -excess)
    on = _largest(on_side)
    off = _largest(off_side, avoid=on)
    works = _best_window(report, column, hypothesis, sign)
    spots = ((on, "fails on"), (off, "fails off"), (works, "works"), (_anywhere(report), "random"))
    return tuple(_excerpt(report, column, hypothesis, *spot, why, binary) for spot, why in spots if spot)


def _largest(excess: list[np.ndarray], avoid: Spot | None = None) -> Spot | None:
    """Return the place of the largest value, from another piece than ``avoid`` if there is one."""
    filled = [np.where(np.isnan(values), -np.inf, values) for values in excess]
    tops = [(float(v.max()), number, int(v.argmax())) for number, v in enumerate(filled) if len(v)]
    tops = [top for top in tops if top[0] > -np.inf]
    others = [top for top in tops if avoid is None or top[1] != avoid[0]]
    return max(others or tops)[1:] if tops else None


def _anywhere(report: Report) -> Spot:
    random = np.random.default_rng(RANDOM_SEED)
    number = int(random.integers(len(report.pieces)))
    piece = report.pieces[number]
    return number, int(random.integers(piece.skip, len(piece)))


def _best_window(report: Report, column: int, hypothesis: int, sign: float) -> Spot | None:
    """Return the place whose surroundings agree best with the hypothesis, among some that vary."""
    best, place = -2.0, None
    for number, (piece, values) in enumerate(zip(report.pieces, report.values, strict=True)):
        labels = piece.labels[:, hypothesis]
        for middle in range(piece.skip + BEFORE, len(piece) - AFTER, BEFORE + AFTER):
            window = slice(middle - BEFORE, middle + AFTER)
            y = labels[window]
            if np.isnan(y).any() or y.std() == 0:
                continue
            # a window that is half on and half off shows more than one with a single event
            balance = 4 * (y > 0).mean() * (y <= 0).mean()
            r = sign * pearson(values[window, column], y) * (0.5 + 0.5 * balance)
            if r > best:
                best, place = r, (number, middle)
    return place


def _excerpt(
    report: Report, column: int, hypothesis: int, number: int, spot: int, why: str, binary: bool
) -> Excerpt:
    piece = report.pieces[number]
    start = line_start(piece.text, max(0, spot - BEFORE), spot)
    window = slice(start, min(len(piece), spot + AFTER))
    return Excerpt(
        source=f"document {piece.document + 1}, character {piece.begin + window.start + 1:,}",
        text=piece.text[window],
        values=report.values[number][window, column],
        labels=piece.labels[window, hypothesis],
        why=why,
        middle=spot - window.start,
        binary=binary,
    )
