"""Finding neurons: planted ones are named, nothing else is, and the figures come from other text."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats

from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import InspectionError
from charrnn.inspection import hypotheses
from charrnn.inspection.cards import make_card
from charrnn.inspection.findings import Row
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.names import Neuron, parse_neuron
from charrnn.inspection.neurons import Subject, find_neurons, verdict
from charrnn.inspection.pieces import GAP_CHARS, WARM_UP_CHARS, Piece, cut_pieces
from charrnn.model.network import Network
from charrnn.rendering.neurons import print_findings
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, 'abcdefgh ()"\n'))
PROFILE = TextProfile("prose", 60, 1)
HIDDEN = 12
DOCUMENT = 4_200
"""Two blocks of the null and the warm-up."""


def in_parentheses(text, profile):
    inside, labels = False, []
    for char in text:
        inside = char == "(" or (inside and char != ")")
        labels.append(inside)
    return np.array(labels, np.float32)


def everywhere(text, profile):
    return np.ones(len(text), np.float32)


def twice(text, profile):
    labels = np.zeros(len(text), np.float32)
    labels[100:110] = 1
    return labels


def own(name, label, *, lookahead=False):
    return Hypothesis(name, "binary", frozenset({"prose"}), "for tests", lookahead, label)


PARENTHESES = own("in_parentheses", in_parentheses)
QUOTE, COLUMN, SPACE, VOWEL = map(hypotheses.get, ("in_quote", "column", "is_space", "is_vowel"))
ASKED = [QUOTE, COLUMN, PARENTHESES, SPACE, VOWEL]


# text


def words(random, count):
    """Words, with quotations and parentheses that open and close whatever the other does."""
    text, marks = "", {"quote": '""', "parenthesis": "()"}
    for _ in range(count):
        for kind in [kind for kind in ("quote", "parenthesis") if random.random() < 0.15]:
            text += marks[kind][0]
            marks[kind] = marks[kind][::-1]
        text += "".join(random.choice(list("abcdefgh"), random.integers(1, 9))) + " "
    return text


def broken(text, random):
    """The text in lines of very different lengths."""
    lines, begin = [], 0
    while begin < len(text):
        length = int(random.integers(10, 90))
        lines.append(text[begin : begin + length])
        begin += length
    return "\n".join(lines)


def document(seed, length=DOCUMENT):
    random = np.random.default_rng(seed)
    return broken(words(random, length // 3), random)[:length]


def write_corpus(folder, texts):
    folder.mkdir(exist_ok=True)
    sources = []
    for number, text in enumerate(texts):
        path = folder / f"{number:04}.txt"
        path.write_bytes(text.encode())
        sources.append(Source(path.name, path))
    return open_corpus(sources, TextConfig())


def cut(corpus, asked=ASKED, **how):
    return cut_pieces(corpus, [(0, len(corpus.places))], asked, PROFILE, **how)


@pytest.fixture(scope="module")
def texts():
    return [document(seed) for seed in range(24)]


@pytest.fixture
def corpus(tmp_path, texts):
    return write_corpus(tmp_path / "texts", texts)


# networks


def random_network(seed, cell="lstm", layers=2):
    return Network(ModelConfig(cell, HIDDEN, layers, dropout=0.0), len(VOCABULARY), seed).eval()


def id_of(char):
    return int(VOCABULARY.encode(char)[0])


class Plant:
    """The gates of one neuron of an LSTM's first layer, written by hand; it reads nothing but itself."""

    def __init__(self, network, index):
        self.layer, self.index = network.layers[0], index
        for gate in range(4):
            row = self.row(gate)
            for parameter in self.layer.parameters():
                parameter[row] = 0
        self.bias("i", -30)
        self.bias("f", 30)
        self.bias("o", 30)

    def row(self, gate):
        return ("ifgo".index(gate) if isinstance(gate, str) else gate) * HIDDEN + self.index

    def bias(self, gate, value):
        self.layer.bias_ih_l0[self.row(gate)] = value

    def on(self, gate, chars, value):
        for char in chars:
            symbol = 0 if char == "^" else id_of(char)  # ^ is the boundary
            self.layer.weight_ih_l0[self.row(gate), symbol] = value

    def itself(self, gate, value):
        self.layer.weight_hh_l0[self.row(gate), self.index] = value


