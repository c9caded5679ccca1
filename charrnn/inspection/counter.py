"""What a neuron does while something is counted: its mean activation at every value of a hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from charrnn.inspection.choice import scored_labels
from charrnn.inspection.curves import CounterCurve
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, readout_neurons, readout_of
from charrnn.model.network import Network
from charrnn.text.vocabulary import ESCAPE

PERCENTILE = 95
"""Values above this percentile of the hypothesis are left out: few characters have them."""
MAX_VALUES = 400
MAX_CHARS = 24_000
"""Characters that are enough for a curve, about; more text is read evenly from the whole."""
MIN_VALUES = 3
"""With fewer values there is nothing to be straight."""
MIN_FIT = 4
MIN_GAIN = 0.01
"""A bend has to explain this share of the curve's variance, and half of what one line leaves unexplained."""
TYPES = ("count", "level")


@dataclass(frozen=True)
class Counting:
    """A neuron, and what it may count.

    Args:
        column: The hypothesis's column in the labels.
        hypothesis: What is counted.
        neuron: Whose curve.
        twin: A network like its own before training.
        untrained: That one's best neuron for the hypothesis.
    """

    column: int
    hypothesis: Hypothesis
    neuron: Neuron
    twin: Network
    untrained: Neuron


def counter_curves(
    network: Network, table: np.ndarray, pieces: Sequence[Piece], wanted: Sequence[Counting]
) -> tuple[CounterCurve, ...]:
    """Return the curves of neurons over the half of the text that reports.

    Args:
        network: The trained network.
        table: Place to id, (U,) int64.
        pieces: Both halves.
        wanted: The neurons; left out are those whose hypothesis counts nothing, or has fewer than 3 values.
    """
    reporting = _some([piece for piece in pieces if not piece.chooses])
    tops = [_top(reporting, one.column) if one.hypothesis.type in TYPES else 0 for one in wanted]
    kept = [(one, top) for one, top in zip(wanted, tops, strict=True) if top + 1 >= MIN_VALUES]
    if not kept:
        return ()
    newline = _newline_id(table, pieces)
    own = _read(network, table, reporting, [(one.neuron, one.column, top) for one, top in kept], newline)
    before: dict[int, _PerValue] = {}
    for twin in {id(one.twin): one.twin for one, _ in kept}.values():
        its = [i for i, (one, _) in enumerate(kept) if one.twin is twin]
        asked = [(kept[i][0].untrained, kept[i][0].column, kept[i][1]) for i in its]
        before |= zip(its, _read(twin, table, reporting, asked, None), strict=True)
    return tuple(
        _curve(one, sums, before[i], newline is not None)
        for i, ((one, _), sums) in enumerate(zip(kept, own, strict=True))
    )


def _curve(one: Counting, sums: _PerValue, before: _PerValue, newline: bool) -> CounterCurve:
    # at 0 a count stands still, so what it does from 1 on says how it counts
    first = 1 if one.hypothesis.type == "count" else 0
    slope, last, flat = straight_part(sums.mean(0), first)
    return CounterCurve(
        neuron=str(one.neuron),
        hypothesis=one.hypothesis.name,
        chars=sums.count.astype(int),
        mean=sums.mean(0).astype(np.float32),
        sd=sums.sd().astype(np.float32),
        untrained=str(one.untrained),
        untrained_mean=before.mean(0).astype(np.float32),
        p_newline=sums.mean(2).astype(np.float32) if newline else None,
        slope=slope,
        straight=(first, last),
        flat=flat,
    )


def straight_part(mean: np.ndarray, first: int = 0) -> tuple[float, int, bool]:
    """Fit a line that may bend once and be flat from there on, by least squares over the values.

    Args:
        mean: A height per value, NaN where it is unknown, (V,).
        first: Value at which the line begins.

    Returns:
        Slope before the bend, the value at the bend (the last one without a bend), and whether it bends.
    """
    x = np.arange(len(mean), dtype=float)
    known = ~np.isnan(mean) & (x >= first)
    x, y = x[known], mean[known]
    last = int(x[-1]) if len(x) else first
    fits = [(*_line(np.minimum(x, bend), y), int(bend)) for bend in x[MIN_FIT - 1 :]]
    if not fits:
        return _line(x, y)[1] if len(x) > 1 else 0.0, last, False
    error, slope, bend = min(fits)
    alone = fits[-1][0]
    if alone - error < max(alone / 2, MIN_GAIN * ((y - y.mean()) ** 2).sum()):
        return fits[-1][1], last, False
    return slope, bend, True


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the squared error and the slope of the least-squares line."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / max(dx @ dx, 1e-12))
    return float(((dy - slope * dx) ** 2).sum()), slope


