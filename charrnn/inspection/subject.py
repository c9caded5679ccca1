"""From a run, and perhaps other text, to what is inspected."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from charrnn.errors import InspectionError, RunError
from charrnn.inspection.hypotheses import for_kind, get, profile_text
from charrnn.inspection.neurons import Subject
from charrnn.inspection.pieces import cut_pieces
from charrnn.model.network import Network
from charrnn.runs import Checkpoint, find_corpus
from charrnn.text.corpus import Corpus, open_corpus
from charrnn.text.reading import find_sources

PROFILE_CHARS = 500_000


def make_subject(
    checkpoint: Checkpoint, device: torch.device, *, texts: Sequence[str] = (), hypotheses: Sequence[str] = ()
) -> Subject:
    """Return what is inspected: the network, its twin, and labelled text.

    Args:
        checkpoint: The run.
        device: Where to read.
        texts: Files, folders, globs or corpus names; none means the run's held-out text, val and test.
        hypotheses: Names; none means all that suit the kind of text.

    Raises:
        InspectionError: A hypothesis is unknown, or there is too little text.
        RunError: The run's held-out text cannot be found any more.
    """
    corpus, parts, sample = _text(checkpoint, texts)
    profile = profile_text(sample)
    asked = [get(name) for name in dict.fromkeys(hypotheses)] or for_kind(profile.kind)
    pieces = cut_pieces(corpus, parts, asked, profile)
    config = checkpoint.config
    twin = Network(config.model, len(checkpoint.vocabulary), config.training.seed).to(device).eval()
    return Subject(
        run=str(checkpoint.location),
        network=checkpoint.network.to(device).eval(),
        twin=twin,
        table=corpus.id_table(checkpoint.vocabulary),
        pieces=pieces,
        hypotheses=asked,
        profile=profile,
    )


def _text(checkpoint: Checkpoint, texts: Sequence[str]) -> tuple[Corpus, list[tuple[int, int]], str]:
    """Return the corpus, the parts of it to inspect, and a sample for the text's profile."""
    own = find_corpus(checkpoint)
    if texts:
        corpus = open_corpus(find_sources(texts), checkpoint.config.text)
        return corpus, [(0, len(corpus.places))], corpus.text(0, PROFILE_CHARS)
    if own is None:
        raise RunError(
            f"the held-out text of `{checkpoint.name}` cannot be found any more", "name one with `--text`"
        )
    splits = checkpoint.corpus["splits"]
    parts = [tuple(splits[name]) for name in ("val", "test")]
    if not any(end > begin for begin, end in parts):
        raise InspectionError(f"the run `{checkpoint.name}` kept no text apart", "name one with `--text`")
    begin, end = splits["train"]
    return own, parts, own.text(begin, min(end, begin + PROFILE_CHARS))
