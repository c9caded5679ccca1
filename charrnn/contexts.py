"""How far back a model looks: its cost by the length of context, and by the place in a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from charrnn.errors import TextError
from charrnn.model.network import Network
from charrnn.model.scoring import TextView, score
from charrnn.text.corpus import Corpus
from charrnn.text.vocabulary import BOUNDARY, Vocabulary

LN2 = log(2)
LONGEST = 512
MOST = 4 << 20
"""Symbols of the text that are looked at; of a longer text, the first."""
TARGETS = 2_500
MIN_SHARE = 0.1
ROWS = 250


@dataclass(frozen=True)
class Reach:
    """What characters cost when only some of those before them are known.

    Args:
        context: Characters known; None for all since the beginning of the text or document.
        bpc: Bits per character.
        gain: Bits per character less than with the context before; None for the first.
        stderr_gain: Standard error of that, over the same characters.
    """

    context: int | None
    bpc: float
    gain: float | None
    stderr_gain: float | None


@dataclass(frozen=True)
class Position:
    """What the characters from the ``first`` to the ``last`` of their documents cost."""

    first: int
    last: int
    chars: int
    bpc: float


@dataclass(frozen=True)
class Contexts:
    """Cost by context.

    Args:
        targets: Characters that the rows of ``reach`` all score.
        reach: The shortest context first.
        documents: Documents that begin in the text.
        positions: By place in them; empty if none begins there but at its beginning.
    """

    targets: int
    reach: tuple[Reach, ...]
    documents: int
    positions: tuple[Position, ...]

    @property
    def reaches(self) -> int | None:
        """The shortest measured context with 95 % of what all of it gains over one character."""
        first, last = self.reach[0].bpc, self.reach[-1].bpc
        enough = [row.context for row in self.reach if first - row.bpc >= 0.95 * (first - last)]
        return enough[0] if first > last else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "reaches": self.reaches}


def measure_contexts(
    network: Network,
    vocabulary: Vocabulary,
    corpus: Corpus,
    part: tuple[int, int],
    progress: Callable[[float], None] = lambda _: None,
) -> Contexts:
    """Score the same characters given the last 1, 2, 4, … 512, and given all.

    Up to 2,500 characters at even distances are scored, each of which has as many characters of its document
    before it as the longest context has. A shorter context is read from a state of zeros. The longest is the
    largest power of two that a tenth of the text has room for. Of a text of more than 4 Mi symbols the
    first are looked at.

    Args:
        network: In evaluation mode, on the device it shall run on.
        vocabulary: Symbols to ids.
        corpus: Holds the text.
        part: Begin and end position.
        progress: Called with the share done.

    Raises:
        TextError: There is too little text.
    """
    part = (part[0], min(part[1], part[0] + MOST))
    view = TextView(corpus.places, corpus.id_table(vocabulary), *part)
    places = view.read(0, len(view))
    extra = corpus.extra_nats(vocabulary)[places] / LN2
    carried = extra.copy()
    for window in score(network, view):
        counted = window.place != BOUNDARY
        carried[window.index[counted]] += window.nats[counted] / LN2
    before = _known_before(places)
    lengths = _lengths(before)
    eligible = np.flatnonzero(before >= lengths[-1])
    targets = eligible[np.linspace(0, len(eligible) - 1, min(TARGETS, len(eligible))).astype(int)]
    bits, done = [], 0
    for length in lengths:
        bits.append(_cold_bits(network, view, targets, length) + extra[targets])
        done += length
        progress(done / (2 * lengths[-1] - 1))
    rows = _reach([*lengths, None], [*bits, carried[targets]])
    return Contexts(len(targets), rows, *_positions(places, before, carried, view.shift))


def _known_before(places: np.ndarray) -> np.ndarray:
    """Return how many characters of its document stand before each character; -1 at boundaries, (N,)."""
    index = np.arange(len(places))
    boundary = places == BOUNDARY
    return index - np.maximum.accumulate(np.where(boundary, index, 0)) - 1


def _lengths(before: np.ndarray) -> list[int]:
    powers = [2**n for n in range(LONGEST.bit_length())]
    enough = max(2, MIN_SHARE * (before >= 0).sum())
    found = [length for length in powers if (before >= length).sum() >= enough]
    if not found:
        raise TextError("there is too little text to score", "documents of two characters or more are needed")
    return found


def _cold_bits(network: Network, view: TextView, targets: np.ndarray, length: int) -> np.ndarray:
    """Return the cost of characters given the ``length`` before them, read from a state of zeros, (N,)."""
    found = []
    for first in range(0, len(targets), ROWS):
        rows = targets[first : first + ROWS]
        places = np.stack([view.read(target - length, length + 1) for target in rows])
        ids = torch.from_numpy(view.table[places]).to(network.readout.weight.device)
        with torch.inference_mode():
            hidden = network.hidden(ids[:, :-1], network.initial_state(len(rows)))[0]
            nats = cross_entropy(network.readout(hidden[-1]), ids[:, -1], reduction="none")
        found.append(nats.cpu().double().numpy() / LN2)
    return np.concatenate(found)


def _reach(contexts: list[int | None], bits: list[np.ndarray]) -> tuple[Reach, ...]:
    rows = [Reach(contexts[0], float(bits[0].mean()), None, None)]
    for number in range(1, len(bits)):
        gains = bits[number - 1] - bits[number]
        error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
        rows.append(Reach(contexts[number], float(bits[number].mean()), float(gains.mean()), error))
    return tuple(rows)


def _positions(
    places: np.ndarray, before: np.ndarray, bits: np.ndarray, shift: int
) -> tuple[int, tuple[Position, ...]]:
    """Return the documents that begin in the text, and the cost in them at 1, 2–3, 4–7, …"""
    begins = np.flatnonzero(places == BOUNDARY)[shift:]  # the first may be put there, inside a document
    if len(begins) < 2:
        return len(begins), ()
    inside = np.arange(len(places)) > begins[0]
    rows, first = [], 0
    while first <= before.max():
        last = 2 * first if first else 0
        here = inside & (before >= first) & (before <= last)
        if here.any():
            rows.append(Position(first + 1, last + 1, int(here.sum()), float(bits[here].mean())))
        first = last + 1
    return len(begins), tuple(rows)
