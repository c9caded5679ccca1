"""Files that once got further than they should: each is refused, in a sentence and without much memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import zlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request

import numpy as np
import pytest
import torch
from fuzzing.guard import little_memory, little_time, watched
from small_runs import run_events, write_words
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.compression import archive
from charrnn.compression.header import Header
from charrnn.compression.view import View
from charrnn.config import MAX_PROBLEMS, Config, TextConfig, build_config
from charrnn.errors import CheckpointError, ConfigError, CorpusError, TextError
from charrnn.inspection import store
from charrnn.runs import find_corpus, load_checkpoint, load_tensors, save_tensors
from charrnn.text import reading
from charrnn.text.cache_dir import cache_dir
from charrnn.text.corpus import load_corpus, open_corpus
from charrnn.text.download import _SafeRedirects
from charrnn.text.reading import Source, check_encoding, decode, find_sources, read_bytes
from charrnn.training import start
from charrnn.untrusted import MAX_JSON_BYTES

DEEP = "[" * 900 + "]" * 900


def content(path: Path, **how: float) -> bytes:
    return b"".join(read_bytes(Source(path.name, path), **how))


# -- compressed texts ---------------------------------------------------------------------------

PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
if find_spec("zstandard") is not None:
    PACK["zst"] = lambda data: import_module("zstandard").compress(data)


@pytest.mark.parametrize("kind", PACK)
def test_a_text_that_unpacks_to_far_more_needs_a_word(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(reading, "FREE_BYTES", 10_000)
    path = tmp_path / "bomb"
    path.write_bytes(PACK[kind](bytes(900_000)))
    with pytest.raises(TextError, match="`bomb` becomes more than 256 times as large") as caught:
        content(path)
    assert "--set text.max_ratio=" in caught.value.hint
    assert len(content(path, max_ratio=100_000)) == 900_000
    words = b"".join(random.Random(0).choices([b"the ", b"cat ", b"ran\n"], k=50_000))
    path.write_bytes(PACK[kind](words))
    assert content(path) == words


def test_the_flag_allows_it_to_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "FREE_BYTES", 1_000)
    (tmp_path / "bomb.xz").write_bytes(lzma.compress(b"ab\n" * 70_000))
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "bomb.xz", "--steps", "1", "--hidden-size", "8", "--run", "r", "--quiet"]
    arguments += ["--batch-size", "2", "--seq-len", "16", "--set", "training.num_evals=1"]
    assert "becomes more than 256 times" in CliRunner().invoke(app, arguments).stderr
    assert CliRunner().invoke(app, [*arguments, "--set", "text.max_ratio=1e6"]).exit_code == 0


def with_dictionary(data: bytes, size: int) -> bytes:
    """Return an xz file that asks for a dictionary of 2^size bytes (xz file format, 3.1 and 5.3.1)."""
    length = (data[12] + 1) * 4
    head = bytearray(data[12 : 12 + length - 4])
    head[head.index(b"\x21\x01") + 2] = 2 * (size - 12)
    return data[:12] + bytes(head) + zlib.crc32(head).to_bytes(4, "little") + data[12 + length :]


def test_an_xz_file_does_not_get_the_memory_that_it_asks_for(tmp_path):
    data = lzma.compress(b"words " * 1000)
    path = tmp_path / "text.xz"
    path.write_bytes(with_dictionary(data, 27))
    assert content(path) == b"words " * 1000
    path.write_bytes(with_dictionary(data, 31))
    with pytest.raises(TextError, match="Memory usage limit"):
        content(path)


@pytest.mark.parametrize("size", [1, 3, 7, 1 << 20])
def test_streams_of_xz_follow_each_other_as_the_library_has_it(tmp_path, monkeypatch, size):
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    first, second = lzma.compress(b"first "), lzma.compress(b"second")
    path = tmp_path / "x"
    for data in (first + second, first + second + b"rest"):
        path.write_bytes(data)
        with lzma.open(path) as wanted:
            assert content(path) == wanted.read()
    path.write_bytes(first + bytes(8))
    assert content(path) == b"first "
    path.write_bytes(first + second[:20])
    with pytest.raises(TextError, match="cannot read"):
        content(path)


# -- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["idna", "punycode", "unicode_escape", "raw-unicode-escape"])
def test_encodings_of_other_things_than_texts_are_refused(name):
    with pytest.raises(ConfigError, match="unknown encoding"):
        check_encoding(name)


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("ab\ud800c".encode("utf-7", "surrogatepass"))
    with pytest.raises(TextError, match="`text` has half a surrogate pair in it"):
        "".join(decode([path.read_bytes()], "utf-7", "keep", "text"))
    assert "".join(decode(["a\U0001f600".encode("utf-7")], "utf-7", "keep", "text")) == "a\U0001f600"


# -- settings -----------------------------------------------------------------------------------


def test_thousands_of_unknown_settings_are_told_in_part_and_at_once():
    with little_time(), pytest.raises(ConfigError) as caught:
        Config.from_json({"model": {f"hiden_size{n}": n for n in range(100_000)}})
    assert caught.value.message.count("unknown setting") == MAX_PROBLEMS


@pytest.mark.parametrize("name", ["training.random_seq_len", "model.hidden_size", "text.documents"])
def test_a_deep_value_is_no_setting(name):
    with pytest.raises(ConfigError, match=rf"`{name}` is `\[{{7}}\.\.\.\]{{7}}`, but must be"):
        build_config(values={name: json.loads(DEEP)})


def test_a_file_too_large_for_settings_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="these are no settings"):
        build_config(file=tmp_path / "x.toml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file")
def test_a_file_without_an_end_is_refused():
    with little_time(), little_memory(), pytest.raises(ConfigError, match="these are no settings"):
        build_config(file="/dev/zero")


# -- models -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text and a run."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        run_events(
            write_words(folder), folder / "run", **{"training.steps": 3, "training.optimizer": "adamw"}
        )
    return folder


@pytest.fixture
def changed(place, tmp_path, monkeypatch):
    """Return what writes a copy of the run's model with a changed header."""
    monkeypatch.setenv("CHARRNN_CACHE", str(place / "cache"))

    def write(change, name="best/model.safetensors"):
        tensors, header = load_tensors(place / "run" / name)
        save_tensors(tmp_path / "changed.safetensors", tensors, change(header) or header)
        return tmp_path / "changed.safetensors"

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["config"]["training"].update(random_seq_len=json.loads(DEEP)),
        lambda header: header["progress"].update(x=json.loads(DEEP)),
        lambda header: header["corpus"].update(texts=json.loads(DEEP)),
        lambda header: header["corpus"].update(seen=3),
    ],
)
def test_a_model_with_a_header_that_cannot_be_is_refused(changed, change):
    with pytest.raises(CheckpointError):
        load_checkpoint(changed(change))


