"""What the architecture gives for nothing: the best neurons of networks like this one before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.inspection.choice import choose_and_report
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons
from charrnn.model.network import Network

TWIN_CHARS = 150_000
"""Characters that a twin reads at least, if there are so many: of a long text each reads its share."""


@dataclass(frozen=True)
class Untrained:
    """The best neuron of any twin for one hypothesis.

    Args:
        r: Its correlation on the reporting half; 0 where no neuron of any twin varies.
        twin: The network it belongs to.
        neuron: Chosen on the other half.
    """

    r: float
    twin: Network
    neuron: Neuron | None


def read_twins(
    twins: Sequence[Network], table: np.ndarray, pieces: Sequence[Piece], kind: str, hypotheses: Sequence[int]
) -> dict[int, Untrained]:
    """Let every twin choose its best neurons and report on them, and return the best of all twins.

    Args:
        twins: Networks like the one that is inspected, none of them trained.
        table: Place to id, (U,).
        pieces: Both halves.
        kind: Of the neurons.
        hypotheses: Columns of the labels.
    """
    found = dict.fromkeys(hypotheses, Untrained(0.0, twins[0], None))
    for number, twin in enumerate(twins):
        recorder = Recorder(twin, table, all_neurons(twin, kind))
        choice, report = choose_and_report(recorder, share(pieces, number, len(twins)))
        for column in hypotheses:
            for row in choice.best(column, 1):
                own = Untrained(float(report.r[row, column]), twin, choice.neurons[row])
                found[column] = max(found[column], own, key=_merit)
    return found


def _merit(found: Untrained) -> tuple[bool, float]:
    return found.neuron is not None, abs(found.r)


def share(pieces: Sequence[Piece], number: int, of: int) -> list[Piece]:
    """Return the pieces that one of several twins reads, of both halves; of a short text all of them."""
    step = min(of, max(1, sum(map(len, pieces)) // TWIN_CHARS))
    halves = [[piece for piece in pieces if piece.chooses == half] for half in (True, False)]
    return [piece for half in halves for piece in half[number % step :: step]]
