"""How fast gradients fade on their way back in time: the picture of the vanishing gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.errors import ConfigError, InspectionError
from charrnn.inspection.pieces import Piece
from charrnn.inspection.subject import Subject
from charrnn.model.cells.base import Hold
from charrnn.model.network import Network
from charrnn.text.vocabulary import BOUNDARY

MAX_LAG = 256
POSITIONS = 256
"""Characters whose loss is followed back."""
TWIN_POSITIONS = 64
"""The untrained twin's gradients hardly differ from one character to the next."""
ROWS = 64
WARM_UP = 500
"""Characters read before those that are followed back, as far as there are any."""
REACH = 0.01


@dataclass(frozen=True)
class Fading:
    """The gradient with respect to one part of one layer's state, by its distance in time.

    Args:
        layer: From 1.
        kind: Part of the state, such as ``h`` or ``c``.
        norms: Mean over characters t of ``‖d loss_t / d state_(t-k)‖`` in nats per unit, lag k = 0 …, (K,).
    """

    layer: int
    kind: str
    norms: np.ndarray

    @property
    def name(self) -> str:
        """What it is called, such as ``L1.c``."""
        return f"L{self.layer}.{self.kind}"

    @property
    def relative(self) -> np.ndarray:
        """Share of what there is at lag 0, (K,); NaN where nothing is."""
        return self.norms / self.norms[0] if self.norms[0] > 0 else np.full(len(self.norms), np.nan)

    @property
    def half_life(self) -> float | None:
        """The first lag, interpolated, at which half of lag 0 is left; None if there is none."""
        (below,) = np.nonzero(self.relative <= 0.5)
        if not len(below):
            return None
        after = int(below[0])
        high, low = self.relative[after - 1 : after + 1]
        return float(after - 1 + (high - 0.5) / (high - low))

    @property
    def reach(self) -> int | None:
        """The last lag at which 1 % of lag 0 is left; None without any gradient."""
        (above,) = np.nonzero(self.relative >= REACH)
        return int(above[-1]) if len(above) else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        figures = {"half_life": self.half_life, "reach": self.reach}
        relative = [None if np.isnan(value) else float(value) for value in self.relative]
        return {
            "layer": self.layer,
            "kind": self.kind,
            **figures,
            "norm": self.norms.tolist(),
            "relative": relative,
        }


