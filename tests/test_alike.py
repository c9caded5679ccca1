"""Correlated hypotheses: r at equal values of others is that of the residuals."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.inspection.alike import label_correlations, partial_correlation, same_as
from charrnn.inspection.pieces import Piece


def some_labels(length=4_000):
    """Four related hypotheses, a copy of the first, and one that has nothing to do with them."""
    random = np.random.default_rng(1)
    base = random.normal(size=(length, 6))
    mixed = base @ np.array(
        [[1, 0.6, 0.3, 0.2], [0, 1, 0.3, 0], [0, 0, 1, 0.5], [0, 0, 0, 1], [0] * 4, [0] * 4]
    )
    copy = mixed[:, :1] + 0.05 * base[:, 4:5]
    return np.concatenate([mixed, copy, base[:, 5:]], axis=1).astype(np.float32)


def pieces_of(labels, count=5, skip=30):
    parts = np.array_split(labels, count)
    ahead = np.full((skip, labels.shape[1]), 1e6, np.float32)  # what is not scored
    return [
        Piece(
            "x" * (len(part) + skip),
            np.zeros(len(part) + skip),
            np.concatenate([ahead, part]),
            skip,
            n,
            0,
            False,
        )
        for n, part in enumerate(parts)
    ]


def test_correlations_of_labels_equal_numpy():
    labels = some_labels()
    found = label_correlations(pieces_of(labels), [0, 2, 5])
    np.testing.assert_allclose(found, np.corrcoef(labels[:, [0, 2, 5]].T), atol=1e-6)


def test_characters_that_only_one_of_both_scores_do_not_count():
    labels = some_labels()
    labels[np.random.default_rng(2).random(labels.shape) < 0.2] = np.nan
    found = label_correlations(pieces_of(labels), range(6))
    for i, j in ((0, 1), (3, 0), (4, 5)):
        both = ~np.isnan(labels[:, [i, j]]).any(1)
        assert found[i, j] == pytest.approx(np.corrcoef(labels[both][:, [i, j]].T)[0, 1], abs=1e-6)


def test_labels_that_never_change_correlate_with_nothing():
    labels = np.concatenate([some_labels()[:, :1], np.full((4_000, 1), 7.0)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(label_correlations(pieces_of(labels), [0, 1]), np.eye(2))


def residual(values, others):
    """What a linear regression on others leaves."""
    design = np.concatenate([np.ones((len(values), 1)), others], axis=1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def test_a_partial_correlation_is_that_of_residuals():
    labels = some_labels().astype(float)
    a = labels[:, 0] + labels[:, 2] + 2 * np.random.default_rng(3).normal(size=len(labels))
    with_neuron = np.array([np.corrcoef(a, labels[:, k])[0, 1] for k in range(6)])
    r = np.corrcoef(labels.T)
    found, given = partial_correlation(with_neuron, r, 0)
    assert same_as(r, 0) == [4] and sorted(given) == [1, 2, 3]
    expected = np.corrcoef(residual(a, labels[:, given]), residual(labels[:, 0], labels[:, given]))[0, 1]
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(found) < abs(with_neuron[0])


def test_a_neuron_that_knows_only_what_two_share_has_nothing_left():
    random = np.random.default_rng(4)
    shared, own = random.normal(size=(2, 100_000))
    r = np.array([[1, 1 / np.sqrt(2)], [1 / np.sqrt(2), 1]])  # of shared + own, and shared
    with_neuron = np.array([np.corrcoef(shared, shared + own)[0, 1], 1.0]) * 0.9
    found, given = partial_correlation(with_neuron, r, 0)
    assert given == [1] and abs(found) < 0.05


def test_where_nothing_is_related_or_all_is_known_there_is_none():
    assert partial_correlation(np.array([0.5, 0.2]), np.eye(2), 0) is None
    together = np.array([[1, 0.7, 0.7], [0.7, 1, -0.02], [0.7, -0.02, 1]])  # the others say it all
    found = partial_correlation(np.array([0.5, 0.4, 0.3]), together, 0)
    assert found is None or found[1] == [1]
