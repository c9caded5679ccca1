"""Sampling: what is drawn, from which distribution, and what becomes of it."""

from __future__ import annotations

import math
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from charrnn.config import CELLS, ModelConfig
from charrnn.errors import ConfigError
from charrnn.model.network import new_network
from charrnn.sampling import SamplingConfig, Speaker, next_probabilities, until
from charrnn.sampling.choice import make_chooser
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

LETTERS = Vocabulary.of_chars(map(ord, " abcdefghi"))
BYTES = Vocabulary.of_bytes()


def random_network(vocabulary, cell="lstm", hidden=16, layers=2, seed=5):
    """A network that means what it says, but seldom ends a document."""
    network = new_network(ModelConfig(cell, hidden, layers, dropout=0.0), len(vocabulary), seed).eval()
    with torch.no_grad():
        network.readout.weight.mul_(8)  # far from uniform
        network.readout.bias[BOUNDARY] = -6
        for layer in network.layers:
            layer.weight_ih_l0.mul_(4)
    return network


def memoryless(vocabulary, probabilities):
    """A network that always says the same."""
    network = random_network(vocabulary, hidden=2, layers=1)
    with torch.no_grad():
        network.readout.weight.zero_()
        network.readout.bias.copy_(torch.tensor(probabilities).log())
    return network


def speaker(network, vocabulary=LETTERS, **how):
    return Speaker(network, vocabulary, SamplingConfig(**how))


def scripted(vocabulary, symbols, seen=None):
    """A speaker that says what it is told, and notes the logits it had to choose from."""
    result = speaker(random_network(vocabulary), vocabulary)
    rest = iter([*symbols, *[vocabulary.num_special] * 5])

    def choose(logits, uniform):
        if seen is not None:
            seen.append(logits)
        return next(rest)

    result.choose = choose
    result._weights = None  # step by step: a sampler asks nobody
    return result


def say(network, length=60, vocabulary=LETTERS, prompt="", seed=1, stream=0, **how):
    return "".join(speaker(network, vocabulary, **how).characters(prompt, length, seed, stream))


# the distribution


def slow_distribution(logits, temperature, top_k, top_p, min_p):
    top = max(logits)
    weight = {i: math.exp((value - top) / temperature) for i, value in enumerate(logits)}
    order = sorted(weight, key=lambda i: -weight[i])
    if top_k:
        order = order[:top_k]
    goal, reached, nucleus = top_p * sum(weight[i] for i in order), 0.0, []
    for i in order:
        if top_p < 1 and reached >= goal:
            break
        nucleus.append(i)
        reached += weight[i]
    kept = [i for i in nucleus if weight[i] >= min_p * weight[nucleus[0]]]
    total = sum(weight[i] for i in kept)
    return [weight[i] / total if i in kept else 0.0 for i in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 1, 4, 500])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-9])
@pytest.mark.parametrize("min_p", [0.0, 0.05, 1.0])
def test_distribution_equals_a_slow_loop(temperature, top_k, top_p, min_p):
    random = np.random.default_rng(0)
    config = SamplingConfig(temperature, top_k, top_p, min_p)
    for size in (1, 2, 30):
        logits = random.normal(0, 2, size)
        expected = slow_distribution(logits.tolist(), temperature, top_k, top_p, min_p)
        np.testing.assert_allclose(next_probabilities(logits, config), expected, rtol=1e-9, atol=1e-15)


def test_distribution_leaves_out_what_cannot_be_drawn():
    p = next_probabilities(np.array([0.0, -np.inf, 0.0]), SamplingConfig(2.0, min_p=0.0))
    np.testing.assert_array_equal(p, [0.5, 0.0, 0.5])


def test_top_k_keeps_exactly_k_of_equal_characters():
    p = next_probabilities(np.zeros(10), SamplingConfig(top_k=3))
    np.testing.assert_allclose(p, [1 / 3] * 3 + [0] * 7)


