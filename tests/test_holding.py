"""What a user writes to hold a neuron: good spellings are taken at their word, bad ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.config import CELLS, ModelConfig
from charrnn.errors import InspectionError
from charrnn.inspection.holding import check_kind, named_neuron, neuron_kinds, parse_holds
from charrnn.inspection.names import Neuron
from charrnn.model.holds import Held
from charrnn.model.network import new_network

ACTIVATIONS = np.linspace(-0.4, 0.8, 241).astype(np.float32)


def network_of(cell="lstm"):
    return new_network(ModelConfig(cell=cell, hidden_size=5, num_layers=2), 7, 1)


def parse(*holds, cell="lstm", activations=lambda neuron: ACTIVATIONS):
    return parse_holds(network_of(cell), holds, activations)


def refuse(neuron):
    raise AssertionError(f"nobody asked for {neuron}")


@pytest.mark.parametrize(
    ("spelling", "held"),
    [
        ("L1.c0=0.9", Held(1, "c", 0, 0.9)),
        ("L2.c4=-.5", Held(2, "c", 4, -0.5)),
        (" L2.h3 = 1 ", Held(2, "h", 3, 1.0)),
        ("L1.f2=1e-3", Held(1, "f", 2, 0.001)),
        ("L1.i0=0", Held(1, "i", 0, 0.0)),
        ("L1.g1=-1", Held(1, "g", 1, -1.0)),
        ("L2.o4=+0.25", Held(2, "o", 4, 0.25)),
    ],
)
def test_a_number_is_taken_at_its_word(spelling, held):
    assert parse(spelling, activations=refuse) == [held]


def test_several_holds_stay_in_their_order():
    assert [h.index for h in parse("L1.c3=0", "L1.c1=0", "L2.c3=0", activations=refuse)] == [3, 1, 3]
    assert parse() == []


@pytest.mark.parametrize(("word", "value"), [("p05", -0.34), ("p95", 0.74), ("mean", 0.2), (" p95 ", 0.74)])
def test_words_are_what_the_neuron_itself_does(word, value):
    asked = []

    def activations(neuron):
        asked.append(neuron)
        return ACTIVATIONS

    (held,) = parse(f"L2.c3={word}", activations=activations)
    assert held.value == pytest.approx(value, abs=1e-6) and type(held.value) is float
    assert asked == [Neuron(2, "c", 3)]


LSTM = {"h": (-1, 1), "c": (-1, 1), "i": (0, 1), "f": (0, 1), "o": (0, 1), "g": (-1, 1), "raw": (-1e6, 1e6)}
ENDS = {
    "lstm": LSTM,
    "gru": {"h": (-1, 1), "r": (0, 1), "z": (0, 1), "n": (-1, 1)},
    "elman": {"h": (-1, 1)},
    "elman_relu": {"h": (0, 1e6)},
    "jordan": {"h": (-1, 1), "s": (-1e6, 1e6)},
    "mingru": {"h": (0, 1e6), "z": (0, 1)},
    "minlstm": {"h": (0, 1e6), "i": (0, 1), "f": (0, 1)},
    "esn": {"h": (-1, 1)},
    "compressor": LSTM,
}


@pytest.mark.parametrize("cell", list(CELLS))
def test_every_kind_of_every_cell_has_its_range(cell):
    assert set(neuron_kinds(network_of(cell))) == set(ENDS[cell])
    for kind, (low, high) in ENDS[cell].items():
        for inside in (low, high, (low + high) / 2):
            assert parse(f"L1.{kind}0={inside}", cell=cell)[0].value == inside
        for outside in (low - 0.001 * (high - low), high * 1.001, "nan", "inf", "-inf", "1e400"):
            with pytest.raises(
                InspectionError, match=rf"`L1.{kind}0` cannot be held at `{outside}`"
            ) as caught:
                parse(f"L1.{kind}0={outside}", cell=cell)
            assert f"from {low} to {high}" in caught.value.hint and "p05, p95, mean" in caught.value.hint


@pytest.mark.parametrize(
    ("spelling", "says"),
    [
        ("L1.c0", "`L1.c0` does not say what to hold"),
        ("", "`` does not say what to hold"),
        ("0.9", "does not say what to hold"),
        ("L1.c0:0.9", "does not say what to hold"),
        ("=0.9", "`` is no neuron"),
        ("17=0.9", "`17` is no neuron"),
        ("l1.c0=0.9", "is no neuron"),
        ("L1.c5=0.9", "no neuron `L1.c5`"),
        ("L3.c0=0.9", "no neuron `L3.c0`"),
        ("L0.c0=0.9", "no neuron `L0.c0`"),
        ("L1.z0=0.9", "no neuron `L1.z0`"),
        ("L1.c0=", "cannot be held at ``"),
        ("L1.c0=high", "cannot be held at `high`"),
        ("L1.c0=p50", "cannot be held at `p50`"),
        ("L1.c0=Mean", "cannot be held at `Mean`"),
        ("L1.c0=0,9", "cannot be held at `0,9`"),
        ("L1.c0=0.9=0.8", "cannot be held at `0.9=0.8`"),
        ("L1.c0=90%", "cannot be held at `90%`"),
    ],
)
def test_bad_spellings_are_refused(spelling, says):
    with pytest.raises(InspectionError) as caught:
        parse("L1.c1=0", spelling, activations=refuse)
    assert says in str(caught.value) and caught.value.hint


def test_kinds_and_names_are_those_of_the_network():
    assert named_neuron(network_of("gru"), "L2.z4") == Neuron(2, "z", 4)
    with pytest.raises(InspectionError, match=r"has no neuron `L2\.c4`"):
        named_neuron(network_of("gru"), "L2.c4")
    check_kind(network_of("gru"), None)
    check_kind(network_of("gru"), "z")
    with pytest.raises(InspectionError, match="there are no `c` neurons") as caught:
        check_kind(network_of("gru"), "c")
    assert caught.value.hint == "known: h, r, z, n"