def test_a_model_with_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    header = json.dumps({"__metadata__": {"charrnn": "[" + "{}," * (MAX_JSON_BYTES // 3) + "{}]"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with little_memory(100 << 20), pytest.raises(CheckpointError, match="a header of 16,"):
        load_checkpoint(path)


def test_a_model_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with little_time(), pytest.raises(CheckpointError, match="is no file"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("step", [float("inf"), 10**400])
def test_a_list_of_runs_shows_what_it_can(place, tmp_path, monkeypatch, step):
    tensors, header = load_tensors(place / "run" / "best" / "model.safetensors")
    for which in ("best", "last"):
        header["progress"]["step"] = step if step != 10**400 else header["progress"]["step"]
        header["progress"]["val_loss"] = 10**400 if step == 10**400 else 1.0
        save_tensors(tmp_path / "runs" / "odd" / which / "model.safetensors", tensors, header)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["runs", "list"])
    assert result.exit_code == 0 and "damaged" in result.stdout


@pytest.mark.parametrize("part", [[], None, 3, {"key": None}])
def test_findings_of_a_header_that_cannot_be_are_not_looked_for(changed, part):
    path = changed(lambda header: header.update(corpus=part))
    assert store.key_of(path, [], store.DEFAULT_QUESTION | {"hypotheses": []}) is None


# -- what a model says about its text -----------------------------------------------------------


def test_a_text_that_a_model_names_is_not_taken_unless_it_is_the_one(changed, place, tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "empty"))
    assert find_corpus(load_checkpoint(changed(lambda _: None))) is not None
    (tmp_path / "other.txt").write_text("another text " * 100, encoding="utf-8")
    texts = [str(tmp_path / "other.txt")]
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "still-empty"))
    assert find_corpus(load_checkpoint(changed(lambda header: header["corpus"].update(texts=texts)))) is None
    assert not list(tmp_path.glob("still-empty/encoded/*"))


@pytest.mark.parametrize("name", ["/dev/zero", "fifo"])
def test_a_model_cannot_name_a_text_without_an_end(changed, tmp_path, monkeypatch, name):
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "empty"))
    if name == "fifo":
        name = str(tmp_path / "fifo")
        os.mkfifo(name)
    checkpoint = load_checkpoint(changed(lambda header: header["corpus"].update(texts=[name])))
    with little_time():
        assert find_corpus(checkpoint) is None


