"""Clipping and AdamW in one pass over each array, where the native library is; torch's otherwise."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from charrnn.native import Adam, Library, library


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their common norm is at most ``max_norm``; return the norm before.

    Source: Pascanu et al. 2013; as ``torch.nn.utils.clip_grad_norm_``, with the sum in double.
    """
    parameters = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in parameters]
    native = library()
    if native is None or not all(_plain(gradient) for gradient in gradients):
        return clip_grad_norm_(parameters, max_norm)
    norm = _norm(native, gradients)
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # not a number: the gradients become it, and the loss says so
        torch._foreach_mul_(gradients, factor)
    return torch.tensor(norm)


def _norm(native: Library, arrays: list[Tensor]) -> float:
    pointers = (ctypes.c_void_p * len(arrays))(*(array.data_ptr() for array in arrays))
    sizes = (ctypes.c_long * len(arrays))(*(array.numel() for array in arrays))
    total = ctypes.c_double()
    native.sum_of_squares(pointers, sizes, len(arrays), total, torch.get_num_threads())
    return math.sqrt(total.value) if total.value >= 0 else math.nan


def _plain(array: Tensor) -> bool:
    return array.dtype == torch.float32 and array.device.type == "cpu" and array.is_contiguous()


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay: torch's own, with the step in C where that is possible."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update all weights that have a gradient."""
        native = library()
        updated = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if native is None or not all(
            _plain(p) and _plain(p.grad) and not isinstance(group["lr"], Tensor) for group, p in updated
        ):
            super().step(closure)
            return
        for group, parameter in updated:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = (
                    torch.zeros_like(parameter),
                    torch.zeros_like(parameter),
                )
            state["step"] += 1
            arrays = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
            pointers = (array.data_ptr() for array in arrays)
            numbers = _numbers(group, int(state["step"]))
            native.adamw(*pointers, parameter.numel(), numbers, torch.get_num_threads())


def _numbers(group: dict[str, Any], step: int) -> Adam:
    rate, (beta1, beta2) = group["lr"], group["betas"]
    corrections = (1 - beta1**step, math.sqrt(1 - beta2**step))
    return Adam(rate, beta1, beta2, group["eps"], rate * group["weight_decay"], *corrections)
