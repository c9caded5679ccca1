"""Update rules, schedules, clipping and decay: against torch's own and against one another."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import (
    SMALL,
    assert_resumes_exactly,
    files_equal,
    interrupted,
    losses,
    run_events,
    write_words,
)
from torch import nn

import charrnn
from charrnn.config import CELLS, OPTIMIZERS, SCHEDULES, ModelConfig, TrainingConfig
from charrnn.errors import ConfigError
from charrnn.events import EvalEvent, StepEvent
from charrnn.model.network import new_network
from charrnn.native import library
from charrnn.runs import TRAINER, load_tensors, save_tensors
from charrnn.training import muon, start
from charrnn.training.averaging import NoAverage
from charrnn.training.muon import orthogonal
from charrnn.training.optimizers import parameter_groups, pull_to_zero
from charrnn.training.schedules import constant, cosine, linear, multistep, onecycle, plateau, warmed_up
from charrnn.training.state import Counters, load_trainer, save_trainer

QUICK = {"training.steps": 12, "training.num_evals": 2}


@pytest.fixture
def text(tmp_path):
    return write_words(tmp_path)


# -- update rules -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_every_optimizer_learns_at_its_default_rate(tmp_path, optimizer):
    settings = {
        "model.hidden_size": 32,
        "model.num_layers": 1,
        "model.dropout": 0,
        "training.batch_size": 8,
        "training.seq_len": 32,
        "training.steps": 150,
        "training.num_evals": 1,
        "training.optimizer": optimizer,
    }
    events = list(charrnn.train("harbour", run=str(tmp_path / "run"), settings=settings, device="cpu"))
    found = [e.loss for e in events if isinstance(e, StepEvent)]
    assert found[0] > 3.5 and found[-1] < 2.6


@pytest.mark.parametrize("optimizer", ["momentum", "adagrad", "nadam", "muon"])
def test_runs_resume_bit_identically(text, tmp_path, optimizer):
    assert_resumes_exactly(text, tmp_path, 7, **QUICK, **{"training.optimizer": optimizer})


@pytest.mark.parametrize(
    ("optimizer", "cell"),
    [(name, cell) for name in OPTIMIZERS for cell in ("lstm", "gru", "elman")]
    + [("muon", cell) for cell in CELLS if cell not in ("lstm", "gru", "elman")],
)
def test_every_optimizer_goes_on_from_its_file(tmp_path, optimizer, cell):
    whole, rule, settings = optimized(optimizer, cell=cell, batch_size=2)
    for step in range(6):
        one_step(whole, rule, settings, step)
        if step == 2:
            save_trainer(tmp_path, whole, rule, whole.initial_state(2), Counters(step=3), {})
    cut, other, settings = optimized(optimizer, cell=cell, batch_size=2)
    _, counters = load_trainer(tmp_path / TRAINER, cut, other, settings, NoAverage(cut, settings, Counters()))
    for step in range(counters.step, 6):
        one_step(cut, other, settings, step)
    assert counters.step == 3
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def optimized(optimizer, cell="lstm", **training):
    """A small network, its update rule, and the settings of both."""
    network = new_network(ModelConfig(cell, 8, 2, embedding_size=6, dropout=0.0), 11, seed=3)
    settings = TrainingConfig(optimizer=optimizer, **{"weight_decay": 0.0, **training})
    recipe = OPTIMIZERS[optimizer]
    return network, recipe.build(parameter_groups(network, recipe, settings), 0.01), settings


def one_step(network, rule, settings, step):
    """A step with random gradients, as the trainer does it."""
    set_gradients(network, step)
    pull_to_zero(rule, OPTIMIZERS[settings.optimizer], settings)
    rule.step()


def set_gradients(network, step):
    noise = torch.Generator().manual_seed(step)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=noise)


def trained(optimizer, **training):
    network, rule, settings = optimized(optimizer, **training)
    for step in range(3):
        one_step(network, rule, settings, step)
    return dict(network.named_parameters())


def assert_same_weights(first, second, tolerance=1e-6):
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=tolerance, atol=tolerance)


def test_decay_beside_adam_is_adamw():
    assert_same_weights(trained("adam", weight_decay=0.3), trained("adamw", weight_decay=0.3))
    with pytest.raises(AssertionError):
        assert_same_weights(trained("adam"), trained("adamw", weight_decay=0.3))


def test_l2_beside_adamw_is_that_of_torchs_adam():
    assert_same_weights(trained("adamw", l2=0.3), trained("adam", l2=0.3))
    with pytest.raises(AssertionError):
        assert_same_weights(trained("adamw"), trained("adam", l2=0.3))


def test_biases_are_not_pulled_to_zero():
    for optimizer in OPTIMIZERS:
        network, rule, settings = optimized(optimizer, l2=0.5, weight_decay=0.5)
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        pull_to_zero(rule, OPTIMIZERS[optimizer], settings)
        rule.step()
        for name, p in network.named_parameters():
            assert torch.equal(p, before[name]) == (p.dim() == 1), (optimizer, name)


def test_momentum_and_nesterov_follow_their_formulas():
    for optimizer in ("sgd", "momentum", "nesterov"):
        weight, velocity = torch.tensor([2.0], dtype=torch.float64), 0.0
        own = nn.Parameter(weight.clone())
        rule = OPTIMIZERS[optimizer].build([own], 0.1)
        for _ in range(5):
            own.grad = own.detach() ** 3
            gradient = float(weight) ** 3
            velocity = 0.9 * velocity + gradient
            step = {"sgd": gradient, "momentum": velocity, "nesterov": gradient + 0.9 * velocity}[optimizer]
            weight -= 0.1 * step
            rule.step()
        assert own.item() == pytest.approx(float(weight), rel=1e-12)


# -- muon ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 12), (1, 12, 5), (3, 16, 16)])
def test_orthogonalised_matrices_keep_singular_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    own = u.mT @ orthogonal(matrix) @ vh.mT
    values = own.diagonal(dim1=-2, dim2=-1)
    assert (own - torch.diag_embed(values)).abs().max() < 1e-9
    assert values.min() > 0.3 and values.max() < 1.3


def test_bfloat16_is_precise_enough_to_orthogonalise_with(monkeypatch):
    """Where fp32 is iterated in bfloat16, the step is the same to 2 % of its size."""
    matrix = torch.randn((2, 48, 32), generator=torch.Generator().manual_seed(0))
    exact = orthogonal(matrix.double())
    errors = []
    for fast in (False, True):
        monkeypatch.setattr(muon, "has_fast_bf16", lambda device, fast=fast: fast)
        own = orthogonal(matrix)
        assert own.dtype == torch.float32
        errors.append(float((own - exact).norm() / exact.norm()))
    assert errors[0] < 1e-5 < errors[1] < 0.02


def test_muon_is_torchs_muon_on_every_gate_and_adamw_elsewhere():
    network = optimized("muon")[0]
    gates, others = {}, {}
    for name, p in network.named_parameters():
        if "weight_ih" in name or "weight_hh" in name:
            gates[name] = [nn.Parameter(block.clone()) for block in p.detach().split(8)]
        else:
            others[name] = nn.Parameter(p.detach().clone())
    blocks = [block for own in gates.values() for block in own]
    rule = torch.optim.Muon(blocks, 0.01, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.2 if p.dim() > 1 else 0.0} for p in others.values()],
        0.01,
        betas=(0.9, 0.99),
    )
    for step in range(3):
        set_gradients(network, step)
        for name, p in network.named_parameters():
            if name in gates:
                for block, gradient in zip(gates[name], p.grad.split(8), strict=True):
                    block.grad = gradient.clone()
            else:
                others[name].grad = p.grad.clone()
        rule.step()
        adamw.step()
    mine = trained("muon", weight_decay=0.2)
    for name, p in mine.items():
        expected = torch.cat(gates[name]) if name in gates else others[name]
        # torch iterates in bfloat16, which leaves about 3 % of three steps of 0.01 × 0.2 × √8
        torch.testing.assert_close(p, expected, rtol=0, atol=5e-4 if name in gates else 1e-6)


def test_muon_takes_a_matrix_over_one_hot_input_for_an_embedding():
    recipe = OPTIMIZERS["muon"]
    for cell, size, inside in (("lstm", 0, 3), ("lstm", 6, 4), ("compressor", 0, 6), ("compressor", 6, 8)):
        network = new_network(ModelConfig(cell, 8, 2, embedding_size=size, dropout=0.0), 11)
        groups = parameter_groups(network, recipe, TrainingConfig(weight_decay=0.0))
        (own,) = [group["params"] for group in groups if "rows" in group]
        assert len(own) == inside and all(p.shape[1] <= 8 for p in own)
        assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


# -- schedules ----------------------------------------------------------------------------------


def test_schedules():
    assert (cosine(0), cosine(0.5), cosine(1)) == pytest.approx((1, 0.5, 0))
    assert (linear(0), linear(0.25), linear(1)) == (1, 0.75, 0)
    assert constant(0.7) == 1
    assert [plateau(0.5, misses) for misses in (0, 1, 3)] == [1, 0.5, 0.125]
    assert warmed_up(1.0, 0.01, 0.02) == pytest.approx(0.5) and warmed_up(0.8, 0.5, 0.02) == 0.8
    assert warmed_up(0.8, 0.0, 0.0) == 0.8


def test_onecycle_is_torchs():
    rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(rule, 1.0, total_steps=101, cycle_momentum=False)
    # torch's rise ends one step before 30 % of the steps are done
    for step in range(101):
        at = step / 29.3 * 0.3 if step <= 29.3 else 0.3 + (step - 29.3) / (100 - 29.3) * 0.7
        assert onecycle(at) == pytest.approx(rule.param_groups[0]["lr"], rel=1e-9), step
        rule.step()
        if step < 100:
            theirs.step()


def test_onecycle_is_warmed_up_by_nothing_else(text, tmp_path):
    settings = {"training.schedule": "onecycle", "training.warmup_fraction": 0.5, "training.steps": 10}
    events = run_events(text, tmp_path / "run", **settings, **{"training.learning_rate": 0.01})
    rates = [event.learning_rate for event in events if isinstance(event, StepEvent)]
    assert rates == pytest.approx([0.01 * onecycle((step + 0.5) / 10) for step in range(10)])


def test_multistep_is_torchs_after_25_and_35_of_50_epochs():
    rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(rule, [25, 35], 0.1)
    for epoch in range(50):
        for within in (0.001, 0.5, 0.999):
            assert multistep((epoch + within) / 50) == pytest.approx(rule.param_groups[0]["lr"])
        rule.step()
        theirs.step()


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_every_schedule_stays_between_zero_and_the_peak_and_resumes(text, tmp_path, schedule):
    assert all(-1e-12 <= SCHEDULES[schedule](p / 50) <= 1 for p in range(51))
    assert_resumes_exactly(text, tmp_path, 7, **QUICK, **{"training.schedule": schedule})


def test_plateau_halves_the_rate_at_every_look_without_improvement(text, tmp_path):
    rising = {"training.learning_rate": 2.0, "training.schedule": "plateau", "training.warmup_fraction": 0}
    rising |= {"training.optimizer": "momentum", "training.grad_clip": 100}
    # looks come every 2 steps, and this rate makes some of them worse
    settings = {**rising, "training.steps": 10, "training.num_evals": 5}
    rates, misses = [], 0
    for event in run_events(text, tmp_path / "run", **settings):
        if isinstance(event, StepEvent):
            assert event.learning_rate == pytest.approx(2.0 * 0.5**misses)
            rates.append(event.learning_rate)
        misses += isinstance(event, EvalEvent) and not event.best
    assert misses > 0 and len(set(rates)) > 1
    assert_resumes_exactly(text, tmp_path, 9, **settings)


def test_plateau_needs_text_to_look_at(text, tmp_path):
    with pytest.raises(ConfigError, match="plateau"):
        run_events(text, tmp_path / "run", **{"training.schedule": "plateau", "text.val_fraction": 0})
    assert not (tmp_path / "run").exists()


# -- clipping -----------------------------------------------------------------------------------


def test_clipping_by_value_bounds_every_step(text, tmp_path):
    settings = SMALL | {
        "training.optimizer": "sgd",
        "training.learning_rate": 1.0,
        "training.schedule": "constant",
        "training.warmup_fraction": 0,
        "training.steps": 1,
        "training.grad_clip_value": 1e-4,
    }
    trainer = start.start([text], run=str(tmp_path / "run"), settings=settings, device="cpu")
    before = torch.cat([p.detach().flatten().clone() for p in trainer.network.parameters()])
    norm = next(e for e in trainer.events() if isinstance(e, StepEvent)).gradient_norm
    moved = torch.cat([p.detach().flatten() for p in trainer.network.parameters()]) - before
    assert float(moved.abs().max()) == pytest.approx(1e-4, rel=1e-3)
    assert float(moved.norm()) == pytest.approx(norm, rel=1e-3)
    assert (moved.abs() > 0.99e-4).sum() > 20 and (moved.abs() < 0.9e-4).sum() > 20


# -- runs of format 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rule"), [("sgd", "nesterov"), ("adam", "adam"), ("adamw", "adamw")])
def test_a_run_of_format_1_goes_on_by_the_rule_it_began_with(text, tmp_path, name, rule):
    """Then, ``sgd`` had Nesterov's momentum and ``weight_decay`` was L2 but for ``adamw``."""
    pull = {"training.weight_decay": 0.02} if rule == "adamw" else {"training.l2": 0.02}
    settings = {"training.optimizer": rule, **pull, **QUICK}
    run_events(text, tmp_path / "whole", **settings)
    interrupted(text, tmp_path / "cut", 7, **settings)
    for path in (tmp_path / "cut").rglob("*.safetensors"):
        make_old(path, name)
    list(start.resume(str(tmp_path / "cut"), device="cpu").events())
    files_equal(tmp_path / "whole", tmp_path / "cut", "last/trainer.safetensors")
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    header = load_tensors(tmp_path / "cut" / "last" / "model.safetensors")[1]
    assert (header["format"], header["config"]["training"]["optimizer"]) == (2, rule)


