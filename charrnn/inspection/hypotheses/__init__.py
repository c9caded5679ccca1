"""Hypotheses: properties of a text at each of its characters, computed without the model."""

from __future__ import annotations

from charrnn.errors import InspectionError, suggest
from charrnn.inspection.hypotheses import code, common, markup, prose, syntax
from charrnn.inspection.hypotheses.base import KINDS, PROFILE_CHARS, Hypothesis, TextProfile, profile_text

__all__ = ["KINDS", "PROFILE_CHARS", "Hypothesis", "TextProfile", "for_kind", "get", "names", "profile_text"]

# The controls come last: a table then ends with what was to be expected.
_ALL = [hypothesis for group in (common, prose, markup, code, syntax) for hypothesis in group.HYPOTHESES]
_TABLE = {hypothesis.name: hypothesis for hypothesis in (*_ALL, *common.CONTROLS)}


def names() -> list[str]:
    """Return the names of all hypotheses, in the order of the tables."""
    return list(_TABLE)


def get(name: str) -> Hypothesis:
    """Return one hypothesis.

    Raises:
        InspectionError: No hypothesis has this name.
    """
    if name not in _TABLE:
        raise InspectionError(f"unknown hypothesis `{name}`", suggest(name, _TABLE))
    return _TABLE[name]


def for_kind(kind: str) -> list[Hypothesis]:
    """Return the hypotheses worth asking of a text of this kind (``prose``, ``python`` or ``c``).

    Raises:
        ValueError: There is no such kind of text.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
    return [hypothesis for hypothesis in _TABLE.values() if kind in hypothesis.kinds]
