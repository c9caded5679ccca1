"""Dynamic evaluation: no character helps itself, the model stays as it is, and the update is the paper's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_evaluation import ALPHABET, collected, make_network, random_text, view_of, whole, write_corpus

from charrnn import evaluation
from charrnn.config import CELLS
from charrnn.errors import ConfigError
from charrnn.evaluation import evaluate, evaluate_dynamic
from charrnn.model import dynamic
from charrnn.model.dynamic import gradient_sizes, score_dynamic
from charrnn.model.scoring import TextView, score
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, ALPHABET))


def costs(network, view, rate=0.3, sizes=None):
    """The cost of every character by its index."""
    return {index: nats for index, (_, nats) in collected(score_dynamic(network, view, rate, sizes)).items()}


def view_of_text(folder, text):
    folder.mkdir(exist_ok=True)
    return view_of(write_corpus(folder, [text]), VOCABULARY)


@pytest.mark.parametrize("index", [1, 7, 20, 21, 33, 45])
def test_no_character_helps_itself(tmp_path, index):
    """Given the same past, the probabilities of all that could stand at a place add up to one."""
    text = random_text(45)
    network = make_network(VOCABULARY, layers=1)
    total = 0.0
    for number, symbol in enumerate(ALPHABET):
        changed = text[: index - 1] + symbol + text[index:]
        total += np.exp(-costs(network, view_of_text(tmp_path / str(number), changed))[index])
    state_of_the_rest = 1 - total  # the boundary and the escape, which no text has
    others = boundary_and_escape(network, view_of_text(tmp_path / "own", text), index)
    assert state_of_the_rest == pytest.approx(others, abs=1e-5)


def boundary_and_escape(network, view, index):
    """Probability of ids 0 and 1 at a place, under the copy as it is there."""
    found = []

    class Spy(type(network)):
        def forward(self, ids, state, noise=None):
            logits, after = super().forward(ids, state, noise)
            found.append(logits[0].detach().softmax(-1))
            return logits, after

    spied = copy.deepcopy(network)
    spied.__class__ = Spy
    list(score_dynamic(spied, view, 0.3))
    return float(torch.cat(found)[index - 1, :2].sum())


def test_the_future_changes_nothing(tmp_path):
    text = random_text(130)
    future = "".join(np.random.default_rng(9).permutation(list(text[67:])))
    network = make_network(VOCABULARY)
    sizes = [torch.rand_like(weight) for weight in network.parameters()]
    for kind in (None, sizes):
        own = costs(network, view_of_text(tmp_path / "own", text), 0.01, kind)
        other = costs(network, view_of_text(tmp_path / "other", text[:67] + future), 0.01, kind)
        assert [own[i] for i in range(1, 68)] == [other[i] for i in range(1, 68)]
        assert [own[i] for i in range(69, 131)] != [other[i] for i in range(69, 131)]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_model_stays_as_it_is_and_the_answer_too(tmp_path, cell):
    view = view_of_text(tmp_path, random_text(300))
    network = make_network(VOCABULARY, cell)
    before = copy.deepcopy(network.state_dict())
    first = costs(network, view, 0.01, gradient_sizes(network, view))
    again = costs(network, view, 0.01, gradient_sizes(network, view))
    assert first == again
    assert not network.training
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_without_learning_it_is_the_static_cost(tmp_path):
    view = view_of(write_corpus(tmp_path, [random_text(95), random_text(61, 1)]), VOCABULARY)
    network = make_network(VOCABULARY)
    static = {index: nats for index, (_, nats) in collected(score(network, view)).items()}
    still = costs(network, view, 0.0)
    assert still.keys() == static.keys()
    assert list(still.values()) == pytest.approx([static[i] for i in still], abs=1e-5)


def slow_dynamic(network, ids, rate, sizes):
    """Krause et al. 2018, equations 5 to 8, with torch's own gradients of a loss written out."""
    network = copy.deepcopy(network).requires_grad_(True)
    first = [weight.detach().clone() for weight in network.parameters()]
    average = None if sizes is None else torch.cat([size.flatten() for size in sizes]).mean()
    state, nats = network.initial_state(1), []
    for begin in range(0, len(ids) - 1, dynamic.SEGMENT):
        segment = torch.as_tensor(ids[begin : begin + dynamic.SEGMENT + 1])[None]
        logits, state = network.reference(segment[:, :-1], state)
        own = -logits[0].log_softmax(-1)[torch.arange(segment.shape[1] - 1), segment[0, 1:]]
        nats += own.tolist()
        gradients = torch.autograd.grad(own.mean(), list(network.parameters()))
        state = tuple(tuple(part.detach() for part in layer) for layer in state)
        with torch.no_grad():
            for number, (weight, start, gradient) in enumerate(
                zip(network.parameters(), first, gradients, strict=True)
            ):
                scale = 1.0 if sizes is None else 1 / (sizes[number] + dynamic.EPSILON * average)
                back = torch.tensor(1.0) if sizes is None else sizes[number] / average
                moved = weight - rate * gradient * scale
                weight.copy_(moved + (dynamic.DECAY * back).clamp(max=1.0) * (start - moved))
    return nats


