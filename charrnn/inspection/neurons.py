"""Find the neurons that track something: chosen on one half of the text, reported on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from charrnn.errors import InspectionError
from charrnn.inspection import steering
from charrnn.inspection.alike import label_correlations, partial_correlation, same_as
from charrnn.inspection.cards import make_card
from charrnn.inspection.cause import Interventions, fits, row_length
from charrnn.inspection.choice import choose
from charrnn.inspection.consequences import closing, direct_logits
from charrnn.inspection.counter import TYPES, Counting, counter_curves
from charrnn.inspection.curves import CounterCurve
from charrnn.inspection.figures import Steering
from charrnn.inspection.findings import NAMED, Card, Findings, Row
from charrnn.inspection.forgetting import forgetting
from charrnn.inspection.hypotheses.trial import why_not_testable
from charrnn.inspection.names import Neuron
from charrnn.inspection.null import swap_null
from charrnn.inspection.position import left_of_r, positions, without_position
from charrnn.inspection.record import Recorder, all_neurons
from charrnn.inspection.report import read_report
from charrnn.inspection.scores import pearson
from charrnn.inspection.steering import Steerer
from charrnn.inspection.subject import Subject
from charrnn.inspection.untrained import read_twins
from charrnn.inspection.verdicts import in_order, judged, with_cause

CARDS = 3

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

    Raises:
        InspectionError: It asks to steer and to hold none.
    """

    top: int = 1
    kind: str | None = None
    neuron: Neuron | None = None
    steer: bool = False
    ablation: str | None = "mean"

    def __post_init__(self) -> None:
        if self.steer and self.ablation is None:
            message = "to steer is to hold neurons, and `--ablation none` holds none"
            raise InspectionError(message, "leave out `--ablation none` or `--steer`")


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
        self.notices: list[str] = []
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
        network, table = subject.network, subject.table
        progress("reading the half that chooses")
        recorder = Recorder(network, table, all_neurons(network, self.kind))
        halves = subject.half(chooses=True), subject.half(chooses=False)
        self.choice = choose(recorder, halves[0])
        self.chosen = {i: self.choice.best(i, question.top) for i in self.testable}
        progress("reading the half that reports")
        wanted = [(best[0], i) for i, best in self.chosen.items() if best]
        if question.neuron is not None:
            wanted.append(self._asked_for(question.neuron))
        self.related = label_correlations(halves[1], self.testable)
        self.report = read_report(network, table, self.choice, wanted, halves, subject.hypotheses)
        progress("reading with untrained twins")
        self.untrained = read_twins(subject.twins, table, subject.pieces, self.kind, self.testable)

    def findings(self) -> Findings:
        self.progress("swapping labels")
        rows = self._rows()
        asked = self._asked(rows)
        if self.question.ablation is not None:
            if fits(self.report.pieces) and len(self.report.units):
                rows, asked = self._with_causes(rows, asked)
            else:
                left_out = "no causes and no steering" if self.question.steer else "no causes"
                self.notices.append(f"the text that reports is too short to hold neurons on: {left_out}")
        rows, asked = self._with_forgetting(rows, asked)
        cards = self._cards(rows, asked)
        named = [row for row in rows if row.verdict in NAMED] if asked is None else [asked]
        return self._findings(rows, cards, self._counters(named))

    def _asked_for(self, neuron: Neuron) -> tuple[int, int]:
        """Return the row of a neuron that the user named, and the hypothesis it goes with best."""
        place = self.choice.neurons.index(neuron)
        return place, max(self.testable, key=lambda i: abs(self.choice.r[place, i]))

    def _rows(self) -> list[Row]:
        null = self._null({i: best[0] for i, best in self.chosen.items() if best})
        rows = [self._row(i, best, *null.get(i, (None, None))) for i, best in self.chosen.items()]
        return judged(rows, self.subject.hypotheses)

    def _null(self, chosen: dict[int, int]) -> dict[int, tuple[float | None, float | None]]:
        """Return p by hypothesis, and what is left of r without the position where blocks are swapped."""
        units, values, neurons = self.report.units, self.report.sample, list(chosen.values())
        if not chosen or not units.valid:
            return dict.fromkeys(chosen, (None, None))
        labels, r = units.labels(self.report.pieces)[..., list(chosen)], [None] * len(chosen)
        if units.by == "blocks":
            before = values, labels
            values, labels = without_position(*before, positions(units, self.report.pieces))
            r = left_of_r(before, (values, labels), neurons)
        return dict(zip(chosen, zip(swap_null(values, labels, neurons), r, strict=True), strict=True))

    def _row(self, index: int, best: list[int], p: float | None, r_position: float | None) -> Row:
        hypothesis, own = self.subject.hypotheses[index], self.testable.index(index)
        same = tuple((self._name(i), float(self.related[own, i])) for i in same_as(self.related, own))
        row = Row(hypothesis.name, hypothesis.type, self.untrained[index].r, p=p, same_as=same)
        if not best:
            return replace(row, prevalence=self._prevalence(index))
        measured = self.report.figures[best[0], index].measures()
        rest = partial_correlation(self.report.r[best[0], self.testable], self.related, own)
        return replace(
            row,
            neuron=str(self.choice.neurons[best[0]]),
            r=measured.r,
            r_chosen=float(self.choice.r[best[0], index]),
            ap=measured.ap,
            prevalence=measured.prevalence,
            r_position=r_position,
            r_within_char=measured.r_within_char,
            measures=measured,
            r_partial=None if rest is None else rest[0],
            given=() if rest is None else tuple(map(self._name, rest[1])),
            runners_up=tuple((str(self.choice.neurons[n]), float(self.report.r[n, index])) for n in best[1:]),
        )

    def _name(self, place: int) -> str:
        """Return the name of a hypothesis by its place among those that were tested."""
        return self.subject.hypotheses[self.testable[place]].name

    def _prevalence(self, index: int) -> float:
        labels = np.concatenate([piece.labels[piece.skip :, index] for piece in self.report.pieces])
        return float((labels[~np.isnan(labels)] > 0).mean())

    def _asked(self, rows: list[Row]) -> Row | None:
        """Return the figures of a neuron that the user named, for the hypothesis it goes with best."""
        if self.question.neuron is None:
            return None
        place, best = self._asked_for(self.question.neuron)
        if self.choice.r[place, best] == 0:
            message = f"`{self.question.neuron}` never changes on this text"
            raise InspectionError(message, self._alive())
        row = self._row(best, [place], *self._null({best: place})[best])
        # in the place of its hypothesis's best neuron, so that q is corrected as on the board
        board = [row if other.hypothesis == row.hypothesis else other for other in rows]
        return next(r for r in judged(board, self.subject.hypotheses) if r.hypothesis == row.hypothesis)

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
        steerer = self._steerer()
        done = {}
        for row, cause in zip(held, causes, strict=True):
            row = replace(row, cause=cause)
            if (cause.alone.beats and row.verdict == "tracks") or (asked is not None and self.question.steer):
                row = replace(row, steering=self._steering(row, steerer, interventions))
            done[row.hypothesis] = with_cause(row)
        self.interventions = interventions
        if self.question.ablation == "resample" and len(set(interventions.excerpts.documents)) == 1:
            self.notices.append("all excerpts are of one document: resampled values come from there too")
        if asked is not None:
            return rows, done[asked.hypothesis]
        return in_order([done.get(row.hypothesis, row) for row in rows]), None

    def _with_forgetting(self, rows: list[Row], asked: Row | None) -> tuple[list[Row], Row | None]:
        """Measure how long neurons that are shown by name remember."""
        names = [row.neuron for row in rows if row.verdict in NAMED] if asked is None else [asked.neuron]
        names = list(dict.fromkeys(name for name in names if name is not None))
        if not names:
            return rows, asked
        self.progress("swapping what was read before")
        neurons = [self.choice.neurons[self._place(name)] for name in names]
        found = forgetting(self.subject.network, self.subject.table, self.report.pieces, neurons)
        known = dict(zip(names, found, strict=True))
        if asked is not None:
            return rows, replace(asked, forgetting=known[asked.neuron])
        return [replace(row, forgetting=known.get(row.neuron)) for row in rows], None

    def _steerer(self) -> Steerer:
        """Return what writes texts, no longer than documents mostly are: it never ends one."""
        length = min(steering.LENGTH, row_length(self.report.pieces))
        streams = steering.STREAMS * steering.LENGTH // length
        subject = self.subject
        return Steerer(subject.network, subject.vocabulary, subject.profile, streams, length)

    def _steering(self, row: Row, steerer: Steerer, interventions: Interventions) -> Steering | None:
        place, column = self._place(row.neuron), self._column(row)
        if self.subject.hypotheses[column].whole is not None:
            message = f"`{row.hypothesis}` is a file of labels, which says nothing of new text: no steering"
            self.notices.append(message)
            return None
        a, y, _ = self.report.passages[place, column].sample()
        controls = [
            (self.choice.neurons[i], tuple(np.quantile(interventions.values_of(i), (0.95, 0.05)).tolist()))
            for i in interventions.controls(place)
        ]
        values = steering.settings(a, y, float(np.sign(row.r_chosen)))
        neuron, hypothesis = self.choice.neurons[place], self.subject.hypotheses[column]
        return steerer.steer(neuron, values, controls, hypothesis, self.progress, self.question.steer)

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
        return [self._card(row) for row in ([asked] if asked is not None else best)]

    def _card(self, row: Row) -> Card:
        place, column = self._place(row.neuron), self._column(row)
        others = sorted(
            (i for i in self.testable if i != column), key=lambda i: -abs(self.choice.r[place, i])
        )
        also = [(self.subject.hypotheses[i].name, float(self.report.r[place, i])) for i in others]
        card = make_card(row, self.report.passages[place, column], also)
        if row.cause is None:
            return card
        held = self.interventions
        direct = direct_logits(held, place, column)
        return replace(
            card,
            next_characters=self._promoted(held.next_characters(place, column)),
            direct_characters=() if direct is None else self._promoted(direct),
            closing=closing(held, place, column, self.subject.vocabulary),
            alike=self._alike(place),
        )

    def _counters(self, rows: Sequence[Row]) -> tuple[CounterCurve, ...]:
        """Return the curves of named neurons along what they count."""
        counting = {(row.neuron, row.hypothesis): row for row in rows if row.type in TYPES and row.neuron}
        wanted = []
        for row in counting.values():
            column = self._column(row)
            own = self.untrained[column]
            if own.neuron is not None:
                neuron = self.choice.neurons[self._place(row.neuron)]
                hypothesis = self.subject.hypotheses[column]
                wanted.append(Counting(column, hypothesis, neuron, own.twin, own.neuron))
        if not wanted:
            return ()
        self.progress("reading what neurons do along what they count")
        return counter_curves(self.subject.network, self.subject.table, self.subject.pieces, wanted)

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

    def _findings(self, rows: list[Row], cards: list[Card], counters: tuple[CounterCurve, ...]) -> Findings:
        curves = {(curve.neuron, curve.hypothesis): curve for curve in counters}
        cards[:1] = [
            replace(card, counter=curves.get((card.neuron, card.row.hypothesis))) for card in cards[:1]
        ]
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
            gate_error=self.report.gate_error,
            state_error=self.report.state_error,
            ablation=self.question.ablation,
            from_training=subject.from_training,
            rows=tuple(rows),
            cards=tuple(cards),
            asked=None if self.question.neuron is None else str(self.question.neuron),
            steer=self.question.steer,
            twins=len(subject.twins),
            counters=counters,
            notices=tuple(self.notices),
        )
