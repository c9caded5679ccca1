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
    boundaries = corpus.boundaries(0, len(corpus.places))
    total = len(corpus.places) - len(boundaries)
    val, test = Fraction(str(val_fraction)), Fraction(str(test_fraction))
    cuts = [floor(total * (1 - val - test)), floor(total * (1 - test))]
    positions = [_position(boundaries, cut) for cut in cuts]
    by = "characters"
    if len(boundaries) >= MIN_DOCUMENTS:
        moved = [_nearest(boundaries, position, len(corpus.places)) for position in positions]
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


def _position(boundaries: np.ndarray, characters: int) -> int:
    """Return the position after ``characters`` characters, before a boundary that stands there."""
    # the boundary of document d has boundaries[d] - d characters before it
    numbers = range(len(boundaries))
    return characters + bisect_left(numbers, characters, key=lambda d: int(boundaries[d]) - d)


def _nearest(boundaries: np.ndarray, position: int, end: int) -> int:
    """Return the begin of a document, or the end, that is nearest; of two the first."""
    after = int(np.searchsorted(boundaries, position))
    edges = [*boundaries[max(0, after - 1) : after + 1].tolist(), end]
    return min(edges, key=lambda edge: abs(edge - position))


def _keeps_every_split(cuts: list[int], fractions: tuple[Fraction, Fraction], end: int) -> bool:
    """Whether moving the cuts left something of every split that was asked for."""
    val, test = fractions
    return cuts[0] > 0 and (val == 0 or cuts[1] > cuts[0]) and (test == 0 or end > cuts[1])
