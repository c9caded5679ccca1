"""Steering: what is written equals a slow loop, is judged rightly, and moves where a neuron decides."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from planting import PROFILE, VOCABULARY, id_of, own, plant_flags, random_network

from charrnn.inspection.figures import Cause, Effect, Setting
from charrnn.inspection.findings import Row
from charrnn.inspection.names import Neuron
from charrnn.inspection.steering import WARM_UP, Steerer, mover, settings, warm_up, write
from charrnn.inspection.verdicts import with_cause
from charrnn.model.holds import Held
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

SIZE = 32
FLAG = Neuron(1, "c", 2)


def in_first_half(text, profile):
    """A letter from a to d."""
    return np.array([char in "abcd" for char in text], np.float32)


FIRST = own("first", in_first_half)


def uniforms(length, streams, seed=0):
    return np.random.default_rng(seed).random((length, streams))


# writing


@torch.no_grad()
def slow_text(network, vocabulary, held, draws):
    """One stream, one step, one symbol at a time, drawn from the cumulative distribution of each."""

    def hold(layer):
        def keep(kind, values):
            for one in held:
                if (one.layer, one.kind) == (layer, kind):
                    values[..., one.index] = one.inner(values)
            return values

        return keep

    never = [BOUNDARY] + ([ESCAPE] if vocabulary.kind == "chars" else [])
    symbol, state, ids = BOUNDARY, network.initial_state(1), []
    for draw in draws:
        logits, state = network.step(torch.tensor([symbol]), state, hold)
        p = np.exp(logits[0].double().numpy())
        p[never] = 0
        symbol = int(np.searchsorted(np.cumsum(p), draw * p.sum(), side="right"))
        ids.append(symbol)
    return ids


def slow_bpc(network, streams):
    """Bits per character behind the warm-up with nothing held, one step at a time."""
    bits, begin = [], min(60, len(streams[0]) // 2)
    with torch.no_grad():
        for ids in streams:
            symbol, state = BOUNDARY, network.initial_state(1)
            for t, following in enumerate(ids):
                logits, state = network.step(torch.tensor([symbol]), state)
                if t >= begin:
                    bits.append(-float(logits[0].double().log_softmax(-1)[following]) / log(2))
                symbol = following
    return np.mean(bits)


def text_of(vocabulary, ids):
    joined = b"".join(vocabulary.symbol_bytes(i) for i in ids)
    return joined.decode("latin-1" if vocabulary.kind == "bytes" else "utf-8")


HOLDS = [
    [],
    [Held(1, "c", 3, 0.9)],
    [Held(2, "c", 3, -0.9), Held(1, "c", 5, 0.4)],
    [Held(2, "h", 1, 0.7)],
    [Held(1, "f", 0, 0.0)],
]


@pytest.mark.parametrize("length", [WARM_UP + 80, 31])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, Vocabulary.of_bytes()], ids=["chars", "bytes"])
def test_what_is_written_equals_a_slow_loop(vocabulary, length):
    network = random_network(3)
    if vocabulary is not VOCABULARY:
        network = type(network)(network.config, len(vocabulary), 3).eval()
    draws = uniforms(length, 3)
    written = write(network, vocabulary, HOLDS, draws)
    for held, found in zip(HOLDS, written, strict=True):
        streams = [slow_text(network, vocabulary, held, draws[:, i]) for i in range(3)]
        assert found.text == tuple(text_of(vocabulary, ids) for ids in streams)
        assert found.bpc == pytest.approx(slow_bpc(network, streams), abs=1e-4)
    assert len({found.text for found in written}) > 1


def test_all_copies_see_the_same_random_numbers():
    network, draws = random_network(4), uniforms(WARM_UP + 9, 4)
    first, second, other = write(network, VOCABULARY, [[], [], [Held(1, "c", 0, 0.9)]], draws)
    assert first == second and len(set(first.text)) == 4
    assert write(network, VOCABULARY, [[Held(1, "c", 0, 0.9)]], draws) == [other]


def test_documents_are_never_ended_and_nothing_unknown_is_written():
    network = random_network(5)
    with torch.no_grad():
        network.readout.bias[[BOUNDARY, ESCAPE]] = 30
    for found in write(network, VOCABULARY, [[]], uniforms(80, 3)):
        assert {len(text) for text in found.text} == {80}


def test_every_character_can_be_drawn_and_only_those_that_are_probable():
    network = random_network(6)
    with torch.no_grad():
        network.readout.weight.zero_()
        network.readout.bias.fill_(-200)
        network.readout.bias[[id_of("a"), id_of("b")]] = torch.tensor([0.0, log(3)])
    draws = np.array([[0.0, 0.2499, 0.2501, 0.99999999]] * (WARM_UP + 1))
    (found,) = write(network, VOCABULARY, [[]], draws)
    assert [set(text) for text in found.text] == [{"a"}, {"a"}, {"b"}, {"b"}]
    assert found.bpc == pytest.approx((2 + np.log2(4 / 3)) / 2, abs=1e-5)


# steering


def steerer(network, streams=6, length=WARM_UP + 150):
    return Steerer(network, VOCABULARY, PROFILE, streams, length)


def controls_of(count):
    return [(Neuron(1, "c", 10 + i), (0.3, -0.3)) for i in range(count)]


def deciding(strength, seed=2):
    """A flag that rules out e … h while it is on, and that only the readout sees."""
    return plant_flags(random_network(seed, layers=1, hidden=SIZE), [2], strength)


def mean_label(texts):
    behind = [char for text in texts for char in text[WARM_UP:]]
    return sum(char in "abcd" for char in behind) / len(behind)


def test_a_flag_that_decides_what_is_written_drives():
    found = steerer(deciding(2)).steer(FLAG, (0.8, 0.0), controls_of(20), FIRST)
    assert found.high.score > found.free.score + 0.05
    assert found.beats and len(found.controls) == 20 and found.controls == tuple(sorted(found.controls))
    assert found.by == "high" and found.damage == found.high.bpc - found.free.bpc <= 0.5
    assert found.held_controls == tuple((str(n), *both) for n, both in controls_of(20))
    assert (found.free.value, found.high.value, found.low.value) == (None, 0.8, 0.0)


def test_a_flag_that_is_ignored_does_not():
    found = steerer(deciding(0)).steer(FLAG, (0.8, 0.0), controls_of(20), FIRST)
    assert found.high.score == found.free.score and not found.beats


def not_in_first_half(text, profile):
    return 1 - in_first_half(text, profile)


def test_a_flag_that_moves_the_score_the_wrong_way_does_not_drive():
    """Held at what it is said to be where the letters are from e to h, there are fewer of them."""
    found = steerer(deciding(2)).steer(FLAG, (0.8, 0.0), controls_of(20), own("second", not_in_first_half))
    assert found.free.score - found.high.score > 2 * found.controls[-1]
    assert not found.beats and found.by is None


def test_controls_write_only_where_they_can_matter_or_are_asked_for():
    maker, said, second = steerer(deciding(2)), [], own("second", not_in_first_half)
    wrong = maker.steer(FLAG, (0.8, 0.0), controls_of(20), second, said.append, always=False)
    assert wrong.controls == wrong.held_controls == () and len(said) == 1 and not wrong.beats
    right = maker.steer(FLAG, (0.8, 0.0), controls_of(20), FIRST, always=False)
    assert right.beats and right == maker.steer(FLAG, (0.8, 0.0), controls_of(20), FIRST)
    assert len(maker.steer(FLAG, (0.8, 0.0), controls_of(20), second).controls) == 20


def setting(score, bpc=2.0):
    return Setting(0.5, score, None, bpc, "")


@pytest.mark.parametrize(
    ("type", "high", "low", "by"),
    [
        ("binary", (0.8,), (0.3,), "high"),
        ("binary", (0.3,), (0.1,), "low"),
        ("binary", (0.3,), (0.8,), None),
        ("binary", (0.1,), (0.3,), None),
        ("binary", (0.1,), (0.8,), None),
        ("level", (0.1,), (0.8,), None),
        ("level", (0.7,), (0.0,), "high"),
        ("level", (0.5,), (0.0,), "low"),
        ("binary", (0.39,), (0.21,), None),
        ("binary", (0.8, 2.6), (0.1,), "low"),
        ("binary", (0.8, 2.5), (0.1,), "high"),
        ("binary", (0.8, 2.6), (0.1, 2.6), None),
        ("count", (0.8,), (0.3,), "high"),
        ("count", (0.3,), (0.1,), "low"),
        ("count", (0.1,), (0.8,), "low"),
        ("count", (0.1,), (0.31,), "high"),
        ("count", (0.1,), (0.3,), None),
        ("count", (0.3,), (0.8,), None),
        ("count", (0.8,), (0.7,), "high"),
    ],
)
def test_the_setting_that_moves_the_score_its_own_way(type, high, low, by):
    """Free at .3, the largest control at .1. A count may go the other way, if it does so at both settings."""
    assert mover(setting(0.3), setting(*high), setting(*low), 0.1, type) == by


def test_short_texts_are_judged_from_their_middle_on():
    maker = steerer(deciding(2), length=41)
    found = maker.steer(FLAG, (0.7, -0.7), [], FIRST)
    (written,) = write(maker.network, VOCABULARY, [[]], maker.uniform)
    assert warm_up(41) == 20 and warm_up(120) == warm_up(900) == WARM_UP
    behind = [char for text in written.text for char in text[20:]]
    assert found.free.score == pytest.approx(np.mean([char in "abcd" for char in behind]))


def test_with_fewer_controls_nothing_drives():
    assert not steerer(deciding(2)).steer(FLAG, (0.8, 0.0), controls_of(19), FIRST).beats


def test_what_damages_the_text_does_not_drive():
    """The same flag with its readout so strong that the clean network finds the text impossible."""
    maker = steerer(deciding(40))
    found = maker.steer(FLAG, (0.8, -0.8), controls_of(20), FIRST)
    assert found.by == "high" and found.damage == found.high.bpc - found.free.bpc < 0.5
    assert found.low.bpc - found.free.bpc > 0.5
    assert abs(found.low.score - found.free.score) > abs(found.high.score - found.free.score)
    harmful = maker.steer(FLAG, (-0.8, -0.8), controls_of(20), FIRST)
    assert abs(harmful.low.score - harmful.free.score) > 2 * harmful.controls[-1]
    assert harmful.damage > 0.5 and not harmful.beats


def test_what_a_control_does_too_does_not_drive():
    controls = [*controls_of(19), (FLAG, (0.8, 0.0))]
    found = steerer(deciding(2)).steer(FLAG, (0.8, 0.0), controls, FIRST)
    assert found.controls[-1] == abs(found.high.score - found.free.score) and not found.beats


def test_figures_of_settings_are_those_of_the_text():
    network, controls = deciding(2), controls_of(3)
    maker = steerer(network)
    found = maker.steer(FLAG, (0.7, -0.7), controls, FIRST)
    for setting, value in ((found.free, None), (found.high, 0.7), (found.low, -0.7)):
        held = [] if value is None else [Held(1, "c", 2, value)]
        (written,) = write(network, VOCABULARY, [held], maker.uniform)
        assert setting.score == pytest.approx(mean_label(written.text))
        assert setting.bpc == pytest.approx(written.bpc, abs=1e-6)
        assert setting.sample == written.text[0]
        lines = sum(text[WARM_UP:].count("\n") for text in written.text)
        assert setting.line_length == pytest.approx(6 * 150 / lines)
    changes = {abs(s.score - found.free.score): s.bpc - found.free.bpc for s in (found.high, found.low)}
    assert found.damage == pytest.approx(changes[max(changes)])
    moved = []
    for neuron, both in controls:
        copies = [[Held(neuron.layer, neuron.kind, neuron.index, value)] for value in both]
        texts = [w.text for w in write(network, VOCABULARY, copies, maker.uniform)]
        moved.append(max(abs(mean_label(text) - found.free.score) for text in texts))
    assert found.controls == pytest.approx(sorted(moved), abs=1e-6)


def test_what_was_written_once_is_not_written_again():
    maker, said = steerer(deciding(2)), []
    first = maker.steer(FLAG, (0.7, -0.7), controls_of(12), FIRST, said.append)
    assert said == [f"writing with held neurons ({n})" for n in ("0 of 3", "0 of 24", "20 of 24")]
    assert maker.steer(FLAG, (0.7, -0.7), controls_of(12), FIRST, said.append) == first
    assert len(said) == 3


def test_characters_that_are_not_scored_do_not_count():
    def partly(text, profile):
        return np.where(np.arange(len(text)) % 2, in_first_half(text, profile), np.nan)

    maker = steerer(deciding(2))
    found = maker.steer(FLAG, (0.7, -0.7), [], own("partly", partly))
    (written,) = write(maker.network, VOCABULARY, [[]], maker.uniform)
    odd = [char for text in written.text for char in text[WARM_UP + 1 :: 2]]
    assert found.free.score == pytest.approx(np.mean([char in "abcd" for char in odd]))


# what a neuron is held at


@pytest.mark.parametrize("sign", [1, -1])
def test_a_neuron_is_held_at_its_own_values_where_on_and_where_off(sign):
    random = np.random.default_rng(0)
    y = (random.random(4_000) < 0.3).astype(float)
    a = sign * (0.5 * y + 0.1 * random.normal(size=4_000))
    high, low = settings(a, y, sign)
    assert high == pytest.approx(np.quantile(a[y > 0], 0.95 if sign > 0 else 0.05))
    assert low == pytest.approx(np.quantile(a[y == 0], 0.05 if sign > 0 else 0.95))
    assert sign * high > sign * low


@pytest.mark.parametrize("sign", [1, -1])
def test_on_and_off_of_a_count_are_its_highest_and_lowest_tenth(sign):
    y = np.arange(1_000) % 100.0
    high, low = settings(sign * y / 100, y, sign)
    assert sign * high == pytest.approx(0.99, abs=5e-3) and sign * low == pytest.approx(0, abs=5e-3)


def test_what_is_always_on_is_held_low_at_the_end_of_the_scale():
    assert settings(np.linspace(0, 0.5, 100), np.ones(100), 1.0)[1] == -1.0


# verdicts

TRACKS = Row(hypothesis="x", type="binary", r_untrained=0, neuron="L1.c2", r=1, verdict="tracks")


def effect(beats):
    return Effect(("L1.c2",), 0.0, 0.5, 0.1, 0.4, 0.6, (0.0,) * 20, beats)


@pytest.mark.parametrize(
    ("alone", "group", "steers", "expected"),
    [
        (True, None, None, "used"),
        (True, None, False, "used"),
        (True, None, True, "drives"),
        (True, True, None, "used"),
        (False, True, None, "redundant"),
        (False, True, True, "redundant"),
        (False, False, True, "tracks"),
        (False, None, None, "tracks"),
    ],
)
def test_verdicts_with_causes(alone, group, steers, expected):
    cause = Cause(effect(alone), None if group is None else effect(group))
    row = replace(TRACKS, cause=cause)
    if steers is not None:
        done = steerer(deciding(0), 1, WARM_UP + 2).steer(FLAG, (0.5, -0.5), [], FIRST)
        row = replace(row, steering=replace(done, beats=steers))
    assert with_cause(row).verdict == expected
    for other in ("found", "no valid null", "char detector", "untrained too", "not found"):
        assert with_cause(replace(row, verdict=other)).verdict == other
    assert with_cause(replace(row, cause=None)).verdict == "tracks"
