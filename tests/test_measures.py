"""Figures of a neuron: against scikit-learn and slow loops, and where the truth was planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn import metrics

from charrnn.inspection import histograms, sums
from charrnn.inspection.histograms import LEVELS, MAX_LEVELS, Histogram, quantile_edges
from charrnn.inspection.measures import SHAPES, Labels, Series, Setting, Tally
from charrnn.inspection.scores import pearson


def random_of(seed):
    return np.random.default_rng(seed)


def series(a, y, pieces=10):
    """One half of a text: pieces of equal length, each a document."""
    a, y = np.asarray(a, np.float32), np.asarray(y, np.float32)
    return Series(*(np.array_split(values, pieces) for values in (a, y)), documents=list(range(pieces)))


def tally_of(chosen, report, kind="binary", groups=((), ())):
    """A tally to which nothing was added yet; groups are numbers of characters and of pairs of them."""
    setting = Setting.of(chosen, kind, pearson(*chosen.joined()))
    return Tally(
        kind, setting, Labels.of(report.y), tuple(int(np.max(group, initial=0)) + 1 for group in groups)
    )


def measured(chosen, report, kind="binary", groups=None):
    """All figures of text that comes at once."""
    groups = groups or (np.zeros(sum(map(len, report.a)), int),) * 2
    tally = tally_of(chosen, report, kind, groups)
    tally.add(report, *groups)
    return tally.measures()


def effective_number(half):
    return measured(half, half).num_effective


def latencies(half, sign):
    switches = sums.Switches(sign)
    for a, y in zip(half.a, half.y, strict=True):
        switches.add(a, y)
    return switches.latencies()


def interval(half, draws=sums.DRAWS):
    """The interval of r, whose sums come from one piece after the other."""
    found = sums.DocumentSums()
    for a, y, document in zip(half.a, half.y, half.documents, strict=True):
        scored = ~np.isnan(y)
        found.add(a[scored].astype(float), y[scored].astype(float), np.zeros(scored.sum(), int), [document])
    return found.interval(draws)


def detector(seed, prevalence, gain, length=40_000, sign=1):
    """A neuron that lies higher, by ``gain`` times its noise, while a hypothesis is on."""
    random = random_of(seed)
    y = random.random(length) < prevalence
    return (sign * (gain * y + random.normal(size=length))).astype(np.float32), y.astype(np.float32)


# detectors


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("gain", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("prevalence", [0.004, 0.05, 0.5, 0.97])
def test_binned_figures_equal_sklearn(prevalence, gain, sign):
    chosen, (a, y) = (detector(seed, prevalence, gain, sign=sign) for seed in (1, 2))
    found = measured(series(*chosen), series(a, y))
    assert found.prevalence == pytest.approx(y.mean())
    assert found.ap == pytest.approx(metrics.average_precision_score(y, sign * a), abs=2e-3)
    assert found.auc == pytest.approx(metrics.roc_auc_score(y, sign * a), abs=2e-3)
    called = a > found.threshold if sign > 0 else a <= found.threshold
    assert found.f1 == pytest.approx(metrics.f1_score(y, called), abs=1e-9)
    assert found.mcc == pytest.approx(metrics.matthews_corrcoef(y, called), abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("values", [2, 3, 20])
@pytest.mark.parametrize("prevalence", [0.002, 0.3])
def test_figures_of_few_distinct_values_are_exact(prevalence, values, sign):
    halves = [detector(seed, prevalence, 3.0, sign=sign) for seed in (3, 4)]
    (chosen, y_chosen), (a, y) = ((np.round(np.clip(a, -4, 4) * values / 8), y) for a, y in halves)
    found = measured(series(chosen, y_chosen), series(a, y))
    assert found.ap == pytest.approx(metrics.average_precision_score(y, sign * a), abs=1e-9)
    assert found.auc == pytest.approx(metrics.roc_auc_score(y, sign * a), abs=1e-9)


def best_f1(a, y):
    precision, recall, _ = metrics.precision_recall_curve(y, a)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()


@pytest.mark.parametrize("prevalence", [0.004, 0.3])
def test_the_threshold_is_the_best_of_the_half_that_chooses(prevalence):
    chosen, report = detector(5, prevalence, 3.0), detector(6, prevalence, 3.0)
    found = measured(series(*chosen), series(*report))
    assert metrics.f1_score(chosen[1], chosen[0] > found.threshold) >= best_f1(*chosen) - 5e-3
    moved = measured(series(*chosen), series(report[0] + 1, report[1]))
    assert moved.threshold == found.threshold
    assert moved.f1 < found.f1 - 0.05


def test_a_neuron_of_the_wrong_sign_is_worse_than_chance():
    """The sign comes from the half that chose it, whatever the other half says."""
    chosen, (a, y) = detector(7, 0.2, 2.0), detector(8, 0.2, 2.0, sign=-1)
    found = measured(series(*chosen), series(a, y))
    assert found.auc < 0.15 and found.ap < 0.2 and found.mcc < 0


def test_figures_of_counts_are_left_out_of_detectors_and_the_other_way_round():
    a, y = detector(9, 0.3, 1.0)
    binary, count = (measured(series(a, y), series(a, y), kind) for kind in ("binary", "count"))
    assert {binary.eta2, binary.eta2_on_off, binary.shape, binary.r_shape, binary.slope_per_char} == {None}
    assert {count.ap, count.f1, count.mcc, count.auc, count.threshold} == {None}
    assert None not in (binary.ap, count.eta2)


def test_what_is_on_everywhere_or_nowhere():
    on, none = np.ones(4, int), np.zeros(4, int)
    assert histograms.average_precision(on, none) == 1.0
    assert histograms.average_precision(none, on) == 0.0
    assert histograms.area_under_roc(on, none) == histograms.area_under_roc(none, on) == 0.5
    assert histograms.f1_and_mcc(on, none, 4) == (1.0, 0.0)
    assert histograms.f1_and_mcc(none, on, 2) == (0.0, 0.0)


def test_the_number_of_bins_with_the_largest_f1():
    for seed in range(5):
        on, off = random_of(seed).integers(0, 9, (2, 30))
        f1 = [histograms.f1_and_mcc(on, off, bins)[0] for bins in range(1, 30)]
        assert histograms.best_f1(on, off) == 1 + int(np.argmax(f1))


def test_equal_activations_are_one_threshold():
    found = measured(series(np.zeros(500), np.arange(500) < 100), series(np.zeros(500), np.arange(500) < 100))
    assert (found.ap, found.auc, found.r) == (pytest.approx(0.2), 0.5, 0.0)


# figures must see when labels are missing or wrong (NeuronEval, Oikarinen et al. 2025)


def reliable(a, y):
    found = measured(series(a, y), series(a, y))
    return np.array([found.r, found.ap, found.f1, found.mcc])


@pytest.fixture
def neuron_and_labels():
    y = np.repeat(np.arange(400) % 4 == 0, 25).astype(np.float32)
    return y + 0.2 * random_of(10).normal(size=len(y)).astype(np.float32), y


def test_missing_labels_lower_the_figures(neuron_and_labels):
    a, y = neuron_and_labels
    fewer = y * (random_of(11).random(len(y)) < 0.5)
    assert (reliable(a, fewer) < reliable(a, y) - 0.1).all()


def test_wrong_labels_lower_the_figures(neuron_and_labels):
    a, y = neuron_and_labels
    more = y.copy()
    more[random_of(12).choice(np.flatnonzero(y == 0), int(y.sum()), replace=False)] = 1
    assert (reliable(a, more) < reliable(a, y) - 0.1).all()


# mutual information


def joined_bins(a, y, edges):
    """The bins and levels of the definition, counted one character at a time."""
    step = max(1, (len(edges) + 1) // 16)
    bins = [sum(edge < value for edge in edges) // step for value in a]
    last = (len(edges) + 1 - 1) // step
    levels = [sum(first <= min(round(value), MAX_LEVELS - 1) for first in LEVELS) for value in y.tolist()]
    return [min(b, last) for b in bins], levels


@pytest.mark.parametrize("kind", ["binary", "count"])
def test_mutual_information_equals_sklearn_on_the_same_bins(kind):
    random = random_of(13)
    y = (random.random(2_000) < 0.3 if kind == "binary" else random.geometric(0.1, 2_000) - 1).astype(float)
    a = (np.log1p(y) + 0.3 * random.normal(size=2_000)).astype(np.float32)
    edges = quantile_edges(a, y)
    bins, levels = joined_bins(a, y, edges)
    plain = metrics.mutual_info_score(bins, levels) / np.log(2)
    freedom = (len(set(bins)) - 1) * (len(set(levels)) - 1)
    for number in (2_000, 500):
        found = histograms.mutual_information(Histogram.of(a, y, edges), number)
        assert found == pytest.approx(plain - freedom / (2 * number * np.log(2)), abs=1e-9)


def test_mutual_information_of_a_perfect_detector_is_the_entropy_of_the_labels():
    y = random_of(14).random(50_000) < 0.25
    found = measured(series(1.0 * y, y), series(1.0 * y, y))
    assert found.mutual_information == pytest.approx(-0.25 * np.log2(0.25) - 0.75 * np.log2(0.75), abs=0.01)


def autoregressive(seed, length, keep):
    noise = random_of(seed).normal(size=length + 2_000) * np.sqrt(1 - keep * keep)
    return lfilter([1], [1, -keep], noise)[2_000:].astype(np.float32)


def test_mutual_information_of_independent_autocorrelated_signals_is_about_zero():
    found, naive = [], []
    for seed in range(12):
        a, y = autoregressive(seed, 50_000, 0.98), autoregressive(100 + seed, 50_000, 0.98) > 0
        half = series(a, y)
        found.append(measured(half, half).mutual_information)
        naive.append(histograms.mutual_information(Histogram.of(a, y, quantile_edges(a, y)), len(a)))
    assert np.mean(found) < 0.003
    assert np.mean(naive) > 3 * np.mean(found)


# counters


def slow_eta2(a, level):
    """One-way analysis of variance, one level after the other."""
    a = a.astype(float)
    between = sum(
        len(a[level == k]) * (a[level == k].mean() - a.mean()) ** 2 for k in sorted(set(level.tolist()))
    )
    return between / ((a - a.mean()) ** 2).sum()


def ramps(seed, length=20_000):
    """Characters since something that comes at random."""
    since, values = 0, []
    for new in random_of(seed).random(length) < 0.05:
        since = 0 if new else since + 1
        values.append(since)
    return np.array(values, np.float32)


def test_eta2_equals_a_slow_analysis_of_variance():
    y = np.minimum(ramps(15, 5_000), 12)
    a = (np.sin(y) + random_of(16).normal(size=len(y)) + 100).astype(np.float32)
    found = measured(series(a, y), series(a, y), "level")
    assert found.eta2 == pytest.approx(slow_eta2(a, y), rel=1e-6)
    assert found.eta2_on_off == pytest.approx(slow_eta2(a, y > 0), rel=1e-6)
    assert found.eta2 > found.eta2_on_off + 0.1


def test_a_detector_is_told_from_a_counter():
    y = np.minimum(ramps(17), 6)
    noise = 0.1 * random_of(18).normal(size=len(y))
    detects, counts = (
        measured(series(a, y), series(a, y), "level") for a in ((y > 0) + noise, y / 6 + noise)
    )
    assert detects.eta2 == pytest.approx(detects.eta2_on_off, abs=2e-3) and detects.eta2 > 0.5
    assert counts.eta2_on_off < 0.5 * counts.eta2


def test_a_constant_neuron_counts_nothing():
    y = ramps(19, 2_000)
    found = measured(series(np.full(2_000, 0.3), y), series(np.full(2_000, 0.3), y), "count")
    assert (found.eta2, found.eta2_on_off, found.r_shape, found.r) == (0, 0, 0, 0)
    assert found.slope_per_char == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", list(SHAPES))
def test_the_shape_of_a_counter(name, sign):
    y, other = ramps(20), ramps(21)
    a, noise = (sign * SHAPES[name](values) for values in (y, other)), random_of(22).normal(size=(2, len(y)))
    a, chosen = (v + 0.05 * v.std() * n for v, n in zip(a, noise, strict=True))
    found = measured(series(chosen, other), series(a, y), "count")
    assert found.shape == name
    assert found.r_shape == pytest.approx(np.corrcoef(a, SHAPES[name](y))[0, 1], abs=1e-5)
    assert sign * found.r_shape > 0.99


def test_the_shape_is_chosen_on_the_half_that_chooses():
    y = ramps(23)
    found = measured(series(np.exp(-y / 3), y), series(y, y), "count")
    assert found.shape == "exp(-k/3)" and -1 < found.r_shape < 0


def test_the_slope_is_that_of_what_is_usual():
    """Where a count is larger than nearly always, a neuron may be saturated."""
    y = ramps(24)
    usual = np.quantile(y, 0.95)
    a = 0.5 - 0.02 * np.minimum(y, usual)
    assert measured(series(a, y), series(a, y), "count").slope_per_char == pytest.approx(-0.02, rel=1e-4)
    noisy = a + 0.1 * random_of(25).normal(size=len(y))
    expected = np.polyfit(y[y <= usual], noisy[y <= usual], 1)[0]
    assert measured(series(noisy, y), series(noisy, y), "count").slope_per_char == pytest.approx(
        expected, rel=1e-3
    )


def test_where_a_count_is_nearly_always_the_same_there_is_no_slope():
    random = random_of(37)
    y = (random.random(9_000) < 0.03) * random.integers(1, 9, 9_000)
    a = y + random.normal(size=9_000)
    assert measured(series(a, y), series(a, y), "count").slope_per_char == 0


# within characters


def slow_within(a, y, groups):
    a, y = a.astype(float).copy(), y.astype(float).copy()
    for group in set(groups):
        here = [i for i, other in enumerate(groups) if other == group]
        a[here] -= a[here].mean()
        y[here] -= y[here].mean()
    return np.corrcoef(a, y)[0, 1]


def test_correlations_within_characters_and_bigrams_equal_a_slow_loop():
    random = random_of(26)
    chars = random.integers(0, 5, 600) * 13_000  # places may be large
    before = np.concatenate([np.append(-1, part[:-1]) for part in np.array_split(chars, 10)])
    y = (random.random(600) < 0.2 + 0.1 * (chars > 20_000) + 0.4 * (before > 20_000)).astype(np.float32)
    a = (y + random.normal(size=600) + chars / 13_000 + 2 * (before > 20_000)).astype(np.float32)
    scored = np.where(random.random(600) < 0.2, np.nan, y)
    pairs = np.unique(np.stack([before, chars]), axis=1, return_inverse=True)[1].ravel()
    groups = np.unique(chars, return_inverse=True)[1], pairs
    found = measured(series(a, scored), series(a, scored), groups=groups)
    kept = ~np.isnan(scored)
    a, y, chars, before = a[kept], y[kept], chars[kept].tolist(), before[kept].tolist()
    assert found.r_within_char == pytest.approx(slow_within(a, y, chars), abs=1e-6)
    pairs = list(zip(before, chars, strict=True))
    assert found.r_within_bigram == pytest.approx(slow_within(a, y, pairs), abs=1e-6)
    assert found.r_within_char > found.r_within_bigram + 0.05


# latency


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("on", "off"), [(0, 0), (1, 0), (0, 3), (5, 2), (2, 5), (4, 4)])
def test_planted_delays_are_found(on, off, sign):
    random = random_of(27)
    y = np.repeat(np.arange(200) % 2, random.integers(20, 60, 200)).astype(np.float32)
    a, since = np.zeros(len(y)), 0
    for t in range(1, len(y)):
        since = 0 if y[t] != y[t - 1] else since + 1
        a[t] = y[t] if since >= (on if y[t] else off) else a[t - 1]
    noisy = sign * (0.1 + 0.8 * a + 0.05 * random.normal(size=len(y)))
    found = latencies(series(noisy, y), sign)
    assert found == {"latency_on": on, "latency_off": off}


def test_the_latency_of_a_neuron_is_that_of_its_own_sign():
    y = np.repeat(np.arange(100) % 2, 30).astype(np.float32)
    a = 1 - np.concatenate([y[:1], y[:1], y[:-2]])
    found = measured(series(a, y), series(a, y))
    assert (found.latency_on, found.latency_off) == (2, 2)


def test_where_labels_are_not_scored_there_is_no_switch():
    """A neuron that jumps there at once does not answer at once: it answers after three characters."""
    random = random_of(38)
    y = np.repeat(np.arange(300) % 2, random.integers(20, 60, 300)).astype(np.float32)
    a = np.concatenate([np.zeros(3), y[:-3]]) + 0.05 * random.normal(size=len(y))
    for begin in random.integers(100, len(y) - 100, 400):
        if y[begin - 5 : begin + 12].min() == 1:  # in the middle of what is on
            y[begin : begin + 6] = np.nan
            a[begin : begin + 6] = -2
    assert latencies(series(a, y, pieces=1), 1.0) == {"latency_on": 3, "latency_off": 3}
    on = np.where(np.arange(500) // 20 % 2, np.nan, 1.0)
    assert set(latencies(series(np.nan_to_num(on), on), 1.0).values()) == {None}


def slow_r_switch(half, lag, turns_on):
    """Size of the change and whether there was a switch so many characters before, where that is known."""
    sizes, switches = [], []
    for a, y in zip(half.a, half.y, strict=True):
        for t in range(1, len(a) - lag):
            if not np.isnan(y[t - 1 : t + 1]).any():
                sizes.append(abs(float(a[t + lag]) - float(a[t + lag - 1])))
                switches.append((y[t] > 0) != (y[t - 1] > 0) and (y[t] > 0) == turns_on)
    return np.corrcoef(sizes, switches)[0, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_how_changes_go_with_switches_equals_a_slow_loop(sign):
    random = random_of(39)
    y = np.repeat(np.arange(80) % 2, random.integers(5, 40, 80)).astype(np.float32)
    a = sign * (np.concatenate([y[:2], y[:-2]]) + 0.2 * random.normal(size=len(y)))
    y[random.random(len(y)) < 0.1] = np.nan
    half = series(a, y, pieces=7)
    found = measured(half, half)
    assert (found.latency_on, found.latency_off) == (2, 2)
    assert found.r_switch_on == pytest.approx(slow_r_switch(half, 2, True), abs=1e-6)
    assert found.r_switch_off == pytest.approx(slow_r_switch(half, 2, False), abs=1e-6)
    assert found.r_switch_on > 0.5


def test_without_a_switch_there_is_no_latency():
    a = random_of(28).normal(size=500)
    assert set(latencies(series(a, np.ones(500)), 1.0).values()) == {None}
    assert set(latencies(series(np.zeros(500), np.arange(500) // 10 % 2), 1.0).values()) == {None}


# how much is known


def test_white_noise_is_all_independent():
    a, y = random_of(29).normal(size=(2, 50_000))
    assert effective_number(series(a, y)) == pytest.approx(50_000, rel=0.02)


@pytest.mark.parametrize("keep", [0.9, 0.97])
def test_the_effective_number_says_how_much_a_correlation_scatters(keep):
    """Var r ≈ 1 / N_eff: its own definition, seen in correlations of independent signals."""
    length, r, number = 8_000, [], []
    for seed in range(150):
        half = series(
            autoregressive(seed, length, keep), autoregressive(1_000 + seed, length, keep), pieces=1
        )
        r.append(pearson(*half.joined()))
        number.append(effective_number(half))
    assert np.median(number) == pytest.approx(1 / np.var(r), rel=0.35)
    assert np.median(number) == pytest.approx(length * (1 - keep**2) / (1 + keep**2), rel=0.2)


def slow_effective_number(half):
    """Bartlett's formula, one lag and one piece after the other."""
    sums = []
    for parts in (half.a, half.y):
        centred = [part.astype(float) - np.concatenate(parts).mean() for part in parts]
        lagged = [sum(float(v[lag:] @ v[: len(v) - lag]) for v in centred) for lag in range(200)]
        sums.append(np.array(lagged) / lagged[0])
    return sum(map(len, half.a)) / (1 + 2 * (sums[0] * sums[1])[1:].sum())


