"""Reading the half that reports: nothing depends on what is read side by side; the best of several twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planting import PARENTHESES, cut, document, make_subject, planted, random_network, write_corpus

from charrnn.inspection import record, report, untrained
from charrnn.inspection.choice import choose, choose_and_report
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.inspection.report import read_report
from charrnn.inspection.scores import pearson, within_groups
from charrnn.inspection.untrained import read_twins, share


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Forty-two documents, the labels of some characters missing."""
    corpus = write_corpus(tmp_path_factory.mktemp("texts") / "all", [document(seed) for seed in range(42)])
    pieces = cut(corpus)
    random = np.random.default_rng(0)
    for piece in pieces:
        piece.labels[random.random(len(piece)) < 0.1, 2] = np.nan
    return make_subject(corpus, planted(3, column=1, in_parentheses=-1), pieces)


def recorder_of(subject, network=None):
    network = network or subject.network
    return Recorder(network, subject.table, all_neurons(network, "c"))


def read(subject, pairs):
    halves = subject.half(chooses=True), subject.half(chooses=False)
    choice = choose(recorder_of(subject), halves[0])
    return read_report(subject.network, subject.table, choice, pairs, halves, subject.hypotheses)


def whole(subject, column, chooses=False):
    """Activations of all neurons and labels at scored positions, and the piece and character of each."""
    pieces = subject.half(chooses)
    values = raw_values(recorder_of(subject), pieces)
    a = np.concatenate([v[piece.skip :] for piece, v in zip(pieces, values, strict=True)])
    y = np.concatenate([piece.labels[piece.skip :, column] for piece in pieces])
    chars = np.concatenate([piece.places[piece.skip :] for piece in pieces])
    scored = ~np.isnan(y)
    return a[scored], y[scored], chars[scored]


@pytest.mark.parametrize("chooses", [True, False])
def test_correlations_of_all_neurons_equal_one_after_the_other(subject, chooses):
    own = choose(recorder_of(subject), subject.half(chooses))
    both = choose_and_report(recorder_of(subject), subject.pieces)[0 if chooses else 1]
    for column in range(5):
        a, y, _ = whole(subject, column, chooses)
        expected = [pearson(a[:, n], y) for n in range(a.shape[1])]
        np.testing.assert_allclose(own.r[:, column], expected, atol=2e-5)
        np.testing.assert_allclose(both.r[:, column], expected, atol=2e-5)


def test_figures_equal_those_of_all_raw_values(subject):
    pairs = [(2, 1), (5, 2), (2, 0), (20, 3)]
    found = read(subject, pairs)
    assert set(found.figures) == set(found.passages) == set(pairs)
    for row, column in pairs:
        a, y, chars = whole(subject, column)
        measured = found.figures[row, column].measures()
        assert measured.r == pytest.approx(pearson(a[:, row], y), abs=1e-6)
        assert measured.r == pytest.approx(found.r[row, column], abs=2e-5)
        assert measured.r_within_char == pytest.approx(within_groups(a[:, row], y, chars), abs=1e-6)
        on, off = found.passages[row, column].means()
        assert (on, off) == pytest.approx((a[y > 0, row].mean(), a[y <= 0, row].mean()), abs=1e-5)


def test_what_is_read_side_by_side_makes_no_difference(subject, monkeypatch):
    """So the values of a few pieces are all that is ever held, however long the text is."""
    pairs = [(2, 1), (5, 2)]
    together = read(subject, pairs)
    held, emptied = [], report._Held.emptied
    monkeypatch.setattr(report._Held, "emptied", lambda self: held.append(len(self._values)) or emptied(self))
    monkeypatch.setattr(record, "ROWS", 4)
    apart = read(subject, pairs)
    assert max(held) == 4 and sum(held) == len(subject.half(chooses=False))
    for pair in pairs:
        one, other = (found.figures[pair].measures().to_json() for found in (together, apart))
        kept = [key for key, value in one.items() if isinstance(value, float)]
        assert [one[key] for key in kept] == pytest.approx([other[key] for key in kept], rel=1e-3, abs=1e-5)
        excerpts = zip(together.passages[pair].excerpts(), apart.passages[pair].excerpts(), strict=True)
        assert all((a.source, a.why, a.text) == (b.source, b.why, b.text) for a, b in excerpts)
    np.testing.assert_allclose(together.r, apart.r, atol=1e-5)
    np.testing.assert_allclose(together.sample, apart.sample, atol=1e-5)


def test_the_sample_has_the_activations_of_its_units(subject):
    found = read(subject, [])
    values = raw_values(recorder_of(subject), found.pieces)
    for unit in (0, 7, len(found.units) - 1):
        at = zip(found.units.pieces[unit], found.units.positions[unit], strict=True)
        expected = [values[piece][position] for piece, position in at]
        np.testing.assert_allclose(found.sample[unit], expected, atol=1e-5)


# untrained twins


def test_the_best_of_all_twins_counts(subject):
    twins = [random_network(seed) for seed in (50, 51, 52)]
    alone = [read_twins([twin], subject.table, subject.pieces, "c", range(5)) for twin in twins]
    found = read_twins(twins, subject.table, subject.pieces, "c", range(5))
    for column in range(5):
        best = max((own[column] for own in alone), key=lambda one: abs(one.r))
        assert found[column] == best
    assert len({id(one.twin) for one in found.values()}) > 1


def test_a_twin_chooses_on_one_half_and_reports_on_the_other(subject):
    twin = random_network(50)
    halves = [choose(recorder_of(subject, twin), subject.half(chooses)) for chooses in (True, False)]
    found = read_twins([twin], subject.table, subject.pieces, "c", range(5))
    for column in range(5):
        row = halves[0].best(column, 1)[0]
        assert found[column].neuron == halves[0].neurons[row]
        assert found[column].r == pytest.approx(halves[1].r[row, column], abs=1e-5)


def test_of_a_long_text_every_twin_reads_its_share(subject, monkeypatch):
    assert share(subject.pieces, 1, 3) == [*subject.half(True), *subject.half(False)]
    total = sum(map(len, subject.pieces))
    monkeypatch.setattr(untrained, "TWIN_CHARS", total // 3)
    parts = [share(subject.pieces, number, 3) for number in range(3)]
    assert sorted(piece.document for part in parts for piece in part) == list(range(42))
    assert all({piece.chooses for piece in part} == {True, False} for part in parts)
    monkeypatch.setattr(untrained, "TWIN_CHARS", total // 2)
    assert share(subject.pieces, 0, 3) == share(subject.pieces, 2, 3)


def test_a_second_twin_with_the_same_neuron_takes_the_honour_away(subject):
    asked = [PARENTHESES]
    pieces = [replace(piece, labels=piece.labels[:, 2:3]) for piece in subject.pieces]
    alone = replace(subject, pieces=pieces, hypotheses=asked)
    beside = replace(alone, more_twins=(random_network(51), planted(9, in_parentheses=1)))
    verdicts = []
    for one in (alone, beside):
        found = find_neurons(one, Question(ablation=None))
        verdicts.append((found.rows[0].verdict, found.twins))
    assert verdicts == [("tracks", 1), ("untrained too", 3)]
