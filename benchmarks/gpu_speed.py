"""How fast, beside stock PyTorch at its best and beside what the device can do, in turns in one process.

A row stands with its peers: each task is repeated until a turn takes a while, turns alternate
(``charrnn/bench/timing.py``), and ratios are of the same round each. Peers are given what helps them: no
value is read from the device, and weights have 16 bits where torch's kernels want them (no fp32 copies, no
loss scaling).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from gpu_book import Point
from gpu_ours import GROUP, RATE, VOCAB_SIZE, Ours, random_ids, random_network
from gpu_parity import make_pieces
from gpu_timing import over, rated, timed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from charrnn.config import CELLS
from charrnn.devices import arithmetic
from charrnn.inspection.choice import add, scored_labels
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import ROWS, WINDOW, Recorded, Recorder, all_neurons
from charrnn.inspection.scores import Moments
from charrnn.model.network import Network
from charrnn.model.scoring import TextView, score
from charrnn.sampling.choice import SamplingConfig
from charrnn.sampling.device import CALL_CHARS, READ_CHARS, DeviceSampler
from charrnn.sampling.samplers import Draw
from charrnn.text.vocabulary import BOUNDARY, ESCAPE

STOCK = {"lstm": nn.LSTM, "gru": nn.GRU}
TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CLIP = 1.0
TRAININGS = {  # layers, H, B, T, embedding, V: then what is asked for, over stock, over the stack, chars/s
    "lstm 3x512": ((3, 512, 128, 256, 0, 65), (3.0, 1.5, 5e6)),
    "lstm 3x1024": ((3, 1024, 128, 256, 0, 65), (3.0, 1.5, 1.5e6)),
    "lstm 3x1840 awd": ((3, 1840, 128, 200, 400, 205), (2.0, None, 1e6)),
}
GRID = [(h, b) for h in (64, 128, 192, 256, 512, 768, 1024, 1536, 2048) for b in (8, 32, 128, 512)]
GRID_LENGTH = 64
RECURRENCES = [(h, b, 128) for h in (128, 256, 512, 1024, 2048) for b in (16, 128, 512)]
"""Where the persistent kernels, which nothing selects, stand beside torch's in a layer alone: H, B, T."""
WAVEFRONTS = [(h, 128, 256, 3) for h in (512, 1024)]
"""And several layers: H, B, T, layers."""
STREAMS = {1: 1e5, 64: None, 1024: 1e7, 4096: None}
"""Texts side by side, and the characters per second that are asked for."""
TEMPERATURE = 0.8
INSPECTED = (1_000_000, 512, 3, 40)
"""Characters, H, layers, hypotheses."""
RECORD_COST, SCORE_SECONDS = 1.15, 3.0


def speed_points(device: torch.device, rehearse: bool) -> Iterator[Point]:
    """Yield all rows, the most important ones first; a rehearsal meets nothing and misses nothing."""
    for point in _points(device, rehearse):
        yield point._replace(run=partial(_unjudged, point.run)) if rehearse else point


def _unjudged(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in run().items() if not name.startswith("met")}


