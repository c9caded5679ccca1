"""The count models and compressors against slow definitions, hand counts and published figures."""

from __future__ import annotations

import bz2
import lzma
import math
import os
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from charrnn.baselines import (
    NgramModel,
    Symbols,
    compressor_bits,
    compressors,
    ngram,
    ngram_nats,
    ppmd_bits,
    unigram_nats,
)

TEXTS = Path(os.environ.get("CHARRNN_TEXTS", Path(__file__).resolve().parents[2] / "shared" / "data"))

NATURAL = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, "
    "it was the season of darkness, it was the spring of hope, it was the winter of despair, we had "
    "everything before us, we had nothing before us, we were all going direct to heaven, we were all going "
    "direct the other way, in short, the period was so far like the present period, that some of its "
    "noisiest authorities insisted on its being received, for good or for evil, in the superlative degree "
    "of comparison only."
)


class SlowKneserNey:
    """Modified Kneser-Ney as Chen & Goodman write it, one symbol at a time, on dictionaries."""

    def __init__(self, train: list[int], vocab_size: int, order: int) -> None:
        self.vocab_size, self.longest = vocab_size, order + 1
        self.counts: dict[int, Counter] = {}
        for length in range(1, self.longest + 1):
            starts = range(len(train) - length + 1)
            if length == self.longest:
                self.counts[length] = Counter(tuple(train[s : s + length]) for s in starts)
                continue
            left = defaultdict(set)
            for s in starts:
                left[tuple(train[s : s + length])].add(train[s - 1] if s else "beginning")
            self.counts[length] = Counter({gram: len(symbols) for gram, symbols in left.items()})
        self.discounts = {length: self._discounts(counts) for length, counts in self.counts.items()}

    @staticmethod
    def _discounts(counts: Counter) -> list[float]:
        n = Counter(counts.values())
        if 0 in (n[1], n[2], n[3], n[4]):
            return [0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        values = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return values if min(values) > 0 else [0.5, 1.0, 1.5]

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        counts, d = self.counts[len(context) + 1], self.discounts[len(context) + 1]
        followers = [counts[(*context, w)] for w in range(self.vocab_size)]
        lower = self.probability(context[1:], symbol) if context else 1 / self.vocab_size
        if not sum(followers):
            return lower
        num_1, num_2, num_more = (
            followers.count(1),
            followers.count(2),
            sum(count >= 3 for count in followers),
        )
        count = followers[symbol]
        kept = count - d[min(count, 3) - 1] if count else 0
        return (kept + (d[0] * num_1 + d[1] * num_2 + d[2] * num_more) * lower) / sum(followers)

    def nats(self, ids: list[int]) -> list[float]:
        context = self.longest - 1
        return [
            -math.log(self.probability(tuple(ids[max(0, t - context) : t]), ids[t])) for t in range(len(ids))
        ]


def as_ids(text: str) -> np.ndarray:
    return np.unique(list(text), return_inverse=True)[1].reshape(-1)


def check_against_slow(train: np.ndarray, ids: np.ndarray, vocab_size: int, order: int) -> None:
    expected = SlowKneserNey(train.tolist(), vocab_size, order).nats(ids.tolist())
    nats = ngram_nats(train, ids, vocab_size, order)
    assert nats.dtype == np.float64 and nats.shape == ids.shape
    np.testing.assert_allclose(nats, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 6])
def test_ngram_agrees_with_the_slow_definition_on_natural_text(order):
    ids = as_ids(NATURAL)
    check_against_slow(ids[:451], ids[451:], int(ids.max()) + 1, order)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
@pytest.mark.parametrize("order", [0, 1, 4])
def test_ngram_agrees_with_the_slow_definition_on_random_symbols(order, dtype):
    rng = np.random.default_rng(order)
    # Skewed, so that every count from 1 to 4 occurs and the discounts are estimated.
    ids = np.minimum(rng.geometric(0.25, 997) - 1, 16).astype(dtype)
    check_against_slow(ids[:800], ids[800:], 17, order)


def test_some_of_the_compared_texts_have_estimated_discounts():
    ids = as_ids(NATURAL)[:451]
    lengths = SlowKneserNey(ids.tolist(), int(ids.max()) + 1, 6).discounts.values()
    assert sum(d != [0.5, 1.0, 1.5] for d in lengths) >= 3
    assert [0.5, 1.0, 1.5] in lengths


@pytest.mark.parametrize("num_train", [0, 1, 2, 5, 6, 7, 8, 50])
@pytest.mark.parametrize("num_scored", [0, 1, 2, 6, 7, 8])
def test_ngram_agrees_where_texts_are_about_as_long_as_the_order(num_train, num_scored):
    rng = np.random.default_rng(num_train)
    check_against_slow(rng.integers(0, 3, num_train), rng.integers(0, 3, num_scored), 3, 6)


