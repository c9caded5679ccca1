"""Counters: the curve equals a slow loop's, its straight part is found, and the plot can be read."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from charrnn.config import ModelConfig
from charrnn.inspection import counter
from charrnn.inspection.choice import choose
from charrnn.inspection.counter import Counting, counter_curves, straight_part
from charrnn.inspection.curves import CounterCurve
from charrnn.inspection.findings import Card
from charrnn.inspection.hypotheses import TextProfile, get
from charrnn.inspection.names import Neuron
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.inspection.store import _plain, _restored
from charrnn.inspection.subject import Subject
from charrnn.model.network import Network
from charrnn.rendering.card import View
from charrnn.rendering.counter import counter_lines
from charrnn.rendering.neurons import print_findings
from charrnn.text.vocabulary import Vocabulary

SYMBOLS = "\nabcdefg"
TABLE = np.array([0, *range(2, 10)])
NEWLINE = 2
COLUMN, DEPTH, QUOTE = map(get, ("column", "paren_depth", "in_quote"))
PROFILE = TextProfile("prose", 60, 1)
SGR = re.compile(r"\x1b\[[0-9;]*m")


def make_network(cell="lstm", seed=2, layers=2):
    network = Network(ModelConfig(cell, 6, layers, embedding_size=0, dropout=0.0), 10, seed).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


def make_piece(number, chooses, length=700, symbols=SYMBOLS):
    random = np.random.default_rng(number)
    text = "".join(random.choice(list(symbols), length))
    places = np.array([SYMBOLS.index(char) + 1 for char in text], np.uint8)
    labels = np.stack([np.zeros(length), COLUMN.label(text, PROFILE)], 1).astype(np.float32)
    labels[300:310] = np.nan
    return Piece(text, places, labels, 64, number, 0, chooses)


def counter_curve(network, twin, table, pieces, column, hypothesis, neuron, untrained=None):
    """The curve of one neuron, or None."""
    wanted = [Counting(column, hypothesis, neuron, twin, untrained or Neuron(1, "h", 0))]
    return next(iter(counter_curves(network, table, pieces, wanted)), None)


PIECES = [make_piece(number, number % 2 == 0) for number in range(4)]


def slow_curve(network, neuron, top):
    """Group activations and P(newline) by the value of the hypothesis, one character after the other."""
    values, chances = defaultdict(list), defaultdict(list)
    for piece in PIECES:
        if piece.chooses:
            continue
        ids = torch.tensor([[0, *TABLE[piece.places]]])
        with torch.no_grad():
            logits, _ = network.reference(ids, network.initial_state(1))
        p = torch.softmax(logits.double(), -1)[0, 1:, NEWLINE].numpy()
        (activation,) = raw_values(Recorder(network, TABLE, [neuron]), [piece])
        for t in range(piece.skip, len(piece)):
            label = piece.labels[t, 1]
            if not np.isnan(label) and label <= top:
                values[int(label)].append(float(activation[t, 0]))
                chances[int(label)].append(p[t])
    return values, chances


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_the_curve_equals_a_slow_loop(cell):
    network, twin = make_network(cell), make_network(cell, 3)
    neuron = Neuron(1, "h", 4)
    curve = counter_curve(network, twin, TABLE, PIECES, 1, COLUMN, neuron)
    values, chances = slow_curve(network, neuron, len(curve.mean) - 1)
    assert (curve.neuron, curve.hypothesis) == ("L1.h4", "column")
    assert len(curve.mean) > 10 and curve.chars.sum() > 1000
    for value in range(len(curve.mean)):
        assert curve.chars[value] == len(values[value])
        assert curve.mean[value] == pytest.approx(np.mean(values[value]), abs=1e-5)
        assert curve.sd[value] == pytest.approx(np.std(values[value]), abs=1e-5)
        assert curve.p_newline[value] == pytest.approx(np.mean(chances[value]), abs=1e-5)
    labels = np.concatenate([p.labels[64:, 1] for p in PIECES if not p.chooses])
    assert len(curve.mean) - 1 == int(np.percentile(labels[~np.isnan(labels)], 95))


def test_several_curves_are_read_at_once():
    network, twins = make_network(), [make_network(seed=3), make_network(seed=4)]
    wanted = [
        Counting(1, COLUMN, Neuron(1, "c", 0), twins[0], Neuron(2, "c", 5)),
        Counting(1, QUOTE, Neuron(1, "c", 1), twins[0], Neuron(2, "c", 1)),
        Counting(1, COLUMN, Neuron(2, "h", 3), twins[1], Neuron(1, "h", 2)),
        Counting(1, COLUMN, Neuron(1, "c", 2), twins[0], Neuron(1, "c", 4)),
    ]
    found = counter_curves(network, TABLE, PIECES, wanted)
    names = [(str(one.neuron), str(one.untrained)) for one in wanted if one.hypothesis is COLUMN]
    assert [(curve.neuron, curve.untrained) for curve in found] == names
    for one, curve in zip((wanted[0], *wanted[2:]), found, strict=True):
        alone = counter_curve(network, one.twin, TABLE, PIECES, 1, COLUMN, one.neuron, one.untrained)
        for name in ("mean", "sd", "untrained_mean", "p_newline"):
            np.testing.assert_allclose(getattr(curve, name), getattr(alone, name), atol=1e-6)
        values, _ = slow_curve(one.twin, one.untrained, 3)
        assert curve.untrained_mean[3] == pytest.approx(np.mean(values[3]), abs=1e-5)


def test_long_texts_are_read_in_part(monkeypatch):
    arguments = (make_network(), make_network(seed=3), TABLE, PIECES, 1, COLUMN, Neuron(1, "c", 0))
    whole = counter_curve(*arguments).chars.sum()
    monkeypatch.setattr(counter, "MAX_CHARS", 800)
    assert 0.4 < counter_curve(*arguments).chars.sum() / whole < 0.6


def test_nothing_is_drawn_where_nothing_is_counted():
    networks = make_network(), make_network(seed=3)
    assert counter_curve(*networks, TABLE, PIECES, 1, QUOTE, Neuron(1, "c", 0)) is None
    assert counter_curve(*networks, TABLE, PIECES, 0, COLUMN, Neuron(1, "c", 0)) is None
    flat = [replace(piece, labels=np.minimum(piece.labels, 1)) for piece in PIECES]
    assert counter_curve(*networks, TABLE, flat, 1, DEPTH, Neuron(1, "c", 0)) is None
    far = [replace(piece, labels=piece.labels + counter.MAX_VALUES) for piece in PIECES]
    assert counter_curve(*networks, TABLE, far, 1, COLUMN, Neuron(1, "c", 0)) is None


def test_a_text_without_newlines_has_no_chance_of_one():
    pieces = [make_piece(number, number % 2 == 0, symbols=SYMBOLS[1:]) for number in range(4)]
    networks = make_network(), make_network(seed=3)
    assert counter_curve(*networks, TABLE, pieces, 1, COLUMN, Neuron(1, "c", 0)).p_newline is None
    unknown = np.where(np.arange(9) == 1, 1, TABLE)
    assert counter_curve(*networks, unknown, PIECES, 1, COLUMN, Neuron(1, "c", 0)).p_newline is None


# the straight part


def test_a_line_that_bends_is_found_where_it_bends():
    mean = 1 - 0.02 * np.minimum(np.arange(80.0), 58)
    slope, last, flat = straight_part(mean)
    assert (slope, last, flat) == (pytest.approx(-0.02), 58, True)
    noisy = mean + 0.01 * np.random.default_rng(1).standard_normal(80)
    slope, last, flat = straight_part(noisy)
    assert slope == pytest.approx(-0.02, abs=1e-3) and abs(last - 58) <= 2 and flat


def test_a_line_that_does_not_bend_ends_at_the_end():
    noise = 0.01 * np.random.default_rng(1).standard_normal(40)
    slope, last, flat = straight_part(0.03 * np.arange(40.0) + noise)
    assert slope == pytest.approx(0.03, abs=1e-3) and (last, flat) == (39, False)


def test_a_bend_that_leaves_most_unexplained_is_none():
    mean = 0.05 * np.minimum(np.arange(30.0), 25) + 0.5 * np.random.default_rng(2).standard_normal(30)
    assert straight_part(mean)[1:] == (29, False)


def test_values_before_the_first_and_without_characters_have_no_say():
    mean = 0.05 * np.arange(12.0)
    mean[[0, 5]] = 9.0, np.nan
    assert straight_part(mean, first=1)[0] == pytest.approx(0.05)
    assert straight_part(mean, first=0)[0] != pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [([0.0, 0.5, 1.0], (0.5, 2, False)), ([0.2], (0.0, 0, False)), ([], (0.0, 0, False))],
)
def test_few_values_make_one_line(mean, expected):
    assert straight_part(np.array(mean)) == pytest.approx(expected)


def test_a_counter_that_was_planted_has_its_slope():
    network = make_network("elman_relu", layers=1)
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
        network.layers[0].weight_hh_l0[3, 3] = 1.0
        network.layers[0].weight_ih_l0[3] = 0.07
        network.layers[0].weight_ih_l0[3, NEWLINE] = -100.0
    curve = counter_curve(network, make_network("elman", 3, 1), TABLE, PIECES, 1, COLUMN, Neuron(1, "h", 3))
    np.testing.assert_allclose(curve.mean, 0.07 * np.arange(len(curve.mean)), atol=1e-4)
    np.testing.assert_allclose(curve.sd, 0, atol=2e-3)
    assert (curve.slope, curve.straight, curve.flat) == (pytest.approx(0.07), (1, len(curve.mean) - 1), False)


# the plot


def example(**changes):
    x = np.arange(71.0)
    curve = CounterCurve(
        neuron="L1.c288",
        hypothesis="column",
        chars=np.full(71, 100),
        mean=0.953 - 0.0301 * np.minimum(x, 55),
        sd=np.full(71, 0.2437),
        untrained="L1.c9",
        untrained_mean=-0.3 * np.ones(71),
        p_newline=np.where(x < 50, 0.01, 0.01 + 0.02 * (x - 49)),
        slope=-0.03,
        straight=(1, 55),
        flat=True,
    )
    curve = replace(curve, **changes)
    arrays = ("mean", "sd", "untrained_mean") + ("p_newline",) * (curve.p_newline is not None)
    return replace(curve, **{name: getattr(curve, name).astype(np.float32) for name in arrays})


def drawn(width, color_system=None, curve=None):
    console = Console(
        width=width,
        file=io.StringIO(),
        color_system=color_system,
        force_terminal=True,
        _environ={},
        legacy_windows=False,
    )
    for line in counter_lines(curve or example(), View.of(console)):
        console.print(line, width=width)
    return console.file.getvalue().splitlines()


GOLDEN_80 = """\
mean activation by column: −.030 a step, straight from 1 to 55, then flat
⠒⠒ L1.c288, mean of 7,100 characters   ⡈⡈ ± sd   ··· untrained L1.c9
 +1┤⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀
   │⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀
   │      ⠁ ⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀
   │              ⠁ ⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀
  0┤                      ⠁ ⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀
   │.....................................⠈⠉⠙⠒⠲⠤⢤⣀⣀............................
   │                                      ⠁ ⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⢤⣀⣀⠅⡂⠄⡀⠄⡀⠄⡀⠄⡀⠄⡀⠄⡀⠄⡀⠄⡀⠄⡀
   │                                              ⠁ ⠁⠂⠅⠂⠅⠈⠉⠙⠒⠲⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤
 −1┤                                                      ⠁ ⠁⠂⠅⠂⠅⠂⠅⠂⠅⠂⠅⠂⠅⠂⠅⠂⠅⠂
   └┬─────────┬──────────┬─────────┬──────────┬─────────┬──────────┬─────────┬
    0         10         20        30         40        50         60        70
