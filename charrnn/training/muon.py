"""Muon: momentum whose matrix is made orthogonal before it is a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from charrnn.devices import has_fast_bf16
from charrnn.training.updates import AdamW

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic that pulls singular values to about 1 (Jordan et al. 2024)."""
NEWTON_SCHULZ_STEPS = 5
MATCH_ADAMW = 0.2
"""Root mean square of AdamW's steps, per rate, to which Muon's are scaled (Liu et al. 2025)."""


class Muon(AdamW):
    """Muon for groups that have ``rows``, AdamW for all others.

    A stacked matrix (G H, I) of such a group is G matrices of ``rows`` = H, one for each gate: each is
    made orthogonal by itself, as gates have nothing in common but their input.

    Source:
        Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scale of the step and decoupled
        weight decay from Liu et al. 2025, arXiv:2502.16982.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Do one step of both rules."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if "rows" not in group]
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if "rows" in group:
                self._orthogonal_step(group)

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            slots = self.state[weight]
            if not slots:
                # torch's loading of a state expects a number of steps for every weight
                slots["step"] = torch.zeros(())
                slots["momentum_buffer"] = torch.zeros_like(weight)
            slots["momentum_buffer"].lerp_(weight.grad, 1 - MOMENTUM)
            update = weight.grad.lerp(slots["momentum_buffer"], MOMENTUM)
            blocks = update.unflatten(0, (-1, group["rows"]))  # (G, H, I)
            scale = MATCH_ADAMW * max(blocks.shape[1:]) ** 0.5
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            _add(weight, orthogonal(blocks).flatten(0, 1), -group["lr"] * scale)


def _add(weight: Tensor, update: Tensor, factor: float | Tensor) -> None:
    """Add a multiple of an update in place; a factor on the device stays there."""
    if isinstance(factor, Tensor):
        weight.addcmul_(update, factor)
    else:
        weight.add_(update, alpha=factor)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices (G, R, C) with about the same singular vectors and singular values of about 1.

    Five steps of a Newton–Schulz iteration: singular values end between .7 and 1.2, those that were
    nearly 0 in the largest ones' measure below. fp32 is iterated in bfloat16, as by its authors, where
    the machine multiplies that faster.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    if x.dtype == torch.float32 and has_fast_bf16(x.device):
        x = x.bfloat16()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
