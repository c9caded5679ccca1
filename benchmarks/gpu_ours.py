"""Networks of random weights, and training as ``charrnn train`` runs it: what is compared, what is timed."""

from __future__ import annotations

import torch

from charrnn.config import ModelConfig, TrainingConfig
from charrnn.model.network import Network, new_network
from charrnn.training.feed import Window
from charrnn.training.replay import CudaGraphs, Replay
from charrnn.training.step import Step

VOCAB_SIZE = 65
FIRST_ID = 2
"""Ids below are the boundary, which resets our state, and the escape."""
RATE = 1e-3
GROUP = 4
"""Windows to a recording."""


def random_network(
    cell: str, layers: int, size: int, embedding: int = 0, vocab_size: int = VOCAB_SIZE, gain: float = 1.0
) -> Network:
    """Return an untrained network on the CPU, in evaluation mode; a gain makes its choices less even."""
    network = new_network(ModelConfig(cell, size, layers, embedding, 0.0), vocab_size).eval()
    with torch.no_grad():
        network.readout.weight.mul_(gain)
    return network


def random_ids(*shape: int, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
    """Return ids without a boundary, int64, always the same."""
    return torch.randint(FIRST_ID, vocab_size, shape, generator=torch.Generator().manual_seed(1))


class Ours:
    """Training on one window again and again, the state carried, as the trainer does it.

    Args:
        cell: Of the network, and so on: layers, H, B, T.
        device: Where.
        precision: As for ``--precision``.
        recorded: Whether a CUDA device records and replays the steps.
        group: Windows that one call of ``windows`` reads.
    """

    def __init__(
        self,
        cell: str,
        layers: int,
        size: int,
        rows: int,
        length: int,
        device: torch.device,
        precision: str,
        *,
        recorded: bool = True,
        group: int = 1,
        embedding: int = 0,
        vocab_size: int = VOCAB_SIZE,
    ) -> None:
        network = random_network(cell, layers, size, embedding, vocab_size).to(device)
        training = TrainingConfig(optimizer="adamw", learning_rate=RATE, weight_decay=0.01, batch_size=rows)
        self.step = Step(network, training, device, precision)
        graphs = CudaGraphs(device) if recorded and device.type == "cuda" else None
        self.replay = Replay(self.step, graphs, group)
        ids = random_ids(rows, length + 1, vocab_size=vocab_size).to(device)
        self.group = [Window(ids[:, :-1], ids[:, 1:], False, 1, RATE)] * group
        self.state = network.initial_state(rows)
        self.path = self.step.path.words(size, rows)

    @property
    def notices(self) -> list[str]:
        """What a user would have been told."""
        return self.step.notices

    def windows(self) -> torch.Tensor:
        """Read a group of windows and update the weights after each; return the last one's loss."""
        loss, _, self.state = self.replay(self.group, self.state)
        return loss