def plant_parentheses(network, index, sign=1):
    plant = Plant(network, index)
    plant.on("i", "(", 60)
    plant.on("f", "()", -60)
    plant.on("g", "(", 20 * sign)


def plant_quotes(network, index, sign=1):
    """Every quotation mark turns c from -1 to 1 and back; a document begins at -1."""
    plant = Plant(network, index)
    plant.on("i", '"^', 60)
    plant.on("f", '"^', -60)
    plant.on("g", "^", -20 * sign)
    plant.itself("g", -30)


def plant_column(network, index, sign=1):
    plant = Plant(network, index)
    plant.bias("i", 30)
    plant.bias("g", 0.02 * sign)
    plant.on("i", "\n", -60)
    plant.on("f", "\n", -60)


PLANTS = {"in_quote": plant_quotes, "column": plant_column, "in_parentheses": plant_parentheses}


def planted(seed, **signs):
    """A random network with one neuron for each name: the first at index 2, the next at 5, then 8."""
    network = random_network(seed)
    with torch.no_grad():
        for place, (name, sign) in enumerate(signs.items()):
            PLANTS[name](network, 2 + 3 * place, sign)
    return network


def make_subject(corpus, network, parts=None, asked=ASKED, twin=None):
    return Subject(
        run="mine",
        network=network,
        twin=twin or random_network(1000, network.config.cell, network.config.num_layers),
        table=corpus.id_table(VOCABULARY),
        pieces=cut(corpus, asked) if parts is None else parts,
        hypotheses=asked,
        profile=PROFILE,
    )


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
    for seed in range(10):
        network = planted(seed, in_quote=1, column=1, in_parentheses=1)
        rows = find_neurons(make_subject(corpus, network, parts)).rows
        assert len(rows) == len(ASKED)
        assert not {row.verdict for row in rows} & {"tracks", "found"}
        p += [row.p for row in rows if row.p is not None]
    assert sum(value <= 0.05 for value in p) <= stats.binom(len(p), 0.05).ppf(0.9999)


def test_a_random_network_against_another_tracks_nothing(corpus):
    parts = cut(corpus)
    for seed in range(4):
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
    assert (findings.documents, findings.pieces, findings.split_by) == (24, 24, "documents")
    assert findings.chars == 24 * (DOCUMENT - WARM_UP_CHARS)
    assert findings.neurons_tested == 2 * HIDDEN
    assert (findings.null_units, findings.null_by) == (24, "blocks")
    assert findings.float_error < 1e-5


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

GOOD = Row("x", "binary", "L1.c0", 0.6, 0.65, 0.5, 0.2, 0.5, 0.1, 0.001, 0.01, "")


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
        ({"q": None, "r_untrained": 0.9}, "no valid null"),
    ],
)
def test_verdicts(changes, expected):
    row = replace(GOOD, **changes)
    assert verdict(row, lookahead=False) == expected
    assert verdict(row, lookahead=True) == ("found" if expected == "tracks" else expected)


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


# pieces


def one_column(text, profile):
    return np.arange(len(text), dtype=np.float32)


COUNT = [Hypothesis("place", "count", frozenset({"prose"}), "for tests", False, one_column)]


def test_whole_documents_are_dealt_to_the_halves(tmp_path):
    corpus = write_corpus(tmp_path / "many", [document(n, 300 + 900 * n) for n in range(12)])
    parts = cut(corpus)
    halves = {part.document: part.chooses for part in parts}
    assert all(part.chooses == halves[part.document] for part in parts)
    sizes = [sum(len(p) for p in parts if p.chooses == chooses) for chooses in (True, False)]
    assert min(sizes) > 0.3 * sum(sizes)


