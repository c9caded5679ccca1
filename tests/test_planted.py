"""Planted truth: behaviours are written into random networks, and the inspector must say what they are.

A plant is a neuron whose weights are set by hand. It hears only what it is told to, and no other neuron
hears it, so nothing else in the network knows what it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection import hypotheses
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.hypotheses.custom import resolve_all
from charrnn.inspection.names import Neuron
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.pieces import cut_pieces
from charrnn.inspection.subject import Subject
from charrnn.model.network import Network
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source
from charrnn.text.vocabulary import Vocabulary

HIDDEN = 48
DOCUMENTS, LENGTH = 44, 1_000
"""22 documents report, so that it is documents that are swapped."""
OUTSIDE, INSIDE = "abcdefgh", "ijklmnop"
"""Letters that are more frequent outside and inside quotations."""
PREFERENCE = 0.7
VOCABULARY = Vocabulary.of_chars(map(ord, OUTSIDE + INSIDE + ' ()"\n'))
PROFILE = TextProfile("prose", 60, 1)
NAMES = ("drives", "used", "tracks", "redundant")
"""Verdicts that name a neuron."""
WITHOUT_CAUSES = Question(ablation=None)


# text


def document(seed, drifts=False, length=LENGTH):
    """Words in lines of random length; quotations and parentheses open and close on their own."""
    random = np.random.default_rng(seed)
    text, quoted, enclosed = "", False, False
    while len(text) < length:
        opens = 0.3 * len(text) / length if drifts else 0.12
        if random.random() < (0.4 if quoted else opens):
            text, quoted = text + '"', not quoted
        if random.random() < 0.15:
            text, enclosed = text + ")("[not enclosed], not enclosed
        usual = random.random(int(random.integers(1, 9))) < (0.5 if drifts else PREFERENCE)
        text += "".join(random.choice(list(INSIDE if own == quoted else OUTSIDE)) for own in usual) + " "
    return in_lines(text, random)[:length]


def in_lines(text, random):
    lines, begin = [], 0
    while begin < len(text):
        length = int(random.integers(10, 80))
        lines.append(text[begin : begin + length])
        begin += length
    return "\n".join(lines)


def write_corpus(folder, texts):
    sources = []
    for number, text in enumerate(texts):
        path = folder / f"{number:02}.txt"
        path.write_bytes(text.encode())
        sources.append(Source(path.name, path))
    return open_corpus(sources, TextConfig())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("texts"), [document(n) for n in range(DOCUMENTS)])


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    texts = [document(n, drifts=True) for n in range(DOCUMENTS)]
    return write_corpus(tmp_path_factory.mktemp("drifting"), texts)


# hypotheses


def in_parentheses(text, profile):
    inside, labels = False, []
    for char in text:
        inside = char == "(" or (inside and char != ")")
        labels.append(inside)
    return np.array(labels, np.float32)


def either(text, profile):
    return np.abs(in_parentheses(text, profile) - QUOTE.label(text, profile))


def quote_before(text, profile):
    """In a quotation three characters ago."""
    return np.concatenate((np.zeros(3, np.float32), QUOTE.label(text, profile)))[: len(text)]


def own(name, label, *, lookahead=False):
    return Hypothesis(name, "binary", frozenset({"prose"}), "for tests", lookahead, label)


QUOTE, COLUMN, SPACE = map(hypotheses.get, ("in_quote", "column", "is_space"))
PARENTHESES, EITHER = own("in_parentheses", in_parentheses), own("either", either)
DELAYED = own("quote_before", quote_before)
ASKED = (QUOTE, COLUMN, PARENTHESES, EITHER, SPACE)


# networks


def random_network(seed):
    return Network(ModelConfig("lstm", HIDDEN, 1, dropout=0.0), len(VOCABULARY), seed).eval()


def id_of(char):
    return 0 if char == "^" else int(VOCABULARY.encode(char)[0])  # ^ is the boundary


class Plant:
    """A neuron that keeps its c whatever happens, until its gates are told otherwise."""

    def __init__(self, network, index):
        self.layer, self.index = network.layers[0], index
        for gate in "ifgo":
            for parameter in self.layer.parameters():
                parameter[self.row(gate)] = 0
        self.layer.weight_hh_l0[:, index] = 0
        network.readout.weight[:, index] = 0
        self.always(i=-30, f=30, o=30)

    def row(self, gate):
        return "ifgo".index(gate) * HIDDEN + self.index

    def always(self, **gates):
        for gate, value in gates.items():
            self.layer.bias_ih_l0[self.row(gate)] = value

    def at(self, chars, **gates):
        for gate, value in gates.items():
            for char in chars:
                self.layer.weight_ih_l0[self.row(gate), id_of(char)] = value

    def hears(self, other, **gates):
        for gate, value in gates.items():
            self.layer.weight_hh_l0[self.row(gate), other] = value


def quotes(network, index, sign=1, marks='"'):
    """Every mark turns c from -1 to 1 and back; a document begins at -1."""
    plant = Plant(network, index)
    plant.at(marks + "^", i=60, f=-60)
    plant.at("^", g=-20 * sign)
    plant.hears(index, g=-30)


def parentheses(network, index, sign=1):
    plant = Plant(network, index)
    plant.at("(", i=60, f=-60, g=20 * sign)
    plant.at(")", f=-60)


def one_of_both(network, index, sign=1):
    """In a quotation or in parentheses, but not in both: every mark of either kind turns it around."""
    quotes(network, index, sign, marks='"()')


def column(network, index, sign=1):
    plant = Plant(network, index)
    plant.always(i=30, g=0.005 * sign)
    plant.at("\n", i=-60, f=-60)


def fading(network, index, sign=1):
    """A newline sets c to 1/2, and a tenth of it is lost with every character."""
    plant = Plant(network, index)
    plant.always(f=-np.log(np.expm1(1 / 10)))
    plant.at("\n^", i=60, f=-60, g=np.arctanh(0.5) * sign)


def space(network, index, sign=1):
    """The current character and nothing else."""
    plant = Plant(network, index)
    plant.always(i=30, f=-30)
    plant.at(" \n", g=20 * sign)


def drift(network, index, sign=1):
    plant = Plant(network, index)
    plant.always(i=30, g=sign / LENGTH)
    plant.at("^", i=-60, f=-60)


def copy(network, index, of):
    """What another neuron was one character before."""
    plant = Plant(network, index)
    plant.always(i=30, f=-30)
    plant.hears(of, g=30)


def gate(network, index):
    """In parentheses: a latch that the output gate holds through h, as c never changes."""
    plant = Plant(network, index)
    plant.at("^", i=60, g=30)
    plant.always(o=-15)
    plant.at("(", o=60)
    plant.at(")", o=-60)
    plant.hears(index, o=40)


def planted(seed, *plants):
    """Return a random network with plants, each a function and what it takes after the network."""
    network = random_network(seed)
    with torch.no_grad():
        for plant, *how in plants:
            plant(network, *how)
    return network


def readout(network, flags, enough=1):
    """Let flags predict the letters and the marks of quotations; so many of them say all there is to say."""
    weight, bias = network.readout.weight, network.readout.bias
    height = np.tanh(1.0) * enough
    bias[:] = np.log(0.045)
    bias[[0, 1]] = -10.0  # neither boundaries nor escapes
    bias[id_of(" ")] = np.log(0.18)
    bias[id_of('"')] = np.log(0.04)
    half = np.log(PREFERENCE / (1 - PREFERENCE)) / 2
    for chars, tilt in ((INSIDE, half), (OUTSIDE, -half), ('"', 0.75)):
        for char in chars:
            weight[id_of(char), flags] = tilt / height
    return network


# the inspector's answer


@dataclass(frozen=True)
class Truth:
    """What must be said of a planted neuron.

    Args:
        plant: Writes it.
        hypothesis: What it goes with.
        r: Smallest |r|.
        verdict: Without interventions.
    """

    plant: object
    hypothesis: Hypothesis
    r: float
    verdict: str = "tracks"


TRUTHS = {
    "flag": Truth(quotes, QUOTE, 0.99),
    "other_flag": Truth(parentheses, PARENTHESES, 0.99),
    "counter": Truth(column, COLUMN, 0.99),
    "fading_counter": Truth(fading, COLUMN, -0.5),
    "exclusive_or": Truth(one_of_both, EITHER, 0.99),
    "char_detector": Truth(space, SPACE, 0.99, "char detector"),
}
"""By name; an r below 0 is the opposite of the plant's own sign."""


