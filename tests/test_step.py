"""One step: it waits for nothing, its loss scale is torch's, and a window too large is read in parts."""

from __future__ import annotations

import sys

import pytest
import torch
from small_runs import assert_resumes_exactly, files_equal, interrupted, run_events, write_words
from tape import fuse
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import NoWaiting, blind, tensors

from charrnn.config import OPTIMIZERS, ModelConfig, TrainingConfig
from charrnn.devices import resolve_precision
from charrnn.errors import ConfigError, TrainingError
from charrnn.events import NoticeEvent
from charrnn.model import kernels
from charrnn.model.network import Network, new_network
from charrnn.model.paths import Path
from charrnn.runs import load_tensors
from charrnn.training import start, updates
from charrnn.training.optimizers import OptimizerRecipe
from charrnn.training.scaling import LossScale
from charrnn.training.step import Step

CPU = torch.device("cpu")
STACK = {p: Path("stack", "", p, True, 8, 8, 8) for p in ("fp32", "fp16")}
PLAIN = Path("stock", "", "fp32")
RECORDED = [name for name in OPTIMIZERS if "fused" in OPTIMIZERS[name].recorded_with]
RECORDED += ["adam", "adamw"]  # fused everywhere; torch's other rules can be recorded on a GPU alone


@pytest.fixture
def torch_only(monkeypatch):
    """Run what runs on a GPU: no native kernel, whose work nobody would see."""
    for module in (kernels, updates):
        monkeypatch.setattr(module, "library", lambda: None)


def make_step(path=PLAIN, cell="lstm", optimizer="adamw", dropout=0.0, model=None, **training):
    settings = {"batch_size": 6, "learning_rate": 0.01, "weight_decay": 0.1, "optimizer": optimizer}
    config = ModelConfig(cell, 9, 2, embedding_size=4, dropout=dropout, **(model or {}))
    return Step(new_network(config, 11, seed=3), TrainingConfig(**settings | training), CPU, path=path)


def arguments(seed=0, rows=6, length=8):
    noise = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 11, (rows, length + 1), generator=noise)
    return ids[:, :-1], ids[:, 1:]


def take(step, count=3, rate=0.01):
    state = step.network.initial_state(6)
    for seed in range(count):
        noise = torch.Generator().manual_seed(seed)
        outcome = step(*arguments(seed), state, noise, rate, False)
        state = outcome.state
    return outcome


def weights(step):
    return torch.cat([p.detach().flatten() for p in step.network.parameters()])


# -- nothing waits ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", RECORDED)
@pytest.mark.parametrize("path", [PLAIN, *STACK.values()], ids=lambda p: f"{p.name} {p.precision}")
def test_no_step_looks_at_a_value(torch_only, optimizer, path):
    more = {"l2": 0.01} if OPTIMIZERS[optimizer].decouples else {}
    more |= {"activation_l2": 2.0, "temporal_l2": 1.0}
    levers = {"weight_drop": 0.3, "skip_connections": True, "input_dropout": 0.1, "output_dropout": 0.4}
    step = make_step(path, "lstm", optimizer, 0.2, levers, grad_clip_value=0.01, **more)
    fuse(step)
    take(step, 1, torch.tensor(0.01))  # what is made once may look
    before = weights(step)
    with blind(), NoWaiting():
        take(step, 2, torch.tensor(0.01))
    assert not torch.equal(weights(step), before)


@pytest.mark.parametrize("cell", ["gru", "elman", "mingru", "minlstm", "jordan"])
def test_no_cell_looks_at_a_value(torch_only, cell):
    step = make_step(Path("plain", "", "fp32"), cell)
    take(step, 1, torch.tensor(0.01))
    with blind(), NoWaiting():
        take(step, 1, torch.tensor(0.01))


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if OPTIMIZERS[name].recorded_with])
def test_a_step_stays_on_its_device(monkeypatch, optimizer):
    """On torch's device without memory, with the optimizers of CUDA: nothing is there to be looked at."""
    pretend(monkeypatch)
    network = new_network(ModelConfig("lstm", 9, 2, embedding_size=4, dropout=0.0), 11).to("meta")
    settings = {"batch_size": 6, "learning_rate": 0.01, "weight_decay": 0.1, "grad_clip_value": 0.1}
    training, meta = TrainingConfig(optimizer=optimizer, **settings), torch.device("meta")
    step = Step(network, training, meta, path=STACK["fp16"])
    ids, state = torch.empty(6, 5, dtype=torch.int64, device=meta), network.initial_state(6)
    for seen in (Elsewhere(), Elsewhere()):
        with seen:
            rate = torch.full((), 0.01, device=meta)
            loss, norm, state = step(ids[:, 1:], ids[:, :-1], state, None, rate, False)
    assert seen.devices == {"meta"} and {t.device for t in (loss, norm, *sum(state, ()))} == {meta}


