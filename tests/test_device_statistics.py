"""Losses and statistics that stay on a device until they are read: run on the CPU, against its own paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from waiting import NoWaiting

from charrnn.config import ModelConfig
from charrnn.errors import InspectionError
from charrnn.inspection import record
from charrnn.inspection.examples import packed_there
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, all_neurons, raw_values
from charrnn.inspection.scores import Moments
from charrnn.model import kernels, network, scoring
from charrnn.model.cells import lstm
from charrnn.model.network import Network
from charrnn.model.scoring import TextView, mean_nats, score, score_cold

VOCAB = 9
CELLS = ["lstm", "gru", "elman", "elman_relu"]


def make_network(cell="lstm", layers=2, embedding=0, **levers):
    config = ModelConfig(cell, 7, layers, embedding_size=embedding, dropout=0.0, **levers)
    made = Network(config, VOCAB, seed=3).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.weight_ih_l0.mul_(2)
            layer.weight_hh_l0.mul_(0.5)
            if cell == "elman_relu":  # begins with no input to speak of
                torch.nn.init.uniform_(layer.weight_ih_l0, -1, 1, torch.Generator().manual_seed(1))
        made.readout.weight.mul_(3)
    return made


def view_of(length, seed=0):
    places = np.random.default_rng(seed).integers(1, VOCAB, length).astype(np.uint8)
    places[:: length // 3 + 1] = 0  # a few documents
    return TextView(places, np.array([0, *range(1, VOCAB)]), 0, length)


@pytest.fixture
def as_on_a_device(monkeypatch):
    """The paths of an accelerator, on the CPU."""
    monkeypatch.setattr(kernels, "usable", lambda *_: False)
    monkeypatch.setattr(network, "RETRACED", ("cpu",))


# evaluation


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("length", [60, 300, 1000])
@pytest.mark.parametrize("cold", [None, 40])
def test_costs_that_come_together_are_those_that_come_window_by_window(monkeypatch, cell, length, cold):
    monkeypatch.setattr(scoring, "WINDOW", 7)
    monkeypatch.setattr(scoring, "STREAM_SYMBOLS", 100)
    monkeypatch.setattr(scoring, "WARM_UP", 20)
    made, view = make_network(cell), view_of(length)

    def costs():
        windows = list(score_cold(made, view, cold) if cold else score(made, view))
        found = {}
        for window in windows:
            costs = zip(window.place.flat, window.nats.flat, strict=True)
            found |= dict(zip(window.index.flat, costs, strict=True))
        return found, len(windows)

    alone, number = costs()
    loss = mean_nats(made, view, np.zeros(VOCAB))
    monkeypatch.setattr(scoring, "_windows_at_once", lambda device: 3)
    together, fewer = costs()
    assert together == alone and -(-number // 3) <= fewer < number
    assert mean_nats(made, view, np.zeros(VOCAB)) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_costs_wait_for_nothing_until_they_are_read(as_on_a_device, monkeypatch, cell):
    monkeypatch.setattr(scoring, "WINDOW", 7)
    made, ids = make_network(cell), np.random.default_rng(0).integers(1, VOCAB, (3, 40))
    state = made.initial_state(3)
    expected, _ = scoring._costs(made, ids, state)
    with NoWaiting():
        found, _ = scoring._costs(made, ids, state)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_document_may_begin_anywhere_in_a_window(monkeypatch, cell):
    monkeypatch.setattr(scoring, "WINDOW", 5)
    made, random = make_network(cell), np.random.default_rng(0)
    for at in range(12):
        ids = random.integers(1, VOCAB, (2, 13))
        ids[1, at] = 0
        with torch.inference_mode():
            logits, _ = made.reference(torch.from_numpy(ids[:, :-1]), made.initial_state(2))
        right = -logits.log_softmax(-1).gather(2, torch.from_numpy(ids[:, 1:, None]))[..., 0]
        np.testing.assert_allclose(scoring._costs(made, ids, made.initial_state(2))[0], right, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_recording_waits_for_nothing(as_on_a_device, cell):
    made = make_network(cell)
    recorder, ids = Recorder(made, np.arange(VOCAB), all_neurons(made, "h")), torch.full((3, 10), 2)
    with NoWaiting(), torch.inference_mode():
        parts, _ = recorder._window(ids, made.initial_state(3), False, {"inside": False})
    assert [part.shape for part in parts] == [(10, 3, 7), (10, 3, 7)]


# traces that are made from outputs


def both_traces(monkeypatch, made, ids, state):
    """By steps, and from the outputs."""
    by_steps = made.trace(ids, state)
    monkeypatch.setattr(network, "RETRACED", ("cpu",))
    return by_steps, made.trace(ids, state)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding", [0, 3])
@pytest.mark.parametrize("resets", [False, True])
def test_a_trace_from_the_outputs_is_that_of_the_steps(monkeypatch, cell, embedding, resets):
    made = make_network(cell, 3, embedding).double()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0 if resets else 1, VOCAB, (4, 23)))
    state = tuple(tuple(torch.randn_like(part) for part in layer) for layer in made.initial_state(4))
    (expected, ended), (found, after) = both_traces(monkeypatch, made, ids, state)
    for a, b in zip(expected, found, strict=True):
        assert set(a) == set(b) == {*made.layers[0].state_names, *made.layers[0].gate_names}
        for name in a:
            torch.testing.assert_close(b[name], a[name], rtol=0, atol=1e-12)
    torch.testing.assert_close(after, ended, rtol=0, atol=1e-12)


def test_with_zoneout_there_is_no_way_but_steps(monkeypatch):
    made = make_network(zoneout=0.3)
    ids = torch.randint(1, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    (expected, _), (found, _) = both_traces(monkeypatch, made, ids, made.initial_state(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def random_pieces(*lengths):
    random = np.random.default_rng(1)
    places = [random.integers(1, VOCAB, length).astype(np.uint8) for length in lengths]
    return [Piece("x" * len(p), p, np.zeros((len(p), 1), np.float32), 0, 0, 0, True) for p in places]


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_recorded_there_is_what_is_recorded_here(monkeypatch, request, cell):
    monkeypatch.setattr(record, "WINDOW", 10)
    made, pieces = make_network(cell), random_pieces(35, 60, 12)
    kinds = (*made.layers[0].state_names, *made.layers[0].gate_names)
    neurons = [neuron for kind in kinds for neuron in all_neurons(made, kind)]
    expected = raw_values(Recorder(made, np.arange(VOCAB), neurons), pieces)
    request.getfixturevalue("as_on_a_device")
    recorder = Recorder(made, np.arange(VOCAB), neurons)
    for found, wanted in zip(raw_values(recorder, pieces), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)
        assert np.std(wanted) > 0.05
    assert recorder.largest_error < 1e-5


def test_gates_that_are_exchanged_are_noticed_there_too(monkeypatch, as_on_a_device):
    right = lstm._activate
    monkeypatch.setattr(lstm, "_activate", lambda gates: [right(gates)[k] for k in (1, 0, 2, 3)])
    with pytest.raises(InspectionError, match="misses the forward pass"):
        raw_values(Recorder(make_network(), np.arange(VOCAB), [Neuron(1, "c", 0)]), random_pieces(30))


# sums


def window_of(lengths, length=10, neurons=5):
    values = torch.randn(len(lengths), length, neurons, generator=torch.Generator().manual_seed(2))
    return Recorded(list(range(len(lengths))), 20, np.array(lengths), [values.transpose(0, 1)])


@pytest.mark.parametrize("lengths", [[10, 10], [10, 7, 1, 0], [3]])
def test_the_text_of_a_window_is_what_is_neither_padding_nor_skipped(lengths):
    window = window_of(lengths)
    rows = [window.values[i, :n] for i, n in enumerate(lengths)]
    torch.testing.assert_close(window.text(), torch.cat(rows), rtol=0, atol=0)
    first = np.arange(len(lengths)) * 2 - 1
    rows = [row[max(0, skip) :] for row, skip in zip(rows, first, strict=True)]
    torch.testing.assert_close(window.text(first), torch.cat(rows), rtol=0, atol=0)


def test_sums_of_a_window_wait_for_nothing():
    window, moments = window_of([10, 7, 4]), Moments(5, 2, "cpu")
    labels = torch.randint(0, 2, (21, 2), generator=torch.Generator().manual_seed(1)).float()
    labels[:3, 1] = torch.nan
    with NoWaiting():
        moments.add(window.text(), labels)
        moments.add(window.text(), labels)
    once = Moments(5, 2)
    once.add(torch.cat([window.text()] * 2), torch.cat([labels] * 2))
    np.testing.assert_allclose(moments.correlations(), once.correlations(), atol=1e-6)


@pytest.mark.parametrize("width", [1, 8, 13, 64])
def test_bits_are_packed_as_numpy_packs_them(width):
    bits = np.random.default_rng(width).random((3, 4, width)) < 0.5
    found = packed_there(torch.from_numpy(bits))
    np.testing.assert_array_equal(found.numpy(), np.packbits(bits, axis=-1))
    assert found.dtype == torch.uint8
