"""Which device and which precision a command runs with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from charrnn.errors import ConfigError, suggest

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


def resolve_device(name: str = "auto") -> torch.device:
    """Return the torch device for a name: CUDA, then MPS, then the CPU for ``auto``.

    Raises:
        ConfigError: The name is unknown, or this machine has no such device.
    """
    import torch

    if name not in DEVICES:
        raise ConfigError(f"unknown device `{name}`", suggest(name, DEVICES))
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        raise ConfigError(f"torch sees no `{name}` device here", "`charrnn doctor` shows what there is")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``fp32`` or ``bf16`` for a device; ``auto`` is bf16 on CUDA, else fp32.

    Raises:
        ConfigError: The name is unknown, or the device cannot train with it.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"unknown precision `{name}`", suggest(name, PRECISIONS))
    if name == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    if name != "fp32" and device.type != "cuda":
        raise ConfigError(
            f"precision `{name}` needs a CUDA device", "leave `--precision` away, or say `fp32`"
        )
    return name


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which matrix products run in ``precision``.

    Weights, the state carried between windows and the loss stay fp32; inside a window the
    cell state has the precision that cuDNN gives it.
    """
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
