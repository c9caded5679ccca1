"""The echo state network: its reservoir, its ridge regression, and a run of it from begin to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from test_training import SMALL, files_equal, losses, run_events, text  # noqa: F401

import charrnn
from charrnn.config import ModelConfig
from charrnn.errors import ConfigError
from charrnn.events import EvalEvent, StepEvent
from charrnn.model.cells.esn import ESN
from charrnn.model.network import Network
from charrnn.training import start
from charrnn.training.ridge import RidgeSums, as_logits

ESN_RUN = {
    "model.cell": "esn",
    "model.hidden_size": 60,
    "model.num_layers": 1,
    "model.dropout": 0,
    "training.steps": None,
    "training.epochs": 1,
}


def network_of(hidden=50, layers=1, embedding=0, **settings):
    return Network(ModelConfig("esn", hidden, layers, embedding, 0.0, **settings), 11, seed=4)


# -- the reservoir --------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.3, 0.9, 1.4])
def test_spectral_radius_is_the_one_asked_for(radius):
    for layer in network_of(layers=2, spectral_radius=radius).layers:
        eigenvalues = np.linalg.eigvals(layer.weight_hh_l0.detach().double().numpy())
        assert np.abs(eigenvalues).max() == pytest.approx(radius, rel=1e-4)


@pytest.mark.parametrize(("fan_in", "expected"), [(1, 1), (7, 7), (1000, 50)])
def test_every_neuron_has_as_many_connections_as_asked_for(fan_in, expected):
    weights = network_of(fan_in=fan_in).layers[0].weight_hh_l0
    assert (weights != 0).sum(1).tolist() in (
        [expected] * 50,
        [0] * 50,
    )  # a graph without a cycle has radius 0


def test_input_weights_fill_the_range_asked_for():
    layer = network_of(hidden=2000, input_scaling=0.25, fan_in=1, spectral_radius=0.1).layers[0]
    assert 0.249 < float(layer.weight_ih_l0.detach().abs().max()) <= 0.25
    assert float(layer.weight_ih_l0.detach().std()) == pytest.approx(0.25 / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize("leak", [0.3, 1.0])
def test_definition_is_that_of_the_papers(leak):
    layer = network_of(hidden=6, leak=leak).double().layers[0]
    w, u, b = (p.detach().numpy() for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0))
    inputs = np.random.default_rng(0).normal(size=(9, 1, 11))
    h = expected = np.full(6, 0.5)
    rows = []
    for x in inputs[:, 0]:
        expected = (1 - leak) * expected + leak * np.tanh(w @ x + u @ expected + b)
        rows.append(expected)
    for run in (layer.reference, layer.recurrence):
        outputs, (after,) = run(torch.from_numpy(inputs), (torch.from_numpy(h)[None],))
        np.testing.assert_allclose(outputs[:, 0].detach().numpy(), rows, atol=1e-12)
        np.testing.assert_allclose(after[0].detach().numpy(), rows[-1], atol=1e-12)


def test_with_leak_1_and_the_same_weights_it_is_torchs_rnn():
    layer, other = ESN(5, 7).double(), torch.nn.RNN(5, 7).double()
    other.load_state_dict(layer.state_dict())
    inputs = torch.randn(8, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(layer.reference(inputs, layer.zero_state(3))[0], other(inputs)[0])


def test_two_states_converge_on_the_same_text_and_do_not_at_a_large_radius():
    """The echo state property (Jaeger 2001, definition 1), and what it is a property of."""

    def distance(radius):
        network = network_of(hidden=200, spectral_radius=radius, input_scaling=0.1, leak=1.0)
        ids = torch.randint(1, 11, (1, 300), generator=torch.Generator().manual_seed(0)).expand(2, -1)
        apart = ((torch.stack([torch.ones(200), -torch.ones(200)]),),)
        first, second = network.hidden(ids, apart)[0][-1]
        return float((first - second).norm())

    assert distance(0.8) < 1e-5
    assert distance(3.0) > 1


def test_only_the_readout_is_trained_and_counted():
    network = network_of(layers=2, embedding=3)
    assert [n for n, p in network.named_parameters() if p.requires_grad] == ["readout.weight", "readout.bias"]
    assert network.num_params == 50 * 11 + 11
    assert sum(p.numel() for p in network.parameters()) > network.num_params


# -- ridge regression -----------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-3, 1.0, 300.0])
def test_ridge_equals_that_of_scikit_learn(strength):
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(1)
    states, targets = random.normal(size=(400, 9)) + 0.7, random.integers(0, 5, size=400)
    sums = RidgeSums(9, 5, torch.device("cpu"))
    for part in (slice(0, 130), slice(130, 131), slice(131, 400)):  # as it is streamed
        sums.add(torch.from_numpy(states[part]), torch.from_numpy(targets[part]))
    other = Ridge(alpha=strength).fit(states, np.eye(5)[targets])
    ((weight, bias),) = sums.solve((strength,))
    np.testing.assert_allclose(weight.numpy(), other.coef_, atol=1e-10)
    np.testing.assert_allclose(bias.numpy(), other.intercept_, atol=1e-10)
    np.testing.assert_allclose(sums.shares().numpy(), np.bincount(targets, minlength=5) / 400)


def test_logits_are_the_formula_in_the_states():
    random = np.random.default_rng(2)
    weight, bias, shares = random.normal(size=(4, 3)), random.normal(size=4), np.array([0.1, 0.2, 0.3, 0.4])
    new = as_logits((torch.from_numpy(weight), torch.from_numpy(bias)), torch.from_numpy(shares), 1.5, 0.25)
    state = random.normal(size=3)
    estimate = weight @ state + bias
    expected = np.log(shares) + 1.5 * (estimate - shares) / shares**0.25
    np.testing.assert_allclose(new[0].numpy() @ state + new[1].numpy(), expected)


# -- a run ----------------------------------------------------------------------------------------


def test_ridge_reads_the_text_once_and_learns(text, tmp_path):  # noqa: F811
    events = run_events(text, tmp_path / "run", **ESN_RUN | {"training.epochs": 5})
    end = events[-1]
    assert end.stopped_by == "epochs" and end.epochs == 1.0
    found = [e.loss for e in events if isinstance(e, EvalEvent)]
    assert found[-1] < found[0] < 2.4 and end.best_val_loss == min(found)
    last = charrnn.load(tmp_path / "run", device="cpu").network
    first = Network(last.config, last.vocab_size, seed=1)
    for name, weight in first.layers.named_parameters():
        assert torch.equal(weight, last.layers.get_parameter(name))
    assert not torch.equal(first.readout.weight, last.readout.weight)


def test_ridge_by_steps_equals_one_regression_on_all_states(text, tmp_path):  # noqa: F811
    """The sums of a finished run against all states at once, washed out, in float64."""
    trainer = start.start([text], run=str(tmp_path / "run"), settings=SMALL | ESN_RUN, device="cpu")
    list(trainer.events())
    streams, length = trainer.streams, trainer.streams.row_length
    whole = type(streams)(streams.places, streams.table, streams.start, streams.stop, 4, length)
    ids, targets = (torch.from_numpy(part) for part in whole.window(0))
    with torch.no_grad():
        hidden, _ = trainer.network.hidden(ids, trainer.network.initial_state(4))
    states = hidden[100:].flatten(0, 1).double()
    assert trainer.optimizer.count == len(states) == 4 * (length - 100)
    torch.testing.assert_close(trainer.optimizer.gram[:-1, :-1], states.t() @ states, rtol=1e-5, atol=1e-4)
    followed = torch.eye(len(trainer.job.vocabulary), dtype=torch.float64)[targets.t()[100:].flatten()]
    torch.testing.assert_close(trainer.optimizer.cross[:, :-1], followed.t() @ states, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"training.readout": "gradient", "training.epochs": 0.3}], ids=str)
def test_a_run_repeats_and_resumes_bit_identically(text, tmp_path, settings):  # noqa: F811
    settings = ESN_RUN | settings
    run_events(text, tmp_path / "whole", **settings)
    trainer = start.start([text], run=str(tmp_path / "cut"), settings=SMALL | settings, device="cpu")
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step == 20:
            trainer.request_stop()
    assert event.stopped_by == "interrupted"
    list(start.resume(str(tmp_path / "cut"), device="cpu").events())
    for name in ("last/model.safetensors", "last/trainer.safetensors", "best/model.safetensors"):
        files_equal(tmp_path / "whole", tmp_path / "cut", name)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_without_a_validation_split_it_is_solved_at_the_end(text, tmp_path):  # noqa: F811
    events = run_events(
        text, tmp_path / "run", **ESN_RUN | {"text.val_fraction": 0, "text.test_fraction": 0.1}
    )
    assert events[-1].best_val_loss is None
    run = charrnn.load(tmp_path / "run", device="cpu")
    assert run.evaluate(split="test", baselines=False).loss < 2.4


def test_it_speaks_and_is_inspected_like_any_other(text, tmp_path):  # noqa: F811
    run_events(text, tmp_path / "run", **ESN_RUN)
    run = charrnn.load(tmp_path / "run", device="cpu")
    assert len(run.sample(50, prompt="the ")) == 50
    findings = run.inspect_neurons(texts=[text], hypotheses=("is_space",))
    assert findings.neurons_tested == 60 and abs(findings.rows[0].r) > 0.5
    # nothing in a reservoir is learnt: the twin of the same seed has the same neuron
    assert abs(findings.rows[0].r_untrained) >= abs(findings.rows[0].r) - 1e-5
    json.dumps(findings.to_json())


def test_the_plan_gives_one_pass_and_ridge_to_fixed_cells_alone(text, tmp_path):  # noqa: F811
    settings = {"model.cell": "esn", "training.batch_size": 4}
    config = start.start([text], run=str(tmp_path / "a"), settings=settings, device="cpu").job.config
    assert (config.training.readout, config.training.epochs, config.training.minutes) == ("ridge", 1.0, None)
    assert (config.model.embedding_size, config.model.dropout) == (0, 0.0)
    with pytest.raises(ConfigError, match="trained by gradient") as caught:
        start.start([text], run=str(tmp_path / "b"), settings={"training.readout": "ridge"}, device="cpu")
    assert "--cell esn" in caught.value.hint
