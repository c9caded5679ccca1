"""Find the neurons that track something: chosen on one half of the text, reported on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from charrnn.errors import InspectionError
from charrnn.inspection.cards import make_card
from charrnn.inspection.findings import Card, Findings, Row
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.inspection.scores import (
    MIN_NULL_UNITS,
    Moments,
    average_precision,
    benjamini_hochberg,
    null_units,
    pearson,
    swap_null,
    within_groups,
)
from charrnn.model.network import Network

Q = 0.05
GAIN = 0.10
MIN_EVENTS = 50
"""Characters on and off that a hypothesis needs in each half."""
CARDS = 3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """A network, its untrained twin, and the text they are inspected on.

    Args:
        run: What names the run.
        network: In evaluation mode, on the device it shall run on.
        twin: The same architecture with the weights it had before training.
        table: Place to id, (U,) int64.
        pieces: Labelled text.
        hypotheses: In the order of the labels' columns.
        profile: Facts about the corpus.
    """

    run: str
    network: Network
    twin: Network
    table: np.ndarray
    pieces: Sequence[Piece]
    hypotheses: Sequence[Hypothesis]
    profile: TextProfile

    def half(self, chooses: bool) -> list[Piece]:
        """Return the pieces that choose, or those that report."""
        return [piece for piece in self.pieces if piece.chooses == chooses]


@dataclass(frozen=True)
class Choice:
    """What the choosing half says of every neuron and every hypothesis.

    Args:
        neurons: In the order of the rows.
        r: Correlations, (N, Y).
    """

    neurons: list[Neuron]
    r: np.ndarray

    def best(self, hypothesis: int, count: int) -> list[int]:
        """Return the rows of the neurons that correlate most with a hypothesis, the best first."""
        order = np.argsort(-np.abs(self.r[:, hypothesis]), kind="stable")[:count]
        return [int(row) for row in order if self.r[row, hypothesis] != 0]


def find_neurons(
    subject: Subject,
    *,
    top: int = 1,
    neuron: Neuron | None = None,
    progress: Progress = lambda _: None,
) -> Findings:
    """Rank, test and show neurons.

    Args:
        subject: What to inspect.
        top: Neurons per hypothesis to report, the best and its runners-up.
        neuron: Show this neuron closely, instead of the best ones.
        progress: Called with what begins.

    Raises:
        InspectionError: The text lets no hypothesis be tested.
    """
    testable = [i for i in range(len(subject.hypotheses)) if _testable(subject, i)]
    if not testable:
        raise InspectionError(
            "the text lets none of the hypotheses be tested", "name a longer or more varied one with `--text`"
        )
    kind = neuron.kind if neuron is not None else subject.network.layers[0].neuron_kind
    progress("reading the half that chooses")
    choice = choose(subject, subject.network, kind)
    progress("reading the half that reports")
    wanted = {row for i in testable for row in choice.best(i, top)}
    if neuron is not None:
        wanted.add(choice.neurons.index(neuron))
    report = _Report.of(subject, subject.network, choice, sorted(wanted))
    progress("reading with the untrained twin")
    untrained = _untrained(subject, kind, testable)
    progress("swapping labels")
    rows = _judged(
        [_row(subject, choice, report, i, top, untrained[i]) for i in testable], subject.hypotheses
    )
    cards = _cards(subject, choice, report, rows, neuron)
    found = _findings(subject, choice, report, rows, cards, kind)
    return replace(found, asked=None if neuron is None else str(neuron))


def choose(subject: Subject, network: Network, kind: str) -> Choice:
    """Correlate every neuron of a kind with every hypothesis on the half that chooses."""
    neurons = all_neurons(network, kind)
    pieces = subject.half(chooses=True)
    moments = Moments(len(neurons), len(subject.hypotheses))
    for window in Recorder(network, subject.table, neurons).read(pieces):
        labels = [
            _scored_labels(pieces[row], window.begin, n)
            for row, n in zip(window.rows, window.length, strict=True)
        ]
        taken = torch.arange(window.values.shape[1]) < torch.from_numpy(window.length)[:, None]
        values = window.values[taken.to(window.values.device)].float()
        moments.add(values, torch.from_numpy(np.concatenate(labels)).to(values.device))
    return Choice(neurons, moments.correlations())


def _scored_labels(piece: Piece, begin: int, length: int) -> np.ndarray:
    """Return labels of a window, NaN where the piece is only warming up, (length, Y)."""
    labels = piece.labels[begin : begin + length]
    if begin >= piece.skip:
        return labels
    labels = labels.copy()
    labels[: piece.skip - begin] = np.nan
    return labels


def _testable(subject: Subject, hypothesis: int) -> bool:
    """Whether a hypothesis is on and off often enough in both halves."""
    for half in (True, False):
        values = np.concatenate([piece.labels[piece.skip :, hypothesis] for piece in subject.half(half)])
        values = values[~np.isnan(values)]
        if len(values) == 0 or values.std() == 0:
            return False
        on = int((values > 0).sum())
        if subject.hypotheses[hypothesis].type == "binary" and min(on, len(values) - on) < MIN_EVENTS:
            return False
    return True


@dataclass(frozen=True)
class _Report:
    """Raw activations of the chosen neurons over the half that reports."""

    pieces: list[Piece]
    column: dict[int, int]
    values: list[np.ndarray]
    float_error: float

    @classmethod
    def of(cls, subject: Subject, network: Network, choice: Choice, rows: list[int]) -> _Report:
        pieces = subject.half(chooses=False)
        recorder = Recorder(network, subject.table, [choice.neurons[row] for row in rows])
        values = raw_values(recorder, pieces)
        return cls(pieces, {row: i for i, row in enumerate(rows)}, values, recorder.largest_error)

    def by_piece(self, row: int, hypothesis: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return activations and labels of every piece, warm-up left out."""
        column = self.column[row]
        a = [values[piece.skip :, column] for piece, values in zip(self.pieces, self.values, strict=True)]
        return a, [piece.labels[piece.skip :, hypothesis] for piece in self.pieces]

    def joined(self, row: int, hypothesis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return activations, labels and current characters at scored positions, each (N,)."""
        a, y = (np.concatenate(part) for part in self.by_piece(row, hypothesis))
        char = np.concatenate([piece.places[piece.skip :] for piece in self.pieces])
        scored = ~np.isnan(y)
        return a[scored], y[scored], char[scored]


def _untrained(subject: Subject, kind: str, testable: list[int]) -> dict[int, float]:
    """Return r of the untrained twin's own best neuron for every hypothesis, chosen alike."""
    choice = choose(subject, subject.twin, kind)
    best = {i: choice.best(i, 1) for i in testable}
    report = _Report.of(subject, subject.twin, choice, sorted({rows[0] for rows in best.values() if rows}))
    return {i: pearson(*report.joined(rows[0], i)[:2]) if rows else 0.0 for i, rows in best.items()}


def _row(subject: Subject, choice: Choice, report: _Report, index: int, top: int, r_untrained: float) -> Row:
    hypothesis = subject.hypotheses[index]
    best = choice.best(index, top)
    if not best:
        on = np.concatenate([piece.labels[piece.skip :, index] for piece in report.pieces])
        empty = dict.fromkeys(("neuron", "r", "r_chosen", "ap", "r_within_char", "p", "q"))
        prevalence = float((on[~np.isnan(on)] > 0).mean())
        return Row(
            hypothesis.name,
            hypothesis.type,
            prevalence=prevalence,
            r_untrained=r_untrained,
            verdict="",
            **empty,
        )
    a, y, char = report.joined(best[0], index)
    r = pearson(a, y)
    sign = np.sign(choice.r[best[0], index])
    documents = [piece.document for piece in report.pieces]
    null = swap_null(*(null_units(values, documents) for values in report.by_piece(best[0], index)))
    return Row(
        hypothesis=hypothesis.name,
        type=hypothesis.type,
        neuron=str(choice.neurons[best[0]]),
        r=r,
        r_chosen=float(choice.r[best[0], index]),
        ap=average_precision(sign * a, y) if hypothesis.type == "binary" else None,
        prevalence=float((y > 0).mean()),
        r_within_char=within_groups(a, y, char),
        r_untrained=r_untrained,
        p=null,
        q=None,
        verdict="",
        runners_up=tuple((str(choice.neurons[n]), pearson(*report.joined(n, index)[:2])) for n in best[1:]),
    )


def _judged(rows: list[Row], hypotheses: Sequence[Hypothesis]) -> list[Row]:
    """Correct p for the number of hypotheses, pronounce verdicts, and put the best first."""
    lookahead = {h.name: h.lookahead for h in hypotheses}
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    q = (
        dict(zip(tested, benjamini_hochberg(np.array([rows[i].p for i in tested])), strict=True))
        if tested
        else {}
    )
    rows = [replace(row, q=float(q[i]) if i in q else None) for i, row in enumerate(rows)]
    rows = [replace(row, verdict=verdict(row, lookahead[row.hypothesis])) for row in rows]
    rank = {
        name: i
        for i, name in enumerate(("tracks", "found", "no valid null", "char detector", "untrained too"))
    }
    return sorted(rows, key=lambda row: (rank.get(row.verdict, 9), -abs(row.r or 0.0)))


def verdict(row: Row, lookahead: bool) -> str:
    """Return what the figures allow to be said, the most damaging finding first."""
    if row.r is None:
        return "not found"
    if row.q is None:
        return "no valid null"
    if row.q > Q or np.sign(row.r) != np.sign(row.r_chosen):
        return "not found"
    if abs(row.r) - abs(row.r_untrained) < GAIN:
        return "untrained too"
    if abs(row.r_within_char) < abs(row.r) / 2 or row.r * row.r_within_char < 0:
        return "char detector"
    return "found" if lookahead else "tracks"


def _cards(
    subject: Subject, choice: Choice, report: _Report, rows: list[Row], neuron: Neuron | None
) -> list[Card]:
    """Look closely at the named neuron, or at the best ones of different hypotheses."""
    index = {h.name: i for i, h in enumerate(subject.hypotheses)}
    names = {str(n): i for i, n in enumerate(choice.neurons)}
    if neuron is not None:
        tested = [index[row.hypothesis] for row in rows]
        place = names[str(neuron)]
        best = max(tested, key=lambda i: abs(choice.r[place, i]))
        r_untrained = next(row.r_untrained for row in rows if index[row.hypothesis] == best)
        own = _own_row(subject, choice, report, place, best, r_untrained)
        return [make_card(own, place, best, tested, choice.r, report, subject.hypotheses)]
    chosen: dict[str, Row] = {}
    for row in rows:
        if row.verdict in ("tracks", "found", "no valid null") and row.neuron is not None:
            chosen.setdefault(row.neuron, row)
    shown = sorted(chosen.values(), key=lambda row: abs(row.r_untrained) - abs(row.r))[:CARDS]
    tested = [index[row.hypothesis] for row in rows]
    return [
        make_card(row, names[row.neuron], index[row.hypothesis], tested, choice.r, report, subject.hypotheses)
        for row in shown
    ]


def _own_row(
    subject: Subject, choice: Choice, report: _Report, place: int, hypothesis: int, r_untrained: float
) -> Row:
    """Return the figures of a neuron that the user named, for the hypothesis it goes with best."""
    if choice.r[place, hypothesis] == 0:
        raise InspectionError(
            f"`{choice.neurons[place]}` never changes on this text", "choose another neuron"
        )
    alone = Choice([choice.neurons[place]], choice.r[place : place + 1])
    own = replace(report, column={0: report.column[place]})
    row = _row(subject, alone, own, hypothesis, 1, r_untrained)
    return _judged([row], subject.hypotheses)[0]


def _findings(
    subject: Subject, choice: Choice, report: _Report, rows: list[Row], cards: list[Card], kind: str
) -> Findings:
    config = subject.network.config
    halves = {piece.document: piece.chooses for piece in subject.pieces}
    by_document = all(halves[piece.document] == piece.chooses for piece in subject.pieces)
    reporting = [piece.document for piece in report.pieces]
    units = len(null_units([np.empty(len(piece) - piece.skip) for piece in report.pieces], reporting))
    return Findings(
        run=subject.run,
        model=f"{config.cell} {config.num_layers}×{config.hidden_size}",
        kind=kind,
        text_kind=subject.profile.kind,
        chars=sum(len(piece) - piece.skip for piece in subject.pieces),
        documents=len(halves),
        pieces=len(subject.pieces),
        split_by="documents" if by_document else "blocks",
        neurons_tested=len(choice.neurons),
        hypotheses_tested=len(rows),
        null_units=units if units >= MIN_NULL_UNITS else None,
        null_by="documents" if len(set(reporting)) >= MIN_NULL_UNITS else "blocks",
        float_error=report.float_error,
        rows=tuple(rows),
        cards=tuple(cards),
    )
