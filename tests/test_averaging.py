"""Averaged weights: against sums over the weights of every step, and in everything that a run writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import SMALL, assert_resumes_exactly, files_equal, run_events, write_words

import charrnn
from charrnn.config import AVERAGINGS
from charrnn.errors import ConfigError
from charrnn.events import EvalEvent, SampleEvent, StepEvent
from charrnn.runs import load_tensors
from charrnn.training import start
from charrnn.training.averaging import NON_MONOTONE

EMA = {"training.averaging": "ema", "training.ema_decay": 0.5}
SHAKY = {
    "training.averaging": "ntasgd",
    "training.optimizer": "momentum",
    "training.learning_rate": 3.0,
    "training.schedule": "constant",
    "training.grad_clip": 100,
    "training.num_evals": 10,
}
"""A look after every step, and steps so long that some make it worse."""


@pytest.fixture
def text(tmp_path):
    return write_words(tmp_path)


def followed(text, folder, **settings):
    """Train ten steps; return the first weights, those after every step, and the looks as (step, loss)."""
    settings = SMALL | {"training.steps": 10} | settings
    trainer = start.start([text], run=str(folder), settings=settings, device="cpu")
    weights, looks = [flat(trainer.network)], []
    for event in trainer.events():
        if isinstance(event, StepEvent):
            weights.append(flat(trainer.network))
        if isinstance(event, EvalEvent):
            looks.append((event.step, event.loss))
    return weights, looks


def flat(network):
    return {name: p.detach().double().numpy().copy() for name, p in network.named_parameters()}


def assert_holds(path, prefix, expected):
    tensors, _ = load_tensors(path)
    for name, value in expected.items():
        np.testing.assert_allclose(tensors[prefix + name].double().numpy(), value, rtol=1e-5, atol=1e-6)


def test_the_moving_average_is_its_sum(text, tmp_path):
    weights, _ = followed(text, tmp_path / "run", **EMA)
    average = weights[0]
    for step, after in enumerate(weights[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * after[name] for name in after}
    last = tmp_path / "run" / "last"
    assert_holds(last / "model.safetensors", "", average)
    assert_holds(last / "trainer.safetensors", "average.", average)
    assert_holds(last / "trainer.safetensors", "model.", weights[-1])
    name = "readout.weight"
    assert abs(average[name] - weights[-1][name]).max() > 1e-3


def test_ntasgd_is_the_mean_since_validation_stopped_improving(text, tmp_path):
    weights, looks = followed(text, tmp_path / "run", **SHAKY)
    losses = [loss for _, loss in looks]
    since = next(
        step
        for n, (step, loss) in enumerate(looks)
        if n > NON_MONOTONE and loss > min(losses[: n - NON_MONOTONE])
    )
    assert NON_MONOTONE < since < 9
    mean = {name: np.mean([w[name] for w in weights[since + 1 :]], axis=0) for name in weights[0]}
    last = tmp_path / "run" / "last"
    assert_holds(last / "model.safetensors", "", mean)
    assert_holds(last / "trainer.safetensors", "model.", weights[-1])
    assert load_tensors(last / "trainer.safetensors")[1]["counters"]["averaged_since"] == since


def test_ntasgd_waits_while_validation_improves(text, tmp_path):
    calm = {"training.averaging": "ntasgd", "training.num_evals": 10}
    weights, looks = followed(text, tmp_path / "run", **calm)
    assert [loss for _, loss in looks] == sorted((loss for _, loss in looks), reverse=True)
    assert_holds(tmp_path / "run" / "last" / "model.safetensors", "", weights[-1])


def test_averaging_changes_nothing_of_what_is_trained(text, tmp_path):
    raw = []
    for averaging in AVERAGINGS:
        run_events(text, tmp_path / averaging, **{"training.averaging": averaging, "training.steps": 8})
        tensors, _ = load_tensors(tmp_path / averaging / "last" / "trainer.safetensors")
        raw.append({name: t for name, t in tensors.items() if name.startswith(("model.", "optimizer."))})
    assert all(torch.equal(raw[0][name], other[name]) for other in raw for name in raw[0])


@pytest.mark.parametrize("settings", [EMA, SHAKY], ids=["ema", "ntasgd"])
def test_what_is_judged_is_what_is_saved_and_speaks(text, tmp_path, settings):
    events = run_events(
        text, tmp_path / "run", **{**settings, "training.steps": 10, "training.num_evals": 10}
    )
    run = charrnn.load(tmp_path / "run", device="cpu")
    found = run.evaluate(baselines=False).loss
    assert found == pytest.approx(min(e.loss for e in events if isinstance(e, EvalEvent)), abs=1e-6)
    said = [e.text for e in events if isinstance(e, SampleEvent)][-1]
    last = charrnn.load(tmp_path / "run", last=True, device="cpu")
    assert last.sample(len(said), temperature=0.8, seed=1) == said


@pytest.mark.parametrize("stop_at", [3, 9])
@pytest.mark.parametrize("settings", [EMA, SHAKY], ids=["ema", "ntasgd"])
def test_averages_resume_bit_identically(text, tmp_path, settings, stop_at):
    assert_resumes_exactly(
        text, tmp_path, stop_at, **{**settings, "training.steps": 12, "training.num_evals": 12}
    )
    heads = files_equal(tmp_path / "whole", tmp_path / "cut", "last/trainer.safetensors")
    assert heads[0]["counters"]["averaged_since"] == heads[1]["counters"]["averaged_since"]
    assert (heads[0]["counters"]["averaged_since"] is not None) == (settings is SHAKY)


def test_ntasgd_needs_text_to_look_at(text, tmp_path):
    with pytest.raises(ConfigError, match="ntasgd"):
        run_events(text, tmp_path / "run", **{"training.averaging": "ntasgd", "text.val_fraction": 0})
