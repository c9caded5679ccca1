"""Texts larger than memory: what is held of them does not grow with them. The long form: `make torture`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import large_text

GROWTH_BYTES = 7_000_000
"""What 8 MB more of text may cost: less than a byte for each."""

# What would hold more of a longer text is made to do so from a few megabytes on.
WORK = """
import sys, threading
sys.path.insert(0, {benchmarks!r})
import large_text, os
import charrnn
from charrnn import evaluation
from charrnn.baselines import Symbols, compressors, ngram
from charrnn.inspection import pieces
from charrnn.model import scoring

scoring.STREAM_SYMBOLS = 4_000
evaluation.PREFACE_BYTES, pieces.LABELLED_WHOLE = 1 << 18, 1 << 19
pieces.LOOK_BACK, Symbols.pieces.__defaults__ = 1 << 14, (1 << 16,)
compressors._XZ_DICT_BYTES, compressors._PPMD_MEMORY_BYTES = (1 << 18, 1 << 18), (1 << 24, 1 << 24)
evaluation.PIECE = ngram.PIECE = ngram.COUNTED_PIECE = 1 << 16
settings = dict(
    {{"model.hidden_size": 16, "training.steps": 12, "training.num_evals": 1, "training.batch_size": 4}},
    **{{"training.seq_len": 32, "text.val_fraction": 0.07, "text.test_fraction": 0.07}}
)
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.01):
        peak = max(peak, large_text.anonymous_bytes(os.getpid()))
threading.Thread(target=watch, daemon=True).start()
for event in charrnn.train({text!r}, run={run!r}, settings=settings, device="cpu"):
    pass
run = charrnn.load({run!r}, device="cpu")
found = run.evaluate()
rows = run.inspect_neurons(hypotheses=("in_quote", "column", "document_position"), ablation=None).rows
done.set()
print(found.chars, found.baselines_saw["ngram"], len(rows), peak)
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """The largest anonymous memory of training, evaluation and inspection of 4 MB and of 12 MB."""
    folder = tmp_path_factory.mktemp("large")
    found = {}
    for megabytes in (4, 12):
        text = folder / f"{megabytes}.txt"
        large_text.write_text(text, megabytes * 1_000_000, seed=1)
        words = {"benchmarks": str(Path(large_text.__file__).parent), "text": str(text)}
        script = WORK.format(**words, run=str(folder / f"run{megabytes}"))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CHARRNN_CACHE": str(folder / "cache")}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        chars, ngram, rows, peak = map(int, done.stdout.split())
        assert chars == pytest.approx(0.07e6 * megabytes, rel=0.01) and ngram == 1 << 18 and rows == 3
        found[megabytes] = peak
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
def test_anonymous_memory_does_not_grow_with_the_text(peaks):
    assert peaks[12] < peaks[4] + GROWTH_BYTES
    assert peaks[12] < large_text.LIMIT_BYTES / 2


def test_made_up_text_is_the_same_for_a_seed(tmp_path):
    for name, size, seed in (("a", 700_001, 1), ("b", 900_000, 1), ("c", 700_001, 2)):
        large_text.write_text(tmp_path / name, size, seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert len(a) == 700_001 and b.startswith(a) and c[:1000] != a[:1000]
    assert a[:100_000].decode().count('"') > 100 < a[:100_000].count(b"(")


def test_made_up_files_are_as_many_as_asked_for(tmp_path):
    large_text.write_files(tmp_path / "files", 250, seed=1)
    files = sorted((tmp_path / "files").rglob("*.txt"))
    assert len(files) == 250 and {path.stat().st_size for path in files} == {large_text.FILE_BYTES}


def test_a_command_is_watched_and_its_failure_is_told(tmp_path):
    row = large_text.watched(tmp_path, "corpora", "list")
    assert row["code"] == 0 and row["descriptors"] >= 3
    row = {"stage": "show"} | large_text.watched(tmp_path, "corpora", "show", "nosuch")
    assert "unknown corpus `nosuch`" in large_text.wrong_with(row)


def test_promises_are_checked():
    good = {"stage": "train", "code": 0, "peak_anonymous_megabytes": 999, "descriptors": 9}
    assert large_text.wrong_with(good) == "" and large_text.wrong_with({"stage": "make the text"}) == ""
    assert "1001 MB" in large_text.wrong_with(good | {"peak_anonymous_megabytes": 1001})
    assert "65 files" in large_text.wrong_with(good | {"descriptors": 65})
    json.dumps(good)