def test_top_p_keeps_the_character_that_reaches_it():
    p = next_probabilities(np.log([0.5, 0.3, 0.2]), SamplingConfig(top_p=0.6))
    np.testing.assert_allclose(p, [0.625, 0.375, 0])


def test_extreme_temperatures_stay_distributions():
    logits = np.array([3.0, 2.0, -5.0])
    np.testing.assert_array_equal(next_probabilities(logits, SamplingConfig(1e-6)), [1, 0, 0])
    np.testing.assert_allclose(next_probabilities(logits, SamplingConfig(1e6)), [1 / 3] * 3, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": 1e-300},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"min_p": math.nan},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=f"`{next(iter(wrong))}`"):
        SamplingConfig(**wrong)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(ConfigError, match=r"temperature.*top_k.*top_p.*min_p"):
        SamplingConfig(-1, -1, -1, -1)


# the draw


def assert_drawn_from(p, counts):
    possible = p > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], p[possible] / p[possible].sum() * counts.sum()).pvalue > 1e-4


@pytest.mark.parametrize("config", [SamplingConfig(), SamplingConfig(0.7, 6, 0.9, 0.02)])
def test_draws_follow_the_distribution(config):
    random = np.random.default_rng(1)
    logits = random.normal(0, 1.5, 12)
    choose = make_chooser(config)
    counts = np.bincount([choose(logits, u) for u in random.random(20_000)], minlength=12)
    assert_drawn_from(next_probabilities(logits, config), counts)


@pytest.mark.parametrize("uniform", [0.0, 0.5, math.nextafter(1, 0)])
def test_no_uniform_number_draws_what_has_no_probability(uniform):
    logits = np.array([-np.inf, 0.0, -np.inf, 0.3, -np.inf])
    assert make_chooser(SamplingConfig(0.9))(logits, uniform) in (1, 3)


def test_symbols_of_one_stream_follow_the_networks_distribution():
    p = np.array([0.1, 0.2, *[0.07] * 10])
    symbols = list(islice(speaker(memoryless(LETTERS, p)).ids("", seed=3), 4000))
    p[ESCAPE] = 0
    assert_drawn_from(p / p.sum(), np.bincount(symbols, minlength=12))


def test_first_symbols_of_many_streams_follow_the_networks_distribution():
    network = random_network(LETTERS)
    talker = speaker(network, temperature=0.8)
    counts = np.bincount([next(talker.ids("a", 7, stream)) for stream in range(1500)], minlength=len(LETTERS))
    with torch.inference_mode():
        ids = torch.from_numpy(np.append(BOUNDARY, LETTERS.encode("a")))[None]
        logits = network.reference(ids, network.initial_state(1))[0][0, -1].double().numpy()
    logits[ESCAPE] = -np.inf
    assert_drawn_from(next_probabilities(logits, SamplingConfig(0.8)), counts)


def greedy(network, length):
    """The most probable symbol after everything that was said, again and again."""
    state, symbol, said = network.initial_state(1), BOUNDARY, []
    with torch.inference_mode():
        for _ in range(length):
            logits, state = network.reference(torch.tensor([[symbol]]), state)
            logits[..., ESCAPE] = -torch.inf
            symbol = int(logits[0, -1].argmax())
            said.append(symbol)
    return said


@pytest.mark.parametrize("cell", sorted(set(CELLS) - {"elman_relu", "jordan"}))  # they say one thing for ever
def test_temperature_zero_takes_the_networks_most_probable_symbol(cell):
    network = random_network(LETTERS, cell)
    with torch.no_grad():
        for layer in network.layers:
            # so that it does not say the same for ever; a wilder Elman network is chaotic
            getattr(layer, "weight_hh_l0", layer.weight_ih_l0).mul_(2 if cell == "elman" else 6)
    expected = greedy(network, 200)
    assert list(islice(speaker(network, temperature=0).ids("", 1), 200)) == expected
    assert len(set(expected)) > 2


# seeds and streams


