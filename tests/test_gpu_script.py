"""What ``benchmarks/gpu.sh`` would do on a GPU, rehearsed here; and the record that it goes on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import gpu
import gpu_book
import gpu_speed
from gpu_book import Book, Point

ROOT = Path(__file__).resolve().parents[1]


def rehearse(part, folder, *more):
    """Points by name of one call, and what it had printed."""
    words = ["sh", str(ROOT / "benchmarks" / "gpu.sh"), part, *more, "--rehearse", "--device", "cpu"]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, "--out", str(folder)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / f"gpu-{'-'.join([part, *more[:1]])}.json").read_text())
    assert record["calls"][-1]["rehearsal"] and record["calls"][-1]["device"] == "cpu"
    return record["points"], done.stdout


def test_parity_is_rehearsed(tmp_path):
    points, _ = rehearse("parity", tmp_path)
    for kind in ("random", "sampling", "training", "steps", "evaluation", "inspection", "label"):
        assert any(name.startswith(kind) for name in points)
    assert {name: point for name, point in points.items() if point.get("right") is not True} == {}


def test_speed_is_rehearsed_and_nothing_is_measured_again(tmp_path, monkeypatch, capsys):
    points, said = rehearse("speed", tmp_path)
    for kind in ("training", "sampling", "inspection", "evaluation", "recurrence", "grid"):
        assert any(name.startswith(kind) for name in points)
    assert {name: point for name, point in points.items() if "error" in point or "failed" in point} == {}
    assert not any(name.startswith("met") for point in points.values() for name in point)
    assert len(said.splitlines()) == len(points)
    path = tmp_path / "gpu-speed.json"
    words = ["gpu.py", "speed", "--rehearse", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    gpu.main()
    again = json.loads(path.read_text())
    assert again["points"] == points and len(again["calls"]) == 2 and capsys.readouterr().out == ""


def point(name, seen, found=None):
    def run():
        seen.append(name)
        if isinstance(found, Exception):
            raise found
        return found or {}

    return Point(name, run)


def test_a_record_goes_on_where_it_stopped(tmp_path):
    places, seen = [tmp_path / "a.json", tmp_path / "b.json"], []
    later = time.time() + 100
    points = [point("one", seen, {"right": True}), point("two", seen, ValueError("no")), point("three", seen)]
    assert Book(places, {"number": 1}).fill(points[:2], later) == 0
    assert places[0].read_text() == places[1].read_text()
    places[0].unlink()
    book = Book(places, {"number": 2})
    assert book.fill(points, later) == 0
    assert seen == ["one", "two", "three"]
    record = json.loads(places[0].read_text())
    assert record["calls"] == [{"number": 1}, {"number": 2}] and record["begun"] is None
    assert record["points"]["one"]["call"] == 0 and record["points"]["three"]["call"] == 1
    assert record["points"]["two"]["error"] == "ValueError: no"
    assert book.summary() == {"points": 3, "errors": ["two"], "wrong": [], "missed": []}


@pytest.mark.parametrize(("seconds", "tried"), [(480, ["two"]), (20, ["one", "two"])])
def test_a_point_that_did_not_come_back_in_its_time_is_not_tried_again(tmp_path, seconds, tried):
    path, seen = tmp_path / "a.json", []
    begun = {"name": "one", "seconds": seconds, "allowed": 150}
    path.write_text(json.dumps({"begun": begun, "calls": [{}], "points": {}}))
    book = Book([path], {})
    assert book.fill([point("one", seen), point("two", seen)], time.time() + 100) == 0
    assert seen == tried
    assert (book.points["one"] == {"error": "it did not come back", "call": 0}) == ("one" not in tried)


def test_a_point_that_hangs_takes_the_process_with_it(tmp_path, monkeypatch):
    path, ended, begun = tmp_path / "a.json", threading.Event(), []
    monkeypatch.setattr(gpu_book.os, "_exit", lambda status: begun.append(status) or ended.set())

    def hang():
        begun.append(json.loads(path.read_text())["begun"]["name"])
        assert ended.wait(30)
        return {}

    Book([path], {}).fill([Point("one", hang, 0.05)], time.time() + 100)
    assert begun == ["one", gpu_book.GONE]


def test_no_point_begins_when_the_time_is_over(tmp_path):
    seen = []
    assert Book([tmp_path / "a.json"], {}).fill([point("one", seen)] * 2, time.time()) == 2
    assert seen == []


def test_what_is_asked_for_is_measured_anew(tmp_path):
    seen = []
    points = [point("grid a", seen), point("grid b", seen, ValueError("no")), point("sampling", seen)]
    book = Book([tmp_path / "a.json"], {})
    book.fill(points, time.time() + 100)
    book.forget(["errors"])
    assert sorted(book.points) == ["grid a", "sampling"]
    book.forget(["grid"])
    assert sorted(book.points) == ["sampling"]


@pytest.mark.parametrize("message", ["CUDA error: an illegal memory access", "device-side assert triggered"])
def test_a_lost_context_is_known(message):
    assert gpu_book.is_broken(RuntimeError(message))
    assert not gpu_book.is_broken(RuntimeError("shapes cannot be multiplied"))
    assert not gpu_book.is_broken(torch.OutOfMemoryError("CUDA out of memory"))


def test_the_grid_is_summed_up():
    points = {"grid a": {"over_stock": 4.0}, "grid b": {"over_stock": 1.0}, "training": {"over_stock": 9.0}}
    points["grid c"] = {"error": "no"}
    assert gpu_speed.summary(points) == {"grid_points": 2, "grid_mean": 2.0, "grid_worst": ["grid b", 1.0]}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_stock_networks_of_one_and_of_many_modules_are_the_same(cell):
    one, many = (gpu_speed.Stock(cell, 3, 8, 0, 11, apart) for apart in (False, True))
    with torch.no_grad():
        many.readout.load_state_dict(one.readout.state_dict())
        for number, layer in enumerate(many.layers):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                theirs = getattr(one.layers[0], f"{kind}_l{number}")
                getattr(layer, f"{kind}_l0").zero_()[..., : theirs.shape[-1]] = theirs
    ids = torch.randint(0, 11, (6, 4), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(one(ids, [None])[0], many(ids, [None] * 3)[0])


def test_a_graphics_card_is_not_made_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "parity", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2 and "torch sees no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
