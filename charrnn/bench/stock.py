"""The same network from ``torch.nn``, as people write it: what charrnn is compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from charrnn.config import ModelConfig
from charrnn.errors import ConfigError, suggest
from charrnn.model.network import Network, new_network

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU}
"""Cells that ``torch.nn`` has too, and are compared."""
VOCAB_SIZE = 65
"""Symbols, V: as many as tiny shakespeare has."""
FIRST_ID = 2
"""Ids below are the boundary, which resets our state, and the escape."""


class StockNetwork(nn.Module):
    """``nn.LSTM`` or ``nn.GRU`` on one-hot input, and ``nn.Linear``.

    Args:
        network: Whose weights it begins with; copied.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        config, self.vocab_size = network.config, network.vocab_size
        self.recurrent = LAYERS[config.cell](self.vocab_size, config.hidden_size, config.num_layers)
        self.readout = nn.Linear(config.hidden_size, self.vocab_size)
        theirs = dict(network.named_parameters())
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(theirs[own_name(name)])

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return logits, (T, B, V), and the state after ids, (T, B) int64."""
        hidden, state = self.recurrent(one_hot(ids, self.vocab_size).float(), state)
        return self.readout(hidden), state


def own_name(name: str) -> str:
    """Return what charrnn calls a parameter of ``StockNetwork``."""
    part, _, rest = name.partition(".")
    if part == "readout":
        return name
    kind, _, layer = rest.rpartition("_l")
    return f"layers.{layer}.{kind}_l0"


def random_network(cell: str, hidden_size: int, num_layers: int) -> Network:
    """Return an untrained network with one-hot input.

    Raises:
        ConfigError: The cell is none that ``torch.nn`` has, or a size is out of range.
    """
    check_cell(cell)
    return new_network(ModelConfig(cell, hidden_size, num_layers, 0, 0.0), VOCAB_SIZE)


def check_cell(name: str) -> None:
    """Raise ``ConfigError`` if ``torch.nn`` has no such cell to compare with."""
    if name not in LAYERS:
        raise ConfigError(f"`--cell` is `{name}`, but must be one of lstm, gru", suggest(name, LAYERS))


def random_ids(*shape: int) -> Tensor:
    """Return ids without a boundary, int64, always the same."""
    return torch.randint(FIRST_ID, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(1))
