"""Hypotheses tried on a text, without any model: what could be tested there, and what is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.hypotheses.custom import RegexLabeller
from charrnn.inspection.pieces import Piece, cut_pieces
from charrnn.text.corpus import Corpus

MIN_EVENTS = 50
"""Characters on and off that a yes-or-no hypothesis needs in each half."""
EXCERPTS = 3
EXCERPT_CHARS = 400


@dataclass(frozen=True)
class Trial:
    """What one hypothesis says of a text.

    Args:
        hypothesis: What was tried.
        prevalence: Share of the scored characters with a value above 0; None if none is scored.
        mean: Mean of the scored values, or None.
        largest: Their maximum, or None.
        events: How often it goes from 0, or not scored, to above 0.
        unscored: Share of the characters that it does not score.
        why_not: Why it cannot be tested on this text; empty if it can.
        matched: For a regular expression, the characters it matches when it sees what follows; else None.
    """

    hypothesis: Hypothesis
    prevalence: float | None
    mean: float | None
    largest: float | None
    events: int
    unscored: float
    why_not: str
    matched: int | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        kept = ("prevalence", "mean", "largest", "events", "unscored", "matched")
        about = ("name", "type", "lookahead", "definition")
        return {key: getattr(self.hypothesis, key) for key in about} | {
            **{key: getattr(self, key) for key in kept},
            "testable": not self.why_not,
            "why_not": self.why_not or None,
        }


@dataclass(frozen=True)
class LabelledText:
    """Some characters with the labels of one hypothesis, NaN where it is not scored, (N,)."""

    text: str
    labels: np.ndarray
    document: int
    begin: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        labels = [None if np.isnan(label) else float(label) for label in self.labels]
        return {"document": self.document, "begin": self.begin, "text": self.text, "labels": labels}


@dataclass(frozen=True)
class Trials:
    """Hypotheses tried on a text.

    Args:
        profile: What kind of text it is.
        chars: Characters that were read.
        total_chars: Characters of the text; more than ``chars`` where it is long.
        documents: Number of documents that were read from.
        trials: One per hypothesis.
        excerpts: Labelled places, if only one hypothesis was tried.
    """

    profile: TextProfile
    chars: int
    total_chars: int
    documents: int
    trials: tuple[Trial, ...]
    excerpts: tuple[LabelledText, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        about = {key: getattr(self.profile, key) for key in ("kind", "wrap_column", "indent_unit")}
        return {
            **about,
            "chars": self.chars,
            "total_chars": self.total_chars,
            "documents": self.documents,
            "hypotheses": [trial.to_json() for trial in self.trials],
            "excerpts": [excerpt.to_json() for excerpt in self.excerpts],
        }


def try_hypotheses(corpus: Corpus, hypotheses: Sequence[Hypothesis], profile: TextProfile) -> Trials:
    """Label a text as it would be for the inspection of neurons, and say what could be tested there.

    A long text is read evenly, as it would be then. The figures are over everything read; whether a
    hypothesis can be tested is asked of the scored part of each half.
    """
    whole = [(0, len(corpus.places))]
    pieces = cut_pieces(corpus, whole, hypotheses, profile, both_halves=False)
    trials = tuple(_trial(hypothesis, i, pieces) for i, hypothesis in enumerate(hypotheses))
    return Trials(
        profile=profile,
        chars=sum(map(len, pieces)),
        total_chars=corpus.info["characters"],
        documents=len({piece.document for piece in pieces}),
        trials=trials,
        excerpts=_excerpts(pieces) if len(hypotheses) == 1 else (),
    )


def _trial(hypothesis: Hypothesis, column: int, pieces: Sequence[Piece]) -> Trial:
    labels = [piece.labels[:, column] for piece in pieces]
    values = np.concatenate([np.empty(0, dtype=np.float32), *labels])
    scored = values[~np.isnan(values)].astype(np.float64)
    regex = hypothesis.label if isinstance(hypothesis.label, RegexLabeller) else None
    return Trial(
        hypothesis=hypothesis,
        prevalence=float((scored > 0).mean()) if len(scored) else None,
        mean=float(scored.mean()) if len(scored) else None,
        largest=float(scored.max()) if len(scored) else None,
        events=sum(int(_switches_on(p.labels[:, column], p.begin == 0).sum()) for p in pieces),
        unscored=1 - len(scored) / max(1, len(values)),
        why_not=why_not_testable(hypothesis, column, pieces),
        matched=None if regex is None else sum(regex.matched(piece.text) for piece in pieces),
    )


def _switches_on(labels: np.ndarray, is_begin: bool) -> np.ndarray:
    """Return where a label goes above 0; unless a document begins here, not at the first character."""
    on = labels > 0
    return on & ~np.concatenate(([not is_begin], on[:-1]))


def why_not_testable(hypothesis: Hypothesis, column: int, pieces: Sequence[Piece]) -> str:
    """Return why neurons cannot be tested for a hypothesis on this text; empty if they can."""
    halves = [[piece for piece in pieces if piece.chooses == half] for half in (True, False)]
    if not all(halves):
        return "text too short"
    reasons = [_lacking(hypothesis.type, [p.labels[p.skip :, column] for p in half]) for half in halves]
    return next(filter(None, reasons), "")


def _lacking(type: str, labels: Sequence[np.ndarray]) -> str:
    values = np.concatenate(labels)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return "nothing scored"
    if (values == values[0]).all():
        return "never on" if values[0] == 0 else "never changes"
    on = int((values > 0).sum())
    if type == "binary" and on < MIN_EVENTS:
        return "too seldom on"
    return "too seldom off" if type == "binary" and len(values) - on < MIN_EVENTS else ""


def _excerpts(pieces: Sequence[Piece]) -> tuple[LabelledText, ...]:
    """Return a few places, spread over the text, at which the hypothesis goes on; else where it begins."""
    places = [
        (piece, place)
        for piece in pieces
        for place in np.flatnonzero(_switches_on(piece.labels[:, 0], piece.begin == 0)).tolist()
    ] or [(piece, 0) for piece in pieces[:1]]
    spread = np.unique(np.linspace(0, len(places) - 1, EXCERPTS).astype(int))
    return tuple(_excerpt(*places[i]) for i in spread)


def _excerpt(piece: Piece, place: int) -> LabelledText:
    """Return some characters around a place, from the begin of a line if one is near."""
    earliest = max(0, place - EXCERPT_CHARS // 4)
    line = piece.text.rfind("\n", earliest, place) + 1
    window = slice(line or earliest, (line or earliest) + EXCERPT_CHARS)
    return LabelledText(
        piece.text[window], piece.labels[window, 0], piece.document, piece.begin + window.start
    )