P(⏎)▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▂▂▂▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██
    P(⏎): the model's mean probability of a newline next, █ is .43"""


def test_golden_without_colour():
    assert "\n".join(line.rstrip() for line in drawn(80)) == GOLDEN_80


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("color_system", ["truecolor", "256", "standard"])
def test_colour_says_the_same_in_the_same_place(width, color_system):
    plain = drawn(width)
    assert [SGR.sub("", line) for line in drawn(width, color_system)] == plain
    assert all(cell_len(line) <= width for line in plain)


def test_the_curve_is_bold_and_the_band_is_dim():
    lines = drawn(80, "standard")
    assert any("\x1b[1;34m" in line for line in lines[2:11])
    assert any("\x1b[2;34m" in line for line in lines[2:11])
    assert any("\x1b[35m" in line for line in lines[2:11])


def test_an_axis_holds_what_has_no_bound_and_few_values():
    lines = drawn(
        80,
        curve=example(
            mean=np.array([0.0, 1.2, 2.4]),
            sd=np.zeros(3),
            chars=np.ones(3, int),
            untrained_mean=np.array([0.0, np.nan, 0.1]),
            p_newline=None,
        ),
    )
    assert lines[2].startswith(" +3┤") and lines[10].startswith(" −3┤")
    assert lines[-1].split() == ["0", "1", "2"]
    assert not any("⏎" in line for line in lines)


