"""Finding neurons: planted ones are named, nothing else is, and the figures come from other text."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from planting import (
    ASKED,
    COLUMN,
    DOCUMENT,
    HIDDEN,
    PARENTHESES,
    PLANTS,
    QUOTE,
    SPACE,
    VOWEL,
    Plant,
    cut,
    document,
    everywhere,
    in_parentheses,
    make_subject,
    own,
    plant_flags,
    planted,
    random_network,
    twice,
    two_alphabets,
    write_corpus,
)
from rich.console import Console
from scipy import stats

from charrnn.errors import InspectionError
from charrnn.inspection import hypotheses, neurons
from charrnn.inspection.findings import Row
from charrnn.inspection.names import Neuron, parse_neuron
from charrnn.inspection.neurons import Question
from charrnn.inspection.pieces import GAP_CHARS, WARM_UP_CHARS
from charrnn.inspection.verdicts import judged, verdict
from charrnn.rendering.neurons import print_findings


@pytest.fixture(scope="module")
def texts():
    return [document(seed) for seed in range(48)]


@pytest.fixture
def corpus(tmp_path, texts):
    return write_corpus(tmp_path / "texts", texts)


def find_neurons(subject, **question):
    """What is found without interventions, which have tests of their own."""
    return neurons.find_neurons(subject, Question(**{"ablation": None} | question))


def by_name(findings):
    return {row.hypothesis: row for row in findings.rows}


# planted truth


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", list(PLANTS))
def test_a_planted_neuron_is_named_with_its_sign(corpus, name, sign):
    findings = find_neurons(make_subject(corpus, planted(3, **{name: sign})))
    row = by_name(findings)[name]
    assert (row.neuron, row.verdict) == ("L1.c2", "tracks")
    assert sign * row.r > 0.95
    assert row.r_within_char * sign > 0.8
    assert row.p == 1 / 1000
    assert [r.hypothesis for r in findings.rows if r.verdict in ("tracks", "found")] == [name]
    if row.type == "binary":
        assert row.ap > 0.99


def test_several_planted_neurons_are_all_named(corpus):
    findings = find_neurons(make_subject(corpus, planted(4, column=-1, in_quote=1, in_parentheses=-1)), top=3)
    rows = by_name(findings)
    found = {row.hypothesis: row.neuron for row in findings.rows if row.verdict == "tracks"}
    assert found == {"column": "L1.c2", "in_quote": "L1.c5", "in_parentheses": "L1.c8"}
    assert {card.neuron for card in findings.cards} == set(found.values())
    assert all(len(row.runners_up) == 2 for row in rows.values())
    assert all(len({row.neuron, *(name for name, _ in row.runners_up)}) == 3 for row in rows.values())


def test_an_untrained_twin_with_the_same_neuron_takes_the_honour_away(corpus):
    subject = make_subject(corpus, planted(3, in_quote=1), twin=planted(8, in_parentheses=1, in_quote=-1))
    row = by_name(find_neurons(subject))["in_quote"]
    assert (row.neuron, row.verdict) == ("L1.c2", "untrained too")
    assert row.r_untrained < -0.95


def test_a_character_detector_is_called_one(corpus):
    network = random_network(5)
    with torch.no_grad():
        plant = Plant(network, 2)
        plant.bias("f", -30)
        plant.on("i", " \n", 60)
        plant.on("g", " \n", 20)
    row = by_name(find_neurons(make_subject(corpus, network)))["is_space"]
    assert row.neuron == "L1.c2"
    assert row.r > 0.999
    assert abs(row.r_within_char) < 0.01
    assert row.verdict in ("char detector", "untrained too")


def test_a_hypothesis_that_looks_ahead_is_found_but_not_tracked(corpus):
    ahead = own("ahead", in_parentheses, lookahead=True)
    row = find_neurons(make_subject(corpus, planted(3, in_parentheses=1), asked=[ahead])).rows[0]
    assert (row.neuron, row.verdict) == ("L1.c2", "found")


def test_a_gate_can_be_asked_for(corpus):
    findings = find_neurons(make_subject(corpus, planted(3, column=1)), neuron=Neuron(1, "f", 2))
    assert findings.kind == "f"
    (card,) = findings.cards
    assert card.neuron == "L1.f2"
    assert card.row.r == pytest.approx(by_name(findings)[card.row.hypothesis].r) or card.row.r != 0


@pytest.mark.parametrize("cell", ["gru", "elman"])
def test_other_cells_are_asked_about_h(corpus, cell):
    findings = find_neurons(make_subject(corpus, random_network(3, cell, 1)))
    assert findings.kind == "h"
    assert findings.neurons_tested == HIDDEN


# nothing to find


def with_labels_of_others(parts):
    """Every piece with the labels of another one of its half."""
    result = list(parts)
    for chooses in (True, False):
        half = [i for i, part in enumerate(parts) if part.chooses == chooses]
        for i, j in zip(half, half[1:] + half[:1], strict=True):
            assert len(parts[i]) == len(parts[j])
            result[i] = replace(parts[i], labels=parts[j].labels)
    return result


def test_labels_of_other_documents_are_not_found(corpus):
    parts = with_labels_of_others(cut(corpus))
    p = []
    for seed in range(6):
        network = planted(seed, in_quote=1, column=1, in_parentheses=1)
        rows = find_neurons(make_subject(corpus, network, parts)).rows
        assert len(rows) == len(ASKED)
        assert not {row.verdict for row in rows} & {"tracks", "found"}
        p += [row.p for row in rows if row.p is not None]
    assert sum(value <= 0.05 for value in p) <= stats.binom(len(p), 0.05).ppf(0.9999)


def test_a_random_network_against_another_tracks_nothing(corpus):
    parts = cut(corpus)
    for seed in range(2):
        rows = find_neurons(make_subject(corpus, random_network(seed), parts)).rows
        assert not [row for row in rows if row.verdict == "tracks" and abs(row.r) > 0.5]


def test_a_network_that_never_changes_is_found_nowhere(corpus):
    network = random_network(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    findings = find_neurons(make_subject(corpus, network))
    assert {row.verdict for row in findings.rows} == {"not found"}
    assert {row.neuron for row in findings.rows} == {None}
    assert findings.cards == ()
    assert json.loads(json.dumps(findings.to_json(), allow_nan=False))["rows"]


def test_too_little_text_has_no_valid_null(tmp_path, texts):
    corpus = write_corpus(tmp_path / "few", texts[:10])
    findings = find_neurons(make_subject(corpus, planted(3, in_quote=1)))
    assert findings.null_units is None
    assert {row.verdict for row in findings.rows} == {"no valid null"}
    assert {(row.p, row.q) for row in findings.rows} == {(None, None)}


# rows and halves


def test_one_row_for_every_hypothesis_that_can_be_tested(corpus):
    asked = [own("everywhere", everywhere), own("too_rare", twice), QUOTE, hypotheses.get("is_digit"), COLUMN]
    findings = find_neurons(make_subject(corpus, random_network(1), asked=asked))
    assert sorted(row.hypothesis for row in findings.rows) == ["column", "in_quote", "too_rare"]
    assert findings.hypotheses_tested == 3


@pytest.mark.parametrize("count", [10, 40])
def test_a_binary_hypothesis_needs_fifty_characters_on_in_each_half(corpus, count):
    def rare(text, profile):
        labels = np.zeros(len(text), np.float32)
        labels[100 : 100 + count] = 1  # in each document, 12 in each half
        return labels

    parts = [part for part in cut(corpus, [own("rare", rare), QUOTE]) if part.document < 4]
    subject = make_subject(corpus, random_network(1), parts, [own("rare", rare), QUOTE])
    names = {row.hypothesis for row in find_neurons(subject).rows}
    assert ("rare" in names) == (2 * count >= 50)


def test_what_lets_nothing_be_tested_is_an_error(corpus):
    with pytest.raises(InspectionError, match="none of the hypotheses"):
        find_neurons(make_subject(corpus, random_network(1), asked=[own("everywhere", everywhere)]))


def test_the_half_that_chooses_has_no_part_in_the_figures(corpus):
    parts = cut(corpus)
    subject = make_subject(corpus, planted(3, in_quote=1), parts)
    noise = np.random.default_rng(0)
    other = [part if part.chooses else replace(part, labels=noise.permutation(part.labels)) for part in parts]
    honest, spoilt = find_neurons(subject), find_neurons(replace(subject, pieces=other))
    row, broken_row = by_name(honest)["in_quote"], by_name(spoilt)["in_quote"]
    assert broken_row.neuron == row.neuron == "L1.c2"
    assert broken_row.r_chosen == row.r_chosen
    assert abs(broken_row.r) < 0.1
    assert broken_row.verdict not in ("tracks", "found")


def test_figures_are_those_of_the_reporting_half(corpus):
    subject = make_subject(corpus, planted(3, in_parentheses=1))
    row = by_name(find_neurons(subject))["in_parentheses"]
    y = np.concatenate([part.labels[part.skip :, 2] for part in subject.half(chooses=False)])
    assert row.prevalence == pytest.approx((y > 0).mean())
    assert {part.document for part in subject.half(True)}.isdisjoint(
        part.document for part in subject.half(False)
    )


def test_findings_count_what_was_read(corpus):
    findings = find_neurons(make_subject(corpus, random_network(1)))
    assert (findings.documents, findings.pieces, findings.split_by) == (48, 48, "documents")
    assert findings.chars == 48 * (DOCUMENT - WARM_UP_CHARS)
    assert findings.neurons_tested == 2 * HIDDEN
    assert (findings.null_units, findings.null_by) == (24, "documents")
    assert findings.float_error < 1e-5
    assert (findings.ablation, findings.from_training) == (None, 0)


def test_findings_say_when_blocks_were_swapped(tmp_path, texts):
    corpus = write_corpus(tmp_path / "two", ["".join(texts[:26]), "".join(texts[26:])])
    findings = find_neurons(make_subject(corpus, random_network(1, layers=1), asked=[SPACE]))
    assert (findings.documents, findings.pieces, findings.split_by) == (2, 39, "blocks")
    assert findings.chars == 48 * DOCUMENT - 2 * WARM_UP_CHARS - 37 * GAP_CHARS
    assert (findings.null_units, findings.null_by) == (20, "blocks")


PROMISED = {"run", "chars", "documents", "neurons_tested", "hypotheses_tested", "rows"}
PROMISED_OF_ROWS = {
    *("hypothesis", "neuron", "r", "ap", "prevalence", "r_within_char", "r_untrained", "q"),
    *("delta_on_bpc", "delta_off_bpc", "verdict"),
}


def test_json_has_the_promised_keys_and_no_nan(corpus):
    findings = find_neurons(make_subject(corpus, planted(3, in_quote=1)), top=2)
    data = json.loads(json.dumps(findings.to_json(), allow_nan=False))
    assert set(data) >= PROMISED
    assert all(set(row) >= PROMISED_OF_ROWS for row in data["rows"])
    assert data["cards"][0]["excerpts"]


# verdicts

GOOD = Row(
    hypothesis="x",
    type="binary",
    r_untrained=0.1,
    neuron="L1.c0",
    r=0.6,
    r_chosen=0.65,
    r_within_char=0.5,
    p=0.001,
    q=0.01,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "tracks"),
        ({"r": -0.6, "r_chosen": -0.6, "r_within_char": -0.5}, "tracks"),
        ({"r_untrained": -0.1}, "tracks"),
        ({"neuron": None, "r": None}, "not found"),
        ({"p": None, "q": None}, "no valid null"),
        ({"q": 0.05}, "tracks"),
        ({"q": 0.0501}, "not found"),
        ({"r_chosen": -0.6}, "not found"),
        ({"r_untrained": 0.49}, "tracks"),
        ({"r_untrained": 0.51}, "untrained too"),
        ({"r_untrained": -0.9}, "untrained too"),
        ({"r_within_char": 0.3}, "tracks"),
        ({"r_within_char": 0.29}, "char detector"),
        ({"r_within_char": -0.5}, "char detector"),
        ({"r_untrained": 0.51, "r_within_char": 0.0}, "untrained too"),
        ({"q": 0.2, "r_untrained": 0.9}, "not found"),
        ({"r_position": 0.31}, "tracks"),
        ({"r_position": 0.29}, "not found"),
        ({"r_position": -0.5}, "not found"),
        ({"q": None, "r_untrained": 0.9}, "no valid null"),
    ],
)
def test_verdicts(changes, expected):
    row = replace(GOOD, **changes)
    assert verdict(row, lookahead=False) == expected
    assert verdict(row, lookahead=True) == ("found" if expected == "tracks" else expected)


def test_controls_do_not_loosen_the_correction_of_the_others():
    asked = [QUOTE, COLUMN, SPACE, VOWEL, hypotheses.get("is_upper"), hypotheses.get("document_position")]
    p = (0.03, 0.9, 0.001, 0.001, 0.001, 0.5)
    rows = judged([replace(GOOD, hypothesis=h.name, p=own) for h, own in zip(asked, p, strict=True)], asked)
    q = {row.hypothesis: row.q for row in rows}
    assert q["in_quote"] == pytest.approx(stats.false_discovery_control([0.03, 0.9])[0])  # .06; of all: .045
    assert q["is_space"] == pytest.approx(stats.false_discovery_control([0.001, 0.001, 0.001, 0.5])[0])
    assert {row.hypothesis: row.verdict for row in rows}["in_quote"] == "not found"


# spelling


@pytest.mark.parametrize(
    ("text", "neuron"),
    [("L1.c0", Neuron(1, "c", 0)), ("L2.f11", Neuron(2, "f", 11)), ("L1.h7", Neuron(1, "h", 7))],
)
def test_one_spelling_of_a_neuron(text, neuron):
    assert parse_neuron(text, ("h", "c", "i", "f", "g", "o"), 2, 12) == neuron
    assert str(neuron) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "L1c0", "l1.c0", "L1.c", "L1.C0", "1.c0", " L1.c0", "L1.c0 ", "L1.c0\n", "L1.c-1", "L-1.c0"),
        *("L0.c0", "L3.c0", "L1.c12", "L1.z0", "L1.x0", "L1.cc0", "L1.c0.5", "L1.c99999999999999999999"),
    ],
)
def test_other_spellings_and_neurons_that_are_not_there(text):
    with pytest.raises(InspectionError) as caught:
        parse_neuron(text, ("h", "c", "i", "f", "g", "o"), 2, 12)
    assert "L1.h0" in caught.value.hint and "L2.o11" in caught.value.hint


# cards


def test_cards_of_a_run_show_its_text(corpus):
    findings = find_neurons(make_subject(corpus, planted(3, in_quote=1)))
    (card,) = findings.cards
    assert (card.neuron, card.row.hypothesis) == ("L1.c2", "in_quote")
    for excerpt in card.excerpts:
        assert len(excerpt.text) == len(excerpt.values) == len(excerpt.labels)
        assert excerpt.text in "".join(part.text for part in cut(corpus))
    works = next(e for e in card.excerpts if e.why == "works")
    assert (np.sign(works.values) > 0).tolist() == (works.labels > 0).tolist()


def test_a_neuron_that_the_user_names_gets_the_only_card(corpus):
    findings = find_neurons(make_subject(corpus, planted(3, in_quote=1)), neuron=Neuron(2, "c", 4))
    (card,) = findings.cards
    assert card.neuron == "L2.c4"
    best = max(abs(r) for _, r in card.others)
    assert abs(card.row.r) > best - 0.1


def test_a_named_neuron_has_the_figures_of_the_board(corpus):
    subject = make_subject(corpus, planted(3, in_quote=1))
    (card,) = find_neurons(subject, neuron=Neuron(1, "c", 2)).cards
    row = by_name(find_neurons(subject))["in_quote"]
    assert card.row.hypothesis == "in_quote"
    assert (card.row.r, card.row.ap, card.row.r_untrained) == (row.r, row.ap, row.r_untrained)


def test_a_named_neuron_is_corrected_for_all_hypotheses(corpus, monkeypatch):
    monkeypatch.setattr(neurons, "swap_null", lambda a, y, chosen: [0.02, *[0.9] * (len(chosen) - 1)])
    subject = make_subject(corpus, planted(3, in_quote=1))
    (card,) = find_neurons(subject, neuron=Neuron(1, "c", 2)).cards
    row = by_name(find_neurons(subject))["in_quote"]
    assert (card.row.hypothesis, card.row.neuron) == ("in_quote", row.neuron)
    assert card.row.q == row.q == pytest.approx(0.06)
    assert card.row.verdict == row.verdict == "not found"


def test_a_named_neuron_that_never_changes_can_be_shown(corpus):
    network = planted(3, in_quote=1)
    with torch.no_grad():
        plant = Plant(network, 7)
        plant.bias("i", 30)
        plant.bias("g", 30)  # c grows without end
    findings = find_neurons(make_subject(corpus, network), neuron=Neuron(1, "c", 7))
    print_findings(findings, Console(file=io.StringIO(), width=98))
    assert findings.cards[0].neuron == "L1.c7"


# interventions on the way to the verdict


@pytest.fixture(scope="module")
def used():
    """A network whose readout uses a flag that only one neuron keeps, and the text that has it."""
    network = plant_flags(random_network(1, layers=1, hidden=32), [2], 3)
    return network, [two_alphabets(seed, 1_000) for seed in range(48)]


def test_a_neuron_that_is_used_is_held_and_judged_and_shown(tmp_path, used):
    network, texts = used
    subject = make_subject(write_corpus(tmp_path / "used", texts), network, asked=[PARENTHESES, SPACE])
    said = []
    findings = neurons.find_neurons(subject, progress=said.append)
    row = by_name(findings)["in_parentheses"]
    assert (row.neuron, row.verdict) in (("L1.c2", "used"), ("L1.c2", "drives"))
    assert row.cause.alone.held == ("L1.c2",) and row.cause.alone.on > 0.1
    assert row.steering is not None and (row.verdict == "drives") == row.steering.beats
    assert findings.rows[0] == row and findings.ablation == "mean"
    card = findings.cards[0]
    assert {name for name, _ in card.next_characters[-5:]} == set("efgh(")
    assert all(nats < 0 for _, nats in card.next_characters[-5:])
    assert all(abs(r) >= 0.7 for _, r in card.alike)
    assert any(text.startswith("holding neurons") for text in said)
    json.dumps(findings.to_json(), allow_nan=False)


def test_a_named_neuron_is_held_and_steered_whatever_its_verdict(tmp_path, used):
    network, texts = used
    subject = make_subject(write_corpus(tmp_path / "used", texts[:44]), network, asked=[PARENTHESES])
    question = Question(neuron=Neuron(1, "c", 20), steer=True, ablation="zero")
    findings = neurons.find_neurons(subject, question)
    row = findings.cards[0].row
    assert row.neuron == "L1.c20" and row.cause.alone.value == 0.0
    assert row.steering is not None and row.steering.high.value != row.steering.low.value
    assert all(other.cause is None for other in findings.rows)


def test_a_named_neuron_is_shown_where_nothing_can_be_swapped(tmp_path, texts):
    corpus = write_corpus(tmp_path / "few", [text[:900] for text in texts[:10]])
    question = Question(neuron=Neuron(1, "c", 2), steer=True)
    findings = neurons.find_neurons(make_subject(corpus, planted(3, in_quote=1)), question)
    assert findings.cards[0].row.verdict == "no valid null"
    assert findings.cards[0].row.cause is None
    (told,) = findings.notices
    assert "too short to hold neurons" in told and "no steering" in told
    json.dumps(findings.to_json(), allow_nan=False)
    print_findings(findings, Console(file=io.StringIO(), width=98))


def test_short_documents_have_causes_and_steering(tmp_path, used):
    """Each is a line, shorter than an excerpt usually is; texts are written no longer."""
    network, _ = used
    corpus = write_corpus(tmp_path / "lines", [two_alphabets(seed, 50) for seed in range(800)])
    question = Question(neuron=Neuron(1, "c", 2), steer=True)
    findings = neurons.find_neurons(make_subject(corpus, network, asked=[PARENTHESES]), question)
    (card,) = findings.cards
    assert card.row.cause.alone.beats and card.row.cause.alone.on > 0.1
    assert len(card.row.steering.free.sample) == 50 and len(card.row.steering.controls) == 20
    assert findings.notices == ()


def test_labels_from_a_file_are_not_steered_by(tmp_path, used):
    network, texts = used

    def label(text, profile):
        raise AssertionError("asked about new text")

    whole = np.concatenate([in_parentheses(text, None) for text in texts])
    labels = replace(own("mine", label, lookahead=True), whole=whole)
    subject = make_subject(write_corpus(tmp_path / "labels", texts), network, asked=[labels])
    findings = neurons.find_neurons(subject, Question(neuron=Neuron(1, "c", 2), steer=True))
    row = findings.cards[0].row
    assert row.cause.alone.on > 0.1 and row.steering is None
    assert findings.notices == ("`mine` is a file of labels, which says nothing of new text: no steering",)
    assert findings.to_json()["notices"] == list(findings.notices)


def test_steering_without_holding_is_an_error():
    with pytest.raises(InspectionError, match="`--ablation none` holds none"):
        Question(neuron=Neuron(1, "c", 2), steer=True, ablation=None)


def test_one_document_resampled_from_itself_is_told(tmp_path, used):
    network, texts = used
    corpus = write_corpus(tmp_path / "one", ["".join(texts)])
    subject = make_subject(corpus, network, asked=[PARENTHESES])
    for ablation, count in (("resample", 1), ("mean", 0)):
        told = neurons.find_neurons(subject, Question(neuron=Neuron(1, "c", 2), ablation=ablation)).notices
        assert len(told) == count and all("of one document" in text for text in told)


def test_the_card_says_what_ends_and_what_the_readout_says(tmp_path, used):
    network, texts = used
    subject = make_subject(write_corpus(tmp_path / "used", texts[:44]), network, asked=[PARENTHESES])
    (card,) = neurons.find_neurons(subject, Question(neuron=Neuron(1, "c", 2))).cards
    assert card.closing.char == ")" and card.closing.share == 1 and card.closing.inside < 0
    assert {name for name, _ in card.direct_characters[-5:]} == set("efgh(")
    data = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert data["closing"]["char"] == ")" and data["row"]["cause"]["agrees"] is True
    assert len(data["direct_characters"]) == 12