def pretend(monkeypatch):
    """Let torch's optimizers take the device without memory for one that is as able as CUDA."""
    build = OptimizerRecipe.make
    monkeypatch.setattr(OptimizerRecipe, "make", lambda self, *a: build(self, *a[:2], torch.device("cuda")))
    for name in ("adam", "adadelta", "nadam", "rmsprop", "sgd", "optimizer"):
        module = sys.modules[f"torch.optim.{name}"]
        for kind in ("capturable", "fused_kernels", "foreach_kernels"):
            monkeypatch.setattr(
                module, f"_get_{kind}_supported_devices", lambda *_, **__: ["meta"], raising=False
            )


class Elsewhere(TorchDispatchMode):
    """Notes the devices of all that is computed with or made; fused updates, which CUDA has, are left out."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = None if func.__name__.startswith("_fused_") else func(*args, **(kwargs or {}))
        self.devices |= {tensor.device.type for tensor in tensors((args, kwargs, out))}
        return out


def test_one_who_looks_is_found(torch_only, monkeypatch):
    step = make_step()
    loss = step.network.loss
    for look in (
        lambda x: x.item(),
        float,
        bool,
        lambda x: x.tolist(),
        lambda x: x.detach().numpy(),
        lambda x: x.nonzero(),
        lambda x: x.reshape(1)[x.reshape(1) > 0],
    ):
        monkeypatch.setattr(step.network, "loss", lambda *a, look=look: (look(loss(*a)[0]), loss(*a))[1])
        with pytest.raises(AssertionError, match="waits for"), blind(), NoWaiting():
            take(step, 1, torch.tensor(0.01))
    monkeypatch.setattr(step.network, "loss", lambda *a: loss(*a[:-2], None))
    with (
        pytest.raises(AssertionError, match="waits for"),
        blind(),
        NoWaiting(),
    ):  # unless it is told, a network looks for documents
        take(step, 1, torch.tensor(0.01))


@pytest.mark.parametrize("optimizer", RECORDED)
def test_a_rate_on_the_device_is_the_same_rate(torch_only, optimizer):
    """With Python's number, and with a tensor that holds it: as exactly as fp32 holds the number."""
    numbers, tensors = make_step(optimizer=optimizer), make_step(optimizer=optimizer)
    fuse(numbers)
    fuse(tensors)
    take(numbers, 4, 0.0078125)  # 2^-7
    take(tensors, 4, torch.tensor(0.0078125))
    assert torch.allclose(weights(numbers), weights(tensors), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(numbers), weights(make_step()), rtol=1e-2)


# -- loss scale ---------------------------------------------------------------------------------


def test_the_loss_scale_is_that_of_torch(monkeypatch):
    """Against ``torch.amp.GradScaler``, over overflows at random."""
    monkeypatch.setattr("charrnn.training.scaling.GROWTH_STEPS", 3)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    ours = LossScale(CPU)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], 0.1)
    theirs.scale(torch.ones(()))
    noise = torch.Generator().manual_seed(1)
    for _ in range(40):
        gradient = torch.randn(3, generator=noise)
        kind = int(torch.randint(0, 6, (), generator=noise))
        gradient[0] = {0: torch.inf, 1: torch.nan}.get(kind, gradient[0])
        weight.grad = gradient * ours.scale
        before, mine = weight.detach().clone(), [gradient * ours.scale, torch.ones(2) * ours.scale]
        theirs.step(optimizer)
        theirs.update()
        kept = float(ours.unscale(mine))
        assert float(ours.scale) == theirs.get_scale()
        assert bool(kept) == (not torch.equal(weight, before)) == (kind > 1)
        torch.testing.assert_close(mine[0], gradient if kept else torch.zeros(3))
        torch.testing.assert_close(mine[1], torch.full((2,), kept))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_no_weight_moves_at_an_overflow(optimizer, monkeypatch):
    step = make_step(STACK["fp16"], optimizer=optimizer)
    take(step, 2)
    before, scale = weights(step), float(step.scaling.scale)
    step.scaling.scale.fill_(1e30)  # above what fp16 holds
    outcome = take(step, 1)
    assert torch.equal(weights(step), before) and float(outcome.norm) == 0
    assert float(step.scaling.scale) == pytest.approx(5e29)
    step.scaling.scale.fill_(scale)
    take(step, 1)
    assert not torch.equal(weights(step), before) and bool(weights(step).isfinite().all())