@dataclass(frozen=True)
class GradientFindings:
    """The whole result of ``inspect gradients``.

    Args:
        run: What names the run to a command.
        model: Cell and size, as text.
        seq_len: Timesteps over which training followed gradients back.
        counted: Characters t with so many before them, for every lag, (K,).
        untrained_counted: The same for the twin, (K,).
        trained: Layer by layer, part of the state by part.
        untrained: The same for the network before training.
    """

    run: str
    model: str
    seq_len: int
    counted: np.ndarray
    untrained_counted: np.ndarray
    trained: tuple[Fading, ...]
    untrained: tuple[Fading, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the untrained network's stand apart."""
        return {
            "run": self.run,
            "model": self.model,
            "seq_len": self.seq_len,
            "lags": list(range(len(self.counted))),
            "positions": self.counted.tolist(),
            "gradients": [fading.to_json() for fading in self.trained],
            "untrained": {
                "positions": self.untrained_counted.tolist(),
                "gradients": [fading.to_json() for fading in self.untrained],
            },
        }


def find_gradients(
    subject: Subject, seq_len: int, lags: int | None = None, progress: Callable[[str], None] = lambda _: None
) -> GradientFindings:
    """Follow the loss at characters all over the subject's text back in time.

    Args:
        subject: Network, twin and text.
        seq_len: Timesteps over which training followed gradients back.
        lags: How far to follow; None means ``seq_len``, at most 256.
        progress: Called with what begins.

    Raises:
        ConfigError: ``lags`` is out of range.
        InspectionError: No piece of text has two characters to be read.
    """
    last = min(seq_len, MAX_LAG) if lags is None else lags
    if not 1 <= last <= MAX_LAG:
        raise ConfigError(f"`--lags` is `{last}`, but must be at least 1 and at most {MAX_LAG}")
    results = []
    networks = {"": (subject.network, POSITIONS), " with the untrained twin": (subject.twin, TWIN_POSITIONS)}
    for words, (network, count) in networks.items():
        progress(f"following gradients back{words}")
        results.append(fading(network, subject.table, subject.pieces, last, count))
    config = subject.network.config
    return GradientFindings(
        run=subject.run,
        model=f"{config.cell} {config.num_layers}×{config.hidden_size}",
        seq_len=seq_len,
        counted=results[0][1],
        untrained_counted=results[1][1],
        trained=results[0][0],
        untrained=results[1][0],
    )


def fading(
    network: Network, table: np.ndarray, pieces: Sequence[Piece], last: int, count: int
) -> tuple[tuple[Fading, ...], np.ndarray]:
    """Return the mean norms at lags 0 … ``last``, and how many characters each is a mean of.

    Args:
        network: In evaluation mode.
        table: Place to id, (U,) int64.
        pieces: Text; a lag that leads to before a piece's begin is not counted.
        last: Largest lag.
        count: Characters t at most, evenly from all.
    """
    places = _positions(pieces, last, count)
    total: dict[tuple[int, str], np.ndarray] = {}
    counted = np.zeros(last + 1, dtype=np.int64)
    for first in range(0, len(places), ROWS):
        rows = places[first : first + ROWS]
        ids = torch.from_numpy(np.stack([_row(table, pieces[i].places, t, last) for i, t in rows]))
        known = np.array([t for _, t in rows])[:, None] >= np.arange(last + 1)  # (R, K)
        counted += known.sum(0)
        for part, norms in lag_norms(network, ids, last).items():
            total[part] = total.get(part, 0.0) + (norms * known).sum(0)
    means = {part: norms / np.maximum(counted, 1) for part, norms in total.items()}
    return tuple(Fading(layer, kind, norms) for (layer, kind), norms in sorted(means.items())), counted


def lag_norms(network: Network, ids: Tensor, last: int) -> dict[tuple[int, str], np.ndarray]:
    """Return, for the loss of every row's last symbol, the norms of its gradients.

    A zero is added to every part of the state as soon as it is made. The gradient with respect to that
    zero is the whole one: through time, through the layers above, and through the readout.

    Args:
        network: In evaluation mode.
        ids: Rows of symbols, the last of which is predicted, not read, (R, T) with T ≥ ``last`` + 2.
        last: Largest lag; 0 is the state from which the last symbol is predicted.

    Returns:
        (R, ``last`` + 1) for every layer and part of the state, such as ``(1, "h")``.
    """
    ids = ids.to(network.readout.weight.device)
    before = ids.shape[1] - last - 2
    state = network.initial_state(len(ids))
    if before:
        with torch.no_grad():
            _, state = network.hidden(ids[:, :before], state)
    zeros: dict[tuple[int, str], list[Tensor]] = {}
    for t in range(before, ids.shape[1] - 1):
        logits, state = network.step(ids[:, t], state, lambda layer: _adding_zeros(layer, network, zeros))
    loss = cross_entropy(logits, ids[:, -1], reduction="sum")
    flat = [zero for parts in zeros.values() for zero in parts]
    gradients = torch.stack(torch.autograd.grad(loss, flat)).unflatten(0, (len(zeros), -1))  # (P, K, R, H)
    norms = gradients.norm(dim=-1).flip(1).transpose(1, 2).double().cpu().numpy()
    return dict(zip(zeros, norms, strict=True))


def _adding_zeros(layer: int, network: Network, zeros: dict[tuple[int, str], list[Tensor]]) -> Hold:
    states = network.layers[layer - 1].state_names

    def add(kind: str, values: Tensor) -> Tensor:
        if kind not in states:
            return values
        zero = torch.zeros_like(values, requires_grad=True)
        zeros.setdefault((layer, kind), []).append(zero)
        return values + zero

    return add


def _positions(pieces: Sequence[Piece], last: int, count: int) -> list[tuple[int, int]]:
    """Choose characters (piece, t) evenly from all that have ``last`` others before them, if enough have."""
    for least in (last, 0):
        firsts = np.array([max(piece.skip, least) for piece in pieces])
        spans = np.maximum(np.array([len(piece) - 1 for piece in pieces]) - firsts, 0)
        if spans.sum() >= count:
            break
    ends = np.cumsum(spans)
    number = min(count, int(ends[-1]))
    if not number:
        raise InspectionError("there is too little text to follow gradients in", "name more with `--text`")
    chosen = ((np.arange(number) + 0.5) * ends[-1] / number).astype(np.int64)
    rows = np.searchsorted(ends, chosen, side="right")
    return [(int(i), int(firsts[i] + n - (ends[i] - spans[i]))) for i, n in zip(rows, chosen, strict=True)]


def _row(table: np.ndarray, places: np.ndarray, t: int, last: int) -> np.ndarray:
    """Return what is read up to character t, boundaries before its begin, and the character after it."""
    length = WARM_UP + last + 3
    symbols = table[places[max(0, t + 3 - length) : t + 2]]
    return np.concatenate([np.full(length - len(symbols), BOUNDARY), symbols])
