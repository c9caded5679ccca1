"""Correlations of all sorts: against scipy, numpy and slow loops, and where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from charrnn.inspection.scores import Moments, benjamini_hochberg, pearson, within_groups


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# one neuron, one hypothesis


@pytest.mark.parametrize("offset", [0, 1, -300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pearson_equals_scipy(offset, dtype):
    a, b = noise(500, seed=1), noise(500, seed=2)
    a, y = (0.1 * a + offset).astype(dtype), (a + b).astype(dtype)
    expected = stats.pearsonr(a.astype(np.float64), y.astype(np.float64)).statistic
    assert pearson(a, y) == pytest.approx(expected, abs=1e-5 if dtype == np.float32 else 1e-12)


def test_pearson_of_what_does_not_vary_is_zero():
    varied = noise(100)
    for constant in (0.0, 1.0, 0.1, -7.3, 1e6):
        assert pearson(np.full(100, constant, np.float32), varied) == 0.0
        assert pearson(varied, np.full(100, constant)) == 0.0


def test_pearson_of_a_rare_label_and_a_quiet_neuron():
    y = np.zeros(100_000, np.float32)
    y[::5_000] = 1
    assert pearson((1e-4 * y).astype(np.float32), y) == pytest.approx(1.0, abs=1e-6)


def slow_within_groups(a, y, group):
    a, y = a.astype(float).copy(), y.astype(float).copy()
    for value in set(group.tolist()):
        here = [i for i in range(len(group)) if group[i] == value]
        a[here] -= sum(a[here]) / len(here)
        y[here] -= sum(y[here]) / len(here)
    return float(np.corrcoef(a, y)[0, 1])


def test_within_groups_equals_a_slow_loop():
    random = np.random.default_rng(3)
    group = random.choice([3, 7, 200, 65_000], 400).astype(np.uint16)
    y = (noise(400, seed=5) > group % 5 - 1).astype(np.float32)
    a = noise(400, seed=4) + y + group % 7
    assert within_groups(a, y, group) == pytest.approx(slow_within_groups(a, y, group))


def test_within_groups_leaves_nothing_of_a_character_detector():
    group = np.random.default_rng(6).integers(0, 9, 5_000)
    is_four = (group == 4).astype(np.float32)
    assert pearson(is_four + 0.1 * noise(5_000), is_four) > 0.9
    assert abs(within_groups(is_four + 0.1 * noise(5_000), is_four, group)) < 1e-6


def test_within_groups_keeps_what_the_character_does_not_say():
    group = np.random.default_rng(7).integers(0, 9, 5_000)
    state = np.repeat(np.arange(50) % 2, 100).astype(np.float32)
    assert within_groups(state, state, group) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1, 2, 40])
def test_benjamini_hochberg_equals_scipy(size):
    p = np.random.default_rng(size).random(size) ** 3
    p[: size // 3] = 0.001
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))


def test_a_negated_neuron_has_the_negated_correlation():
    a, y = noise(400, seed=9), noise(400, seed=10)
    assert pearson(-a, y) == -pearson(a, y) == pearson(a, -y)


# all neurons, all hypotheses


def expected_correlations(a, y):
    result = np.zeros((a.shape[1], y.shape[1]))
    for n, h in np.ndindex(result.shape):
        scored = ~np.isnan(y[:, h])
        pair = a[scored, n].astype(np.float64), y[scored, h].astype(np.float64)
        if min(part.std() for part in pair) > 0:
            result[n, h] = np.corrcoef(*pair)[0, 1]
    return result


def summed(a, y, batches=(1, 2, 100, 1000)):
    moments = Moments(a.shape[1], y.shape[1])
    begin = 0
    for length in (*batches, len(a)):
        part = slice(begin, min(begin + length, len(a)))
        moments.add(
            torch.from_numpy(a[part].astype(np.float32)), torch.from_numpy(y[part].astype(np.float32))
        )
        begin = part.stop
    return moments.correlations()


def some_activations_and_labels(length=3_000):
    state = np.repeat(np.arange(length // 10) % 3 == 0, 10).astype(np.float64)
    count = np.arange(length) % 70.0
    y = np.stack([state, count, (noise(length, seed=12) > 2).astype(float)], axis=1)
    a = np.tanh(noise(length, 5, seed=13) + y / [1, 20, 1] @ noise(3, 5, seed=14))
    return a.astype(np.float32), y.astype(np.float32)


def test_moments_equal_numpy():
    a, y = some_activations_and_labels()
    np.testing.assert_allclose(summed(a, y), expected_correlations(a, y), atol=1e-5)


def test_moments_leave_out_what_is_not_scored():
    a, y = some_activations_and_labels()
    y[np.random.default_rng(15).random(y.shape) < 0.4] = np.nan
    y[:120] = np.nan  # whole batches of it
    np.testing.assert_allclose(summed(a, y), expected_correlations(a, y), atol=1e-5)


def test_moments_do_not_depend_on_the_batches():
    a, y = some_activations_and_labels()
    np.testing.assert_allclose(summed(a, y, (7,) * 300), summed(a, y, (3_000,)), atol=1e-5)


def test_moments_of_neurons_that_come_in_parts():
    a, y = some_activations_and_labels()
    y[:400, 0], y[200:900, 1] = np.nan, np.nan
    moments = Moments(5, 3)
    for part in (slice(0, 250), slice(250, 3_000)):
        before = torch.from_numpy(a[part].copy())
        moments.add([before[:, :2], before[:, 2:]], torch.from_numpy(y[part]))
        assert (before.numpy() == a[part]).all()  # the network goes on from it
    np.testing.assert_allclose(moments.correlations(), expected_correlations(a, y), atol=1e-5)


def test_neurons_and_labels_that_do_not_vary_correlate_with_nothing():
    a, y = some_activations_and_labels()
    a = np.concatenate([a, np.full((len(a), 3), [0.0, 1.0, -0.5], np.float32)], axis=1)
    y = np.concatenate([y, np.full((len(y), 3), [0.0, 3.0, np.nan], np.float32)], axis=1)
    r = summed(a, y)
    assert (r[5:] == 0).all() and (r[:, 3:] == 0).all()
    assert np.isfinite(r).all()


def test_nothing_added_correlates_with_nothing():
    assert (Moments(2, 3).correlations() == 0).all()


def test_moments_with_counts_far_from_zero():
    a, y = some_activations_and_labels()
    y = y * [1, 1, 0] + [0, 5_000, 0]  # a column far into a long line
    np.testing.assert_allclose(summed(a, y), expected_correlations(a, y.astype(np.float32)), atol=0.01)


@pytest.mark.parametrize("spread", [1e-3, 1e-4, 1e-5])
def test_moments_of_saturated_neurons(spread):
    a, y = some_activations_and_labels(60_000)
    a = (0.9999 - spread * np.abs(a)).astype(np.float32)
    r = summed(a, y, (16_000,) * 3)
    np.testing.assert_allclose(r, expected_correlations(a, y), atol=0.01)


def test_a_neuron_that_never_changes_correlates_with_nothing_whatever_its_value():
    random = np.random.default_rng(19)
    a = np.tile(random.uniform(0.3, 1, 200).astype(np.float32), (50_000, 1))
    y = (random.random((50_000, 1)) < 0.3).astype(np.float32)
    assert (summed(a, y, (16_000,) * 3) == 0).all()


def test_noise_of_neurons_that_hardly_change_is_no_correlation():
    random = np.random.default_rng(16)
    a = (1 - np.abs(random.normal(size=(50_000, 60))) * 10.0 ** random.uniform(-7, -2, 60)).astype(np.float32)
    y = (random.random((50_000, 4)) < [0.5, 0.1, 0.01, 0.9]).astype(np.float32)
    assert np.abs(summed(a, y, (16_000,) * 3)).max() < 0.05
