"""What is timed is first shown to be the same; figures agree with each other. No test asserts a time."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from charrnn import native
from charrnn.bench import check, machine, sampling, training
from charrnn.bench.roofline import Point, Roofline
from charrnn.bench.stock import StockNetwork, random_network
from charrnn.bench.timing import MAX_ROUNDS, MIN_ROUNDS, WARM_UPS, Task, measure
from charrnn.cli.main import app
from charrnn.errors import CharrnnError
from charrnn.model import kernels
from charrnn.model.network import Network
from charrnn.rendering.roofline import BOTTOM, LEFT, RIGHT, TOP, roofline_svg
from charrnn.sampling.choice import SamplingConfig
from charrnn.sampling.samplers import Draw, NumpySampler
from charrnn.sampling.speaker import network_weights

SPREAD = {"median", "p10", "p90"}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_right_window_passes_the_check(cell):
    assert check.check_window(random_network(cell, 12, 2), 3, 7) < 1e-5


def test_a_wrong_loss_fails_the_check(monkeypatch):
    def wrong(self, *args):
        loss, state = right(self, *args)
        return 1.001 * loss, state

    right = Network.loss
    monkeypatch.setattr(Network, "loss", wrong)
    with pytest.raises(CharrnnError, match="the loss of lstm 2×12 misses"):
        check.check_window(random_network("lstm", 12, 2), 3, 7)


@pytest.mark.skipif(native.library() is None, reason="no native library")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_wrong_gradient_fails_the_check(cell, monkeypatch):
    right = kernels._recurrent_gradient
    monkeypatch.setattr(kernels, "_recurrent_gradient", lambda *args: 1.001 * right(*args))
    with pytest.raises(CharrnnError, match=r"the gradient of `recurrent\.weight_hh_l0`"):
        check.check_window(random_network(cell, 12, 2), 3, 7)


def test_no_speed_is_reported_when_a_check_fails(monkeypatch):
    monkeypatch.setattr(check, "MAX_ERROR", 0.0)
    monkeypatch.setattr(training, "measure", lambda *_: pytest.fail("something was timed"))
    result = CliRunner().invoke(app, ["bench", "train", "--hidden-size", "8", "--seq-len", "4"])
    assert result.exit_code == 1 and "no speed is reported" in result.stderr and not result.stdout


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_greedy_check_tells_a_wrong_sampler(cell):
    network, other = (check.lively(random_network(cell, 12, 2)) for _ in range(2))
    greedy = Draw(SamplingConfig(0.0), 0, 0)
    check.check_greedy(NumpySampler(network_weights(network), greedy), network, "numpy")
    with torch.no_grad():
        other.layers[1].weight_hh_l0.mul_(0.9)
    with pytest.raises(CharrnnError, match="numpy sampler"):
        check.check_greedy(NumpySampler(network_weights(other), greedy), network, "numpy")


class FakeClock:
    """Stands still but for tasks, which take what a list says, round by round."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def task(self, name, seconds, work=1.0):
        left = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(left)

        return Task(name, run, work)

    def __call__(self):
        return self.now


def test_ratios_are_of_the_same_round_and_warm_ups_are_left_out():
    clock, disturbed = FakeClock(), np.array([1.0, 7.0, 2.0, 1.0, 5.0])
    warm = [100.0] * WARM_UPS
    tasks = [clock.task("fast", [*warm, *disturbed], 10), clock.task("slow", [*warm, *(3 * disturbed)], 5)]
    timings = measure(tasks, 5, 0, clock)
    ratio = timings.ratio("fast", "slow")
    assert (ratio.median, ratio.p10, ratio.p90) == pytest.approx((6, 6, 6))
    assert timings.rate("fast") == pytest.approx(10 / 2)
    assert timings.rate("fast") / timings.rate("slow") == pytest.approx(ratio.median)
    assert clock.order[2 * WARM_UPS :][:4] == ["fast", "slow", "slow", "fast"]


def test_of_several_tries_the_fastest_counts():
    clock = FakeClock()
    warm, tries = [9.0] * (3 * WARM_UPS), [5.0, 4.0, 6.0, 8.0, 9.0, 7.0]
    tasks = [clock.task("limit", [*warm, *tries], 2), clock.task("other", [1.0] * 9)]
    timings = measure([replace(tasks[0], tries=3), tasks[1]], 2, 0, clock)
    assert timings.seconds["limit"].tolist() == [2.0, 3.5]
    assert clock.order[-4:] == ["other", "limit", "limit", "limit"]