class _PerValue:
    """Sums over characters at every value of a count: activation, its square, another quantity."""

    def __init__(self, top: int) -> None:
        self.count = np.zeros(top + 1)
        self.total = np.zeros((3, top + 1))

    def add(self, value: np.ndarray, activation: np.ndarray, other: np.ndarray) -> None:
        """Add characters; values above the top are left out."""
        kept = value < len(self.count)
        value, activation, other = value[kept], activation[kept].astype(np.float64), other[kept]
        self.count += np.bincount(value, minlength=len(self.count))
        for total, part in zip(self.total, (activation, activation**2, other), strict=True):
            total += np.bincount(value, part, minlength=len(total))

    def mean(self, quantity: int) -> np.ndarray:
        """Return the mean at every value, NaN without characters."""
        return np.where(self.count > 0, self.total[quantity] / np.maximum(self.count, 1), np.nan)

    def sd(self) -> np.ndarray:
        """Return the activation's standard deviation at every value."""
        return np.sqrt(np.maximum(self.mean(1) - self.mean(0) ** 2, 0))


def _read(
    network: Network,
    table: np.ndarray,
    pieces: Sequence[Piece],
    asked: Sequence[tuple[Neuron, int, int]],
    newline: int | None,
) -> list[_PerValue]:
    """Sum up by value the activation of each neuron, and the probability of a newline if one is known.

    ``asked`` are neurons, each with the column of what it counts and the largest value of that.
    """
    found = [_PerValue(top) for _, _, top in asked]
    neurons = [neuron for neuron, _, _ in asked]
    recorder = Recorder(network, table, neurons if newline is None else [*neurons, *readout_neurons(network)])
    for window in recorder.read(pieces):
        values = window.values.flatten(0, 1).float()
        labels = scored_labels(window, pieces).swapaxes(0, 1).reshape(len(values), -1)
        own, p = values[:, : len(asked)].cpu().numpy(), np.zeros(len(values))
        if newline is not None:
            with torch.inference_mode():
                logits = readout_of(network, values[:, len(asked) :])
                p = logits.softmax(dim=-1)[:, newline].cpu().double().numpy()
        for i, (sums, (_, column, _)) in enumerate(zip(found, asked, strict=True)):
            known = ~np.isnan(labels[:, column])
            rounded = np.rint(np.maximum(labels[known, column], 0)).astype(int)
            sums.add(rounded, own[known, i], p[known])
    return found


def _some(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Return pieces evenly from the whole, as many as a curve needs."""
    return pieces[:: 1 + sum(map(len, pieces)) // MAX_CHARS]


def _top(pieces: Sequence[Piece], column: int) -> int:
    """Return the largest value that is shown; 0 where fewer than 3 occur, as in one long line."""
    labels = np.concatenate([piece.labels[piece.skip :, column] for piece in pieces])
    labels = labels[~np.isnan(labels)]
    if not len(labels):
        return 0
    # where most characters have the value 0, the percentile is one of the others
    above = labels[labels > 0] if np.percentile(labels, PERCENTILE) < MIN_VALUES else labels
    top = min(MAX_VALUES, int(np.percentile(above, PERCENTILE))) if len(above) else 0
    return top if len(np.unique(np.rint(labels[labels <= top]))) >= MIN_VALUES else 0


def _newline_id(table: np.ndarray, pieces: Sequence[Piece]) -> int | None:
    """Return the id of the newline, or None where the text or the vocabulary has none."""
    for piece in pieces:
        at = piece.text.find("\n")
        if at >= 0:
            symbol = int(table[piece.places[at]])
            return None if symbol == ESCAPE else symbol
    return None
