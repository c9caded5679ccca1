"""After how many characters a neuron agrees again with what it would be, had it read something else before.

Source: Chien, Zhang & Honey 2021, "Mapping the Timescale Organization of Neural Language Models": the same
segment is read after its own context and after others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charrnn.inspection.figures import Forgetting
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, raw_values
from charrnn.model.network import Network

SEGMENTS, CONTEXTS = 21, 2
"""Places in the text, and wrong contexts for each of them: 63 rows are read side by side."""
BEFORE, AFTER = 64, 200
"""Characters of context, and of the segment that follows."""


def forgetting(
    network: Network, table: np.ndarray, pieces: Sequence[Piece], neurons: Sequence[Neuron]
) -> list[Forgetting | None]:
    """Measure how neurons forget.

    Args:
        network: In evaluation mode.
        table: Place to id, (U,).
        pieces: Text that is read.
        neurons: The neurons.

    Returns:
        None for a neuron that is the same whatever was read, and for all where the text is too short.
    """
    spots = _spots(pieces)
    if len(spots) <= CONTEXTS:
        return [None] * len(neurons)
    rows = [
        _read_after(pieces, spot, spots[(number + shift) % len(spots)])
        for number, spot in enumerate(spots)
        for shift in range(CONTEXTS + 1)
    ]
    values = np.stack(raw_values(Recorder(network, table, neurons), rows))
    values = values.reshape(len(spots), CONTEXTS + 1, BEFORE + AFTER, len(neurons))[:, :, BEFORE - 1 :]
    difference = np.abs(values[:, 1:] - values[:, :1]).mean((0, 1), dtype=np.float64)  # (201, N)
    return [halved(own) for own in difference.T]


def halved(difference: np.ndarray) -> Forgetting | None:
    """Return when a difference is half of its first value, between characters by a straight line."""
    if difference[0] < 1e-6:
        return None
    share = difference / difference[0]
    below = np.flatnonzero(share <= 0.5)
    if not len(below):
        return Forgetting(None, float(share[-1]))
    at = int(below[0])
    return Forgetting(at - 1 + float((share[at - 1] - 0.5) / (share[at - 1] - share[at])), float(share[-1]))


def _spots(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Return piece and first character of segments, evenly from the whole text, no two of which overlap."""
    size = BEFORE + AFTER
    spots = [
        (number, begin + BEFORE)
        for number, piece in enumerate(pieces)
        for begin in range(0, len(piece) - size + 1, size)
    ]
    return (
        [spots[i] for i in np.unique(np.linspace(0, len(spots) - 1, SEGMENTS).astype(int))] if spots else []
    )


def _read_after(pieces: Sequence[Piece], spot: tuple[int, int], other: tuple[int, int]) -> Piece:
    """Return the segment at a spot after the context of another, or after its own."""
    (number, begin), (source, end) = spot, other
    own, before = slice(begin, begin + AFTER), slice(end - BEFORE, end)
    text = pieces[source].text[before] + pieces[number].text[own]
    places = np.concatenate([pieces[source].places[before], pieces[number].places[own]])
    return Piece(text, places, np.empty((len(text), 0), np.float32), 0, number, 0, False)
