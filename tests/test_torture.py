"""The quick forms of ``make torture``: the same trials, few of them, kills without a process that ends."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from small_runs import files_equal
from torture import clock, faults, power
from torture.disk import Disk, Killed, Operation, PowerFailure, killed_at
from torture.resumes import LEVERS, of_cell, wrong_with
from torture.work import SETTINGS, Place, differences, unloadable

from charrnn.config import CELLS, OPTIMIZERS
from charrnn.errors import CheckpointError, RunError
from charrnn.events import EndEvent, StepEvent
from charrnn.runs import load_record
from charrnn.training import start, trainer
from charrnn.training.saving import remove_leftovers

SHORT = SETTINGS | {"training.steps": 4, "training.num_evals": 2}
SIX = SETTINGS | {"training.steps": 6, "training.num_evals": 3, "training.seq_len": 8}
OTHER = SHORT | {"model.hidden_size": 5, "training.seed": 5}


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "SAMPLE_CHARS", 10)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power fails here but in a model of it
    return Place(tmp_path)


def operations(there, name="whole", settings=SHORT):
    with Disk(there.folder).watched() as disk:
        there.train(name, settings)
    return disk.operations


def die(there, number, action):
    """Do something until it has done so many operations; return whether it was cut short."""
    try:
        with Disk(there.folder, killed_at(number)).watched():
            action()
    except Killed:
        return True
    return False


def state_part(there):
    return there.folder / "whole" / "last" / "trainer.safetensors.part"


# -- what the trials themselves rest on -----------------------------------------------------------


def test_every_operation_of_a_save_is_seen(there):
    kinds = [(operation.kind, operation.path.name) for operation in operations(there)]
    at = len(kinds) - 1 - kinds[::-1].index(("replace", "trainer.safetensors.part"))
    state = "trainer.safetensors.part"
    before = [("open", state), ("write", state), ("write", state), ("fsync", state), ("replace", state)]
    assert kinds[at - 4 : at + 2] == [*before, ("fsync", "last")]


def test_what_a_power_failure_may_leave():
    root, a, b = Path("/d"), Path("/d/a"), Path("/d/b")
    done = [Operation("open", a, True), Operation("write", a, b"xy"), Operation("fsync", root)]
    done += [Operation("fsync", a), Operation("write", a, b"z"), Operation("replace", a, b)]
    found = PowerFailure(done)
    assert {path: file.flushed for path, file in found.certain.items()} == {a: b"xy"}
    assert {path: file.content for path, file in found.names.items()} == {b: b"xyz"}
    assert [list(entries) for entries in found.pending[root]] == [[b, a]]


def test_a_file_that_was_not_flushed_may_be_empty_after_it_was_renamed(tmp_path):
    part, path = tmp_path / "x.part", tmp_path / "x"
    with Disk(tmp_path).watched() as disk:
        with part.open("wb") as file:
            file.write(b"data")
        part.replace(path)
    path.unlink()
    PowerFailure(disk.operations).write(random.Random(0), "names")
    assert path.read_bytes() == b"" and not part.exists()


# -- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [i / 8 for i in range(8)])
def test_a_run_killed_at_any_operation_goes_on_and_ends_like_a_whole_one(there, share):
    count = len(operations(there))
    assert die(there, int(share * count), lambda: there.train("cut", SHORT))
    assert unloadable(there.folder / "cut") == []
    there.go_on("cut", SHORT)
    assert differences(there.folder / "whole", there.folder / "cut") == []


def test_overwriting_killed_at_any_operation_leaves_one_run_or_the_other(there):
    there.train("whole", SHORT)
    there.train("other", OTHER)
    there.copy("other", "third")
    with Disk(there.folder).watched() as disk:
        there.train("third", SHORT, overwrite=True)
    renamed = [number for number, operation in enumerate(disk.operations) if operation.kind == "replace"]
    seeds = []
    for number in (renamed[0] - 7, renamed[0], *(number + 1 for number in renamed[:6])):
        there.remove("cut")
        there.copy("other", "cut")
        assert die(there, number, lambda: there.train("cut", SHORT, overwrite=True))
        assert unloadable(there.folder / "cut") == []
        seeds.append(load_record(there.folder / "cut").config.training.seed)
        there.go_on("cut", SHORT)
        remove_leftovers(there.folder / "cut")
        expected = "other" if seeds[-1] == 5 else "whole"
        assert differences(there.folder / expected, there.folder / "cut") == [], number
    assert seeds == sorted(seeds, reverse=True) and len(set(seeds)) == 2


def test_what_a_killed_process_left_is_removed_and_nothing_else(there):
    there.train("cut", SHORT | {"training.minutes": 1})
    left = [there.folder / "cut" / name for name in ("best/model.safetensors.part", "mine.part")]
    for path in left:
        path.write_bytes(b"half of it")
    next(start.resume(str(there.folder / "cut"), settings={"training.steps": 9}, device="cpu").events())
    assert [path.exists() for path in left] == [False, True]


def test_a_run_killed_after_its_last_checkpoint_logs_its_end_when_resumed(there):
    done = operations(there)
    last = max(i for i, operation in enumerate(done) if operation[:2] == ("replace", state_part(there))) + 1
    for number in range(last, len(done)):
        assert die(there, number, lambda: there.train("cut", SHORT))
        assert [type(event) for event in start.resume(str(there.folder / "cut")).events()] == [EndEvent]
        assert differences(there.folder / "whole", there.folder / "cut") == []
        there.remove("cut")
    assert last < len(done)


# -- power, faults, clocks ------------------------------------------------------------------------


def test_whatever_a_power_failure_leaves_goes_on_from_no_earlier_than_promised(there, monkeypatch):
    monkeypatch.setattr(power, "in_child", lambda action: action() and None)
    monkeypatch.setattr(power, "outcome", lambda child: 0)
    done, promises = power.recorded(there, SHORT)
    for number, how in enumerate(power.HOW * 4):
        at = (number + 1) * len(done) // 16
        monkeypatch.setattr(there, "go_on", lambda name: Place.go_on(there, name, SHORT))
        assert power.wrong_after(there, done[:at], power.promised(promises, at), how) == [], (at, how)


@pytest.mark.parametrize("name", faults.FAULTS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_disk_that_refuses_is_one_sentence_and_the_run_goes_on_later(there, name, share):
    begin = int(share * len(operations(there)))
    with (
        pytest.raises(CheckpointError) as caught,
        Disk(there.folder, faults.refusing(name, begin, False)).watched(),
    ):
        there.train("cut", SHORT)
    assert "\n" not in caught.value.message and caught.value.hint
    assert unloadable(there.folder / "cut") == []
    there.go_on("cut", SHORT)
    assert differences(there.folder / "whole", there.folder / "cut") == []


@pytest.mark.parametrize("jump", ["back", "anywhere"])
def test_a_clock_of_the_day_that_jumps_changes_nothing(there, jump):
    for name, how in (("whole", lambda look, luck: float(look)), ("cut", clock.JUMPS[jump])):
        with clock.clocks(how, random.Random(1)):
            there.train(name, clock.MINUTES)
    assert differences(there.folder / "whole", there.folder / "cut", timings=True) == []


# -- two processes --------------------------------------------------------------------------------


def test_a_run_that_another_process_trained_meanwhile_is_not_trained_from_what_was_read_before(there):
    first, second = there.trainer("a cut", SHORT), there.trainer("a cut", SHORT)
    list(first.events())
    with pytest.raises(RunError, match="another process has trained") as caught:
        next(second.events())
    assert f"--resume '{there.folder / 'a cut'}'" in caught.value.hint
    there.train("whole", SHORT)
    assert differences(there.folder / "whole", there.folder / "a cut") == []


def test_a_run_that_was_resumed_meanwhile_is_not_continued_from_where_it_was(there):
    going = there.trainer("cut", SHORT)
    for event in going.events():
        if isinstance(event, StepEvent):
            going.request_stop()
    both = [start.resume(str(there.folder / "cut"), device="cpu") for _ in range(2)]
    list(both[0].events())
    with pytest.raises(RunError, match="another process has trained"):
        next(both[1].events())


# -- everything that has a state ------------------------------------------------------------------

BY_OPTIMIZER = {name: {"training.optimizer": name} for name in OPTIMIZERS}
BY_CELL = {name: of_cell(name) for name in CELLS}


@pytest.mark.parametrize("way", [*BY_OPTIMIZER, *BY_CELL, *LEVERS])
def test_killed_and_resumed_every_way_to_train_ends_alike(there, way, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 60.0)  # at looks alone
    settings = {**BY_OPTIMIZER, **BY_CELL, **LEVERS}[way]
    assert wrong_with(there, SIX | settings, share=0.7) == []


def test_a_warm_start_that_is_killed_goes_on_alike(there):
    there.train("base", SHORT)
    from_base = {"settings": {"training.steps": 4}, "init_from": str(there.folder / "base"), "device": "cpu"}

    def train(name):
        list(start.start([there.text], run=str(there.folder / name), **from_base).events())

    train("whole")
    for number in (45, 70):  # after its first checkpoint
        assert die(there, number, lambda: train("cut"))
        there.go_on("cut")
        assert differences(there.folder / "whole", there.folder / "cut") == []
        files_equal(there.folder / "whole", there.folder / "cut", "last/trainer.safetensors")
        there.remove("cut")
