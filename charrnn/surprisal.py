"""What every character of a text costs a model, and what it expected instead."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch

from charrnn.errors import TextError
from charrnn.model.network import Network
from charrnn.model.scoring import WINDOW, TextView, logits_at_once
from charrnn.text.corpus import Corpus
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

LN2 = log(2)
LONGEST = 100_000
"""Symbols that are told one by one; of a longer text, the first."""
ALTERNATIVES = 3

Alternatives = tuple[tuple[str, float], ...]
"""What a model held most probable, and how probable."""


@dataclass(frozen=True)
class Surprisal:
    """The cost of every character.

    Args:
        text: The characters, (N,).
        bits: Cost of each; with bytes, of all bytes of the character together, (N,).
        expected: The most probable characters in the place of each (with bytes: first bytes), N of them.
    """

    text: str
    bits: np.ndarray
    expected: tuple[Alternatives, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object per character."""
        return [
            {"character": char, "bits": float(bits), "expected": [list(pair) for pair in expected]}
            for char, bits, expected in zip(self.text, self.bits, self.expected, strict=True)
        ]


def surprisal(network: Network, vocabulary: Vocabulary, corpus: Corpus, part: tuple[int, int]) -> Surprisal:
    """Score a text character by character in one stream, the first 100,000 symbols of a longer one.

    Args:
        network: In evaluation mode, on the device it shall run on.
        vocabulary: Symbols to ids.
        corpus: Holds the text.
        part: Begin and end position.

    Raises:
        TextError: There is no character.
    """
    part = (part[0], min(part[1], part[0] + LONGEST))
    view = TextView(corpus.places, corpus.id_table(vocabulary), *part)
    extra = corpus.extra_nats(vocabulary)
    state = network.initial_state(1)
    bits, expected = [], []
    window = min(WINDOW, logits_at_once(network))
    for begin in range(0, len(view) - 1, window):
        places = view.read(begin, min(window, len(view) - 1 - begin) + 1)
        ids = torch.from_numpy(view.table[places])[None].to(network.readout.weight.device)
        with torch.inference_mode():
            logits, state = network(ids[:, :-1], state)
        nats = -logits[0].double().log_softmax(-1).cpu().numpy()
        counted = np.flatnonzero(places[1:] != BOUNDARY)
        own = nats[counted, view.table[places[1:]][counted]] + extra[places[1:]][counted]
        bits.append(own / LN2)
        expected += [_most_probable(nats[row], vocabulary) for row in counted]
    text = corpus.text(*part)
    if not text:
        raise TextError("there is no character to score", "choose another `--split`, or name a text")
    return _by_character(text, np.concatenate(bits), expected, corpus.kind)


def _most_probable(nats: np.ndarray, vocabulary: Vocabulary) -> Alternatives:
    few = min(ALTERNATIVES, len(nats))
    near = np.flatnonzero(nats <= np.partition(nats, few - 1)[few - 1])  # ties with the last one, too
    best = near[np.argsort(nats[near], kind="stable")[:few]]
    return tuple((_name(int(index), vocabulary), float(np.exp(-nats[index]))) for index in best)


def _name(index: int, vocabulary: Vocabulary) -> str:
    """Return what stands for an id; the specials have names that no single character has."""
    if index == BOUNDARY:
        return "end of document"
    if index == ESCAPE and vocabulary.kind == "chars":
        return "unseen character"
    return vocabulary.symbol_bytes(index).decode("utf-8", "surrogateescape")


def _by_character(text: str, bits: np.ndarray, expected: list[Alternatives], kind: str) -> Surprisal:
    if kind == "chars":
        return Surprisal(text, bits, tuple(expected))
    lengths = [len(char.encode("utf-8", "surrogateescape")) for char in text]
    starts = np.cumsum([0, *lengths[:-1]])
    return Surprisal(text, np.add.reduceat(bits, starts), tuple(expected[start] for start in starts))
