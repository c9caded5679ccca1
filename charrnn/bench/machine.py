"""The machine: what it is, how busy it is, and how fast it can multiply and read."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import charrnn
from charrnn.bench.timing import Task
from charrnn.native import find

MATMUL_SIZE = 1024
LARGE_BYTES = 256 * 2**20
"""A buffer that no cache holds."""
READ_BYTES = 16 * 2**20
"""Small buffers are read so often that about so much is read at once."""
BUSY = 0.5
"""Load per core from which on figures are disturbed."""
GIGA = 1e9


def facts() -> dict[str, Any]:
    """Return what the machine is and what runs on it."""
    native, variant = find()
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "charrnn": charrnn.__version__,
        "torch": version("torch"),
        "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
        "onednn": torch.backends.mkldnn.is_available(),
        "native": variant if native else None,
        "native_missing": None if native else variant,
        "load_before": load(),
    }


def load() -> float | None:
    """Return the processes that wanted to run over the last minute; None where that is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def is_busy(record: dict[str, Any]) -> bool:
    """Return whether others disturbed what was measured."""
    before = record["load_before"]
    return before is not None and before > BUSY * (record["cores"] or 1)


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def using_onednn(wanted: bool) -> Iterator[None]:
    """Let torch use oneDNN, or not, for a while."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = wanted
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def matmul(name: str = "matmul") -> Task:
    """Return a product of square matrices of 1,024, in fp32; its work is floating-point operations."""
    a, b, out = (torch.rand(MATMUL_SIZE, MATMUL_SIZE) for _ in range(3))
    return Task(name, lambda: torch.mm(a, b, out=out), 2.0 * MATMUL_SIZE**3)


def reading(num_bytes: float, name: str = "read") -> Task:
    """Return the sum of a buffer of a size, by the threads that torch has; its work is bytes."""
    values = torch.ones(max(1, int(num_bytes) // 4))
    times = max(1, READ_BYTES // (4 * len(values)))
    again = values.expand(times, -1)  # the same memory in every row
    return Task(name, lambda: again.sum(1), 4.0 * again.numel())
