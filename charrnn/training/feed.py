"""Where windows come from: the corpus on disk, or a copy of the training split on the device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from charrnn.devices import to_device
from charrnn.text.streams import Streams
from charrnn.text.vocabulary import BOUNDARY

SHARE = 0.25
"""Largest share of a device's free memory that the text may take."""
STRETCH = 1 << 24
"""Symbols that are converted at once."""


class Window(NamedTuple):
    """What one step reads."""

    ids: Tensor
    """(B, T) int64, on the device."""
    targets: Tensor
    """(B, T) int64."""
    inside: bool
    """Whether a document begins after the first timestep."""
    seed: int
    """Of its dropout masks."""
    rate: float
    """Learning rate."""


class Feed:
    """Reads windows from the corpus and copies each to the device."""

    def __init__(self, streams: Streams, device: torch.device) -> None:
        self.streams, self.device = streams, device

    def read(self, position: int, length: int) -> tuple[Tensor, Tensor, bool]:
        """Return ids and targets (B, T) from a position of every row on, and if a document begins inside.

        Raises:
            IndexError: The rows have no such position.
        """
        ids, targets = self.streams.read(position, length)
        inside = bool((ids[:, 1:] == BOUNDARY).any())
        return to_device(ids, self.device), to_device(targets, self.device), inside


class DeviceFeed(Feed):
    """Holds the rows of the training split on the device, in the smallest type; a window is a slice of it.

    Args:
        streams: Rows and windows.
        device: Where.
    """

    def __init__(self, streams: Streams, device: torch.device) -> None:
        super().__init__(streams, device)
        ids = torch.empty(streams.num_symbols, dtype=smallest(streams.table), device=device)
        begins = []
        for begin in range(0, len(ids), STRETCH):
            stop = min(begin + STRETCH, len(ids))
            found = streams.table[streams.places[streams.first + begin : streams.first + stop]]
            begins.append(np.flatnonzero(found == BOUNDARY) + begin)
            ids[begin : begin + len(found)] = torch.from_numpy(found).to(ids.dtype)
        self.begins = np.concatenate(begins)
        # row b reads its m symbols and predicts them and the one after, which is the next row's first
        self.rows = ids.as_strided((streams.num_rows, streams.row_length + 1), (streams.row_length, 1))

    def read(self, position: int, length: int) -> tuple[Tensor, Tensor, bool]:
        """Return what the corpus would give, without waiting for the device."""
        row_length = self.streams.row_length
        if not 0 <= position < row_length:
            raise IndexError(f"position {position} of {row_length}")
        length = min(length, row_length - position)
        window = self.rows[:, position : position + length + 1].long()
        return window[:, :-1], window[:, 1:], self._inside(position, length)

    def _inside(self, position: int, length: int) -> bool:
        first = np.arange(self.streams.num_rows) * self.streams.row_length + position + 1
        found = np.searchsorted(self.begins, first)
        return bool((np.searchsorted(self.begins, first + length - 1) > found).any())


def step_seed(seed: int, step: int) -> int:
    """Return a seed for one step, so that dropout masks depend on nothing but the step's number."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) >> 1


def smallest(table: np.ndarray) -> torch.dtype:
    """Return the smallest type that holds every id of a table."""
    largest = int(table.max())
    return next(t for t in (torch.uint8, torch.int16, torch.int32) if largest <= torch.iinfo(t).max)


def make_feed(streams: Streams, device: torch.device) -> Feed:
    """Return windows from the device where its memory holds the training split, else from the corpus."""
    if device.type != "cuda":
        return Feed(streams, device)
    free, _ = torch.cuda.mem_get_info(device)
    size = streams.num_symbols * smallest(streams.table).itemsize
    return (DeviceFeed if size <= SHARE * free else Feed)(streams, device)
