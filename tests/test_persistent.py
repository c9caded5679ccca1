"""The persistent kernels against ``torch.nn``: in Triton's interpreter, on a CUDA device where there is one.

The interpreter runs the programs of a launch one after the other, so several programs are compared with a
launch for every timestep, and those that wait for one another run in processes of their own.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from charrnn.config import CELLS
from charrnn.errors import CharrnnError
from charrnn.model.persistent import run_layers, self_check, why_not
from charrnn.model.persistent.check import Case, compare
from charrnn.model.persistent.tiling import SLACK_BYTES, UNITS, Tiling, choose
from charrnn.model.persistent.window import Window

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OLDEST = (3, 7)
"""Triton's interpreter before does not know numpy 2.4."""


def triton_version():
    try:
        return tuple(map(int, importlib.metadata.version("triton").split(".")[:2]))
    except importlib.metadata.PackageNotFoundError:
        return (0,)


on_triton = pytest.mark.skipif(
    triton_version() < OLDEST, reason="Triton 3.7 or newer is not installed: `make test-triton` does that"
)
in_the_interpreter = pytest.mark.skipif(DEVICE.type == "cuda", reason="on the device, not in the interpreter")
RECURRENT = ("lstm", "gru")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """Let the interpreter run the kernels if no device can; it is asked when they are first imported."""
    if DEVICE.type == "cuda" or triton_version() < OLDEST:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        from charrnn.model.persistent import kernels

        assert kernels.INTERPRETED
        yield


def one_program(hidden, rows=16, depth=16, shared=1 << 20, layers=1):
    """A tiling for a single program a layer, whose products are many and small."""
    return Tiling(max(UNITS, 1 << (hidden - 1).bit_length()), rows, depth, 1, shared, layers)


@on_triton
@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize(
    ("case", "shared"),
    [
        (Case(1, 1, 1, 1), 1 << 20),
        (Case(20, 5, 7, 3), 1 << 20),
        (Case(20, 5, 7, 3), 0),
        (Case(33, 17, 4, 6), SLACK_BYTES + 60 * 1024),
        (Case(13, 35, 3, 4, resets=0.3), 1 << 20),
        (Case(20, 5, 6, 3, resets=1.0), 1 << 20),
        (Case(20, 5, 7, 3, layers=2), 1 << 20),
        (Case(20, 5, 4, 3, layers=2), 0),
        (Case(33, 17, 4, 6, layers=3), SLACK_BYTES + 100 * 1024),
        (Case(13, 19, 5, 4, resets=0.3, layers=3, dropout=0.3), 1 << 20),
    ],
)
def test_a_window_equals_torchs(cell, case, shared):
    tiling = one_program(case.hidden_size, shared=shared, layers=case.layers)
    errors = compare(cell, torch.float32, case, DEVICE, tiling)
    assert max(errors.values()) < 5e-6, errors


@on_triton
@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize("layers", [1, 2])
def test_several_programs_part_units_and_rows_among_them(cell, layers):
    tiling = Tiling(UNITS, 16, 16, groups=2, shared_bytes=1 << 20, layers=layers, steps=1)
    case = Case(39, 53, 3, 5, resets=0.2, layers=layers)  # 3 slices of units, 4 tiles of rows for 2 groups
    assert (tiling.slices(case.hidden_size), tiling.tiles(case.batch_size)) == (3, 4)
    errors = compare(cell, torch.float32, case, DEVICE, tiling)
    assert max(errors.values()) < 5e-6, errors


@on_triton
def test_layers_that_do_not_fit_get_launches_of_their_own():
    case = Case(20, 5, 4, 3, layers=3, dropout=0.3)
    errors = compare("lstm", torch.float32, case, DEVICE, one_program(20, layers=2))
    assert max(errors.values()) < 5e-6, errors


@on_triton
def test_factors_of_every_timestep_are_had_from_one():
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(CELLS["lstm"](width, 18) for width in (4, 18)).to(DEVICE)
    inputs, drop = torch.randn(5, 3, 4, device=DEVICE), torch.rand(1, 1, 3, 18, device=DEVICE)
    states = [layer.zero_state(3) for layer in layers]
    results = []
    for factors in (drop, drop.expand(1, 5, 3, 18)):
        args = (inputs, None, states, None, torch.float32, factors, one_program(18, layers=2))
        (_, outputs), _ = run_layers("lstm", layers, *args)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), layers.parameters())])
    assert all(map(torch.equal, *results))


@on_triton
def test_half_precision_rounds_operands_and_nothing_else():
    """The state of 25 steps is as exact as the rounding of what goes into them, not worse with every step."""
    for cell in RECURRENT:
        short, long = (
            compare(cell, torch.float16, Case(20, 5, length, 3), DEVICE, one_program(20))
            for length in (2, 25)
        )
        assert max(short.values()) < 3e-3 and max(long.values()) < 3e-3
        assert long["state"] > 1e-6  # it is half precision that was compared


