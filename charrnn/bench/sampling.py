"""``charrnn bench sample``: characters per second, beside stepping ``torch.nn`` and reading memory."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from charrnn.bench.check import check_greedy, lively
from charrnn.bench.machine import GIGA, facts, load, matmul, reading, torch_threads, using_onednn
from charrnn.bench.roofline import Point, Roofline
from charrnn.bench.stock import LAYERS, StockNetwork, random_network
from charrnn.bench.timing import Spread, Task, Timings, measure
from charrnn.bench.training import SECONDS, Shape
from charrnn.model.network import Network
from charrnn.native import library
from charrnn.sampling.choice import SamplingConfig
from charrnn.sampling.samplers import Draw, NumpySampler, Sampler, make_sampler
from charrnn.sampling.speaker import network_weights, round_network
from charrnn.text.vocabulary import BOUNDARY, ESCAPE

CHARS = 256
"""Characters of one call, as when a text is written."""
TEMPERATURE = 0.8
STREAMS = 64
TASK_SECONDS = 0.1
"""Slower ways draw fewer characters at a time: about so long, at least ``TRIAL_CHARS``."""
TRIAL_CHARS = 8
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
SHAPES = tuple(Shape(cell, size, layers, 1, 1) for cell in LAYERS for size, layers in ((128, 2), (512, 3)))
ONEDNN, PLAIN = "torch oneDNN", "torch"


@dataclass(frozen=True)
class Way:
    """A way to sample.

    Args:
        name: What it is called.
        precision: How weights are stored.
        streams: Texts side by side.
        threads: As many take part.
        draw: Draws so many characters of each stream.
        whole: Whether calls are of ``CHARS`` characters, however long they take.
    """

    name: str
    precision: str
    streams: int
    threads: int
    draw: Callable[[int], object]
    whole: bool = False


@dataclass(frozen=True)
class SampleRow:
    """One way to sample from one network.

    Args:
        cell: Of the network.
        hidden_size: H.
        num_layers: L.
        way: Its name.
        precision: How weights are stored.
        streams: Texts side by side.
        threads: Threads it may use; numpy's matrix products follow their own.
        rounds: Rounds measured.
        chars_per_second: Of all streams together, drawing included; median.
        ratio_onednn: How many times as fast as stepping ``torch.nn`` with oneDNN, of the same round each.
        ratio_plain: The same without oneDNN.
        gflops: Useful work per second, 10^9.
        gb_per_second: Weights read per second, 10^9 bytes.
        read_gb_per_second: Of a buffer as large as the weights, by one thread, the fastest of some tries in
            every round.
        share_of_bandwidth: Of both, per round; median. None for many streams, which wait for arithmetic.
        intensity: Operations per byte of weights.
    """

    cell: str
    hidden_size: int
    num_layers: int
    way: str
    precision: str
    streams: int
    threads: int
    rounds: int
    chars_per_second: float
    ratio_onednn: Spread
    ratio_plain: Spread
    gflops: float
    gb_per_second: float
    read_gb_per_second: float
    share_of_bandwidth: float | None
    intensity: float


@dataclass(frozen=True)
class SampleBench:
    """All rows, the machine, and its matmul peak with all threads."""

    machine: dict[str, Any]
    matmul_gflops: float
    rows: tuple[SampleRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        data = {"matmul_gflops": self.matmul_gflops, "rows": [asdict(row) for row in self.rows]}
        return self.machine | data

    def roofline(self) -> Roofline:
        """Return where the rows stand below what the machine can do."""
        points = [
            Point(
                f"{_model(r)} {r.way.removeprefix('charrnn ')}",
                r.cell,
                r.intensity,
                r.gflops,
                r.ratio_plain.median,
            )
            for r in self.rows
        ]
        reads = {f"{_model(r)} {r.precision}": r.read_gb_per_second for r in self.rows}
        return Roofline(points, self.matmul_gflops, reads)


def _model(row: SampleRow) -> str:
    return f"{row.cell} {row.num_layers}×{row.hidden_size}"


def bench_sample(
    shapes: Sequence[Shape] = SHAPES,
    rounds: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> SampleBench:
    """Measure sampling on the CPU.

    Args:
        shapes: One network each; batch and window are not used.
        rounds: Rounds per network; None takes about a minute for all.
        progress: Told what is being done.

    Raises:
        CharrnnError: A sampler does not write what ``torch.nn`` would.
    """
    record, rows, peaks = facts(), [], []
    threads = torch.get_num_threads()
    with torch_threads(1), torch.inference_mode():
        for shape in shapes:
            progress(f"checking {shape.cell} {shape.num_layers}×{shape.hidden_size} against torch.nn")
            _check(shape)
        for shape in shapes:
            progress(f"timing {shape.cell} {shape.num_layers}×{shape.hidden_size}")
            ways = _ways(_network(shape), threads)
            timings = measure(_tasks(shape, ways, threads), rounds, SECONDS / len(shapes))
            rows += [_row(shape, way, timings) for way in ways]
            peaks.append(timings.rate("matmul") / GIGA)
    return SampleBench(record | {"load_after": load()}, max(peaks), tuple(rows))


def _network(shape: Shape) -> Network:
    return random_network(shape.cell, shape.hidden_size, shape.num_layers).eval()


def _precisions() -> list[str]:
    return list(BYTES) if library() else []


def _check(shape: Shape) -> None:
    greedy, network = Draw(SamplingConfig(0.0), BOUNDARY, BOUNDARY), lively(_network(shape))
    check_greedy(NumpySampler(network_weights(network), greedy), network, "numpy")
    for precision in _precisions():
        sampler = make_sampler(network_weights(network), greedy, precision)
        stored = copy.deepcopy(network)
        round_network(stored, precision)
        check_greedy(sampler, stored, precision)


def _ways(network: Network, threads: int) -> list[Way]:
    draw, weights = Draw(SamplingConfig(TEMPERATURE), BOUNDARY, ESCAPE), network_weights(network)
    ways = []
    for precision in _precisions():
        sampler = make_sampler(weights, draw, precision)
        ways.append(Way(f"charrnn {precision}", precision, 1, 1, _drawing(sampler, 1, 1), whole=True))
    if _precisions():
        many = make_sampler(weights, draw, streams=STREAMS)
        ways.append(
            Way(f"charrnn {STREAMS} texts", "fp32", STREAMS, threads, _drawing(many, STREAMS, threads))
        )
    ways.append(Way("charrnn numpy", "fp32", 1, 1, _drawing(NumpySampler(weights, draw), 1, 1)))
    for name, onednn in ((ONEDNN, True), (PLAIN, False)):
        ways.append(Way(name, "fp32", 1, 1, _StockSpeaker(network, onednn).draw))
    return ways


def _drawing(sampler: Sampler, streams: int, threads: int) -> Callable[[int], object]:
    random = np.random.default_rng(1)
    return lambda chars: sampler.draw(random.random((streams, chars)), threads)


class _StockSpeaker:
    """What people write: one character at a time through ``torch.nn``, softmax, multinomial."""

    def __init__(self, network: Network, onednn: bool) -> None:
        self.network, self.state, self.last = StockNetwork(network).eval(), None, 2
        self.onednn = onednn and torch.backends.mkldnn.is_available()

    def draw(self, chars: int) -> None:
        with using_onednn(self.onednn):
            for _ in range(chars):
                logits, self.state = self.network(torch.tensor([[self.last]]), self.state)
                p = torch.softmax(logits[0, 0] / TEMPERATURE, 0)
                self.last = int(torch.multinomial(p, 1))


def _tasks(shape: Shape, ways: Sequence[Way], threads: int) -> list[Task]:
    tasks = []
    for way in ways:
        chars = CHARS if way.whole else _fitting(way.draw)
        tasks.append(Task(way.name, _fixed(way.draw, chars), way.streams * chars))
    for precision in {way.precision for way in ways}:
        tasks.append(reading(BYTES[precision] * shape.weights, f"read {precision}"))
    peak = matmul()
    return [*tasks, replace(peak, run=_threaded(peak.run, threads))]


def _fitting(draw: Callable[[int], object]) -> int:
    """Return how many characters are drawn in about ``TASK_SECONDS``."""
    draw(1)
    begun = time.perf_counter()
    draw(TRIAL_CHARS)
    taken = (time.perf_counter() - begun) / TRIAL_CHARS
    return int(np.clip(TASK_SECONDS / taken, TRIAL_CHARS, CHARS))


def _fixed(draw: Callable[[int], object], chars: int) -> Callable[[], object]:
    return lambda: draw(chars)


def _threaded(run: Callable[[], object], threads: int) -> Callable[[], None]:
    def threaded() -> None:
        with torch_threads(threads):
            run()

    return threaded


def _row(shape: Shape, way: Way, timings: Timings) -> SampleRow:
    rate, read = timings.rate(way.name), f"read {way.precision}"
    per_char = BYTES[way.precision] * shape.weights / way.streams
    share = per_char * timings.ratio(way.name, read).median
    return SampleRow(
        cell=shape.cell,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        way=way.name,
        precision=way.precision,
        streams=way.streams,
        threads=way.threads,
        rounds=timings.rounds,
        chars_per_second=rate,
        ratio_onednn=timings.ratio(way.name, ONEDNN),
        ratio_plain=timings.ratio(way.name, PLAIN),
        gflops=2 * shape.weights * rate / GIGA,
        gb_per_second=per_char * rate / GIGA,
        read_gb_per_second=timings.rate(read) / GIGA,
        share_of_bandwidth=share if way.streams == 1 else None,
        intensity=2 * shape.weights / per_char,
    )
