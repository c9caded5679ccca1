"""First weights other than torch's uniform ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from charrnn.config import ModelConfig
from charrnn.model.cells.base import RecurrentLayer


def initialise(layer: RecurrentLayer, config: ModelConfig, depth: int, seq_len: int | None) -> None:
    """Change a layer's first weights as the settings say; what its cell sets itself comes last but one.

    Args:
        layer: The layer, with torch's uniform weights.
        config: ``init``, ``forget_bias`` and ``forget_init``.
        depth: Layers below it.
        seq_len: Longest dependency that chrono expects, T_max; None leaves it out, where other weights
            will take their place.
    """
    if config.init == "orthogonal" and hasattr(layer, "weight_hh_l0"):
        _orthogonal(layer)
    layer.initialise(config, depth)
    if config.forget_init == "chrono" and seq_len is not None:
        _chrono(layer, seq_len)


class Unfilled(TorchFunctionMode):
    """Draws no first weights: on the meta device, torch imports its compiler to draw them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.normal_ or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@torch.no_grad()
def _orthogonal(layer: RecurrentLayer) -> None:
    """Make the recurrent matrix of every gate orthogonal (Saxe et al. 2014; Le, Jaitly & Hinton 2015)."""
    for block in layer.weight_hh_l0.split(layer.hidden_size):
        nn.init.orthogonal_(block)


@torch.no_grad()
def _chrono(layer: RecurrentLayer, seq_len: int) -> None:
    """Spread what neurons remember over 1 … T_max timesteps.

    The bias of the gate that keeps is log u with u uniform in [1, T_max - 1], that of an input gate its
    negative.

    Source: Tallec & Ollivier 2018, "Can recurrent neural networks warp time?"
    """
    size, names = layer.hidden_size, layer.gate_names
    spread = torch.empty(size).uniform_(1, max(1, seq_len - 1)).log().to(layer.bias_ih_l0.device)
    signs = {"f": 1, "i": -1} if "f" in names else {"z": 1}
    for gate, sign in signs.items():
        rows = slice(names.index(gate) * size, (names.index(gate) + 1) * size)
        layer.bias_ih_l0[rows] = sign * spread
        layer.bias_hh_l0[rows] = 0.0
