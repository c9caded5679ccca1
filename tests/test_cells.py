"""Every cell: its plain-PyTorch definition against torch.nn or a slow loop, its fast path against that."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_cells import OUTPUTS, SlowJordan, SlowMinGRU, SlowMinLSTM
from torch import nn

from charrnn.config import CELLS, ModelConfig
from charrnn.model.cells.base import RecurrentLayer
from charrnn.model.network import Network

CELL_NAMES = [cell for cell in CELLS if issubclass(CELLS[cell], RecurrentLayer)]
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "cells.md"
OTHER = {
    "lstm": lambda i, h: nn.LSTM(i, h),
    "gru": lambda i, h: nn.GRU(i, h),
    "elman": lambda i, h: nn.RNN(i, h),
    "elman_relu": lambda i, h: nn.RNN(i, h, nonlinearity="relu"),
    "jordan": SlowJordan,
    "mingru": SlowMinGRU,
    "minlstm": SlowMinLSTM,
}


def loss_of(outputs, state):
    """A number that depends on every output and every part of the final state, each in its own way."""
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return (outputs * weights).sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(state))


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors, allow_unused=False)


def assert_same(first, second, tolerance=1e-10):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", OTHER)
@pytest.mark.parametrize(("size", "hidden", "batch", "length"), [(5, 7, 3, 11), (1, 1, 1, 1), (13, 33, 2, 5)])
def test_reference_equals_an_independent_layer(cell, size, hidden, batch, length):
    torch.manual_seed(0)
    # the first of two: the last layer may share weights with the network's readout
    layer = (
        Network(ModelConfig(cell, hidden, 2, embedding_size=size, dropout=0.0), OUTPUTS).layers[0].double()
    )
    other = OTHER[cell](size, hidden).double()
    other.load_state_dict(layer.state_dict())
    inputs = torch.randn(length, batch, size, dtype=torch.float64)
    state = [torch.randn(batch, hidden, dtype=torch.float64) for _ in layer.state_names]
    mine = [inputs.clone().requires_grad_(), *(s.clone().requires_grad_() for s in state)]
    theirs = [inputs.clone().requires_grad_(), *(s.clone().requires_grad_() for s in state)]

    outputs, after = layer.reference(mine[0], tuple(mine[1:]))
    layered = tuple(s.unsqueeze(0) for s in theirs[1:])
    expected, expected_after = other(theirs[0], layered if len(layered) > 1 else layered[0])
    expected_after = expected_after if isinstance(expected_after, tuple) else (expected_after,)
    expected_after = tuple(s.squeeze(0) for s in expected_after)

    assert_same([outputs, *after], [expected, *expected_after])
    names = [name for name, _ in layer.named_parameters()]
    own, others = dict(layer.named_parameters()), dict(other.named_parameters())
    assert_same(
        gradients(loss_of(outputs, after), [*mine, *(own[n] for n in names)]),
        gradients(loss_of(expected, expected_after), [*theirs, *(others[n] for n in names)]),
    )


def network_and_window(cell, resets, embedding=0, layers=3, hidden=13, batch=5, length=17):
    torch.manual_seed(1)
    config = ModelConfig(cell, hidden, layers, embedding_size=embedding, dropout=0.0)
    network = Network(config, vocab_size=11, seed=3).double()
    ids = torch.randint(1, 11, (batch, length))
    ids[torch.rand(batch, length) < resets] = 0
    state = tuple(
        tuple(torch.randn(batch, hidden).double() for _ in layer) for layer in network.initial_state(batch)
    )
    return network, ids, state


def leaves(state):
    return tuple(tuple(part.clone().requires_grad_() for part in layer) for layer in state)


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("resets", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("embedding", [0, 4])
def test_fast_path_equals_reference_with_documents_that_begin_anywhere(cell, resets, embedding):
    network, ids, state = network_and_window(cell, resets, embedding)
    fast_state, slow_state = leaves(state), leaves(state)
    fast, fast_after = network(ids, fast_state)
    slow, slow_after = network.reference(ids, slow_state)
    flat = [[p for layer in s for p in layer] for s in (fast_after, slow_after, fast_state, slow_state)]
    assert_same([fast, *flat[0]], [slow, *flat[1]])
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    assert_same(
        gradients(loss_of(fast, flat[0]), [*weights, *flat[2]]),
        gradients(loss_of(slow, flat[1]), [*weights, *flat[3]]),
    )


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("embedding", [0, 4])
def test_single_steps_equal_reference(cell, embedding):
    network, ids, state = network_and_window(cell, 0.2, embedding)
    expected, expected_after = network.reference(ids, state)
    for t in range(ids.shape[1]):
        logits, state = network.step(ids[:, t], state)
        torch.testing.assert_close(logits, expected[:, t])
    assert_same([p for layer in state for p in layer], [p for layer in expected_after for p in layer])


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_a_document_does_not_see_the_one_before(cell):
    network, ids, state = network_and_window(cell, 0.0)
    ids[:, 6] = 0
    changed = ids.clone()
    changed[:, :6] = changed[:, :6] % 10 + 1
    first, second = network(ids, state)[0], network(changed, state)[0]
    torch.testing.assert_close(first[:, 6:], second[:, 6:], rtol=0, atol=0)
    assert not torch.equal(first[:, :6], second[:, :6])


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("resets", [0.0, 0.3])
def test_trace_repeats_what_the_steps_do(cell, resets):
    network, ids, state = network_and_window(cell, resets)
    traces, after = network.trace(ids, state)
    assert_same([p for s in after for p in s], [p for s in network.reference(ids, state)[1] for p in s])
    layer_states = list(state)
    for t in range(ids.shape[1]):
        _, now = network.step(ids[:, t], tuple(layer_states))
        for trace, layer, layer_state in zip(traces, network.layers, now, strict=True):
            for name, part in zip(layer.state_names, layer_state, strict=True):
                torch.testing.assert_close(trace[name][t], part)
        layer_states = list(now)
    torch.testing.assert_close(traces[-1]["h"], network.hidden(ids, state)[0])
    for layer, trace in zip(network.layers, traces, strict=True):
        assert set(trace) == {*layer.state_names, *layer.gate_names}


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_the_loss_of_training_is_the_cross_entropy_of_the_logits(cell):
    network, ids, _ = network_and_window(cell, 0.1)
    network, targets = network.float(), ids.roll(-1, 1)
    logits, _ = network(ids, network.initial_state(len(ids)))
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss, _ = network.loss(ids, targets, network.initial_state(len(ids)))
    torch.testing.assert_close(loss, expected)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for got, wanted in zip(gradients(loss, weights), gradients(expected, weights), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_the_document_of_the_cells_has_a_row_for_every_one(cell):
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    (row,) = [row for row in rows if f"`{cell}`" in row]
    recorded = row.split("|")[4].split()
    assert recorded == [*CELLS[cell].state_names, *CELLS[cell].gate_names]


def test_forget_bias_is_the_sum_of_both_biases():
    layer = Network(ModelConfig("lstm", 6, 1, 0, 0.0, forget_bias=1.5), 9).layers[0]
    rows = slice(6, 12)
    assert torch.equal(layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows], torch.full((6,), 1.5))


def test_first_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
    config = ModelConfig("lstm", 6, 1, 0, 0.0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (Network(config, 9, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.readout.weight, same.readout.weight)
    assert not torch.equal(first.readout.weight, other.readout.weight)


def test_dropout_is_a_function_of_its_generator_and_absent_without_one():
    network = Network(ModelConfig("lstm", 8, 2, 0, 0.5), 9)
    ids, state = torch.randint(1, 9, (2, 6)), network.initial_state(2)
    with torch.no_grad():
        plain = network(ids, state)[0]
        noisy = [network(ids, state, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
        assert torch.equal(plain, network(ids, state)[0])
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], plain)


def test_dropout_keeps_the_mean():
    network = Network(ModelConfig("lstm", 8, 1, 0, 0.25), 9)
    values = torch.ones(200_000)
    dropped = network._drop(values, torch.Generator().manual_seed(0), 0.25)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)


def test_jordan_is_fed_the_probabilities_that_the_network_gave():
    """A whole network in numpy, from the equations, documents included; double precision."""
    network, ids, _ = network_and_window("jordan", 0.15, layers=1, length=29)
    w = {name: value.detach().numpy() for name, value in network.named_parameters()}
    read, heard = w["layers.0.weight_ih_l0"], w["layers.0.weight_yh_l0"]
    found, _ = network(ids, network.initial_state(len(ids)))
    for row, logits in zip(ids.tolist(), found.detach().numpy(), strict=True):
        said, units = np.exp(w["readout.bias"]), np.zeros(11)
        for t, symbol in enumerate(row):
            if symbol == 0:
                said, units = np.exp(w["readout.bias"]), np.zeros(11)
            units = 0.5 * units + said / said.sum()
            h = np.tanh(read[:, symbol] + w["layers.0.bias_ih_l0"] + heard @ units)
            np.testing.assert_allclose(logits[t], w["readout.weight"] @ h + w["readout.bias"], rtol=1e-10)
            said = np.exp(logits[t])


def test_a_jordan_networks_shared_readout_is_counted_and_saved_once():
    network = Network(ModelConfig("jordan", 6, 2, 0, 0.0), 9)
    names = set(network.state_dict())
    assert {name for name in names if "outputs" in name} == {
        "layers.0.outputs.weight",
        "layers.0.outputs.bias",
    }
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.readout.weight.mul_(3.0)
    ids = torch.randint(1, 9, (2, 5), generator=torch.Generator().manual_seed(0))
    state = network.initial_state(2)
    before = network(ids, state)[1][1][1]
    assert not torch.allclose(copied(ids, state)[1][1][1], before)  # its own readout is what it hears
    torch.testing.assert_close(network(ids, state)[1][1][1], before, rtol=0, atol=0)
