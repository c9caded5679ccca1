"""How much of what a model says stands in its training text letter for letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from charrnn.errors import RunError
from charrnn.model.network import Network
from charrnn.runs import Checkpoint, find_corpus
from charrnn.sampling import SamplingConfig, Speaker
from charrnn.text.corpus import Corpus
from charrnn.text.overlap import Overlap, longest_overlaps
from charrnn.text.vocabulary import Vocabulary, text_of

SAMPLES = 20
LENGTH = 1_000
QUANTILES = {"median": 0.5, "p90": 0.9, "max": 1.0}


@dataclass(frozen=True)
class Copy:
    """A stretch that a sample shares with the training text: the sample's number, and the stretch."""

    sample: int
    length: int
    text: str


@dataclass(frozen=True)
class Memorisation:
    """The longest stretch of each sample that occurs in one document of the training text.

    Args:
        length: Characters in a sample.
        seed: Fixes the samples.
        sampled: Characters in the longest shared stretch of each sample.
        held_out: The same for stretches of held-out text, at most as many as samples: what new text shares
            with the training text by itself.
        copies: The longest first.
    """

    length: int
    seed: int
    sampled: tuple[int, ...]
    held_out: tuple[int, ...]
    copies: tuple[Copy, ...]

    def quantiles(self) -> dict[str, dict[str, float] | None]:
        """Return median, 90th percentile and largest of both, None without held-out text."""
        named = {"sampled": self.sampled, "held_out": self.held_out}
        return {
            name: {q: float(np.quantile(lengths, p)) for q, p in QUANTILES.items()} if lengths else None
            for name, lengths in named.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "quantiles": self.quantiles()}


def find_copies(
    checkpoint: Checkpoint,
    network: Network,
    *,
    samples: int = SAMPLES,
    length: int = LENGTH,
    seed: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> Memorisation:
    """Let a model speak, and look for what it says in its training text.

    Args:
        checkpoint: Says what was trained on.
        network: Its network, on the device it shall run on.
        samples: How many texts; drawn at temperature 1, without a prompt.
        length: Symbols in each.
        seed: Fixes them.
        progress: Called with the share done.

    Raises:
        RunError: The training text cannot be found any more.
    """
    corpus = find_corpus(checkpoint)
    if corpus is None:
        raise RunError(f"the training text of `{checkpoint.name}` cannot be found any more")
    vocabulary = checkpoint.vocabulary
    table = corpus.id_table(vocabulary)
    speaker = Speaker(network, vocabulary, SamplingConfig())
    spoken = []
    for stream in range(samples):
        spoken.append(np.fromiter(islice(speaker.ids("", seed, stream), length), np.int64))
        progress((stream + 1) / samples / 2)
    splits = checkpoint.corpus["splits"]
    others = _held_out(corpus, (splits["val"][0], splits["test"][1]), table, samples, length)
    train = tuple(splits["train"])
    found = longest_overlaps(corpus.places, train, table, spoken + others, lambda p: progress(0.5 + p / 2))
    copies = [
        _copy(number, text, overlap, vocabulary)
        for number, (text, overlap) in enumerate(zip(spoken, found, strict=False))
    ]
    copies.sort(key=lambda copy: -copy.length)
    lengths = tuple(overlap.length for overlap in found)
    return Memorisation(length, seed, lengths[:samples], lengths[samples:], tuple(copies))


def _held_out(
    corpus: Corpus, part: tuple[int, int], table: np.ndarray, count: int, length: int
) -> list[np.ndarray]:
    """Return stretches of a part at even distances, none on another."""
    room = part[1] - part[0]
    count = min(count, room // length)
    begins = part[0] + np.linspace(0, room - length, count).astype(int) if count else []
    return [table[corpus.places[begin : begin + length]] for begin in begins]


def _copy(number: int, ids: np.ndarray, overlap: Overlap, vocabulary: Vocabulary) -> Copy:
    own = ids[overlap.start : overlap.start + overlap.length] - vocabulary.num_special
    return Copy(number, overlap.length, text_of(np.asarray(vocabulary.symbols)[own], vocabulary.kind))