@pytest.mark.parametrize(("seconds", "rounds"), [(1.0, MIN_ROUNDS), (92.0, 20), (1e6, MAX_ROUNDS)])
def test_rounds_fit_the_time(seconds, rounds):
    clock = FakeClock()
    timings = measure([clock.task("a", [50.0] + [2.0] * 999)], None, seconds, clock)
    assert timings.rounds == rounds


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_useful_work_counts_every_product_but_the_lookup(cell):
    shape = training.Shape(cell, 12, 3, 2, 5)
    stock = StockNetwork(random_network(cell, 12, 3))
    matrices = {n: p.numel() for n, p in stock.named_parameters() if "weight" in n}
    assert shape.weights == sum(matrices.values()) - matrices["recurrent.weight_ih_l0"]
    assert shape.flops_per_char == 6 * shape.weights


def test_onednn_and_threads_are_given_back():
    before = torch.backends.mkldnn.enabled, torch.get_num_threads()
    with machine.using_onednn(False), machine.torch_threads(3):
        assert (torch.backends.mkldnn.enabled, torch.get_num_threads()) == (False, 3)
    assert (torch.backends.mkldnn.enabled, torch.get_num_threads()) == before


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_is_that_of_a_checkout(tmp_path):
    inside, text = tmp_path / "installed", tmp_path / "text"
    inside.mkdir()
    assert machine.commit(tmp_path) is None
    git(tmp_path, "init")
    text.write_text("a")
    git(tmp_path, "add", "text")
    git(tmp_path, "commit", "-m", "one")
    clean = machine.commit(tmp_path)
    assert len(clean) >= 7 and int(clean, 16)
    text.write_text("b")
    assert machine.commit(tmp_path) == f"{clean}-dirty"
    assert machine.commit(inside) is None


def test_a_buffer_is_read_as_often_as_is_counted(monkeypatch):
    reads = []
    fake = SimpleNamespace(
        read_memory=lambda at, size, times, total, threads: reads.append((size, times, threads))
    )
    monkeypatch.setattr(machine, "READ_BYTES", 10_000)
    monkeypatch.setattr(machine, "library", lambda: fake)
    task = machine.reading(1_500, threads=2)
    task.run()
    assert reads == [(3 * 512, 6, 2)] and task.work == 6 * 3 * 512
    monkeypatch.setattr(machine, "library", lambda: None)
    monkeypatch.setattr(machine.np, "dot", lambda a, b: reads.append(a.nbytes))
    machine.reading(1_500).run()
    assert reads[1:] == 6 * [3 * 512]


def test_the_products_are_equally_large():
    assert {math.prod(sizes) for sizes in machine.PRODUCTS} == {2**30}
    assert machine.matmul().work == 2 * 2**30 and machine.matmul().tries % len(machine.PRODUCTS) == 0


def bench(*arguments, code=0):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def test_train_end_to_end(tmp_path, monkeypatch):
    small = "train --cell gru --hidden-size 8 --num-layers 2 --batch-size 2 --seq-len 4 --rounds 1 --json"
    monkeypatch.setattr("sys.argv", ["/usr/bin/charrnn", "bench", "train", "--cell", "gru"])
    data = json.loads(bench(*small.split(), "--svg", str(tmp_path / "roof.svg")).stdout)
    assert data["command"] == "charrnn bench train --cell gru"
    assert {
        "commit",
        "cpu",
        "cores",
        "threads",
        "torch",
        "charrnn",
        "native",
        "load_before",
        "load_after",
    } <= set(data)
    (row,) = data["rows"]
    assert (row["cell"], row["hidden_size"], row["num_layers"]) == ("gru", 8, 2)
    assert (row["batch_size"], row["seq_len"], row["rounds"]) == (2, 4, 1)
    assert set(row["ratio"]) == set(row["step_ratio"]) == SPREAD
    assert row["ratio"]["median"] == pytest.approx(row["chars_per_second"] / row["torch_chars_per_second"])
    steps = row["step_chars_per_second"] / row["torch_step_chars_per_second"]
    assert row["step_ratio"]["median"] == pytest.approx(steps)
    work = 6 * (3 * 8**2 * 3 + 65 * 8)
    assert row["gflops"] == pytest.approx(row["chars_per_second"] * work / 1e9)
    assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["matmul_gflops"])
    assert ElementTree.parse(tmp_path / "roof.svg").getroot().tag.endswith("svg")


