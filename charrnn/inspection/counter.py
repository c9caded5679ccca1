"""What a neuron does while something is counted: its mean activation at every value of a hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from charrnn.devices import to_device
from charrnn.inspection.curves import CounterCurve
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, all_neurons, readout_neurons, readout_of
from charrnn.inspection.scores import Moments
from charrnn.model.network import Network
from charrnn.text.vocabulary import ESCAPE

PERCENTILE = 95
"""Values above this percentile of the hypothesis are left out: few characters have them."""
MAX_VALUES = 400
MAX_CHARS = 60_000
"""Characters that are enough for a curve, about; more text is read evenly from the whole."""
MIN_VALUES = 3
"""With fewer values there is nothing to be straight."""
MIN_FIT = 4
MIN_GAIN = 0.01
"""A bend has to explain this share of the curve's variance, and half of what one line leaves unexplained."""
TYPES = ("count", "level")


def counter_curve(
    network: Network,
    twin: Network,
    table: np.ndarray,
    pieces: Sequence[Piece],
    column: int,
    hypothesis: Hypothesis,
    neuron: Neuron,
    untrained: Neuron | None = None,
) -> CounterCurve | None:
    """Return the curve of a neuron over the half of the text that reports.

    Args:
        network: The trained network.
        twin: The same before training.
        table: Place to id, (U,) int64.
        pieces: Both halves.
        column: The hypothesis's column in the labels.
        hypothesis: What is counted.
        neuron: Whose curve.
        untrained: The twin's best neuron if it is known; else it is chosen here.

    Returns:
        The curve, or None where the hypothesis counts nothing or the text has fewer than 3 values of it.
    """
    reporting = _some([piece for piece in pieces if not piece.chooses])
    top = _top(reporting, column) if hypothesis.type in TYPES else 0
    if top + 1 < MIN_VALUES:
        return None
    if untrained is None:
        choosing = _some([piece for piece in pieces if piece.chooses])
        untrained = best_neuron(twin, table, choosing, column, neuron.kind)
    newline = _newline_id(table, pieces)
    sums = _read(network, table, reporting, column, neuron, top, newline)
    before = _read(twin, table, reporting, column, untrained, top, None)
    # at 0 a count stands still, so what it does from 1 on says how it counts
    first = 1 if hypothesis.type == "count" else 0
    slope, last, flat = straight_part(sums.mean(0), first)
    return CounterCurve(
        neuron=str(neuron),
        hypothesis=hypothesis.name,
        chars=sums.count.astype(int),
        mean=sums.mean(0).astype(np.float32),
        sd=sums.sd().astype(np.float32),
        untrained=str(untrained),
        untrained_mean=before.mean(0).astype(np.float32),
        p_newline=None if newline is None else sums.mean(2).astype(np.float32),
        slope=slope,
        straight=(first, last),
        flat=flat,
    )


def best_neuron(
    network: Network, table: np.ndarray, pieces: Sequence[Piece], column: int, kind: str
) -> Neuron:
    """Return the neuron of a kind that correlates most with one column of the labels."""
    neurons = all_neurons(network, kind)
    device = network.readout.weight.device
    moments = Moments(len(neurons), 1, device)
    for window in Recorder(network, table, neurons).read(pieces):
        values, labels = _scored(window, pieces, column)
        moments.add(values, to_device(labels[:, None], device))
    return neurons[int(np.abs(moments.correlations()[:, 0]).argmax())]


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
    column: int,
    neuron: Neuron,
    top: int,
    newline: int | None,
) -> _PerValue:
    """Sum up a neuron's activation, and the probability of a newline if one is known, by value."""
    sums = _PerValue(top)
    outputs = readout_neurons(network)
    recorder = Recorder(network, table, [neuron] if newline is None else [neuron, *outputs])
    for window in recorder.read(pieces):
        values, labels = _scored(window, pieces, column)
        known = ~np.isnan(labels)
        values = values[torch.from_numpy(known).to(values.device)]
        p = torch.zeros(len(values))
        if newline is not None:
            with torch.inference_mode():
                p = torch.softmax(readout_of(network, values[:, 1:]), dim=-1)[:, newline]
        rounded = np.rint(np.maximum(labels[known], 0)).astype(int)
        sums.add(rounded, values[:, 0].cpu().numpy(), p.cpu().double().numpy())
    return sums


def _scored(window: Recorded, pieces: Sequence[Piece], column: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return activations and labels of a window's text, the labels NaN where a piece is warming up."""
    labels = []
    for row, length in zip(window.rows, window.length, strict=True):
        at = np.arange(window.begin, window.begin + length)
        labels.append(np.where(at < pieces[row].skip, np.nan, pieces[row].labels[at, column]))
    return window.text().float(), np.concatenate(labels).astype(np.float32)


def _some(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Return pieces evenly from the whole, as many as a curve needs."""
    return pieces[:: 1 + sum(map(len, pieces)) // MAX_CHARS]


def _top(pieces: Sequence[Piece], column: int) -> int:
    """Return the largest value that is shown."""
    labels = np.concatenate([piece.labels[piece.skip :, column] for piece in pieces])
    labels = labels[~np.isnan(labels)]
    if not len(labels):
        return 0
    # where most characters have the value 0, the percentile is one of the others
    above = labels[labels > 0] if np.percentile(labels, PERCENTILE) < MIN_VALUES else labels
    return min(MAX_VALUES, int(np.percentile(above, PERCENTILE))) if len(above) else 0


def _newline_id(table: np.ndarray, pieces: Sequence[Piece]) -> int | None:
    """Return the id of the newline, or None where the text or the vocabulary has none."""
    for piece in pieces:
        at = piece.text.find("\n")
        if at >= 0:
            symbol = int(table[piece.places[at]])
            return None if symbol == ESCAPE else symbol
    return None