@on_triton
def test_the_check_that_a_benchmark_calls_passes_here():
    rows = self_check(DEVICE, [Case(20, 5, 7), Case(20, 5, 3, layers=2)])
    assert {(row["cell"], row["dtype"]) for row in rows} == {
        (cell, dtype) for cell in RECURRENT for dtype in ("float32", "float16", "bfloat16")
    }
    assert all(row["right"] for row in rows), rows
    json.dumps(rows)


@on_triton
@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize("embedding", [None, 6])
def test_symbols_are_looked_up(cell, embedding):
    torch.manual_seed(0)
    vocab, length, batch, hidden = 9, 5, 4, 18
    layer = CELLS[cell](embedding or vocab, hidden).to(DEVICE)
    ids = torch.randint(vocab, (length, batch), device=DEVICE)
    symbols = None if embedding is None else torch.randn(vocab, embedding, device=DEVICE, requires_grad=True)
    inputs = torch.nn.functional.one_hot(ids, vocab).float() if symbols is None else symbols[ids]
    wanted = [*layer.parameters(), *([] if symbols is None else [symbols])]
    state = layer.zero_state(batch)
    tiling = one_program(hidden)
    (mine,), _ = run_layers(cell, [layer], symbols, ids, [state], None, torch.float32, None, tiling)
    expected, _ = layer.reference(inputs, state)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)
    both = [torch.autograd.grad(outputs.square().sum(), wanted) for outputs in (mine, expected)]
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@on_triton
def test_without_gradients_nothing_is_kept_and_the_result_is_the_same():
    torch.manual_seed(0)
    layer = CELLS["gru"](4, 20).to(DEVICE)
    inputs, state = torch.randn(6, 5, 4, device=DEVICE), (torch.randn(5, 20, device=DEVICE),)
    results = []
    for keep in (True, False):
        with torch.set_grad_enabled(keep):
            args = (inputs, None, [state], None, torch.float32, None, one_program(20))
            results.append(run_layers("gru", [layer], *args))
    ((kept,), ((kept_after,),)), ((plain,), ((after,),)) = results
    assert kept.requires_grad and not plain.requires_grad
    assert torch.equal(kept, plain) and torch.equal(kept_after, after)


@on_triton
def test_gradients_are_made_once():
    layer = CELLS["lstm"](3, 8).to(DEVICE)
    inputs = torch.randn(2, 2, 3, device=DEVICE)
    args = (inputs, None, [layer.zero_state(2)], None, torch.float32, None, one_program(8))
    (outputs,), _ = run_layers("lstm", [layer], *args)
    outputs.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        outputs.sum().backward()


def as_program(number, window, gradients):
    """Run a window as one program of its launch, in a process of its own that shares the arrays."""
    from triton.runtime import interpreter

    class OneProgram(interpreter.GridExecutor):
        def __init__(self, fn, names, grid, hooks):
            super().__init__(fn, names, (1,), hooks)

        def _restore_args_dev(self, *arrays):
            """Write nothing back: the arrays are the others' too, who are still at work."""

    builder = interpreter.interpreter_builder
    builder.grid_dim = (window.tiling.slices(window.size), window.tiling.groups, window.layers)
    builder.set_grid_dim = lambda *dimensions: None
    builder.set_grid_idx = lambda *index: setattr(builder, "grid_idx", number)
    interpreter.GridExecutor = OneProgram
    window._nobody_arrived = lambda layers: None  # the parent did that, before anybody arrived
    window.backward(*gradients) if gradients else window.forward()


