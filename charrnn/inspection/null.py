"""What chance would give: labels swapped between documents, and the best of all neurons each time.

Activations keep the order in which they came, and so do labels, so both keep their autocorrelation; only
which belongs to which is shuffled, unit by unit ("session perturbation", Harris 2020). As the largest
correlation of *any* neuron is counted at every swap, the test holds for the whole network at once
(Westfall & Young 1993).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from charrnn.inspection.pieces import Piece
from charrnn.native import Library, Pairs, library

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
    units = len(values)
    swaps = [np.arange(units), *(random.permutation(units) for _ in range(SWAPS))]  # the truth comes first
    orders = np.stack(swaps).astype(np.int32)
    wanted = [i for i, neuron in enumerate(chosen) if neuron is not None]
    result: list[float | None] = [None] * len(chosen)
    for i, sums in zip(wanted, _pair_sums(values - values.mean((0, 1)), labels[..., wanted]), strict=True):
        result[i] = _p(*largest_correlations(sums, orders, chosen[i]))
    return result


def _p(largest: np.ndarray, own: np.ndarray) -> float:
    """Return p, given the largest |r| and the chosen neuron's under every order, the truth first."""
    return float(1 + (largest[1:] >= own[0] - EPSILON).sum()) / len(largest)


@dataclass(frozen=True)
class PairSums:
    """Sums over the positions of every pair of units: activations of unit i with the labels of unit j.

    Args:
        ay: Activations times labels, (U, U, N).
        a: Activations where the label is scored, (U, U, N), or of all units, (N,), where every label is.
        aa: The same of their squares.
        count: Scored positions of all units.
        y: Sum of their labels.
        yy: Sum of the squares of their labels.
    """

    ay: Tensor
    a: Tensor
    aa: Tensor
    count: float
    y: float
    yy: float


def _pair_sums(values: Tensor, labels: np.ndarray) -> Iterator[PairSums]:
    """Yield the sums for each hypothesis in the same memory; values are (U, P, N) without their mean."""
    units, _, neurons = values.shape
    ay, a, aa = (values.new_empty(units, units, neurons) for _ in range(3))
    whole = values.sum((0, 1)), values.square().sum((0, 1))
    before: Tensor | None = None
    for i in range(labels.shape[2]):
        own = torch.from_numpy(np.ascontiguousarray(labels[..., i])).to(values.device)
        scored = ~own.isnan()
        y = torch.where(scored, own - own.nanmean().nan_to_num(), 0)
        _products(y, values, ay)
        every = bool(scored.all())
        if not every and (before is None or not torch.equal(scored, before)):
            before = scored
            _products(scored.to(values.dtype), values, a)
            _products(scored.to(values.dtype), values, aa, squares=True)
        totals = (float(part.sum(dtype=torch.float64)) for part in (scored, y, y.square()))
        yield PairSums(ay, *(whole if every else (a, aa)), *totals)


def _products(labels: Tensor, values: Tensor, out: Tensor, *, squares: bool = False) -> None:
    """Sum the products of labels, (U, P), and values or their squares, (U, P, N), into (U, U, N)."""
    for own, sums in zip(values, out, strict=True):
        torch.mm(labels, own.square() if squares else own, out=sums)


def largest_correlations(sums: PairSums, orders: np.ndarray, neuron: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest |r| of all neurons, and one neuron's, for every way of pairing units, both (S,).

    Args:
        sums: Of one hypothesis.
        orders: The unit whose labels each unit gets, (S, U) int32.
        neuron: The one.
    """
    native = library() if sums.ay.device.type == "cpu" else None
    if native is not None:
        return _native_correlations(native, sums, orders, neuron)
    pairs = torch.from_numpy(orders).long().to(sums.ay.device)
    r = _correlations(sums, pairs + torch.arange(pairs.shape[1], device=pairs.device) * pairs.shape[1])
    return r.max(1).values.cpu().numpy(), r[:, neuron].cpu().numpy()


def _native_correlations(
    native: Library, sums: PairSums, orders: np.ndarray, neuron: int
) -> tuple[np.ndarray, np.ndarray]:
    swaps, units = orders.shape
    largest, own = np.empty(swaps), np.empty(swaps)
    sizes = (units, sums.ay.shape[2], swaps, sums.a.ndim == 1)
    tables = (part.data_ptr() for part in (sums.ay, sums.a, sums.aa))
    pairs = Pairs(*sizes, orders.ctypes.data, *tables, sums.count, sums.y, sums.yy, EPSILON)
    results = (largest.ctypes.data, own.ctypes.data)
    if native.largest_correlations(ctypes.byref(pairs), neuron, *results, torch.get_num_threads()):
        raise MemoryError("no memory for the sums of a null")
    return largest, own


def _correlations(sums: PairSums, bags: Tensor) -> Tensor:
    """Return |r| of every neuron for every way of pairing, (S, N); bags hold numbers of pairs, (S, U)."""
    count = max(sums.count, 1.0)
    ay = _summed(sums.ay, bags)
    a, aa = (_summed(part, bags) if part.ndim == 3 else part.double() for part in (sums.a, sums.aa))
    covariance = ay - a * sums.y / count
    scale = ((aa - a.square() / count) * (sums.yy - sums.y * sums.y / count)).clamp(min=0).sqrt()
    return torch.where(scale > EPSILON * count, covariance.abs() / scale, 0.0)


def _summed(pairs: Tensor, bags: Tensor) -> Tensor:
    return embedding_bag(bags, pairs.flatten(0, 1), mode="sum").double()