def test_splits_that_lie_outside_the_text_are_no_text(changed):
    splits = {"by": "characters", "train": [0, 10], "val": [10, 20], "test": [20, 10**12]}
    assert (
        find_corpus(load_checkpoint(changed(lambda header: header["corpus"].update(splits=splits)))) is None
    )


# -- the state of training ----------------------------------------------------------------------


def resumed(place: Path, folder: Path, change, settings=()) -> None:
    """Resume a copy of a run whose trainer file, or whose settings, were changed."""
    for name in ("best/model.safetensors", "last/model.safetensors"):
        tensors, header = load_tensors(place / "run" / name)
        header["config"]["training"] |= dict(settings)
        save_tensors(folder / "run" / name, tensors, header)
    tensors, header = load_tensors(place / "run" / "last" / "trainer.safetensors")
    if "config" in header:
        header["config"]["training"] |= dict(settings)
    header["counters"] |= {"stopped_by": "interrupted", "step": 2}
    change(tensors, header["counters"])
    save_tensors(folder / "run" / "last" / "trainer.safetensors", tensors, header)
    for _ in start.resume(str(folder / "run"), device="cpu").events():
        pass


def moment(tensors, name):
    return next(key for key in tensors if key.startswith("optimizer.") and key.endswith(name))


def drop(name):
    return lambda tensors, _: tensors.pop(moment(tensors, name))


def put(name, value):
    return lambda tensors, _: tensors.update({moment(tensors, name): value})


@pytest.mark.parametrize(
    "change",
    [
        drop("exp_avg"),
        put("exp_avg", torch.zeros(1)),
        put("exp_avg_sq", torch.zeros(10**6)),
        put("step", torch.tensor(-1000.0)),
        put("step", torch.tensor(float("nan"))),
        lambda tensors, _: tensors.update({"optimizer.99.step": torch.tensor(1.0)}),
        lambda tensors, _: tensors.update(
            {next(k for k in tensors if k.startswith("state.")): torch.zeros(0)}
        ),
        lambda tensors, _: tensors.update({"state.0.0": torch.full_like(tensors["state.0.0"], torch.nan)}),
        lambda tensors, _: tensors.update({"state.0.0": tensors["state.0.0"].long()}),
        *(
            lambda _, counters, changed={name: value}: counters.update(changed)
            for name, value in [
                *(("step", value) for value in (-1, "2", None, 1.5, True, 10**400)),
                *(("seconds", value) for value in (float("nan"), float("inf"), [], "1")),
                *(("position", value) for value in (-1, 10**9)),
                *(("val_losses", value) for value in (None, ["x"], 3)),
                *(("best_val_loss", value) for value in ("x", float("nan"))),
                ("stopped_by", 3),
                ("log_bytes", -5),
                ("unknown", 1),
            ]
        ),
    ],
)
def test_a_state_of_training_that_cannot_be_is_refused(place, tmp_path, monkeypatch, change):
    monkeypatch.setenv("CHARRNN_CACHE", str(place / "cache"))
    with pytest.raises(CheckpointError):
        resumed(place, tmp_path, change)


@pytest.mark.parametrize(
    "settings",
    [
        *({name: None} for name in ("batch_size", "seq_len", "learning_rate", "weight_decay", "num_evals")),
        {"steps": None},
        {"batch_size": 60_000},
    ],
    ids=str,
)
def test_settings_with_which_no_run_began_are_refused(place, tmp_path, monkeypatch, settings):
    monkeypatch.setenv("CHARRNN_CACHE", str(place / "cache"))
    with pytest.raises(CheckpointError):
        resumed(place, tmp_path, lambda tensors, counters: None, settings)