def make_subject(corpus, network, asked=ASKED, twin=None):
    return Subject(
        run="planted",
        network=network,
        twin=twin or random_network(1000),
        vocabulary=VOCABULARY,
        table=corpus.id_table(VOCABULARY),
        pieces=cut_pieces(corpus, [(0, len(corpus.places))], asked, PROFILE),
        hypotheses=asked,
        profile=PROFILE,
    )


def inspected(corpus, network, question=WITHOUT_CAUSES, asked=ASKED, twin=None):
    findings = find_neurons(make_subject(corpus, network, asked, twin), question)
    return {row.hypothesis: row for row in findings.rows}


def named(rows):
    return {name: row.neuron for name, row in rows.items() if row.verdict in NAMES}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", TRUTHS)
def test_a_plant_is_found_with_its_sign_and_at_once(corpus, name, sign):
    truth = TRUTHS[name]
    network = planted(3, (truth.plant, 17, sign))
    row = inspected(corpus, network, asked=(truth.hypothesis,))[truth.hypothesis.name]
    assert (row.neuron, row.verdict) == ("L1.c17", truth.verdict)
    assert np.sign(row.r) == sign * np.sign(truth.r)
    assert abs(row.r) > abs(truth.r)
    assert row.p == 1 / 1000
    if row.type == "binary":
        assert (row.measures.latency_on, row.measures.latency_off) == (0, 0)