def test_same_seed_same_text_other_seed_or_stream_other_text():
    network = random_network(LETTERS)
    text = say(network, seed=1, stream=0)
    assert say(network, seed=1, stream=0) == text
    assert say(network, seed=2, stream=0) != text
    assert say(network, seed=1, stream=1) != text
    assert say(network, seed=0, stream=1) != say(network, seed=1, stream=0)


@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1, 2**63])
def test_every_seed_up_to_64_bits_speaks(seed):
    assert len(say(random_network(LETTERS), 5, seed=seed)) == 5


@pytest.mark.parametrize("seed", [2**63 + 1, 2**64 - 1])
def test_large_seeds_are_told_apart(seed):
    network = random_network(LETTERS)
    assert say(network, seed=seed) != say(network, seed=seed - 1)


def test_streams_do_not_depend_on_each_other():
    talker = speaker(random_network(LETTERS))
    alone = "".join(talker.characters("", 30, 1, 1))
    first, second = talker.characters("", 30, 1, 0), talker.characters("", 30, 1, 1)
    pairs = list(zip(first, second, strict=True))
    assert "".join(b for _, b in pairs) == alone


def test_a_shorter_text_is_the_begin_of_a_longer_one():
    network = random_network(LETTERS)
    whole = say(network, 100)
    assert [say(network, n) for n in (0, 1, 2, 57)] == [whole[:n] for n in (0, 1, 2, 57)]


# stop strings


def slow_stop(text, stops):
    for end in range(1, len(text) + 1):
        fitting = [stop for stop in stops if text[:end].endswith(stop)]
        if fitting:
            return text[: end - max(map(len, fitting))]
    return text


def test_text_ends_before_the_first_stop_string():
    random = np.random.default_rng(2)
    for _ in range(2000):
        text = "".join(random.choice(list("ab"), random.integers(0, 12)))
        stops = tuple(
            "".join(random.choice(list("ab"), random.integers(1, 5))) for _ in range(random.integers(0, 4))
        )
        assert "".join(until(iter(text), stops)) == slow_stop(text, stops)


def test_pieces_of_any_size_stop_alike():
    random = np.random.default_rng(3)
    for _ in range(1000):
        text = "".join(random.choice(list("ab"), 14))
        cuts = np.sort(random.integers(0, 14, 4))
        pieces = ["".join(part) for part in np.split(np.array(list(text)), cuts)]
        assert "".join(until(iter(pieces), ("abba",))) == slow_stop(text, ("abba",))


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("xaaby", ("ab",), "xa"),
        ("aabaab", ("aab",), ""),
        ("aaab", ("aab",), "a"),
        ("abab", ("ba", "ab"), ""),
        ("xxend", ("end",), "xx"),
        ("xxen", ("end",), "xxen"),
        ("é€x", ("€",), "é"),
        ("abc", (), "abc"),
    ],
)
def test_stop_strings_that_overlap_or_never_end(text, stops, expected):
    assert "".join(until(iter(text), stops)) == expected


def test_nothing_is_held_back_that_cannot_become_a_stop_string():
    said = []
    for piece in until(iter("xaay"), ("aab",)):
        said.append(piece)
    assert said[:4] == ["x", "", "", "aay"]


def test_a_stop_string_reads_no_further_characters():
    source = iter("abcdef")
    assert "".join(until(source, ("bc",))) == "a"
    assert "".join(source) == "def"


def test_a_stopped_stream_is_the_begin_of_the_unstopped_one():
    network = random_network(LETTERS)
    whole = say(network, 300)
    for stop in (whole[40:43], whole[7], whole[0], "no such text"):
        text = "".join(until(speaker(network).characters("", 300, 1), (stop,)))
        assert text == whole.split(stop)[0]


# documents, escapes, prompts


def test_a_sampled_boundary_writes_nothing_and_does_not_count():
    a, b = LETTERS.encode("ab")
    talker = scripted(LETTERS, [a, BOUNDARY, BOUNDARY, b, a])
    assert "".join(talker.characters("", 3, 1)) == "aba"


