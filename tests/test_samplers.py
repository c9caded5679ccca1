"""Samplers, native in every variant and numpy, against the network's own steps in PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from charrnn import native
from charrnn.config import ModelConfig
from charrnn.errors import ConfigError
from charrnn.model.network import Network
from charrnn.sampling import SamplingConfig, Speaker, samplers
from charrnn.sampling.choice import make_chooser
from charrnn.sampling.samplers import NEVER, Draw, NativeSampler, NumpySampler
from charrnn.sampling.speaker import network_weights
from charrnn.sampling.weights import PRECISIONS, rounded, row_scales
from charrnn.text.vocabulary import Vocabulary

VOCAB = 37
KINDS = ["numpy"]
if native.library() is not None:
    HANDLE = native.ctypes.CDLL(str(native.LIBRARY))
    KINDS += list(native.VARIANTS)[: HANDLE.charrnn_best() + 1]


@pytest.fixture(params=KINDS)
def build(request):
    """Makes a sampler of one kind."""

    def make(network, config, precision="fp32", streams=1, escape=1):
        draw, weights = Draw(config, 0, escape), network_weights(network)
        if request.param == "numpy":
            return NumpySampler(weights, draw, precision, streams)
        return NativeSampler(native.Library(HANDLE, request.param), weights, draw, precision, streams)

    return make


def make_network(cell="lstm", hidden=21, layers=2, embedding=0, seed=2):
    config = ModelConfig(cell, hidden, layers, embedding_size=embedding, dropout=0.0)
    network = Network(config, VOCAB, seed)
    with torch.no_grad():
        network.readout.weight.mul_(8)  # else all symbols are about equally probable
    return network


def step_by_step(network, config, uniforms, prompt=(), escape=1):
    """Draw as the samplers do, by ``Network.step`` and the slow choice."""
    choose, said, last = make_chooser(config), [], 0
    state = network.initial_state(1)
    with torch.inference_mode():
        for symbol in prompt:
            _, state = network.step(torch.tensor([last]), state)
            last = int(symbol)
        for uniform in uniforms:
            logits, state = network.step(torch.tensor([last]), state)
            logits = logits[0].double().numpy()
            logits[escape] = -np.inf
            if last == 0:
                logits[0] = -np.inf
            last = choose(logits, uniform)
            said.append(last)
    return said


def test_a_text_without_an_end_has_a_begin():
    speaker = Speaker(make_network(), Vocabulary.of_chars(range(97, 97 + VOCAB - 2)), SamplingConfig())
    for length in (10**30, 2**63, 2**63 - 1):
        assert len("".join(itertools.islice(speaker.characters("", length, seed=1), 9))) == 9


@pytest.mark.skipif(native.library() is None, reason="no native library")
def test_packed_weights_begin_with_a_line_of_the_cache_and_do_not_overlap():
    weights = network_weights(make_network(hidden=300, layers=3))  # more than one room
    sampler = NativeSampler(native.library(), weights, Draw(SamplingConfig(), 0, 1))
    places = sorted((array.ctypes.data, array.nbytes) for array in sampler._kept)
    assert sum(size for _, size in places) > samplers.ROOM_BYTES
    assert all(begin % 64 == 0 for begin, _ in places)
    assert all(begin + size <= after for (begin, size), (after, _) in itertools.pairwise(places))


CELLS = list(native.CELLS)
UNIFORMS = np.random.default_rng(5).random((1, 400))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden", "layers", "embedding"), [(21, 2, 0), (64, 1, 5), (130, 3, 0)])
def test_draws_equal_the_networks_own_steps(build, cell, hidden, layers, embedding):
    network = make_network(cell, hidden, layers, embedding)
    config = SamplingConfig(temperature=0.9)
    said = build(network, config).draw(UNIFORMS)[0].tolist()
    assert said == step_by_step(network, config, UNIFORMS[0])
    assert len(set(said)) > 10 and 0 in said and 1 not in said


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(0.0),
        SamplingConfig(1.3, top_k=5),
        SamplingConfig(1.0, top_p=0.7),
        SamplingConfig(1.0, min_p=0.1),
        SamplingConfig(0.8, top_k=9, top_p=0.9, min_p=0.02),
        SamplingConfig(2.0, top_k=1000, top_p=1e-9),
        SamplingConfig(1e-6),
    ],
)
def test_every_way_to_choose_equals_the_slow_one(build, config):
    network = make_network()
    said = build(network, config).draw(UNIFORMS)[0].tolist()
    assert said == step_by_step(network, config, UNIFORMS[0])


def test_of_equal_characters_top_k_keeps_those_with_the_smaller_ids(build):
    network = make_network()
    with torch.no_grad():
        network.readout.weight.zero_()
        network.readout.bias.zero_()
    said = build(network, SamplingConfig(top_k=3)).draw(UNIFORMS)[0]
    assert set(said.tolist()) <= {0, 2, 3, 4}


def test_a_prompt_is_read_and_pieces_continue(build):
    network, config = make_network("gru"), SamplingConfig()
    prompt = np.array([5, 9, 0, 7, 7, 3])
    sampler = build(network, config)
    sampler.read(prompt[None, :4])
    sampler.read(prompt[None, 4:])
    pieces = [sampler.draw(UNIFORMS[:, :1]), sampler.draw(UNIFORMS[:, 1:50]), sampler.draw(UNIFORMS[:, 50:])]
    assert np.concatenate(pieces, 1)[0].tolist() == step_by_step(network, config, UNIFORMS[0], prompt)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_a_stream_says_the_same_in_any_company(build, cell, precision):
    network, config = make_network(cell, 40), SamplingConfig()
    uniforms = np.random.default_rng(1).random((8, 120))
    together = build(network, config, precision, 8).draw(uniforms, 2)
    alone = np.concatenate([build(network, config, precision).draw(row[None]) for row in uniforms])
    if isinstance(build(network, config), NumpySampler):  # BLAS may sum in another order
        assert (together == alone).mean() > 0.99
    else:
        assert np.array_equal(together, alone)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_few_bits_are_those_of_the_rounded_weights(build, cell, precision):
    network, config = make_network(cell, 70), SamplingConfig()
    weights = rounded(network_weights(network), precision)
    other = make_network(cell, 70)
    with torch.no_grad():
        for layer, (w_ih, w_hh, _, _) in zip(other.layers, weights.layers, strict=True):
            layer.weight_ih_l0.copy_(torch.from_numpy(w_ih))
            layer.weight_hh_l0.copy_(torch.from_numpy(w_hh))
        other.readout.weight.copy_(torch.from_numpy(weights.readout[0]))
    said = build(network, config, precision).draw(UNIFORMS)[0].tolist()
    assert said == step_by_step(other, config, UNIFORMS[0])
    assert not np.array_equal(weights.layers[1][0], network_weights(network).layers[1][0])


def test_bf16_is_torchs_rounding():
    values = np.random.default_rng(0).normal(size=(1, 50, 40)).astype(np.float32)
    weights = network_weights(make_network("elman", 40, 1))
    weights = samplers.Weights("elman", None, weights.layers, (values[0], np.zeros(50, np.float32)))
    expected = torch.from_numpy(values[0]).bfloat16().float().numpy()
    np.testing.assert_array_equal(rounded(weights, "bf16").readout[0], expected)


def test_int8_is_off_by_half_a_step_at_most():
    weights = network_weights(make_network("gru", 30))
    close = rounded(weights, "int8")
    for i, (before, after) in enumerate(zip(weights.layers, close.layers, strict=True)):
        scales = row_scales([before[1]] if i == 0 else [before[0], before[1]])
        assert np.all(np.abs(before[1] - after[1]) <= 0.5001 * scales)
        np.testing.assert_array_equal(before[2], after[2])


def letters(network):
    return Vocabulary("chars", tuple(range(97, 97 + VOCAB - 2)))


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_many_streams_are_those_that_come_one_by_one(cell):
    network = make_network(cell)
    speaker = Speaker(network, letters(network), SamplingConfig())
    for stream, text in enumerate(speaker.texts("abc", 300, seed=4, count=3)):
        assert len(text) == 300
        assert text == "".join(speaker.characters("abc", 300, 4, stream))


def test_what_draws_and_what_shows_logits_say_the_same():
    network = make_network()
    speaker = Speaker(network, letters(network), SamplingConfig(0.7))
    fast = [i for i, _ in zip(speaker.ids("ab", 4), range(300), strict=False)]
    slow = [i for (i, _), _ in zip(speaker.drawn("ab", 4), range(300), strict=False)]
    assert fast == slow


def test_few_bits_need_a_sampler():
    network = make_network("minlstm")
    with pytest.raises(ConfigError, match="bf16"):
        Speaker(network, letters(network), SamplingConfig(), precision="bf16")
    with pytest.raises(ConfigError, match="unknown precision `int4`"):
        Speaker(network, letters(network), SamplingConfig(), precision="int4")


def test_an_escape_that_is_no_character_may_be_drawn(build):
    network = make_network()
    with torch.no_grad():
        network.readout.bias[1] = 50.0
    assert set(build(network, SamplingConfig(), escape=NEVER).draw(UNIFORMS)[0].tolist()) == {1}