def test_many_plants_in_one_network_are_told_apart(corpus):
    signs = {"flag": 1, "other_flag": -1, "counter": -1, "exclusive_or": 1, "char_detector": -1}
    plants = {name: (TRUTHS[name].plant, 9 * n + 4, sign) for n, (name, sign) in enumerate(signs.items())}
    rows = inspected(corpus, planted(5, *plants.values()))
    for name, (_, index, sign) in plants.items():
        row = rows[TRUTHS[name].hypothesis.name]
        assert (row.neuron, row.verdict, np.sign(row.r)) == (f"L1.c{index}", TRUTHS[name].verdict, sign)


def test_a_counter_and_a_fading_one_count_in_their_own_way(corpus):
    for plant, shape, slope in ((column, "linear", 0.005), (fading, "exp(-k/10)", -0.005)):
        measures = inspected(corpus, planted(3, (plant, 17)), asked=(COLUMN,))["column"].measures
        assert measures.shape == shape
        assert abs(measures.r_shape) > 0.97
        assert measures.slope_per_char == pytest.approx(slope, rel=0.4)
        assert measures.eta2 > measures.eta2_on_off + 0.5


def test_raw_shows_a_count_where_its_tanh_is_saturated(corpus):
    network = planted(3, (column, 17))
    with torch.no_grad():
        network.layers[0].bias_ih_l0["ifgo".index("g") * HIDDEN + 17] = 0.1
    found = {
        kind: inspected(corpus, network, Question(kind=kind, ablation=None), (COLUMN,))["column"]
        for kind in ("c", "raw")
    }
    assert (found["raw"].neuron, found["raw"].measures.shape) == ("L1.raw17", "linear")
    assert found["raw"].r > 0.9999 and found["c"].r < 0.9
    assert found["raw"].measures.slope_per_char == pytest.approx(np.tanh(0.1), rel=1e-3)


