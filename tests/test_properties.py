"""What must hold of any text and any numbers: found by hypothesis, not by example."""

from __future__ import annotations

import json
import math
import re
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from torch import nn

from charrnn.config import TextConfig, TrainingConfig
from charrnn.errors import TextError
from charrnn.inspection.histograms import area_under_roc, average_precision, f1_and_mcc
from charrnn.inspection.scores import pearson
from charrnn.sampling.choice import SamplingConfig, make_chooser
from charrnn.sampling.samplers import Draw, make_sampler
from charrnn.sampling.weights import Weights
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.splits import make_splits
from charrnn.text.streams import Streams
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary, symbols_of, text_of
from charrnn.training.averaging import NON_MONOTONE, NonMonotonicAverage
from charrnn.training.lengths import next_length
from charrnn.training.schedules import PLATEAU_FACTOR, cosine, linear, plateau, warmed_up
from charrnn.training.state import Counters

CHARACTERS = st.characters(exclude_categories=["Cs"])
FEW = st.sampled_from("abc\n\r é\u0301\u2028\U0001f3f3\0")
TEXTS = st.text(FEW | CHARACTERS, min_size=1, max_size=200).filter(lambda text: text[0] != "\ufeff")
SHARES = st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.33, 0.49])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return where to put texts; every test has its own cache already."""
    return tmp_path_factory.mktemp("texts")


def corpus_of(folder, texts, **settings):
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_bytes(text.encode())
    sources = find_sources([str(folder / f"{number:03d}.txt") for number in range(len(texts))])
    return open_corpus(sources, TextConfig(**settings))


# -- no character is lost, doubled, or leaks ------------------------------------------------------


@given(st.lists(TEXTS, min_size=1, max_size=30), SHARES, SHARES, st.sampled_from(["files", "blank"]))
def test_the_splits_together_are_the_text_and_the_vocabulary_is_of_the_first(folder, texts, val, test, mode):
    corpus = corpus_of(folder, texts, documents=mode)
    whole = "".join(texts)
    try:
        splits = make_splits(corpus, val, test)
    except TextError:
        assert len(whole) * (1 - val - test) < 2
        return
    parts = [corpus.text(*part) for part in (splits.train, splits.val, splits.test)]
    assert "".join(parts) == whole
    vocabulary = corpus.training_vocabulary(*splits.train)
    assert [chr(symbol) for symbol in vocabulary.symbols] == sorted(set(parts[0]))
    ids = corpus.id_table(vocabulary)[corpus.places]
    for (begin, end), part in zip((splits.train, splits.val, splits.test), parts, strict=True):
        read = ids[begin:end][corpus.places[begin:end] != 0]
        assert [i == ESCAPE for i in read] == [char not in parts[0] for char in part]
        known = "".join(char for char in part if char in parts[0])
        assert b"".join(vocabulary.symbol_bytes(int(i)) for i in read) == known.encode()


WORDS = "[abc ]+\n?"


def slow_documents(text, mode):
    if mode == "files":
        return [text]
    if mode == WORDS:
        return re.findall(mode, text)
    return [line for line in re.findall("[^\n]*\n|[^\n]+", text) if line.strip("\r\n")]


@given(
    st.lists(TEXTS, min_size=1, max_size=5),
    st.sampled_from(["files", "lines", WORDS]),
    st.sampled_from(["chars", "bytes"]),
    st.sampled_from(["keep", "lf"]),
    SHARES,
)
@example(["a\r", "\nb\r\n\r\nc"], "lines", "bytes", "lf", 0.1)
def test_documents_of_any_kind_are_those_of_a_slow_loop_and_splits_keep_all_of_them(
    folder, texts, mode, symbols, newlines, share
):
    folded = [re.sub("\r\n?", "\n", text) if newlines == "lf" else text for text in texts]
    by_file = [slow_documents(text, mode) for text in folded]
    assume(all(by_file) if mode == WORDS else any(by_file))
    wanted = [
        list(one.encode()) if symbols == "bytes" else list(map(ord, one)) for one in chain(*by_file) if one
    ]
    corpus = corpus_of(folder, texts, documents=mode, symbols=symbols, newlines=newlines)
    found = [
        corpus.universe[corpus.places[span[0] : span[1]]].tolist()
        for span in corpus.spans(0, len(corpus.places))
    ]
    assert found == wanted
    splits = make_splits_or_none(corpus, share, share / 2)
    if splits is not None:
        ends = [0, splits.train[1], splits.val[1], len(corpus.places)]
        assert [splits.train, splits.val, splits.test] == list(pairwise(ends))


@given(st.data(), st.integers(2, 400), SHARES, SHARES, st.integers(1, 9), st.integers(1, 30))
def test_an_epoch_reads_nothing_twice_and_nothing_of_other_splits(data, size, val, test, batch_size, seq_len):
    from charrnn.text.corpus import Corpus

    places = np.arange(size).clip(max=1).astype(np.uint8)  # one document
    splits = make_splits_or_none(
        Corpus(places, np.array([-1, 97]), {"kind": "chars", "characters": size - 1, "documents": 1}),
        val,
        test,
    )
    assume(splits is not None)
    streams = Streams(np.arange(size), np.arange(size), *splits.train, batch_size, seq_len)
    reads = np.zeros(size, dtype=int)
    targets = np.zeros(size, dtype=int)
    position = 0
    while position < streams.row_length:
        ids, following = streams.read(position, data.draw(st.integers(1, 2 * seq_len)))
        np.add.at(reads, ids.ravel(), 1)
        np.add.at(targets, following.ravel(), 1)
        position += ids.shape[1]
    count = streams.row_length * batch_size
    assert reads.tolist() == [1] * count + [0] * (size - count)
    assert targets.tolist() == [0] + [1] * count + [0] * (size - count - 1)
    assert count < splits.train[1] and splits.train[1] - 1 - count < batch_size


def make_splits_or_none(corpus, val, test):
    try:
        return make_splits(corpus, val, test)
    except TextError:
        return None


@given(TEXTS)
def test_symbols_of_a_text_are_the_text(text):
    assert text_of(symbols_of(text, "chars").astype(np.int64), "chars") == text
    assert text_of(symbols_of(text, "bytes"), "bytes") == text


@given(st.sets(CHARACTERS, min_size=1, max_size=60), st.text(max_size=60))
@example({"\U0010ffff", "\0"}, "\U0010ffff\0x")
def test_a_vocabulary_tells_what_it_knows_and_survives_json(known, text):
    vocabulary = Vocabulary.of_chars(map(ord, known))
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    ids = vocabulary.encode(text)
    assert vocabulary.unknown(text) == list(dict.fromkeys(char for char in text if char not in known))
    for char, i in zip(text, ids.tolist(), strict=True):
        assert vocabulary.symbol_bytes(i) == (char.encode() if char in known else b"")
        assert (i == ESCAPE) == (char not in known) and i != BOUNDARY


# -- schedules and lengths ------------------------------------------------------------------------


@given(st.integers(1, 200))
def test_cosine_and_linear_are_those_of_torch(steps):
    for own, theirs in (
        (cosine, lambda rule: torch.optim.lr_scheduler.CosineAnnealingLR(rule, steps)),
        (linear, lambda rule: torch.optim.lr_scheduler.PolynomialLR(rule, steps, power=1)),
    ):
        rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
        schedule = theirs(rule)
        for step in range(steps):
            assert own(step / steps) == pytest.approx(rule.param_groups[0]["lr"], abs=1e-9)
            rule.step()
            schedule.step()


@given(st.lists(st.floats(0.5, 5), min_size=1, max_size=40))
def test_plateau_is_that_of_torch_without_patience(losses):
    rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        rule, factor=PLATEAU_FACTOR, patience=0, threshold=0, threshold_mode="abs", eps=0
    )
    best, misses = float("inf"), 0
    for loss in losses:
        misses += loss >= best
        best = min(best, loss)
        theirs.step(loss)
        assert plateau(0.3, misses) == pytest.approx(rule.param_groups[0]["lr"])


@given(st.floats(0, 1), st.floats(0, 0.99), st.floats(0, 1))
def test_a_warm_up_rises_to_the_schedule_and_stays_with_it(progress, share, factor):
    found = warmed_up(factor, progress, share)
    assert 0 <= found <= factor
    if progress >= share:
        assert found == pytest.approx(factor)
    elif share > 1e-300:
        assert found == pytest.approx(factor * progress / share)


@given(
    st.integers(1, 300), st.integers(1, 300), st.booleans(), st.integers(0, 2**63 - 1), st.integers(0, 10**9)
)
def test_windows_have_at_least_a_symbol_and_at_most_twice_the_usual(length, start, noisy, seed, step):
    training = TrainingConfig(
        seq_len=length, seq_len_start=min(start, length), random_seq_len=noisy, seed=seed
    )
    found = [next_length(training, step, progress / 10) for progress in range(11)]
    assert all(1 <= one <= 2 * length for one in found)
    if not noisy:
        assert all(a <= b for a, b in pairwise(found)) and found[-1] == length


@given(st.lists(st.floats(0.5, 5), min_size=1, max_size=30))
def test_averaging_begins_where_the_papers_loop_does(losses):
    """Algorithm 1 of Merity et al. 2018, with n = 5 and a look at every step."""
    logs, began = [], None
    for step, loss in enumerate(losses):
        if began is None and len(logs) > NON_MONOTONE and loss > min(logs[: len(logs) - NON_MONOTONE]):
            began = step
        logs.append(loss)
    counters = Counters()
    average = NonMonotonicAverage(nn.Linear(1, 1), TrainingConfig(), counters)
    for step, loss in enumerate(losses):
        counters.step = step
        average.after_look(loss)
    assert counters.averaged_since == began


# -- what is drawn, and what is scored ------------------------------------------------------------

GRID = st.integers(-40, 40).map(lambda number: number / 4)


def exact(logits, config):
    """Return the distribution by id, and how near a character was to being left out or kept instead."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    weight = [math.exp((logits[i] - max(logits)) / config.temperature) for i in order]
    order = order[: config.top_k or None]
    whole, before, kept, margins = sum(weight[: len(order)]), 0.0, [], [1.0]
    for i, own in zip(order, weight, strict=False):
        margins += [abs(before / whole - config.top_p)] if config.top_p < 1 and before else []
        margins += [abs(own / weight[0] - config.min_p)] if own < weight[0] else []
        if (config.top_p == 1 or before < config.top_p * whole) and own >= config.min_p * weight[0]:
            kept.append((i, own))
        before += own
    total = sum(own for _, own in kept)
    return {i: own / total for i, own in kept}, min(margins)


