"""Which neuron goes with which hypothesis: correlations of all with all, in one pass over a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.devices import to_device
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder
from charrnn.inspection.scores import Moments


@dataclass(frozen=True)
class Choice:
    """What some text says of every neuron and every hypothesis.

    Args:
        neurons: In the order of the rows.
        r: Correlations, (N, Y).
    """

    neurons: list[Neuron]
    r: np.ndarray

    def best(self, hypothesis: int, count: int) -> list[int]:
        """Return the rows of the neurons that correlate most with a hypothesis, the best first."""
        order = np.argsort(-np.abs(self.r[:, hypothesis]), kind="stable")[:count]
        return [int(row) for row in order if self.r[row, hypothesis] != 0]


def choose(recorder: Recorder, pieces: Sequence[Piece]) -> Choice:
    """Correlate every neuron of a recorder with every hypothesis."""
    moments = Moments(len(recorder.neurons), pieces[0].labels.shape[1], recorder.device)
    for window in recorder.read(pieces):
        add(moments, window, scored_labels(window, pieces))
    return Choice(recorder.neurons, moments.correlations())


def choose_and_report(recorder: Recorder, pieces: Sequence[Piece]) -> tuple[Choice, Choice]:
    """Read both halves side by side and return what the choosing one says, and the reporting one."""
    width = pieces[0].labels.shape[1]
    moments = Moments(len(recorder.neurons), 2 * width, recorder.device)
    for window in recorder.read(pieces):
        labels = scored_labels(window, pieces)
        chooses = np.array([pieces[row].chooses for row in window.rows])[:, None]
        halves = [np.where(half, labels, np.nan) for half in (chooses, ~chooses)]
        add(moments, window, np.concatenate(halves, axis=2))
    r = moments.correlations()
    return Choice(recorder.neurons, r[:, :width]), Choice(recorder.neurons, r[:, width:])


def add(moments: Moments, window: Recorded, labels: np.ndarray) -> None:
    """Add a window with its labels, (T, B, Y), to moments."""
    parts = [part.flatten(0, 1).float() for part in window.parts]
    moments.add(parts, to_device(labels.reshape(-1, labels.shape[2]), parts[0].device))


def scored_labels(window: Recorded, pieces: Sequence[Piece]) -> np.ndarray:
    """Return the labels of a window, time first, NaN where a piece warms up or has ended, (T, B, Y)."""
    length, rows = window.parts[0].shape[:2]
    labels = np.full((length, rows, pieces[0].labels.shape[1]), np.nan, dtype=np.float32)
    for i, (row, text) in enumerate(zip(window.rows, window.length.tolist(), strict=True)):
        first = max(0, pieces[row].skip - window.begin)
        if first < text:
            labels[first:text, i] = pieces[row].labels[window.begin + first : window.begin + text]
    return labels