def test_the_unchanged_state_is_taken(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(place / "cache"))
    resumed(place, tmp_path, lambda tensors, counters: None)


# -- caches -------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path):
    """The folder of an encoded text."""
    (tmp_path / "text").write_text("some words\n" * 30, encoding="utf-8")
    corpus = open_corpus(find_sources([str(tmp_path / "text")]), TextConfig())
    return cache_dir() / "encoded" / corpus.info["key"]


def array(entry, name, values):
    np.save(entry / name, values)


def several(entry):
    with (entry / "universe.npy").open("wb") as file:
        np.savez(file, a=np.zeros(2))


def info(entry, **changes):
    path = entry / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "deep": lambda entry: (entry / "info.json").write_text("[" * 100_000),
    "no words": lambda entry: info(entry, kind="words"),
    "counts": lambda entry: info(entry, characters=7),
    "sources": lambda entry: info(entry, sources=3),
    "another key": lambda entry: info(entry, key="0" * 32),
    "several": lambda entry: several(entry),
    "far places": lambda entry: array(entry, "places.npy", np.full(331, 200, np.uint8)),
    "signed places": lambda entry: array(entry, "places.npy", np.zeros(331, np.int64)),
    "two dimensions": lambda entry: array(entry, "places.npy", np.zeros((331, 1), np.uint8)),
    "no boundary": lambda entry: array(entry, "places.npy", np.ones(331, np.uint8)),
    "symbols that are none": lambda entry: array(entry, "universe.npy", np.full(8, 2**40)),
    "floats": lambda entry: array(entry, "universe.npy", np.zeros(8)),
    "huge": lambda entry: (entry / "universe.npy").write_bytes(
        (entry / "universe.npy").read_bytes().replace(b"(10,)", b"(9999999999999,)")
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_of_the_cache_is_none(entry, tmp_path, how):
    assert load_corpus(entry.name) is not None
    before = {path.name: path.read_bytes() for path in entry.iterdir()}
    DAMAGE[how](entry)
    assert before != {path.name: path.read_bytes() for path in entry.iterdir()}
    with little_memory():
        assert load_corpus(entry.name) is None
    again = open_corpus(find_sources([str(tmp_path / "text")]), TextConfig())
    assert again.text(0, 12) == "some words\n"


def test_findings_are_believed_under_their_checksum_alone(tmp_path, monkeypatch):
    data = json.loads(store.DEMO.with_name("findings.json").read_bytes())
    store.save_findings("x", store._restored(store.Findings, data))
    path = store._path("x")
    assert store.load_findings("x", "run").chars == data["chars"]
    path.write_bytes(path.read_bytes().replace(b'"tracks"', b'"trucks"', 1))
    assert store.load_findings("x", "run") is None


# -- compressed texts of ours -------------------------------------------------------------------


def test_a_run_in_an_encoding_that_is_none_cannot_compress(changed):
    path = changed(lambda header: header["config"]["text"].update(encoding="nosuch"))
    with pytest.raises(CheckpointError, match="unknown encoding `nosuch`"):
        archive.load_model(path)


@pytest.mark.parametrize("encoding", ["punycode", "utf-16", "cp1252"])
def test_a_compressed_text_is_in_the_encoding_of_the_run(place, tmp_path, encoding):
    model = archive.load_model(place / "run")
    (tmp_path / "bad").write_bytes(Header(model.digest, bytes(16), 0, View(encoding), "x").to_bytes())
    with pytest.raises(TextError, match="damaged"):
        archive.decompress(model, tmp_path / "bad", tmp_path / "back")


# -- downloads ----------------------------------------------------------------------------------


def test_a_redirect_does_not_leave_https():
    handler = _SafeRedirects()
    follow = lambda begin, end: handler.redirect_request(Request(begin), Closed(), 302, "", {}, end)  # noqa: E731
    assert follow("http://a/x", "https://b/x").full_url == "https://b/x"
    assert follow("https://a/x", "https://b/x").full_url == "https://b/x"
    with pytest.raises(CorpusError, match="leads away from https"):
        follow("https://a/x", "http://b/x")


class Closed:
    def close(self) -> None:
        """Nothing is open."""


def test_reading_a_model_writes_nothing_and_runs_no_code(changed, place, tmp_path):
    path = changed(lambda _: None)
    with watched(tmp_path):
        load_checkpoint(path)
