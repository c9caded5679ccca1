"""Longest shared stretches against a loop over all pairs of places."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.text import overlap
from charrnn.text.overlap import longest_overlaps


def slow_longest(text, query):
    """Length of the longest stretch without a boundary that both have, by comparing every pair of places."""
    best = 0
    row = [0] * (len(text) + 1)
    for symbol in query:
        row = [0] + [row[j] + 1 if symbol == other and symbol != 0 else 0 for j, other in enumerate(text)]
        best = max(best, *row)
    return best


def planted(seed, symbols=4, length=900):
    """A text and queries that share stretches of all lengths with it."""
    random = np.random.default_rng(seed)
    text = random.integers(0, symbols, length)
    queries = []
    for size in (0, 3, 15, 16, 17, 40, 90):
        begin = random.integers(0, length - size)
        around = random.integers(0, symbols, (2, 20))
        queries.append(np.concatenate([around[0], text[begin : begin + size], around[1]]))
    return text, [*queries, np.array([], int), np.array([0, 0]), text[:5], random.integers(0, symbols, 60)]


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
@pytest.mark.parametrize("symbols", [2, 4, 50])
def test_lengths_are_those_of_a_slow_loop(monkeypatch, symbols, chunk):
    monkeypatch.setattr(overlap, "CHUNK", chunk)
    for seed in range(3):
        text, queries = planted(seed, symbols)
        found = longest_overlaps(text, (0, len(text)), np.arange(symbols), queries)
        assert [o.length for o in found] == [slow_longest(text, query) for query in queries]
        for query, own in zip(queries, found, strict=True):
            theirs = text[own.position : own.position + own.length]
            assert np.array_equal(query[own.start : own.start + own.length], theirs)
            assert 0 not in theirs


def test_only_the_part_counts_and_places_are_mapped(monkeypatch):
    monkeypatch.setattr(overlap, "CHUNK", 8)
    text = np.array([2, 1, 2, 3, 3, 1, 0, 2, 2, 1, 3], dtype=np.uint8)
    table = np.array([0, 7, 8, 9])
    query = [np.array([8, 8, 7, 9])]
    assert longest_overlaps(text, (0, 11), table, query)[0].length == 4
    assert longest_overlaps(text, (0, 10), table, query)[0].length == 3
    assert longest_overlaps(text, (0, 7), table, query)[0] == overlap.Overlap(2, 1, 0)


def test_a_text_of_one_symbol():
    text, query = np.ones(5000, int), np.ones(300, int)
    assert longest_overlaps(text, (0, 5000), np.arange(2), [query])[0].length == 300
    assert longest_overlaps(text[:200], (0, 200), np.arange(2), [query])[0].length == 200