# the activations of elman_relu grow without end here; a compressor has a weight without a gradient
BOUNDED = [cell for cell in CELLS if cell not in ("elman_relu", "compressor")]


@pytest.mark.parametrize(("cell", "scaled"), [("lstm", False), *((cell, True) for cell in BOUNDED)])
def test_the_update_is_the_published_one(tmp_path, monkeypatch, cell, scaled):
    monkeypatch.setattr(dynamic, "DECAY", 0.2)
    view = view_of_text(tmp_path, random_text(250))
    network = make_network(VOCABULARY, cell)
    sizes = gradient_sizes(network, view) if scaled else None
    rate = 0.02 if scaled else 1.0
    found = costs(network, view, rate, sizes)
    expected = slow_dynamic(network, view.table[view.places[: len(view)]], rate, sizes)
    assert list(found.values()) == pytest.approx(expected, abs=1e-4)
    still = costs(network, view, 0.0)
    assert max(abs(found[i] - still[i]) for i in found) > 0.05


def test_gradient_sizes_are_root_mean_squares(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic, "STATISTICS", 3)
    view = view_of_text(tmp_path, random_text(400))
    network = make_network(VOCABULARY)
    ids = torch.as_tensor(view.table[view.places])
    squares = None
    for begin in (0, 140, 280):  # 401 symbols, less one, less 100 before and 20 in a segment
        after = network.reference(ids[None, begin : begin + 100], network.initial_state(1))[1]
        after = tuple(tuple(part.detach() for part in layer) for layer in after)
        logits = network.reference(ids[None, begin + 100 : begin + 120], after)[0][0]
        loss = -logits.log_softmax(-1)[torch.arange(20), ids[begin + 101 : begin + 121]].mean()
        own = [gradient**2 for gradient in torch.autograd.grad(loss, list(network.parameters()))]
        squares = own if squares is None else [a + b for a, b in zip(squares, own, strict=True)]
    for found, square in zip(gradient_sizes(network, view), squares, strict=True):
        torch.testing.assert_close(found, (square / 3).sqrt(), rtol=1e-4, atol=1e-7)


def test_it_learns_a_text_that_repeats(tmp_path):
    corpus = write_corpus(tmp_path, ["abc de\n" * 300])
    network = make_network(VOCABULARY)
    static = evaluate(network, VOCABULARY, corpus, whole(corpus))
    plain = evaluate_dynamic(network, VOCABULARY, corpus, whole(corpus), training=None, rate=3.0)
    part = (corpus, (0, 2100))
    scaled = evaluate_dynamic(network, VOCABULARY, corpus, whole(corpus), training=part, rate=0.01)
    assert plain.bpc < 0.8 * static.bpc and scaled.bpc < static.bpc - 0.05
    assert (plain.scaled, scaled.scaled) == (False, True)
    assert scaled.to_json()["settings"] == {
        "rate": 0.01,
        "rate_from": "given",
        "scaled": True,
        "decay": 0.001,
        "segment": 20,
        "epsilon": 0.1,
    }


def test_the_rate_is_the_best_of_a_few_on_another_text(tmp_path, monkeypatch):
    """A text that repeats asks for a large one; what is scored itself has no part in the choice."""
    corpus = write_corpus(tmp_path, ["abc de\n" * 300, random_text(400)])
    network = make_network(VOCABULARY)
    training, val, other = (corpus, (0, 700)), (corpus, (701, 1401)), (2101, 2501)
    views = [TextView(corpus.places, corpus.id_table(VOCABULARY), *val[1])]
    sizes = gradient_sizes(network, TextView(corpus.places, corpus.id_table(VOCABULARY), *training[1]))
    rates = [dynamic.RATE * 2**power for power in range(-1, 6)]
    costs = [sum(w.nats.sum() for w in score_dynamic(network, views[0], rate, sizes)) for rate in rates]
    found = evaluate_dynamic(network, VOCABULARY, corpus, other, training=training, validation=val)
    within = costs[: evaluation.MOST_RATES + 1]
    assert found.rate_from == "val" and found.rate == rates[within.index(min(within))] > dynamic.RATE
    monkeypatch.setattr(evaluation, "CHOICE_CHARS", 1)
    given = evaluate_dynamic(network, VOCABULARY, corpus, other, training=training, rate=found.rate)
    assert given.loss == found.loss
    alone = evaluate_dynamic(network, VOCABULARY, corpus, other, training=training)
    assert (alone.rate, alone.rate_from) == (dynamic.RATE, "default")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_an_error(tmp_path, rate):
    corpus = write_corpus(tmp_path, ["abc"])
    with pytest.raises(ConfigError, match="dynamic_rate"):
        evaluate_dynamic(
            make_network(VOCABULARY), VOCABULARY, corpus, whole(corpus), training=None, rate=rate
        )


def test_learning_that_goes_astray_is_an_error(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(400)])
    network = make_network(VOCABULARY)
    with pytest.raises(ConfigError, match="not finite") as error:
        evaluate_dynamic(network, VOCABULARY, corpus, whole(corpus), training=None, rate=3e38)
    assert "--dynamic-rate" in error.value.hint