def chain(seed):
    """A flag, and three neurons that pass it on, one character each."""
    return planted(seed, (quotes, 10), (copy, 11, 10), (copy, 12, 11), (copy, 13, 12))


@pytest.mark.parametrize("delay", range(4))
def test_the_latency_of_a_delayed_flag_is_its_delay(corpus, delay):
    question = Question(neuron=Neuron(1, "c", 10 + delay), ablation=None)
    (card,) = find_neurons(make_subject(corpus, chain(3), (QUOTE,)), question).cards
    assert (card.neuron, card.row.verdict) == (f"L1.c{10 + delay}", "tracks")
    assert (card.row.measures.latency_on, card.row.measures.latency_off) == (delay, delay)


def test_a_delayed_flag_is_the_best_neuron_for_what_was_before(corpus):
    rows = inspected(corpus, chain(3), asked=(QUOTE, DELAYED))
    assert named(rows) == {"in_quote": "L1.c10", "quote_before": "L1.c13"}
    assert rows["quote_before"].measures.latency_on == 0


def test_what_only_a_gate_shows_is_found_in_the_gate(corpus):
    network = planted(3, (gate, 17))
    row = inspected(corpus, network, Question(kind="o", ablation=None), (PARENTHESES,))["in_parentheses"]
    assert (row.neuron, row.verdict, row.measures.latency_on) == ("L1.o17", "tracks", 0)
    assert row.r > 0.99
    assert named(inspected(corpus, network, asked=(PARENTHESES,))) == {}


# causes


@pytest.mark.parametrize(
    ("sign", "kind", "ablation"),
    [(1, "c", "mean"), (-1, "c", "mean"), (1, "h", "mean"), (1, "c", "resample"), (1, "raw", "mean")],
)
def test_a_flag_that_predicts_letters_and_marks_drives(corpus, sign, kind, ablation):
    network = planted(3, (quotes, 17, sign), (parentheses, 30))
    with torch.no_grad():
        readout(network, [17])
        network.readout.weight[:, 17] *= sign
    question = Question(kind=kind, ablation=ablation)
    rows = inspected(corpus, network, question, (QUOTE, PARENTHESES))
    row, idle = rows["in_quote"], rows["in_parentheses"]
    assert (row.neuron, row.verdict) == (f"L1.{kind}17", "drives")
    assert (idle.neuron, idle.verdict) == (f"L1.{kind}30", "tracks")
    assert row.cause.alone.on > max(0.1, row.cause.alone.off + 0.05)
    assert row.steering.high.score > row.steering.free.score + 0.1
    held = [setting.value * sign for setting in (row.steering.high, row.steering.low)]
    end = 1 if kind == "raw" else np.tanh(1)
    assert held == pytest.approx([end, -end], abs=1e-5)


def test_three_copies_of_a_flag_are_redundant(corpus):
    """Any two of them are enough."""
    network = planted(3, (quotes, 10), (quotes, 20), (quotes, 30))
    with torch.no_grad():
        readout(network, [10, 20, 30], enough=2)
    row = inspected(corpus, network, Question(), (QUOTE,))["in_quote"]
    assert row.verdict == "redundant"
    assert set(row.cause.group.held) == {"L1.c10", "L1.c20", "L1.c30"}
    assert row.cause.alone.on < 0.01
    assert row.cause.group.on > 0.1


# impostors


def test_what_is_said_to_look_ahead_is_found_at_most(corpus):
    ahead = own("ahead", in_parentheses, lookahead=True)
    row = inspected(corpus, planted(3, (parentheses, 17)), Question(), (ahead,))["ahead"]
    assert (row.neuron, row.verdict) == ("L1.c17", "found")


