"""What ``charrnn evaluate`` tells beyond one number: each a value for ``--json`` and a part to print."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from charrnn.cli.console import notice

if TYPE_CHECKING:
    from rich.console import RenderableType

    from charrnn.api import Run
    from charrnn.evaluation import Evaluation
    from charrnn.text.corpus import Corpus

    Text = tuple[Corpus, tuple[int, int]]
    Told = tuple[Any, RenderableType]
    Progress = Callable[[float], None]


def compare(
    run: Run, other: Run, text: Text, own: Evaluation, cold_window: int | None, progress: Progress
) -> Told:
    """Tell by how much two runs differ on a text."""
    from charrnn import evaluation
    from charrnn.rendering.evaluation import difference_line

    theirs = evaluation.evaluate(
        other.network, other.vocabulary, *text, cold_window=cold_window, progress=progress
    )
    difference = evaluation.Difference.of(own, theirs)
    seen = _was_trained_on(other, text)
    if seen:
        notice(f"`{other.name}` was trained on some of this text")
    data = {"run": str(other.checkpoint.location), "loss": theirs.loss, "bpc": theirs.bpc}
    data |= {"bpb": theirs.bpb, "stderr_bpc": theirs.stderr_bpc, "unseen_chars": theirs.unseen_chars}
    data |= {"difference_bpc": difference.bpc, "stderr_difference_bpc": difference.stderr_bpc}
    return data | {"trained_on": seen}, difference_line(run.name, other.name, theirs.bpc, difference)


def _was_trained_on(run: Run, text: Text) -> bool:
    """Whether a part of a text is in a run's training split."""
    corpus, part = text
    record = run.checkpoint.corpus
    if not record or record.get("sha256") != corpus.info["sha256"]:
        return False
    begin, end = record["splits"]["train"]
    return begin < part[1] and part[0] < end


def contexts(run: Run, text: Text, progress: Progress) -> Told:
    """Tell how far back a run looks."""
    from charrnn.contexts import MOST, measure_contexts
    from charrnn.rendering.evaluation import contexts_tables

    begin, end = text[1]
    if end - begin > MOST:
        notice(f"contexts are measured on the first {MOST:,} characters")
    found = measure_contexts(run.network, run.vocabulary, *text, progress)
    return found.to_json(), contexts_tables(found)


def memorisation(run: Run, progress: Progress) -> Told:
    """Tell how much of what a run says stands in its training text."""
    from charrnn.memorisation import find_copies
    from charrnn.rendering.evaluation import memorisation_report

    found = find_copies(run.checkpoint, run.network, progress=progress)
    return found.to_json(), memorisation_report(found)


def characters(run: Run, other: Run | None, text: Text) -> Told:
    """Tell what every character costs, or by how much its cost differs."""
    from charrnn.rendering.surprisal import difference_painted, surprisal_painted
    from charrnn.surprisal import LONGEST, surprisal

    own = surprisal(run.network, run.vocabulary, *text)
    data = own.to_json()
    begin, end = text[1]
    if end - begin > LONGEST:
        notice(f"only the first {len(own.text):,} characters are told one by one")
    if other is None:
        return data, surprisal_painted(own)
    theirs = surprisal(other.network, other.vocabulary, *text)
    for row, bits, expected in zip(data, theirs.bits, theirs.expected, strict=True):
        row |= {"bits_against": float(bits), "expected_against": [list(pair) for pair in expected]}
    return data, difference_painted(own, theirs, run.name, other.name)