def test_the_effective_number_equals_a_slow_loop_over_short_pieces():
    half = series(autoregressive(33, 3_000, 0.98), autoregressive(34, 3_000, 0.98), pieces=12)
    assert effective_number(half) == pytest.approx(slow_effective_number(half), rel=1e-4)


def slow_interval(half, draws, seed):
    random, found = random_of(seed), []
    for _ in range(draws):
        drawn = random.integers(len(half.a), size=len(half.a))
        a, y = (np.concatenate([part[i] for i in drawn]).astype(float) for part in (half.a, half.y))
        found.append(np.corrcoef(a[~np.isnan(y)], y[~np.isnan(y)])[0, 1])
    return np.quantile(found, (0.025, 0.975))


def test_the_interval_is_that_of_a_slow_bootstrap_over_documents(monkeypatch):
    a, y = detector(30, 0.3, 0.5, length=3_000)
    y[::7] = np.nan
    half = series(a, y, pieces=12)
    slow = random_of(0).integers(12, size=(60, 12))  # drawn at once or one after the other: the same
    assert (slow == [d for r in [random_of(0)] for d in (r.integers(12, size=12) for _ in range(60))]).all()
    np.testing.assert_allclose(interval(half, draws=60), slow_interval(half, 60, 0), atol=1e-6)


