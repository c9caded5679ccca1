"""Find the neurons that track something: chosen on one half of the text, reported on the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from charrnn.devices import to_device
from charrnn.errors import InspectionError
from charrnn.inspection import steering
from charrnn.inspection.cards import make_card
from charrnn.inspection.cause import Interventions, fits
from charrnn.inspection.counter import counter_curve
from charrnn.inspection.figures import Steering
from charrnn.inspection.findings import NAMED, Card, Findings, Row
from charrnn.inspection.hypotheses.trial import why_not_testable
from charrnn.inspection.measures import measure
from charrnn.inspection.names import Neuron
from charrnn.inspection.null import swap_null
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons
from charrnn.inspection.report import Report
from charrnn.inspection.scores import Moments, pearson
from charrnn.inspection.steering import Steerer
from charrnn.inspection.subject import Subject
from charrnn.inspection.verdicts import in_order, judged, with_cause
from charrnn.model.network import Network

CARDS = 3
SAME = 0.9
"""Hypotheses whose labels correlate this much are not told apart."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """What is asked of a subject.

    Args:
        top: Neurons per hypothesis to report, the best and its runners-up.
        kind: Kind of neurons to test; None means that of the cell, ``c`` or ``h``.
        neuron: Show this neuron closely, instead of the best ones.
        steer: Let the network speak with that neuron held, whatever its verdict.
        ablation: What a held neuron is held at: ``mean``, ``zero`` or ``resample``; None holds none.
    """

    top: int = 1
    kind: str | None = None
    neuron: Neuron | None = None
    steer: bool = False
    ablation: str | None = "mean"


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
    subject: Subject, question: Question | None = None, progress: Progress = lambda _: None
) -> Findings:
    """Rank, test, hold and show neurons.

    Args:
        subject: What to inspect.
        question: What is asked.
        progress: Called with what begins.

    Raises:
        InspectionError: The text lets no hypothesis be tested.
    """
    return _Inspection(subject, question or Question(), progress).findings()


class _Inspection:
    """One inspection on its way from choice to findings."""

    def __init__(self, subject: Subject, question: Question, progress: Progress) -> None:
        self.subject = subject
        self.question = question
        self.progress = progress
        self.testable = [
            i for i, h in enumerate(subject.hypotheses) if not why_not_testable(h, i, subject.pieces)
        ]
        if not self.testable:
            hint = "name a longer or more varied one with `--text`"
            raise InspectionError("the text lets none of the hypotheses be tested", hint)
        own = question.neuron.kind if question.neuron else None
        self.kind = question.kind or own or subject.network.layers[0].neuron_kind
        if own not in (None, self.kind):
            message = f"`{question.neuron}` is no neuron of kind `{self.kind}`"
            raise InspectionError(message, "leave out `--kind`")
        progress("reading the half that chooses")
        self.choice = choose(subject, subject.network, self.kind)
        progress("reading the half that reports")
        wanted = {row for i in self.testable for row in self.choice.best(i, question.top)}
        if question.neuron is not None:
            wanted.add(self.choice.neurons.index(question.neuron))
        self.report = self._read(subject.network, self.choice, wanted)
        progress("reading with the untrained twin")
        self.untrained = self._untrained()

    def findings(self) -> Findings:
        self.progress("swapping labels")
        rows = self._rows()
        asked = self._asked(rows)
        if self.question.ablation is not None and fits(self.report.pieces) and len(self.report.units):
            rows, asked = self._with_causes(rows, asked)
        cards = self._cards(rows, asked)
        return self._findings(rows, cards)

    def _read(
        self, network: Network, choice: Choice, wanted: set[int], *, figures_only: bool = False
    ) -> Report:
        halves = (self.subject.half(chooses=True), self.subject.half(chooses=False))
        neurons, table = choice.neurons, self.subject.table
        return Report.read(network, table, neurons, sorted(wanted), halves, figures_only=figures_only)

    def _untrained(self) -> dict[int, float]:
        """Return r of the untrained twin's own best neuron for every hypothesis, chosen alike."""
        twin = self.subject.twin
        choice = choose(self.subject, twin, self.kind)
        best = {i: choice.best(i, 1) for i in self.testable}
        self.twins = {i: choice.neurons[rows[0]] for i, rows in best.items() if rows}
        report = self._read(twin, choice, {row for rows in best.values() for row in rows}, figures_only=True)
        return {i: pearson(*report.joined(rows[0], i)[:2]) if rows else 0.0 for i, rows in best.items()}

    def _rows(self) -> list[Row]:
        chosen = {i: self.choice.best(i, self.question.top) for i in self.testable}
        p = self._null({i: best[0] for i, best in chosen.items() if best})
        same = self._same()
        rows = [self._row(i, chosen[i], p.get(i), same[i]) for i in self.testable]
        return judged(rows, self.subject.hypotheses)

    def _null(self, chosen: dict[int, int]) -> dict[int, float | None]:
        if not chosen or not self.report.units.valid:
            return dict.fromkeys(chosen)
        columns = list(chosen)
        labels = self.report.units.labels(self.report.pieces)[..., columns]
        return dict(zip(columns, swap_null(self.report.sample, labels, list(chosen.values())), strict=True))

    def _same(self) -> dict[int, tuple[tuple[str, float], ...]]:
        """Return for every hypothesis those whose labels correlate with its own by at least .9."""
        labels = np.concatenate([piece.labels[piece.skip :] for piece in self.report.pieces])
        labels = np.nan_to_num(labels[:, self.testable].astype(np.float64))
        labels -= labels.mean(0)
        scale = np.maximum(np.sqrt(np.square(labels).sum(0)), 1e-12)
        r = (labels.T @ labels) / np.outer(scale, scale)
        names = [self.subject.hypotheses[i].name for i in self.testable]
        np.fill_diagonal(r, 0)
        alike = [[b for b in np.argsort(-np.abs(row)) if abs(row[b]) >= SAME] for row in r]
        return {i: tuple((names[b], float(r[a, b])) for b in alike[a]) for a, i in enumerate(self.testable)}

    def _row(self, index: int, best: list[int], p: float | None, same: tuple[tuple[str, float], ...]) -> Row:
        hypothesis = self.subject.hypotheses[index]
        row = Row(hypothesis.name, hypothesis.type, self.untrained[index], p=p, same_as=same)
        if not best:
            return replace(row, prevalence=self._prevalence(index))
        r_chosen = float(self.choice.r[best[0], index])
        setting = self.report.series(best[0], index, chooses=True)
        measured = measure(setting, self.report.series(best[0], index), hypothesis.type, r_chosen)
        return replace(
            row,
            neuron=str(self.choice.neurons[best[0]]),
            r=measured.r,
            r_chosen=r_chosen,
            ap=measured.ap,
            prevalence=measured.prevalence,
            r_within_char=measured.r_within_char,
            measures=measured,
            runners_up=tuple(
                (str(self.choice.neurons[n]), pearson(*self.report.joined(n, index)[:2])) for n in best[1:]
            ),
        )

    def _prevalence(self, index: int) -> float:
        labels = np.concatenate([piece.labels[piece.skip :, index] for piece in self.report.pieces])
        return float((labels[~np.isnan(labels)] > 0).mean())

    def _asked(self, rows: list[Row]) -> Row | None:
        """Return the figures of a neuron that the user named, for the hypothesis it goes with best."""
        if self.question.neuron is None:
            return None
        place = self.choice.neurons.index(self.question.neuron)
        best = max(self.testable, key=lambda i: abs(self.choice.r[place, i]))
        if self.choice.r[place, best] == 0:
            message = f"`{self.question.neuron}` never changes on this text"
            raise InspectionError(message, self._alive())
        row = self._row(best, [place], self._null({best: place})[best], self._same()[best])
        return judged([row], self.subject.hypotheses)[0]

    def _alive(self) -> str:
        """Return a hint that names a neuron which changes."""
        alive = np.flatnonzero((self.choice.r != 0).any(1))
        first = f": {self.choice.neurons[alive[0]]} for one" if len(alive) else ""
        return f"{len(alive):,} of {len(self.choice.neurons):,} do{first}"

    def _with_causes(self, rows: list[Row], asked: Row | None) -> tuple[list[Row], Row | None]:
        """Hold the neurons that track something, let those speak that are used, and judge again."""
        held = [asked] if asked is not None else [row for row in rows if row.verdict in ("tracks", "found")]
        interventions = Interventions(
            self.subject.network,
            self.subject.table,
            self.report.pieces,
            self.choice.neurons,
            self.report.sample.flatten(0, 1),
            [self._column(row) for row in held],
            self.question.ablation,
        )
        pairs = [(self._place(row.neuron), self._column(row)) for row in held]
        causes = interventions.causes(pairs, self.progress)
        steerer = Steerer(self.subject.network, self.subject.vocabulary, self.subject.profile)
        done = {}
        for row, cause in zip(held, causes, strict=True):
            row = replace(row, cause=cause)
            if (cause.alone.beats and row.verdict == "tracks") or (asked is not None and self.question.steer):
                row = replace(row, steering=self._steering(row, steerer, interventions))
            done[row.hypothesis] = with_cause(row)
        self.interventions = interventions
        if asked is not None:
            return rows, done[asked.hypothesis]
        return in_order([done.get(row.hypothesis, row) for row in rows]), None

    def _steering(self, row: Row, steerer: Steerer, interventions: Interventions) -> Steering:
        place, column = self._place(row.neuron), self._column(row)
        a, y, _ = self.report.joined(place, column)
        controls = [
            (self.choice.neurons[i], tuple(np.quantile(interventions.values_of(i), (0.95, 0.05)).tolist()))
            for i in interventions.controls(place)
        ]
        values = steering.settings(a, y, float(np.sign(row.r_chosen)))
        neuron, hypothesis = self.choice.neurons[place], self.subject.hypotheses[column]
        return steerer.steer(neuron, values, controls, hypothesis, self.progress)

    def _place(self, name: str) -> int:
        return {str(n): i for i, n in enumerate(self.choice.neurons)}[name]

    def _column(self, row: Row) -> int:
        return {h.name: i for i, h in enumerate(self.subject.hypotheses)}[row.hypothesis]

    def _cards(self, rows: list[Row], asked: Row | None) -> list[Card]:
        """Look closely at the named neuron, or at the best ones of different hypotheses."""
        chosen: dict[str, Row] = {}
        for row in rows:
            if row.verdict in NAMED and row.neuron is not None:
                chosen.setdefault(row.neuron, row)
        best = sorted(chosen.values(), key=lambda row: abs(row.r_untrained) - abs(row.r))[:CARDS]
        cards = [self._card(row) for row in ([asked] if asked is not None else best)]
        return [self._counted(card) for card in cards[:1]] + cards[1:]

    def _card(self, row: Row) -> Card:
        place, column = self._place(row.neuron), self._column(row)
        card = make_card(
            row, place, column, self.testable, self.choice.r, self.report, self.subject.hypotheses
        )
        if row.cause is None:
            return card
        nats = self.interventions.next_characters(place, column)
        return replace(card, next_characters=self._promoted(nats), alike=self._alike(place))

    def _counted(self, card: Card) -> Card:
        """Return a card with the curve of what it counts, if that is what its hypothesis does."""
        column = self._column(card.row)
        subject, hypothesis = self.subject, self.subject.hypotheses[column]
        if hypothesis.type == "binary" or column not in self.twins:
            return card
        self.progress(f"reading what {card.neuron} does along {hypothesis.name}")
        text = (subject.table, subject.pieces, column, hypothesis)
        neuron = self.choice.neurons[self._place(card.neuron)]
        curve = counter_curve(subject.network, subject.twin, *text, neuron, self.twins[column])
        return replace(card, counter=curve)

    def _promoted(self, nats: np.ndarray) -> tuple[tuple[str, float], ...]:
        vocabulary = self.subject.vocabulary
        names = [vocabulary.symbol_bytes(i).decode("utf-8", "replace") for i in range(len(vocabulary))]
        order = [int(i) for i in np.argsort(-nats, kind="stable") if i >= vocabulary.num_special]
        return tuple((names[i], float(nats[i])) for i in (*order[:6], *order[-6:]))

    def _alike(self, place: int) -> tuple[tuple[str, float], ...]:
        others = self.interventions.alike(place)[1:]
        own = self.interventions.values_of(place)
        return tuple(
            (str(self.choice.neurons[i]), pearson(own, self.interventions.values_of(i))) for i in others
        )

    def _findings(self, rows: list[Row], cards: list[Card]) -> Findings:
        subject, config = self.subject, self.subject.network.config
        halves = {piece.document: piece.chooses for piece in subject.pieces}
        by_document = all(halves[piece.document] == piece.chooses for piece in subject.pieces)
        units = self.report.units
        return Findings(
            run=subject.run,
            model=f"{config.cell} {config.num_layers}×{config.hidden_size}",
            kind=self.kind,
            text_kind=subject.profile.kind,
            chars=sum(len(piece) - piece.skip for piece in subject.pieces),
            documents=len(halves),
            pieces=len(subject.pieces),
            split_by="documents" if by_document else "blocks",
            neurons_tested=len(self.choice.neurons),
            hypotheses_tested=len(rows),
            null_units=len(units) if units.valid else None,
            null_by=units.by,
            float_error=self.report.float_error,
            ablation=self.question.ablation,
            from_training=subject.from_training,
            rows=tuple(rows),
            cards=tuple(cards),
            asked=None if self.question.neuron is None else str(self.question.neuron),
            steer=self.question.steer,
        )


def choose(subject: Subject, network: Network, kind: str) -> Choice:
    """Correlate every neuron of a kind with every hypothesis on the half that chooses."""
    neurons = all_neurons(network, kind)
    pieces = subject.half(chooses=True)
    device = network.readout.weight.device
    moments = Moments(len(neurons), len(subject.hypotheses), device)
    for window in Recorder(network, subject.table, neurons).read(pieces):
        labels = [
            _scored_labels(pieces[row], window.begin, n)
            for row, n in zip(window.rows, window.length, strict=True)
        ]
        moments.add(window.text().float(), to_device(np.concatenate(labels), device))
    return Choice(neurons, moments.correlations())


def _scored_labels(piece: Piece, begin: int, length: int) -> np.ndarray:
    """Return labels of a window, NaN where the piece is only warming up, (length, Y)."""
    labels = piece.labels[begin : begin + length]
    if begin >= piece.skip:
        return labels
    labels = labels.copy()
    labels[: piece.skip - begin] = np.nan
    return labels
