"""Tables of what was timed."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from charrnn.bench.recording import InspectBench
from charrnn.bench.sampling import STREAMS, SampleBench, SampleRow
from charrnn.bench.timing import Spread
from charrnn.bench.training import TrainBench, TrainRow
from charrnn.rendering.tables import table

TRAIN = ("", ">B", ">T", ">chars/s", ">torch", ">ratio", ">whole step", ">GF/s", ">of peak")
SAMPLE = ("", "by", ">chars/s", ">× torch oneDNN", ">× torch", ">GB/s", ">of reading")


def train_table(bench: TrainBench) -> RenderableType:
    """Return a line per shape; ratios are how many times as fast as ``torch.nn``."""
    rows = [_train_cells(row) for row in bench.rows]
    return Group(Text(machine_line(bench.machine)), table(TRAIN, rows), Text(_peak(bench)))


def _train_cells(row: TrainRow) -> tuple[str, ...]:
    shape = row.shape
    return (
        f"{shape.cell} {shape.num_layers}×{shape.hidden_size}",
        str(shape.batch_size),
        str(shape.seq_len),
        speed(row.chars_per_second),
        speed(row.torch_chars_per_second),
        spread(row.ratio),
        spread(row.step_ratio),
        f"{row.gflops:.3g}",
        f"{row.share_of_peak:.0%}",
    )


def _peak(bench: TrainBench) -> str:
    peaks = [row.matmul_gflops for row in bench.rows]
    errors = max(row.max_error for row in bench.rows)
    rounds = _rounds([row.rounds for row in bench.rows])
    return (
        f"Medians (10 % .. 90 % of {rounds} rounds) of forward, loss and "
        f"backward; a whole step clips and updates too. Peak: the fastest of some matrix products in every "
        f"round, {_range(peaks)} GF/s. Loss and gradients are those of torch.nn to {errors:.1g}."
    )


def sample_table(bench: SampleBench) -> RenderableType:
    """Return a line per network and way."""
    rows, last = [], ""
    for row in bench.rows:
        model = f"{row.cell} {row.num_layers}×{row.hidden_size}"
        rows.append(("" if model == last else model, *_sample_cells(row)))
        last = model
    rounds = _rounds([row.rounds for row in bench.rows])
    words = (
        f"Medians (10 % .. 90 % of {rounds} rounds), drawing included. One text and one thread, but for the "
        f"{STREAMS} texts: those together, on all threads. Reading: one thread over a buffer as large as "
        "the weights, the fastest of some tries in every round."
    )
    return Group(Text(machine_line(bench.machine)), table(SAMPLE, rows), Text(words))


def _sample_cells(row: SampleRow) -> tuple[str, ...]:
    share = "" if row.share_of_bandwidth is None else f"{row.share_of_bandwidth:.0%}"
    ratios = (spread(row.ratio_onednn), spread(row.ratio_plain))
    way = row.way.removeprefix("charrnn ")
    return (way, speed(row.chars_per_second), *ratios, f"{row.gb_per_second:.3g}", share)


def inspect_table(bench: InspectBench) -> RenderableType:
    """Return what reading, recording and correlating take."""
    rows = [
        ("forward pass", speed(bench.forward_chars_per_second), ""),
        ("recording", speed(bench.record_chars_per_second), spread(bench.record_cost)),
        ("correlating", speed(bench.score_chars_per_second), spread(bench.score_cost)),
    ]
    words = (
        f"{bench.cell} {bench.num_layers}×{bench.hidden_size}, {bench.chars:,} characters, "
        f"{bench.neurons:,} neurons × {bench.hypotheses} hypotheses. Medians (10 % .. 90 % of {bench.rounds} "
        f"rounds). Forward: {bench.forward_gflops:.3g} GF/s, a matrix product {bench.matmul_gflops:.3g}. "
        f"What is recorded is what the cell defines to {bench.max_error:.1g}."
    )
    parts = table(["", ">chars/s", ">times the forward pass"], rows)
    return Group(Text(machine_line(bench.machine)), parts, Text(words))


def machine_line(machine: dict[str, Any]) -> str:
    """Return what was measured on, in one line."""
    native = machine["native"] or f"none ({machine['native_missing']})"
    loads = [machine["load_before"], machine["load_after"]]
    load = "unknown" if None in loads else f"{loads[0]:.1f} before, {loads[1]:.1f} after"
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}, "
        f"charrnn {machine['charrnn']}, native kernels {native}, load {load}"
    )


def spread(value: Spread) -> str:
    """Return a median and what 8 of 10 rounds lie between."""
    digits = 2 if value.median < 10 else 1 if value.median < 100 else 0
    return f"{value.median:.{digits}f} ({value.p10:.{digits}f}..{value.p90:.{digits}f})"


def speed(rate: float) -> str:
    """Return characters per second."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _rounds(rounds: list[int]) -> str:
    return str(rounds[0]) if min(rounds) == max(rounds) else f"{min(rounds)} to {max(rounds)}"
