"""Statistics: against scipy, scikit-learn and slow loops, and where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from charrnn.inspection import scores
from charrnn.inspection.scores import (
    Moments,
    average_precision,
    benjamini_hochberg,
    null_units,
    pearson,
    swap_null,
    within_groups,
)


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


@pytest.mark.parametrize("levels", [0, 1, 2, 7])
@pytest.mark.parametrize("prevalence", [0.01, 0.5, 0.98])
def test_average_precision_equals_sklearn(levels, prevalence):
    random = np.random.default_rng(8)
    y = (random.random(700) < prevalence).astype(np.float32)
    y[:2] = 0, 1
    score = random.normal(size=700).astype(np.float32) + y
    score = np.round(score * levels) if levels else score
    assert average_precision(score, y) == pytest.approx(average_precision_score(y, score))


def test_average_precision_of_only_positives_is_one_and_of_none_zero():
    assert average_precision(noise(50), np.ones(50)) == 1.0
    assert average_precision(noise(50), np.zeros(50)) == 0.0
    assert average_precision(np.zeros(1), np.ones(1)) == 1.0


def test_average_precision_of_equal_scores_is_the_prevalence():
    assert average_precision(np.zeros(50), np.arange(50) < 10) == pytest.approx(0.2)


@pytest.mark.parametrize("size", [1, 2, 40])
def test_benjamini_hochberg_equals_scipy(size):
    p = np.random.default_rng(size).random(size) ** 3
    p[: size // 3] = 0.001
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))


# metrics must see when labels are missing or wrong (NeuronEval)


@pytest.fixture
def neuron_and_labels():
    y = np.repeat(np.arange(400) % 4 == 0, 25).astype(np.float32)
    return y + 0.2 * noise(len(y), seed=9), y


def both(a, y):
    return np.array([pearson(a, y), average_precision(a, y)])


def test_missing_labels_lower_the_scores(neuron_and_labels):
    a, y = neuron_and_labels
    fewer = y * (np.random.default_rng(10).random(len(y)) < 0.5)
    assert (both(a, fewer) < both(a, y) - 0.1).all()


def test_wrong_labels_lower_the_scores(neuron_and_labels):
    a, y = neuron_and_labels
    more = y.copy()
    more[np.random.default_rng(11).choice(np.flatnonzero(y == 0), int(y.sum()), replace=False)] = 1
    assert (both(a, more) < both(a, y) - 0.1).all()


def test_a_negated_neuron_has_the_negated_correlation(neuron_and_labels):
    a, y = neuron_and_labels
    assert pearson(-a, y) == pytest.approx(-pearson(a, y))


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


# the null


def null(a, y, documents=None, seed=0):
    """Swap pieces of one document, or of those named."""
    documents = documents or [0] * len(a)
    return swap_null(*(null_units(values, documents) for values in (a, y)), seed=seed)


def walk(random, length):
    steps = np.cumsum(random.normal(size=length))
    return steps - steps.mean()


def autoregressive(random, length, keep=0.99):
    values = random.normal(size=length) * np.sqrt(1 - keep * keep)
    values[0] = random.normal()
    for t in range(1, length):
        values[t] += keep * values[t - 1]
    return values


def p_values(make, lengths, trials=200, documents=None):
    found = []
    for trial in range(trials):
        random = np.random.default_rng(trial)
        a, y = ([make(random, length) for length in lengths] for _ in range(2))
        found.append(null(a, [(part > 0).astype(np.float32) for part in y], documents, trial))
    return np.array(found)


def assert_uniform(p):
    """Within what 200 trials of a uniform variable show in all but one case in a thousand."""
    for level in (0.05, 0.2, 0.5):
        low, high = stats.binom(len(p), level).ppf([0.0005, 0.9995])
        assert low <= (p <= level).sum() <= high


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(scores, "NULL_BLOCK_CHARS", 200)
    monkeypatch.setattr(scores, "NULL_SWAPS", 199)


def test_white_noise_is_called_significant_as_often_as_it_should(short_blocks):
    assert_uniform(p_values(lambda random, n: random.normal(size=n), (200, 450, 5_000)))


def test_walks_are_called_significant_as_often_as_they_should(short_blocks):
    assert_uniform(p_values(walk, (200,) * 24))


def test_autocorrelated_signals_are_called_significant_as_often_as_they_should(monkeypatch):
    monkeypatch.setattr(scores, "NULL_SWAPS", 199)
    assert_uniform(p_values(lambda random, n: autoregressive(random, n, 0.97), (9_500,) * 5, trials=100))


def test_documents_that_differ_as_wholes_are_no_finding(short_blocks):
    def document(random, length):
        return random.normal() + random.normal(size=length)

    lengths = [600 + 40 * i for i in range(24)]
    assert_uniform(p_values(document, lengths, documents=list(range(24))))


def test_a_plain_test_would_call_walks_significant():
    """What the null is for: without it, nearly all of these would be findings."""
    random = np.random.default_rng(0)
    pairs = [(walk(random, 4_800), walk(random, 4_800)) for _ in range(100)]
    assert np.mean([stats.pearsonr(*pair).pvalue <= 0.05 for pair in pairs]) > 0.8


def test_a_true_relation_has_a_tiny_p():
    random = np.random.default_rng(17)
    y = [(autoregressive(random, 2_100) > 0).astype(np.float32) for _ in range(20)]
    for sign in (1, -1):
        a = [sign * (part + 3 * random.normal(size=len(part))) for part in y]
        assert null(a, y) == 1 / 1000


def test_labels_that_are_not_scored_have_no_say(short_blocks):
    random = np.random.default_rng(18)
    y = [random.integers(0, 2, 200).astype(np.float32) for _ in range(20)]
    a = [part + random.normal(size=200) for part in y]
    for values, labels in zip(a, y, strict=True):
        values[::2] = 1e3 * random.normal()
        labels[::2] = np.nan
    assert null(a, y) == 1 / 200


def test_what_never_varies_is_no_finding(short_blocks):
    constant = [np.ones(200) for _ in range(20)]
    varied = [noise(200, seed=i) for i in range(20)]
    unscored = [np.full(200, np.nan) for _ in range(20)]
    assert null(constant, varied) == null(varied, constant) == null(varied, unscored) == 1.0


@pytest.mark.parametrize("lengths", [(), (1_999,) * 50, (2_000,) * 19, (39_999,), (3_999,) * 19])
def test_too_few_blocks_give_no_null(lengths):
    signals = [noise(length, seed=i) for i, length in enumerate(lengths)]
    assert len(null_units(signals, [0] * len(signals))) < 20
    assert null(signals, signals) is None


@pytest.mark.parametrize("lengths", [(2_000,) * 20, (40_000,), (3_999,) * 20])
def test_twenty_blocks_are_enough(lengths):
    signals = [noise(length, seed=i) for i, length in enumerate(lengths)]
    assert len(null_units(signals, [0] * len(signals))) == 20
    assert null(signals, signals) == 1 / 1000


def test_one_seed_one_p(short_blocks):
    a, y = ([noise(200, seed=s + i) for i in range(30)] for s in (0, 100))
    assert null(a, y, seed=1) == null(a, y, seed=1)
    assert len({null(a, y, seed=s) for s in range(5)}) > 1
