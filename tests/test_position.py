"""Position taken out of activations and labels: against scikit-learn, and where it is all there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LinearRegression

from charrnn.inspection.null import Units, swap_null
from charrnn.inspection.pieces import Piece
from charrnn.inspection.position import PARTS, left_of_r, positions, without_position

UNITS, LENGTH = 24, 60


def drawn(seed=1):
    """Where units lie, four neurons and three hypotheses, all of which drift."""
    random = np.random.default_rng(seed)
    at = np.sort(random.integers(0, 9_000, UNITS))[:, None] + np.arange(LENGTH)
    drift = np.sin(at / 2_000)[..., None]
    values = random.normal(size=(UNITS, LENGTH, 4)) + drift * np.arange(4)
    labels = (random.normal(size=(UNITS, LENGTH, 3)) + 2 * drift > 0).astype(np.float32)
    labels[random.random(labels.shape) < 0.1] = np.nan
    return at, torch.from_numpy(values.astype(np.float32)), labels


def slow_rest(values, at):
    """What a line in every tenth of the characters leaves of values, (M,), NaN kept."""
    rest = np.full(len(values), np.nan)
    edges = np.quantile(at, np.arange(1, PARTS) / PARTS)
    part = np.array([sum(place >= edge for edge in edges) for place in at])
    for number in range(PARTS):
        here = (part == number) & ~np.isnan(values)
        fit = LinearRegression().fit(at[here, None], values[here])
        rest[here] = values[here] - fit.predict(at[here, None])
    return rest


def test_what_is_left_is_what_lines_leave():
    at, values, labels = drawn()
    rest, left = without_position(values, labels, at)
    for n in range(4):
        slow = slow_rest(values[..., n].double().numpy().ravel(), at.ravel())
        np.testing.assert_allclose(rest[..., n].ravel(), slow, atol=1e-5)
    for n in range(3):
        np.testing.assert_allclose(
            left[..., n].ravel(), slow_rest(labels[..., n].ravel(), at.ravel()), atol=1e-5
        )


def test_what_is_left_of_r_and_what_goes_through_the_position_make_r():
    at, values, labels = drawn(2)
    scored = ~np.isnan(labels[..., 1].ravel())
    found = left_of_r((values, labels), without_position(values, labels, at), [3, 2, 0])[1]
    a, y = values[..., 2].double().numpy().ravel(), labels[..., 1].ravel().astype(float)
    rests = (slow_rest(part, at.ravel())[scored] for part in (a, y))
    a, y = (part[scored] - part[scored].mean() for part in (a, y))
    through = np.cov(*(own - rest for own, rest in zip((a, y), rests, strict=True)), ddof=0)[0, 1]
    r = np.corrcoef(a, y)[0, 1]
    assert found == pytest.approx(r - through / (a.std() * y.std()), abs=0.02)
    assert abs(found) < r / 2


def test_a_label_that_is_the_position_leaves_nothing():
    at, values, labels = drawn(3)
    labels[..., 0], labels[..., 1] = np.log1p(at), 0.0
    rest = without_position(values, labels, at)
    assert np.isnan(rest[1][..., 0]).all()
    assert not rest[1][..., 1].any()  # one that never changes stays what it is
    left = left_of_r((values, labels), rest, [3, 3, 0])
    assert left[:2] == [0.0, 0.0]


def test_positions_count_from_the_begin_of_the_document():
    pieces = [
        Piece("x" * 9, np.zeros(9, np.uint8), np.zeros((9, 1), np.float32), 0, n, begin, False)
        for n, begin in ((0, 0), (0, 700), (1, 0))
    ]
    units = Units("blocks", np.array([[1, 1, 2], [0, 2, 2]]), np.array([[3, 4, 0], [5, 6, 7]]))
    assert positions(units, pieces).tolist() == [[703, 704, 0], [5, 6, 7]]


def test_two_signals_that_only_drift_are_no_finding_and_one_that_follows_the_other_is():
    found = {"drift": [], "without": [], "follows": []}
    at = np.arange(24)[:, None] * 2_000 + np.arange(60) * 30
    for seed in range(30):
        random = np.random.default_rng(seed)
        noise, y = random.normal(size=(24, 60, 4)), random.normal(size=(24, 60, 1))
        drift = 2 * at[..., None] / at.max()
        values, labels = noise + drift * [1, 0, 0, 0], (y + drift).astype(np.float32)
        follows = values + 0.5 * y * [1, 0, 0, 0]
        first, second = (torch.from_numpy(part.astype(np.float32)) for part in (values, follows))
        found["drift"] += swap_null(first, labels, [0])
        found["without"] += swap_null(*without_position(first, labels, at), [0])
        found["follows"] += swap_null(*without_position(second, labels, at), [0])
    called = {name: sum(p <= 0.05 for p in own) for name, own in found.items()}
    assert called["drift"] == called["follows"] == 30
    assert called["without"] <= stats.binom(30, 0.05).ppf(0.9999)