def test_sample_end_to_end(monkeypatch):
    monkeypatch.setattr(sampling, "TASK_SECONDS", 0)
    small = "sample --cell lstm --hidden-size 8 --num-layers 2 --rounds 1"
    data = json.loads(bench(*small.split(), "--json").stdout)
    rows = {row["way"]: row for row in data["rows"]}
    assert {"charrnn numpy", "torch oneDNN", "torch"} <= set(rows)
    if native.library():
        assert rows["charrnn 64 texts"]["streams"] == 64
        assert [rows[f"charrnn {p}"]["precision"] for p in ("fp32", "bf16", "int8")] == [
            "fp32",
            "bf16",
            "int8",
        ]
    weights = 4 * 8**2 * 3 + 65 * 8
    for row in rows.values():
        speeds = (
            row["chars_per_second"] / rows[name]["chars_per_second"] for name in ("torch oneDNN", "torch")
        )
        assert (row["ratio_onednn"]["median"], row["ratio_plain"]["median"]) == pytest.approx(tuple(speeds))
        size = weights * {"fp32": 4, "bf16": 2, "int8": 1}[row["precision"]] / row["streams"]
        assert row["gb_per_second"] == pytest.approx(row["chars_per_second"] * size / 1e9)
        assert row["intensity"] == pytest.approx(row["gflops"] / row["gb_per_second"])
        if row["streams"] == 1:
            assert row["share_of_bandwidth"] == pytest.approx(
                row["gb_per_second"] / row["read_gb_per_second"]
            )
    assert "lstm 2×8" in bench(*small.split()).stdout


def test_inspect_end_to_end():
    small = "inspect --cell gru --hidden-size 8 --num-layers 2 --rounds 1"
    data = json.loads(bench(*small.split(), "--json").stdout)
    assert data["chars"] == 64 * 400 and data["neurons"] == 16 and data["hypotheses"] > 20
    for what in ("record", "score"):
        cost = data["forward_chars_per_second"] / data[f"{what}_chars_per_second"]
        assert data[f"{what}_cost"]["median"] == pytest.approx(cost)
    assert data["forward_gflops"] == pytest.approx(data["forward_chars_per_second"] * 2 * 3 * 64 * 3 / 1e9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --rounds 0", "--rounds"),
        ("train --hidden-size 0", "--hidden-size"),
        ("train --grid --seq-len 4", "sizes of its own"),
        ("sample --cell jordan", "one of lstm, gru"),
        ("inspect --cell lsm", "did you mean `lstm`"),
    ],
)
def test_bad_input_is_one_error(arguments, words):
    result = bench(*arguments.split(), code=1)
    assert words in result.stderr and result.stderr.startswith("error: ") and not result.stdout


def test_a_busy_machine_is_told():
    assert machine.is_busy({"load_before": 1.1, "cores": 2})
    assert not machine.is_busy({"load_before": 0.9, "cores": 2})
    assert not machine.is_busy({"load_before": None, "cores": 2})


def test_the_picture_puts_points_below_their_roofs():
    points = [Point("on <the> roof", "lstm", 100, 200, 2.0), Point("at memory's", "gru", 2, 40, None)]
    svg = roofline_svg(Roofline(points, 200, {"memory": 20, "cache": 60}), "a & b")
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    circles = [c for c in root.iter(f"{space}circle") if float(c.get("cx")) <= RIGHT]
    flat, memory, cache = (line for line in root.iter(f"{space}line") if line.get("class") == "roof")
    assert circles[0].get("cy") == flat.get("y1") == flat.get("y2")
    ends = [float(memory.get(name)) for name in ("x1", "y1", "x2", "y2")]
    x, y = float(circles[1].get("cx")), float(circles[1].get("cy"))
    along = (x - ends[0]) / (ends[2] - ends[0])
    assert ends[1] + along * (ends[3] - ends[1]) == pytest.approx(y, abs=0.2)
    assert math.isclose(float(cache.get("x2")), float(flat.get("x1")))
    assert all(float(c.get("cx")) >= LEFT and TOP <= float(c.get("cy")) <= BOTTOM for c in circles)
    assert {"a & b", "on <the> roof: 200 GF/s, 2× torch"} <= {text.text for text in root.iter(f"{space}text")}


def test_one_cell_leaves_its_usual_rows(monkeypatch):
    asked = []
    monkeypatch.setattr(training, "bench_train", lambda shapes, *_: asked.append(shapes) or 1 / 0)
    for arguments in ("train --cell gru", "train --grid --cell lstm", "train --cell gru --seq-len 8"):
        CliRunner().invoke(app, ["bench", *arguments.split()])
    assert [len(shapes) for shapes in asked] == [4, 25, 1]
    assert [{shape.cell for shape in shapes} for shapes in asked] == [{"gru"}, {"lstm"}, {"gru"}]
    assert asked[2] == [training.Shape("gru", 128, 2, 16, 8)]


def test_a_picture_that_cannot_be_written_does_not_cost_the_figures():
    small = "train --hidden-size 8 --batch-size 2 --seq-len 4 --rounds 1 --json --svg /nowhere/roof.svg"
    result = bench(*small.split(), code=1)
    assert json.loads(result.stdout)["rows"] and "cannot write `/nowhere/roof.svg`" in result.stderr
