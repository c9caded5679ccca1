"""Train with one process and with several, taking turns; or print what a model expects of many GPUs.

    python benchmarks/scaling.py [--processes 2] [--turns 5] [--steps 200] [--batch-size 64] [--out FILE]
    python benchmarks/scaling.py --model

Every process has one thread; the batch is the same. The rate is characters over wall time between the 20th
step and the last one, from the log. As many trainings of a share of the batch each, side by side, that know
nothing of each other ("apart") tell what the machine allows. `--model` measures nothing: docs/distributed.md
says what it supposes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality import ROOT

from charrnn.bench.machine import facts
from charrnn.config import ModelConfig
from charrnn.training.plan import EFFECTIVE_FLOPS, num_params

WARM_UP = 20
SEQ_LEN = 64
GPUS = (1, 8, 64, 512)
FIXED_BATCH = 4096
"""Rows of the batch that does not grow with the number of GPUs."""


def main() -> None:
    options = parse()
    if options.model:
        print(table())
        return
    ways = {"one": (1, 1), "together": (1, options.processes), "apart": (options.processes, 1)}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(options.turns):
        for way in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            rates[way].append(rate(*ways[way], options))
    record = facts() | {"command": " ".join(sys.argv[1:])} | compared(rates, options.processes)
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, ratios in record["ratios"].items():
        print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})")
    print(
        f"efficiency {record['efficiency']:.0%}, {options.turns} turns, load before {record['load_before']}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--text", default="stdlib")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", action="store_true")
    return parser.parse_args()


def rate(trainings: int, processes: int, options: argparse.Namespace) -> float:
    """Train once, or side by side, and return characters per second of wall time of all."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(trainings) as pool:
        runs = [Path(folder) / str(number) for number in range(trainings)]
        rows = options.batch_size // trainings
        return sum(pool.map(lambda run: trained(run, processes, rows, options), runs))


def trained(run: Path, processes: int, rows: int, options: argparse.Namespace) -> float:
    sizes = ["--steps", options.steps, "--batch-size", rows, "--seq-len", SEQ_LEN]
    sizes += ["--hidden-size", options.hidden_size, "--set", "training.num_evals=1"]
    words = ["train", options.text, "--run", run, *sizes, "--processes", processes, "--quiet"]
    command = [sys.executable, "-m", "charrnn", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return speed([line for line in lines if line["event"] == "step"], rows * SEQ_LEN)


def speed(steps: list[dict[str, Any]], characters: int) -> float:
    """Return characters per second between two of the steps that were logged."""
    first = next(step for step in steps if step["step"] >= WARM_UP)
    last = steps[-1]
    return (last["step"] - first["step"]) * characters / (last["seconds"] - first["seconds"])


def compared(rates: dict[str, list[float]], processes: int) -> dict[str, Any]:
    def over(way: str, other: str) -> list[float]:
        return [a / b for a, b in zip(rates[way], rates[other], strict=True)]

    pairs = (("together", "one"), ("apart", "one"), ("together", "apart"))
    ratios = {f"{way} / {other}": over(way, other) for way, other in pairs}
    return {
        "rates": rates,
        "ratios": ratios,
        "efficiency": statistics.median(ratios["together / one"]) / processes,
    }


# -- the model ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What the model supposes of GPUs, eight to a machine, and of what connects them."""

    flops: float = EFFECTIVE_FLOPS["cuda"]
    """Useful arithmetic per second of a GPU, as the plan counts on it."""
    timestep: float = 20e-6
    """Least seconds of one timestep of one layer, both passes: they follow one another."""
    gpus: int = 8
    near: float = 300e9
    """Bytes per second that a GPU sends to another of its machine while others do."""
    far: float = 40e9
    """Bytes per second that it sends to another machine."""
    near_latency: float = 5e-6
    far_latency: float = 15e-6
    told: float = 60e-6
    """Seconds until the first process's word is one machine further, over TCP."""
    masks: float = 1e12
    """Bytes of dropout masks that a GPU draws per second."""


@dataclass(frozen=True)
class Work:
    """What is trained: a network, and a window of every GPU."""

    name: str
    model: ModelConfig
    rows: int
    seq_len: int
    vocab_size: int = 256

    @property
    def params(self) -> int:
        return num_params(self.model, self.vocab_size)


WORKS = (
    Work("2 × 512", ModelConfig("lstm", 512, 2, embedding_size=32, dropout=0.1), 128, 128),
    Work("2 × 2048", ModelConfig("lstm", 2048, 2, embedding_size=32, dropout=0.1), 128, 256),
)


def all_reduce_bytes(members: int, size: float) -> float:
    """Return what each member of a ring sends until all have the sum of arrays of ``size`` bytes.

    Source: Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
    """
    return 2 * (members - 1) / members * size


def seconds(work: Work, gpus: int, rows: int, machine: Machine = Machine()) -> dict[str, float]:
    """Return what a step takes on so many GPUs with ``rows`` rows each, by its parts."""
    near, far = min(gpus, machine.gpus), -(-gpus // machine.gpus)
    model, size = work.model, 4.0 * work.params
    arithmetic = 6 * work.params * rows * work.seq_len / machine.flops
    sums = all_reduce_bytes(near, size) / machine.near + all_reduce_bytes(far, size / near) / machine.far
    sums += 2 * (_hops(near) * machine.near_latency + _hops(far) * machine.far_latency)
    drawn = 2 * work.seq_len * rows * gpus * model.hidden_size * model.num_layers
    return {
        "compute": max(arithmetic, machine.timestep * model.num_layers * work.seq_len),
        "all_reduce": sums,
        "masks": drawn / machine.masks if model.dropout else 0.0,
        "told": _hops(gpus) * machine.told,
    }


def _hops(members: int) -> int:
    return math.ceil(math.log2(members))


def table() -> str:
    """Return what the model says of some networks and numbers of GPUs, as Markdown."""
    lines = ["| network | batch | GPUs | compute | all-reduce | masks | told | chars/s | efficiency |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for work in WORKS:
        grows = [(gpus, work.rows, work.rows) for gpus in GPUS]
        stays = [(gpus, FIXED_BATCH // gpus, FIXED_BATCH) for gpus in GPUS]
        lines += [_line(work, *case) for case in grows + stays]
    return "\n".join(lines)


def _line(work: Work, gpus: int, rows: int, rows_of_one: int) -> str:
    """Return a line for some GPUs with ``rows`` each, compared with one that has ``rows_of_one``."""
    parts = seconds(work, gpus, rows)
    rate = gpus * rows * work.seq_len / sum(parts.values())
    of_one = rows_of_one * work.seq_len / sum(seconds(work, 1, rows_of_one).values())
    times = " | ".join(f"{1e3 * value:.2f} ms" for value in parts.values())
    name = f"{work.name} ({work.params / 1e6:.1f} M)"
    return f"| {name} | {gpus * rows:,} | {gpus} | {times} | {rate:,.0f} | {rate / (gpus * of_one):.0%} |"


if __name__ == "__main__":
    main()
