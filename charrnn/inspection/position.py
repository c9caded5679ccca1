"""The position in a document, taken out of activations and labels.

Where blocks of few documents are swapped, what drifts along a document drifts in the blocks of both signals,
and the swap takes it from one of them only: chance looks smaller than it is. So position goes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charrnn.inspection.null import Units
from charrnn.inspection.pieces import Piece
from charrnn.inspection.scores import EPSILON

PARTS = 10
"""Parts of the positions, of equally many characters, in each of which drift is taken for a straight line."""
LEFT = 0.05
"""A label is the position itself where the lines leave no larger share of its variance."""


def positions(units: Units, pieces: Sequence[Piece]) -> np.ndarray:
    """Return how many characters of its document lie before every position of units, (U, P)."""
    return np.array([piece.begin for piece in pieces])[units.pieces] + units.positions


def without_position(values: Tensor, labels: np.ndarray, at: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Return activations and labels less what the position in the document says of them.

    Args:
        values: Activations of every neuron, (U, P, N) float32.
        labels: Labels of every hypothesis, NaN where they are not scored, (U, P, Y).
        at: ``positions``, (U, P).

    Returns:
        What is left of both; only NaN of a label that is the position itself.
    """
    lines = _lines(at.ravel().astype(np.float64))
    own = torch.from_numpy(lines).to(values)
    flat = values.flatten(0, 1)
    rest = torch.addmm(flat, own, own.t() @ flat, alpha=-1)
    columns = [_rest(column, lines) for column in labels.reshape(-1, labels.shape[2]).T]
    return rest.view_as(values), np.stack(columns, axis=1).reshape(labels.shape)


def left_of_r(
    before: tuple[Tensor, np.ndarray], after: tuple[Tensor, np.ndarray], neurons: Sequence[int]
) -> list[float]:
    """Return what is left of r without the position, for one neuron with every hypothesis.

    Their covariance is a sum of what goes through the position and what does not. This is the second part in
    units of r: with all of both gone it is 0, however well the rests agree.

    Args:
        before: Activations and labels.
        after: The same ``without_position``.
        neurons: Of each label.
    """
    return [
        _left(*(_pair(values, labels, neuron, column) for values, labels in (before, after)))
        for column, neuron in enumerate(neurons)
    ]


def _pair(values: Tensor, labels: np.ndarray, neuron: int, column: int) -> np.ndarray:
    a = values[..., neuron].flatten().cpu().numpy()
    return np.stack([a, labels[..., column].ravel()]).astype(np.float64)


def _left(before: np.ndarray, after: np.ndarray) -> float:
    scored = ~np.isnan(after[1])
    if not scored.any():
        return 0.0
    (a, y), (a_left, y_left) = (
        both[:, scored] - both[:, scored].mean(1, keepdims=True) for both in (before, after)
    )
    scale = np.sqrt((a @ a) * (y @ y))
    return float(a_left @ y_left / scale) if scale > EPSILON * len(a) else 0.0


def _lines(at: np.ndarray) -> np.ndarray:
    """Return a level and a slope in each part of the positions, orthonormal, (M, ≤ 20)."""
    edges = np.quantile(at, np.arange(1, PARTS) / PARTS)
    part = np.searchsorted(edges, at, side="right")
    level = np.eye(PARTS)[part]
    middle = level.T @ at / np.maximum(level.sum(0), 1)
    lines = np.concatenate([level, level * (at - middle[part])[:, None]], axis=1)
    size = np.linalg.norm(lines, axis=0)
    return lines[:, size > 0] / size[size > 0]


def _rest(labels: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return what least squares leave of labels, (M,)."""
    scored = ~np.isnan(labels)
    rest = np.full(len(labels), np.nan, dtype=np.float32)
    if not scored.any():
        return rest
    y, own = labels[scored].astype(np.float64), lines[scored]
    y -= y.mean()
    left = y - own @ np.linalg.lstsq(own, y, rcond=None)[0]
    if not y.any() or left @ left > LEFT * (y @ y):
        rest[scored] = left
    return rest
