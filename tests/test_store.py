"""Kept findings: nothing is lost on the way to disk, nothing stale comes back, and torch stays out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from planting import document as make_document
from planting import make_subject, planted, write_corpus

from charrnn.config import Config
from charrnn.inspection import store
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.runs import DEMO, save_model
from charrnn.text.vocabulary import Vocabulary

QUESTION = {**store.DEFAULT_QUESTION, "hypotheses": []}
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    os.environ["CHARRNN_CACHE"] = str(folder / "cache")
    corpus = write_corpus(folder / "texts", [make_document(seed) for seed in range(44)])
    return find_neurons(make_subject(corpus, planted(3, in_quote=1, column=-1)), Question(top=2))


def assert_equal(one, other):
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            assert_equal(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other.astype(one.dtype))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def test_findings_come_back_as_they_were(findings):
    store.save_findings("key", findings)
    again = store.load_findings("key", findings.run)
    assert_equal(again, findings)
    assert again.cards and any(row.measures for row in again.rows)


def test_findings_are_told_the_present_name_of_their_run(findings):
    store.save_findings("key", findings)
    assert store.load_findings("key", "runs/moved").run == "runs/moved"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"run": "x"}', b"\xff\xfe"])
def test_a_damaged_file_is_as_good_as_none(findings, content):
    store.save_findings("key", findings)
    store._path("key").write_bytes(content)
    assert store.load_findings("key", "x") is None
    assert store.load_findings("other", "x") is None


def test_a_disk_that_refuses_is_no_error(findings, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "file"))
    store.save_findings("key", findings)
    assert store.load_findings("key", "x") is None


# keys


@pytest.fixture
def model(tmp_path, findings):
    return write_model(tmp_path / "model.safetensors", seed=3)


def write_model(path, seed, key="text"):
    network = planted(seed)
    record = {"key": key, "texts": ["a.txt"]}
    save_model(path, network, Config(), Vocabulary.of_chars(map(ord, 'abcdefgh ()"\n')), record, {})
    return path


def key(model, texts=(), **changes):
    return store.key_of(model, texts, QUESTION | changes)


def test_one_question_has_one_key(model):
    assert key(model) == key(model)


def test_whatever_changes_the_answer_changes_the_key(model, tmp_path, monkeypatch):
    keys = [key(model), key(model, neuron="L1.c0"), key(model, top=2), key(model, kind="f")]
    keys += [key(model, ablation=None), key(model, hypotheses=["column"]), key(model, max_chars=1_000_000)]
    keys.append(key(write_model(tmp_path / "other.safetensors", seed=4)))
    keys.append(key(write_model(tmp_path / "text.safetensors", seed=3, key="another text")))
    for number, text in enumerate(("one text", "another")):
        path = tmp_path / f"{number}.txt"
        path.write_text(text * 100)
        keys.append(key(model, [str(path)]))
    monkeypatch.setattr(store, "_code", lambda: b"changed code")
    keys.append(key(model))
    assert len(set(keys)) == len(keys)


CODE = ("runs.py", "inspection/cause.py", "text/vocabulary.py", "native/libcharrnn.so", "devices.py")


@pytest.mark.parametrize("changed", CODE)
def test_whatever_code_changes_the_key_changes(tmp_path, monkeypatch, changed):
    for name in ("__init__.py", *CODE):
        path = tmp_path / "charrnn" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(store.charrnn, "__file__", str(tmp_path / "charrnn" / "__init__.py"))
    before = store._code.__wrapped__()
    assert store._code.__wrapped__() == before
    (tmp_path / "charrnn" / changed).write_text("changed")
    assert store._code.__wrapped__() != before


def test_a_changed_text_of_the_same_name_has_another_key(model, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before " * 100)
    before = key(model, [str(path)])
    path.write_text("after! " * 100)
    assert key(model, [str(path)]) != before


@pytest.mark.parametrize("spec", ["mine.py:label", "labels.npy"])
def test_what_depends_on_a_file_of_the_users_is_not_kept(model, spec):
    assert key(model, hypotheses=[spec]) is None


def test_numbers_are_kept_in_few_digits_and_come_back_the_same():
    values = np.random.default_rng(0).normal(size=200).astype(np.float32)
    values[3] = np.nan
    kept = json.dumps(store._plain(values))
    assert len(kept) < 14 * len(values)
    np.testing.assert_array_equal(store._restored(np.ndarray, json.loads(kept)), values)


def test_findings_of_the_demo_answer_the_plain_question_only():
    if not DEMO.with_name("findings.json").is_file():
        pytest.skip("no demo run in this checkout")
    found = store.demo_findings(DEMO, (), QUESTION)
    assert found.run == "demo" and found.cards
    assert store.demo_findings(DEMO, ("x.txt",), QUESTION) is None
    assert store.demo_findings(DEMO, (), QUESTION | {"top": 3}) is None
    assert store.demo_findings(Path("model.safetensors"), (), QUESTION) is None


def test_looking_again_needs_no_torch(tmp_path):
    script = (
        "import sys; sys.argv = ['charrnn', *sys.argv[1:]]\n"
        "from charrnn.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )

    def run(*arguments):
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    (tmp_path / "text.txt").write_text(HARBOUR.read_text(encoding="utf-8") * 2, encoding="utf-8")
    run("train", "text.txt", "--steps", "3", "--hidden-size", "8", "--val-fraction", "0.3")
    ask = ("inspect", "neurons", "--hypothesis", "column", "--json")
    first, second = run(*ask), run(*ask)
    assert first.stderr.splitlines()[-1] == "True"
    assert second.stderr.splitlines()[-1] == "False"
    assert json.loads(first.stdout) == json.loads(second.stdout)
