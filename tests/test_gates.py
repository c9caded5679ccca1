"""Gates: every statistic equals a slow loop over torch.nn's own cells, and the picture can be read."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.config import CELLS, ModelConfig
from charrnn.errors import InspectionError
from charrnn.inspection import gates as module
from charrnn.inspection.gates import MAX_TAU, Gate, GateFindings, Gates, Timescale, find_gates, read_gates
from charrnn.inspection.hypotheses import TextProfile
from charrnn.inspection.pieces import Piece
from charrnn.inspection.subject import Subject
from charrnn.model.network import Network
from charrnn.rendering.braille import Dots
from charrnn.rendering.gates import characters, print_gates
from charrnn.text.vocabulary import Vocabulary

SYMBOLS = "abcdefgh"
TABLE = np.array([0, *range(2, 10)])
HIDDEN = 6
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"
SGR = re.compile(r"\x1b\[[0-9;]*m")


def make_network(cell, layers=1, seed=2):
    network = Network(ModelConfig(cell, HIDDEN, layers, embedding_size=0, dropout=0.0), 10, seed).eval()
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.mul_(6)  # gates that saturate
    return network


def make_piece(length, skip=0, document=0):
    places = np.random.default_rng(length).integers(1, 9, length).astype(np.uint8)
    text = "".join(SYMBOLS[place - 1] for place in places)
    return Piece(text, places, np.zeros((length, 1), np.float32), skip, document, 0, document == 0)


PIECES = [make_piece(130, skip=64), make_piece(7, skip=3, document=1), make_piece(300, document=2)]


def subject(cell):
    profile = TextProfile("prose", 60, 1)
    networks = make_network(cell, 2), make_network(cell, 2, seed=3)
    vocabulary = Vocabulary.of_chars(map(ord, SYMBOLS))
    return Subject("mine", *networks, vocabulary, TABLE, PIECES, [], profile)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def lstm_gates(weights, x, h):
    i, f, g, o = (weights[0] @ x + weights[1] @ h + weights[2] + weights[3]).reshape(4, HIDDEN)
    return {"i": sigmoid(i), "f": sigmoid(f), "g": np.tanh(g), "o": sigmoid(o)}


def gru_gates(weights, x, h):
    x, h = (weights[0] @ x + weights[2]).reshape(3, HIDDEN), (weights[1] @ h + weights[3]).reshape(3, HIDDEN)
    r, z = sigmoid(x[:2] + h[:2])
    return {"r": r, "z": z, "n": np.tanh(x[2] + r * h[2])}


def torch_cell(layer, cell):
    """Return torch.nn's cell for single timesteps, in double precision, with the layer's weights."""
    kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell]
    single = kind(layer.weight_ih_l0.shape[1], HIDDEN)
    single.load_state_dict({name.removesuffix("_l0"): w for name, w in layer.state_dict().items()})
    return single.double()


def slow_values(network, cell, piece):
    """Yield, for every character of a piece, the gates of each layer by name."""
    formula = {"lstm": lstm_gates, "gru": gru_gates}[cell]
    cells = [torch_cell(layer, cell) for layer in network.layers]
    weights = [
        [w.detach().double().numpy() for w in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh)] for c in cells
    ]
    zeros = torch.zeros(HIDDEN, dtype=torch.float64)
    states = [(zeros, zeros) if cell == "lstm" else (zeros,) for _ in cells]
    for symbol in [0, *TABLE[piece.places]]:
        x, row = torch.eye(10, dtype=torch.float64)[symbol], []
        for n, (single, own) in enumerate(zip(cells, weights, strict=True)):
            row.append(formula(own, x.numpy(), states[n][0].numpy()))
            with torch.no_grad():
                after = single(x, states[n] if cell == "lstm" else states[n][0])
            after = after if cell == "lstm" else (after,)
            keep = network.config.zoneout
            states[n] = tuple(
                keep * old + (1 - keep) * new for old, new in zip(states[n], after, strict=True)
            )
            x = states[n][0]
        yield row


def slow_gates(network, cell):
    """Return the gates at all characters that count, by layer and name, (M, H)."""
    rows = [row for piece in PIECES for row in list(slow_values(network, cell, piece))[1 + piece.skip :]]
    return [
        {name: np.stack([row[n][name] for row in rows]) for name in rows[0][n]} for n in range(len(rows[0]))
    ]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_figure_equals_a_slow_loop(cell, layers):
    network = make_network(cell, layers)
    found, error = read_gates(network, TABLE, PIECES)
    slow = slow_gates(network, cell)
    assert [(gate.layer, gate.name) for gate in found.gates] == [
        (n + 1, name) for n in range(layers) for name in network.layers[0].gate_names
    ]
    for gate in found.gates:
        values = slow[gate.layer - 1][gate.name]
        low, high = (-0.9, 0.9) if gate.name in "gn" else (0.1, 0.9)
        np.testing.assert_allclose(gate.left, (values < low).mean(0), atol=1e-6)
        np.testing.assert_allclose(gate.right, (values > high).mean(0), atol=1e-6)
        np.testing.assert_allclose(gate.mean, values.mean(0), atol=1e-5)
    for timescale in found.timescales:
        values = slow[timescale.layer - 1][timescale.gate]
        np.testing.assert_allclose(timescale.tau, -1 / np.log(values).mean(0), rtol=1e-3)
    assert any(gate.right.max() > 0.2 for gate in found.gates) and error < 1e-4


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_with_zoneout_states_last_longer_than_the_gate_says(cell):
    plain = make_network(cell, 2)
    network = Network(replace(plain.config, zoneout=0.3), plain.vocab_size).eval()
    network.load_state_dict(plain.state_dict())
    slow = slow_gates(network, cell)
    for own in read_gates(network, TABLE, PIECES)[0].timescales:
        kept = 0.3 + 0.7 * slow[own.layer - 1][own.gate]
        np.testing.assert_allclose(own.tau, -1 / np.log(kept).mean(0), rtol=1e-3)
        layer = network.layers[own.layer - 1]
        bias = (layer.bias_ih_l0 + layer.bias_hh_l0)[HIDDEN : 2 * HIDDEN].detach().double().numpy()
        np.testing.assert_allclose(own.static, -1 / np.log(0.3 + 0.7 * sigmoid(bias)), rtol=1e-4)


@pytest.mark.parametrize(("cell", "rows"), [("lstm", slice(6, 12)), ("gru", slice(6, 12))])
def test_the_static_timescale_is_that_of_the_bias(cell, rows):
    network = make_network(cell)
    layer = network.layers[0]
    bias = (layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows]).detach().double().numpy()
    (timescale,) = read_gates(network, TABLE, PIECES[:1])[0].timescales
    np.testing.assert_allclose(timescale.static, -1 / np.log(sigmoid(bias)), rtol=1e-6)


@pytest.mark.parametrize(("value", "tau"), [(0.9, 9.49), (0.95, 19.5), (0.99, 99.5), (0.999, 999.5)])
def test_the_timescale_of_a_constant_gate_is_known(value, tau):
    network = make_network("lstm")
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
        network.layers[0].bias_ih_l0[HIDDEN : 2 * HIDDEN] = float(np.log(value / (1 - value)))
    found, _ = read_gates(network, TABLE, PIECES)
    np.testing.assert_allclose(found.timescales[0].tau, tau, rtol=1e-3)
    np.testing.assert_allclose(found.timescales[0].static, tau, rtol=1e-3)


@pytest.mark.parametrize(("value", "tau"), [(0.5, 1.44), (0.9, 9.49), (0.999, 999.5)])
@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_the_timescale_of_a_constant_gate_that_sees_no_state_is_known(cell, value, tau):
    network = make_network(cell, 2)
    # an LSTM's i and f are shared out: f = ½ / (½ + σ(b)) where only the bias b of i is not 0
    of_i = 0.5 * (1 - value) / value
    logit = float(np.log(value / (1 - value)) if cell == "mingru" else np.log(of_i / (1 - of_i)))
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
        for layer in network.layers:
            layer.bias_ih_l0[:HIDDEN] = logit
    found, _ = read_gates(network, TABLE, PIECES)
    assert [t.gate for t in found.timescales] == [{"mingru": "z", "minlstm": "f"}[cell]] * 2
    for timescale in found.timescales:
        np.testing.assert_allclose(timescale.tau, tau, rtol=2e-3)
        np.testing.assert_allclose(timescale.static, tau, rtol=2e-3)


@pytest.mark.parametrize(("bias", "tau"), [(200.0, MAX_TAU), (-200.0, pytest.approx(1 / 87.5, rel=0.01))])
def test_a_gate_of_exactly_one_or_zero_stays_finite(bias, tau):
    network = make_network("lstm")
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
        network.layers[0].bias_ih_l0[HIDDEN : 2 * HIDDEN] = bias
    found, _ = read_gates(network, TABLE, PIECES)
    assert found.timescales[0].tau[0] == tau
    json.dumps(found.to_json(), allow_nan=False)


def test_memory_does_not_grow_with_the_text(monkeypatch):
    sizes = []
    counted = module._counted
    monkeypatch.setattr(module, "_counted", lambda *a: sizes.append(len(v := counted(*a))) or v)
    read_gates(make_network("lstm"), TABLE, [make_piece(900)])
    assert len(sizes) == 18 and max(sizes) == 50


@pytest.mark.parametrize("cell", [name for name in CELLS if not CELLS[name].gate_names])
def test_a_cell_without_gates_is_refused(cell):
    with pytest.raises(InspectionError, match=f"`{cell}` has no gates"):
        find_gates(subject(cell))


def test_findings_say_what_was_read_and_what_training_changed():
    whole = subject("gru")
    found = find_gates(whole)
    assert (found.run, found.model, found.documents) == ("mine", "gru 2×6", 3)
    assert found.chars == 66 + 4 + 300
    again, _ = read_gates(whole.twin, TABLE, PIECES[::8])
    assert found.untrained.to_json() == again.to_json()


def test_extremes_are_named_and_json_is_complete():
    gate = Gate(2, "f", np.array([0.1, 0.9, 0.6]), np.array([0.8, 0.0, 0.1]), np.array([0.7, 0.1, 0.3]))
    assert gate.extremes("left", 2) == [("L2.f1", 0.9), ("L2.f2", 0.6)]
    assert gate.mostly("left") == pytest.approx(2 / 3) and gate.mostly("right") == pytest.approx(1 / 3)
    data = gate.to_json()
    assert data["bounds"] == [0.1, 0.9] and data["left"] == [0.1, 0.9, 0.6]
    assert data["most_right"][0] == {"neuron": "L2.f0", "share": 0.8}
    assert Gate(1, "n", gate.left, gate.right, gate.mean).bounds == (-0.9, 0.9)
    slow = Timescale(1, "z", np.array([1.0, 50.0, 3.0]), np.ones(3))
    assert slow.longest(1) == [("L1.z1", 50.0)] and slow.quantiles()[2] == 3.0


# pictures


def example():
    random = np.random.default_rng(4)
    right = np.array([0.0, 1.0, 0.0, 0.5])

    def made(scale, tau):
        own = [
            Gate(1, name, np.array([1.0, 0.0, 0.0, 0.5]), right * scale, random.uniform(0, 1, 4))
            for name in "ifgo"
        ]
        return Gates(tuple(own), (Timescale(1, "f", tau, np.full(4, 3.2)),))

    return GateFindings(
        "mine",
        "lstm 1×4",
        12_345,
        12,
        1e-6,
        made(1.0, np.array([0.3, 12.0, 120.0, 900.0])),
        made(0.0, np.full(4, 3.2)),
    )


def drawn(width, color_system=None):
    console = Console(
        width=width,
        file=io.StringIO(),
        color_system=color_system,
        force_terminal=True,
        _environ={},
        legacy_windows=False,
    )
    print_gates(example(), console)
    return console.file.getvalue().splitlines()


GOLDEN_80 = """\
mine · lstm 1×4
12,345 characters of 12 documents; outputs as defined to 1e-06

 gate  mean       shut       open  > ½ shut  > ½ open  most shut   most open
 ────────────────────────────────────────────────────────────────────────────
 L1.i   .63  .38 (.38)  .38 (.00)      25 %      25 %  L1.i0 1.00  L1.i1 1.00
 L1.f   .49  .38 (.38)  .38 (.00)      25 %      25 %  L1.f0 1.00  L1.f1 1.00
 L1.g   .70  .38 (.38)  .38 (.00)      25 %      25 %  L1.g0 1.00  L1.g1 1.00
 L1.o   .64  .38 (.38)  .38 (.00)      25 %      25 %  L1.o0 1.00  L1.o1 1.00

