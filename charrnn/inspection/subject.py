"""From a run, and perhaps other text, to what is inspected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from charrnn.errors import ConfigError, InspectionError, RunError
from charrnn.inspection.hypotheses import PROFILE_CHARS, Hypothesis, TextProfile, for_kind, profile_text
from charrnn.inspection.hypotheses.custom import resolve_all
from charrnn.inspection.pieces import MAX_CHARS, MIN_CHARS, Piece, cut_pieces
from charrnn.model.network import Network, new_network
from charrnn.runs import Checkpoint, find_corpus
from charrnn.text.corpora import stdlib_without
from charrnn.text.corpus import Corpus, open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.vocabulary import Vocabulary

TWINS = 3
"""Untrained networks that are compared with; one alone may by chance have no good neuron."""


@dataclass(frozen=True)
class Subject:
    """A network, its untrained twins, and the text they are inspected on.

    Args:
        run: What names the run.
        network: In evaluation mode, on the device it shall run on.
        twin: The same architecture with the weights it had before training.
        vocabulary: Symbols to ids.
        table: Place to id, (U,) int64.
        pieces: Labelled text.
        hypotheses: In the order of the labels' columns.
        profile: Facts about the corpus.
        from_training: Characters of the text that the network was trained on.
        more_twins: The same architecture as it would have begun from other seeds.
    """

    run: str
    network: Network
    twin: Network
    vocabulary: Vocabulary
    table: np.ndarray
    pieces: Sequence[Piece]
    hypotheses: Sequence[Hypothesis]
    profile: TextProfile
    from_training: int = 0
    more_twins: Sequence[Network] = ()

    @property
    def twins(self) -> tuple[Network, ...]:
        """All untrained twins, the one from the run's own seed first."""
        return self.twin, *self.more_twins

    def half(self, chooses: bool) -> list[Piece]:
        """Return the pieces that choose, or those that report."""
        return [piece for piece in self.pieces if piece.chooses == chooses]


def make_subject(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    texts: Sequence[str] = (),
    encoding: str | None = None,
    hypotheses: Sequence[str] = (),
    max_chars: int | None = None,
) -> Subject:
    """Return what is inspected: the network, its twins, and labelled text.

    Args:
        checkpoint: The run.
        device: Where to read.
        texts: Files, folders, globs or corpus names; none means the run's held-out text, val and test.
        encoding: That of ``texts``; None means that of the run's own text.
        hypotheses: Names, or anything else that ``resolve`` takes; none means all that suit the kind of text.
        max_chars: Characters read at most, evenly from the whole; None means 400,000.

    Raises:
        InspectionError: A hypothesis is unknown, or there is too little text.
        RunError: The run's held-out text cannot be found any more.
    """
    max_chars = MAX_CHARS if max_chars is None else max_chars
    corpus, parts, sample, from_training = _text(checkpoint, texts, encoding, max_chars)
    profile = profile_text(sample)
    asked = resolve_all(hypotheses, sample, profile) or for_kind(profile.kind)
    pieces = cut_pieces(corpus, parts, asked, profile, max_chars)
    config = checkpoint.config
    seed, seq_len = config.training.seed, config.training.seq_len
    twin, *more_twins = (
        new_network(config.model, len(checkpoint.vocabulary), seed + number, seq_len).to(device).eval()
        for number in range(TWINS)
    )
    return Subject(
        run=str(checkpoint.location),
        network=checkpoint.network.to(device).eval(),
        twin=twin,
        vocabulary=checkpoint.vocabulary,
        table=corpus.id_table(checkpoint.vocabulary),
        pieces=pieces,
        hypotheses=asked,
        profile=profile,
        from_training=from_training,
        more_twins=more_twins,
    )


def _text(
    checkpoint: Checkpoint, texts: Sequence[str], encoding: str | None, max_chars: int
) -> tuple[Corpus, list[tuple[int, int]], str, int]:
    """Return the corpus, the parts to inspect, a sample for the profile, and how much was trained on.

    Where the held-out text is too short for a valid null, the end of the training text is read too.
    """
    if encoding is not None and not texts:
        raise ConfigError(
            "`--encoding` is that of a text to read, and none was named", "name one with `--text`"
        )
    own = find_corpus(checkpoint)
    seen = checkpoint.corpus.get("seen")
    if own is None and not texts and seen is not None:
        texts = [str(path) for path in stdlib_without(seen, max_chars)]
    if texts:
        corpus = open_corpus(find_sources(texts), checkpoint.config.text.of(encoding))
        return corpus, [(0, len(corpus.places))], corpus.text(0, PROFILE_CHARS), 0
    if own is None:
        raise RunError(
            f"the held-out text of `{checkpoint.name}` cannot be found any more", "name one with `--text`"
        )
    splits = checkpoint.corpus["splits"]
    parts = [tuple(splits[name]) for name in ("val", "test")]
    if not any(end > begin for begin, end in parts):
        raise InspectionError(f"the run `{checkpoint.name}` kept no text apart", "name one with `--text`")
    begin, end = splits["train"]
    lacking = max(0, min(end - begin, MIN_CHARS - sum(stop - start for start, stop in parts)))
    more = [(end - lacking, end)] if lacking else []
    return own, more + parts, own.text(begin, min(end, begin + PROFILE_CHARS)), lacking
