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
    """Correct p for the number of hypotheses, pronounce verdicts, and put the best first.

    Controls are trivially true and would loosen q for all others: they are a family of their own.
    """
    known = {h.name: h for h in hypotheses}
    q: dict[str, float] = {}
    for control in (False, True):
        family = [r for r in rows if r.p is not None and known[r.hypothesis].control == control]
        corrected = benjamini_hochberg(np.array([row.p for row in family])).tolist()
        q |= zip((row.hypothesis for row in family), corrected, strict=True)
    rows = [replace(row, q=q.get(row.hypothesis)) for row in rows]
    return in_order([replace(row, verdict=verdict(row, known[row.hypothesis].lookahead)) for row in rows])


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
    if row.r_position is not None and not _is_left(row.r, row.r_position):
        return "not found"
    if abs(row.r) - abs(row.r_untrained) < GAIN:
        return "untrained too"
    if not _is_left(row.r, row.r_within_char):
        return "char detector"
    return "found" if lookahead else "tracks"


def _is_left(r: float, rest: float) -> bool:
    """Return whether at least half of r is left where something else is held equal."""
    return abs(rest) >= abs(r) / 2 and r * rest >= 0


def with_cause(row: Row) -> Row:
    """Return a row that tracks as used, drives or redundant, if interventions say so."""
    if row.verdict != "tracks" or row.cause is None:
        return row
    if row.cause.alone.beats:
        drives = row.steering is not None and row.steering.beats
        return replace(row, verdict="drives" if drives else "used")
    redundant = row.cause.group is not None and row.cause.group.beats
    return replace(row, verdict="redundant") if redundant else row
