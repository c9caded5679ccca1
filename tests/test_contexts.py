"""Cost by context and by place, against slow loops over single characters."""

from __future__ import annotations

import numpy as np
import pytest
from test_evaluation import (
    ALPHABET,
    ids_of,
    make_network,
    random_text,
    slow_nats,
    view_of,
    whole,
    write_corpus,
)

from charrnn import contexts
from charrnn.contexts import Contexts, Reach, measure_contexts
from charrnn.errors import TextError
from charrnn.text.vocabulary import NATS_PER_BYTE, Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, ALPHABET))
LN2 = np.log(2)


def cold(network, ids, target, length):
    """Bits of one character given the ``length`` before it."""
    return slow_nats(network, ids[target - length : target + 1])[-1] / LN2


def test_every_row_scores_the_same_characters_at_their_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(contexts, "LONGEST", 16)
    monkeypatch.setattr(contexts, "TARGETS", 9)
    monkeypatch.setattr(contexts, "ROWS", 4)
    corpus = write_corpus(tmp_path, [random_text(60, 1), random_text(45, 2)])
    network = make_network(VOCABULARY, forget_bias=2.0)
    found = measure_contexts(network, VOCABULARY, corpus, whole(corpus))

    ids = ids_of(view_of(corpus, VOCABULARY))
    eligible = [i for i in range(len(ids)) if i >= 17 and not (ids[i - 16 : i + 1] == 0).any()]
    targets = np.array(eligible)[np.linspace(0, len(eligible) - 1, 9).astype(int)]
    assert found.targets == 9 and [row.context for row in found.reach] == [1, 2, 4, 8, 16, None]
    bits = [np.array([cold(network, ids, t, row.context) for t in targets]) for row in found.reach[:-1]]
    bits.append(slow_nats(network, ids)[targets - 1] / LN2)
    assert [row.bpc for row in found.reach] == pytest.approx([b.mean() for b in bits], abs=1e-5)
    for row, before, here in zip(found.reach[1:], bits, bits[1:], strict=False):
        gains = before - here
        assert row.gain == pytest.approx(gains.mean(), abs=1e-5)
        assert row.stderr_gain == pytest.approx(gains.std(ddof=1) / 3, abs=1e-5)


def test_places_in_the_document_count_from_its_begin(tmp_path):
    texts = [random_text(n, n) for n in (3, 20, 1, 9)]
    corpus = write_corpus(tmp_path, texts)
    network = make_network(VOCABULARY)
    costs = {}
    for text in texts:
        nats = slow_nats(network, [0, *VOCABULARY.encode(text)])
        for place, own in enumerate(nats, start=1):
            costs.setdefault(place.bit_length(), []).append(own / LN2)
    found = measure_contexts(network, VOCABULARY, corpus, whole(corpus))
    assert found.documents == 4
    assert [(row.first, row.last) for row in found.positions] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31)]
    assert [row.chars for row in found.positions] == [len(costs[n]) for n in range(1, 6)]
    expected = [np.mean(costs[n]) for n in range(1, 6)]
    assert [row.bpc for row in found.positions] == pytest.approx(expected, abs=1e-5)


def test_a_document_that_was_cut_has_no_known_places(tmp_path):
    corpus = write_corpus(tmp_path, ["abcde" * 4, "ab", "cd"])
    network = make_network(VOCABULARY)
    found = measure_contexts(network, VOCABULARY, corpus, (5, len(corpus.places)))
    assert found.documents == 2
    assert sum(row.chars for row in found.positions) == 4
    one = measure_contexts(network, VOCABULARY, corpus, (0, 21))
    assert (one.documents, one.positions) == (1, ())


def test_short_documents_shorten_the_longest_context(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(6, n) for n in range(30)])
    found = measure_contexts(make_network(VOCABULARY), VOCABULARY, corpus, whole(corpus))
    assert [row.context for row in found.reach] == [1, 2, 4, None]
    single = write_corpus(tmp_path, ["a"] * 30)
    with pytest.raises(TextError, match="too little"):
        measure_contexts(make_network(VOCABULARY), VOCABULARY, single, whole(single))


def test_unseen_characters_cost_their_bytes_in_every_row(tmp_path):
    vocabulary = Vocabulary.of_chars(map(ord, "ab"))
    corpus = write_corpus(tmp_path, ["é" * 40])
    found = measure_contexts(make_network(vocabulary), vocabulary, corpus, whole(corpus))
    assert all(row.bpc > 2 * NATS_PER_BYTE / LN2 for row in found.reach)


def test_where_most_of_the_gain_is_reached():
    def of(*bpc):
        rows = [Reach(2**n, b, None, None) for n, b in enumerate(bpc[:-1])]
        return Contexts(9, (*rows, Reach(None, bpc[-1], None, None)), 1, ())

    assert of(4.0, 3.0, 2.04, 2.0, 2.0).reaches == 4
    assert of(4.0, 3.0, 2.2, 2.2, 2.0).reaches is None
    assert of(2.0, 2.0, 2.0).reaches is None


def test_of_a_long_text_the_first_symbols_are_looked_at(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path, [random_text(300, 1)])
    network = make_network(VOCABULARY)
    first = measure_contexts(network, VOCABULARY, corpus, (0, 120))
    monkeypatch.setattr(contexts, "MOST", 120)
    assert measure_contexts(network, VOCABULARY, corpus, whole(corpus)) == first