def test_ngram_agrees_with_one_symbol_only():
    check_against_slow(np.zeros(9, np.uint8), np.zeros(5, np.uint8), 1, 3)
    check_against_slow(np.zeros(9, np.uint8), np.zeros(5, np.uint8), 4, 3)


def test_ngram_agrees_on_symbols_never_seen_in_training():
    rng = np.random.default_rng(0)
    check_against_slow(rng.integers(0, 4, 60), rng.integers(0, 9, 60), 9, 3)


def test_ngram_agrees_with_a_vocabulary_far_larger_than_the_text():
    rng = np.random.default_rng(0)
    train = rng.choice([3, 1000, 4999], 40).astype(np.uint16)
    check_against_slow(train, train[::-1].copy(), 5000, 2)


def test_ngram_keys_do_not_overflow_at_32_bits():
    ids = np.random.default_rng(0).integers(0, 3, 90)
    apart = ids * 2**32
    nats = ngram_nats(apart[:60], apart[60:], 2**40, 3)
    np.testing.assert_array_equal(nats, ngram_nats(ids[:60], ids[60:], 2**40, 3))


def test_no_ngram_crosses_from_the_training_text_into_the_scored_text():
    # After training on 0 1 0 1 ..., the first scored symbol must not know that a 1 came before it.
    train = np.tile([0, 1], 50)
    first = [ngram_nats(train, np.array([symbol]), 2, 4)[0] for symbol in (0, 1)]
    shorter = [ngram_nats(train[:-1], np.array([symbol]), 2, 4)[0] for symbol in (0, 1)]
    assert first == pytest.approx(shorter)


@pytest.mark.parametrize("context", ["", "t", "the ", "was the a", "zz", "e wzs t"])
def test_ngram_probabilities_of_all_next_symbols_sum_to_one(context):
    ids = as_ids(NATURAL + "z")
    table = {symbol: int(i) for symbol, i in zip(NATURAL + "z", ids, strict=True)}
    vocab_size = len(table) + 2  # two symbols that occur nowhere
    before = [table[symbol] for symbol in context]
    last = [
        ngram_nats(ids[:-1], np.array([*before, symbol]), vocab_size, 5)[-1] for symbol in range(vocab_size)
    ]
    assert np.exp(-np.array(last)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("order", [0, 2, 6])
@pytest.mark.parametrize("piece", [1, 7, 100])
def test_size_of_counted_pieces_never_matters(monkeypatch, order, piece):
    ids = as_ids(NATURAL)
    whole = ngram_nats(ids[:451], ids[451:], int(ids.max()) + 1, order)
    monkeypatch.setattr(ngram, "COUNTED_PIECE", piece)
    monkeypatch.setattr(ngram, "PIECE", piece)
    np.testing.assert_array_equal(ngram_nats(ids[:451], ids[451:], int(ids.max()) + 1, order), whole)


def test_too_many_ngrams_leave_the_end_of_the_training_text():
    ids = np.random.default_rng(0).integers(0, 5, 900)
    train, scored = Symbols.of(ids[:800], 5), ids[800:]
    model = NgramModel(train, 5, 3, max_grams=400)
    assert model.symbols == 200 and NgramModel(train, 5, 3).symbols == 800
    np.testing.assert_array_equal(model.nats(scored), ngram_nats(ids[600:800], scored, 5, 3))
    assert sum(len(level.keys) for level in model._levels) <= 400


def test_ngram_memory_does_not_grow_with_a_text_that_says_nothing_new(monkeypatch):
    """A thousand different n-grams in a text of 200 thousand symbols, and in one of two million."""
    monkeypatch.setattr(ngram, "COUNTED_PIECE", 1 << 14)
    phrase = np.random.default_rng(0).integers(0, 40, 1000).astype(np.uint8)

    def peak(repeats):
        train = Symbols.of(np.tile(phrase, repeats), 40)
        tracemalloc.start()
        try:
            NgramModel(train, 40)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2000) < peak(200) + 200_000


def test_symbols_are_read_through_their_table():
    text = Symbols(np.array([0, 1, 2, 1, 3], np.uint8), np.array([0, 7, 8, 9]), 1, 5)
    assert len(text) == 4 and text[:].tolist() == [7, 8, 7, 9] and text[np.array([3, 0])].tolist() == [9, 7]
    assert [(begin, ids.tolist()) for begin, ids in text.pieces(3)] == [(0, [7, 8, 7]), (3, [9])]
    assert text.since(1)[:2].tolist() == [8, 7]