def test_json_has_null_where_there_is_nothing():
    mean = np.where(np.arange(71) == 4, np.nan, 0.5)
    data = json.loads(json.dumps(example(mean=mean, p_newline=None).to_json(), allow_nan=False))
    assert data["mean"][3:6] == [0.5, None, 0.5] and data["p_newline"] is None
    assert data["straight"] == [1, 55] and data["chars"][0] == 100 and data["flat"] is True


def test_a_curve_that_was_kept_draws_the_same():
    again = _restored(CounterCurve, json.loads(json.dumps(_plain(example()))))
    assert drawn(80, curve=again) == drawn(80)
    again = _restored(CounterCurve, json.loads(json.dumps(_plain(example(p_newline=None)))))
    assert again.p_newline is None and again.to_json()["chars"] == [100] * 71


def test_a_card_that_was_kept_before_there_were_curves_has_none():
    kept = {"neuron": "L1.c0", "others": [], "mean_on": 0, "mean_off": 0, "quantiles": [], "excerpts": []}
    row = {"hypothesis": "column", "type": "count", "r_untrained": 0.1}
    assert _restored(Card, kept | {"row": row}).counter is None


def counting(network):
    """The network with one neuron that counts since the newline."""
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.mul_(0.2)
        layer = network.layers[0]
        for weight in (layer.weight_hh_l0, layer.weight_ih_l0, layer.bias_ih_l0, layer.bias_hh_l0):
            weight[3] = 0.0
        layer.weight_hh_l0[3, 3] = 1.0
        layer.weight_ih_l0[3] = 0.01
        layer.weight_ih_l0[3, NEWLINE] = -100.0
    return network


def test_the_first_card_shows_what_its_neuron_counts():
    pieces = [make_piece(number, number % 2 == 0, 2500) for number in range(4)]
    pieces = [replace(piece, labels=np.nan_to_num(piece.labels)[:, 1:]) for piece in pieces]
    networks = counting(make_network("elman_relu", layers=1)), make_network("elman", 3, 1)
    vocabulary = Vocabulary.of_chars(map(ord, sorted(SYMBOLS)))
    subject = Subject("mine", *networks, vocabulary, TABLE, pieces, [COLUMN], PROFILE)
    found = find_neurons(subject, Question(neuron=Neuron(1, "h", 3), ablation=None))
    (card,) = found.cards
    assert card.counter.slope == pytest.approx(0.01, abs=1e-4)
    twin = choose(Recorder(networks[1], TABLE, all_neurons(networks[1], "h")), subject.half(True))
    assert card.counter.untrained == str(twin.neurons[twin.best(0, 1)[0]])
    assert found.counters == (card.counter,)
    assert card.to_json()["counter"]["hypothesis"] == "column"
    console = Console(width=98, file=io.StringIO(), color_system=None, _environ={})
    print_findings(found, console)
    assert "mean activation by column: +.010 a step" in console.file.getvalue()
