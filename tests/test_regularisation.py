"""Levers of the network: each against a slow loop, a formula or torch's own cells."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from scipy.stats import kstest
from small_runs import SMALL, assert_resumes_exactly, run_events, write_words
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

import charrnn
from charrnn.compression.network import FixedPointNetwork
from charrnn.config import ModelConfig
from charrnn.errors import ConfigError, RunError
from charrnn.events import StepEvent
from charrnn.inspection.record import readout_neurons, readout_of
from charrnn.model import kernels
from charrnn.model.holds import Held, held_losses, hold_all
from charrnn.model.network import Network
from charrnn.model.regularisation import Pull, bernoulli
from charrnn.text.vocabulary import Vocabulary
from charrnn.training import start

CELLS = ["lstm", "gru", "elman"]
TORCH_CELL = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "elman": nn.RNNCell}


def make(cell="lstm", layers=2, hidden=7, seed=3, vocab=11, embedding=4, seq_len=None, **levers):
    config = ModelConfig(cell, hidden, layers, embedding_size=embedding, dropout=0.0)
    return Network(replace(config, **levers), vocab, seed, seq_len)


def window(network, batch=5, length=9, resets=0.0):
    noise = torch.Generator().manual_seed(1)
    ids = torch.randint(1, network.vocab_size, (batch, length), generator=noise)
    ids[torch.rand(batch, length, generator=noise) < resets] = 0
    like = network.readout.weight
    state = tuple(
        tuple(torch.randn(part.shape, generator=noise).to(like) for part in layer)
        for layer in network.initial_state(batch)
    )
    return ids, state


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(state):
    return [part for layer in state for part in layer]


# -- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.001, 0.3, 0.999, 0.99999999])
def test_masks_have_their_probability_and_are_the_generators(probability):
    like = torch.empty(333, 1001, dtype=torch.float64)
    mask, same, other = (bernoulli(like, probability, seeded(seed)) for seed in (1, 1, 2))
    assert mask.shape == like.shape and mask.dtype == like.dtype and set(mask.unique().tolist()) <= {0.0, 1.0}
    error = 5 * (probability * (1 - probability) / like.numel()) ** 0.5 + 2**-16
    assert abs(mask.mean().item() - probability) < error
    for axis in (0, 1):  # neighbours know nothing of each other
        first, second = mask.narrow(axis, 0, 300), mask.narrow(axis, 1, 300)
        assert abs(((first - probability) * (second - probability)).mean().item()) < error
    assert torch.equal(mask, same) and (probability in (0.0, 0.99999999) or not torch.equal(mask, other))


def test_a_variational_mask_is_the_same_for_a_whole_window():
    values = torch.ones(6, 50, 40)
    kinds = {kind: replace(make().config, dropout_kind=kind) for kind in ("inverted", "variational")}
    dropped = {}
    for kind, config in kinds.items():
        network = make()
        network.config = config
        dropped[kind] = network._drop(values, seeded(), 0.25)
        assert sorted(dropped[kind].unique().tolist()) == pytest.approx([0, 4 / 3])
        assert float(dropped[kind].mean()) == pytest.approx(1, abs=0.04)
    same = {kind: bool((values == values[0]).all()) for kind, values in dropped.items()}
    assert same == {"inverted": False, "variational": True}
    first = dropped["variational"][0]
    assert len(first.unique(dim=0)) == 50


def slowly_dropped(network, ids, state, noise):
    """Logits step by step, each mask drawn where it is needed."""
    config, embedding = network.config, network.embedding

    def drop(values, share):
        like = values[:1] if config.dropout_kind == "variational" else values
        return values * bernoulli(like, 1 - share, noise) / (1 - share)

    symbols = one_hot(ids.t(), 11).double() if embedding is None else embedding.weight[ids.t()]
    values = drop(symbols, config.input_dropout)
    for number, (layer, before) in enumerate(zip(network.layers, state, strict=True)):
        values = drop(values, config.dropout) if number else values
        values, _ = layer.reference(values, before, ids.t() == 0)
    return network.readout(drop(values, config.output_dropout)).transpose(0, 1)


@pytest.mark.parametrize("cell", [*CELLS, "jordan"])
@pytest.mark.parametrize("kind", ["inverted", "variational"])
@pytest.mark.parametrize(
    ("path", "embedding", "resets"),
    [("double", 4, 0.2), ("torch", 0, 0.0), ("torch", 4, 0.2), ("native", 0, 0.2), ("native", 4, 0.0)],
)
def test_input_layers_and_readout_drop_shares_of_their_own(cell, kind, path, embedding, resets, monkeypatch):
    if path == "torch":
        monkeypatch.setattr(kernels, "library", lambda: None)
    shares = {"input_dropout": 0.3, "dropout": 0.2, "output_dropout": 0.5}
    network = make(cell, embedding=embedding, dropout_kind=kind, **shares)
    ids, state = window(network, resets=resets)
    exact = deepcopy(network).double()
    doubled = tuple(tuple(part.double() for part in layer) for layer in state)
    network, state = (exact, doubled) if path == "double" else (network, state)
    logits = network(ids, state, seeded())[0]
    found = torch.autograd.grad(logits.square().mean(), list(network.parameters()))
    expected = slowly_dropped(exact, ids, doubled, seeded())
    wanted = torch.autograd.grad(expected.square().mean(), list(exact.parameters()))
    for mine, slow in zip([logits, *found], [expected, *wanted], strict=True):
        torch.testing.assert_close(mine.double(), slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["inverted", "variational"])
def test_without_them_no_more_is_drawn_than_between_layers_and_before_the_readout(kind):
    network = make(layers=3, dropout=0.3, dropout_kind=kind)
    ids, state = window(network)
    noise, expected = seeded(), seeded()
    loss, _ = network.loss(ids, ids, state, noise)
    for _ in range(3):
        bernoulli(torch.empty(1 if kind == "variational" else 9, 5, 7), 0.7, expected)
    assert torch.equal(noise.get_state(), expected.get_state())
    same = make(layers=3, dropout=0.3, dropout_kind=kind, output_dropout=0.3)
    assert torch.equal(same.loss(ids, ids, state, seeded())[0], loss)


# -- activations --------------------------------------------------------------------------------


def slow_costs(outputs, dropped, before, ids):
    """What AR and TAR add, timestep by timestep and row by row."""
    large, fast = 0.0, 0.0
    for t in range(len(outputs)):
        for b in range(len(before)):
            large = large + (dropped[t, b] ** 2).sum()
            if ids[b, t] != 0:  # a document that goes on
                earlier = outputs[t - 1, b] if t > 0 else before[b]
                fast = fast + ((outputs[t, b] - earlier) ** 2).sum()
    return large / outputs.numel(), fast / outputs.numel()


@pytest.mark.parametrize("path", ["double", "native"])
@pytest.mark.parametrize(
    ("cell", "levers"), [("lstm", {}), ("gru", {"skip_connections": True}), ("jordan", {"zoneout": 0.2})]
)
def test_large_and_fast_activations_cost_what_a_loop_says(cell, levers, path):
    network = make(cell, dropout=0.3, dropout_kind="variational", **levers)
    network = network.double() if path == "double" else network
    ids, state = window(network, resets=0.2)
    targets, noise = ids.roll(-1, 1), seeded()
    outputs, _ = network.hidden(ids, state, noise)
    dropped = outputs * bernoulli(outputs[:1], 0.7, noise) / 0.7
    plain = cross_entropy(network.readout(dropped).flatten(0, 1), targets.t().flatten())
    before = state[0][0] + state[1][0] if levers.get("skip_connections") else state[1][0]
    large, fast = slow_costs(outputs, dropped, before, ids)
    weights = list(network.parameters())
    wanted = torch.autograd.grad(plain + 2 * large + 3 * fast, weights)
    loss, _ = network.loss(ids, targets, state, seeded(), None, None, Pull(2.0, 3.0))
    found = torch.autograd.grad(loss, weights)
    assert torch.equal(loss, network.loss(ids, targets, state, seeded())[0])  # what is told is as without
    tolerance = 1e-9 if path == "double" else 1e-4
    for mine, slow in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, slow, rtol=tolerance, atol=tolerance / 100)


def test_a_run_tells_the_loss_without_what_activations_cost(tmp_path):
    text, told = write_words(tmp_path), []
    for name, pull in (("plain", {}), ("pulled", {"training.activation_l2": 2, "training.temporal_l2": 1})):
        events = run_events(text, tmp_path / name, **{"training.steps": 3}, **pull)
        told.append([e.loss for e in events if isinstance(e, StepEvent)])
    assert told[0][0] == told[1][0] and told[0][1] != told[1][1]


def test_activations_that_are_fixed_cannot_be_pulled(tmp_path):
    settings = SMALL | {"model.cell": "esn", "training.temporal_l2": 1.0}
    with pytest.raises(ConfigError, match="those of `esn` are fixed"):
        start.start([write_words(tmp_path)], run=str(tmp_path / "run"), settings=settings)


# -- weight-drop --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("path", ["double", "torch", "native"])
@pytest.mark.parametrize("resets", [0.0, 0.2])
def test_weight_drop_is_a_network_whose_recurrent_weights_were_masked(cell, path, resets, monkeypatch):
    if path == "torch":
        monkeypatch.setattr(kernels, "library", lambda: None)
    kind = torch.float64 if path == "double" else torch.float32
    network, masked = make(cell, weight_drop=0.4).to(kind), make(cell).to(kind)
    noise, masks = seeded(), []
    for layer in masked.layers:
        weight = layer.weight_hh_l0
        masks.append(bernoulli(weight, 0.6, noise) / 0.6)
        weight.data.mul_(masks[-1])
    ids, state = window(network, resets=resets)
    mine, my_state = network(ids, state, seeded())
    theirs, their_state = masked(ids, state)
    for a, b in zip([mine, *flat(my_state)], [theirs, *flat(their_state)], strict=True):
        torch.testing.assert_close(a, b)
    mine.square().mean().backward()
    theirs.square().mean().backward()
    for layer, other, mask in zip(network.layers, masked.layers, masks, strict=True):
        assert isinstance(layer.weight_hh_l0, nn.Parameter)
        torch.testing.assert_close(layer.weight_hh_l0.grad, other.weight_hh_l0.grad * mask)
        torch.testing.assert_close(layer.weight_ih_l0.grad, other.weight_ih_l0.grad)


@pytest.mark.parametrize("cell", CELLS)
def test_without_noise_all_weights_are_there(cell):
    network, plain = make(cell, weight_drop=0.4), make(cell)
    ids, state = window(network)
    before = network(ids, state)[0]
    network(ids, state, seeded())
    assert torch.equal(network(ids, state)[0], before) and torch.equal(before, plain(ids, state)[0])


def test_after_an_error_the_weights_are_whole():
    network = make(weight_drop=0.4)
    ids, state = window(network)
    with pytest.raises(RuntimeError):
        network(ids, window(network, batch=4)[1], seeded())
    assert torch.equal(network(ids, state)[0], make()(ids, state)[0])


# -- zoneout ------------------------------------------------------------------------------------


def slow_zoneout(network, ids, state, mix):
    """torch's own cells, one timestep at a time, each new state mixed with the old one."""
    inputs = network.embedding(ids.t())
    after = []
    for layer, before in zip(network.layers, state, strict=True):
        cell = TORCH_CELL[network.config.cell](layer.input_size, layer.hidden_size).double()
        cell.load_state_dict({n.removesuffix("_l0"): p for n, p in layer.state_dict().items()})
        outputs = []
        for t in range(len(inputs)):
            before = tuple(part * (ids[:, t : t + 1] != 0) for part in before)
            new = cell(inputs[t], before if len(before) > 1 else before[0])
            new = new if isinstance(new, tuple) else (new,)
            before = tuple(mix(old, part) for old, part in zip(before, new, strict=True))
            outputs.append(before[0])
        inputs = torch.stack(outputs)
        after.append(before)
    return network.readout(inputs).transpose(0, 1), after


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("resets", [0.0, 0.2])
def test_zoneout_follows_its_formula(cell, resets):
    network = make(cell, zoneout=0.3).double()
    ids, state = window(network, resets=resets)
    draw = seeded()

    def chosen(old, new):
        mask = bernoulli(new, 0.3, draw)
        return mask * old + (1 - mask) * new

    def mean(old, new):
        return 0.3 * old + 0.7 * new

    for noise, mix in ((seeded(), chosen), (None, mean)):
        mine, my_state = network(ids, state, noise)
        theirs, their_state = slow_zoneout(network, ids, state, mix)
        for a, b in zip([mine, *flat(my_state)], [theirs, *flat(their_state)], strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cell", [*CELLS, "elman_relu", "jordan", "mingru", "minlstm"])
def test_every_path_through_zoneout_and_skip_connections_is_the_same(cell):
    network = make(cell, layers=3, zoneout=0.2, skip_connections=True)
    ids, state = window(network, resets=0.2)
    fast, after = network(ids, state)
    slow, slow_after = network.reference(ids, state)
    stepped, single = state, []
    for t in range(ids.shape[1]):
        logits, stepped = network.step(ids[:, t], stepped)
        single.append(logits)
    traces, traced = network.trace(ids, state)
    values = torch.cat([trace["h"] for trace in traces], dim=-1).transpose(0, 1)
    assert [n.layer for n in readout_neurons(network)] == [1] * 7 + [2] * 7 + [3] * 7
    for logits in (slow, torch.stack(single, dim=1), readout_of(network, values)):
        torch.testing.assert_close(fast, logits)
    for other in (slow_after, stepped, traced):
        for a, b in zip(flat(after), flat(other), strict=True):
            torch.testing.assert_close(a, b)


def test_a_held_state_stays_where_it_is_held_under_zoneout():
    network = make(zoneout=0.5)
    keep = hold_all([Held(1, "c", 2, 0.25), Held(1, "i", 3, 0.5)], network)
    ids, state = window(network)
    for t in range(3):
        _, state = network.step(ids[:, t], state, keep)
        assert torch.equal(state[0][1][:, 2], torch.full((5,), math.atanh(0.25)))


# -- skip connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_with_skip_connections_the_readout_reads_the_sum(cell):
    network, plain = make(cell, layers=3, skip_connections=True), make(cell, layers=3)
    ids, state = window(network)
    traces, _ = plain.trace(ids, state)
    total = traces[0]["h"] + traces[1]["h"] + traces[2]["h"]
    torch.testing.assert_close(network(ids, state)[0], plain.readout(total).transpose(0, 1))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_holding_agrees_with_single_steps_under_skip_connections(layer):
    network = make(layers=3, skip_connections=True)
    ids, _ = window(network)
    held = [Held(layer, "h", 4, 0.7)]
    losses = held_losses(network, ids, [[], held])
    for copy, keep in enumerate(([], held)):
        state, nats = network.initial_state(5), []
        for column in [torch.zeros(5, dtype=torch.int64), *ids[:, :-1].t()]:
            logits, state = network.step(column, state, hold_all(keep, network))
            nats.append(logits.log_softmax(-1))
        nats = torch.stack(nats[1:], dim=1).gather(2, ids[:, 1:, None])[..., 0]
        torch.testing.assert_close(losses[copy], -nats)


@pytest.mark.parametrize("lever", [{"zoneout": 0.1}, {"skip_connections": True}], ids=str)
def test_compression_refuses_what_its_arithmetic_lacks(lever):
    vocabulary = Vocabulary.of_chars(map(ord, "abcdefghi"))
    tensors = {name: p.detach().numpy() for name, p in make().named_parameters()}
    FixedPointNetwork(make().config, vocabulary, tensors)
    with pytest.raises(RunError, match="zoneout or skip"):
        FixedPointNetwork(make(**lever).config, vocabulary, tensors)


# -- first weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_orthogonal_first_weights_are_orthogonal_gate_by_gate_and_the_others_torchs(cell):
    network, plain = make(cell, init="orthogonal"), make(cell)
    weights = dict(plain.named_parameters())
    for name, weight in network.named_parameters():
        if "weight_hh" in name:
            for block in weight.split(7):
                torch.testing.assert_close(block @ block.t(), torch.eye(7), rtol=0, atol=1e-5)
            if len(weight) > 7:
                assert not torch.allclose(weight[:7], weight[7:14])
        elif name.startswith("layers.0") or "layers" not in name:
            assert torch.equal(weight, weights[name]), name


def test_rectified_units_keep_most_of_their_state():
    layer = make("elman_relu", init="orthogonal").layers[0]
    assert torch.equal(layer.weight_hh_l0, 0.9 * torch.eye(7))


@pytest.mark.parametrize(("cell", "keeping", "opposed"), [("lstm", 1, 0), ("gru", 1, None)])
def test_chrono_spreads_what_neurons_remember_over_the_window(cell, keeping, opposed):
    size, longest = 2000, 120
    (layer,) = make(cell, layers=1, hidden=size, forget_init="chrono", seq_len=longest).layers
    (plain,) = make(cell, layers=1, hidden=size).layers
    bias, usual = ((a.bias_ih_l0 + a.bias_hh_l0).detach().split(size) for a in (layer, plain))
    spread = bias[keeping].exp()
    assert spread.min() >= 1 and spread.max() <= longest - 1
    assert kstest(spread.numpy(), "uniform", args=(1, longest - 2)).pvalue > 1e-3
    for gate, own in enumerate(bias):
        if gate == opposed:
            assert torch.equal(own, -bias[keeping])
        elif gate != keeping:
            assert torch.equal(own, usual[gate])


@pytest.mark.parametrize(
    ("cell", "lever"),
    [
        ("elman", {"forget_init": "chrono"}),
        ("mingru", {"forget_init": "chrono"}),
        ("mingru", {"weight_drop": 0.1}),
    ],
)
def test_a_lever_that_the_cell_cannot_have_is_refused(cell, lever, tmp_path):
    with pytest.raises(ConfigError, match=next(iter(lever))):
        make(cell, **lever)
    settings = {f"model.{name}": value for name, value in lever.items()}
    with pytest.raises(ConfigError, match=cell):
        start.start(
            [write_words(tmp_path)],
            run=str(tmp_path / "run"),
            settings=SMALL | settings | {"model.cell": cell},
        )
    assert not (tmp_path / "run").exists()


# -- runs ---------------------------------------------------------------------------------------

LEVERS = {
    "model.input_dropout": 0.1,
    "model.output_dropout": 0.4,
    "model.dropout_kind": "variational",
    "model.weight_drop": 0.2,
    "model.zoneout": 0.1,
    "model.skip_connections": True,
    "model.init": "orthogonal",
    "training.activation_l2": 2.0,
    "training.temporal_l2": 1.0,
    "training.steps": 12,
    "training.num_evals": 2,
}


@pytest.mark.parametrize("cell", CELLS)
def test_runs_with_all_levers_resume_bit_identically_and_load(cell, tmp_path):
    text = write_words(tmp_path)
    assert_resumes_exactly(text, tmp_path, 7, **LEVERS, **{"model.cell": cell})
    run = charrnn.load(tmp_path / "cut", device="cpu")
    assert run.config.model.zoneout == 0.1 and run.config.model.skip_connections is True
    found = run.evaluate(baselines=False).loss
    assert found == pytest.approx(run.checkpoint.progress["val_loss"], abs=1e-6)
    assert run.sample(20, seed=3) == run.sample(20, seed=3)


@pytest.mark.parametrize(
    "lever",
    [
        {"weight_drop": 0.3},
        {"zoneout": 0.1},
        {"skip_connections": True},
        {"dropout": 0.3, "dropout_kind": "variational"},
        {"forget_init": "chrono", "init": "orthogonal"},
    ],
    ids=lambda lever: next(iter(lever)),
)
def test_runs_learn_with_every_lever(lever, tmp_path):
    settings = {f"model.{name}": value for name, value in lever.items()}
    settings = {"training.steps": 100, "training.num_evals": 1, "model.dropout": 0} | settings
    events = run_events(write_words(tmp_path), tmp_path / "run", **settings)
    assert events[-1].best_val_loss < 2.7  # a character by its frequency alone costs 2.9