def test_blocks_of_one_document_alternate_with_gaps(tmp_path):
    text = document(1, 55_000)
    parts = cut(write_corpus(tmp_path / "one", [text]), COUNT)
    assert [part.chooses for part in parts] == [True, False] * 3
    assert [part.skip for part in parts] == [WARM_UP_CHARS] + [GAP_CHARS] * 5
    assert "".join(part.text for part in parts) == text
    assert max(map(len, parts)) <= 10_000


def test_labels_are_those_of_the_whole_document(tmp_path):
    parts = cut(write_corpus(tmp_path / "one", [document(1, 35_000)]), COUNT)
    for part in parts:
        np.testing.assert_array_equal(part.labels[:, 0], part.begin + np.arange(len(part)))


def test_pieces_hold_the_text_of_their_places(tmp_path, texts):
    corpus = write_corpus(tmp_path / "some", [text + "é" for text in texts[:9]])
    for part in cut(corpus, COUNT):
        assert "".join(chr(corpus.universe[place]) for place in part.places) == part.text
        assert part.text == (texts[part.document] + "é")[part.begin : part.begin + len(part)]


def test_several_parts_are_read(tmp_path):
    text = document(1, 40_000)
    corpus = write_corpus(tmp_path / "one", [text])
    parts = cut_pieces(corpus, [(20_001, 30_001), (30_001, 40_001)], COUNT, PROFILE)
    assert "".join(part.text for part in parts) == text[20_000:]
    assert [part.document for part in parts] == [0, 1]


def test_much_text_is_thinned_evenly(tmp_path):
    corpus = write_corpus(tmp_path / "long", ["abcd " * 80_000])
    parts = cut(corpus, COUNT, max_chars=100_000)
    assert sum(map(len, parts)) == 100_000
    assert (parts[0].begin, parts[-1].begin + len(parts[-1])) == (0, 400_000)
    assert [part.chooses for part in parts] == [True, False] * 5