def test_unigram_agrees_with_a_hand_count():
    nats = unigram_nats(np.array([0, 0, 0, 1], np.uint8), np.array([0, 1, 2, 0], np.uint8), 3)
    assert nats.dtype == np.float64
    np.testing.assert_allclose(nats, -np.log([4 / 7, 2 / 7, 1 / 7, 4 / 7]), rtol=1e-15)


def test_unigram_probabilities_sum_to_one_without_any_training_text():
    nats = unigram_nats(np.array([], np.uint8), np.arange(5), 5)
    np.testing.assert_allclose(np.exp(-nats), np.full(5, 0.2))


@pytest.mark.parametrize("model", [unigram_nats, ngram_nats])
@pytest.mark.parametrize(
    "ids", [np.array([0, 5]), np.array([-1, 0]), np.array([0.0]), np.array([[0]])], ids=str
)
def test_ids_out_of_range_or_shape_are_refused(model, ids):
    good = np.array([0, 1])
    for pair in ((ids, good), (good, ids)):
        with pytest.raises(ValueError, match="ids must"):
            model(*pair, 5)


def test_a_negative_order_and_an_empty_vocabulary_are_refused():
    with pytest.raises(ValueError, match="order"):
        ngram_nats(np.array([0]), np.array([0]), 1, order=-1)
    with pytest.raises(ValueError, match="vocab_size"):
        ngram_nats(np.array([], np.uint8), np.array([], np.uint8), 0)


def test_compressor_bits_are_the_difference_of_two_compressed_lengths():
    train, text = NATURAL[:400].encode(), NATURAL[400:].encode()
    bits = compressor_bits(train, [text[:50], text[50:]])
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}]
    xz = [len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters)) for data in (train + text, train)]
    bz = [len(bz2.compress(data, 9)) for data in (train + text, train)]
    assert bits == {"xz": 8 * (xz[0] - xz[1]), "bz2": 8 * (bz[0] - bz[1])}


def test_compressors_charge_nothing_for_no_text_and_bear_no_training_text():
    assert compressor_bits(b"abc", []) == {"xz": 0, "bz2": 0}
    assert min(compressor_bits(b"", [NATURAL.encode()]).values()) > 1000


def test_a_repeated_training_text_costs_xz_nearly_nothing():
    noise = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    assert compressor_bits(noise, [noise])["xz"] < 0.01 * 8 * len(noise)


@pytest.fixture(scope="module")
def shakespeare() -> np.ndarray:
    path = TEXTS / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"tinyshakespeare.txt is not in {TEXTS} (set CHARRNN_TEXTS)")
    return np.frombuffer(path.read_bytes(), np.uint8)


def test_ngram_figures_on_tiny_shakespeare(shakespeare):
    ids = np.unique(shakespeare, return_inverse=True)[1].reshape(-1)
    nats = {order: ngram_nats(ids[:1_003_854], ids[1_003_854:], 65, order).mean() for order in (4, 6, 8)}
    assert nats == pytest.approx({4: 1.5611, 6: 1.5165, 8: 1.5220}, abs=2e-4)
    assert nats[4] < 1.6688  # Witten-Bell with as much context
    assert min(nats, key=nats.get) == 6
    assert ngram_nats(ids[:1_003_854], ids[1_003_854:], 65).mean() == nats[6]


def test_compressor_figures_on_tiny_shakespeare(shakespeare):
    bits = compressor_bits(shakespeare[:1_003_854].tobytes(), [shakespeare[1_003_854:].tobytes()])
    nats = {name: size * math.log(2) / 111_540 for name, size in bits.items()}
    assert nats == pytest.approx({"xz": 1.746, "bz2": 1.662}, rel=0.005)


def test_ppmd_learns_from_the_training_text_and_from_the_text_itself():
    pytest.importorskip("pyppmd")
    noise = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    alone = ppmd_bits(b"", [noise])
    assert alone > 0.98 * 8 * len(noise)
    assert ppmd_bits(noise, [noise[:999], noise[999:]]) == ppmd_bits(noise, [noise]) < 0.1 * alone
    assert ppmd_bits(b"", [noise, noise]) < 1.1 * alone
    assert ppmd_bits(noise, []) == 0


def test_without_its_package_there_is_no_ppmd(monkeypatch):
    monkeypatch.setattr(compressors, "find_spec", lambda name: None)
    assert ppmd_bits(b"abc", [b"abc"]) is None


def test_ppmd_on_tiny_shakespeare(shakespeare):
    pytest.importorskip("pyppmd")
    bits = ppmd_bits(shakespeare[:1_003_854].tobytes(), [shakespeare[1_003_854:].tobytes()])
    assert bits * math.log(2) / 111_540 == pytest.approx(1.4043, abs=5e-5)
