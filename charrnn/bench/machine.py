"""The machine: what it is, how busy it is, and how fast it can multiply and read."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint32
from datetime import date
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

import charrnn
from charrnn.bench.timing import Task
from charrnn.native import find, library

PRODUCTS = (
    (1024, 1024, 1024),
    (2048, 512, 1024),
    (512, 1024, 2048),
    (2048, 1024, 512),
    (4096, 512, 512),
    (512, 512, 4096),
)
"""Rows, depth and columns of matrix products: which one is fastest is another on another machine."""
LARGE_BYTES = 256 * 2**20
"""A buffer that no cache holds."""
READ_BYTES = 16 * 2**20
"""Small buffers are read so often that about so much is read at once."""
READ_TRIES = 8
BLOCK_BYTES = 512
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
        "commit": commit(),
        "torch": version("torch"),
        "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
        "onednn": torch.backends.mkldnn.is_available(),
        "native": variant if native else None,
        "native_missing": None if native else variant,
        "load_before": load(),
    }


def commit(root: Path = Path(charrnn.__file__).parents[1]) -> str | None:
    """Return the commit of the checkout that charrnn runs from, ``-dirty`` if changed; None if it is none."""
    if not (root / ".git").exists():  # git would look further up, and find what charrnn was installed below
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


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
    """Return the fastest of a few matrix products in fp32; its work is floating-point operations."""
    matrices = [(torch.rand(m, k), torch.rand(k, n), torch.empty(m, n)) for m, k, n in PRODUCTS]
    turns = cycle(matrices)

    def multiply() -> None:
        a, b, out = next(turns)
        torch.mm(a, b, out=out)

    return Task(name, multiply, 2.0 * math.prod(PRODUCTS[0]), 2 * len(PRODUCTS))


def reading(num_bytes: float, name: str = "read", threads: int = 1) -> Task:
    """Return the fastest reading of a buffer that has been read before; its work is bytes.

    The library reads it in the order in which it lies, as samplers do their packed weights, into eight sums;
    without the library numpy does, with threads of its own.

    Args:
        num_bytes: Size of the buffer.
        name: Of the task.
        threads: As many read it together, each a part.
    """
    buffer = np.ones(BLOCK_BYTES // 4 * max(1, round(num_bytes / BLOCK_BYTES)), np.float32)
    times = max(1, READ_BYTES // buffer.nbytes)
    native, total = library(), c_uint32()

    def read() -> None:
        if native is not None:
            native.read_memory(buffer.ctypes.data, buffer.nbytes, times, byref(total), threads)
        else:
            for _ in range(times):
                np.dot(buffer, buffer)

    return Task(name, read, float(times * buffer.nbytes), READ_TRIES)
