"""Which device and which precision a command runs with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from charrnn.errors import ConfigError, suggest

if TYPE_CHECKING:
    import numpy as np
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "tf32", "fp16", "bf16")


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
    """Return the precision asked for; ``auto`` stays on CUDA, where it depends on the network.

    Raises:
        ConfigError: The name is unknown, or only CUDA has it.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"unknown precision `{name}`", suggest(name, PRECISIONS))
    if device.type != "cuda" and name not in ("auto", "fp32"):
        raise ConfigError(
            f"`--precision {name}` is for CUDA, and this is `{device.type}`", "leave it out: that is fp32"
        )
    return name if device.type == "cuda" else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether matrices of bfloat16 are multiplied by instructions of their own."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() if device.type == "cpu" else device.type == "cuda"


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which forward and backward passes run.

    Unless it is ``fp32``, cuDNN multiplies fp32 matrices on tensor cores (TF32: 10 bits of mantissa, sums in
    fp32). Autocast is no choice here: whatever it is told, it runs cuDNN's recurrent layers in fp16, and
    their gradients underflow.
    """
    import torch

    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "fp32")


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array on a device without waiting for what that is doing; on the CPU it is not copied."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def home_of_sums(device: torch.device) -> torch.device:
    """Return where float64 sums over what a device computes are kept: there, but MPS has no float64."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device
