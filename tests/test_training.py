"""Training: it learns, it repeats, it resumes, and nothing is lost."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

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

import charrnn
from charrnn.config import CELLS, OPTIMIZERS, Range, build_config, declaration, setting_names
from charrnn.errors import CharrnnError, CheckpointError, ConfigError, RunError, TrainingError
from charrnn.events import (
    CheckpointEvent,
    EndEvent,
    EvalEvent,
    NoticeEvent,
    PlanEvent,
    SampleEvent,
    StepEvent,
)
from charrnn.model.network import Network
from charrnn.registry import Registry
from charrnn.runs import TRAINER, find_checkpoint, load_checkpoint, load_tensors, save_tensors
from charrnn.training import start
from charrnn.training.changes import MAY_CHANGE, changed_config
from charrnn.training.log import EventLog

END = EndEvent(1, "x", 1.0, 1.0, 1.0, 1, None, None, "steps")


@pytest.fixture
def text(tmp_path):
    return write_words(tmp_path)


def test_events_come_in_order_and_are_logged(text, tmp_path):
    events = run_events(text, tmp_path / "run")
    assert isinstance(events[0], PlanEvent) and isinstance(events[-1], EndEvent)
    steps = [e.step for e in events if isinstance(e, StepEvent)]
    assert steps == [*range(1, 11), 20, 30]
    assert len([e for e in events if isinstance(e, EvalEvent)]) == 5
    assert any(isinstance(e, SampleEvent) and e.text for e in events)
    first_checkpoint = next(i for i, e in enumerate(events) if isinstance(e, CheckpointEvent))
    assert all(not isinstance(e, StepEvent) for e in events[:first_checkpoint])
    logged = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert logged == [e.name for e in events if not isinstance(e, PlanEvent)]
    assert events[-1].stopped_by == "steps" and events[-1].step == 30


@pytest.mark.parametrize("cell", list(CELLS))
def test_every_cell_learns(text, tmp_path, cell):
    settings = {"model.cell": cell, "training.steps": 150, "model.num_layers": 1, "model.dropout": 0}
    if CELLS[cell].fixed:  # what does not learn must be many
        settings["model.hidden_size"] = 100
    events = run_events(text, tmp_path / "run", **settings)
    found = [e.loss for e in events if isinstance(e, StepEvent)]
    assert found[0] == pytest.approx(math.log(events[0].vocab_size), abs=0.3)
    assert found[-1] < 2.3


def test_the_same_command_gives_the_same_weights(text, tmp_path):
    for name in ("a", "b"):
        run_events(text, tmp_path / name)
    files_equal(tmp_path / "a", tmp_path / "b", "last/model.safetensors")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    run_events(text, tmp_path / "c", **{"training.seed": 2})
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize("stop_at", [1, 10])
def test_a_stopped_run_resumes_bit_identically(text, tmp_path, stop_at):
    assert_resumes_exactly(text, tmp_path, stop_at=stop_at)


KILLED = """
import sys, charrnn
from charrnn.training import start
if sys.argv[1] == "resume":
    events = start.resume(sys.argv[2], device="cpu").events()
else:
    settings = dict(pair.split("=") for pair in sys.argv[4:])
    events = charrnn.train(sys.argv[3], run=sys.argv[2], settings=settings, device="cpu")
for event in events:
    print(event.step, event.name, flush=True)