def at_the_same_time(window, gradients=()):
    window.counter.zero_()
    processes = [
        multiprocessing.get_context("fork").Process(target=as_program, args=((s, g, n), window, gradients))
        for s in range(window.tiling.slices(window.size))
        for g in range(window.tiling.groups)
        for n in range(window.layers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def window_of(cell, tiling, length=4, batch=20, hidden=24):
    torch.manual_seed(0)
    layers, gates = tiling.layers, {"lstm": 4, "gru": 3}[cell]
    bias = torch.randn(layers, 4 * hidden) if cell == "gru" or layers > 1 else None
    weight, weight_in = torch.randn(2, layers, gates * hidden, hidden) / hidden**0.5
    h, carried = torch.randn(2, layers, batch, hidden)
    gate_input, reset = torch.randn(length, batch, gates * hidden), torch.rand(length, batch) < 0.1
    upper = (weight_in[1:], bias) if layers > 1 else (None, bias)
    drop = torch.rand(layers - 1, length, batch, hidden) if layers > 1 else None
    window = Window(tiling, gate_input, weight, *upper, h, carried, reset, drop, keep=True)
    for array in vars(window).values():
        if isinstance(array, torch.Tensor):
            array.share_memory_()
    return window


@on_triton
@in_the_interpreter
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("cell", RECURRENT)
@pytest.mark.parametrize("layers", [1, 2])
def test_programs_at_work_at_the_same_time_wait_for_one_another(cell, layers):
    alone = window_of(cell, one_program(24, layers=layers))
    together = window_of(cell, Tiling(UNITS, 16, 16, groups=1, shared_bytes=1 << 20, layers=layers))
    assert (together.tiling.slices(24), together.tiling.tiles(20)) == (2, 2)
    alone.forward()
    at_the_same_time(together)
    for name in ("h", "state"):
        torch.testing.assert_close(getattr(together, name), getattr(alone, name), rtol=0, atol=2e-6)
    gradients = [torch.randn(layers, *shape).share_memory_() for shape in ((4, 20, 24), (20, 24))]
    expected_carry = gradients[1].clone()
    expected = alone.backward(gradients[0], expected_carry)
    at_the_same_time(together, gradients)
    torch.testing.assert_close(together.slots[:, :-1], expected, rtol=0, atol=5e-6)
    torch.testing.assert_close(gradients[1], expected_carry, rtol=0, atol=5e-6)


@on_triton
def test_a_compiler_for_hopper_and_ampere_keeps_the_weights_and_the_barrier(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "persistent.py"), "--hidden-size", "48"]
    command += ["--layers", "1", "3"]
    done = subprocess.run(
        [*command, "--capability", "80", "90"],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    kernels = {(row["capability"], row["cell"], row["kernel"], row["LAYERS"]) for row in rows}
    assert len(kernels) == len(rows) == 16
    for row in rows:
        products = 1 if row["LAYERS"] == 1 else 2
        assert row["barrier"] == ["acquire"] * products + ["release"]
        assert row["RESIDENT"] == row["CHUNKS"] * products
        operands = row["ROWS"] * row["DEPTH"] * 2
        assert row["weight_bytes"] + operands <= row["shared_bytes"]
        assert row["shared_bytes"] <= row["weight_bytes"] + operands + SLACK_BYTES


SHARED = 227 * 1024
"""Shared memory of a program on Hopper."""


def test_every_unit_and_every_row_belongs_to_one_program_and_its_weights_fit():
    for hidden in (1, 20, 64, 500, 768, 1024, 1840, 2048, 4096):
        for batch, layers in product((1, 16, 64, 100, 128, 512), (1, 2, 3)):
            tiling = choose(hidden, batch, 132, SHARED, 2, layers)
            slices, tiles = tiling.slices(hidden), tiling.tiles(batch)
            assert (slices - 1) * tiling.units < hidden <= slices * tiling.units
            assert (tiles - 1) * tiling.rows < batch <= tiles * tiling.rows
            assert 1 <= tiling.groups <= tiles and slices * tiling.groups * tiling.layers <= 132
            for backward in (False, True):
                assert shared_bytes(tiling, hidden, backward)[1] <= SHARED - SLACK_BYTES


def test_a_launch_takes_the_layers_that_there_are_programs_for():
    assert [choose(hidden, 128, 132, SHARED, 2, 3).layers for hidden in (64, 512, 1024, 1840)] == [3, 3, 2, 1]
    three = choose(512, 128, 132, SHARED, 2, 3)
    assert three.depth == 256
    for backward in (False, True):  # recurrent weights, and those that lead to the neighbour
        assert shared_bytes(three, 512, backward)[0] == 2 * 4 * 512 * 16 * 2


def shared_bytes(tiling, hidden, backward):
    """Bytes of weights that stay, and all: as the compiler lays them out, operands beside them."""
    found = tiling.constants(hidden, 4, 2, backward=backward)
    assert found["DEPTH"] * found["CHUNKS"] >= (4 * hidden if backward else hidden)
    chunk = found["DEPTH"] * tiling.units * (1 if backward else 4) * 2
    kept = found["RESIDENT"] * chunk
    all_stay = found["RESIDENT"] == found["CHUNKS"] * tiling.products
    return kept, kept + tiling.rows * tiling.depth * 2 + (0 if all_stay else chunk)


def test_all_weights_of_1024_units_stay_and_some_of_1840_do_not():
    small, large = (choose(hidden, 128, 132, SHARED, 2) for hidden in (1024, 1840))
    for backward in (False, True):
        assert shared_bytes(small, 1024, backward)[0] == 4 * 1024 * 16 * 2
        assert 0.6 < shared_bytes(large, 1840, backward)[0] / (4 * 1840 * 16 * 2) < 1


def test_a_machine_with_one_program_gives_it_everything():
    tiling = choose(20, 5, 1, 1 << 16, 4)
    assert (tiling.slices(20), tiling.groups) == (1, 1)


def test_what_cannot_run_says_why():
    assert "elman" in why_not("elman", DEVICE)
    if triton_version() == (0,):
        assert why_not("lstm", DEVICE) == "Triton is not installed"
        with pytest.raises(CharrnnError, match="Triton is not installed"):
            self_check(DEVICE)


def test_doctor_says_that_nothing_selects_them(monkeypatch):
    from charrnn.cli import doctor

    monkeypatch.setattr("charrnn.model.persistent.why_not", lambda cell, device: None)
    assert doctor._persistent(False) == "it could be tried here"
    monkeypatch.undo()
    assert doctor._persistent(False) == (why_not("lstm", torch.device("cpu")) or "it could be tried here")
    assert doctor._devices()["persistent recurrence"].startswith("selected by nothing; ")
