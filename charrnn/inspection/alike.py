"""How hypotheses resemble one another on a text, and what is left of r at equal values of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charrnn.inspection.pieces import Piece

SAME = 0.9
"""Hypotheses whose labels correlate this much are not told apart."""
RELATED = 0.1
OTHERS = 3
"""Hypotheses that are held equal: those that correlate most, but can still be told apart."""
LEAST = 1e-3
"""Smallest eigenvalue of correlations from which a partial one is computed."""


def label_correlations(pieces: Sequence[Piece], columns: Sequence[int]) -> np.ndarray:
    """Return the correlations of some hypotheses' labels, over the characters that both score, (K, K)."""
    sums = np.zeros((4, len(columns), len(columns)))
    for piece in pieces:
        labels = piece.labels[piece.skip :, list(columns)].astype(np.float64)
        scored, y = (~np.isnan(labels)).astype(np.float64), np.nan_to_num(labels)
        sums += np.stack(
            [part.T @ other for part, other in ((scored, scored), (y, scored), (y * y, scored), (y, y))]
        )
    count, y, yy, both = sums
    count = np.maximum(count, 1)
    spread = np.maximum(yy - y * y / count, 0)
    scale = np.sqrt(spread * spread.T)
    r = np.divide(both - y * y.T / count, scale, out=np.zeros_like(scale), where=scale > 1e-9 * count)
    np.fill_diagonal(r, 1.0)
    return r


def same_as(r: np.ndarray, own: int) -> list[int]:
    """Return the hypotheses that can hardly be told from one, the most alike first."""
    return [i for i in _related(r, own) if abs(r[own, i]) >= SAME]


def partial_correlation(with_neuron: np.ndarray, r: np.ndarray, own: int) -> tuple[float, list[int]] | None:
    """Return a neuron's correlation with one hypothesis at equal values of up to three others, and which.

    Args:
        with_neuron: The neuron's correlations with all hypotheses, (K,).
        r: Those of the hypotheses with one another, (K, K).
        own: The hypothesis.

    Returns:
        None where no other hypothesis is related, or what is related says the same as the others together.
    """
    others = [i for i in _related(r, own) if RELATED <= abs(r[own, i]) < SAME][:OTHERS]
    for kept in (others[:count] for count in range(len(others), 0, -1)):
        columns = [own, *kept]
        joint = np.eye(len(columns) + 1)
        joint[0, 1:] = joint[1:, 0] = with_neuron[columns]
        joint[1:, 1:] = r[np.ix_(columns, columns)]
        if np.linalg.eigvalsh(joint)[0] > LEAST:
            inverse = np.linalg.inv(joint)
            return float(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])), kept
    return None


def _related(r: np.ndarray, own: int) -> list[int]:
    order = np.argsort(-np.abs(r[own]), kind="stable")
    return [int(i) for i in order if i != own]