layer 1: one dot per neuron
   i  input gate      f  forget gate     g  what is new     o  output gate
 1┤⠁                1┤⠁                1┤⠁                1┤⠁
  │  ╲               │  ╲               │  ╲               │  ╲
 s│    ╲            s│    ╲            s│    ╲            s│    ╲
 h│      ╲⠄         h│      ╲⠄         h│      ╲⠄         h│      ╲⠄
 u│        ╲        u│        ╲        u│        ╲        u│        ╲
 t│          ╲      t│          ╲      t│          ╲      t│          ╲
 0┤⡀           ╲⢀   0┤⡀           ╲⢀   0┤⡀           ╲⢀   0┤⡀           ╲⢀
  └┬────────────┬    └┬────────────┬    └┬────────────┬    └┬────────────┬
   0    open    1     0    open    1     0    open    1     0    open    1
shut: share of characters at which a neuron's gate is below .1, open: above .9
(g, a tanh: below −.9, above .9); in parentheses the same before training; > ½:
neurons that are so most of the time; a dot on the line ╲ is saturated at every
character, one in the corner 0 never

timescales   −1 / mean(ln f): characters until what is held has faded to 1/e

 gate  5 %  25 %    median  75 %  95 %  by bias  longest
 ─────────────────────────────────────────────────────────
 L1.f  2.1   9.1  66 (3.2)   315   783      3.2  L1.f3 900

