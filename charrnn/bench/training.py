"""``charrnn bench train``: a window and a whole step, beside ``torch.nn`` and the matmul peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from charrnn.bench.check import check_window
from charrnn.bench.machine import GIGA, LARGE_BYTES, facts, load, matmul, reading
from charrnn.bench.roofline import Point, Roofline
from charrnn.bench.stock import LAYERS, VOCAB_SIZE, StockNetwork, random_ids, random_network
from charrnn.bench.timing import Spread, Task, Timings, measure
from charrnn.config import Range
from charrnn.errors import ConfigError
from charrnn.model.network import Network
from charrnn.native import CELLS as GATES
from charrnn.training.updates import AdamW, clip_gradients

SECONDS = 50.0
"""Time for all rows where no number of rounds is asked for; with the checks, and rows that need more for
their least rounds, about a minute."""
CLIP, RATE = 1.0, 1e-4
TURN_SECONDS, MOST_WINDOWS = 0.1, 10
"""Windows follow each other for about so long before another's turn, as they do in training: what memory a
window frees and the next one takes is part of its time."""


@dataclass(frozen=True)
class Shape:
    """What is trained: the cell, H, L, B and T."""

    cell: str
    hidden_size: int
    num_layers: int
    batch_size: int
    seq_len: int

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "batch_size", "seq_len"):
            value, allowed = getattr(self, name), Range(1, 65536)
            if value not in allowed:
                raise ConfigError(f"`--{name.replace('_', '-')}` is `{value}`, but must be {allowed}")

    @property
    def chars(self) -> int:
        """Characters in a window."""
        return self.batch_size * self.seq_len

    @property
    def weights(self) -> int:
        """Weights that are multiplied with: those of the first layer's input are looked up."""
        return self.recurrent_weights + VOCAB_SIZE * self.hidden_size

    @property
    def recurrent_weights(self) -> int:
        """The same without the readout's."""
        return GATES[self.cell][1] * self.hidden_size**2 * (2 * self.num_layers - 1)

    @property
    def flops_per_char(self) -> float:
        """Operations that a window cannot do without: products forward, and both ways backward."""
        return 6.0 * self.weights

    @property
    def bytes_per_window(self) -> float:
        """Bytes that a window cannot do without: weights read twice and their gradients written, gates
        and states written and read, fp32."""
        kept = self.chars * (self.num_layers * (GATES[self.cell][1] + 2) * self.hidden_size + VOCAB_SIZE)
        return 4.0 * (3 * self.weights + 2 * kept)


SHAPES = tuple(
    Shape(cell, *sizes)
    for cell in LAYERS
    for sizes in ((128, 2, 16, 64), (128, 2, 50, 50), (256, 1, 16, 64), (512, 3, 32, 64))
)
GRID = tuple(
    Shape(cell, size, 1, rows, 64)
    for cell in LAYERS
    for size in (64, 128, 256, 512, 1024)
    for rows in (8, 16, 32, 64, 128)
)


