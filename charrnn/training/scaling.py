"""Dynamic loss scaling for fp16, without the host: gradients too small for fp16 are computed larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
GROWTH, BACKOFF, GROWTH_STEPS = 2.0, 0.5, 2000
"""After so many steps without overflow the scale doubles, at an overflow it halves; all as in torch's
``GradScaler``, whose two kernels these are."""


class LossScale:
    """The factor of the loss, and how many steps it has held; both live on the device.

    Source: Micikevicius et al. 2018, "Mixed Precision Training".
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients by the scale in place and adapt it; at an overflow set all of them to zero.

        Returns:
            1 if every gradient was finite, else 0: what the learning rate is multiplied by, so that no weight
            moves. Momenta fade by one step then; nothing waits to know.
        """
        overflow = torch.zeros_like(self.scale)
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), overflow, 1 / self.scale)
        torch._amp_update_scale_(self.scale, self.steps, overflow, GROWTH, BACKOFF, GROWTH_STEPS)
        for gradient in gradients:
            gradient.masked_fill_(overflow > 0, 0.0)
        return 1 - overflow

    def tensors(self) -> dict[str, Tensor]:
        """Return what goes into a checkpoint."""
        return {"scale": self.scale, "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint; one that has none of this was written in another precision."""
        for name, own in self.tensors().items():
            if name in tensors:
                own.copy_(tensors[name])
