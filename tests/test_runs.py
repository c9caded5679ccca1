"""Run directories and checkpoints: found by every spelling, whole or refused, never half written."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from charrnn import files
from charrnn.config import CELLS, Config, ModelConfig
from charrnn.errors import CheckpointError, RunError
from charrnn.files import write_atomically, write_together
from charrnn.model.network import new_network
from charrnn.runs import (
    FORMAT,
    MODEL,
    find_checkpoint,
    find_corpus,
    list_runs,
    load_checkpoint,
    load_tensors,
    new_run_directory,
    read_header,
    save_model,
    save_tensors,
    start_directory,
)
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, "abc"))
CONFIG = replace(Config(), model=ModelConfig("lstm", 4, 2, 3, 0.0))


PROGRESS = {"step": 7, "epochs": 0.5, "seconds": 1.5, "val_loss": 2.25}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def network_of(config=CONFIG, vocabulary=VOCABULARY):
    return new_network(config.model, len(vocabulary), seed=3).eval()


def header_of(**changes):
    header = {"format": FORMAT, "charrnn": "0", "config": CONFIG.to_json()}
    header |= {"vocabulary": VOCABULARY.to_json(), "corpus": {}, "progress": PROGRESS}
    return header | changes


def with_config(**changes):
    config = CONFIG.to_json()
    for name, value in changes.items():
        section, _, key = name.partition("__")
        config[section][key] = value
    return header_of(config=config)


def saved(folder, config=CONFIG, corpus=None):
    path = Path(folder) / MODEL
    save_model(path, network_of(config), config, VOCABULARY, corpus or {}, PROGRESS)
    return path


def touch(name, seconds=0):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (1_000_000 + seconds, 1_000_000 + seconds))
    return path


def whole_run(name, seconds=0):
    return [touch(f"{name}/{which}/{MODEL}", seconds) for which in ("best", "last")]


# -- finding ------------------------------------------------------------------------------------


def test_every_spelling_of_a_run_finds_its_best_checkpoint(tmp_path):
    best, _ = whole_run("runs/mine")
    spellings = ["mine", "runs/mine", "runs/mine/", "./runs/mine", "runs/mine/best", "mine/best", str(best)]
    for run in [*spellings, None, Path("runs/mine"), tmp_path / "runs/mine", best.absolute()]:
        assert find_checkpoint(run).resolve() == best.resolve(), run


@pytest.mark.parametrize("run", ["mine", "runs/mine", None])
def test_last_is_taken_when_asked(run):
    _, last = whole_run("runs/mine")
    assert find_checkpoint(run, last=True).resolve() == last.resolve()
    assert find_checkpoint("runs/mine/last").resolve() == last.resolve()


def test_checkpoint_directory_and_file_stand_for_themselves_even_with_last():
    best, _ = whole_run("runs/mine")
    assert find_checkpoint("runs/mine/best", last=True) == best
    assert find_checkpoint(str(best), last=True) == best


def test_file_of_any_name_is_a_checkpoint():
    path = touch("elsewhere/model-7.safetensors")
    assert find_checkpoint("elsewhere/model-7.safetensors") == path


def test_last_stands_in_where_there_is_no_best():
    last = touch(f"runs/mine/last/{MODEL}")
    assert find_checkpoint("mine") == last


def test_best_does_not_stand_in_for_last():
    touch(f"runs/mine/best/{MODEL}")
    with pytest.raises(RunError, match="has no checkpoint"):
        find_checkpoint("mine", last=True)


def test_newest_run_is_found_without_a_name():
    whole_run("runs/newer", seconds=20)
    whole_run("runs/older", seconds=10)
    Path("runs/empty").mkdir()
    touch("runs/stray", seconds=99)
    assert find_checkpoint() == Path("runs/newer/best") / MODEL
    assert [path.name for path in list_runs()] == ["newer", "older"]


def test_no_run_at_all_says_how_to_make_one():
    for _ in range(2):
        with pytest.raises(RunError, match="no run below") as caught:
            find_checkpoint()
        assert "charrnn train" in caught.value.hint
        Path("runs/empty").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("run", ["nosuch", "runs/nosuch", "a/b/c", "x.safetensors"])
def test_unknown_run_is_an_error(run):
    with pytest.raises(RunError, match="there is no run") as caught:
        find_checkpoint(run)
    assert "charrnn runs list" in caught.value.hint


@pytest.mark.parametrize("length", [300, 5000])
def test_overlong_name_is_an_unknown_run(length):
    with pytest.raises(RunError):
        find_checkpoint("a" * length)


@pytest.mark.parametrize("run", ["runs/empty", "empty", "runs", ".", ""])
def test_directory_without_a_checkpoint_is_an_error(run):
    Path("runs/empty/best").mkdir(parents=True)
    with pytest.raises(RunError, match=r"has no checkpoint|there is no run"):
        find_checkpoint(run)


def test_run_is_found_by_name_beside_a_folder_of_the_same_name():
    best, _ = whole_run("runs/poems")
    touch("poems/one.txt")
    assert find_checkpoint("poems") == best


def test_run_is_found_by_name_beside_a_text_of_the_same_name():
    best, _ = whole_run("runs/poems")
    touch("poems")
    assert find_checkpoint("poems") == best


def test_run_is_called_after_its_directory(tmp_path):
    best = saved("runs/mine/best")
    assert load_checkpoint(best).name == "mine"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(best.read_bytes())
    assert load_checkpoint(copy).name == "copy"


# -- a new directory ----------------------------------------------------------------------------


def test_new_run_is_called_after_the_text_and_counted():
    assert new_run_directory(None, "poems", False) == Path("runs/poems")
    whole_run("runs/poems")
    assert new_run_directory(None, "poems", False) == Path("runs/poems-2")
    whole_run("runs/poems-2")
    assert new_run_directory(None, "poems", False) == Path("runs/poems-3")


def test_directory_without_a_checkpoint_is_used_again():
    Path("runs/poems/best").mkdir(parents=True)
    assert new_run_directory(None, "poems", False) == Path("runs/poems")
    assert new_run_directory("poems", "x", False) == Path("runs/poems")


def test_name_taken_by_a_file_is_passed_over():
    touch("runs/poems")
    assert new_run_directory(None, "poems", False) == Path("runs/poems-2")


@pytest.mark.parametrize("which", ["best", "last"])
def test_directory_with_a_run_needs_overwrite(which):
    touch(f"runs/mine/{which}/{MODEL}")
    with pytest.raises(RunError, match="already holds a run") as caught:
        new_run_directory("mine", "x", False)
    assert "--overwrite" in caught.value.hint and "--resume" in caught.value.hint
    assert new_run_directory("mine", "x", True) == Path("runs/mine")


@pytest.mark.parametrize(
    ("name", "expected"), [("mine", "runs/mine"), ("a/mine", "a/mine"), ("/x/mine", "/x/mine")]
)
def test_plain_name_lies_below_runs_and_a_path_where_it_says(name, expected):
    assert new_run_directory(name, "x", False) == Path(expected)


def test_path_that_begins_with_a_dot_lies_where_it_says(tmp_path):
    assert new_run_directory("./mine", "x", False).resolve() == tmp_path / "mine"


@pytest.mark.parametrize("name", ["runs/file", "file"])
def test_file_is_no_run_directory(name):
    touch("runs/file")
    with pytest.raises(RunError, match="is a file"):
        new_run_directory(name, "x", False)


def test_overlong_name_is_an_error():
    with pytest.raises(RunError):
        start_directory(new_run_directory("a" * 5000, "x", False), CONFIG, VOCABULARY, {})


def test_choosing_a_directory_writes_nothing(tmp_path):
    new_run_directory(None, "poems", False)
    new_run_directory("mine", "x", True)
    assert list(tmp_path.iterdir()) == []


def test_starting_writes_the_settings_and_leaves_the_run_that_was_there():
    whole_run("runs/mine")
    notes = touch("runs/mine/notes.txt")
    start_directory(Path("runs/mine"), CONFIG, VOCABULARY, {"key": "k"})
    assert all(Path("runs/mine", which, MODEL).exists() for which in ("best", "last"))
    assert notes.exists()
    record = json.loads(Path("runs/mine/config.json").read_text())
    assert Config.from_json(record["config"]) == CONFIG and record["format"] == FORMAT
    assert Vocabulary.from_json(json.loads(Path("runs/mine/vocabulary.json").read_text())) == VOCABULARY


def test_directory_below_a_file_is_refused_by_name_and_when_it_is_written():
    touch("file")
    with pytest.raises(RunError, match="`file` is a file"):
        new_run_directory("file/run", "x", False)
    with pytest.raises(CheckpointError, match="cannot write"):
        start_directory(Path("file/run"), CONFIG, VOCABULARY, {})


def test_directory_where_a_checkpoint_should_be_is_an_error_not_a_crash():
    Path("runs/mine/best/sub").mkdir(parents=True)
    with suppress(RunError):
        start_directory(new_run_directory("mine", "x", True), CONFIG, VOCABULARY, {})


# -- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("embedding", [0, 3])
def test_checkpoint_comes_back_exactly(cell, embedding):
    config = replace(CONFIG, model=replace(CONFIG.model, cell=cell, embedding_size=embedding))
    record = {"key": "k", "texts": ["a"]}
    record["splits"] = {"by": "characters", "train": [0, 8], "val": [8, 9], "test": [9, 9]}
    checkpoint = load_checkpoint(saved("runs/mine/best", config, record))
    assert checkpoint.config == config and checkpoint.vocabulary == VOCABULARY
    assert checkpoint.progress == PROGRESS and checkpoint.corpus == record
    assert not checkpoint.network.training
    weights = network_of(config).state_dict()
    assert all(torch.equal(t, weights[name]) for name, t in checkpoint.network.state_dict().items())


def test_loading_changes_no_random_numbers():
    path = saved("best")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_checkpoint(path)
    assert torch.equal(torch.rand(3), expected)


def test_header_alone_is_read_too():
    header = read_header(saved("best"))
    assert header["config"] == CONFIG.to_json() and header["progress"] == PROGRESS


def test_checkpoint_without_a_text_has_no_corpus():
    assert find_corpus(load_checkpoint(saved("best"))) is None


# -- damaged and foreign files ------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.5, 0.9, -1])
def test_truncated_checkpoint_is_refused(keep):
    path = saved("best")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    for read in (load_checkpoint, read_header):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert f"`{path}`" in caught.value.message and caught.value.hint


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_refused(tmp_path, seed):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(random.Random(seed).randbytes(5000))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_header_never_crashes(seed):
    path, rng = saved("best"), random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[rng.randrange(8, 1500)] = rng.randrange(32, 127)
    path.write_bytes(data)
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        assert "\n" not in error.message.strip()


@pytest.mark.parametrize("size", [2**63, 2**40, 10**7])
def test_header_that_claims_to_be_huge_is_refused(tmp_path, size):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{}" * 100)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"format": "pt"}, {"charrnn": ""}, {"charrnn": "{"}, {"charrnn": "[" * 9000}]
)
def test_foreign_file_is_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(save({"weight": torch.zeros(3)}, metadata=metadata))
    with pytest.raises(CheckpointError, match="was not written by charrnn"):
        load_checkpoint(path)


@pytest.mark.parametrize("path", ["missing.safetensors", "."])
def test_path_that_is_no_file_is_refused(path):
    with pytest.raises(CheckpointError):
        load_checkpoint(Path(path))


@pytest.mark.parametrize(
    "header", [[], "word", 3, None, {}, {"format": "1"}, {"format": None}, {"format": [1]}], ids=str
)
def test_header_of_another_kind_is_refused(header):
    save_tensors(Path("m"), network_of().state_dict(), header)
    with pytest.raises(CheckpointError, match="header that charrnn cannot read"):
        load_checkpoint(Path("m"))


def test_newer_format_is_refused_with_both_numbers():
    save_tensors(Path("m"), network_of().state_dict(), header_of(format=FORMAT + 1))
    with pytest.raises(CheckpointError, match=rf"format {FORMAT + 1}; this charrnn reads up to {FORMAT}"):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize("missing", ["config", "vocabulary", "corpus", "progress"])
def test_header_that_lacks_a_part_is_refused(missing):
    header = header_of()
    del header[missing]
    save_tensors(Path("m"), network_of().state_dict(), header)
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize(
    "changes",
    [
        {"model__hidden_size": 65536, "model__num_layers": 64},
        {"model__hidden_size": 65536, "model__num_layers": 64, "model__cell": "gru"},
        {"model__hidden_size": 65536, "model__embedding_size": 65536},
        {"model__hidden_size": 10**30},
        pytest.param({"model__hidden_size": 10**400}),
        {"model__hidden_size": None},
        {"model__num_layers": None},
        pytest.param({"model__dropout": None}),
        {"model__num_layers": 1},
        {"model__embedding_size": 0},
        {"model__cell": "gru"},
        {"model__cell": "os:system"},
        {"model__cell": None},
        {"model__hidden_size": "nan"},
        {"model__unknown": 1},
        {"text__symbols": "words"},
    ],
    ids=lambda changes: " ".join(f"{k}={str(v)[:8]}" for k, v in changes.items()),
)
def test_config_that_does_not_fit_is_refused_before_anything_is_allocated(changes):
    save_tensors(Path("m"), network_of().state_dict(), with_config(**changes))
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "config", [[], "x", None, {"model": 3}, {"model": [1]}, {"model": {"a": {}}}, {"": {}}], ids=str
)
def test_config_of_another_kind_is_refused(config):
    save_tensors(Path("m"), network_of().state_dict(), header_of(config=config))
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize(
    "vocabulary",
    [
        None,
        [],
        {},
        {"kind": "words", "symbols": [97, 98, 99]},
        {"kind": "chars"},
        {"kind": "chars", "symbols": []},
        {"kind": "chars", "symbols": "abc"},
        {"kind": "chars", "symbols": [97, 97, 98]},
        {"kind": "chars", "symbols": [97, 98, -1]},
        {"kind": "chars", "symbols": [97, 98, 0x110000]},
        {"kind": "chars", "symbols": [97, 98, 99.0]},
        {"kind": "chars", "symbols": [97, 98, True]},
        {"kind": "chars", "symbols": [97, 98]},
        {"kind": "bytes", "symbols": [97, 98, 256]},
        pytest.param({"kind": "bytes", "symbols": [97, 98, 99, 100]}),
        pytest.param({"kind": "chars", "symbols": [97, 98, 0xD800]}),
    ],
    ids=str,
)
def test_vocabulary_that_cannot_be_is_refused(vocabulary):
    save_tensors(Path("m"), network_of().state_dict(), header_of(vocabulary=vocabulary))
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize("data", [None, [], {}, {"kind": "words", "symbols": [97]}], ids=str)
def test_vocabulary_of_an_unknown_kind_cannot_be_read(data):
    with pytest.raises(CheckpointError, match="describes no vocabulary"):
        Vocabulary.from_json(data)


@pytest.mark.parametrize("how", ["missing", "extra", "transposed", "half", "integers", "renamed"])
def test_weights_that_do_not_fit_are_refused(how):
    weights = {name: t.clone() for name, t in network_of().state_dict().items()}
    name = next(n for n, t in weights.items() if t.dim() == 2 and t.shape[0] != t.shape[1])
    change = {
        "missing": lambda t: {},
        "extra": lambda t: {name: t, "more": torch.zeros(1)},
        "transposed": lambda t: {name: t.t().contiguous()},
        "half": lambda t: {name: t.half()},
        "integers": lambda t: {name: t.int()},
        "renamed": lambda t: {"other": t},
    }[how]
    weights |= {"": weights.pop(name)}
    save_tensors(Path("m"), weights | change(weights.pop("")), header_of())
    with pytest.raises(CheckpointError, match=r"names and shapes|cannot be loaded"):
        load_checkpoint(Path("m"))


def test_weights_that_are_not_finite_are_refused():
    weights = {name: t.clone() for name, t in network_of().state_dict().items()}
    weights["readout.bias"][0] = float("nan")
    save_tensors(Path("m"), weights, header_of())
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize("part", ["corpus", "progress"])
@pytest.mark.parametrize("value", [None, 3, "word", [1, 2]], ids=str)
def test_record_of_another_kind_is_refused(part, value):
    save_tensors(Path("m"), network_of().state_dict(), header_of(**{part: value}))
    with pytest.raises(CheckpointError):
        load_checkpoint(Path("m"))


@pytest.mark.parametrize(
    "corpus",
    [
        pytest.param({"texts": None}),
        pytest.param({"texts": 3}),
        pytest.param({"texts": [3]}),
        {"key": None, "texts": []},
        {"key": "\0"},
        {"key": "x" * 999},
    ],
    ids=str,
)
def test_corpus_record_that_cannot_be_is_no_corpus(corpus):
    save_tensors(Path("m"), network_of().state_dict(), header_of(corpus=corpus))
    with suppress(CheckpointError):
        assert find_corpus(load_checkpoint(Path("m"))) is None


# -- writing ------------------------------------------------------------------------------------


def test_write_replaces_the_whole_file_and_makes_folders(tmp_path):
    path = tmp_path / "a/b/file"
    write_atomically(path, b"first, longer")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FULL_DISK = {
    "open": lambda patch: patch.setattr(Path, "open", full),
    "fsync": lambda patch: patch.setattr(files.os, "fsync", full),
    "replace": lambda patch: patch.setattr(files.os, "replace", full),
    "mkdir": lambda patch: patch.setattr(Path, "mkdir", full),
}


@pytest.mark.parametrize("where", FULL_DISK)
def test_full_disk_is_an_error_and_the_old_file_stays_whole(monkeypatch, where):
    path = saved("runs/mine/best")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        FULL_DISK[where](patch)
        with pytest.raises(CheckpointError, match="No space left on device") as caught:
            save_model(path, network_of(), CONFIG, VOCABULARY, {}, PROGRESS | {"step": 8})
    assert f"cannot write `{path}`" in caught.value.message and caught.value.hint
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [MODEL]


def test_disk_that_fills_up_in_the_middle_leaves_nothing_behind(tmp_path, monkeypatch):
    class Filling:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            full()

    path = tmp_path / "file"
    path.write_bytes(b"old")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: Filling(opened(self, mode)))
    with pytest.raises(CheckpointError):
        write_atomically(path, b"new content")
    monkeypatch.undo()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (calls.append("replace"), rename(a, b)))
    write_atomically(tmp_path / "file", b"data")
    assert calls == ["fsync", "replace", "fsync"]  # the file, then its name in the folder


def test_files_that_belong_together_are_all_on_the_disk_before_any_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (calls.append(b.name), rename(a, b)))
    (tmp_path / "b").write_bytes(b"old")
    write_together({tmp_path / "b": b"1", tmp_path / "a": b"2"})
    assert calls == ["fsync", "fsync", "b", "fsync", "a", "fsync"]
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"2", b"1")


def test_without_room_for_all_of_them_no_file_changes(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full_at_the_second(fd):
        calls.append(fd)
        full() if len(calls) == 2 else fsync(fd)

    monkeypatch.setattr(files.os, "fsync", full_at_the_second)
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(CheckpointError, match="No space left"):
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_new_folders_are_flushed_into_those_they_lie_in(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "flush_folder", flushed.append)
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path, tmp_path / "a"] and (tmp_path / "a" / "b").is_dir()


def test_a_file_system_that_cannot_flush_folders_is_no_error(tmp_path, monkeypatch):
    def cannot(fd):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files.os, "fsync", cannot)
    files.flush_folder(tmp_path)
    files.flush_folder(tmp_path / "missing")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.flush_folder(tmp_path)


def test_a_file_system_without_locks_is_no_error(tmp_path, monkeypatch):
    import fcntl

    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with files.locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()


def test_a_file_made_for_the_user_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (calls.append("replace"), rename(a, b)))
    with files.replacing(tmp_path / "out") as file:
        file.write(b"data")
    assert calls == ["fsync", "replace", "fsync"] and (tmp_path / "out").read_bytes() == b"data"


def test_tensors_that_share_memory_are_written_apart():
    weight = torch.arange(6.0).view(2, 3)
    save_tensors(Path("m"), {"a": weight.t(), "b": weight[0]}, {"format": FORMAT})
    tensors, header = load_tensors(Path("m"))
    assert torch.equal(tensors["a"], weight.t()) and torch.equal(tensors["b"], weight[0])
    assert header == {"format": FORMAT}