layer 1: neurons by timescale in characters
        1        █                         █               █             █
                 █                         █               █             █
                 █                         █               █             █
                 █                         █               █             █
          0.1             1               10              100             1,000
untrained                         █

look closer: charrnn inspect neurons mine --neuron L1.c3"""
PANELS_120 = """\
   i  input gate            f  forget gate           g  what is new, tanh     o  output gate
 1┤⠁                      1┤⠁                      1┤⠁                      1┤⠁
  │  ╲                     │  ╲                     │  ╲                     │  ╲
  │    ╲                   │    ╲                   │    ╲                   │    ╲
 s│      ╲                s│      ╲                s│      ╲                s│      ╲
 h│        ╲              h│        ╲              h│        ╲              h│        ╲
 u│          ⠁            u│          ⠁            u│          ⠁            u│          ⠁
 t│            ╲          t│            ╲          t│            ╲          t│            ╲
  │              ╲         │              ╲         │              ╲         │              ╲
  │                ╲       │                ╲       │                ╲       │                ╲
 0┤⡀                 ╲⢀   0┤⡀                 ╲⢀   0┤⡀                 ╲⢀   0┤⡀                 ╲⢀
  └┬──────────────────┬    └┬──────────────────┬    └┬──────────────────┬    └┬──────────────────┬
   0       open       1     0       open       1     0       open       1     0       open       1"""


def test_golden_without_colour():
    assert "\n".join(line.rstrip() for line in drawn(80)) == GOLDEN_80
    assert PANELS_120 in "\n".join(line.rstrip() for line in drawn(120))


def test_colour_shows_what_blocks_show_and_which_side_it_is():
    plain, painted = drawn(98), drawn(98, "truecolor")
    assert [SGR.sub("", line) for line in painted] == plain
    dots = [line for line in painted if "┤" in line or "│" in line]
    assert "\x1b[31m⠁" in dots[0] and "\x1b[34m⢀" in dots[-1] and "\x1b[2m╲" in dots[1]


def test_a_terminal_too_narrow_for_anything_is_written_to():
    assert any("L1" in line for line in drawn(5))


@pytest.mark.parametrize("width", [40, 60, 80, 98, 120])
def test_no_line_is_wider_than_the_terminal(width):
    assert all(cell_len(line) <= width for line in drawn(width))


def test_panels_that_do_not_fit_go_below():
    assert sum("input gate" in line or "output gate" in line for line in drawn(60)) == 2


def test_a_dot_is_where_the_shares_are():
    dots = Dots(2, 1)
    dots.put(np.array([0.0, 1.0, np.nan]), np.array([0.0, 1.0, 0.5]))
    assert dots.rows() == ["⡀⠈"]


def test_a_curve_has_no_gaps_but_at_nan():
    dots = Dots(2, 1)
    dots.put_curve(np.array([0.0, 1.0, np.nan, 0.3]))
    drawn = ["".join(".#"[int(dot)] for dot in row) for row in dots.on]
    assert drawn == [".#..", ".#..", ".#.#", "##.."]


def test_timescales_are_written_shortly():
    assert [characters(tau) for tau in (0.01, 2.34, 99.6, 1234.5, MAX_TAU)] == [
        *("0.0", "2.3", "100", "1,234", "≥1,000,000")
    ]


# the command


def test_the_command_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(HARBOUR.read_text(encoding="utf-8") * 3, encoding="utf-8")

    def charrnn(arguments, code=0):
        result = CliRunner().invoke(app, arguments.split())
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    split = "--val-fraction .2 --test-fraction .2 --steps 2 --hidden-size 8"
    charrnn(f"train text --run small --cell gru {split}")
    data = json.loads(charrnn("inspect gates small --json --svg gates.svg").stdout)
    assert [gate["gate"] for gate in data["gates"]] == ["r", "z", "n"]
    assert len(data["timescales"][0]["tau"]) == 8 == len(data["untrained"]["gates"][0]["left"])
    assert "update gate" in charrnn("inspect gates small --last").stdout
    assert "<svg" in (tmp_path / "gates.svg").read_text(encoding="utf-8")
    charrnn(f"train text --run none --cell elman {split}")
    assert "error: `elman` has no gates" in charrnn("inspect gates none", code=1).stderr