@given(
    st.lists(GRID, min_size=1, max_size=12),
    st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    st.integers(0, 6),
    st.sampled_from([0.2, 0.5, 0.93, 1.0]),
    st.sampled_from([0.0, 0.01, 0.2, 1.0]),
)
def test_samplers_draw_from_the_exact_distribution(logits, temperature, top_k, top_p, min_p):
    """Of evenly spaced numbers, each id gets its share to one of them."""
    config = SamplingConfig(temperature, top_k, top_p, min_p)
    wanted, margin = exact(logits, config)
    assume(margin > 1e-6)
    count = 500
    uniforms = (np.arange(count) + 0.5) / count
    choose = make_chooser(config)
    slow = [choose(np.array(logits), uniform) for uniform in uniforms]
    hidden = np.zeros((1, 1), np.float32)
    nothing = (np.zeros((1, len(logits) + 2), np.float32), hidden, hidden[0], hidden[0])
    bias = np.array([50.0, 50.0, *logits], np.float32)  # the boundary, and the escape
    weights = Weights("elman", None, (nothing,), (np.zeros((len(bias), 1), np.float32), bias))
    sampler = make_sampler(weights, Draw(config, 0, 1), streams=count)
    for drawn in (slow, (sampler.draw(uniforms[:, None])[:, 0] - 2).tolist()):
        assert set(drawn) <= set(wanted)
        for i, share in wanted.items():
            assert abs(drawn.count(i) - share * count) <= 1 + 1e-3


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=80), st.integers(1, 9))
def test_scores_are_those_of_scikit_learn_and_scipy(pairs, bins):
    a, y = (np.array(column) for column in zip(*pairs, strict=True))
    assume(0 < y.sum() < len(y) and a.min() < a.max())
    on, off = (np.bincount(a[y == wanted], minlength=10)[::-1] for wanted in (True, False))
    called = a >= 10 - bins
    assert average_precision(on, off) == pytest.approx(metrics.average_precision_score(y, a))
    assert area_under_roc(on, off) == pytest.approx(metrics.roc_auc_score(y, a))
    f1, mcc = f1_and_mcc(on, off, bins)
    assert f1 == pytest.approx(metrics.f1_score(y, called, zero_division=0))
    assert mcc == pytest.approx(metrics.matthews_corrcoef(y, called), abs=1e-12)
    a, y = a.astype(float), y.astype(float)
    assert pearson(a, y) == pytest.approx(stats.pearsonr(a, y).statistic, abs=1e-12)
