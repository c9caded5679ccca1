"""The null: p is what it says where there is nothing, and equals a slow loop over swaps and neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.signal import lfilter

from charrnn import native
from charrnn.inspection import null
from charrnn.inspection.null import make_units, swap_null
from charrnn.inspection.pieces import Piece


def random_of(seed):
    return np.random.default_rng(seed)


def tensor(values):
    return torch.from_numpy(np.asarray(values, np.float32))


def labels_of(y):
    """Labels of one hypothesis, (U, P, 1)."""
    return np.asarray(y, np.float32)[..., None]


def p_of(a, y, neuron=0, seed=0):
    """p of one neuron; a is (U, P) or (U, P, N), y is (U, P)."""
    a = np.asarray(a)
    return swap_null(tensor(a if a.ndim == 3 else a[..., None]), labels_of(y), [neuron], seed)[0]


# an independent source: every swap, every neuron, one numpy correlation each


def slow_r(a, y):
    scored = ~np.isnan(y)
    if scored.sum() < 2 or a[scored].std() < 1e-9 or y[scored].std() == 0:
        return 0.0
    return abs(np.corrcoef(a[scored], y[scored])[0, 1])


def slow_p(units, labels, neuron, swaps, seed):
    """units and labels are lists of (P, N) and (P,) arrays."""
    random, count = random_of(seed), 0
    a = np.concatenate(units).astype(np.float64)
    truth = slow_r(a[:, neuron], np.concatenate(labels).astype(np.float64))
    for _ in range(swaps):
        y = np.concatenate([labels[i] for i in random.permutation(len(units))]).astype(np.float64)
        count += max(slow_r(a[:, n], y) for n in range(a.shape[1])) >= truth - 1e-9
    return (1 + count) / (1 + swaps)


def weakly_related(seed, units=24, length=40, neurons=4, hypotheses=3, strength=0.1):
    random = random_of(seed)
    y = np.where(random.random((units, length, hypotheses)) < 0.3, random.integers(1, 9, hypotheses), 0)
    a = random.normal(size=(units, length, neurons)) + random.normal(size=(units, 1, neurons))
    a[..., 0] += strength * np.sign(y).sum(-1)
    return a.astype(np.float32), y.astype(np.float32)


def assert_equals_slow_loop(monkeypatch, a, y, chosen, seed=3, swaps=80):
    monkeypatch.setattr(null, "SWAPS", swaps)
    found = swap_null(tensor(a), y, chosen, seed)
    expected = [
        None if neuron is None else slow_p(list(a), list(y[..., i]), neuron, swaps, seed)
        for i, neuron in enumerate(chosen)
    ]
    assert found == expected
    return [p for p in found if p is not None]


@pytest.mark.parametrize("seed", range(3))
def test_p_equals_a_slow_loop_over_swaps_and_neurons(monkeypatch, seed):
    a, y = weakly_related(seed)
    p = assert_equals_slow_loop(monkeypatch, a, y, [0, 1, 0])
    assert len(set(p)) > 1


def test_p_equals_a_slow_loop_where_labels_are_missing(monkeypatch):
    a, y = weakly_related(4, hypotheses=4, strength=0.3)
    random = random_of(5)
    y[random.random(y.shape) < 0.4] = np.nan
    y[:6, :, 1] = np.nan  # whole units
    y[:, ::2, 2] = np.nan
    y[..., 3] = np.nan
    p = assert_equals_slow_loop(monkeypatch, a, y, [0, 0, 1, 0])
    assert p[3] == 1.0 > p[0]


def test_p_equals_a_slow_loop_for_many_hypotheses_and_without_some(monkeypatch):
    a, y = weakly_related(6, hypotheses=17)
    chosen = [i % 4 if i % 3 else None for i in range(y.shape[2])]
    assert_equals_slow_loop(monkeypatch, a, y, chosen, swaps=40)


def test_p_equals_a_slow_loop_for_saturated_neurons_and_labels_far_from_zero(monkeypatch):
    a, y = weakly_related(7)
    a = (0.9999 - 1e-4 * np.abs(a)).astype(np.float32)
    a[..., 3] = 1.0
    assert_equals_slow_loop(monkeypatch, a, y + 200_000, [0, 1, 3])


def test_the_largest_of_all_neurons_counts():
    """A neuron that would be significant alone is none among hundreds that had the same chance."""
    a, y = weakly_related(8, hypotheses=1, strength=0.22)
    noise = random_of(9).normal(size=(24, 40, 400))
    alone = p_of(a[..., :1], y[..., 0])
    among = p_of(np.concatenate([a[..., :1], noise], axis=2), y[..., 0])
    assert alone <= 0.05 < 0.2 < among


def test_where_the_chosen_neuron_stands_does_not_matter():
    a, y = weakly_related(10, hypotheses=1)
    assert p_of(a, y[..., 0], 0) == p_of(a[..., ::-1].copy(), y[..., 0], 3)


def native_variants():
    handle = native.library() and native.ctypes.CDLL(str(native.LIBRARY))
    return (
        [native.Library(handle, name) for name in list(native.VARIANTS)[: handle.charrnn_best() + 1]]
        if handle
        else []
    )


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("neurons", [1, 63, 64, 150])
def test_the_native_sums_equal_those_of_torch(monkeypatch, neurons, missing):
    variants = native_variants()
    if not variants:
        pytest.skip(f"no native library: {native.find()[1]}")
    a, y = weakly_related(11, neurons=neurons, hypotheses=1)
    a[..., -1] = 0.25  # never changes
    if missing:
        y[random_of(12).random(y.shape) < 0.3] = np.nan
    orders = np.stack([random_of(seed).permutation(24) for seed in range(50)]).astype(np.int32)
    (sums,) = null._pair_sums(tensor(a) - tensor(a).mean((0, 1)), y)
    monkeypatch.setattr(null, "library", lambda: None)
    expected = null.largest_correlations(sums, orders, neurons // 2)
    assert neurons == 1 or expected[0].max() > 0.05
    for variant in variants:
        monkeypatch.setattr(null, "library", lambda found=variant: found)
        for found, truth in zip(null.largest_correlations(sums, orders, neurons // 2), expected, strict=True):
            np.testing.assert_allclose(found, truth, atol=1e-6)


# nothing to find


def white(random, *shape):
    return random.normal(size=shape)


def walks(random, units, length, neurons):
    return np.cumsum(random.normal(size=(units, length, neurons)), axis=1)


def autoregressive(random, units, length, neurons, keep=0.99):
    """One signal without a break, cut into units."""
    noise = random.normal(size=(units * length + 1_000, neurons)) * np.sqrt(1 - keep * keep)
    return lfilter([1], [1, -keep], noise, axis=0)[1_000:].reshape(units, length, neurons)


def wholes(random, units, length, neurons):
    """Documents that differ from one another far more than their characters do."""
    return 3 * random.normal(size=(units, 1, neurons)) + random.normal(size=(units, length, neurons))


def best_neuron(a, y):
    flat = a.reshape(-1, a.shape[2])
    return int(np.argmax([slow_r(flat[:, n], y.ravel()) for n in range(a.shape[2])]))


def p_values(make, trials=200, units=20, length=100, neurons=3, choose=best_neuron):
    found = []
    for trial in range(trials):
        random = random_of(trial)
        a = make(random, units, length, neurons)
        y = make(random, units, length, 1)[..., 0] > 0
        found.append(p_of(a, y, choose(a, y), trial))
    return np.array(found)


def assert_uniform(p):
    """Within what so many trials of a uniform variable show in all but one case in a thousand."""
    for level in (0.05, 0.2, 0.5):
        low, high = stats.binom(len(p), level).ppf([0.0005, 0.9995])
        assert low <= (p <= level).sum() <= high


@pytest.fixture
def few_swaps(monkeypatch):
    monkeypatch.setattr(null, "SWAPS", 199)


@pytest.mark.parametrize("make", [white, walks, wholes])
@pytest.mark.parametrize("neurons", [1, 5])
def test_the_best_neuron_of_independent_signals_has_a_uniform_p(few_swaps, make, neurons):
    assert_uniform(p_values(make, neurons=neurons))


def test_autocorrelated_signals_cut_into_blocks_have_a_uniform_p(few_swaps):
    assert_uniform(p_values(autoregressive, length=1_000, trials=150))


def test_a_neuron_that_was_chosen_elsewhere_is_called_significant_more_rarely(few_swaps):
    p = p_values(white, neurons=5, choose=lambda a, y: 0)
    assert (p <= 0.2).sum() <= stats.binom(len(p), 0.2 / 5).ppf(0.9995)


def test_a_plain_test_would_call_walks_significant():
    """What the null is for: without it, nearly all of these would be findings."""
    random = random_of(0)
    pairs = [walks(random, 1, 4_800, 2)[0].T for _ in range(100)]
    assert np.mean([stats.pearsonr(*pair).pvalue <= 0.05 for pair in pairs]) > 0.8


def test_what_never_varies_is_no_finding(few_swaps):
    varied, constant = white(random_of(1), 20, 100), np.ones((20, 100))
    assert p_of(constant, varied) == p_of(varied, constant) == 1.0
    assert p_of(varied, np.full((20, 100), np.nan)) == 1.0


# something to find


@pytest.mark.parametrize("sign", [1, -1])
def test_a_true_relation_has_the_smallest_p(sign):
    random = random_of(17)
    y = autoregressive(random, 20, 2_000, 1)[..., 0] > 0
    a = np.stack([random.normal(size=y.shape), sign * (y + 3 * random.normal(size=y.shape))], axis=2)
    assert p_of(a, y, 1) == 1 / 1000


def test_labels_that_are_not_scored_have_no_say(few_swaps):
    random = random_of(18)
    y = random.integers(0, 2, (20, 200)).astype(np.float32)
    a = y + random.normal(size=y.shape)
    a[:, ::2] = 1e3 * random.normal(size=(20, 100))
    y[:, ::2] = np.nan
    assert p_of(a, y) == 1 / 200


@pytest.mark.parametrize("units", [0, 1, 19])
def test_fewer_than_twenty_units_give_no_null(units):
    a, y = np.zeros((units, 5, 2)), np.zeros((units, 5, 3))
    assert swap_null(tensor(a), y.astype(np.float32), [0, None, 1]) == [None] * 3


def test_one_seed_one_p(few_swaps):
    a, y = white(random_of(1), 30, 50), white(random_of(2), 30, 50)
    assert p_of(a, y, seed=1) == p_of(a, y, seed=1)
    assert len({p_of(a, y, seed=s) for s in range(5)}) > 1


# units


def piece(number, length, document, skip=64, begin=0):
    """A piece whose two labels say which character of which piece it is."""
    labels = np.stack([np.full(length, number), np.arange(length)], axis=1).astype(np.float32)
    return Piece("x" * length, np.zeros(length, np.uint8), labels, skip, document, begin, False)


def whole_documents(lengths, skip=64):
    return [piece(n, length + skip, n, skip) for n, length in enumerate(lengths)]


def spots(units):
    return [list(zip(*pair, strict=True)) for pair in zip(units.pieces, units.positions, strict=True)]


def evenly(sequence, count):
    return [sequence[i] for i in sorted(set(np.linspace(0, len(sequence) - 1, count).astype(int).tolist()))]


def test_documents_are_cut_to_a_length_that_most_have():
    lengths = [300, 900, 50, *range(400, 440)]  # 43: the 25th longest has 416
    units = make_units(whole_documents(lengths))
    assert units.by == "documents" and units.valid
    assert units.positions.shape[1] == 416 == sorted(lengths, reverse=True)[24]  # 60 % of 43
    kept = [n for n, length in enumerate(lengths) if length >= 416]
    assert spots(units) == [[(n, 64 + t) for t in range(416)] for n in kept]


def test_a_document_in_several_pieces_is_one_unit():
    parts = [
        piece(2 * n + half, 300 + 100 * half, n, skip=(64, 100)[half]) for n in range(20) for half in (0, 1)
    ]
    units = make_units(parts)
    joined = [
        [(2 * n, t) for t in range(64, 300)] + [(2 * n + 1, t) for t in range(100, 400)] for n in range(20)
    ]
    assert (units.by, len(units)) == ("documents", 20)
    assert spots(units) == [evenly(one, 500) for one in joined]


def test_twenty_documents_are_all_kept_whatever_their_lengths():
    units = make_units(whole_documents([30, *[5_000] * 19]))
    assert units.positions.shape == (20, 30)


def test_long_documents_count_up_to_eight_thousand_characters():
    units = make_units(whole_documents([9_000] * 20))
    assert spots(units)[3] == evenly([(3, 64 + t) for t in range(8_000)], 500)


@pytest.mark.parametrize(
    ("lengths", "size", "count"),
    [
        ([40_000], 2_000, 20),
        ([3_999] * 19, 1_500, 38),
        ([4_000] * 10, 2_000, 20),
        ([39_999], 1_500, 26),
        ([3_999] * 10, 1_500, 20),
        ([1_400] * 19 + [1_999], 1_000, 20),
        ([20_000], 1_000, 20),
        ([19_999], 1_000, 19),
        ([999] * 19, 1_000, 0),
    ],
)
def test_few_documents_are_cut_into_blocks(lengths, size, count):
    parts = [piece(n, 64 + length, n % 7) for n, length in enumerate(lengths)]
    units = make_units(parts)
    assert (units.by, len(units), units.valid) == ("blocks", count, count >= 20)
    blocks = [
        [(n, 64 + t) for t in range(begin, begin + size)]
        for n, length in enumerate(lengths)
        for begin in range(0, length - size + 1, size)
    ]
    assert spots(units) == [evenly(block, 500) for block in blocks]


def test_many_units_are_thinned_evenly():
    documents = make_units(whole_documents([20] * 200))
    assert documents.pieces[:, 0].tolist() == evenly(range(200), 64)
    blocks = make_units([piece(0, 64 + 2_000 * 90, 0)])
    assert blocks.positions[:, 0].tolist() == [64 + 2_000 * n for n in evenly(range(90), 64)]


@pytest.mark.parametrize("documents", [3, 30])
def test_units_never_reach_into_the_warm_up(documents):
    random = random_of(documents)
    parts = [piece(n, 2_600, n % documents, skip=int(random.integers(1, 500))) for n in range(60)]
    units = make_units(parts)
    skip = np.array([part.skip for part in parts])
    assert units.valid and (units.positions >= skip[units.pieces]).all()
    assert (units.positions[:, 0] == skip[units.pieces[:, 0]]).any()


def test_units_take_the_labels_of_their_own_characters():
    parts = [piece(n, 700 + 10 * n, n, skip=64 + n) for n in range(25)]
    units = make_units(parts)
    labels = units.labels(parts)
    assert (labels[..., 0] == units.pieces).all() and (labels[..., 1] == units.positions).all()


def test_no_text_gives_no_units():
    units = make_units([])
    assert len(units) == 0 and not units.valid
