"""Splits touch and cover everything; streams read every symbol once and in order."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from charrnn.errors import TextError
from charrnn.text import splits as module
from charrnn.text.corpus import Corpus
from charrnn.text.splits import MIN_DOCUMENTS, Splits, count_characters, make_splits
from charrnn.text.streams import Streams


def corpus_of(*lengths):
    """A corpus with documents of these lengths, every character another place."""
    places = np.concatenate([np.concatenate([[0], np.ones(n, dtype=int)]) for n in lengths])
    info = {"kind": "chars", "characters": sum(lengths), "documents": len(lengths)}
    return Corpus(places.astype(np.uint8), np.array([-1, 97]), info)


def sizes(corpus, splits):
    return [count_characters(corpus, part) for part in (splits.train, splits.val, splits.test)]


# -- splits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("characters", "val", "test", "expected"),
    [
        (100, 0.05, 0.05, [90, 5, 5]),
        (1_115_394, 0.1, 0.0, [1_003_854, 111_540, 0]),
        (100, 0.1, 0.1, [80, 10, 10]),
        (1000, 0.07, 0.03, [900, 70, 30]),
        (10, 0.3, 0.0, [7, 3, 0]),
        (10, 0.0, 0.3, [7, 0, 3]),
        (7, 0.0, 0.0, [7, 0, 0]),
        (1000, 0.001, 0.001, [998, 1, 1]),
        (90_000, 0.05, 0.05, [81_000, 4_500, 4_500]),
        (3, 0.3, 0.3, [1, 1, 1]),
    ],
)
def test_shares_are_exact(characters, val, test, expected):
    corpus = corpus_of(characters)
    splits = make_splits(corpus, val, test)
    assert sizes(corpus, splits) == expected
    assert splits.by == "characters"


@pytest.mark.parametrize("seed", range(60))
def test_splits_touch_and_cover_everything(seed):
    rng = random.Random(seed)
    lengths = [rng.randrange(1, 40) for _ in range(rng.choice([1, 2, 5, 19, 20, 21, 60]))]
    corpus = corpus_of(*lengths)
    val, test = rng.choice([0.0, 0.05, 0.1, 0.33]), rng.choice([0.0, 0.05, 0.1, 0.33])
    if sum(lengths) < 10:
        return
    splits = make_splits(corpus, val, test)
    assert splits.train[0] == 0 and splits.test[1] == len(corpus.places)
    assert splits.train[1] == splits.val[0] and splits.val[1] == splits.test[0]
    assert all(begin <= end for begin, end in (splits.train, splits.val, splits.test))
    assert sum(sizes(corpus, splits)) == sum(lengths)
    assert (val > 0 or splits.val[0] == splits.val[1]) and (test > 0 or splits.test[0] == splits.test[1])


@pytest.mark.parametrize("seed", range(30))
def test_with_documents_enough_cuts_are_begins_of_documents(seed):
    rng = random.Random(seed)
    lengths = [rng.randrange(5, 15) for _ in range(rng.randrange(MIN_DOCUMENTS * 2, 200))]
    corpus = corpus_of(*lengths)
    splits = make_splits(corpus, 0.1, 0.1)
    assert splits.by == "documents"
    assert corpus.places[splits.val[0]] == 0 and corpus.places[splits.test[0]] == 0
    wanted = sum(lengths) * 0.1
    assert all(abs(size - wanted) <= 15 for size in sizes(corpus, splits)[1:])


def in_one_look(corpus, val, test):
    """Splits as a loop over every boundary finds them."""
    boundaries = [place for place, symbol in enumerate(corpus.places) if symbol == 0]
    end, total = len(corpus.places), len(corpus.places) - len(boundaries)
    cuts = []
    for share in (1 - val - test, 1 - test):
        characters = math.floor(total * share)
        before = sum(1 for number, place in enumerate(boundaries) if place - number < characters)
        cuts.append(characters + before)
    moved = [min([*boundaries, end], key=lambda place: abs(place - cut)) for cut in cuts]
    good = len(boundaries) >= MIN_DOCUMENTS and 0 < moved[0] < moved[1] < end
    return ("documents", moved) if good else ("characters", cuts)


@pytest.mark.parametrize("stretch", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("seed", range(30))
def test_cuts_are_found_stretch_by_stretch(monkeypatch, seed, stretch):
    monkeypatch.setattr(module, "STRETCH", stretch)
    rng = random.Random(seed)
    corpus = corpus_of(
        *(rng.randrange(1, rng.choice([3, 40])) for _ in range(rng.choice([1, 3, 19, 20, 50])))
    )
    if len(corpus.places) < 20:
        return
    val, test = Fraction(rng.randrange(1, 30), 100), Fraction(rng.randrange(1, 30), 100)
    splits = make_splits(corpus, float(val), float(test))
    assert (splits.by, [splits.train[1], splits.val[1]]) == in_one_look(corpus, val, test)


def test_with_fewer_documents_cuts_fall_between_characters():
    corpus = corpus_of(*[10] * (MIN_DOCUMENTS - 1))
    assert make_splits(corpus, 0.13, 0.13).by == "characters"
    assert sizes(corpus, make_splits(corpus, 0.13, 0.13)) == [140, 25, 25]


def test_documents_are_not_used_where_they_would_leave_a_split_empty():
    corpus = corpus_of(*[1] * (MIN_DOCUMENTS - 1), 10_000)
    splits = make_splits(corpus, 0.05, 0.05)
    assert splits.by == "characters"
    assert min(sizes(corpus, splits)) > 400


@pytest.mark.parametrize("lengths", [[10] * 5, [10] * 30])
def test_without_shares_everything_is_trained_on(lengths):
    corpus = corpus_of(*lengths)
    splits = make_splits(corpus, 0.0, 0.0)
    assert splits.train == (0, len(corpus.places))
    assert splits.val[0] == splits.val[1] == splits.test[0] == splits.test[1]


def test_cut_at_the_end_of_a_document_stands_before_the_boundary():
    corpus = corpus_of(90, 5, 5)
    splits = make_splits(corpus, 0.05, 0.05)
    assert sizes(corpus, splits) == [90, 5, 5]
    assert [corpus.places[begin] for begin, _ in (splits.train, splits.val, splits.test)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("characters", "val", "test"), [(1, 0.05, 0.05), (1, 0.5, 0.0), (2, 0.4, 0.4), (9, 0.5, 0.4)]
)
def test_too_little_text_is_an_error(characters, val, test):
    with pytest.raises(TextError, match="too few to train on") as caught:
        make_splits(corpus_of(characters), val, test)
    assert f"{characters} characters" in caught.value.message and caught.value.hint


def test_splits_survive_json():
    splits = make_splits(corpus_of(*[10] * 30), 0.1, 0.1)
    import json

    assert Splits.from_json(json.loads(json.dumps(splits.to_json()))) == splits


def test_characters_are_counted_without_boundaries():
    corpus = corpus_of(3, 4, 5)
    assert count_characters(corpus, (0, len(corpus.places))) == 12
    assert count_characters(corpus, (2, 6)) == 3
    assert count_characters(corpus, (4, 4)) == 0


# -- streams ------------------------------------------------------------------------------------


def streams_of(start, stop, batch_size, seq_len):
    """Streams over the numbers 0, 1, 2 …, so that every id is its own position."""
    places = np.arange(max(stop, 1), dtype=np.uint32)
    return Streams(places, np.arange(max(stop, 1)), start, stop, batch_size, seq_len)


def random_sizes(seed):
    rng = random.Random(seed)
    batch_size, seq_len, start = rng.randrange(1, 9), rng.randrange(1, 30), rng.choice([0, 1, 17])
    length = batch_size * seq_len * rng.randrange(1, 6) + rng.randrange(1, 50)
    return start, start + length, batch_size, seq_len


@pytest.mark.parametrize("seed", range(60))
def test_every_symbol_but_a_few_is_read_once_an_epoch(seed):
    start, stop, batch_size, seq_len = random_sizes(seed)
    streams = streams_of(start, stop, batch_size, seq_len)
    windows = [streams.window(n) for n in range(streams.num_windows)]
    read = sorted(np.concatenate([ids.ravel() for ids, _ in windows]).tolist())
    assert read == list(range(start, start + len(read)))
    # the last symbol is only ever predicted, and fewer than B before it are left out
    assert 1 <= stop - start - len(read) <= batch_size


@pytest.mark.parametrize("seed", range(60))
def test_targets_are_the_symbols_one_further(seed):
    streams = streams_of(*random_sizes(seed))
    for n in range(streams.num_windows):
        ids, targets = streams.window(n)
        assert ids.dtype == targets.dtype == np.int64
        assert (targets == ids + 1).all()
        assert targets.max() < streams.stop


@pytest.mark.parametrize("seed", range(60))
def test_rows_are_contiguous_across_windows(seed):
    start, stop, batch_size, seq_len = random_sizes(seed)
    streams = streams_of(start, stop, batch_size, seq_len)
    windows = [streams.window(n)[0] for n in range(streams.num_windows)]
    rows = np.concatenate(windows, axis=1)
    assert rows.shape == (batch_size, streams.row_length)
    assert (np.diff(rows, axis=1) == 1).all()
    assert all(b[0] == a[-1] + 1 for a, b in pairwise(rows))


@pytest.mark.parametrize("seed", range(30))
def test_only_the_last_window_is_shorter(seed):
    start, stop, batch_size, seq_len = random_sizes(seed)
    streams = streams_of(start, stop, batch_size, seq_len)
    widths = [streams.window(n)[0].shape[1] for n in range(streams.num_windows)]
    assert all(width == seq_len for width in widths[:-1]) and 1 <= widths[-1] <= seq_len
    assert sum(widths) == (stop - start - 1) // batch_size


def test_window_that_fits_exactly_is_the_only_one():
    streams = streams_of(0, 13, 3, 4)
    assert streams.num_windows == 1
    assert streams.window(0)[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_ids_come_from_the_table():
    table = np.array([0, 7, 5])
    ids, targets = Streams(np.array([0, 1, 2, 1], dtype=np.uint8), table, 0, 4, 1, 3).window(0)
    assert ids.tolist() == [[0, 7, 5]] and targets.tolist() == [[7, 5, 7]]


@pytest.mark.parametrize("index", [-1, 3, 100])
def test_window_outside_the_epoch_is_an_index_error(index):
    with pytest.raises(IndexError, match="of 3"):
        streams_of(0, 31, 2, 5).window(index)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_text_shorter_than_a_row_has_no_window(length):
    assert streams_of(0, length, 4, 5).num_windows == 0


@pytest.mark.parametrize("seed", range(30))
def test_windows_of_any_length_read_every_row_whole(seed):
    streams = streams_of(*random_sizes(seed))
    rng, position, read = random.Random(seed), 0, []
    while position < streams.row_length:
        ids, targets = streams.read(position, rng.randrange(1, 40))
        assert (targets == ids + 1).all()
        read.append(ids)
        position += ids.shape[1]
    fixed = [streams.window(n)[0] for n in range(streams.num_windows)]
    assert (np.concatenate(read, axis=1) == np.concatenate(fixed, axis=1)).all()
    with pytest.raises(IndexError, match="position"):
        streams.read(position, 1)
