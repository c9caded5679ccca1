"""Recording: every activation equals a slow loop's, at the character it was said to belong to."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from charrnn import native
from charrnn.config import CELLS, ModelConfig
from charrnn.errors import InspectionError
from charrnn.inspection import record
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.model.cells import gru, lstm
from charrnn.model.network import Network

SYMBOLS = "abcdefgh"
TABLE = np.array([0, *range(2, 10)])
"""Place to id: id 1 would be the escape."""
HIDDEN = 6
KINDS = {
    "lstm": ("h", "c", "i", "f", "g", "o"),
    "gru": ("h", "r", "z", "n"),
    "elman": ("h",),
    "elman_relu": ("h",),
    "jordan": ("h", "s"),
    "mingru": ("h", "z"),
    "minlstm": ("h", "i", "f"),
    "esn": ("h",),
}


def make_network(cell="lstm", layers=1, embedding=0):
    config = ModelConfig(cell, HIDDEN, layers, embedding_size=embedding, dropout=0.0)
    network = Network(config, 10, seed=2).eval()
    with torch.no_grad():
        for layer in network.layers:
            layer.weight_ih_l0.mul_(2)
            if cell == "elman_relu":  # begins with no input to speak of, and never forgets
                layer.weight_hh_l0.mul_(0.5)
                torch.nn.init.uniform_(layer.weight_ih_l0, -1, 1, torch.Generator().manual_seed(1))
    return network


def piece(text, skip=0):
    places = np.array([SYMBOLS.index(char) + 1 for char in text], dtype=np.uint8)
    return Piece(text, places, np.zeros((len(text), 1), np.float32), skip, 0, 0, True)


def random_pieces(*lengths):
    random = np.random.default_rng(1)
    return [piece("".join(random.choice(list(SYMBOLS), length))) for length in lengths]


def lstm_gates(layer, inputs, state):
    rows = layer.weight_ih_l0 @ inputs + layer.bias_ih_l0 + layer.weight_hh_l0 @ state[0] + layer.bias_hh_l0
    i, f, g, o = rows.view(4, HIDDEN)
    return {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid()}


def gru_gates(layer, inputs, state):
    read = (layer.weight_ih_l0 @ inputs + layer.bias_ih_l0).view(3, HIDDEN)
    kept = (layer.weight_hh_l0 @ state[0] + layer.bias_hh_l0).view(3, HIDDEN)
    r, z = (read[:2] + kept[:2]).sigmoid()
    return {"r": r, "z": z, "n": (read[2] + r * kept[2]).tanh()}


def min_gates(layer, inputs, state):
    rows = (layer.weight_ih_l0 @ inputs + layer.bias_ih_l0).view(-1, HIDDEN)[:-1].sigmoid()
    return {"z": rows[0]} if len(rows) == 1 else {"i": rows[0] / rows.sum(0), "f": rows[1] / rows.sum(0)}


GATES = {"lstm": lstm_gates, "gru": gru_gates, "mingru": min_gates, "minlstm": min_gates}


def slow_values(network, text):
    """What every layer does after reading each character, from a boundary on, in double precision."""
    network = copy.deepcopy(network).double()
    states = [tuple(part[0] for part in state) for state in network.initial_state(1)]
    gates = GATES.get(network.config.cell, lambda *_: {})
    values = []
    for symbol in [0, *TABLE[piece(text).places]]:
        inputs, row = network.inputs(torch.tensor(symbol)), []
        for index, layer in enumerate(network.layers):
            quantities = gates(layer, inputs, states[index])
            before = tuple(part[None] for part in states[index])
            states[index] = tuple(part[0] for part in layer.step(layer.gate_input(inputs)[None], before))
            inputs = states[index][0]
            quantities |= zip(layer.state_names, states[index], strict=True)
            if "c" in quantities:
                quantities["c"] = quantities["c"].tanh()
            row.append(quantities)
        values.append(row)
    return values[1:]


def expected(network, text, neurons):
    values = slow_values(network, text)
    with torch.no_grad():
        return np.array([[float(row[n.layer - 1][n.kind][n.index]) for n in neurons] for row in values])


def recorded(network, pieces, neurons):
    return raw_values(Recorder(network, TABLE, neurons), pieces)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", KINDS)
def test_every_quantity_equals_a_slow_loop(monkeypatch, cell, layers):
    monkeypatch.setattr(record, "WINDOW", 7)
    network = make_network(cell, layers)
    neurons = [neuron for kind in KINDS[cell] for neuron in all_neurons(network, kind)]
    pieces = random_pieces(20, 7, 33)
    recorder = Recorder(network, TABLE, neurons)
    for part, values in zip(pieces, raw_values(recorder, pieces), strict=True):
        np.testing.assert_allclose(values, expected(network, part.text, neurons), atol=1e-5)
    assert recorder.largest_error <= 1e-5


def test_every_kind_of_a_cell_is_covered():
    for name in set(CELLS) - {"compressor"}:  # has tests of its own
        assert set(KINDS[name]) == {*CELLS[name].state_names, *CELLS[name].gate_names}


def test_with_an_embedding_too():
    network = make_network("lstm", 2, embedding=3)
    neurons = all_neurons(network, "c")
    (part,) = random_pieces(30)
    (values,) = recorded(network, [part], neurons)
    np.testing.assert_allclose(values, expected(network, part.text, neurons), atol=1e-5)


def test_a_value_belongs_to_the_character_that_was_just_read():
    network = make_network("elman")
    with torch.no_grad():
        for parameter in network.layers[0].parameters():
            parameter.zero_()
        network.layers[0].weight_ih_l0[4, 2 + SYMBOLS.index("b")] = 3
    text = "abbacab" + "a" * 300 + "b"
    (values,) = recorded(network, [piece(text)], [Neuron(1, "h", 4)])
    np.testing.assert_allclose(values[:, 0], [math.tanh(3) * (char == "b") for char in text], atol=1e-6)


def test_c_is_recorded_as_its_tanh():
    network = make_network("lstm")
    with torch.no_grad():
        layer = network.layers[0]
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0.copy_(torch.tensor([50.0, 50.0, 50.0, 0.0]).repeat_interleave(HIDDEN))
    neurons = [Neuron(1, kind, 0) for kind in ("c", "h", "raw")]
    (values,) = recorded(network, [piece("abc")], neurons)
    counted = np.array([2, 3, 4])  # the boundary before the piece counts as well
    expected = np.stack([np.tanh(counted), np.tanh(counted) / 2, counted], axis=1)
    np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("rows", [2, 64])
def test_pieces_read_together_equal_pieces_read_alone(monkeypatch, cell, rows):
    monkeypatch.setattr(record, "ROWS", rows)
    monkeypatch.setattr(record, "WINDOW", 10)
    network = make_network(cell, 2)
    neurons = all_neurons(network, network.layers[0].neuron_kind)
    pieces = random_pieces(1, 10, 11, 9, 35, 20, 20)
    together = recorded(network, pieces, neurons)
    for part, values in zip(pieces, together, strict=True):
        assert values.shape == (len(part), len(neurons))
        np.testing.assert_allclose(values, recorded(network, [part], neurons)[0], atol=1e-6)


def test_the_window_makes_no_difference(monkeypatch):
    network = make_network("lstm", 2)
    pieces = random_pieces(300, 510)
    before = recorded(network, pieces, all_neurons(network, "c"))
    monkeypatch.setattr(record, "WINDOW", 13)
    for a, b in zip(before, recorded(network, pieces, all_neurons(network, "c")), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_piece_begins_from_zero_whatever_was_read_before():
    network = make_network("lstm", 2)
    neurons = all_neurons(network, "c")
    first, second = random_pieces(40, 40)
    recorder = Recorder(network, TABLE, neurons)
    raw_values(recorder, [first])
    np.testing.assert_allclose(
        raw_values(recorder, [second])[0], recorded(network, [second], neurons)[0], atol=1e-6
    )


def test_neurons_come_in_the_order_asked_for():
    network = make_network("lstm", 2)
    names = [(2, "c", 5), (2, "c", 0), (1, "f", 3), (1, "c", 3), (2, "c", 5), (2, "h", 1)]
    neurons = [Neuron(*name) for name in names]
    (part,) = random_pieces(25)
    (values,) = recorded(network, [part], neurons)
    np.testing.assert_allclose(values, expected(network, part.text, neurons), atol=1e-5)


def test_windows_say_which_characters_of_which_pieces_they_hold(monkeypatch):
    monkeypatch.setattr(record, "WINDOW", 10)
    monkeypatch.setattr(record, "ROWS", 2)
    pieces = random_pieces(5, 12, 30)
    seen = [set() for _ in pieces]
    for window in Recorder(make_network(), TABLE, [Neuron(1, "c", 0)]).read(pieces):
        for row, length in zip(window.rows, window.length, strict=True):
            characters = set(range(window.begin, window.begin + int(length)))
            assert not characters & seen[row]
            seen[row] |= characters
    assert seen == [set(range(len(part))) for part in pieces]


def test_an_lstm_whose_gates_are_exchanged_is_noticed(monkeypatch):
    right = lstm._activate
    monkeypatch.setattr(lstm, "_activate", lambda gates: [right(gates)[k] for k in (1, 0, 2, 3)])
    with pytest.raises(InspectionError, match="misses the forward pass"):
        recorded(make_network("lstm"), random_pieces(30), [Neuron(1, "c", 0)])


def test_a_gru_whose_gates_are_exchanged_is_noticed(monkeypatch):
    right = gru.GRU._gates
    monkeypatch.setattr(gru.GRU, "_gates", lambda *parts: [right(*parts)[k] for k in (1, 0, 2)])
    with pytest.raises(InspectionError, match="misses the forward pass"):
        recorded(make_network("gru"), random_pieces(30), [Neuron(1, "h", 0)])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda trace: {"i": trace["f"], "f": trace["i"]},
        lambda trace: {"o": trace["o"] * 1.01},
        lambda trace: {"c": trace["c"] + 0.01},
    ],
)
def test_gates_and_states_that_do_not_fit_the_outputs_are_noticed(monkeypatch, wrong):
    right = Network.trace

    def spoilt(self, *arguments, **how):
        traces, after = right(self, *arguments, **how)
        return [trace | wrong(trace) for trace in traces], after

    monkeypatch.setattr(Network, "trace", spoilt)
    with pytest.raises(InspectionError, match="gates miss"):
        recorded(make_network("lstm"), random_pieces(30), [Neuron(1, "h", 0)])


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", KINDS)
def test_gates_and_states_make_the_outputs_to_one_in_a_hundred_thousand(cell, layers):
    network = make_network(cell, layers)
    recorder = Recorder(network, TABLE, all_neurons(network, "h"))
    raw_values(recorder, random_pieces(120, 80))
    assert recorder.state_error <= 1e-6 and recorder.gate_error <= 1e-5


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_error_of_a_step_is_that_of_the_equations(cell):
    """They are written down here once more, in double precision, and go on from what was recorded."""
    network = make_network(cell)
    names = list(KINDS[cell])
    (part,) = random_pieces(50)
    window = torch.from_numpy(TABLE[part.places])[None]
    (trace,), _ = network.trace(window, network.initial_state(1))
    values = {name: trace[name][:, 0].double() for name in names}
    before = {
        name: torch.cat([torch.zeros(1, HIDDEN), values[name][:-1]]) for name in ("h", "c") if name in values
    }
    layer, of_gates = copy.deepcopy(network.layers[0]).double(), []
    inputs = torch.nn.functional.one_hot(window[0], 10).double()
    for t in range(50):
        gates = GATES[cell](layer, inputs[t], (before["h"][t],))
        of_gates += [float((gates[name] - values[name][t]).detach().abs().max()) for name in gates]
    if cell == "lstm":
        of_states = [
            values["f"] * before["c"] + values["i"] * values["g"] - values["c"],
            values["o"] * values["c"].tanh() - values["h"],
        ]
    else:
        of_states = [values["n"] + values["z"] * (before["h"] - values["n"]) - values["h"]]
    slow = max(of_gates), max(float(part.abs().max()) for part in of_states)
    start = network.initial_state(1)
    assert network.step_errors(window, start, [trace]) == pytest.approx(slow, abs=2e-7)  # which is rounding
    wrong = trace | {"z" if cell == "gru" else "o": trace["z" if cell == "gru" else "o"] + 0.25}
    gate_error, state_error = network.step_errors(window, start, [wrong])
    assert gate_error == pytest.approx(0.25, abs=1e-5) and state_error > 0.01
    trace["h"][-1] += 0.25
    assert network.step_errors(window, start, [trace])[1] == pytest.approx(0.25, abs=1e-5)


def test_steps_are_as_defined_where_cell_states_run_into_the_hundreds():
    """Rounding of the gates adds up in the outputs of a window; that of a single step does not."""
    network = make_network("lstm", 2)
    with torch.no_grad():
        for layer in network.layers:
            layer.weight_hh_l0.mul_(4)
            layer.bias_ih_l0[: 2 * HIDDEN] = 20.0
    recorder = Recorder(network, TABLE, all_neurons(network, "c"))
    text = torch.from_numpy(TABLE[random_pieces(900)[0].places])[None]
    assert network.trace(text, network.initial_state(1))[0][0]["c"].abs().max() > 200
    raw_values(recorder, random_pieces(900, 4_000))
    assert recorder.state_error <= 1e-6 and recorder.gate_error <= 1e-5


def test_a_chaotic_network_can_be_inspected():
    """Its definition goes another way after some steps, from a rounding of the last digit."""
    network = Network(ModelConfig("elman", 64, 1, embedding_size=0, dropout=0.0), 10, seed=2).eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.layers[0].weight_hh_l0, 0, 3 / 8, torch.Generator().manual_seed(1))
    recorder = Recorder(network, TABLE, all_neurons(network, "h"))
    raw_values(recorder, random_pieces(400))
    assert recorder.state_error <= 2e-6
    if native.library() is not None:  # without it, this cell is computed as it is defined
        assert recorder.largest_error > 0.1


def test_weights_that_are_no_numbers_are_noticed():
    network = make_network("lstm")
    with torch.no_grad():
        network.layers[0].bias_hh_l0[0] = math.nan
    with pytest.raises(InspectionError):
        recorded(network, random_pieces(30), [Neuron(1, "c", 0)])
