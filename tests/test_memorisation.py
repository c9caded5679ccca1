"""What a model copies: a network that recites its text is caught, chance level is measured alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluation import ALPHABET, make_network, random_text, write_corpus
from test_overlap import slow_longest

from charrnn.config import Config
from charrnn.errors import RunError
from charrnn.memorisation import find_copies
from charrnn.runs import Checkpoint
from charrnn.sampling import SamplingConfig, Speaker
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, ALPHABET))


def checkpoint_of(corpus, network, train, end):
    splits = {"by": "characters", "train": [0, train], "val": [train, end - 50], "test": [end - 50, end]}
    record = {"key": corpus.info["key"], "texts": ["-"], "splits": splits}
    return Checkpoint(Path("run"), network, Config(), VOCABULARY, record)


def test_lengths_are_those_of_a_slow_loop(tmp_path):
    text = random_text(900)
    corpus = write_corpus(tmp_path, [text])
    network = make_network(VOCABULARY)
    found = find_copies(checkpoint_of(corpus, network, 600, 901), network, samples=4, length=60, seed=3)
    speaker = Speaker(network, VOCABULARY, SamplingConfig())
    train = [0, *VOCABULARY.encode(text[:599])]
    for number, length in enumerate(found.sampled):
        ids = [symbol for symbol, _ in zip(speaker.ids("", 3, number), range(60), strict=False)]
        assert length == slow_longest(train, ids)
    held_out = [text[b - 1 : b + 59] for b in 600 + np.linspace(0, 241, 4).astype(int)]
    assert found.held_out == tuple(slow_longest(train, VOCABULARY.encode(t)) for t in held_out)
    assert [len(copy.text) for copy in found.copies] == sorted(found.sampled, reverse=True)
    assert all(copy.text in text[:599] and found.sampled[copy.sample] == copy.length for copy in found.copies)
    assert found.to_json()["quantiles"]["sampled"]["max"] == max(found.sampled)
    assert found == find_copies(
        checkpoint_of(corpus, network, 600, 901), network, samples=4, length=60, seed=3
    )


def test_a_network_that_recites_is_caught(tmp_path):
    """Its next character depends on the last one alone: abc de, again and again."""
    cycle = "abc de\n"
    corpus = write_corpus(tmp_path, [cycle * 40 + random_text(200)])
    network = make_network(VOCABULARY, layers=1)
    following = VOCABULARY.encode(cycle[1:] + cycle[0])
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        size = network.config.hidden_size
        for number, (own, after) in enumerate(zip(VOCABULARY.encode(cycle), following, strict=True)):
            network.layers[0].weight_ih_l0[2 * size + number, own] = 20
            network.readout.weight[after, number] = 200
        network.layers[0].bias_ih_l0[: 2 * size] = torch.tensor([20.0] * size + [-20.0] * size)
        network.layers[0].bias_ih_l0[3 * size :] = 20
        network.readout.bias[2] = 100
    run = checkpoint_of(corpus, network, 280, 481)
    found = find_copies(run, network, samples=2, length=80)
    assert min(found.sampled) >= 79 and max(found.held_out) < 30


def test_without_held_out_text_there_is_no_chance_level(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(300)])
    network = make_network(VOCABULARY)
    found = find_copies(checkpoint_of(corpus, network, 230, 301), network, samples=2, length=80)
    assert found.held_out == () and found.quantiles()["held_out"] is None


def test_without_the_training_text_it_is_an_error(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(300)])
    run = checkpoint_of(corpus, make_network(VOCABULARY), 200, 301)
    lost = replace(run, corpus=run.corpus | {"key": "0" * 32})
    with pytest.raises(RunError, match="cannot be found"):
        find_copies(lost, run.network)
