"""Contiguous splits: train, then val, then test."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

from charrnn.errors import TextError
from charrnn.text.corpus import Corpus

MIN_DOCUMENTS = 20
"""With fewer documents, splits are cut at a character, not at a document's begin."""
STRETCH = 1 << 20
"""Symbols whose boundaries are held in memory together."""


@dataclass(frozen=True)
class Splits:
    """Begin and end positions in the corpus of each split; they touch and cover everything.

    ``by`` says whether the cuts are the begins of ``documents`` or fall between ``characters``.
    """

    by: str
    train: tuple[int, int]
    val: tuple[int, int]
    test: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Splits:
        """Rebuild splits from plain values."""
        return cls(data["by"], *(tuple(data[name]) for name in ("train", "val", "test")))


def make_splits(corpus: Corpus, val_fraction: float, test_fraction: float) -> Splits:
    """Cut a corpus into its train, val and test parts.

    The training part holds the first ``floor(n (1 - val - test))`` of n characters, computed exactly,
    so that 0.1 and 0 reproduce nanoGPT's split of tiny shakespeare. With at least 20 documents each
    cut moves to the nearest begin of a document.

    Raises:
        TextError: The training part would be empty.
    """
    before = _boundaries_before(corpus)
    total = len(corpus.places) - int(before[-1])
    val, test = Fraction(str(val_fraction)), Fraction(str(test_fraction))
    cuts = [floor(total * (1 - val - test)), floor(total * (1 - test))]
    positions = [_position(corpus, before, cut) for cut in cuts]
    by = "characters"
    if before[-1] >= MIN_DOCUMENTS:
        moved = [_nearest(corpus, before, position) for position in positions]
        if _keeps_every_split(moved, (val, test), len(corpus.places)):
            positions, by = moved, "documents"
    end = len(corpus.places)
    first, second = min(positions[0], end), min(positions[1], end)
    if val == 0 and test == 0:
        first = second = end
    if first <= 1:
        raise TextError(f"the text has {total:,} characters, too few to train on", "give a longer text")
    return Splits(by, (0, first), (first, second), (second, end))


def count_characters(corpus: Corpus, part: tuple[int, int]) -> int:
    """Return the number of characters between two positions, boundaries not counted."""
    return part[1] - part[0] - corpus.count_boundaries(*part)


def _boundaries_before(corpus: Corpus) -> np.ndarray:
    """Return how many boundaries stand before every stretch of a corpus, and before its end."""
    begins = range(0, len(corpus.places), STRETCH)
    counts = [corpus.count_boundaries(begin, min(begin + STRETCH, len(corpus.places))) for begin in begins]
    return np.cumsum([0, *counts])


def _boundaries_in(corpus: Corpus, stretch: int) -> np.ndarray:
    return corpus.boundaries(stretch * STRETCH, min((stretch + 1) * STRETCH, len(corpus.places)))


def _position(corpus: Corpus, before: np.ndarray, characters: int) -> int:
    """Return the position after ``characters`` characters, before a boundary that stands there."""
    ahead = np.arange(len(before) - 1) * STRETCH - before[:-1]  # characters before each stretch
    stretch = max(0, int(np.searchsorted(ahead, characters)) - 1)
    boundaries, first = _boundaries_in(corpus, stretch), int(before[stretch])
    # the boundary of document d has its position less d characters before it
    numbers = range(len(boundaries))
    inside = bisect_left(numbers, characters, key=lambda d: int(boundaries[d]) - first - d)
    return characters + first + inside


def _nearest(corpus: Corpus, before: np.ndarray, position: int) -> int:
    """Return the begin of a document, or the end, that is nearest; of two the first."""
    some = np.flatnonzero(np.diff(before))  # stretches in which a document begins
    own = min(position // STRETCH, len(before) - 2)
    near = {*some[some < own][-1:].tolist(), own, *some[some > own][:1].tolist()}
    edges = np.concatenate([_boundaries_in(corpus, stretch) for stretch in sorted(near)])
    return min([*edges.tolist(), len(corpus.places)], key=lambda edge: abs(edge - position))


def _keeps_every_split(cuts: list[int], fractions: tuple[Fraction, Fraction], end: int) -> bool:
    """Whether moving the cuts left something of every split that was asked for."""
    val, test = fractions
    return cuts[0] > 0 and (val == 0 or cuts[1] > cuts[0]) and (test == 0 or end > cuts[1])