def make_old(path: Path, optimizer: str) -> None:
    """Turn a file into what a program of format 1 wrote."""
    tensors, header = load_tensors(path)
    header = json.loads(json.dumps(header)) | {"format": 1}
    if path.name == TRAINER:  # then, it held no settings
        header = {name: header[name] for name in ("format", "counters")}
    if "config" in header:
        training = header["config"]["training"]
        training["weight_decay"] += training.pop("l2")
        del training["grad_clip_value"]
        training["optimizer"] = optimizer
    else:
        counters = header["counters"]
        del counters["misses"]
        counters["window"] = counters.pop("position") // SMALL["training.seq_len"]
    save_tensors(path, tensors, header)


def test_rates_fall_with_width_where_the_rule_divides_by_the_gradient():
    assert OPTIMIZERS["adamw"].rate(512) == pytest.approx(0.5 * OPTIMIZERS["adamw"].rate(256))
    assert OPTIMIZERS["sgd"].rate(512) == OPTIMIZERS["sgd"].rate(256)
    assert all(math.isfinite(OPTIMIZERS[name].rate(1)) for name in OPTIMIZERS)


@pytest.mark.skipif(library() is None, reason="torch's own step asks for the compiler")
def test_training_and_sampling_leave_torchs_compiler_out(tmp_path):
    script = (
        "import sys, charrnn\n"
        "from small_runs import run_events, write_words\n"
        "from pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "settings = {'training.steps': 2, 'model.init': 'orthogonal'}\n"
        "run_events(write_words(folder), folder / 'run', **settings)\n"
        "charrnn.load(str(folder / 'run')).sample(5)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
