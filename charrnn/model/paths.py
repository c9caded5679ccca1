"""Which way a network's layers are run while it trains, and why: a pure function of settings and device.

On CUDA the layers run in cuDNN, one layer a call. Which of cuDNN's algorithms torch then asks for depends on
type and sizes alone (``aten/src/ATen/native/cudnn/RNN.cpp``, ``get_algo`` and what it calls); the conditions
below are those, and their names and numbers are checked against that file, not against a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charrnn.config import ModelConfig
from charrnn.errors import ConfigError

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Precisions in which a window's products are computed with 16 bits; the weights stay fp32."""
CUDNN_CELLS = ("lstm", "gru", "elman", "elman_relu")
SMALL_HIDDEN = 128
"""Up to here cuDNN has a persistent kernel forward and backward, in every type but fp64."""
CLIFF_HIDDEN = 192
"""Up to here LSTM and GRU get that kernel forward alone, where it is up to five times slower than none for
about this many rows or more (benchmarks of pytorch/pytorch#62143)."""
CLIFF_ROWS = 45
MAX_HIDDEN, MAX_ROWS = 1024, 128
"""Largest sizes for which torch asks for the persistent kernel in fp16."""
MIN_PROCESSORS = 98


@dataclass(frozen=True)
class Gpu:
    """What decides of a CUDA device.

    Args:
        capability: Its compute capability, major and minor.
        processors: Its streaming multiprocessors.
    """

    capability: tuple[int, int]
    processors: int


@dataclass(frozen=True)
class Path:
    """How a window of training runs.

    Args:
        name: ``stack`` (fp16 layers of padded size, for the persistent kernel), ``stock`` (cuDNN as torch
            calls it), ``plain`` (PyTorch, step by step or by scan), ``own`` (the network's choice off CUDA).
        why: In a few words.
        precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        rebuilt: Whether weights are cast, padded and put together anew for each window.
        hidden_multiple: H is padded to a multiple of this, where weights are rebuilt.
        rows_multiple: B is padded to a multiple of this.
        inputs_multiple: The input's width is padded to a multiple of this.
    """

    name: str
    why: str
    precision: str = "fp32"
    rebuilt: bool = False
    hidden_multiple: int = 1
    rows_multiple: int = 1
    inputs_multiple: int = 1

    @property
    def half(self) -> torch.dtype | None:
        """The type of 16 bits in which a window is computed; None where it is the weights' own."""
        return HALVES.get(self.precision)

    def words(self, hidden_size: int, batch_size: int) -> str:
        """Return the path, what is padded, and why, in one line."""
        sizes = ((hidden_size, self.hidden_multiple, "neurons"), (batch_size, self.rows_multiple, "rows"))
        padded = [f"{n} {name} as {up(n, m)}" for n, m, name in sizes if up(n, m) != n]
        return f"{', '.join([self.name, *padded])}: {self.why}"


def up(size: int, multiple: int) -> int:
    """Return the smallest multiple that is at least a size."""
    return -(-size // multiple) * multiple


def find_gpu(device: torch.device) -> Gpu | None:
    """Return what decides of a device; None if it is not CUDA."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return Gpu((found.major, found.minor), found.multi_processor_count)


def choose_path(model: ModelConfig, batch_size: int, precision: str, gpu: Gpu | None) -> Path:
    """Return how windows of a network are run.

    Args:
        model: Settings with nothing left open.
        batch_size: Rows of a window, B.
        precision: ``auto``, ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        gpu: The device; None if it is not CUDA.

    Raises:
        ConfigError: 16 bits are asked for where no kernel computes with them.
    """
    if gpu is None:
        return Path("own", "the native kernels where they are, PyTorch elsewhere")
    obstacle = _no_kernel(model)
    if obstacle:
        if precision in HALVES:
            raise ConfigError(f"`--precision {precision}` is for cuDNN's layers, and {obstacle}")
        return Path("plain", obstacle, _full(precision))
    hindrance = _not_persistent(model, batch_size, gpu)
    if precision in ("auto", "fp16") and not hindrance:
        return Path("stack", "cuDNN keeps the weights on the chip", "fp16", True, 128, 8, 128)
    why = hindrance if precision in ("auto", "fp16") else f"{precision} was asked for"
    if precision in HALVES:
        multiple = 128 if _falls_off(model, batch_size, 8) else 8
        return Path("stock", why, precision, True, multiple, 8, 8)
    if _falls_off(model, batch_size, 1):
        why = f"{why}; {model.hidden_size} neurons would be slower than {up(model.hidden_size, 128)}"
        return Path("stock", why, _full(precision), True, 128)
    # weight-drop makes other weights for every window, which cuDNN would have to gather
    return Path("stock", why, _full(precision), rebuilt=model.weight_drop > 0)


def plainest(path: Path) -> Path:
    """Return the path that is taken where another did not prove itself: what torch's own layers do."""
    return Path("stock", "another path failed its check", "fp32" if path.precision == "fp32" else "tf32")


def _full(precision: str) -> str:
    return "tf32" if precision == "auto" else precision


def _no_kernel(model: ModelConfig) -> str:
    """Return why cuDNN cannot run a network's layers, or nothing."""
    if model.cell not in CUDNN_CELLS:
        return f"cuDNN has no `{model.cell}`"
    return "no kernel stops between timesteps for zoneout" if model.zoneout else ""


def _not_persistent(model: ModelConfig, batch_size: int, gpu: Gpu) -> str:
    """Return why single fp16 layers of padded size would not keep their weights on the chip, or nothing."""
    size, rows = up(model.hidden_size, 128), up(batch_size, 8)
    if model.hidden_size <= SMALL_HIDDEN:
        return f"up to {SMALL_HIDDEN} neurons cuDNN's kernel for small layers takes any type"
    if model.cell == "gru":
        return "torch asks for no persistent kernel for GRU"
    if model.cell == "elman_relu":
        return "rectified neurons can outgrow fp16"
    if gpu.capability < (8, 0) or gpu.capability[1] == 6 or gpu.processors < MIN_PROCESSORS:
        major, minor = gpu.capability
        return f"no persistent kernel on sm_{major}{minor} with {gpu.processors} multiprocessors"
    if size > MAX_HIDDEN:
        return f"the persistent kernel ends at {MAX_HIDDEN} neurons"
    if rows > MAX_ROWS:
        return f"the persistent kernel ends at {MAX_ROWS} rows"
    if model.cell == "elman" and rows >= 96 and size >= 896:
        return "torch asks for no persistent kernel for this many rows and neurons"
    return ""


def _falls_off(model: ModelConfig, batch_size: int, multiple: int) -> bool:
    """Return whether torch would ask for the kernel for small layers where it is slow."""
    size = up(model.hidden_size, multiple)
    return model.cell in ("lstm", "gru") and SMALL_HIDDEN < size <= CLIFF_HIDDEN and batch_size >= CLIFF_ROWS