def test_a_label_that_uses_the_next_character_is_found_at_most(corpus, tmp_path):
    """Nobody says that it looks ahead: the inspector notices."""
    path = tmp_path / "impostor.py"
    path.write_text(
        "import numpy as np\n\n\ndef soon(text):\n"
        '    opened = np.cumsum([(c == "(") - (c == ")") for c in text])\n'
        "    return np.append(opened[1:], opened[-1]).astype(np.float32)\n"
    )
    (impostor,) = resolve_all([f"{path}:soon"], document(0), PROFILE)
    (row,) = inspected(corpus, planted(3, (parentheses, 17)), asked=(impostor,)).values()
    assert (row.neuron, row.verdict) == ("L1.c17", "found")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_neuron_that_drifts_as_labels_do_is_not_named(drifting, sign):
    network = planted(3, (drift, 17, sign))
    row = inspected(drifting, network, asked=(QUOTE,))["in_quote"]
    assert row.neuron == "L1.c17"
    assert row.r * sign > 0.2
    assert row.verdict == "not found"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Documents so few that blocks of them are swapped; whole of the first one of each is a begin."""
    texts = [document(n, length=8_000) for n in range(10)]
    return write_corpus(tmp_path_factory.mktemp("few"), texts)


def fresh(network, index, sign=1):
    """On where reading begins, and less with every character: all that it knows is where it is."""
    plant = Plant(network, index)
    plant.always(f=6.5)
    plant.at("^", i=60, f=-60, g=20 * sign)


def begin(text, profile):
    """The first thousand characters, and a few places elsewhere."""
    place = np.arange(len(text))
    return ((place < 1_000) | (place // 50 * 7 % 10 == 0)).astype(np.float32)


BEGIN = own("begin", begin)


@pytest.mark.parametrize("sign", [1, -1])
def test_where_blocks_are_swapped_the_place_in_the_text_names_no_neuron(few, sign):
    network = planted(3, (fresh, 17, sign), (quotes, 30, sign))
    subject = make_subject(few, network, (BEGIN, QUOTE, hypotheses.get("document_position")))
    findings = find_neurons(subject, WITHOUT_CAUSES)
    rows = {row.hypothesis: row for row in findings.rows}
    begin, quote, position = rows["begin"], rows["in_quote"], rows["document_position"]
    assert (findings.null_by, findings.null_units) == ("blocks", 20)
    assert (begin.neuron, begin.verdict) == ("L1.c17", "not found")
    assert sign * begin.r > 0.25 and abs(begin.r_position) < 0.1
    assert (quote.neuron, quote.verdict) == ("L1.c30", "tracks")
    assert quote.r_position == pytest.approx(quote.r, abs=0.1)
    assert (position.p, position.verdict, position.r_position) == (1.0, "not found", 0.0)


def test_where_documents_are_swapped_position_needs_no_care(corpus):
    row = inspected(corpus, planted(3, (quotes, 17)), asked=(QUOTE,))["in_quote"]
    assert row.r_position is None


# nothing


@pytest.fixture(scope="module")
def strangers(corpus):
    """Pieces of text with the labels of the next document of their half."""
    subject = make_subject(corpus, random_network(1))
    halves = [subject.half(chooses) for chooses in (True, False)]
    return [
        replace(piece, labels=other.labels)
        for half in halves
        for piece, other in zip(half, half[1:] + half[:1], strict=True)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_labels_of_other_documents_name_no_neuron(corpus, strangers, seed):
    """Half of the networks know something, but not of these documents."""
    network = (
        planted(seed, (quotes, 10), (parentheses, 20), (column, 30)) if seed % 2 else random_network(seed)
    )
    subject = replace(make_subject(corpus, network), pieces=strangers)
    assert {row.verdict for row in find_neurons(subject, WITHOUT_CAUSES).rows} == {"not found"}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_named_in_a_network_that_has_learned_nothing(corpus, seed):
    """Its twins are three others like it; ``benchmarks/calibration.py`` tells how often one is named."""
    twin, *more = (random_network(1_000 + 3 * seed + number) for number in range(3))
    subject = replace(make_subject(corpus, random_network(seed), twin=twin), more_twins=more)
    rows = find_neurons(subject, WITHOUT_CAUSES).rows
    assert named({row.hypothesis: row for row in rows}) == {}
    assert any(row.q <= 0.05 for row in rows)  # chance alone would name it