def test_scaled_fp16_learns_what_fp32_learns():
    """A loss whose gradients fp16 cannot hold unscaled: it must not matter."""
    found = {}
    for name, path in (("fp32", STACK["fp32"]), ("fp16", STACK["fp16"]), ("unscaled", STACK["fp16"])):
        step = make_step(path, optimizer="sgd", weight_decay=0.0, grad_clip=100.0)
        if name == "unscaled":
            step.scaling.scale.fill_(1.0)
        loss = step.network.loss
        step.network.loss = lambda *a, loss=loss: ((made := loss(*a))[0] * 1e-6, made[1])
        before = weights(step)
        take(step, 3, 1e5)
        found[name] = weights(step) - before
    errors = {name: float((found[name] - found["fp32"]).norm() / found["fp32"].norm()) for name in found}
    assert errors["fp16"] < 0.02 < 0.2 < errors["unscaled"]


def test_a_run_in_fp16_resumes_exactly(tmp_path, monkeypatch):
    """The loss scale is part of a checkpoint."""
    monkeypatch.setattr("charrnn.training.step.choose_path", lambda *_: STACK["fp16"])
    monkeypatch.setattr("charrnn.training.scaling.GROWTH_STEPS", 4)
    settings = {"training.steps": 12, "training.num_evals": 2}
    assert_resumes_exactly(write_words(tmp_path), tmp_path, 7, **settings)
    saved, _ = load_tensors(tmp_path / "cut" / "last" / "trainer.safetensors")
    assert float(saved["scaling.scale"]) == 2.0**19 and int(saved["scaling.steps"]) == 0


# -- memory -------------------------------------------------------------------------------------


def too_large(rows, error=None):
    """Let a network run out of memory above so many rows, as a GPU does: after half of the work."""
    whole = Network.loss
    error = error or torch.OutOfMemoryError("CUDA out of memory")

    def loss(self, ids, *more):
        made = whole(self, ids, *more)
        if len(ids) > rows:
            raise error
        return made

    return loss


@pytest.mark.parametrize("path", [PLAIN, STACK["fp32"]], ids=["stock", "stack"])
@pytest.mark.parametrize(("rows", "parts"), [(6, 1), (5, 2), (3, 2), (2, 4), (1, 6)])
def test_a_window_in_parts_is_the_same_step(monkeypatch, path, rows, parts):
    whole, cut = (make_step(path, activation_l2=20.0, temporal_l2=10.0) for _ in range(2))
    expected = take(whole)
    monkeypatch.setattr(Network, "loss", too_large(rows))
    found = take(cut)
    assert cut.parts == parts and len(cut.notices) == (parts > 1)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.norm, expected.norm, rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(found.state, expected.state, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_masks_do_not_depend_on_how_often_memory_ran_out(monkeypatch):
    monkeypatch.setattr(Network, "loss", too_large(2))
    first, second = make_step(dropout=0.4), make_step(dropout=0.4)
    second.parts = 4
    take(first)
    take(second)
    assert torch.equal(weights(first), weights(second)) and first.notices and not second.notices


def test_the_processor_runs_out_of_memory_in_other_words(monkeypatch):
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 56)  # more than any machine has
    for error in (real.value, MemoryError("no memory for a window")):
        with monkeypatch.context() as patch:
            patch.setattr(Network, "loss", too_large(3, error))
            step = make_step()
            take(step)
        assert step.parts == 2 and step.notices
    monkeypatch.setattr(Network, "loss", too_large(3, RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        take(make_step())


def test_where_one_row_is_too_much_training_ends(monkeypatch):
    monkeypatch.setattr(Network, "loss", too_large(0))
    with pytest.raises(TrainingError, match="even row by row"):
        take(make_step())


def test_a_trainer_says_once_that_memory_was_too_small_and_resumes_exactly(tmp_path, monkeypatch):
    text = write_words(tmp_path)
    monkeypatch.setattr(Network, "loss", too_large(1))
    settings = {"training.steps": 12, "training.num_evals": 2}
    events = run_events(text, tmp_path / "run", **settings)
    said = [e.message for e in events if isinstance(e, NoticeEvent)]
    assert said == [
        "memory does not hold a window of 4 × 16: from now on it is read in parts of 1 rows, whose gradients "
        "are added up before a step"
    ]
    interrupted(text, tmp_path / "cut", 7, **settings)
    events = list(start.resume(str(tmp_path / "cut"), device="cpu").events())
    assert [e.message for e in events if isinstance(e, NoticeEvent)] == ["continuing after step 7"]
    files_equal(tmp_path / "run", tmp_path / "cut", "last/trainer.safetensors")


# -- asking for a precision ---------------------------------------------------------------------


def test_precisions():
    assert [resolve_precision(name, CPU) for name in ("auto", "fp32")] == ["fp32", "fp32"]
    with pytest.raises(ConfigError, match="is for CUDA, and this is `cpu`"):
        resolve_precision("fp16", CPU)
    cuda = torch.device("cuda")
    assert [resolve_precision(name, cuda) for name in ("auto", "tf32", "bf16")] == ["auto", "tf32", "bf16"]
    with pytest.raises(ConfigError, match="unknown precision `fp17`"):
        resolve_precision("fp17", cuda)