@dataclass(frozen=True)
class TrainRow:
    """One shape. Ratios are how many times as fast as ``torch.nn``, of the same round each.

    Args:
        shape: What was trained.
        rounds: Rounds measured.
        max_error: Largest relative error of the loss and the gradients against ``torch.nn``.
        chars_per_second: Of forward, loss and backward; median.
        torch_chars_per_second: The same of ``torch.nn``.
        ratio: Of both.
        step_chars_per_second: With clipping and AdamW.
        torch_step_chars_per_second: The same of ``torch.nn`` and ``torch.optim``.
        step_ratio: Of both.
        gflops: Useful work per second, 10^9.
        matmul_gflops: Of the fastest of a few matrix products with as many threads, between the others.
        share_of_peak: Of both, per round; median.
        read_gb_per_second: Of a buffer that no cache holds, with as many threads, the fastest of some tries.
    """

    shape: Shape
    rounds: int
    max_error: float
    chars_per_second: float
    torch_chars_per_second: float
    ratio: Spread
    step_chars_per_second: float
    torch_step_chars_per_second: float
    step_ratio: Spread
    gflops: float
    matmul_gflops: float
    share_of_peak: float
    read_gb_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, those of the shape beside the others."""
        data = asdict(self)
        return data.pop("shape") | data


@dataclass(frozen=True)
class TrainBench:
    """All rows, and the machine."""

    machine: dict[str, Any]
    rows: tuple[TrainRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return self.machine | {"rows": [row.to_json() for row in self.rows]}

    def roofline(self) -> Roofline:
        """Return where the rows stand below what the machine can do."""
        points = [
            Point(_label(r.shape), r.shape.cell, _intensity(r.shape), r.gflops, r.ratio.median)
            for r in self.rows
        ]
        peak = max(row.matmul_gflops for row in self.rows)
        return Roofline(points, peak, {"memory": max(row.read_gb_per_second for row in self.rows)})


def _label(shape: Shape) -> str:
    return f"{shape.cell} {shape.num_layers}×{shape.hidden_size} B{shape.batch_size}"


def _intensity(shape: Shape) -> float:
    return shape.flops_per_char * shape.chars / shape.bytes_per_window


def bench_train(
    shapes: Sequence[Shape] = SHAPES,
    rounds: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainBench:
    """Measure training on the CPU.

    Args:
        shapes: One row each.
        rounds: Rounds per row; None takes about a minute for all.
        progress: Told what is being done.

    Raises:
        CharrnnError: A loss or a gradient is not that of ``torch.nn``.
    """
    record, errors = facts(), []
    for shape in shapes:
        progress(f"checking {_label(shape)} against torch.nn")
        errors.append(check_window(_network(shape), shape.batch_size, shape.seq_len))
    rows = []
    for shape, error in zip(shapes, errors, strict=True):
        progress(f"timing {_label(shape)}")
        rows.append(_row(shape, error, measure(_tasks(shape), rounds, SECONDS / len(shapes))))
    return TrainBench(record | {"load_after": load()}, tuple(rows))


def _network(shape: Shape) -> Network:
    return random_network(shape.cell, shape.hidden_size, shape.num_layers)


def _tasks(shape: Shape) -> list[Task]:
    tasks = []
    for side in (_Ours, _Torch):
        trained = side(_network(shape), shape)
        trained.step()
        begun = time.perf_counter()
        trained.step()
        count = max(1, min(MOST_WINDOWS, int(TURN_SECONDS / (time.perf_counter() - begun))))
        tasks += [Task(side.name, _times(count, trained.window), count * shape.chars)]
        tasks += [Task(f"{side.name} step", _times(count, trained.step), count * shape.chars)]
    return [*tasks, matmul(), reading(LARGE_BYTES, threads=torch.get_num_threads())]


def _times(count: int, work: Callable[[], None]) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(count):
            work()

    return turn


def _row(shape: Shape, error: float, timings: Timings) -> TrainRow:
    ours = timings.rate("ours")
    return TrainRow(
        shape=shape,
        rounds=timings.rounds,
        max_error=error,
        chars_per_second=ours,
        torch_chars_per_second=timings.rate("torch"),
        ratio=timings.ratio("ours", "torch"),
        step_chars_per_second=timings.rate("ours step"),
        torch_step_chars_per_second=timings.rate("torch step"),
        step_ratio=timings.ratio("ours step", "torch step"),
        gflops=ours * shape.flops_per_char / GIGA,
        matmul_gflops=timings.rate("matmul") / GIGA,
        share_of_peak=shape.flops_per_char * timings.ratio("ours", "matmul").median,
        read_gb_per_second=timings.rate("read") / GIGA,
    )


class _Ours:
    """Our network, state carried from window to window."""

    name = "ours"

    def __init__(self, network: Network, shape: Shape) -> None:
        ids = random_ids(shape.batch_size, shape.seq_len + 1)
        self.ids, self.targets = ids[:, :-1], ids[:, 1:]
        self.network, self.state = network, network.initial_state(shape.batch_size)
        self.optimizer = AdamW(network.parameters(), RATE)

    def window(self) -> None:
        """Go forward and backward to all weights."""
        loss, state = self.network.loss(self.ids, self.targets, self.state)
        self.optimizer.zero_grad()
        loss.backward()
        self.state = tuple(tuple(part.detach() for part in layer) for layer in state)

    def step(self) -> None:
        """Do the same, clip and update."""
        self.window()
        clip_gradients(self.network.parameters(), CLIP)
        self.optimizer.step()


class _Torch:
    """``torch.nn``, the same."""

    name = "torch"

    def __init__(self, network: Network, shape: Shape) -> None:
        ids = random_ids(shape.batch_size, shape.seq_len + 1).t().contiguous()
        self.ids, self.targets = ids[:-1], ids[1:].flatten()
        self.network, self.state = StockNetwork(network), None
        self.optimizer = torch.optim.AdamW(self.network.parameters(), RATE, fused=True)

    def window(self) -> None:
        """Go forward and backward to all weights."""
        logits, state = self.network(self.ids, self.state)
        loss = cross_entropy(logits.flatten(0, 1), self.targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.state = state.detach() if isinstance(state, torch.Tensor) else tuple(s.detach() for s in state)

    def step(self) -> None:
        """Do the same, clip and update."""
        self.window()
        clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
