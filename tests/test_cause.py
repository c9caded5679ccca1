"""Interventions: equal to a slow loop over steps, beside the right controls, and right where planted."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from planting import (
    PROFILE,
    VOCABULARY,
    id_of,
    in_parentheses,
    piece_of,
    plant_flags,
    random_network,
    two_alphabets,
)

from charrnn.errors import InspectionError
from charrnn.inspection import cause
from charrnn.inspection.cause import (
    CONTROLS,
    WARM_UP,
    Interventions,
    choose_excerpts,
    donors,
    fits,
    row_length,
    split,
)
from charrnn.inspection.consequences import closing, direct_logits
from charrnn.inspection.figures import Cause
from charrnn.inspection.findings import Row
from charrnn.inspection.names import Neuron
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.inspection.verdicts import with_cause
from charrnn.text.vocabulary import BOUNDARY

TABLE = np.arange(len(VOCABULARY))
SIZE = 32
TRACKS = Row(hypothesis="in_parentheses", type="binary", r_untrained=0, neuron="L1.c2", r=1, verdict="tracks")


@pytest.fixture(scope="module")
def pieces():
    texts = [two_alphabets(seed, 830) for seed in range(30)]
    return [piece_of(text, n, in_parentheses(text, PROFILE)[:, None]) for n, text in enumerate(texts)]


def flagged(indices, strength, seed=1):
    return plant_flags(random_network(seed, layers=1, hidden=SIZE), indices, strength)


def interventions(network, pieces, ablation="mean", values=None, hypotheses=(0,)):
    neurons = all_neurons(network, "c")
    if values is None:
        values = torch.from_numpy(np.concatenate(raw_values(Recorder(network, TABLE, neurons), pieces)))
    return Interventions(network, TABLE, pieces, neurons, values, hypotheses, ablation)


# what holding costs


@torch.no_grad()
def slow_run(network, symbols, held=None):
    """One row, one step at a time; return log probabilities after each symbol, and tanh(c) of layer 1."""
    state, out, cells = network.initial_state(1), [], []
    for t, symbol in enumerate([BOUNDARY, *symbols], start=-1):

        def hold(kind, values, t=t):
            if kind == "c" and held is not None:
                index, value = held
                values[..., index] = torch.atanh(torch.tensor(value[max(t, 0)]))
            return values

        logits, state = network.step(torch.tensor([symbol]), state, lambda layer, own=hold: own)
        out.append(logits[0].log_softmax(-1).numpy())
        cells.append(torch.tanh(state[0][1][0]).numpy())
    return np.array(out)[1:], np.array(cells)[1:]


def slow_bits(network, symbols, held=None):
    said, _ = slow_run(network, symbols, held)
    return np.array([-said[t, symbols[t + 1]] for t in range(len(symbols) - 1)]) / log(2)


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_what_holding_costs_equals_a_slow_loop(monkeypatch, pieces, ablation):
    monkeypatch.setattr(cause, "ROWS", 3)
    monkeypatch.setattr(cause, "ROW_CHARS", 90)
    network = flagged([2], 3)
    held = interventions(network, pieces[:4], ablation)
    rows = held.excerpts.ids.tolist()
    assert len(rows) == 3 and {len(row) for row in rows} == {90}
    all_cells = np.concatenate([slow_run(network, piece.places.tolist())[1] for piece in pieces[:4]])
    for neuron in (2, 7):
        for i, row in enumerate(rows):
            value = {"mean": np.full(90, all_cells[:, neuron].mean()), "zero": np.zeros(90)}.get(ablation)
            if ablation == "resample":
                own = held.excerpts.documents
                others = [j for j in range(3) if own[j] != own[i]]
                value = slow_run(network, rows[others[(i - 1) % len(others)]])[1][:, neuron]
            expected = slow_bits(network, row, (neuron, value)) - slow_bits(network, row)
            np.testing.assert_allclose(held.delta_bits(neuron)[i], expected, atol=2e-4)
        assert np.abs(held.delta_bits(neuron)).max() > 1e-3


def test_means_over_on_and_off_leave_the_warm_up_out(pieces):
    held = interventions(flagged([2], 3), pieces)
    (found,) = held.causes([(2, 0)])
    bits, on, off, scored = held.delta_bits(2), [], [], 0
    for i, (number, begin) in enumerate(held.excerpts.spots):
        labels = in_parentheses(pieces[number].text, PROFILE)[begin : begin + cause.ROW_CHARS]
        for t in range(WARM_UP, cause.ROW_CHARS - 1):
            (on if labels[t] else off).append(bits[i, t])
            scored += 1
    assert scored == 25 * (400 - 1 - 64)
    assert found.alone.on == pytest.approx(np.mean(on)) and found.alone.off == pytest.approx(np.mean(off))
    assert found.alone.on_low < found.alone.on < found.alone.on_high
    assert found.alone.value == pytest.approx(held.values_of(2).mean(), abs=1e-5)


def test_a_resampled_neuron_has_no_single_value(pieces):
    (found,) = interventions(flagged([2], 3), pieces, "resample").causes([(2, 0)])
    assert found.alone.value is None


@pytest.mark.parametrize("block", [1, 4, 12])
def test_resampled_values_are_another_documents(block):
    """Excerpts stand in the order of the text, many of one document in a row."""
    documents = np.repeat(np.arange(3), block)
    found = donors(documents)
    assert (documents[found] != documents).all()
    assert len(set(found)) > block
    assert donors(np.zeros(3)) == [2, 0, 1]


def test_a_neuron_is_resampled_from_another_document_at_the_same_characters(pieces):
    own = [replace(piece, document=n // 15) for n, piece in enumerate(pieces)]
    held = interventions(flagged([2], 3), own, "resample")
    values, documents = held.activations([Neuron(1, "c", 2)])[..., 0], held.excerpts.documents
    for row, kept in enumerate(held.held(2).value.numpy()):
        (found,) = (i for i, other in enumerate(values) if np.array_equal(other, kept))
        assert documents[found] != documents[row]


def test_both_ways_of_holding_are_measured_and_compared(pieces):
    network = flagged([2], 3)
    by_mean, resampled = (interventions(network, pieces, how) for how in ("mean", "resample"))
    (mean,), (other,) = by_mean.causes([(2, 0)]), resampled.causes([(2, 0)])
    for one, two in ((mean, other), (other, mean)):
        assert (one.otherwise.on, one.otherwise.off) == pytest.approx((two.alone.on, two.alone.off))
        assert one.otherwise.value == pytest.approx(two.alone.value)
        assert one.agrees and one.to_json()["agrees"] and one.otherwise.controls_on == ()
    nothing = replace(mean.otherwise, on_low=-0.1)
    assert Cause(mean.alone, otherwise=nothing).agrees is False
    assert Cause(nothing, otherwise=nothing).agrees and Cause(mean.alone).agrees is None


def test_an_unknown_ablation_is_an_error(pieces):
    with pytest.raises(InspectionError, match="unknown ablation `median`"):
        interventions(flagged([2], 3), pieces, "median")


# planted truth


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_a_flag_that_the_readout_uses_is_used(pieces, ablation):
    (found,) = interventions(flagged([2], 4), pieces, ablation).causes([(2, 0)])
    assert found.alone.beats
    assert found.alone.on > 0.2 and found.alone.on > found.alone.off
    assert found.alone.held == ("L1.c2",) and len(found.alone.controls_on) == CONTROLS
    assert with_cause(replace(TRACKS, cause=found)).verdict == "used"


@pytest.mark.parametrize("strength", [0, -4])
def test_a_flag_that_is_ignored_or_misleads_is_not_used(pieces, strength):
    (found,) = interventions(flagged([2], strength), pieces).causes([(2, 0)])
    assert not found.alone.beats and found.alone.on <= 0
    assert with_cause(replace(TRACKS, cause=found)).verdict == "tracks"


def test_controls_are_held_only_beside_what_surely_costs_something(pieces):
    (flag,) = interventions(flagged([2], 4), pieces).causes([(2, 0)])
    assert flag.alone.on_low > 0 and len(flag.alone.controls_on) == CONTROLS
    misleading = interventions(flagged([2], -4), pieces)
    (found,) = misleading.causes([(2, 0)])
    assert found.alone.on_low <= 0 and found.alone.controls_on == () and not found.alone.beats
    assert misleading._deltas.keys() == {(2,), misleading.alike(2)}


def test_a_flag_with_copies_is_redundant(pieces):
    """Any one of three can be missed, as the others still rule out what cannot follow; all three cannot."""
    (found,) = interventions(flagged([2, 9, 17], 9), pieces, "zero").causes([(2, 0)])
    assert not found.alone.beats and abs(found.alone.on) < 0.01
    assert sorted(found.group.held) == ["L1.c17", "L1.c2", "L1.c9"]
    assert found.group.beats and found.group.on > 0.2
    assert with_cause(replace(TRACKS, cause=found)).verdict == "redundant"


def test_several_neurons_at_once_are_as_each_alone(pieces):
    network = flagged([2, 9], 2)
    together = interventions(network, pieces).causes([(2, 0), (5, 0), (9, 0)])
    alone = [interventions(network, pieces).causes([(n, 0)])[0] for n in (2, 5, 9)]
    for a, b in zip(together, alone, strict=True):
        assert a.alone.on == pytest.approx(b.alone.on, abs=1e-6)
        assert a.alone.controls_on == pytest.approx(b.alone.controls_on, abs=1e-6)
        assert (a.group is None) == (b.group is None)


def test_next_characters_are_what_the_neuron_adds_where_it_is_on(monkeypatch, pieces):
    monkeypatch.setattr(cause, "ROWS", 4)
    monkeypatch.setattr(cause, "ROW_CHARS", 120)
    network = flagged([2], 3)
    held = interventions(network, pieces[:6], "zero")
    found, total, count = held.next_characters(2, 0), 0, 0
    for i, row in enumerate(held.excerpts.ids.tolist()):
        free, without = (slow_run(network, row, h)[0] for h in (None, (2, np.zeros(120))))
        for t in np.flatnonzero(held.excerpts.labels[i, :, 0] > 0):
            total, count = total + free[t] - without[t], count + 1
    np.testing.assert_allclose(found, total / count, atol=1e-4)
    suppressed = VOCABULARY.encode("efgh(")
    assert found[suppressed].max() < -1 < 0 < np.delete(found, suppressed).min()


@torch.no_grad()
@pytest.mark.parametrize("neuron", [2, 7])
def test_what_the_readout_alone_says_is_its_weights_times_the_change_of_h(monkeypatch, pieces, neuron):
    monkeypatch.setattr(cause, "ROWS", 4)
    monkeypatch.setattr(cause, "ROW_CHARS", 120)
    network = flagged([2], 3)
    held = interventions(network, pieces[:6])
    labels, outputs = held.excerpts.labels[..., 0], []
    for row in held.excerpts.ids.tolist():
        state, h = network.initial_state(1), []
        for symbol in [BOUNDARY, *row[:-1]]:
            _, state = network.step(torch.tensor([symbol]), state)
            h.append(float(state[0][0][0, neuron]))
        outputs.append(h[1:])
    h = np.array(outputs)
    difference = np.mean(h[labels == 1]) - np.mean(h[labels == 0])
    assert abs(difference) > 0.005
    expected = [difference * float(weight) for weight in network.readout.weight[:, neuron]]
    np.testing.assert_allclose(direct_logits(held, neuron, 0), expected, atol=1e-6)


def test_what_the_readout_does_not_read_says_nothing_directly(pieces):
    network = random_network(1, hidden=SIZE)
    held = interventions(network, pieces)
    assert direct_logits(held, 3, 0) is None and direct_logits(held, SIZE + 3, 0) is not None
    held.excerpts.labels[...] = 1
    assert direct_logits(held, SIZE + 3, 0) is None
    held.neurons = all_neurons(network, "o")
    held.excerpts.labels[0, :] = 0
    assert direct_logits(held, SIZE + 3, 0) is None


def test_the_end_is_the_odds_of_the_character_that_ends(monkeypatch, pieces):
    monkeypatch.setattr(cause, "ROWS", 8)
    monkeypatch.setattr(cause, "ROW_CHARS", 150)
    network = flagged([2], 3)
    held = interventions(network, pieces[:6], "zero")
    found, mark = closing(held, 2, 0, VOCABULARY), id_of(")")
    inside, outside, there = [], [], []
    for i, row in enumerate(held.excerpts.ids.tolist()):
        free, without = (np.exp(slow_run(network, row, h)[0][:, mark]) for h in (None, (2, np.zeros(150))))
        odds = [np.log2(p / (1 - p)) for p in (without, free)]
        for t, label in enumerate(held.excerpts.labels[i, :, 0]):
            if label == 1:
                inside.append(odds[0][t] - odds[1][t])
            if label == 0:
                outside.append(odds[0][t] - odds[1][t])
            if label == 1 and row[t + 1] == mark and t + 2 < len(row):
                there.append((free[t], without[t]))
    assert len(there) >= 5
    assert (found.char, found.share) == (")", 1.0)
    assert (found.inside, found.outside) == pytest.approx((np.mean(inside), np.mean(outside)), abs=1e-3)
    assert (found.free, found.held) == pytest.approx(np.mean(there, axis=0), abs=1e-4)
    assert found.inside < -0.1 and found.free > found.held


def test_what_hardly_ever_ends_has_no_end(pieces):
    held = interventions(flagged([2], 3), pieces)
    held.excerpts.labels[...] = 0
    held.excerpts.labels[:4, 100] = 1
    assert closing(held, 2, 0, VOCABULARY) is None


# controls


def some_values(random, size, length=400):
    return torch.from_numpy(random.normal(size=(length, size)).astype(np.float32))


def test_neurons_that_correlate_form_a_group(pieces):
    values = some_values(np.random.default_rng(0), 2 * SIZE)
    noise = some_values(np.random.default_rng(1), 2 * SIZE)
    for other, sign, share in ((3, 1, 0.2), (40, -1, 0.5), (5, 1, 0.9), (6, 1, 1.3)):
        values[:, other] = 7 + sign * values[:, 0] + share * noise[:, other]
    held = interventions(random_network(1, hidden=SIZE), pieces, values=values)
    r = np.corrcoef(values.numpy().T)[0]
    assert held.alike(0) == (0, 3, 40, 5) and abs(r[5]) > 0.7 > abs(r[6])


def test_a_group_has_at_most_eight_members_but_controls_are_no_likes_of_its_neuron(pieces):
    values = some_values(np.random.default_rng(2), 2 * SIZE)
    values[:, 1:12] = values[:, :1] + 0.3 * values[:, 1:12]
    held = interventions(random_network(1, hidden=SIZE), pieces, values=values)
    assert len(held.alike(0)) == 8 and set(held.alike(0)) <= set(range(12))
    assert set(held.controls(0)).isdisjoint(range(12))


@pytest.mark.parametrize("neuron", [0, SIZE])
def test_controls_are_of_the_same_layer_and_most_alike_in_spread_and_outgoing_weights(pieces, neuron):
    """Of 31 others, 20 have just its spread and its weights; six have another spread, five other weights."""
    network, values = random_network(1, hidden=SIZE), some_values(np.random.default_rng(3), 2 * SIZE)
    values /= values.std(0)
    others = np.random.default_rng(4).permutation(np.arange(1, SIZE))
    spread, weights, alike = others[:6], others[6:11], others[11:]
    readers = network.layers[1].weight_ih_l0 if neuron == 0 else network.readout.weight
    values[:, spread + neuron] *= 30
    with torch.no_grad():
        readers /= readers.norm(dim=0)
        readers[:, weights] *= 30
    held = interventions(network, pieces, values=values)
    assert sorted(held.controls(neuron)) == sorted(alike + neuron)


def test_controls_are_the_closest_of_a_whole_large_layer(pieces):
    """Of 159 others, 20 are as heavy as it is; everything else is far lighter, in steps."""
    size = 160
    network = random_network(1, layers=1, hidden=size)
    values = some_values(np.random.default_rng(3), size)
    values /= values.std(0)
    with torch.no_grad():
        network.readout.weight /= network.readout.weight.norm(dim=0)
    heavy = np.random.default_rng(5).permutation(np.arange(1, size))[:20]
    light = np.setdiff1d(np.arange(1, size), heavy)
    values[:, light] *= torch.from_numpy(np.geomspace(0.01, 0.5, len(light)).astype(np.float32))
    held = interventions(network, pieces, values=values)
    assert sorted(held.controls(0)) == sorted(heavy)


def test_a_small_layer_has_fewer_controls_and_nothing_beats_them(pieces):
    network = plant_flags(random_network(1, layers=1, hidden=18), [2], 4)
    (found,) = interventions(network, pieces).causes([(2, 0)])
    assert len(found.alone.controls_on) < CONTROLS
    assert found.alone.on > max(found.alone.controls_on) and not found.alone.beats


def test_control_groups_are_as_large_as_the_group_and_all_different(pieces):
    held = interventions(flagged([2, 9, 17], 9), pieces)
    group = held.alike(2)
    others = held._control_groups(group)
    assert len(set(others)) == len(others) == CONTROLS
    assert {len(set(other)) for other in others} == {3}
    assert all(set(other).isdisjoint(group) for other in others)


@pytest.mark.parametrize("k", range(6))
def test_no_control_stands_for_two_members(k):
    assert sorted(cause._one_of_each([[1, 2, 3], [3, 1, 2], [2, 3, 1]], k)) == [1, 2, 3]


@pytest.mark.parametrize(("hidden", "count"), [(6, 1), (5, 0)])
def test_a_group_without_enough_controls_beats_nothing(pieces, hidden, count):
    network = plant_flags(random_network(1, layers=1, hidden=hidden), [0, 2, 4], 9)
    (found,) = interventions(network, pieces, "zero").causes([(2, 0)])
    assert found.group is not None and found.group.on > 0.2
    assert not found.group.beats and len(found.group.controls_on) == count


# what beats controls


def test_on_and_off_are_averaged_apart():
    delta = np.array([[1.0, 2, 3, 4, 5, 6]])
    labels = np.array([[0, 1, np.nan, 3, 0, 0]])
    assert split(delta, labels) == cause.OnOff(3.0, 4.0)
    assert split(delta, np.zeros((1, 6))) == cause.OnOff(0.0, 3.5)


@pytest.mark.parametrize(("num_off", "told"), [(0, False), (9, False), (10, True), (50, True)])
def test_a_side_that_hardly_ever_is_off_is_not_told(num_off, told):
    labels = np.r_[np.zeros(num_off), np.ones(100 - num_off), np.full(30, np.nan)][None]
    assert (split(np.ones_like(labels), labels).off is not None) == told


MINE, CONTROL = {"on": 0.5, "off": 0.1}, {"on": 0.1, "off": 0.05}


@pytest.mark.parametrize(
    ("mine", "one_control", "count", "expected"),
    [
        ({}, {}, 20, True),
        ({}, {}, 19, False),
        ({}, {"on": 0.49, "off": 0.2}, 20, True),
        ({}, {"on": 0.5}, 20, False),
        ({}, {"on": 0.51, "off": 0.5}, 20, False),
        ({}, {"on": 0.45, "off": 0.0}, 20, False),
        ({"off": 0.46}, {}, 20, False),
        ({"off": 0.44}, {}, 20, True),
        ({"on": 0.0, "off": -1.0}, {"on": -0.5}, 20, False),
        ({"spread": 3.0}, {}, 20, False),
        ({"on": 0.3, "off": 0.4}, {"off": 0.5, "all": True}, 20, False),
        ({"on": 0.3, "off": 0.2}, {"off": 0.5, "all": True}, 20, True),
        ({"off": None}, {"on": 0.45, "off": None}, 20, True),
        ({"off": None}, {"on": 0.55, "off": None}, 20, False),
    ],
)
def test_what_beats_the_controls(pieces, mine, one_control, count, expected):
    """Surely above 0, above every control, and more so where on than where off."""
    held = interventions(flagged([2], 0), pieces)
    mine = {"spread": 0.0} | MINE | mine
    on = np.nan_to_num(held.excerpts.labels[..., 0]) > 0
    if mine["off"] is None:
        held.excerpts.labels[held.excerpts.labels == 0] = np.nan

    def cost(on_bits, off_bits, spread=0.0):
        by_row = spread * (-1.0) ** np.arange(len(on))[:, None]
        return np.where(on, on_bits + by_row, off_bits or 0.0)

    held._deltas[0,] = cost(**{f"{k}_bits" if k in ("on", "off") else k: v for k, v in mine.items()})
    for i in range(count):
        own = CONTROL | (one_control if i == count // 2 or "all" in one_control else {})
        held._deltas[i + 1,] = cost(own["on"], own["off"])
    effect = held._effect((0,), [(i + 1,) for i in range(count)], 0)
    assert effect.beats is expected
    assert effect.controls_on == tuple(sorted(effect.controls_on))


# excerpts


def test_excerpts_are_even_and_cover_what_is_rare(pieces):
    rare = np.zeros((30, 830, 2), np.float32)
    rare[3, 300:330, 0] = 1  # one row of one piece
    rare[17, 500:520, 0] = 1
    rare[[5, 9, 13, 22], :WARM_UP, 1] = 1  # within the warm-up of its row: it cannot be seen
    rare[11, 700:710, 1] = 1
    own = [replace(piece, labels=labels) for piece, labels in zip(pieces, rare, strict=True)]
    found = choose_excerpts(own, TABLE, [0, 1])
    assert found.ids.shape == (25, 400) and found.labels.shape == (25, 399, 2)
    assert {(3, 0), (17, 400), (11, 400)} <= set(found.spots)
    assert list(found.spots) == sorted(set(found.spots))
    assert found.spots[0] == (0, 0) and found.spots[-1] == (29, 400)
    assert np.nansum(found.labels[..., 0]) == 50
    assert np.isnan(found.labels[:, :WARM_UP]).all() and not np.isnan(found.labels[:, WARM_UP:]).any()
    for (number, begin), row, document in zip(found.spots, found.ids, found.documents, strict=True):
        assert row.tolist() == own[number].places[begin : begin + 400].tolist() and document == number


def test_excerpts_of_little_text_are_all_there_is(pieces):
    assert choose_excerpts(pieces[:3], TABLE, [0]).spots == [(n, b) for n in range(3) for b in (0, 400)]
    assert fits(pieces[:1])
    short = [replace(piece, text="x" * 700) for piece in pieces[:1]]
    assert not fits(short)
    with pytest.raises(InspectionError, match="too little text"):
        choose_excerpts(short, TABLE, [0])


def short_pieces(lengths):
    texts = [two_alphabets(seed, length) for seed, length in enumerate(lengths)]
    return [piece_of(text, n, in_parentheses(text, PROFILE)[:, None]) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([830] * 3, 400), ([30] * 9, 30), ([20, 40, 60, 80], 60), ([20] * 50 + [900], 20), ([3, 5], 5)],
)
def test_rows_are_as_long_as_half_of_the_text_allows(lengths, expected):
    own = short_pieces(lengths)
    assert row_length(own) == expected
    assert sum(n for n in lengths if n >= expected) >= sum(lengths) / 2


def test_excerpts_of_short_documents_are_many():
    found = choose_excerpts(short_pieces([*range(30, 50)] * 30), TABLE, [0])
    rows, length = found.ids.shape
    assert 35 < length < 45 and rows == 10_000 // length == len(set(found.documents))
    assert np.isnan(found.labels[:, : length // 2]).all()
    assert not np.isnan(found.labels[:, length // 2 :]).any()
    assert np.nansum(found.labels) >= cause.MIN_ON
    assert not fits(short_pieces([3] * 40)) and fits(short_pieces([4] * 40))


def test_a_flag_in_short_documents_is_used():
    network = flagged([2], 4)
    (found,) = interventions(network, short_pieces([48] * 300)).causes([(2, 0)])
    assert found.alone.beats and found.alone.on > 0.2
