"""Recorded steps are the steps: on a stand-in for CUDA graphs that knows only operations and fixed arrays."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from small_runs import files_equal, run_events, write_words
from tape import Tapes, fuse

from charrnn.config import ModelConfig, TrainingConfig
from charrnn.events import NoticeEvent, StepEvent
from charrnn.model import kernels, stack
from charrnn.model.network import new_network
from charrnn.model.paths import Path
from charrnn.training import trust, updates
from charrnn.training.feed import DeviceFeed, Window
from charrnn.training.replay import Replay
from charrnn.training.step import Step

CPU = torch.device("cpu")
STACK = Path("stack", "", "fp16", True, 8, 8, 8)


@pytest.fixture(autouse=True)
def torch_only(monkeypatch):
    """Run what runs on a GPU: no native kernel, which a tape would not see."""
    for module in (kernels, updates):
        monkeypatch.setattr(module, "library", lambda: None)
    torch._C._set_mkldnn_enabled(False)  # its LSTM returns other things where nothing is learnt
    yield
    torch._C._set_mkldnn_enabled(True)


@pytest.fixture
def text(tmp_path):
    return write_words(tmp_path)


class Never(Tapes):
    """Takes steps as if they were to be recorded, but records none."""

    def record(self, work, noises):
        raise AssertionError("nothing was to be recorded")


def run(text, folder, monkeypatch, recorder, **settings):
    """Train with a recorder; return the events, and how many windows each replay took."""
    taken = []

    def make(step, group):
        fuse(step)
        made = Replay(step, recorder, group)
        if isinstance(recorder, Never):
            made._recordable = lambda window: False
        replayed = made._replayed
        made._replayed = lambda windows, state: (taken.append(len(windows)), replayed(windows, state))[1]
        return made

    monkeypatch.setattr("charrnn.training.trainer.make_replay", make)
    monkeypatch.setattr("charrnn.training.trainer.make_feed", DeviceFeed)
    return run_events(text, folder, **settings), Counter(taken)


RUNS = [
    ({"steps": 20}, {1: 7, 10: 1}),
    ({"steps": 36, "num_evals": 4, "optimizer": "adamw"}, {1: 33}),
    ({"batch_size": 32}, None),
    ({"random_seq_len": True}, None),
    ({"averaging": "ema", "num_evals": 2}, {1: 21}),
    ({"text.documents": "lines", "batch_size": 16}, {}),
    ({"model.cell": "gru", "model.weight_drop": 0.3}, None),
    ({"model.cell": "elman", "optimizer": "adam"}, None),
]
"""Settings, and how often how many windows are replayed together; None: not counted."""


@pytest.mark.parametrize(("settings", "replays"), RUNS, ids=str)
def test_a_run_from_recordings_is_the_run(text, tmp_path, monkeypatch, settings, replays):
    settings = {"steps": 24, "num_evals": 1, "seq_len": 8} | settings
    settings = {name if "." in name else f"training.{name}": value for name, value in settings.items()}
    plain, none = run(text, tmp_path / "plain", monkeypatch, Never(), **settings)
    recorded, taken = run(text, tmp_path / "recorded", monkeypatch, Tapes(), **settings)
    assert not none and (replays is None or taken == replays) and (taken or replays == {})
    assert not any(isinstance(e, NoticeEvent) for e in recorded)
    for name in ("last/trainer.safetensors", "best/model.safetensors"):
        files_equal(tmp_path / "plain", tmp_path / "recorded", name)
    assert [(e.name, e.step) for e in plain] == [(e.name, e.step) for e in recorded]
    reported = [e.step for e in recorded if isinstance(e, StepEvent)]
    assert reported == [*range(1, 11), *range(20, settings["training.steps"] + 1, 10)]


def test_the_strong_path_can_be_recorded(text, tmp_path, monkeypatch):
    monkeypatch.setattr("charrnn.training.step.choose_path", lambda *_: STACK)
    monkeypatch.setattr("charrnn.training.scaling.GROWTH_STEPS", 7)
    settings = {"training.steps": 20, "training.num_evals": 1, "training.seq_len": 4}
    run(text, tmp_path / "plain", monkeypatch, Never(), **settings)
    _, taken = run(text, tmp_path / "recorded", monkeypatch, Tapes(), **settings)
    assert taken == {1: 7, 10: 1}
    files_equal(tmp_path / "plain", tmp_path / "recorded", "last/trainer.safetensors")


def make_step(**training):
    settings = {"batch_size": 3, "learning_rate": 0.01, "weight_decay": 0.1, "optimizer": "adamw"} | training
    network = new_network(ModelConfig("lstm", 9, 2, embedding_size=4, dropout=0.3), 31, seed=3)
    return Step(network, TrainingConfig(**settings), CPU, path=Path("stock", "", "fp32"))


def windows(count, length=6, inside=False, first=0):
    found = []
    for seed in range(first, first + count):
        ids = torch.randint(1, 31, (3, length + 1), generator=torch.Generator().manual_seed(seed))
        found.append(Window(ids[:, :-1], ids[:, 1:], inside, seed, 0.01 + 0.001 * seed))
    return found


def test_a_shape_is_recorded_when_it_comes_again():
    recorder = Tapes()
    runner = Replay(make_step(), recorder, 2)
    state = runner.step.network.initial_state(3)
    counts = []
    for group in (
        windows(1), windows(1), windows(1),  # warm-up
        windows(1), windows(1),  # one recording
        windows(2), windows(2),  # another, of two windows
        windows(1, 4), windows(1, 4), windows(1, 4),  # a new shape: once without
        windows(1, inside=True), windows(2, inside=True),  # documents: never
        windows(1), windows(1, 4),  # both are still there
    ):  # fmt: skip
        state = runner(group, state).state
        counts.append((recorder.recorded, recorder.replayed))
    recorded, replayed = zip(*counts, strict=True)
    assert recorded == (0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3)
    assert replayed == (0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 6, 6, 7, 8)
    runner.step.parts = 3  # memory ran out meanwhile: the recordings are those of other work
    runner(windows(1), state)
    assert recorder.recorded == 4


def test_groups_are_the_windows_one_after_the_other():
    alone, together = Replay(make_step(), Tapes(), 1), Replay(make_step(), Tapes(), 3)
    alone._recordable = lambda window: False
    state = other = alone.step.network.initial_state(3)
    for n in range(0, 12, 3):
        for window in windows(3, first=n):
            mine = alone([window], state)
            state = mine.state
        theirs = together(windows(3, first=n), other)
        other = theirs.state
        assert torch.equal(mine.loss, theirs.loss) and torch.equal(mine.norm, theirs.norm)
    assert together.recorder.recorded == 1 and (3, 3, 6, 1) in together.recordings
    for a, b in zip(alone.step.network.parameters(), together.step.network.parameters(), strict=True):
        assert torch.equal(a, b)


class Broken(Tapes):
    def record(self, work, noises):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_where_nothing_can_be_recorded_steps_go_on_and_one_sentence_says_so(text, tmp_path, monkeypatch):
    settings = {"training.steps": 12, "training.num_evals": 1}
    events, _ = run(text, tmp_path / "broken", monkeypatch, Broken(), **settings)
    said = [e.message for e in events if isinstance(e, NoticeEvent)]
    (reason,) = said
    assert reason.endswith("could be recorded: operation not permitted when stream is capturing")
    assert events[-1].step == 12 and events[-1].stopped_by == "steps"


# -- what is tried before it is trusted ---------------------------------------------------------


class Frozen(Tapes):
    """Replays with the noise of its recording."""

    def record(self, work, noises):
        def alone():
            for noise in noises:
                noise.manual_seed(5)
            work()

        run = super().record(alone, noises)

        def again():
            for noise in noises:
                noise.manual_seed(5)
            run()

        return again


class Idle(Tapes):
    """Replays nothing."""

    def record(self, work, noises):
        return lambda: None


def test_recordings_are_trusted_only_if_they_are_right():
    assert trust.replay_fault(make_step(), Tapes) == ""
    assert "miss them by" in trust.replay_fault(make_step(), Frozen)
    assert "miss them by" in trust.replay_fault(make_step(), Idle)
    assert "cannot be recorded here (steps run one by one" in trust.replay_fault(make_step(), Broken)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_a_path_is_trusted_only_if_it_computes_the_definition(monkeypatch, cell, precision):
    path, model = Path("stack", "", precision, True, 128, 8, 128), ModelConfig(cell, 130, 3, 32, 0.2)
    assert trust.path_fault(path, model, CPU) == ""
    mode = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN_TANH"}[cell]
    right = stack.FUNCTIONS[mode]

    def wrong(inputs, state, weights, *more):
        return right(inputs, state, [weights[0], -weights[1], *weights[2:]], *more)

    monkeypatch.setitem(stack.FUNCTIONS, mode, wrong)
    assert "misses the definition" in trust.path_fault(path, model, CPU)

    def missing(*_):
        raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED\nmore")

    monkeypatch.setitem(stack.FUNCTIONS, mode, missing)
    assert trust.path_fault(path, model, CPU).endswith("on this device (CUDNN_STATUS_NOT_SUPPORTED)")


def test_a_path_that_fails_gives_way_and_one_sentence_says_so(text, tmp_path, monkeypatch):
    monkeypatch.setattr("charrnn.training.step.choose_path", lambda *_: STACK)

    def missing(*_):
        raise RuntimeError("x")

    monkeypatch.setitem(stack.FUNCTIONS, "LSTM", missing)
    events = run_events(text, tmp_path / "run", **{"training.steps": 3})
    said = [e.message for e in events if isinstance(e, NoticeEvent)]
    (reason,) = said
    assert reason.startswith("the path `stack` does not run on this device (x); training runs on")
    assert events[-1].stopped_by == "steps"
