"""Activations that are computed again: the step is the same, and less is kept."""

from __future__ import annotations

import pytest
import torch
from small_runs import assert_resumes_exactly, write_words

from charrnn.config import CELLS, ModelConfig, TrainingConfig
from charrnn.model import kernels
from charrnn.model.network import Network, new_network
from charrnn.model.paths import Path
from charrnn.training import updates
from charrnn.training.step import Step

CPU = torch.device("cpu")
ROWS, LENGTH = 5, 23
OWN = Path("own", "")
STACK = {p: Path("stack", "", p, True, 8, 8, 8) for p in ("fp32", "fp16")}


def make_step(cell="lstm", path=OWN, recompute=True, **model):
    config = ModelConfig(
        **{"cell": cell, "hidden_size": 9, "num_layers": 2, "embedding_size": 4, "dropout": 0.0} | model
    )
    pull = {"activation_l2": 2.0, "temporal_l2": 3.0}
    training = TrainingConfig(
        batch_size=ROWS, learning_rate=0.1, optimizer="sgd", grad_clip=1e6, recompute=recompute, **pull
    )
    return Step(new_network(config, 11, seed=3), training, CPU, path=path)


def take(step, count=3):
    """Do some steps, with documents that begin anywhere, and return the last outcome."""
    state, noise = step.network.initial_state(ROWS), torch.Generator()
    for seed in range(count):
        ids = torch.randint(0, 11, (ROWS, LENGTH + 1), generator=noise.manual_seed(seed))
        outcome = step(ids[:, :-1], ids[:, 1:], state, noise.manual_seed(seed), 0.1)
        assert noise.initial_seed() == seed
        state = outcome.state
    return outcome


def assert_same_steps(first, second, error=1e-5):
    found, expected = take(first), take(second)
    torch.testing.assert_close(found.loss, expected.loss, rtol=error, atol=error)
    torch.testing.assert_close(found.norm, expected.norm, rtol=error, atol=error)
    torch.testing.assert_close(found.state, expected.state, rtol=error, atol=error)
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=error, atol=error)
        torch.testing.assert_close(mine, theirs, rtol=error, atol=error)


@pytest.mark.parametrize("cell", [name for name in CELLS if name != "esn"])
def test_the_step_is_the_one_that_keeps_everything(cell):
    assert_same_steps(make_step(cell), make_step(cell, recompute=False))


@pytest.mark.parametrize("path", [OWN, *STACK.values()], ids=["torch", "stack", "stack in fp16"])
def test_so_it_is_without_native_kernels(monkeypatch, path):
    for module in (kernels, updates):
        monkeypatch.setattr(module, "library", lambda: None)
    error = 1e-5 if path.precision == "fp32" else 1e-2
    assert_same_steps(make_step(path=path), make_step(path=path, recompute=False), error)


@pytest.mark.parametrize(
    "levers", [{"dropout": 0.4}, {"weight_drop": 0.5}, {"input_dropout": 0.3, "weight_drop": 0.3}]
)
def test_masks_of_a_whole_window_are_those_of_every_segment(levers):
    levers |= {"dropout_kind": "variational"}
    assert_same_steps(make_step(**levers), make_step(recompute=False, **levers))


def test_other_masks_are_drawn_anew_for_every_segment_and_alike_when_it_is_read_again(monkeypatch):
    seen, loss = [], Network.loss

    def noted(self, ids, targets, state, noise, *more):
        made = loss(self, ids, targets, state, noise, *more)
        seen.append((noise.initial_seed(), made[0].item()))
        return made

    monkeypatch.setattr(Network, "loss", noted)
    take(make_step(dropout=0.4), 1)
    first, again = seen[:4], seen[4:]  # of 23 timesteps 5, 5, 5, 5 and 3; the last is read once
    assert again[1:] == first[::-1] and len(again) == 5
    assert len({seed for seed, _ in again}) == 5


def test_masks_do_not_depend_on_where_memory_ran_out(monkeypatch):
    first, second = make_step(dropout=0.4), make_step(dropout=0.4)
    second.parts = 2
    take(second, 1)
    loss, calls = Network.loss, []

    def third_is_too_much(self, *given):
        calls.append(given)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, *given)

    monkeypatch.setattr(Network, "loss", third_is_too_much)
    take(first, 1)
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_rows_and_segments_go_together():
    whole, cut = make_step(recompute=False), make_step()
    cut.parts = 2
    assert_same_steps(cut, whole)


def test_no_more_is_kept_than_of_one_segment(monkeypatch):
    """Bytes that autograd holds at once, over a window of 400 timesteps, on torch's own layers."""
    for module in (kernels, updates):
        monkeypatch.setattr(module, "library", lambda: None)
    kept = {recompute: most_kept(make_step("mingru", recompute=recompute)) for recompute in (False, True)}
    assert kept[True] < kept[False] / 10


def most_kept(step):
    held = {"now": 0, "most": 0}

    class Kept:
        def __init__(self, values):
            self.values = values
            held["now"] += values.nbytes
            held["most"] = max(held.values())

        def __del__(self):
            held["now"] -= self.values.nbytes

    ids = torch.randint(1, 11, (ROWS, 401), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.values):
        step(ids[:, :-1], ids[:, 1:], step.network.initial_state(ROWS), torch.Generator(), 0.1)
    return held["most"]


def test_a_run_resumes_exactly(tmp_path):
    settings = {
        "training.steps": 12,
        "training.num_evals": 2,
        "training.recompute": True,
        "model.dropout": 0.3,
    }
    assert_resumes_exactly(write_words(tmp_path), tmp_path, 7, **settings)
