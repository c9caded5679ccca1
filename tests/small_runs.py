"""Runs of a second, and what two runs that must be the same have in common."""

from __future__ import annotations

import json
import random

import torch

import charrnn
from charrnn.events import StepEvent
from charrnn.runs import load_tensors
from charrnn.training import start

SMALL = {
    "model.hidden_size": 12,
    "model.num_layers": 2,
    "model.dropout": 0.2,
    "training.batch_size": 4,
    "training.seq_len": 16,
    "training.steps": 30,
    "training.num_evals": 5,
}


def run_events(text, folder, **settings):
    return list(charrnn.train(text, run=str(folder), settings=SMALL | settings, device="cpu"))


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(e["event"], e["step"], e["loss"]) for e in lines if "loss" in e]


def files_equal(first, second, name):
    (a, head_a), (b, head_b) = load_tensors(first / name), load_tensors(second / name)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    return head_a, head_b


def write_words(folder):
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "runs", "into", "dark", "wood"]
    picker = random.Random(0)
    lines = (" ".join(picker.choices(words, k=8)) for _ in range(120))
    path = folder / "words.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def interrupted(text, folder, stop_at, **settings):
    """Train into a folder and stop after a step that is reported."""
    trainer = start.start([text], run=str(folder), settings=SMALL | settings, device="cpu")
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step == stop_at:
            trainer.request_stop()
    assert event.stopped_by == "interrupted"


def assert_resumes_exactly(text, folder, stop_at=10, **settings):
    """Train whole, and stopped and continued: every weight, moment, counter and logged loss is the same."""
    *_, whole = run_events(text, folder / "whole", **settings)
    interrupted(text, folder / "cut", stop_at, **settings)
    *_, end = start.resume(str(folder / "cut"), device="cpu").events()
    assert (end.stopped_by, end.step) == (whole.stopped_by, whole.step) and end.step > stop_at
    for name in ("last/model.safetensors", "last/trainer.safetensors", "best/model.safetensors"):
        files_equal(folder / "whole", folder / "cut", name)
    assert losses(folder / "whole") == losses(folder / "cut")