def test_pieces_of_one_document_are_drawn_together():
    a, y = detector(31, 0.3, 0.5, length=3_000)
    apart = series(a, y, pieces=12)
    pairs = Series(apart.a, apart.y, [n // 2 for n in range(12)])
    np.testing.assert_allclose(interval(pairs), interval(series(a, y, pieces=6)))
    few = Series(apart.a, apart.y, [n // 3 for n in range(12)])
    assert interval(few) == (None, None)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(120):
        random = random_of(seed)
        gain = np.repeat(random.uniform(0, 2, 30), 50)  # documents differ in how well the neuron does
        y = random.normal(size=1_500)
        low, high = interval(series(gain * y + random.normal(size=1_500), y, pieces=30))
        covered += low <= 1 / np.sqrt(4 / 3 + 1) <= high  # E gain² = 4/3
    assert 0.85 <= covered / 120 <= 0.99


def test_the_figures_say_the_same_as_their_parts():
    a, y = detector(32, 0.2, 1.0)
    half = series(a, y)
    found = measured(half, half)
    assert found.r == pytest.approx(np.corrcoef(a, y)[0, 1], abs=1e-6)
    assert found.r_low < found.r < found.r_high
    assert (found.r_low, found.r_high) == pytest.approx(interval(half, 200))


@pytest.mark.parametrize("kind", ["binary", "count"])
def test_text_that_comes_in_parts_gives_the_same_figures(kind):
    random = random_of(35)
    y = (random.random(6_000) < 0.3) * (1.0 if kind == "binary" else random.integers(1, 90, 6_000) * 1.0)
    y[random.random(6_000) < 0.1] = np.nan
    a = np.nan_to_num(y) + random.normal(size=6_000) + 50
    groups = random.integers(0, 7, 6_000), random.integers(0, 30, 6_000)
    half = series(a, y, pieces=12)
    tally, begin = tally_of(half, half, kind, groups), 0
    for part in (slice(0, 5), slice(5, 6), slice(6, 12)):
        own = Series(half.a[part], half.y[part], [n // 2 for n in half.documents[part]])
        end = begin + sum(map(len, own.a))
        tally.add(own, *(group[begin:end] for group in groups))
        begin = end
    whole = measured(half, Series(half.a, half.y, [n // 2 for n in half.documents]), kind, groups)
    one, other = tally.measures().to_json(), whole.to_json()
    kept = [key for key, value in one.items() if isinstance(value, float)]
    assert len(kept) >= 10 and [one[key] for key in kept] == pytest.approx([other[key] for key in kept])
    assert {key: one[key] for key in one.keys() - kept} == {key: other[key] for key in one.keys() - kept}


def test_figures_of_neurons_far_from_zero_keep_their_digits():
    """Sums of squares are made about the mean, so that a saturated neuron's spread is not lost."""
    y = ramps(36, 4_000)
    a = (0.9999 - 1e-5 * np.abs(np.sin(y / 9))).astype(np.float32)
    found = measured(series(a, y), series(a, y), "count")
    assert found.r == pytest.approx(np.corrcoef(a.astype(float), y)[0, 1], abs=1e-4)
    assert found.eta2 == pytest.approx(slow_eta2(a.astype(float) - 0.9999, np.minimum(y, 63)), abs=1e-4)