def _points(device: torch.device, rehearse: bool) -> Iterator[Point]:
    spent = 0.0 if rehearse else 1.0
    for name, (sizes, asked) in TRAININGS.items():
        small = (sizes[0], 16, 8, 8, *sizes[4:]) if rehearse else sizes
        yield Point(
            f"training {name}",
            partial(time_training, device, "lstm", *small, seconds=12 * spent, asked=asked),
        )
    for streams, asked in STREAMS.items():
        sizes = (2, 16, min(streams, 4), CALL_CHARS) if rehearse else (3, 512, streams, READ_CHARS)
        run = partial(time_sampling, device, *sizes, seconds=6 * spent, asked=asked)
        yield Point(f"sampling lstm 3x512 {streams}", run)
    sizes = (600, 16, 2, 3) if rehearse else INSPECTED
    yield Point("inspection", partial(time_inspection, device, *sizes, seconds=20 * spent))
    sizes = (3_000, 16) if rehearse else (1_000_000, 512)
    yield Point("evaluation", partial(time_evaluation, device, *sizes, seconds=8 * spent))
    for cell in STOCK:
        for rows in (16, 128):
            sizes = (16, 4, 8) if rehearse else (768, rows, 1024)
            run = partial(time_recurrence, device, cell, *sizes, seconds=8 * spent)
            yield Point(f"recurrence {cell} 768 B{rows}", run)
    for cell in STOCK:
        for size, rows in GRID[:1] if rehearse else GRID:
            sizes = (1, 16, 4, 8, 0, VOCAB_SIZE) if rehearse else (1, size, rows, GRID_LENGTH, 0, VOCAB_SIZE)
            run = partial(time_training, device, cell, *sizes, seconds=1.5 * spent, asked=(1.0, None, None))
            yield Point(f"grid {cell} H{size} B{rows}", run)
    if rehearse or device.type != "cuda":
        return
    for cell in STOCK:
        for size, rows, *more in RECURRENCES + WAVEFRONTS:
            run = partial(time_recurrence, device, cell, size, rows, *more, seconds=2.0)
            yield Point(f"recurrence {cell} {'3x' if more[1:] else ''}{size} B{rows}", run)


def summary(points: dict[str, Any]) -> dict[str, Any]:
    """Return the geometric mean of the grid over stock in its best type, and its worst point."""
    ratios = {
        name: p["over_stock"] for name, p in points.items() if name.startswith("grid") and "over_stock" in p
    }
    if not ratios:
        return {}
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    worst = min(ratios, key=ratios.get)
    return {"grid_points": len(ratios), "grid_mean": mean, "grid_worst": [worst, ratios[worst]]}


# -- training ---------------------------------------------------------------------------------------


