"""The sampler for accelerators, run on the CPU: what the samplers of the CPU say, and nothing that waits."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from waiting import NoWaiting

from charrnn import native
from charrnn.config import ModelConfig
from charrnn.model.network import Network
from charrnn.sampling import SamplingConfig, Speaker, device, next_probabilities, speaker
from charrnn.sampling.device import CALL_CHARS, DeviceSampler, make_device_chooser
from charrnn.sampling.philox import Philox
from charrnn.sampling.samplers import NEVER, Draw, NumpySampler, make_sampler
from charrnn.sampling.speaker import network_weights
from charrnn.text.vocabulary import Vocabulary

VOCAB = 37
CPU = torch.device("cpu")


def make_network(cell="lstm", hidden=21, layers=2, embedding=0, seed=2):
    config = ModelConfig(cell, hidden, layers, embedding_size=embedding, dropout=0.0)
    network = Network(config, VOCAB, seed).eval()
    with torch.no_grad():
        network.readout.weight.mul_(8)  # else all symbols are about equally probable
    return network


def uniforms(seed, streams, count):
    """As the speaker makes them."""
    keys = (np.array([seed, stream], dtype=np.uint64) for stream in streams)
    return np.stack([np.random.Generator(np.random.Philox(key=key)).random(count) for key in keys])


def drawn_on_cpu(network, config, streams, count, seed=11, escape=1, sampler=make_sampler):
    sampler = sampler(network_weights(network), Draw(config, 0, escape), streams=len(streams))
    return sampler.draw(uniforms(seed, streams, count))


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**63, 2**64 - 1])
def test_random_numbers_are_numpys(seed):
    streams = [0, 1, 4095, 2**40]
    found = Philox(seed, streams, CPU).uniforms(torch.arange(300))
    np.testing.assert_array_equal(found.t().numpy(), uniforms(seed, streams, 1200))


def test_random_numbers_go_on_where_they_were():
    late = Philox(5, [3], CPU).uniforms(torch.arange(1000, 1010))
    np.testing.assert_array_equal(late[:, 0].numpy(), uniforms(5, [3], 4040)[0, 4000:])


@pytest.mark.parametrize("cell", list(native.CELLS))
@pytest.mark.parametrize(("hidden", "layers", "embedding"), [(21, 2, 0), (64, 1, 5)])
def test_says_what_the_samplers_of_the_cpu_say(cell, hidden, layers, embedding):
    network = make_network(cell, hidden, layers, embedding)
    config, streams, count = SamplingConfig(0.9), [0, 7, 2], 2 * CALL_CHARS
    said = DeviceSampler(network, Draw(config, 0, 1), 11, streams).draw(count)
    for sampler in (NumpySampler, make_sampler):
        np.testing.assert_array_equal(said, drawn_on_cpu(network, config, streams, count, sampler=sampler))
    assert len(np.unique(said)) > 10 and (said == 0).any() and not (said == 1).any()


def test_thousands_of_characters_are_the_same():
    network, config = make_network("lstm", 32, 3, 8), SamplingConfig()
    streams = list(range(16))
    said = DeviceSampler(network, Draw(config, 0, 1), 3, streams).draw(1024)
    np.testing.assert_array_equal(said, drawn_on_cpu(network, config, streams, 1024, seed=3))


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
        SamplingConfig(1e6),
    ],
)
def test_every_way_to_choose(config):
    network, streams = make_network(), [4, 0]
    said = DeviceSampler(network, Draw(config, 0, 1), 2, streams).draw(CALL_CHARS)
    np.testing.assert_array_equal(said, drawn_on_cpu(network, config, streams, CALL_CHARS, seed=2))


@pytest.mark.parametrize("top_k", [0, 1, 4, 500])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-9])
@pytest.mark.parametrize("min_p", [0.0, 0.05, 1.0])
def test_the_draw_inverts_the_slow_distribution(top_k, top_p, min_p):
    config = SamplingConfig(0.7, top_k, top_p, min_p)
    logits = np.random.default_rng(0).normal(0, 2, 30)
    logits[4] = logits[9]  # equals
    cumulative = np.cumsum(next_probabilities(logits, config))
    uniform = np.linspace(0.0005, 0.9995, 1000)
    rows = torch.from_numpy(logits / 0.7).expand(1000, -1)
    found = make_device_chooser(config)(rows, torch.from_numpy(uniform)[:, None])
    np.testing.assert_array_equal(found.numpy(), np.searchsorted(cumulative, uniform, side="right"))


def test_rounding_cannot_lead_past_the_last_id():
    choose = make_device_chooser(SamplingConfig())
    one = torch.ones(1, 1, dtype=torch.float64)  # what the largest number below might be rounded to
    assert choose(torch.tensor([[0.0, 1.0, 2.0]]), one).item() == 2
    assert choose(torch.zeros(1, 1), one).item() == 0


def test_pieces_of_any_length_continue():
    network, draw = make_network("gru"), Draw(SamplingConfig(), 0, 1)
    whole = DeviceSampler(network, draw, 1, [0, 1]).draw(3 * CALL_CHARS)
    sampler = DeviceSampler(network, draw, 1, [0, 1])
    pieces = [sampler.draw(count) for count in (1, 0, CALL_CHARS, 5, 2 * CALL_CHARS - 6)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)


def test_a_stream_is_the_same_in_any_company():
    network, draw = make_network(), Draw(SamplingConfig(), 0, 1)
    together = DeviceSampler(network, draw, 9, range(5)).draw(CALL_CHARS)
    alone = DeviceSampler(network, draw, 9, [3]).draw(CALL_CHARS)
    np.testing.assert_array_equal(together[3], alone[0])


def test_weights_that_change_afterwards_change_nothing():
    network, draw = make_network(), Draw(SamplingConfig(), 0, 1)
    expected = DeviceSampler(network, draw, 9, [0]).draw(CALL_CHARS)
    sampler = DeviceSampler(network, draw, 9, [0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(sampler.draw(CALL_CHARS), expected)


def letters():
    return Vocabulary("chars", tuple(range(97, 97 + VOCAB - 2)))


@pytest.mark.parametrize("prompt", ["", "a", "the quick brown fox"])
def test_a_speaker_says_the_same_from_either(monkeypatch, prompt):
    talks = Speaker(make_network(), letters(), SamplingConfig(0.8))
    one, many = "".join(talks.characters(prompt, 300, 4, 1)), talks.texts(prompt, 120, 4, 3)
    monkeypatch.setattr(speaker, "SAMPLING_DEVICES", ("cpu",))
    made = []
    monkeypatch.setattr(device, "DeviceSampler", lambda *a: made.append(DeviceSampler(*a)) or made[-1])
    talks = Speaker(make_network(), letters(), SamplingConfig(0.8))
    assert "".join(talks.characters(prompt, 300, 4, 1)) == one
    assert talks.texts(prompt, 120, 4, 3) == many
    assert len(made) == 2


def test_bytes_have_no_escape(monkeypatch):
    vocabulary = Vocabulary.of_bytes()
    config = ModelConfig("gru", 16, 1, embedding_size=4, dropout=0.0)
    network = Network(config, len(vocabulary), 3).eval()
    expected = "".join(Speaker(network, vocabulary, SamplingConfig()).characters("é", 200, 4))
    monkeypatch.setattr(speaker, "SAMPLING_DEVICES", ("cpu",))
    assert "".join(Speaker(network, vocabulary, SamplingConfig()).characters("é", 200, 4)) == expected


def test_an_escape_that_is_no_character_may_be_drawn():
    network = make_network()
    with torch.no_grad():
        network.readout.bias[1] = 50.0
    assert (DeviceSampler(network, Draw(SamplingConfig(), 0, NEVER), 1, [0]).draw(64) == 1).all()


@pytest.mark.parametrize("cell", ["minlstm", "jordan"])
def test_other_cells_take_their_steps(monkeypatch, cell):
    monkeypatch.setattr(speaker, "SAMPLING_DEVICES", ("cpu",))
    monkeypatch.setattr(device, "DeviceSampler", None)
    assert len("".join(Speaker(make_network(cell), letters(), SamplingConfig()).characters("", 5, 1))) == 5


# what a graph may hold


@pytest.mark.parametrize("config", [SamplingConfig(0.0), SamplingConfig(0.8, top_k=9, top_p=0.9, min_p=0.02)])
@pytest.mark.parametrize("cell", list(native.CELLS))
def test_a_call_waits_for_nothing_and_leaves_everything_where_it_was(monkeypatch, cell, config):
    monkeypatch.setattr(device, "CALL_CHARS", 32)  # the others are like these
    sampler = DeviceSampler(make_network(cell), Draw(config, 0, 1), 1, [0, 1])

    def places():
        kept = [
            sampler._last,
            sampler._text,
            sampler._blocks,
            *(p for layer in sampler._state for p in layer),
        ]
        return [tensor.data_ptr() for tensor in kept]

    before = places()
    with torch.inference_mode(), NoWaiting():
        sampler.advance()
        sampler.advance()
    assert places() == before
    expected = DeviceSampler(make_network(cell), Draw(config, 0, 1), 1, [0, 1]).draw(64)
    np.testing.assert_array_equal(sampler._text.t().numpy(), expected[:, 32:])


def test_what_waits_is_noticed():
    values = torch.arange(3)
    for wait in (
        lambda: values[0].item(),
        lambda: bool(values.any()),
        lambda: values[values > 1],
        lambda: values.nonzero(),
        lambda: values.to("meta"),
    ):
        with pytest.raises(AssertionError, match="waits"), NoWaiting():
            wait()


def test_a_call_is_recorded_when_it_is_made_again(monkeypatch):
    happened = []

    class Graph:
        def replay(self):
            happened.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: happened.append("record") or nullcontext())
    run = device._Replayed(lambda: happened.append("run"), torch.device("cuda"))
    for _ in range(3):
        run()
    assert happened == ["run", "record", "run", "replay", "replay"]
    happened.clear()
    run = device._Replayed(lambda: happened.append("run"), CPU)
    run(), run()
    assert happened == ["run", "run"]


def test_a_call_that_cannot_be_recorded_runs_as_it_is(monkeypatch):
    happened = []

    def refuse(graph):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run = device._Replayed(lambda: happened.append("run"), torch.device("cuda"))
    for _ in range(3):
        run()
    assert happened == ["run"] * 3
    assert run.problem == "operation not permitted when stream is capturing"