def test_bytes_have_one_character_per_place(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes(b"h\xc3\xa9\xff " * 6_000)
    corpus = open_corpus([Source("raw", path)], TextConfig(symbols="bytes"))
    part = cut(corpus, COUNT)[0]
    assert part.text.startswith("hÃ©ÿ hÃ©ÿ ")
    assert len(part.text) == len(part.places) == len(part.labels)


def test_half_of_a_very_short_document_is_scored(tmp_path, texts):
    corpus = write_corpus(tmp_path / "mixed", [*texts[:3], "short\n" * 5, *texts[3:9]])
    (short,) = [part for part in cut(corpus, COUNT) if "short" in part.text]
    assert (len(short), short.skip) == (30, 15)


@pytest.mark.parametrize("texts", [["abc"], ["abc " * 1000]])
def test_fewer_than_two_pieces_are_an_error(tmp_path, texts):
    with pytest.raises(InspectionError, match="too short"):
        cut(write_corpus(tmp_path / "short", texts), COUNT)


def test_one_long_document_among_short_ones_leaves_both_halves_text(tmp_path):
    corpus = write_corpus(
        tmp_path / "uneven", [document(0, 60_000), *[document(n, 300) for n in range(1, 9)]]
    )
    parts = cut(corpus, COUNT)
    sizes = [sum(len(p) - p.skip for p in parts if p.chooses == chooses) for chooses in (True, False)]
    assert min(sizes) > 0.2 * sum(sizes)


# cards


class FixedReport:
    """One neuron's activations, written by hand, over pieces with one hypothesis."""

    def __init__(self, values, labels):
        self.column = {0: 0}
        self.values = [np.asarray(v, np.float32)[:, None] for v in values]
        self.pieces = [
            Piece(
                "x" * len(y), np.zeros(len(y), np.uint8), np.asarray(y, np.float32)[:, None], 0, n, 0, False
            )
            for n, y in enumerate(labels)
        ]

    def joined(self, row, hypothesis):
        a = np.concatenate([v[:, 0] for v in self.values])
        y = np.concatenate([part.labels[:, 0] for part in self.pieces])
        scored = ~np.isnan(y)
        return a[scored], y[scored], np.zeros(int(scored.sum()))


def card_of(report, r):
    row = replace(GOOD, r=r, r_chosen=r)
    return make_card(row, 0, 0, [0], np.array([[r]]), report, [QUOTE])


def on_and_off(number, length=400):
    return (np.arange(length) // 40 % 2).astype(np.float32) if number else np.zeros(length, np.float32)


def flag_report(sign=1):
    """A flag that is wrongly on at character 200 of the third piece, wrongly off at 250 of the second."""
    labels = [on_and_off(n % 2) for n in range(4)]
    values = [sign * (0.8 * y + 0.02 * np.sin(np.arange(len(y)))) for y in labels]
    values[2][200] = sign * 0.9
    values[1][290] = 0.0
    return FixedReport(values, labels)


@pytest.mark.parametrize("sign", [1, -1])
def test_failures_come_first_and_are_failures(sign):
    on, off, works, anywhere = card_of(flag_report(sign), sign * 0.9).excerpts
    assert [e.why for e in (on, off, works, anywhere)] == ["fails on", "fails off", "works", "random"]
    assert on.labels[on.middle] == 0
    assert sign * on.values[on.middle] == pytest.approx(0.9)
    assert on.source.startswith("document 3, ")
    assert off.labels[off.middle] == 1
    assert off.values[off.middle] == 0
    assert 0 < np.mean(works.labels) < 1
    assert sign * np.corrcoef(works.values, works.labels)[0, 1] > 0.95


def test_a_place_that_is_not_scored_is_no_failure():
    report = flag_report()
    report.pieces[2].labels[195:210] = np.nan
    report.pieces[0].labels[:50] = np.nan
    on, off, *_ = card_of(report, 0.9).excerpts
    assert not np.isnan(on.labels[on.middle])
    assert on.values[on.middle] != np.float32(0.9)
    assert off.labels[off.middle] == 1


def test_a_neuron_that_is_very_much_on_where_it_should_be_does_not_fail():
    labels = [on_and_off(1) for _ in range(4)]
    values = [y * 0.2 for y in labels]
    values[1][50] = 1.0
    values[2][90] = 0.1
    on = card_of(FixedReport(values, labels), 0.9).excerpts[0]
    assert on.labels[on.middle] == 0


def test_a_neuron_that_is_very_much_off_where_it_should_be_does_not_fail():
    labels = [on_and_off(1) for _ in range(4)]
    values = [y * 0.2 for y in labels]
    values[1][90] = -1.0
    values[2][50] = 0.1
    off = card_of(FixedReport(values, labels), 0.9).excerpts[1]
    assert off.labels[off.middle] == 1


def test_figures_of_a_card():
    card = card_of(flag_report(), 0.9)
    a, y, _ = flag_report().joined(0, 0)
    assert card.mean_on == pytest.approx(a[y > 0].mean(), abs=1e-6)
    assert card.mean_off == pytest.approx(a[y == 0].mean(), abs=1e-6)
    assert card.quantiles == pytest.approx(np.quantile(a, (0.005, 0.05, 0.5, 0.95, 0.995)), abs=1e-6)


def test_cutting_an_excerpt_keeps_its_middle():
    excerpt = card_of(flag_report(), 0.9).excerpts[0]
    short = excerpt.cut(7, 3)
    assert (len(short.text), len(short.values), len(short.labels)) == (10, 10, 10)
    assert short.values[short.middle] == excerpt.values[excerpt.middle]
    assert excerpt.cut(10_000, 10_000).text == excerpt.text


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


def test_a_named_neuron_that_never_changes_can_be_shown(corpus):
    network = planted(3, in_quote=1)
    with torch.no_grad():
        plant = Plant(network, 7)
        plant.bias("i", 30)
        plant.bias("g", 30)  # c grows without end
    findings = find_neurons(make_subject(corpus, network), neuron=Neuron(1, "c", 7))
    print_findings(findings, Console(file=io.StringIO(), width=98))
    assert findings.cards[0].neuron == "L1.c7"