class Stock(nn.Module):
    """A character network as people write it: ``torch.nn``, all layers in one module or one module each.

    Args:
        cell: ``lstm`` or ``gru``.
        layers: L, then H, width of the embedding (0 is one-hot input) and V.
        apart: Whether each layer is a module of its own, which lets cuDNN keep fp16 weights on the chip.
    """

    def __init__(
        self, cell: str, layers: int, size: int, embedding: int, vocab_size: int, apart: bool
    ) -> None:
        super().__init__()
        # cuDNN's persistent kernel wants an input width that is a multiple of 128, too
        width = embedding or (-(-vocab_size // 128) * 128 if apart else vocab_size)
        self.symbols = nn.Embedding(vocab_size, width)
        if not embedding:
            self.symbols.weight.requires_grad_(False).copy_(torch.eye(vocab_size, width))
        kind, parts = STOCK[cell], layers if apart else 1
        self.layers = nn.ModuleList(kind(size if n else width, size, layers // parts) for n in range(parts))
        self.readout = nn.Linear(size, vocab_size)

    def forward(self, ids: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        """Return logits (T, B, V) and states for ids (T, B)."""
        hidden, after = self.symbols(ids), []
        for layer, state in zip(self.layers, states, strict=True):
            hidden, state = layer(hidden, state)
            after.append(state)
        return self.readout(hidden), after


class StockTraining:
    """Steps of a stock network: loss, gradients, clipping and fused AdamW; no value is read."""

    def __init__(
        self, device: torch.device, cell: str, sizes: Sequence[int], precision: str, apart: bool = False
    ) -> None:
        layers, size, rows, length, embedding, vocab_size = sizes
        self.network = Stock(cell, layers, size, embedding, vocab_size, apart).to(device, TYPES[precision])
        self.tf32, self.device = precision == "tf32", device
        ids = random_ids(rows, length + 1, vocab_size=vocab_size).t().contiguous().to(device)
        self.ids, self.targets = ids[:-1], ids[1:].flatten()
        self.states: list[Any] = [None] * len(self.network.layers)
        weights = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, RATE, fused=device.type == "cuda")
        self.weights = weights

    def step(self) -> None:
        """Do one step; the state is carried."""
        with arithmetic(self.device, "tf32" if self.tf32 else "fp32"):
            logits, states = self.network(self.ids, self.states)
            loss = cross_entropy(logits.flatten(0, 1).float(), self.targets)
            self.optimizer.zero_grad()
            loss.backward()
        self.states = [s.detach() if isinstance(s, Tensor) else tuple(p.detach() for p in s) for s in states]
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()


def time_training(
    device: torch.device, cell: str, *sizes: int, seconds: float, asked: tuple[float | None, ...]
) -> dict[str, Any]:
    """Time steps of training, ours beside stock in every type and the stack of single layers."""
    layers, size, rows, length, embedding, vocab_size = sizes
    more = {"embedding": embedding, "vocab_size": vocab_size}
    own: dict[str, Ours] = {}

    def ours(name: str, precision: str) -> Callable[[], object]:
        own[name] = Ours(cell, layers, size, rows, length, device, precision, group=GROUP, **more)
        return own[name].windows

    types = list(TYPES) if device.type == "cuda" else ["fp32"]
    ways: dict[str, Callable[[], Callable[[], object]]] = {"ours": partial(ours, "ours", "auto")}
    for precision in types:
        ways[f"stock {precision}"] = lambda p=precision: StockTraining(device, cell, sizes, p).step
    stack = types[-1]
    ways[f"stack {stack}"] = lambda: StockTraining(device, cell, sizes, stack, apart=True).step
    chars = {name: rows * length * (GROUP if name == "ours" else 1) for name in ways}
    row, timings = rated(device, ways, chars, seconds)
    stock = over(timings, "ours", [name for name in ways if name.startswith("stock")])
    stacked = over(timings, "ours", [f"stack {stack}"])
    row |= {"sizes": [cell, *sizes]}
    row |= {"path": own["ours"].path, "notices": own["ours"].notices} if own else {}
    found = [stock.get("median"), stacked.get("median"), row["per_second"].get("ours")]
    row |= {"stock": stock, "stack": stacked, "over_stock": found[0], "asked": asked}
    return row | {
        "met": all(f is not None and f >= a for f, a in zip(found, asked, strict=True) if a is not None)
    }


# -- the recurrence alone ---------------------------------------------------------------------------


def time_recurrence(
    device: torch.device, cell: str, size: int, rows: int, length: int, layers: int = 1, *, seconds: float
) -> dict[str, Any]:
    """Time layers forward and backward, per timestep: torch's in every type, and the persistent kernels.

    Torch's includes the product of its inputs, (T, B, H), and so does ours. Several layers of ours are a
    wavefront, and apart from it one launch each.
    """
    ways: dict[str, Callable[[], Callable[[], object]]] = {}
    for precision in list(TYPES) if device.type == "cuda" else ["fp32"]:
        ways[f"torch {precision}"] = partial(
            _torch_layers, device, cell, layers, size, rows, length, precision
        )
    if device.type == "cuda":
        for dtype, at_once in product((torch.bfloat16, torch.float16), {layers, 1}):
            name = f"persistent {str(dtype).removeprefix('torch.')}{' apart' if at_once < layers else ''}"
            sizes = (layers, at_once, size, rows, length)
            ways[name] = partial(_persistent_layers, device, cell, *sizes, dtype)
    row, timings = rated(device, ways, dict.fromkeys(ways, length), seconds)
    row |= {
        "sizes": [cell, size, rows, length, layers],
        "microseconds": {n: 1e6 / r for n, r in row["per_second"].items()},
    }
    others = [name for name in ways if name.startswith("torch")]
    own = "persistent bfloat16"
    row["persistent"] = over(timings, own, others)
    if own in row["microseconds"] and (size, rows) == (768, 16):
        row["met"] = row["microseconds"][own] <= 4.5
    return row


def _torch_layers(
    device: torch.device, cell: str, layers: int, size: int, rows: int, length: int, precision: str
) -> Callable[[], object]:
    dtype = TYPES[precision]
    layer = STOCK[cell](size, size, layers).to(device, dtype)
    inputs = torch.randn(length, rows, size, device=device, dtype=dtype).requires_grad_()
    gradient = torch.ones(length, rows, size, device=device, dtype=dtype)

    def work() -> None:
        with arithmetic(device, "tf32" if precision == "tf32" else "fp32"):
            layer(inputs)[0].backward(gradient)

    return work


def _persistent_layers(
    device: torch.device,
    cell: str,
    layers: int,
    at_once: int,
    size: int,
    rows: int,
    length: int,
    dtype: torch.dtype,
) -> Callable[[], object]:
    from charrnn.model.persistent import run_layers

    stack = [CELLS[cell](size, size).to(device) for _ in range(layers)]
    inputs = torch.randn(length, rows, size, device=device, dtype=dtype).requires_grad_()
    gradient = torch.ones(length, rows, size, device=device, dtype=dtype)
    state = stack[0].zero_state(rows)

    def work() -> None:
        read = inputs
        for n in range(0, layers, at_once):
            some = stack[n : n + at_once]
            (*_, read), _ = run_layers(cell, some, read, None, [state] * len(some), None, dtype)
        read.backward(gradient)

    return work


# -- sampling ---------------------------------------------------------------------------------------


class EagerSpeaker:
    """What people write, for many streams, and without reading a value: torch.nn, softmax, multinomial."""

    def __init__(self, device: torch.device, layers: int, size: int, streams: int) -> None:
        self.network = Stock("lstm", layers, size, 0, VOCAB_SIZE, False).to(device).eval()
        self.last = torch.full((1, streams), 2, device=device)
        self.states: list[Any] = [None]

    @torch.inference_mode()
    def draw(self, count: int) -> None:
        """Draw so many characters of each stream."""
        for _ in range(count):
            logits, self.states = self.network(self.last, self.states)
            p = torch.softmax(logits[0] / TEMPERATURE, 1)
            self.last = torch.multinomial(p, 1).t()


def time_sampling(
    device: torch.device,
    layers: int,
    size: int,
    streams: int,
    chars: int,
    *,
    seconds: float,
    asked: float | None,
) -> dict[str, Any]:
    """Time characters of all streams together: ours in fp32 and with TF32 products, and eager torch."""
    network = random_network("lstm", layers, size, gain=8.0).to(device)
    draw = Draw(SamplingConfig(TEMPERATURE), BOUNDARY, ESCAPE)
    eager = max(1, chars // 16)

    made: dict[bool, DeviceSampler] = {}

    def sampler(tf32: bool) -> Callable[[], object]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        made[tf32] = DeviceSampler(network, draw, 1, range(streams))
        made[tf32].draw(2 * CALL_CHARS)  # the second call is recorded, with these products
        torch.backends.cuda.matmul.allow_tf32 = False
        return lambda: made[tf32].draw(chars)

    def spoken() -> Callable[[], object]:
        speaker = EagerSpeaker(device, layers, size, streams)
        return lambda: speaker.draw(eager)

    ways: dict[str, Any] = {"ours": partial(sampler, False), "eager": spoken}
    if device.type == "cuda":
        ways["ours tf32"] = partial(sampler, True)
    amounts = {name: float(streams * (eager if name == "eager" else chars)) for name in ways}
    row, timings = rated(device, ways, amounts, seconds)
    rates = row["per_second"]
    row["not_recorded"] = [each.problem for each in made.values() if each.problem]
    row |= {"streams": streams, "over_eager": over(timings, "ours", ["eager"]), "asked": asked}
    if asked is None or "ours" not in rates:
        return row
    met_tf32 = rates.get("ours tf32", 0.0) >= asked
    return row | {"met": rates["ours"] >= asked, "met_with_tf32": met_tf32}


# -- inspection and evaluation ----------------------------------------------------------------------


def time_inspection(
    device: torch.device, chars: int, size: int, layers: int, hypotheses: int, *, seconds: float
) -> dict[str, Any]:
    """Time recording and scoring beside the plain forward pass over the same text and windows."""
    network = random_network("lstm", layers, size).to(device)
    rows = min(ROWS, max(2, chars // (2 * WINDOW)))
    pieces = make_pieces(rows, chars // rows, hypotheses)
    recorder = Recorder(network, np.arange(VOCAB_SIZE), all_neurons(network, "c"))
    kept = next(iter(recorder.read(pieces)))
    ids = torch.from_numpy(np.stack([p.places[: len(pieces[-1])] for p in pieces]).astype(np.int64)).to(
        device
    )
    total = float(sum(map(len, pieces)))
    works = {
        "forward": (partial(_read, network, ids, "fp32"), float(ids.numel())),
        "forward tf32": (partial(_read, network, ids, "tf32"), float(ids.numel())),
        "record": (lambda: [None for _ in recorder.read(pieces)], total),
        "score": (partial(_score, recorder, kept, pieces), float(kept.length.sum())),
    }
    timings = timed(device, works, seconds)
    score_seconds = chars / timings.rate("score")
    cost = timings.ratio("forward", "record")
    return {
        "chars": int(total),
        "neurons": len(recorder.neurons),
        "hypotheses": hypotheses,
        "rounds": timings.rounds,
        "per_second": {name: timings.rate(name) for name in works},
        "record_cost": asdict(cost),
        "score_seconds": score_seconds,
        "largest_error": recorder.largest_error,
        "asked": [RECORD_COST, SCORE_SECONDS],
        "met": cost.median <= RECORD_COST and score_seconds <= SCORE_SECONDS,
    }


@torch.inference_mode()
def _read(network: Network, ids: Tensor, precision: str) -> None:
    """Read the text on the fast path, in the windows in which it is recorded."""
    state = network.initial_state(len(ids))
    with arithmetic(ids.device, precision):
        for window in ids.split(WINDOW, dim=1):
            _, state = network.hidden(window, state)


def _score(recorder: Recorder, window: Recorded, pieces: Sequence[Piece]) -> None:
    """Correlate all neurons with all hypotheses over one window."""
    add(
        Moments(len(recorder.neurons), pieces[0].labels.shape[1], recorder.device),
        window,
        scored_labels(window, pieces),
    )


def time_evaluation(device: torch.device, symbols: int, size: int, *, seconds: float) -> dict[str, Any]:
    """Time scoring a text beside the plain forward pass."""
    network = random_network("lstm", 3, size).to(device)
    view = TextView(random_ids(symbols).numpy(), np.arange(VOCAB_SIZE), 0, symbols)
    ids = torch.from_numpy(view.places[: symbols // 64 * 64]).view(64, -1).to(device)
    works = {
        "forward": (partial(_read, copy.deepcopy(network), ids, "fp32"), float(ids.numel())),
        "evaluate": (lambda: [None for _ in score(network, view)], float(symbols)),
    }
    timings = timed(device, works, seconds)
    cost = asdict(timings.ratio("forward", "evaluate"))
    return {"symbols": symbols, "per_second": {n: timings.rate(n) for n in works}, "cost": cost}


# -- the device's peaks -----------------------------------------------------------------------------


def peaks(device: torch.device, rehearse: bool) -> dict[str, float]:
    """Return what the device multiplies, copies and starts per second, 10^12, 10^9 and in microseconds."""
    size, length = (64, 2**12) if rehearse else (8192, 2**31)
    works: dict[str, tuple[Callable[[], object], float]] = {}
    for name, dtype in TYPES.items():
        if device.type == "cpu" and name != "fp32":
            continue
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        works[f"matmul {name}"] = (partial(_product, a, b, name == "tf32"), 2.0 * size**3 / 1e12)
    source = torch.ones(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    works["copy"] = (lambda: target.copy_(source), 2.0 * length / 1e9)
    one = torch.zeros(1, device=device)
    works["launch"] = (lambda: one.add_(1.0), 1e-6)
    timings = timed(device, works, 0.0 if rehearse else 4.0)
    rates = {name: timings.rate(name) for name in works if name != "launch"}
    return rates | {"launch": 1 / timings.rate("launch")}


def _product(a: Tensor, b: Tensor, tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a @ b
    torch.backends.cuda.matmul.allow_tf32 = False
