"""Evaluation: every character is scored exactly once, and the figures are what their names say."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from charrnn import evaluation
from charrnn.baselines import Symbols
from charrnn.config import ModelConfig, TextConfig
from charrnn.errors import RunError, TextError
from charrnn.evaluation import Evaluation, evaluate, split_part
from charrnn.model import scoring
from charrnn.model.network import Network
from charrnn.model.scoring import TextView, mean_nats, score, score_cold
from charrnn.rendering.evaluation import evaluation_table
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source
from charrnn.text.vocabulary import Vocabulary

ALPHABET = "abc de\n"


def random_text(length, seed=0, alphabet=ALPHABET):
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))


def write_corpus(folder, texts, **how):
    sources = []
    for number, text in enumerate(texts):
        path = folder / f"{number:03}.txt"
        path.write_bytes(text.encode())
        sources.append(Source(path.name, path))
    return open_corpus(sources, TextConfig(**how))


def whole(corpus):
    return (0, len(corpus.places))


def make_network(vocabulary, cell="lstm", layers=2, forget_bias=-3.0, spread=3.0):
    """A network whose characters cost very different amounts; a low forget bias makes it forget soon."""
    config = ModelConfig(cell, 8, layers, dropout=0.0, forget_bias=forget_bias)
    network = Network(config, len(vocabulary), seed=4).eval()
    with torch.no_grad():
        network.readout.weight.mul_(spread)
        network.readout.bias.copy_(torch.linspace(-1, 1, len(vocabulary)))
        for layer in network.layers:
            layer.weight_ih_l0.mul_(2)
    return network


def slow_nats(network, ids):
    """-ln p of every symbol but the first, read one by one."""
    ids = torch.as_tensor(np.asarray(ids))[None]
    with torch.inference_mode():
        logits, _ = network.reference(ids[:, :-1], network.initial_state(1))
    return -logits[0].double().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].numpy()


def collected(windows):
    """Cost and place of every counted symbol by its index, each met once."""
    found = {}
    for window in windows:
        assert window.index.shape == window.place.shape == window.nats.shape
        for index, place, nats in zip(window.index.flat, window.place.flat, window.nats.flat, strict=True):
            if place:
                assert index not in found
                found[int(index)] = (int(place), float(nats))
    return found


def view_of(corpus, vocabulary, begin=0, end=None):
    return TextView(
        corpus.places, corpus.id_table(vocabulary), begin, len(corpus.places) if end is None else end
    )


def ids_of(view):
    """The ids that a view stands for: with a boundary first, wherever it begins."""
    ids = view.table[view.places[view.start : view.stop]]
    return ids if len(ids) and ids[0] == 0 else np.append(0, ids)


def assert_scores(view, windows, expected, tolerance=1e-5):
    found = collected(windows)
    ids = ids_of(view)
    assert set(found) == set(np.flatnonzero(ids[1:]) + 1)
    places = {index: place for index, (place, _) in found.items()}
    assert all(view.table[place] == ids[index] for index, place in places.items())
    np.testing.assert_allclose([found[i][1] for i in sorted(found)], expected[ids[1:] != 0], atol=tolerance)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(scoring, "STREAM_SYMBOLS", 50)
    monkeypatch.setattr(scoring, "WARM_UP", 40)
    monkeypatch.setattr(scoring, "WINDOW", 7)
    monkeypatch.setattr(scoring, "MAX_STREAMS", 5)


TEXTS = {
    "one symbol": ["a"],
    "shorter than a window": ["abc d"],
    "a window": ["abc de\n"],
    "a window and one": ["abc de\na"],
    "shorter than a stream": [random_text(49)],
    "a stream": [random_text(50)],
    "just below two streams": [random_text(99)],
    "two streams": [random_text(100)],
    "two streams and one": [random_text(101)],
    "odd rest in the last stream": [random_text(203)],
    "as many streams as may be": [random_text(250)],
    "more text than streams": [random_text(333)],
    "documents": [random_text(n, n) for n in (1, 60, 2, 49, 7, 100, 31)],
    "a document begins with a stream": [random_text(50), random_text(50), random_text(49)],
    "many of one character": ["a", "b", "c"] * 40,
}


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman_relu"])
@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_every_character_is_scored_once_at_its_cost(tmp_path, small_windows, texts, cell):
    corpus = write_corpus(tmp_path, texts)
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary, cell)
    with torch.no_grad():
        for layer in network.layers:
            layer.weight_hh_l0.mul_(0.3)  # forgotten within the warm-up, whatever the cell
            if cell == "gru":
                layer.bias_ih_l0[8:16] = -3
    view = view_of(corpus, vocabulary)
    assert_scores(view, score(network, view), slow_nats(network, ids_of(view)))


@pytest.mark.parametrize(("begin", "end"), [(1, 2), (3, 40), (20, 221), (61, 260), (62, 263), (0, 62)])
def test_a_stretch_inside_documents_is_scored_from_a_boundary(tmp_path, small_windows, begin, end):
    corpus = write_corpus(tmp_path, [random_text(60, 1), random_text(220, 2)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary)
    view = view_of(corpus, vocabulary, begin, end)
    assert len(view) == len(ids_of(view))
    assert_scores(view, score(network, view), slow_nats(network, ids_of(view)))
    assert_scores(view, score_cold(network, view, 10_000), slow_nats(network, ids_of(view)))


def test_an_empty_stretch_has_nothing_to_score(tmp_path):
    corpus = write_corpus(tmp_path, ["abc"])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary)
    for begin, end in ((0, 0), (2, 2), (4, 4), (0, 1)):
        view = view_of(corpus, vocabulary, begin, end)
        assert collected(score(network, view)) == collected(score_cold(network, view, 5)) == {}


def test_the_first_stream_is_exact_for_a_network_that_never_forgets(tmp_path, small_windows):
    corpus = write_corpus(tmp_path, [random_text(250)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary, forget_bias=6.0)
    view = view_of(corpus, vocabulary)
    expected = slow_nats(network, ids_of(view))
    found = collected(score(network, view))
    nats = np.array([found[i][1] for i in range(1, 251)])
    np.testing.assert_allclose(nats[:50], expected[:50], atol=1e-5)
    assert np.abs(nats[50:] - expected[50:]).max() > 1e-4  # so the warm-up was really cut off


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_streams_differ_from_one_pass_by_less_than_is_said(tmp_path, forget_bias):
    corpus = write_corpus(tmp_path, [random_text(20_100)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary, layers=1, forget_bias=forget_bias)
    view = view_of(corpus, vocabulary)
    windows = list(score(network, view))
    assert {len(window.index) for window in windows} == {2}
    assert_scores(view, windows, slow_nats(network, ids_of(view)))


def test_the_mean_counts_what_unseen_characters_cost_beside_the_escape(tmp_path):
    corpus = write_corpus(tmp_path, ["abüc", "€"])
    vocabulary = Vocabulary.of_chars(map(ord, "abc"))
    network = make_network(vocabulary)
    view = view_of(corpus, vocabulary)
    ids = ids_of(view)
    own = slow_nats(network, ids)[ids[1:] != 0].sum()
    loss, characters = mean_nats(network, view, corpus.extra_nats(vocabulary))
    assert characters == 5
    assert loss == pytest.approx((own + 8 * math.log(2) * (2 + 3)) / 5, abs=1e-6)


# cold windows


@pytest.mark.parametrize("length", [1, 2, 7, 30, 100, 101, 102, 1000])
def test_cold_windows_equal_a_slow_loop(tmp_path, length):
    corpus = write_corpus(tmp_path, [random_text(60, 3), random_text(40, 4)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary, forget_bias=3.0)
    view = view_of(corpus, vocabulary)
    ids = ids_of(view)
    begins = range(0, len(ids) - 1, length)
    expected = np.concatenate([slow_nats(network, ids[b : b + length + 1]) for b in begins])
    assert_scores(view, score_cold(network, view, length), expected)


def test_more_cold_windows_than_are_read_at_once(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(70_001)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    view = view_of(corpus, vocabulary)
    network = make_network(vocabulary, layers=1)
    assert set(collected(score_cold(network, view, 2))) == set(range(1, 70_002))


def test_a_cold_window_as_long_as_the_text_is_the_carried_context(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(80)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary)
    cold = evaluate(network, vocabulary, corpus, whole(corpus), cold_window=80)
    carried = evaluate(network, vocabulary, corpus, whole(corpus))
    assert cold.loss == pytest.approx(carried.loss, abs=1e-6)
    assert (cold.context, carried.context) == ("cold-80", "carried")


def test_memory_makes_the_carried_context_differ_from_cold_windows(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(80)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary, forget_bias=3.0)
    cold = evaluate(network, vocabulary, corpus, whole(corpus), cold_window=3)
    assert abs(cold.loss - evaluate(network, vocabulary, corpus, whole(corpus)).loss) > 1e-4


def test_a_cold_window_longer_than_the_text_costs_nothing_more(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path, [random_text(80)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    lengths = []
    read = TextView.read
    monkeypatch.setattr(TextView, "read", lambda self, b, n: lengths.append(n) or read(self, b, n))
    evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus), cold_window=5_000)
    assert max(lengths) <= 81


# figures


def test_figures_are_what_their_names_say(tmp_path):
    texts = ["naïve café\n", "a€😀b\n", "zzz"]
    corpus = write_corpus(tmp_path, texts)
    vocabulary = Vocabulary.of_chars(map(ord, "naïve cf\nab€"))
    network = make_network(vocabulary)
    result = evaluate(network, vocabulary, corpus, whole(corpus))

    ids = ids_of(view_of(corpus, vocabulary))
    nats = slow_nats(network, ids)[ids[1:] != 0].sum() + 8 * math.log(2) * (2 + 4 + 3)
    chars, utf8 = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
    assert (result.chars, result.unseen_chars) == (chars, 5)
    assert result.loss == pytest.approx(nats / chars, abs=1e-6)
    assert result.bpc == pytest.approx(nats / chars / math.log(2), abs=1e-6)
    assert result.bpb == pytest.approx(nats / utf8 / math.log(2), abs=1e-6)
    assert result.bpb < result.bpc


def test_a_text_of_unseen_characters_has_a_finite_loss(tmp_path):
    corpus = write_corpus(tmp_path, ["日本語" * 20])
    vocabulary = Vocabulary.of_chars(map(ord, "ab"))
    result = evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus))
    assert result.unseen_chars == result.chars == 60
    assert math.isfinite(result.loss) and result.bpc > 24


def test_bits_per_byte_of_a_bytes_model_are_bits_per_symbol(tmp_path):
    corpus = write_corpus(tmp_path, ["né€x" * 5], symbols="bytes")
    vocabulary = Vocabulary.of_bytes()
    result = evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus))
    assert result.chars == 7 * 5
    assert result.bpb == pytest.approx(result.bpc)


def test_bits_per_byte_count_a_bytes_text_that_is_no_utf8(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(b"\xff\xfe\x80abc\xe2\x82")
    corpus = open_corpus([Source("raw", path)], TextConfig(symbols="bytes"))
    vocabulary = Vocabulary.of_bytes()
    result = evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus))
    assert result.chars == 8
    assert result.bpb == pytest.approx(result.bpc)


def test_only_the_part_is_scored(tmp_path):
    corpus = write_corpus(tmp_path, ["aaaa", "bbbb", "cccc"])
    vocabulary = Vocabulary.of_chars(map(ord, "abc"))
    network = make_network(vocabulary)
    result = evaluate(network, vocabulary, corpus, (5, 10))
    own = slow_nats(network, [0, *vocabulary.encode("bbbb")])
    assert result.chars == 4
    assert result.loss == pytest.approx(own.mean(), abs=1e-6)


def direct_standard_error(nats_by_index, block):
    blocks = {}
    for index, nats in nats_by_index.items():
        blocks.setdefault(index // block, []).append(nats / math.log(2))
    means = [sum(costs) / len(costs) for costs in blocks.values() if len(costs) > block / 2]
    centre = sum(means) / len(means)
    return math.sqrt(sum((m - centre) ** 2 for m in means) / (len(means) - 1) / len(means))


@pytest.mark.parametrize("lengths", [(1000,), (930,), (970,), (33, 500, 2, 1, 444)])
def test_standard_error_over_blocks(tmp_path, monkeypatch, lengths):
    monkeypatch.setattr(evaluation, "BLOCK_CHARS", 100)
    corpus = write_corpus(tmp_path, [random_text(n, n) for n in lengths])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    network = make_network(vocabulary)
    result = evaluate(network, vocabulary, corpus, whole(corpus))
    ids = ids_of(view_of(corpus, vocabulary))
    nats = dict(enumerate(slow_nats(network, ids), start=1))
    expected = direct_standard_error({i: n for i, n in nats.items() if ids[i]}, 100)
    assert result.stderr_bpc == pytest.approx(expected, rel=1e-4)


def test_one_block_has_no_standard_error(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(1400)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    assert evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus)).stderr_bpc is None


def test_progress_grows_and_ends_at_one(tmp_path, small_windows):
    corpus = write_corpus(tmp_path, [random_text(333)])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    shares = []
    evaluate(make_network(vocabulary), vocabulary, corpus, whole(corpus), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.02)
    assert len(shares) > 3


@pytest.mark.parametrize("part", [(0, 0), (0, 1), (3, 3)])
def test_nothing_to_score_is_an_error(tmp_path, part):
    corpus = write_corpus(tmp_path, ["abcdef"])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    with pytest.raises(TextError, match="no character"):
        evaluate(make_network(vocabulary), vocabulary, corpus, part)


# baselines and splits


def test_baselines_score_the_same_characters(tmp_path):
    corpus = write_corpus(tmp_path, ["aab" * 40, "abéa"])
    vocabulary = Vocabulary.of_chars(map(ord, "ab"))
    found, saw = evaluation.baselines(vocabulary, (corpus, (0, 121)), corpus, (121, 126))
    # boundary, escape, a, b: one more than their counts 1, 0, 80, 40
    costs = [-math.log2(81 / 125)] * 2 + [-math.log2(41 / 125), -math.log2(1 / 125) + 16]
    assert found["unigram"] == pytest.approx(sum(costs) / 4)
    assert {"unigram", "ngram", "xz"} <= set(found)
    assert all(math.isfinite(bpc) and bpc > 0 for bpc in found.values()) and saw == {}


def test_baselines_do_not_depend_on_the_size_of_pieces(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path, [random_text(900), random_text(300, seed=1) + "é", "ab" * 90])
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    given = (vocabulary, (corpus, (0, 901)), corpus, (901, len(corpus.places)))
    whole, _ = evaluation.baselines(*given)
    monkeypatch.setattr(evaluation, "PIECE", 50)
    monkeypatch.setattr(Symbols.pieces, "__defaults__", (50,))
    assert evaluation.baselines(*given)[0] == pytest.approx(whole, rel=1e-12)


def test_baselines_see_the_end_of_a_long_training_text_and_it_is_said(tmp_path, monkeypatch):
    long, end, scored = random_text(500), random_text(300, seed=1), random_text(200, seed=2)
    vocabulary = Vocabulary.of_chars(map(ord, ALPHABET))
    corpus = write_corpus(tmp_path, [long + end, scored])
    (tmp_path / "short").mkdir()
    short = write_corpus(tmp_path / "short", [end, scored])
    monkeypatch.setattr(evaluation, "PREFACE_BYTES", 301)
    all_of_it, nothing = evaluation.baselines(vocabulary, (short, (1, 301)), short, (302, 502))
    monkeypatch.setattr(evaluation, "PREFACE_BYTES", 300)
    found, saw = evaluation.baselines(vocabulary, (corpus, (0, 801)), corpus, (802, 1002))
    assert found == pytest.approx(all_of_it) and nothing == {}
    assert saw == {"unigram": 300, "ngram": 300, "compressors": 300}


def test_the_last_bytes_of_a_text(tmp_path):
    corpus = write_corpus(tmp_path, ["aé日" * 50, "bc"])
    text = evaluation.TextBytes(corpus, (0, len(corpus.places)))
    everything = ("aé日" * 50 + "bc").encode()
    assert b"".join(text) == b"".join(text) == everything == text.last(999)
    assert [text.last(limit) for limit in (1, 2, 100)] == [everything[-limit:] for limit in (1, 2, 100)]


def test_a_table_says_what_the_baselines_saw():
    saw = {"unigram": 9_000_000, "ngram": 4_500_000, "compressors": 67_108_864}
    result = Evaluation(10, 0, 1.4, 2.0, 2.0, None, "carried", {"ngram": 1.9}, saw)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(evaluation_table(result, "run", "val split"))
    assert "ngram 4,500,000, the compressors 67,108,864 bytes" in console.export_text()


def test_beaten_by_names_the_better_baselines():
    bpc = {"unigram": 4.0, "ngram": 1.9, "xz": 2.0, "bz2": None}
    result = Evaluation(10, 0, 1.4, 2.0, 2.0, None, "carried", bpc)
    assert result.beaten_by == ["ngram"]
    assert Evaluation(10, 0, 1.4, 2.0, 2.0, None, "carried").beaten_by == []


RECORD = {"splits": {"by": "characters", "train": [0, 90], "val": [90, 95], "test": [95, 95]}}


def test_a_split_is_where_the_run_recorded_it():
    assert tuple(split_part(RECORD, "val")) == (90, 95)


@pytest.mark.parametrize("split", ["train", "by", "", "VAL", "dev"])
def test_training_text_is_no_split_to_score(split):
    with pytest.raises(RunError, match="unknown split"):
        split_part(RECORD, split)


def test_an_empty_split_is_an_error():
    with pytest.raises(RunError, match="no test split"):
        split_part(RECORD, "test")
