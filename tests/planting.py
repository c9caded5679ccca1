"""Texts with quotations and parentheses, and networks with neurons written by hand to track them."""

from __future__ import annotations

import numpy as np
import torch

from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection import hypotheses
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.pieces import Piece, cut_pieces
from charrnn.inspection.subject import Subject
from charrnn.model.network import Network
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, 'abcdefgh ()"\n'))
PROFILE = TextProfile("prose", 60, 1)
HIDDEN = 12
DOCUMENT = 1_600
"""Characters of a document: one piece."""


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


# networks


def random_network(seed, cell="lstm", layers=2, hidden=HIDDEN):
    return Network(ModelConfig(cell, hidden, layers, dropout=0.0), len(VOCABULARY), seed).eval()


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
        return ("ifgo".index(gate) if isinstance(gate, str) else gate) * self.layer.hidden_size + self.index

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


def planted(seed, /, layers=2, hidden=HIDDEN, **signs):
    """A random network with one neuron for each name: the first at index 2, the next at 5, then 8."""
    network = random_network(seed, layers=layers, hidden=hidden)
    with torch.no_grad():
        for place, (name, sign) in enumerate(signs.items()):
            PLANTS[name](network, 2 + 3 * place, sign)
    return network


def make_subject(corpus, network, parts=None, asked=ASKED, twin=None):
    config = network.config
    return Subject(
        run="mine",
        network=network,
        twin=twin or random_network(1000, config.cell, config.num_layers, config.hidden_size),
        vocabulary=VOCABULARY,
        table=corpus.id_table(VOCABULARY),
        pieces=cut(corpus, asked) if parts is None else parts,
        hypotheses=asked,
        profile=PROFILE,
    )


# a flag that the next character depends on


def two_alphabets(seed, length):
    """Words of e … h, and now and then some of a … d in parentheses."""
    random, text, inside = np.random.default_rng(seed), "", False
    while len(text) < length:
        if random.random() < (0.35 if inside else 0.06):
            text, inside = text + ("(", ")")[inside], not inside
        letters = random.choice(list("abcd" if inside else "efgh"), random.integers(1, 7))
        text += "".join(letters) + " "
    return text[:length]


def plant_flags(network, indices, strength):
    """Plant copies of a parentheses flag that nothing reads but the readout: inside, it rules out e … h."""
    with torch.no_grad():
        for index in indices:
            plant_parentheses(network, index)
            network.layers[0].weight_hh_l0[:, index] = 0
            network.readout.weight[:, index] = 0
            for char in "efgh(":
                network.readout.weight[id_of(char), index] = -strength
    return network


def piece_of(text, number, labels, skip=0):
    """A piece whose places are ids already."""
    return Piece(text, VOCABULARY.encode(text), np.asarray(labels, np.float32), skip, number, 0, False)