"""


def test_a_killed_run_resumes_bit_identically(text, tmp_path):
    """SIGKILL while it trains, and again soon after it resumed."""
    settings = SMALL | {"training.steps": 60, "training.num_evals": 30}
    list(charrnn.train(text, run=str(tmp_path / "whole"), settings=settings, device="cpu"))
    arguments = ["start", str(tmp_path / "cut"), text, *(f"{k}={v}" for k, v in settings.items())]
    for lines in (14, 3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        load_checkpoint(find_checkpoint(tmp_path / "cut"))
        arguments = ["resume", str(tmp_path / "cut")]
    *_, end = start.resume(str(tmp_path / "cut"), device="cpu").events()
    assert end.stopped_by == "steps" and end.step == 60
    files_equal(tmp_path / "whole", tmp_path / "cut", "last/trainer.safetensors")
    files_equal(tmp_path / "whole", tmp_path / "cut", "best/model.safetensors")
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_resuming_a_finished_run_changes_nothing(text, tmp_path):
    run_events(text, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    events = list(start.resume(str(tmp_path / "run"), device="cpu").events())
    assert [type(e) for e in events] == [EndEvent] and events[0].stopped_by == "steps"
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_resume_works_when_the_cache_is_gone_and_refuses_a_changed_text(text, tmp_path, monkeypatch):
    trainer = start.start([text], run=str(tmp_path / "run"), settings=SMALL, device="cpu")
    for event in trainer.events():
        if isinstance(event, StepEvent):
            trainer.request_stop()
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "other"))
    start.resume(str(tmp_path / "run"), device="cpu")
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "third"))
    with open(text, "a", encoding="utf-8") as file:
        file.write("one more line")
    with pytest.raises(RunError, match="changed"):
        start.resume(str(tmp_path / "run"), device="cpu")


def test_no_budget_ends_early_but_the_one_reached_first(text, tmp_path):
    end = run_events(text, tmp_path / "a", **{"training.epochs": 0.5, "training.steps": None})[-1]
    assert end.stopped_by == "epochs" and end.epochs == pytest.approx(0.5, abs=0.03)
    end = run_events(text, tmp_path / "b", **{"training.minutes": 0.03, "training.steps": 10**6})[-1]
    assert end.stopped_by == "minutes" and end.seconds < 10


def test_early_stopping_only_when_asked(text, tmp_path):
    settings = {"training.learning_rate": 1e-9, "training.steps": 60, "training.num_evals": 30}
    assert run_events(text, tmp_path / "a", **settings)[-1].stopped_by == "steps"
    rising = {"training.patience": 3, "training.learning_rate": 3.0, "training.optimizer": "nesterov"}
    end = run_events(text, tmp_path / "b", **settings | rising)[-1]
    assert end.stopped_by == "patience" and end.step < 60


def test_best_is_the_checkpoint_with_the_lowest_validation_loss(text, tmp_path):
    events = run_events(text, tmp_path / "run", **{"training.steps": 60})
    lowest = min(e.loss for e in events if isinstance(e, EvalEvent))
    best = load_checkpoint(find_checkpoint(tmp_path / "run"))
    assert best.progress["val_loss"] == lowest == events[-1].best_val_loss
    assert charrnn.load(tmp_path / "run", device="cpu").evaluate(baselines=False).loss == pytest.approx(
        lowest, abs=1e-9
    )


def test_divergence_stops_with_advice_and_keeps_the_last_good_checkpoint(text, tmp_path, monkeypatch):
    good = tmp_path / "run" / "last" / "model.safetensors"
    real = Network.loss
    calls = {"n": 0}

    def poisoned(*args, **kwargs):
        calls["n"] += 1
        loss, state = real(*args, **kwargs)
        return loss * (math.nan if calls["n"] > 14 else 1.0), state

    monkeypatch.setattr(Network, "loss", poisoned)
    with pytest.raises(TrainingError, match="diverged") as caught:
        run_events(text, tmp_path / "run")
    assert "--learning-rate" in caught.value.hint
    assert all(t.isfinite().all() for t in load_tensors(good)[0].values())
    load_checkpoint(find_checkpoint(tmp_path / "run"))


@pytest.mark.parametrize("averaging", ["none", "ema"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_an_absurd_rate_is_divergence_whatever_the_optimizer(text, tmp_path, optimizer, averaging):
    settings = {"training.optimizer": optimizer, "training.learning_rate": 1e6, "training.steps": 15}
    with pytest.raises(TrainingError, match="diverged") as caught:
        run_events(text, tmp_path / "run", **settings, **{"training.averaging": averaging})
    advised = float(caught.value.hint.split("--learning-rate ")[1].rstrip("`"))
    assert advised == pytest.approx(OPTIMIZERS[optimizer].rate(12), rel=0.5)
    for name in ("best/model.safetensors", "last/model.safetensors"):
        load_checkpoint(find_checkpoint(tmp_path / "run" / name))
    assert [line for line in losses(tmp_path / "run") if not math.isfinite(line[2])] == []


LARGEST = {
    name: math.nextafter(allowed.high, 0) if allowed.below else allowed.high
    for name in setting_names()
    if isinstance(allowed := declaration(name)[1], Range) and "float" in str(declaration(name)[0])
}


@pytest.mark.parametrize("name", list(LARGEST))
def test_the_largest_value_of_every_setting_trains_or_is_an_error_that_can_be_told(text, tmp_path, name):
    assert math.isfinite(LARGEST[name])
    settings = {"training.steps": 2, "training.num_evals": 1, "model.num_layers": 1, name: LARGEST[name]}
    if name in ("model.spectral_radius", "model.input_scaling", "model.leak"):
        settings |= {"model.cell": "esn", "training.steps": None}
    with suppress(CharrnnError):
        end = run_events(text, tmp_path / "run", **settings)[-1]
        assert math.isfinite(end.best_val_loss)


def test_first_weights_beyond_all_numbers_are_said_to_be_that(text, tmp_path):
    trainer = start.start([text], run=str(tmp_path / "run"), settings=SMALL, device="cpu")
    with torch.no_grad():
        trainer.network.readout.weight[0] = math.inf
    with pytest.raises(TrainingError, match="at step 0") as caught:
        list(trainer.events())
    assert "first weights" in caught.value.hint and "checkpoint" not in caught.value.hint


def test_a_weight_that_no_look_has_met_is_never_saved_when_it_is_not_finite(text, tmp_path):
    """A symbol that no text has plays no part in any loss."""
    trainer = start.start([text], run=str(tmp_path / "run"), settings=SMALL, device="cpu")
    with pytest.raises(TrainingError, match="diverged"):
        for event in trainer.events():
            if isinstance(event, StepEvent) and event.step == 6:  # before a look
                with torch.no_grad():
                    trainer.network.embedding.weight[1] = math.inf  # the escape's
    for name in ("best/model.safetensors", "last/model.safetensors"):
        load_checkpoint(find_checkpoint(tmp_path / "run" / name))


# -- what may change ------------------------------------------------------------------------------


def test_a_finished_run_goes_on_with_a_larger_budget_and_logs_what_changed(text, tmp_path):
    run_events(text, tmp_path / "run")
    trainer = start.resume(str(tmp_path / "run"), settings={"training.steps": 60}, device="cpu")
    events = list(trainer.events())
    assert events[-1].stopped_by == "steps" and events[-1].step == 60
    assert [e.step for e in events if isinstance(e, EvalEvent)] == [36, 48, 60]
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    changes = [line for line in logged if line["event"] == "change"]
    assert changes == [
        {"event": "change", "step": 30, "setting": "training.steps", "before": 30, "after": 60}
    ]
    assert load_checkpoint(find_checkpoint(tmp_path / "run", last=True)).config.training.steps == 60
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["training"]["steps"] == 60


def test_a_change_is_on_the_disk_before_the_next_step(text, tmp_path):
    interrupted(text, tmp_path / "run", 10)
    changes = {"training.epochs": 0.4, "training.learning_rate": 0.001}
    for event in start.resume(str(tmp_path / "run"), settings=changes, device="cpu").events():
        if isinstance(event, CheckpointEvent):
            break
    again = start.resume(str(tmp_path / "run"), device="cpu")
    training = again.job.config.training
    assert (training.epochs, training.steps, training.learning_rate) == (0.4, None, 0.001)
    assert again.counters.step == 10
    list(again.events())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = {line["setting"]: line["after"] for line in lines if line["event"] == "change"}
    assert found == {"training.epochs": 0.4, "training.steps": None, "training.learning_rate": 0.001}


def test_settings_that_are_those_of_the_run_change_nothing(text, tmp_path):
    run_events(text, tmp_path / "run")
    same = {"training.steps": 30, "model.hidden_size": 12, "training.seed": 1}
    assert [type(e) for e in start.resume(str(tmp_path / "run"), settings=same).events()] == [EndEvent]


@pytest.mark.parametrize("name", sorted(set(setting_names()) - set(MAY_CHANGE)))
def test_what_shapes_a_run_cannot_change(name):
    config = build_config(values=SMALL)
    section, key = name.split(".")
    before = getattr(getattr(config, section), key)
    with pytest.raises(ConfigError, match=f"`{name}` is `{before}` in this run and cannot become"):
        changed_config(config, {name: another(name, before)})


def another(name, before):
    """Return a valid value of a setting that it does not have."""
    kind, allowed = declaration(name)
    if isinstance(allowed, Registry | tuple):
        return next(value for value in allowed if value != before)
    if isinstance(before, bool):
        return not before
    if kind is str:
        return f"other-{before}"
    whole = kind in (int, int | None)
    return next(value for value in ((3, 7) if whole else (0.25, 0.5)) if value != before)


@pytest.mark.parametrize(
    ("part", "message"), [("config", "unknown setting `training.new`"), ("counters", "unknown counter `new`")]
)
def test_a_run_of_another_version_says_so(text, tmp_path, part, message):
    interrupted(text, tmp_path / "run", 10)
    path = tmp_path / "run" / "last" / TRAINER
    tensors, header = load_tensors(path)
    header["charrnn"] = "99.1"
    (header["config"]["training"] if part == "config" else header["counters"])["new"] = 1
    save_tensors(path, tensors, header)
    with pytest.raises(CheckpointError, match=message) as caught:
        start.resume(str(tmp_path / "run"), device="cpu")
    assert caught.value.hint == f"charrnn 99.1 wrote it, and this is {charrnn.__version__}"


def test_plateau_cannot_begin_without_a_validation_split(text, tmp_path):
    run_events(text, tmp_path / "run", **{"text.val_fraction": 0})
    with pytest.raises(ConfigError, match="plateau"):
        start.resume(str(tmp_path / "run"), settings={"training.schedule": "plateau"}, device="cpu")


# -- disks and processes --------------------------------------------------------------------------


def test_a_full_disk_keeps_the_checkpoint_before(text, tmp_path, monkeypatch):
    real, saved = os.replace, []

    def full(source, target):
        if str(target).endswith("trainer.safetensors"):
            if len(saved) == 2:
                raise OSError(28, "No space left on device")
            saved.append(target)
        real(source, target)

    monkeypatch.setattr("charrnn.files.os.replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        run_events(text, tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.part"))
    load_tensors(tmp_path / "run" / "last" / "trainer.safetensors")


def test_overwriting_on_a_full_disk_keeps_the_run_before(text, tmp_path, monkeypatch):
    run_events(text, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("charrnn.files.os.replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        list(charrnn.train(text, run=str(tmp_path / "run"), overwrite=True, settings=SMALL))
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before


def test_stopped_before_it_looked_at_the_validation_split_best_is_the_last(text, tmp_path):
    trainer = start.start(
        [text], run=str(tmp_path / "run"), settings=SMALL | {"training.steps": 1000}, device="cpu"
    )
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step == 7:
            trainer.request_stop()
    best, last = (load_checkpoint(find_checkpoint(tmp_path / "run", last=last)) for last in (False, True))
    assert best.progress["step"] == last.progress["step"] == 7
    again = start.resume(str(tmp_path / "run"), device="cpu")
    assert any(isinstance(event, EvalEvent) and event.best for event in again.events())


def test_two_trainings_do_not_share_a_directory(text, tmp_path):
    first = charrnn.train(text, run=str(tmp_path / "run"), settings=SMALL, device="cpu")
    next(first)
    second = charrnn.train(text, run=str(tmp_path / "run"), overwrite=True, settings=SMALL, device="cpu")
    with pytest.raises(RunError, match="another process is training"):
        next(second)
    assert isinstance(list(first)[-1], EndEvent)
    run_events(text, tmp_path / "other")
    assert losses(tmp_path / "run") == losses(tmp_path / "other")


@pytest.mark.parametrize("left", [None, 300])
def test_a_log_that_lost_its_end_is_cut_to_whole_lines_and_said(text, tmp_path, left):
    trainer = start.start([text], run=str(tmp_path / "run"), settings=SMALL, device="cpu")
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step == 20:
            trainer.request_stop()
    log = tmp_path / "run" / "log.jsonl"
    if left is None:
        log.unlink()
    else:
        log.write_bytes(log.read_bytes()[:left])
    events = list(start.resume(str(tmp_path / "run"), device="cpu").events())
    assert any(isinstance(event, NoticeEvent) and "lost" in event.message for event in events)
    assert all(json.loads(line)["event"] for line in log.read_text().splitlines())


def test_a_full_disk_while_logging_is_one_error(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    log = EventLog(tmp_path / "log.jsonl", 0)
    log._file.close()
    log._file = Full()
    with pytest.raises(CheckpointError, match="cannot write"), log:
        log.write(END)


def test_a_disk_that_fills_up_within_a_line_of_the_log_is_an_error_too(tmp_path):
    """A write without a buffer then takes a part of the line, and says so by a number alone."""

    class Filling:
        def __init__(self):
            self.taken = b""

        def write(self, data):
            if len(self.taken) == 30:
                raise OSError(28, "No space left on device")
            self.taken += data[:10]
            return 10

        def close(self):
            pass

    log = EventLog(tmp_path / "log.jsonl", 0)
    log._file.close()
    log._file = Filling()
    with pytest.raises(CheckpointError, match="No space left"), log:
        log.write(END)
    assert log.size == 0


def test_a_run_is_not_overwritten_unless_told(text, tmp_path):
    run_events(text, tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        run_events(text, tmp_path / "run")
    before = losses(tmp_path / "run")
    list(
        charrnn.train(text, run=str(tmp_path / "run"), overwrite=True, settings=SMALL | {"training.seed": 9})
    )
    assert losses(tmp_path / "run") != before


def test_a_warm_start_keeps_old_symbols_and_adds_new_ones(text, tmp_path):
    run_events(text, tmp_path / "old")
    other = tmp_path / "other.txt"
    other.write_text("ÄÖÜ the fox! " * 80, encoding="utf-8")
    trainer = start.start(
        [str(other)],
        run=str(tmp_path / "new"),
        init_from=str(tmp_path / "old"),
        settings={"training.steps": 1},
    )
    old = load_checkpoint(find_checkpoint(tmp_path / "old"))
    count = len(old.vocabulary)
    assert trainer.job.vocabulary.symbols[: count - 2] == old.vocabulary.symbols
    assert {"Ä", "!"} <= {chr(s) for s in trainer.job.vocabulary.symbols[count - 2 :]}
    assert torch.equal(trainer.network.readout.weight[:count], old.network.readout.weight)
    assert torch.equal(trainer.network.layers[1].weight_hh_l0, old.network.layers[1].weight_hh_l0)
    list(trainer.events())
    with pytest.raises(ConfigError, match="hidden_size"):
        start.start(
            [str(other)],
            run=str(tmp_path / "x"),
            init_from=str(tmp_path / "old"),
            settings=SMALL | {"model.hidden_size": 13},
        )


@pytest.mark.parametrize("cell", list(CELLS))
def test_a_warm_start_takes_over_every_weight_of_every_cell(text, tmp_path, cell):
    run_events(text, tmp_path / "old", **{"model.cell": cell, "training.steps": 2})
    other = tmp_path / "other.txt"
    other.write_text("ÄÖÜ the fox! " * 80, encoding="utf-8")
    settings = {"training.steps": 1}
    names = {"run": str(tmp_path / "new"), "init_from": str(tmp_path / "old")}
    trainer = start.start([str(other)], settings=settings, device="cpu", **names)
    old, new = load_checkpoint(find_checkpoint(tmp_path / "old")).network.state_dict(), trainer.network
    assert len(trainer.job.vocabulary) > len(old["readout.bias"])
    assert set(new.state_dict()) == set(old)
    for name, weight in new.state_dict().items():
        assert torch.equal(weight[tuple(map(slice, old[name].shape))], old[name]), name
    *_, end = trainer.events()
    assert end.stopped_by == "steps"


def test_lists_of_names_are_documents_of_their_own(tmp_path):
    names = tmp_path / "names.txt"
    picker = random.Random(1)
    names.write_text("".join(picker.choice(["ada", "bob", "cleo", "dora"]) + "\n" for _ in range(600)))
    settings = {
        "text.documents": "lines",
        "training.steps": 200,
        "model.hidden_size": 24,
        "training.seq_len": 16,
    }
    events = list(charrnn.train(str(names), run=str(tmp_path / "run"), settings=settings, device="cpu"))
    assert events[-1].best_val_bpc < 0.7  # ln 4 nats a name at best, over 4.5 characters: 0.44 bpc
    spoken = charrnn.load(tmp_path / "run", device="cpu").sample(400, temperature=0.5).split("\n")[:-1]
    assert sum(name in ("ada", "bob", "cleo", "dora") for name in spoken) > 0.9 * len(spoken)


def test_the_carried_state_is_that_of_reading_the_row_whole(text, tmp_path):
    trainer = start.start(
        [text],
        run=str(tmp_path / "run"),
        settings=SMALL | {"training.steps": 3, "training.learning_rate": 1e-12, "model.dropout": 0},
    )
    list(trainer.events())
    rows = torch.cat([torch.from_numpy(trainer.streams.window(i)[0]) for i in range(3)], dim=1)
    _, whole = trainer.network.reference(rows, trainer.network.initial_state(4))
    for carried, expected in zip(trainer.state, whole, strict=True):
        for a, b in zip(carried, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
