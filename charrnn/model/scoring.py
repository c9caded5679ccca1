"""The cost of every symbol of a text under a network, each scored exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.devices import arithmetic, to_device
from charrnn.model.network import Network, NetworkState
from charrnn.text.vocabulary import BOUNDARY

STREAM_SYMBOLS = 10_000
MAX_STREAMS = 64
WARM_UP = 1_000
WINDOW = 250
MOST_LOGITS = 1 << 26
"""Logits that are held together: what is scored is scored in parts where symbols are tens of thousands."""
DEVICE_WINDOWS = 16
"""Windows whose ids come and costs go together on another device than the CPU: nothing waits in between."""


@dataclass(frozen=True)
class TextView:
    """A stretch of a corpus as ids, always beginning with a boundary.

    Args:
        places: The corpus, (N,).
        table: Place to id, (U,) int64.
        start: First position.
        stop: End.
    """

    places: np.ndarray
    table: np.ndarray
    start: int
    stop: int

    @property
    def shift(self) -> int:
        """1 if a boundary had to be put before a stretch that begins inside a document."""
        return int(self.start >= self.stop or self.places[self.start] != 0)

    def __len__(self) -> int:
        return self.stop - self.start + self.shift

    def read(self, begin: int, length: int) -> np.ndarray:
        """Return places from index ``begin`` on, padded with boundaries past the end, (length,)."""
        out = np.zeros(length, dtype=np.int64)
        first = begin - self.shift + self.start
        lead = max(0, self.start - first)
        found = self.places[first + lead : min(first + length, self.stop)]
        out[lead : lead + len(found)] = found
        return out


@dataclass(frozen=True)
class ScoredWindow:
    """The cost of some symbols.

    Args:
        index: Index in the view of each, (S, T).
        place: Their places; 0 is a boundary or padding and is not to be counted, (S, T).
        nats: -ln p of each under the network, (S, T) float64.
    """

    index: np.ndarray
    place: np.ndarray
    nats: np.ndarray


def score(network: Network, view: TextView, share: tuple[int, int] = (0, 1)) -> Iterator[ScoredWindow]:
    """Score a text with the context carried from its begin to its end.

    A long text is read as up to 64 streams side by side; each but the first reads the 1,000 symbols
    before its part to warm up its state, so the result is that of one pass to about 1e-6 nats.

    Args:
        network: In evaluation mode.
        view: The text.
        share: Which of how many shares of the streams to score.
    """
    symbols = len(view) - 1
    streams = int(np.clip(symbols // STREAM_SYMBOLS, 1, MAX_STREAMS))
    rows = -(-symbols // streams)
    which, shares = share
    begins = (np.arange(streams) * rows)[streams * which // shares : streams * (which + 1) // shares]
    if not len(begins):
        return
    yield from _read_rows(network, view, begins, rows, _warm_state(network, view, begins))


def score_cold(network: Network, view: TextView, length: int) -> Iterator[ScoredWindow]:
    """Score a text in windows of ``length`` symbols, each from a state of zeros.

    The first symbol of a window is predicted from the one before it, as nanoGPT's evaluation does.
    """
    symbols = len(view) - 1
    length = min(length, max(1, symbols))
    begins = range(0, symbols, length)
    for first in range(0, len(begins), MAX_STREAMS):
        rows = np.array(begins[first : first + MAX_STREAMS])
        yield from _read_rows(network, view, rows, length, network.initial_state(len(rows)))


def _read_rows(
    network: Network, view: TextView, begins: np.ndarray, length: int, state: NetworkState
) -> Iterator[ScoredWindow]:
    """Score ``length`` symbols behind each of ``begins``, which touch, in stretches side by side."""
    symbols = len(view) - 1
    stretch = WINDOW * _windows_at_once(network.readout.weight.device)
    for offset in range(0, length, stretch):
        size = min(stretch, length - offset)
        places = np.stack([view.read(begin + offset, size + 1) for begin in begins])
        nats, state = _costs(network, view.table[places], state)
        index = begins[:, None] + offset + np.arange(1, size + 1)
        yield ScoredWindow(index, np.where(index <= symbols, places[:, 1:], 0), nats)


def _windows_at_once(device: torch.device) -> int:
    return 1 if device.type == "cpu" else DEVICE_WINDOWS


def _warm_state(network: Network, view: TextView, begins: np.ndarray) -> NetworkState:
    """Return the state of every stream before its first symbol; the first stream starts from zero."""
    state = network.initial_state(len(begins))
    if not begins.any():
        return state
    places = np.stack(
        [view.read(begin - WARM_UP, WARM_UP) if begin else np.zeros(WARM_UP, int) for begin in begins]
    )
    ids = to_device(view.table[places], network.readout.weight.device)
    with torch.inference_mode(), arithmetic(ids.device, "fp32"):
        return network.hidden(ids, state)[1]


def _costs(network: Network, ids: np.ndarray, state: NetworkState) -> tuple[np.ndarray, NetworkState]:
    """Return -ln p of ids[:, 1:], (S, T), read back once, and the state after reading ids[:, :-1]."""
    tensor, parts = to_device(ids, network.readout.weight.device), []
    with torch.inference_mode(), arithmetic(tensor.device, "fp32"):
        for begin in range(0, ids.shape[1] - 1, WINDOW):
            window = slice(begin, min(begin + WINDOW, ids.shape[1] - 1))
            hidden, state = network.hidden(tensor[:, window], state, **begun_inside(network, ids[:, window]))
            wanted = tensor[:, 1:][:, window].t().flatten()
            parts.append(_nats(network, hidden.flatten(0, 1), wanted).view(-1, len(ids)))
    return torch.cat(parts).cpu().double().t().numpy(), state


def _nats(network: Network, hidden: Tensor, wanted: Tensor) -> Tensor:
    """Return -ln p of ids, (N,), after hidden states, (N, H)."""
    rows = logits_at_once(network)
    parts = zip(hidden.split(rows), wanted.split(rows), strict=True)
    return torch.cat([cross_entropy(network.readout(h), ids, reduction="none") for h, ids in parts])


def logits_at_once(network: Network) -> int:
    """Return how many distributions over all symbols may be held together, at least 1."""
    return max(1, MOST_LOGITS // network.readout.weight.shape[0])


def begun_inside(network: Network, ids: np.ndarray) -> dict[str, bool]:
    """Return what a network is told of a window's documents, (B, T), so that it need not ask the device."""
    return {"inside": bool((ids[:, 1:] == BOUNDARY).any())} if network.stacked else {}


def mean_nats(network: Network, view: TextView, extra_nats: np.ndarray) -> tuple[float, int]:
    """Return the loss of a text in nats per character, and its number of characters."""
    total, characters = total_nats(network, view, extra_nats)
    return total / max(characters, 1), characters


def total_nats(
    network: Network, view: TextView, extra_nats: np.ndarray, share: tuple[int, int] = (0, 1)
) -> tuple[float, int]:
    """Return what a share of the streams of a text costs in nats, and its number of characters."""
    total, characters = 0.0, 0
    for window in score(network, view, share):
        counted = window.place != BOUNDARY
        total += float(window.nats[counted].sum() + extra_nats[window.place[counted]].sum())
        characters += int(counted.sum())
    return total, characters
