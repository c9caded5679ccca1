"""A run that somebody else made goes on, or is refused: no file outside it is read, written or waited for."""

from __future__ import annotations

import os
import shutil

import pytest
from fuzzing.guard import little_memory, little_time
from small_runs import interrupted, write_words

from charrnn.errors import CheckpointError
from charrnn.events import ChangeEvent, EvalEvent, RemarkEvent
from charrnn.files import locked, write_atomically
from charrnn.runs import load_tensors, read_header, save_tensors
from charrnn.training import log, start
from charrnn.training.distributed import Team
from charrnn.training.log import EventLog, ended

SIX = {"training.steps": 6, "training.num_evals": 3, "model.num_layers": 1}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of six steps that was stopped after the third, and its cache."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        interrupted(write_words(folder), folder / "run", 3, **SIX)
    return folder


@pytest.fixture
def run(stopped, tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(stopped / "cache"))
    return shutil.copytree(stopped / "run", tmp_path / "run")


def go_on(run, **how):
    return list(start.resume(str(run), device="cpu", **how).events())


def events_of(run):
    return [log.parse_json(line) for line in (run / "log.jsonl").read_bytes().splitlines()]


# -- links and pipes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.jsonl", ".lock", "last", "best"])
def test_a_run_is_not_written_through_a_link(run, tmp_path, name):
    own = tmp_path / "own"
    (run / name).rename(own)
    kept = {path: path.read_bytes() for path in (own.iterdir() if own.is_dir() else [own])}
    (run / name).symlink_to(own)
    with pytest.raises(CheckpointError, match="is a link"):
        go_on(run)
    assert {path: path.read_bytes() for path in (own.iterdir() if own.is_dir() else [own])} == kept


def test_a_file_is_not_made_where_a_link_leads(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "new")
    with pytest.raises(CheckpointError, match="is a link"), locked(tmp_path):
        pass
    assert not (tmp_path / "new").exists()


def test_a_temporary_name_is_one_that_nothing_has(tmp_path):
    own = tmp_path / "own"
    own.write_bytes(b"mine")
    (tmp_path / "x.part").symlink_to(own)
    (tmp_path / "x.part-2").mkdir()
    write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and own.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "x", "x.part", "x.part-2"]


@pytest.mark.parametrize("name", ["log.jsonl", ".lock"])
def test_a_pipe_or_a_folder_in_a_run_is_not_waited_for(run, name):
    for make in (os.mkfifo, os.mkdir):
        (run / name).unlink()
        make(run / name)
        with little_time(), pytest.raises(CheckpointError, match=f"cannot write `.*{name}`"):
            go_on(run)
        os.rename(run / name, run / "away")
        (run / name).touch()
        shutil.rmtree(run / "away") if (run / "away").is_dir() else (run / "away").unlink()


def test_the_end_of_a_finished_run_is_not_looked_for_in_a_pipe(run):
    go_on(run)
    (run / "log.jsonl").unlink()
    os.mkfifo(run / "log.jsonl")
    with little_time(), pytest.raises(CheckpointError, match="it is no file"):
        go_on(run)


# -- logs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"\n", b"a\nbc\n", b"a\nbc", b"abc", b"\n\n"])
def test_a_log_is_cut_back_to_whole_lines(tmp_path, text):
    for keep in range(9):
        (tmp_path / "log").write_bytes(text)
        with EventLog(tmp_path / "log", keep) as events:
            assert events.size == text[:keep].rfind(b"\n") + 1
        assert (tmp_path / "log").read_bytes() == text[: events.size]


def test_a_log_of_any_length_takes_little_memory(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b'{"event": "step"}\n')
        file.truncate(1 << 32)
        file.seek(0, 2)
        file.write(b'\n{"event": "end"}\n')
    with little_memory(100 << 20):
        assert ended(path, 5)
        with EventLog(path, 1 << 40) as events:
            assert events.size == (1 << 32) + 18
        with EventLog(path, 1 << 31) as events:
            assert events.size == 0


# -- what a run tells ---------------------------------------------------------------------------


def test_what_the_steps_have_to_say_stands_in_the_log(run):
    going = start.resume(str(run), device="cpu")
    going.step.notices.append("memory is short")
    told = list(going.events())
    kept = [event for event in events_of(run) if event["event"] == "notice"]
    assert kept == [{"event": "notice", "step": 3, "message": "memory is short"}]
    assert any(type(event) is RemarkEvent and "continuing" in event.message for event in told)


def placed(run, place):
    tensors, header = load_tensors(run / "last" / "trainer.safetensors")
    save_tensors(run / "last" / "trainer.safetensors", tensors, header | {"place": place})


def test_another_device_precision_or_number_of_processes_stands_in_the_log(run):
    assert read_header(run / "last" / "trainer.safetensors")["place"] == {
        "device": "cpu",
        "precision": "fp32",
        "processes": 1,
    }
    placed(run, {"device": "cuda", "precision": "fp16", "processes": 2})
    told = [event for event in go_on(run) if isinstance(event, ChangeEvent)]
    assert [(event.step, event.setting, event.before, event.after) for event in told] == [
        (3, "device", "cuda", "cpu"),
        (3, "precision", "fp16", "fp32"),
        (3, "processes", 2, 1),
    ]
    assert [event for event in events_of(run) if event["event"] == "change"] == [
        event.to_json() for event in told
    ]


@pytest.mark.parametrize("place", [None, [], {"device": ["x"]}, {"processes": "2"}, {}])
def test_a_run_that_does_not_say_what_it_was_trained_on_has_not_moved(run, place):
    placed(run, place)
    assert not any(isinstance(event, ChangeEvent) for event in go_on(run))


# -- the best, written by a process that was killed before it wrote the last ---------------------


class Judges(Team):
    """Says which losses are found on the validation split."""

    def __init__(self, losses):
        self.losses = losses

    def mean_nats(self, network, view, extra_nats):
        return self.losses.pop(0), 10


def killed_behind_its_best(run):
    """Go on until a best is saved, and no further."""
    going = start.resume(str(run), device="cpu")
    going.team = Judges([1.5])
    events = going.events()
    assert next(event for event in events if isinstance(event, EvalEvent)).best
    events.close()
    assert read_header(run / "last" / "trainer.safetensors")["counters"]["step"] == 3


@pytest.mark.parametrize(("later", "best"), [([1.7, 1.6], 1.5), ([1.7, 1.4], 1.4), ([1.5, 1.6], 1.5)])
def test_a_better_best_than_the_last_knows_of_is_not_replaced_by_a_worse_one(run, later, best):
    killed_behind_its_best(run)
    going = start.resume(str(run), device="cpu")
    going.team = Judges(list(later))
    *events, end = going.events()
    assert end.best_val_loss == best
    assert read_header(run / "best" / "model.safetensors")["progress"]["val_loss"] == best
    found = [(event.loss, event.best) for event in events if isinstance(event, EvalEvent)]
    assert found == [(loss, loss <= best) for loss in later]


def test_a_best_that_cannot_be_read_does_not_keep_a_run_from_going_on(run):
    (run / "best" / "model.safetensors").write_bytes(b"nothing")
    assert go_on(run)[-1].step == 6
