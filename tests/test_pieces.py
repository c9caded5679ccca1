"""Pieces of text: cut, labelled and dealt to two halves, with nothing of one in the other."""

from __future__ import annotations

import numpy as np
import pytest
from planting import PROFILE, cut, document, write_corpus

from charrnn.config import TextConfig
from charrnn.errors import InspectionError
from charrnn.inspection import pieces
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.null import make_units
from charrnn.inspection.pieces import GAP_CHARS, MIN_BLOCK_CHARS, WARM_UP_CHARS, cut_pieces
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source


@pytest.fixture(scope="module")
def texts():
    return [document(seed) for seed in range(24)]


def one_column(text, profile):
    return np.arange(len(text), dtype=np.float32)


COUNT = [Hypothesis("place", "count", frozenset({"prose"}), "for tests", False, one_column)]


def test_whole_documents_are_dealt_to_the_halves(tmp_path):
    corpus = write_corpus(tmp_path / "many", [document(n, 300 + 900 * n) for n in range(12)])
    parts = cut(corpus)
    halves = {part.document: part.chooses for part in parts}
    assert all(part.chooses == halves[part.document] for part in parts)
    sizes = [sum(len(p) for p in parts if p.chooses == chooses) for chooses in (True, False)]
    assert min(sizes) > 0.3 * sum(sizes)


def test_blocks_of_one_document_alternate_with_gaps(tmp_path):
    text = document(1, 56_000)
    parts = cut(write_corpus(tmp_path / "one", [text]), COUNT)
    assert [part.chooses for part in parts] == [True, False] * 14
    assert [part.skip for part in parts] == [WARM_UP_CHARS] + [GAP_CHARS] * 27
    assert "".join(part.text for part in parts) == text
    assert max(map(len, parts)) <= MIN_BLOCK_CHARS


@pytest.mark.parametrize(
    ("documents", "length", "longest"),
    [
        (1, 40_000, 2_000),
        (1, 256_000, 2_000),
        (1, 320_000, 2_500),
        (4, 80_000, 2_500),
        (1, 600_000, 400_000 // 128),
        (47, 12_000, 400_000 // 128),
        (47, 900, 2_000),
    ],
)
def test_blocks_are_about_128_but_not_below_2000_characters(documents, length, longest):
    spans = [(n * length, (n + 1) * length) for n in range(documents)]
    assert pieces._block_length(spans, pieces.MAX_CHARS) == longest


def test_blocks_have_at_most_10000_characters():
    assert pieces._block_length([(0, 10_000_000)], 5_000_000) == 10_000


def test_a_text_of_eighty_thousand_characters_has_a_valid_null(tmp_path):
    """What ``MIN_CHARS`` promises: 20 blocks of the half that reports."""
    corpus = write_corpus(tmp_path / "one", ["abcd " * (pieces.MIN_CHARS // 5)])
    units = make_units([part for part in cut(corpus, COUNT) if not part.chooses])
    assert units.valid and len(units) == 20


def test_labels_are_those_of_the_whole_document(tmp_path):
    parts = cut(write_corpus(tmp_path / "one", [document(1, 35_000)]), COUNT)
    for part in parts:
        np.testing.assert_array_equal(part.labels[:, 0], part.begin + np.arange(len(part)))


def test_pieces_hold_the_text_of_their_places(tmp_path, texts):
    corpus = write_corpus(tmp_path / "some", [text + "é" for text in texts[:9]])
    for part in cut(corpus, COUNT):
        assert "".join(chr(corpus.universe[place]) for place in part.places) == part.text
        assert part.text == (texts[part.document] + "é")[part.begin : part.begin + len(part)]


def test_several_parts_are_read(tmp_path):
    text = document(1, 40_000)
    corpus = write_corpus(tmp_path / "one", [text])
    parts = cut_pieces(corpus, [(20_001, 30_001), (30_001, 40_001)], COUNT, PROFILE)
    assert "".join(part.text for part in parts) == text[20_000:]
    assert [part.document for part in parts] == [0] * 5 + [1] * 5


def test_much_text_is_thinned_evenly(tmp_path):
    corpus = write_corpus(tmp_path / "long", ["abcd " * 80_000])
    parts = cut(corpus, COUNT, max_chars=100_000)
    assert 98_000 <= sum(map(len, parts)) <= 100_000
    assert (parts[0].begin, parts[-1].begin + len(parts[-1])) == (0, 400_000)
    assert [part.chooses for part in parts] == ([True, False] * len(parts))[: len(parts)]
    begins = np.diff([part.begin for part in parts])
    assert begins.max() < 2 * begins.min()


def test_bytes_have_one_character_per_place(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_bytes(b"h\xc3\xa9\xff " * 6_000)
    corpus = open_corpus([Source("raw", path)], TextConfig(symbols="bytes"))
    part = cut(corpus, COUNT)[0]
    assert part.text.startswith("hÃ©ÿ hÃ©ÿ ")
    assert len(part.text) == len(part.places) == len(part.labels)


def test_half_of_a_very_short_document_is_scored(tmp_path, texts):
    corpus = write_corpus(tmp_path / "mixed", [*texts[:3], "short\n" * 5, *texts[3:9]])
    (short,) = [part for part in cut(corpus, COUNT) if "short" in part.text]
    assert (len(short), short.skip) == (30, 15)


@pytest.mark.parametrize("texts", [["abc"], ["abc " * 500]])
def test_fewer_than_two_pieces_are_an_error(tmp_path, texts):
    with pytest.raises(InspectionError, match="too short"):
        cut(write_corpus(tmp_path / "short", texts), COUNT)


def test_one_long_document_among_short_ones_leaves_both_halves_text(tmp_path):
    corpus = write_corpus(
        tmp_path / "uneven", [document(0, 60_000), *[document(n, 300) for n in range(1, 9)]]
    )
    parts = cut(corpus, COUNT)
    sizes = [sum(len(p) - p.skip for p in parts if p.chooses == chooses) for chooses in (True, False)]
    assert min(sizes) > 0.2 * sum(sizes)
