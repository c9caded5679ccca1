"""Held neurons: the batched pass equals a slow loop over one row, one timestep and one hold at a time."""

from __future__ import annotations

import math

import pytest
import torch
from slow_cells import SlowMinGRU, SlowMinLSTM
from torch.nn.functional import cross_entropy

from charrnn.config import CELLS, ModelConfig
from charrnn.model import holds
from charrnn.model.holds import Held, held_log_odds, held_losses, hold_all
from charrnn.model.network import Network, new_network
from charrnn.text.vocabulary import BOUNDARY

VOCAB, HIDDEN = 7, 5
SLOW = {"mingru": SlowMinGRU, "minlstm": SlowMinLSTM}


def make_network(cell="lstm", layers=2, embedding=3):
    config = ModelConfig(cell=cell, hidden_size=HIDDEN, num_layers=layers, embedding_size=embedding)
    network = Network(config, VOCAB, 3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network


def make_ids(rows=3, length=23, seed=0):
    return torch.randint(2, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def overwritten(one, values, row, t):
    value = float(one.value) if not isinstance(one.value, torch.Tensor) else float(one.value[row, max(t, 0)])
    values[one.index] = math.atanh(value) if one.kind == "c" else value


def slow_losses(network, ids, held):
    """One row at a time with the textbook equations of the cell, written out again."""
    out = []
    for row, symbols in enumerate(ids.tolist()):
        states = [[torch.zeros(HIDDEN), torch.zeros(HIDDEN)] for _ in network.layers]
        nats = []
        for t, symbol in enumerate([BOUNDARY, *symbols[:-1]], start=-1):
            x = network.inputs(torch.tensor(symbol))
            for number, layer in enumerate(network.layers, start=1):
                own = {
                    kind: [h for h in held if (h.layer, "c" if h.kind == "raw" else h.kind) == (number, kind)]
                    for kind in "hcsifgorzn"
                }
                x = slow_step(network, layer, x, states[number - 1], own, row, t)
            if t >= 0:
                nats.append(cross_entropy(network.readout(x)[None], ids[row, t + 1][None]))
        out.append(torch.stack(nats))
    return torch.stack(out)


def slow_step(network, layer, x, state, own, row, t):
    cell = network.config.cell

    def kept(kind, values):
        for one in own[kind]:
            overwritten(one, values, row, t)
        return values

    if cell in SLOW:
        slow = SLOW[cell](layer.input_size, HIDDEN)
        slow.load_state_dict(layer.state_dict())
        state[0] = slow.advance(x, state[0], kept)
        return state[0]
    a = layer.weight_ih_l0 @ x + layer.bias_ih_l0
    if cell == "jordan":
        said = (layer.outputs or network.readout)(state[0]).softmax(-1)
        state[1] = kept("s", 0.5 * state[1] + layer.weight_yh_l0 @ said)
        state[0] = kept("h", torch.tanh(a + state[1]))
        return state[0]
    u = layer.weight_hh_l0 @ state[0] + layer.bias_hh_l0
    if cell == "lstm":
        i, f, g, o = (a + u).split(HIDDEN)
        i, f, o = (kept(n, torch.sigmoid(v)) for n, v in (("i", i), ("f", f), ("o", o)))
        g = kept("g", torch.tanh(g))
        state[1] = kept("c", f * state[1] + i * g)
        state[0] = kept("h", o * torch.tanh(state[1]))
    elif cell == "gru":
        (ar, az, an), (ur, uz, un) = a.split(HIDDEN), u.split(HIDDEN)
        r, z = kept("r", torch.sigmoid(ar + ur)), kept("z", torch.sigmoid(az + uz))
        n = kept("n", torch.tanh(an + r * un))
        state[0] = kept("h", (1 - z) * n + z * state[0])
    elif cell == "esn":
        state[0] = kept("h", (1 - layer.leak) * state[0] + layer.leak * torch.tanh(a + u))
    else:
        state[0] = kept("h", torch.tanh(a + u) if cell == "elman" else torch.relu(a + u))
    return state[0]


def kinds_of(cell):
    layer = CELLS[cell]
    return dict.fromkeys(
        (*layer.state_names, *layer.gate_names, *(["raw"] if "c" in layer.state_names else []))
    )


STACKED = [cell for cell in CELLS if cell != "compressor"]  # has tests of its own
CASES = [(cell, kind) for cell in STACKED for kind in kinds_of(cell)]


@torch.no_grad()
@pytest.mark.parametrize(("cell", "kind"), CASES)
@pytest.mark.parametrize("layer", [1, 2])
def test_a_held_neuron_equals_a_slow_loop(monkeypatch, cell, kind, layer):
    monkeypatch.setattr(holds, "WINDOW", 10)
    network, ids = make_network(cell), make_ids()
    held = [Held(layer, kind, 2, 0.6)]
    found = held_losses(network, ids, [[], held])
    torch.testing.assert_close(found[0], slow_losses(network, ids, []), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(found[1], slow_losses(network, ids, held), atol=2e-6, rtol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-4)


@torch.no_grad()
def test_several_neurons_in_several_layers_and_copies():
    network, ids = make_network(layers=3, embedding=0), make_ids(2, 31)
    copies = [
        [Held(2, "c", 1, -0.9), Held(3, "h", 0, 0.5), Held(2, "c", 4, 0.1)],
        [],
        [Held(2, "o", 1, 0.0)],
        [Held(3, "f", 3, 1.0)],
    ]
    found = held_losses(network, ids, copies)
    for held, nats in zip(copies, found, strict=True):
        torch.testing.assert_close(nats, slow_losses(network, ids, held), atol=2e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("length", [2, 49, 50, 51, 52, 100, 101])
def test_values_that_change_with_row_and_time(length):
    network, ids = make_network(layers=1), make_ids(3, length)
    values = torch.rand(3, length, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    held = [Held(1, "c", 0, values), Held(1, "c", 3, 0.4)]
    found = held_losses(network, ids, [held])
    assert found.shape == (1, 3, length - 1)
    torch.testing.assert_close(found[0], slow_losses(network, ids, held), atol=2e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("cell", STACKED)
def test_holding_nothing_changes_no_bit(cell):
    network, ids = make_network(cell), make_ids()
    state = bare = network.initial_state(len(ids))
    for t in range(ids.shape[1]):
        logits, state = network.step(ids[:, t], state, hold_all([], network))
        expected, bare = network.step(ids[:, t], bare)
        assert torch.equal(logits, expected)


@torch.no_grad()
def test_a_state_held_at_what_it_would_be_anyway_changes_no_bit():
    network, ids = make_network(), make_ids()
    state = network.initial_state(len(ids))
    for t in range(ids.shape[1]):
        expected, after = network.step(ids[:, t], state)
        one = Held(1, "h", 2, 0.0)
        again, _ = network.step(ids[:, t], state, hold_all([one], network))
        same = [Held(1, "h", 2, after[0][0][:, 2])]  # one value for every row
        logits, _ = network.step(ids[:, t], state, hold_all(same, network))
        assert torch.equal(logits, expected)
        assert not torch.equal(again, expected)
        state = after


@torch.no_grad()
def test_speaking_with_a_held_neuron_sees_its_value():
    network, ids = make_network(layers=1), make_ids()
    _, state = network.step(
        ids[:, 0], network.initial_state(len(ids)), hold_all([Held(1, "c", 2, 0.7)], network)
    )
    torch.testing.assert_close(torch.tanh(state[0][1][:, 2]), torch.full((len(ids),), 0.7))


@torch.no_grad()
def test_a_c_neuron_can_be_held_at_its_very_ends():
    network, ids = make_network(layers=1), make_ids()
    assert held_losses(network, ids, [[Held(1, "c", 2, 1.0)], [Held(1, "c", 2, -1.0)]]).isfinite().all()


@pytest.mark.parametrize("cell", ["lstm", "compressor"])
def test_odds_are_those_of_the_losses(cell):
    """Of all symbols they make probabilities that sum to 1, and of what comes next they are what it costs."""
    network = new_network(
        ModelConfig(cell=cell, hidden_size=HIDDEN, num_layers=2, embedding_size=3), VOCAB, 3
    )
    network, ids = network.eval(), make_ids(length=60)
    copies = [[], [Held(1, "h", 2, 0.7)]]
    p = torch.stack([held_log_odds(network, ids, copies, symbol).sigmoid() for symbol in range(VOCAB)])
    torch.testing.assert_close(p.sum(0), torch.ones_like(p[0]))
    nats = -p.gather(0, ids[None, None, :, 1:].expand(1, 2, -1, -1))[0].log()
    torch.testing.assert_close(nats, held_losses(network, ids, copies).double(), atol=1e-5, rtol=1e-5)
    for copy, held in enumerate(copies):
        expected = slow_losses(network, ids, held) if cell == "lstm" else nats[copy]
        torch.testing.assert_close(nats[copy], expected.double(), atol=1e-5, rtol=1e-5)
