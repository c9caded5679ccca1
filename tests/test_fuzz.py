"""Hostile files, in short: ``python -m tests.torture fuzz`` is the long form."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fuzzing import guard
from fuzzing.runner import fuzz
from fuzzing.targets import Target, make_targets
from hypothesis import given, settings
from hypothesis import strategies as some

from charrnn.config import Config
from charrnn.errors import CharrnnError
from charrnn.text.vocabulary import Vocabulary
from charrnn.untrusted import MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES, map_array, parse_json, read_whole

SHORT = 100
"""Inputs of a target."""
NAMES = (
    *("model", "model, exact", "model, header", "trainer, muon", "trainer, momentum"),
    *("config.toml", "config, JSON", "--set", "cache, info.json", "cache, places.npy", "cache, universe.npy"),
    *(
        "findings",
        "compressed text",
        "labels",
        "hypothesis",
        "compressed corpus",
        "corpus",
        "corpus, zip",
        "corpus, utf-7",
        "corpus, gb18030",
    ),
    *("vocabulary", "log.jsonl", "run", "answer"),
    *(["corpus, zstandard"] if find_spec("zstandard") is not None else []),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        yield folder, make_targets(folder)


@pytest.fixture(autouse=True)
def there(place, own_cache, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(place[0] / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_taken_or_refused(place, name):
    folder, targets = place
    count = SHORT // 4 if name == "run" else SHORT
    outcome = fuzz(name, targets[name], folder, count)
    assert not outcome.failures
    assert outcome.inputs == outcome.taken + outcome.refused == count
    if name not in ("cache, info.json", "findings", "config, JSON", "vocabulary", "log.jsonl"):
        assert outcome.refused > count / 20 or name.startswith("cache")


def test_every_target_is_fuzzed(place):
    assert set(NAMES) == set(place[1])


def test_the_same_seed_gives_the_same_inputs(place):
    target = place[1]["model"]
    assert list(target.inputs("1 model", 20)) == list(target.inputs("1 model", 20))
    assert list(target.inputs("1 model", 20)) != list(target.inputs("2 model", 20))


# -- what the guard sees ------------------------------------------------------------------------


def spin():
    while True:
        pass


BAD = {
    "Violation: `/nosuch/renamed` is changed": lambda: os.rename("own", "/nosuch/renamed"),
    "Violation: `/nosuch/link` is changed": lambda: os.symlink("own", "/nosuch/link"),
    "Violation: `/etc/passwd` is changed": lambda: os.symlink("/etc/passwd", "own"),
    "Violation: os.link": lambda: os.link("own", "other"),
    "KeyError": lambda: {}["x"],
    "MemoryError": lambda: bytearray(guard.BYTES * 2),
    "/etc/passwd` is read": lambda: open("/etc/passwd"),  # noqa: SIM115
    "guard.txt` is written": lambda: open("/guard.txt", "w"),  # noqa: SIM115
    "Violation: subprocess.Popen": lambda: subprocess.run(["true"]),
    "code of evil is run": lambda: exec(compile("1", "evil", "exec")),
    "an error without a word": lambda: (_ for _ in ()).throw(CharrnnError("")),
}


@pytest.mark.parametrize("wanted", BAD)
def test_the_guard_sees_what_a_file_must_not_do(tmp_path, monkeypatch, wanted):
    monkeypatch.chdir(tmp_path)
    target = Target((b"good",), lambda random, data: data, lambda data: BAD[wanted]())
    outcome = fuzz("bad", target, tmp_path, 2)
    assert len(outcome.failures) == 2 and wanted in outcome.failures[0]
    assert outcome.taken == outcome.refused == 0


def test_the_guard_sees_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.05)
    outcome = fuzz("bad", Target((b"x",), lambda random, data: data, lambda data: spin()), tmp_path, 1)
    assert "Hang" in outcome.failures[0]


def test_what_takes_long_once_is_a_busy_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.05)
    waits = [spin, lambda: None]
    target = Target((b"x",), lambda random, data: data, lambda data: waits.pop(0)())
    assert fuzz("bad", target, tmp_path, 1).taken == 1 and not waits


# -- JSON and arrays ----------------------------------------------------------------------------

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inside: (
        some.lists(inside, max_size=4) | some.dictionaries(some.text(max_size=9), inside, max_size=4)
    ),
    max_leaves=20,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(JSON)
def test_json_is_what_the_library_makes_of_it(value):
    written = json.dumps(value)
    assert repr(parse_json(written)) == repr(json.loads(written)) == repr(parse_json(written.encode()))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(some.dictionaries(some.sampled_from(["kind", "symbols"]), JSON), some.dictionaries(some.text(), JSON))
def test_no_value_is_a_vocabulary_or_settings_by_chance(vocabulary, config):
    with pytest.raises(CharrnnError):
        Vocabulary.from_json(vocabulary)
    try:
        assert Config.from_json({"text": config, "model": config}) == Config() or not config
    except CharrnnError as error:
        assert error.message


@pytest.mark.parametrize(
    "text", ["[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "[" * 100_000, '{"a":' * 5_000]
)
def test_deep_json_is_refused(text):
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
        parse_json(text)
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_json_of_many_lists_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="too many"):
        parse_json(b"[" + b"[]," * MAX_CONTAINERS + b"0]")


def test_json_of_many_values_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was read"))
    for text in ('["a"' + ',"a"' * (MAX_VALUES + 1) + "]", b"[0" + b",0" * (MAX_VALUES + 1) + b"]"):
        with pytest.raises(ValueError, match="too many values"):
            parse_json(text)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file")
def test_a_file_without_an_end_is_refused(tmp_path):
    (tmp_path / "x").symlink_to("/dev/zero")
    with guard.little_memory(), guard.little_time(), pytest.raises(ValueError, match="larger than 99 bytes"):
        read_whole(tmp_path / "x", 99)


def test_a_file_that_grows_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(100))
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0,) * 10))
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        read_whole(tmp_path / "x", 99)


def test_a_file_larger_than_believed_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(bytes(100))
    assert read_whole(tmp_path / "x", 100) == bytes(100)
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        read_whole(tmp_path / "x", 99)


@pytest.mark.parametrize("dtype", ["u1", "u2", "<i8", ">i8", "f4", "f8", "?", "<U3", "S2", "c8"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3), ()])
def test_an_array_is_what_numpy_makes_of_it(tmp_path, dtype, shape):
    values = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    found, wanted = map_array(tmp_path / "x.npy"), np.load(tmp_path / "x.npy")
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def test_an_array_that_claims_more_than_it_has_takes_no_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(10))
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data.replace(b"(10,)", b"(99999999999,)"))
    with guard.little_memory(), pytest.raises(ValueError, match="fewer numbers"):
        map_array(tmp_path / "x.npy")
