"""What the figures allow to be said of a neuron and a hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from charrnn.inspection.findings import VERDICTS, Row
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.scores import benjamini_hochberg

Q = 0.05
GAIN = 0.10


def judged(rows: Sequence[Row], hypotheses: Sequence[Hypothesis]) -> list[Row]:
    """Correct p for the number of hypotheses, pronounce verdicts, and put the best first."""
    lookahead = {h.name: h.lookahead for h in hypotheses}
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    q = dict.fromkeys(range(len(rows)))
    if tested:
        p = np.array([rows[i].p for i in tested])
        q |= {i: float(value) for i, value in zip(tested, benjamini_hochberg(p), strict=True)}
    rows = [replace(row, q=q[i]) for i, row in enumerate(rows)]
    return in_order([replace(row, verdict=verdict(row, lookahead[row.hypothesis])) for row in rows])


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return rows from the strongest verdict to the weakest, in each the largest |r| first."""
    return sorted(rows, key=lambda row: (VERDICTS.index(row.verdict), -abs(row.r or 0.0)))


def verdict(row: Row, lookahead: bool) -> str:
    """Return what the figures allow to be said, the most damaging finding first."""
    if row.r is None:
        return "not found"
    if row.q is None:
        return "no valid null"
    if row.q > Q or np.sign(row.r) != np.sign(row.r_chosen):
        return "not found"
    if abs(row.r) - abs(row.r_untrained) < GAIN:
        return "untrained too"
    if abs(row.r_within_char) < abs(row.r) / 2 or row.r * row.r_within_char < 0:
        return "char detector"
    return "found" if lookahead else "tracks"


def with_cause(row: Row) -> Row:
    """Return a row that tracks as used, drives or redundant, if interventions say so."""
    if row.verdict != "tracks" or row.cause is None:
        return row
    if row.cause.alone.beats:
        drives = row.steering is not None and row.steering.beats
        return replace(row, verdict="drives" if drives else "used")
    redundant = row.cause.group is not None and row.cause.group.beats
    return replace(row, verdict="redundant") if redundant else row
