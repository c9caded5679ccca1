"""What chance would give: labels swapped between documents, and the best of all neurons each time.

Activations keep the order in which they came, and so do labels, so both keep their autocorrelation; only
which belongs to which is shuffled, unit by unit ("session perturbation", Harris 2020). As the largest
correlation of *any* neuron is counted at every swap, the test holds for the whole network at once
(Westfall & Young 1993).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from charrnn.inspection.pieces import Piece

SWAPS = 999
MIN_UNITS = 20
MAX_UNITS = 64
UNIT_CHARS = (2_000, 1_500, 1_000)
"""Lengths of the blocks that are swapped where documents are few, the first that gives enough of them."""
MAX_UNIT_CHARS = 8_000
MAX_POSITIONS = 500
"""Characters of a unit that count, evenly from the whole: neighbours say almost the same."""
DOCUMENT_SHARE = 0.6
"""Share of the documents that must be long enough for the length to which all are cut."""
GROUP = 8
"""Hypotheses whose pair sums are made at a time."""
EPSILON = 1e-9

Spot = tuple[int, int]
"""Number of a piece and a character in it."""


@dataclass(frozen=True)
class Units:
    """Equally long stretches of the text whose labels are swapped with one another.

    Args:
        by: ``documents``, or ``blocks`` of them, which makes the null approximate.
        pieces: Number of the piece of every position, (U, P).
        positions: Character in that piece, (U, P).
    """

    by: str
    pieces: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def valid(self) -> bool:
        """Whether there are enough of them to say what chance would give."""
        return len(self) >= MIN_UNITS

    def labels(self, pieces: Sequence[Piece]) -> np.ndarray:
        """Return the labels of all hypotheses at all positions, (U, P, Y)."""
        flat = zip(self.pieces.ravel().tolist(), self.positions.ravel().tolist(), strict=True)
        width = pieces[0].labels.shape[1]
        found = np.array([pieces[piece].labels[at] for piece, at in flat], dtype=np.float32)
        return found.reshape(*self.pieces.shape, width)


def make_units(pieces: Sequence[Piece]) -> Units:
    """Return what is swapped: whole documents if at least 20 report, else blocks of them.

    Blocks of one document resemble one another, so a null from blocks is only approximate.
    """
    documents = _by_document(pieces)
    if len(documents) >= MIN_UNITS:
        lengths = sorted((len(spots) for spots in documents), reverse=True)
        kept = max(MIN_UNITS, int(DOCUMENT_SHARE * len(documents)))
        return _units("documents", documents, min(MAX_UNIT_CHARS, lengths[kept - 1]))
    for length in UNIT_CHARS:
        blocks = [block for spots in _by_piece(pieces) for block in _cut(spots, length)]
        if len(blocks) >= MIN_UNITS:
            break
    return _units("blocks", blocks, length)


def _by_piece(pieces: Sequence[Piece]) -> Iterator[np.ndarray]:
    """Yield the scored spots of every piece, (N, 2)."""
    for number, piece in enumerate(pieces):
        at = np.arange(piece.skip, len(piece))
        yield np.stack([np.full_like(at, number), at], axis=1)


def _by_document(pieces: Sequence[Piece]) -> list[np.ndarray]:
    joined: dict[int, list[np.ndarray]] = {}
    for piece, spots in zip(pieces, _by_piece(pieces), strict=True):
        joined.setdefault(piece.document, []).append(spots)
    return [np.concatenate(parts) for parts in joined.values()]


def _cut(spots: np.ndarray, length: int) -> list[np.ndarray]:
    return [spots[begin : begin + length] for begin in range(0, len(spots) - length + 1, length)]


def _units(by: str, stretches: list[np.ndarray], length: int) -> Units:
    long = [spots for spots in stretches if len(spots) >= length]
    if len(long) > MAX_UNITS:
        long = [long[i] for i in np.linspace(0, len(long) - 1, MAX_UNITS).astype(int)]
    at = np.unique(np.linspace(0, length - 1, min(length, MAX_POSITIONS)).astype(int))
    spots = np.stack([spots[at] for spots in long]) if long else np.empty((0, len(at), 2), dtype=np.int64)
    return Units(by, spots[..., 0], spots[..., 1])


def swap_null(
    values: Tensor, labels: np.ndarray, chosen: Sequence[int | None], seed: int = 0
) -> list[float | None]:
    """Return, for each hypothesis, the chance of a correlation as large as the chosen neuron's.

    Args:
        values: Activations of every neuron, (U, P, N) float32.
        labels: Labels of every hypothesis, NaN where they are not scored, (U, P, Y).
        chosen: The neuron whose correlation is tested, for each hypothesis; None leaves it out.
        seed: Of the shuffles.

    Returns:
        p: the share of swaps in which any neuron correlates at least as much as the chosen one does in
        truth, the true pairing counted in; None where there is no neuron or fewer than 20 units.
    """
    if len(values) < MIN_UNITS:
        return [None] * len(chosen)
    random = np.random.default_rng(seed)
    swaps = np.stack([random.permutation(len(values)) for _ in range(SWAPS)])
    bags = torch.from_numpy(swaps + np.arange(len(values)) * len(values)).to(values.device)
    values = values - values.mean((0, 1))
    result: list[float | None] = []
    for first in range(0, labels.shape[2], GROUP):
        group = torch.from_numpy(labels[..., first : first + GROUP]).to(values.device)
        for sums, neuron in zip(_pair_sums(values, group), chosen[first : first + GROUP], strict=True):
            result.append(None if neuron is None else _p(sums, bags, neuron))
    return result


@dataclass(frozen=True)
class _PairSums:
    """Sums over the activations of one unit with the labels of another; a pair is ``i U + j``.

    Args:
        ay: (U U, N).
        a: Over positions whose label is scored, (U U, N), or (N,) of all units where every label is.
        aa: The same of squares.
        y: Count, sum and sum of squares of the labels of each unit, (3, U).
    """

    ay: Tensor
    a: Tensor
    aa: Tensor
    y: Tensor


def _pair_sums(values: Tensor, labels: Tensor) -> Iterator[_PairSums]:
    """Yield the sums for each hypothesis; values are (U, P, N) without their mean, labels (U, P, Y)."""
    scored = ~labels.isnan()
    y = torch.where(scored, labels - labels.nanmean((0, 1)).nan_to_num(), 0)
    all_ay = _products(values, y)
    for i in range(labels.shape[2]):
        own, mask = y[..., i], scored[..., i].to(values.dtype)
        counted = torch.stack([mask.sum(1), own.sum(1), own.square().sum(1)]).double()
        if bool(scored[..., i].all()):
            a, aa = values.sum((0, 1)), values.square().sum((0, 1))
        else:
            a, aa = (_products(part, mask.unsqueeze(2))[..., 0] for part in (values, values.square()))
        yield _PairSums(all_ay[..., i].contiguous(), a, aa, counted)


def _products(values: Tensor, labels: Tensor) -> Tensor:
    """Return the sums over positions of activations of unit i times labels of unit j, (U U, N, Y)."""
    units, length, neurons = values.shape
    left = values.transpose(1, 2).reshape(units * neurons, length)
    right = labels.permute(1, 0, 2).reshape(length, -1)
    return (left @ right).view(units, neurons, units, -1).transpose(1, 2).reshape(units**2, neurons, -1)


def _p(sums: _PairSums, bags: Tensor, neuron: int) -> float:
    identity = torch.arange(bags.shape[1], device=bags.device).mul(bags.shape[1] + 1)[None]
    observed = float(_correlations(sums, identity)[0, neuron])
    swapped = _correlations(sums, bags).max(1).values
    return (1 + int((swapped >= observed - EPSILON).sum())) / (1 + len(bags))


def _correlations(sums: _PairSums, bags: Tensor) -> Tensor:
    """Return |r| of every neuron for every way of pairing, (S, N); bags hold the pairs, (S, U)."""
    count, y, yy = sums.y.sum(1)
    ay = _summed(sums.ay, bags)
    a, aa = (_summed(part, bags) if part.ndim == 2 else part.double() for part in (sums.a, sums.aa))
    n = count.clamp(min=1)
    covariance = ay - a * y / n
    scale = ((aa - a.square() / n) * (yy - y * y / n)).clamp(min=0).sqrt()
    return torch.where(scale > EPSILON * n, covariance.abs() / scale, 0.0)


def _summed(pairs: Tensor, bags: Tensor) -> Tensor:
    return embedding_bag(bags, pairs, mode="sum").double()
