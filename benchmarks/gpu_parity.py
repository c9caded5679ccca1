"""Every path of a device beside the same on the CPU: training, sampling, evaluation, inspection.

What is right is double precision on the CPU for losses and gradients, the samplers of the CPU for text, and
fp32 on the CPU for costs and activations. A point says what it found, what is allowed, and whether that is
``right``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from gpu_book import Point, wait
from gpu_ours import VOCAB_SIZE, Ours, random_ids, random_network

from charrnn.devices import arithmetic
from charrnn.errors import ConfigError
from charrnn.inspection.choice import choose
from charrnn.inspection.null import swap_null
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.model.network import Network
from charrnn.model.paths import choose_path, find_gpu
from charrnn.model.scoring import TextView, score
from charrnn.sampling.choice import SamplingConfig, next_probabilities
from charrnn.sampling.device import CALL_CHARS, DeviceSampler
from charrnn.sampling.philox import Philox
from charrnn.sampling.samplers import Draw, NumpySampler
from charrnn.sampling.speaker import network_weights
from charrnn.text.vocabulary import BOUNDARY, ESCAPE

CELLS = ("lstm", "gru", "elman", "elman_relu")
CONFIGS = {
    "greedy": SamplingConfig(0.0),
    "plain": SamplingConfig(1.0),
    "thinned": SamplingConfig(0.8, top_k=40, top_p=0.95, min_p=0.01),
}
TIE = 1e-4
"""Texts may part where the uniform number lies so close to the border of two symbols."""
ALLOWED = {"fp32": 2e-5, "tf32": 5e-3, "fp16": 1e-2, "bf16": 8e-2}
"""Largest error of the loss and of any gradient, relative to its norm."""
WINDOWS = (  # cell, layers, H, B, T
    ("lstm", 1, 64, 8, 32),
    ("lstm", 2, 128, 50, 50),
    ("lstm", 1, 150, 50, 32),
    ("lstm", 3, 512, 128, 32),
    ("lstm", 1, 650, 20, 35),
    ("lstm", 2, 1024, 128, 16),
    ("lstm", 1, 1840, 128, 16),
    ("gru", 1, 150, 50, 32),
    ("gru", 2, 512, 64, 32),
    ("elman", 2, 256, 32, 32),
    ("elman_relu", 1, 256, 32, 32),
    ("mingru", 2, 256, 32, 64),
    ("minlstm", 2, 256, 32, 64),
    ("jordan", 1, 64, 8, 16),
)
TINY_WINDOWS = (("lstm", 2, 24, 5, 9), ("gru", 1, 24, 5, 9), ("minlstm", 1, 8, 3, 9))
EVALUATED = {False: (200_000, 256), True: (3_000, 12)}
"""Symbols that are scored and H, in truth and rehearsed."""


def parity_points(device: torch.device, rehearse: bool) -> Iterator[Point]:
    """Yield all that can be compared on a device."""
    yield Point("random numbers", partial(compare_numbers, device))
    for cell in CELLS[: 1 if rehearse else None]:
        for name, config in CONFIGS.items():
            sizes = (2, 24, 2, CALL_CHARS) if rehearse else (3, 512, 8, 8 * CALL_CHARS)
            yield Point(f"sampling {cell} {name}", partial(compare_text, device, cell, config, *sizes))
    if not rehearse:
        run = partial(compare_text, device, "lstm", CONFIGS["plain"], 2, 128, 1024, 2 * CALL_CHARS)
        yield Point("sampling 1024 streams", run)
    for cell, *sizes in TINY_WINDOWS if rehearse else WINDOWS:
        for documents in (False, True):
            for precision in ALLOWED if device.type == "cuda" else ("fp32",):
                name = f"training {cell} {'x'.join(map(str, sizes))} {precision}"
                run = partial(compare_window, device, cell, *sizes, precision, documents)
                yield Point(name + (" documents" if documents else ""), run)
    for precision in ("fp32", "auto"):
        yield Point(f"steps {precision}", partial(compare_steps, device, precision, rehearse))
    for cell in CELLS[: 2 if rehearse else None]:
        yield Point(f"evaluation {cell}", partial(compare_costs, device, cell, *EVALUATED[rehearse]))
        yield Point(f"inspection {cell}", partial(compare_recording, device, cell, rehearse))
    yield Point("label swaps", partial(compare_swaps, device, rehearse))
    yield from persistent_points(device, rehearse)


# -- sampling ---------------------------------------------------------------------------------------


def compare_numbers(device: torch.device) -> dict[str, Any]:
    """Compare a million random numbers, bit by bit."""
    seed, streams, blocks = 2**63 + 5, [0, 1, 4095], 80_000
    found = Philox(seed, streams, device).uniforms(torch.arange(blocks, device=device)).t().cpu().numpy()
    keys = [np.array([seed, stream], dtype=np.uint64) for stream in streams]
    right = np.stack([np.random.Generator(np.random.Philox(key=key)).random(4 * blocks) for key in keys])
    return {
        "numbers": right.size,
        "different": int((found != right).sum()),
        "right": bool((found == right).all()),
    }


def compare_text(
    device: torch.device, cell: str, config: SamplingConfig, layers: int, size: int, count: int, chars: int
) -> dict[str, Any]:
    """Compare what streams say, captured calls and all, with the numpy sampler."""
    network = random_network(cell, layers, size, gain=8.0)
    streams, draw = range(count), Draw(config, BOUNDARY, ESCAPE)
    keys = [np.array([7, stream], dtype=np.uint64) for stream in streams]
    uniforms = np.stack([np.random.Generator(np.random.Philox(key=key)).random(chars) for key in keys])
    here = NumpySampler(network_weights(network), draw, streams=len(keys)).draw(uniforms)
    there = DeviceSampler(copy.deepcopy(network).to(device), draw, 7, streams).draw(chars)
    gaps = [
        _gap(network, config, *rows)
        for rows in zip(here, there, uniforms, strict=True)
        if (rows[0] != rows[1]).any()
    ]
    return {
        "streams": len(keys),
        "chars": chars,
        "different_streams": len(gaps),
        "largest_gap": max(gaps, default=0.0),
        "allowed": TIE,
        "right": max(gaps, default=0.0) < TIE,
    }


@torch.inference_mode()
def _gap(
    network: Network, config: SamplingConfig, here: np.ndarray, there: np.ndarray, uniforms: np.ndarray
) -> float:
    """Return how far from a tie two texts part: a difference of probabilities, or of logits if greedy."""
    at = int(np.flatnonzero(here != there)[0])
    read = torch.from_numpy(np.append(BOUNDARY, here[:at]))[None]
    exact = copy.deepcopy(network).double()
    logits = exact(read, exact.initial_state(1))[0][0, -1].numpy()
    logits[ESCAPE] = -np.inf
    if read[0, -1] == BOUNDARY:
        logits[BOUNDARY] = -np.inf
    if config.temperature == 0:
        return float(abs(logits[here[at]] - logits[there[at]]))
    ends = np.cumsum(next_probabilities(logits, config))
    low, high = sorted((int(here[at]), int(there[at])))
    return float(np.abs(ends[low:high] - uniforms[at]).max())


# -- training ---------------------------------------------------------------------------------------


def compare_window(
    device: torch.device,
    cell: str,
    layers: int,
    size: int,
    rows: int,
    length: int,
    precision: str,
    documents: bool,
) -> dict[str, Any]:
    """Compare the loss and all gradients of a window on the path that the dispatcher takes."""
    network = random_network(cell, layers, size)
    try:
        path = choose_path(network.config, rows, precision, find_gpu(device))
    except ConfigError as problem:
        return {"skipped": str(problem)}
    ids, right = _right(cell, layers, size, rows, length, documents)
    found = _gradients(copy.deepcopy(network).to(device), ids, path, device)
    errors = {name: _error(found[name], value) for name, value in right.items()}
    worst = max(errors, key=errors.get)
    allowed = ALLOWED[path.precision]
    shown = {"path": path.words(size, rows), "precision": path.precision, "loss_error": errors["loss"]}
    return shown | {
        "worst": worst,
        "largest_error": errors[worst],
        "allowed": allowed,
        "right": errors[worst] <= allowed,
    }


@lru_cache(maxsize=1)
def _right(
    cell: str, layers: int, size: int, rows: int, length: int, documents: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return ids (B, T + 1), and their loss and gradients in double precision."""
    ids = random_ids(rows, length + 1)
    if documents:
        ids[::2, length // 2] = BOUNDARY
    return ids, _gradients(random_network(cell, layers, size).double(), ids, None, torch.device("cpu"))


def _gradients(
    network: Network, ids: torch.Tensor, path: Any, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return the loss and all gradients of a window from a state of zeros."""
    ids = ids.to(device)
    state = network.train().initial_state(len(ids))
    scale = 2.0**16 if path is not None and path.precision == "fp16" else 1.0
    with arithmetic(device, "fp32" if path is None else path.precision):
        loss, _ = network.loss(ids[:, :-1], ids[:, 1:], state, None, path)
        (loss * scale).backward()
    found = {
        name: p.grad.cpu().double() / scale for name, p in network.named_parameters() if p.grad is not None
    }
    return {"loss": loss.detach().cpu().double()} | found


def _error(found: torch.Tensor, right: torch.Tensor) -> float:
    error = float((found - right).norm() / right.norm().clamp(min=1e-30))
    return error if error == error else float("inf")


def compare_steps(device: torch.device, precision: str, rehearse: bool) -> dict[str, Any]:
    """Compare the losses of steps that a graph replays with the same steps one by one, and on the CPU."""
    sizes = ("lstm", 2, 24, 8, 16) if rehearse else ("lstm", 2, 256, 32, 64)
    steps = 6 if rehearse else 24
    runs = {
        "replayed": Ours(*sizes, device, precision),
        "one by one": Ours(*sizes, device, precision, recorded=False),
        "cpu": Ours(*sizes, torch.device("cpu"), "fp32", recorded=False),
    }
    losses = {name: np.array([float(run.windows()) for _ in range(steps)]) for name, run in runs.items()}
    graph = float(np.abs(losses["replayed"] - losses["one by one"]).max())
    cpu = float(np.abs(losses["replayed"] - losses["cpu"]).max())
    allowed = {"graph": 1e-4, "cpu": 1e-3 if precision == "fp32" else 3e-2}
    found = {"steps": steps, "path": runs["replayed"].path, "graph_error": graph, "cpu_error": cpu}
    found |= {"notices": runs["replayed"].notices, "last_loss": float(losses["replayed"][-1])}
    return found | {"allowed": allowed, "right": graph <= allowed["graph"] and cpu <= allowed["cpu"]}


# -- evaluation and inspection ----------------------------------------------------------------------


def compare_costs(device: torch.device, cell: str, symbols: int, size: int) -> dict[str, Any]:
    """Compare the cost of every symbol of a text."""
    places = random_ids(symbols).numpy()
    places[:: symbols // 5] = BOUNDARY
    view = TextView(places, np.arange(VOCAB_SIZE), 0, symbols)
    network = random_network(cell, 2, size, gain=8.0)
    here = _costs(network, view)
    there = _costs(copy.deepcopy(network).to(device), view)
    error = float(np.abs(here - there).max())
    found = {
        "symbols": symbols,
        "loss": float(here.mean()),
        "loss_error": float(abs(here.mean() - there.mean())),
    }
    return found | {"largest_error": error, "allowed": 1e-3, "right": error <= 1e-3}


def _costs(network: Network, view: TextView) -> np.ndarray:
    costs = np.zeros(len(view))
    for window in score(network, view):
        counted = window.place != BOUNDARY
        costs[window.index[counted]] = window.nats[counted]
    return costs


def make_pieces(rows: int, chars: int, hypotheses: int) -> list[Piece]:
    """Return pieces of random text with random labels, as inspection reads them."""
    random = np.random.default_rng(1)
    pieces = []
    for number in range(rows):
        places = random_ids(chars - 7 * number).numpy().astype(np.uint8)
        labels = (random.random((len(places), hypotheses)) < 0.2).astype(np.float32)
        pieces.append(Piece("x" * len(places), places, labels, 10 * (number % 2), number, 0, True))
    return pieces


def compare_recording(device: torch.device, cell: str, rehearse: bool) -> dict[str, Any]:
    """Compare all that a network does, and the correlations that follow, over some text."""
    rows, chars, size = (3, 120, 12) if rehearse else (16, 1500, 256)
    network, pieces = random_network(cell, 2, size), make_pieces(rows, chars, 5)
    kinds = (*network.layers[0].state_names, *network.layers[0].gate_names)
    neurons = [neuron for kind in kinds for neuron in all_neurons(network, kind)]
    recorders = [
        Recorder(n, np.arange(VOCAB_SIZE), neurons) for n in (network, copy.deepcopy(network).to(device))
    ]
    values = [raw_values(recorder, pieces) for recorder in recorders]
    error = max(float(np.abs(a - b).max()) for a, b in zip(*values, strict=True))
    r = [choose(recorder, pieces).r for recorder in recorders]
    difference = float(np.abs(r[0] - r[1]).max())
    found = {
        "neurons": len(neurons),
        "chars": sum(map(len, pieces)),
        "value_error": error,
        "r_error": difference,
    }
    found["checked_error"] = recorders[1].largest_error
    return found | {"allowed": [1e-4, 1e-4], "right": error <= 1e-4 and difference <= 1e-4}


def compare_swaps(device: torch.device, rehearse: bool) -> dict[str, Any]:
    """Compare the p-values of labels that are swapped."""
    random = np.random.default_rng(0)
    units, positions, neurons = (20, 30, 10) if rehearse else (64, 500, 1536)
    values = torch.from_numpy(random.normal(size=(units, positions, neurons)).astype(np.float32))
    labels = (random.random((units, positions, 6)) < 0.3).astype(np.float32)
    labels[:, :, 0] = values[:, :, 3] > 0.5
    labels[:2, :5, 1] = np.nan
    chosen = [3, 1, 2, 0, None, 5]
    here, there = (swap_null(values.to(where), labels, chosen) for where in ("cpu", device))
    right = all(a == b or abs(a - b) <= 0.003 for a, b in zip(here, there, strict=True))
    return {"p_here": here, "p_there": there, "right": right}


# -- the persistent recurrence ----------------------------------------------------------------------


def persistent_points(device: torch.device, rehearse: bool) -> Iterator[Point]:
    """Yield a point for each case of the persistent kernels' own check, where they can run."""
    try:
        from charrnn.model.persistent import check, why_not
    except ImportError:
        return
    if device.type != "cuda" or rehearse or why_not("lstm", device):
        return
    for cell, dtype, case in check.comparisons(check.LARGE):
        sizes = f"{case.layers}x" if case.layers > 1 else ""
        sizes += f"{case.hidden_size}x{case.batch_size}x{case.length}"
        run = partial(compare_persistent, device, cell, dtype, case)
        yield Point(f"persistent {cell} {sizes} {str(dtype).removeprefix('torch.')}", run)


def compare_persistent(device: torch.device, cell: str, dtype: torch.dtype, case: Any) -> dict[str, Any]:
    """Compare outputs, state and gradients of one window."""
    from charrnn.model.persistent import check

    errors = check.compare(cell, dtype, case, device)
    wait(device)
    allowed = check.ROUNDINGS[dtype]
    return {"case": str(case), **errors, "allowed": allowed, "right": max(errors.values()) <= allowed}