def test_a_sampled_boundary_starts_a_document_afresh():
    seen = []
    a, b = LETTERS.encode("ab")
    talker = scripted(LETTERS, [a, b, BOUNDARY, a, b], seen)
    list(talker.characters("", 5, 1))
    np.testing.assert_allclose(seen[3:6], seen[0:3], atol=1e-5)
    assert np.abs(seen[1][ESCAPE + 1 :] - seen[0][ESCAPE + 1 :]).max() > 0.01


def test_a_document_is_never_empty():
    network = memoryless(LETTERS, [0.9, 0.01, *[0.009] * 10])
    symbols = list(islice(speaker(network, temperature=0).ids("", 1), 20))
    assert (BOUNDARY, BOUNDARY) not in zip([BOUNDARY, *symbols], symbols, strict=False)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_the_escape_is_never_drawn(temperature):
    network = memoryless(LETTERS, [0.001, 0.9, *[0.0099] * 10])
    assert ESCAPE not in islice(speaker(network, temperature=temperature).ids("", 1), 300)


def test_unknown_characters_of_a_prompt_are_skipped():
    network = random_network(LETTERS)
    assert say(network, prompt="XhéZgÿ\0h") == say(network, prompt="hgh")
    assert say(network, prompt="hgh") != say(network, prompt="ab")


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 9000])
def test_a_prompt_of_any_length_is_read_whole(length):
    network = random_network(LETTERS, layers=1, hidden=4)
    prompt = ("abcdefghi " * 900)[:length]
    seen = []
    talker = Speaker(network, LETTERS, SamplingConfig())
    talker.choose, talker._weights = lambda logits, _: seen.append(logits) or 2, None
    next(talker.ids(prompt, 1))
    ids = np.append(BOUNDARY, LETTERS.encode(prompt))
    with torch.inference_mode():
        logits, _ = network.reference(torch.from_numpy(ids)[None], network.initial_state(1))
    kept = np.arange(len(LETTERS)) != ESCAPE
    kept[BOUNDARY] = length > 0  # no document is empty
    np.testing.assert_allclose(seen[0][kept], logits[0, -1].numpy()[kept], atol=1e-5)


def test_length_zero_says_nothing():
    assert say(random_network(LETTERS), 0) == ""
    assert say(random_network(BYTES), 0, BYTES) == ""


# bytes


def test_bytes_come_as_whole_characters():
    talker = scripted(BYTES, BYTES.encode("aé€😀"))
    assert list(talker.characters("", 10, 1)) == ["a", "", "é", "", "", "€", "", "", "", "😀", ""]


def test_a_bytes_model_may_draw_every_byte():
    network = memoryless(BYTES, [0.0001, 0.9, *[0.099 / 255] * 255])
    assert say(network, 3, BYTES, temperature=0) == "\0\0\0"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xff", "\udcff"),
        (b"\xe2\x82", "\udce2\udc82"),
        (b"\xe2\x82a", "\udce2\udc82a"),
        (b"\x80b\xc3\xa9", "\udc80bé"),
        (b"\xed\xa0\x80", "\udced\udca0\udc80"),
    ],
)
def test_bytes_that_are_no_utf8_come_as_surrogateescape(raw, text):
    said = "".join(scripted(BYTES, [byte + 1 for byte in raw]).characters("", len(raw), 1))
    assert said == text
    assert said.encode("utf-8", "surrogateescape") == raw


def test_length_counts_the_symbols_of_a_bytes_model():
    said = say(random_network(BYTES), 200, BYTES)
    assert len(said.encode("utf-8", "surrogateescape")) == 200


# resources


def peak_memory(length):
    talker = speaker(random_network(LETTERS, hidden=2, layers=1))
    tracemalloc.start()
    for _ in talker.characters("", length, 1):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_long_text_needs_no_more_memory():
    peak_memory(200)
    assert peak_memory(20_000) < peak_memory(2_000) + 30_000
