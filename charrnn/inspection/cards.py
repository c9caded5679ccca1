"""One neuron looked at closely: where it fails, where it works, and what else it goes with."""

from __future__ import annotations

from collections.abc import Sequence

from charrnn.inspection.findings import Card, Row
from charrnn.inspection.passages import Passages

OTHERS = 4
QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)


def make_card(row: Row, passages: Passages, others: Sequence[tuple[str, float]]) -> Card:
    """Return the card of a neuron.

    Args:
        row: Its figures for the hypothesis it is shown with.
        passages: What was kept of it for that hypothesis.
        others: Further hypotheses with this neuron's r, the best first.
    """
    on, off = passages.means()
    return Card(
        neuron=row.neuron,
        row=row,
        others=tuple(others[:OTHERS]),
        mean_on=on,
        mean_off=off,
        quantiles=passages.quantiles(QUANTILES),
        excerpts=passages.excerpts(),
        histogram=passages.histogram(),
    )
