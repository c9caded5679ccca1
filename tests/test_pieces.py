"""Pieces of text: cut, labelled and dealt to two halves, with nothing of one in the other."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from planting import PROFILE, cut, document, write_corpus

from charrnn.config import TextConfig
from charrnn.errors import InspectionError
from charrnn.inspection import hypotheses, pieces
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


# -- long documents -----------------------------------------------------------------------------


def one_after_the_other(documents, length, max_chars):
    """Blocks as a loop over all documents finds them."""
    blocks = []
    for number, (start, stop) in enumerate(documents):
        edges = np.linspace(start, stop, -(-(stop - start) // length) + 1).astype(int).tolist()
        blocks += [(number, start, begin, end) for begin, end in pairwise(edges)]
    total = sum(end - begin for *_, begin, end in blocks)
    if total <= max_chars:
        return blocks
    keep = max(2, int(len(blocks) * max_chars / total))
    return [blocks[i] for i in np.unique(np.linspace(0, len(blocks) - 1, keep).astype(int))]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_chars", [1_000, 40_000, 10**9])
def test_chosen_blocks_are_those_of_a_loop(seed, max_chars):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, random.choice([20, 3_000, 50_000]), random.choice([1, 5, 200]))
    begins = np.cumsum([1, *(lengths[:-1] + 1)])
    spans = np.stack([begins, begins + lengths], axis=1)
    length = pieces._block_length(spans, max_chars)
    expected = one_after_the_other(spans.tolist(), length, max_chars)
    assert pieces._chosen_blocks(spans, max_chars) == expected


def paragraphs(seed, count):
    return "\n\n".join(document(seed + n, 700) for n in range(count))


SOON_FORGETFUL = [
    hypotheses.get(name)
    for name in ("column", "newline_run", "word_position", "words_in_line", "word_boundary_next", "is_vowel")
]


def test_labels_of_a_long_document_are_those_of_the_whole_where_nothing_older_matters(tmp_path, monkeypatch):
    first, second = paragraphs(1, 60), paragraphs(100, 90)
    corpus = write_corpus(tmp_path / "two", [first, second])
    numbers = np.arange(len(first) + len(second), dtype=np.float32)
    by_file = Hypothesis("mine", "count", frozenset({"prose"}), "for tests", True, one_column, numbers)
    asked = [*SOON_FORGETFUL, hypotheses.get("document_position"), by_file]
    whole = cut(corpus, asked, max_chars=20_000)
    monkeypatch.setattr(pieces, "LABELLED_WHOLE", 5_000)
    monkeypatch.setattr(pieces, "LOOK_BACK", 1_500)
    monkeypatch.setattr(pieces, "LOOK_AHEAD", 50)
    seen = []
    label_at = Hypothesis.label_at
    monkeypatch.setattr(
        Hypothesis,
        "label_at",
        lambda self, at, text, *rest: (seen.append(text), label_at(self, at, text, *rest))[1],
    )
    near = cut(corpus, asked, max_chars=20_000)
    assert max(map(len, seen)) < 4_000
    for one, other in zip(whole, near, strict=True):
        assert (one.text, one.skip, one.begin, one.document) == (
            other.text,
            other.skip,
            other.begin,
            other.document,
        )
        np.testing.assert_array_equal(one.places, other.places)
        np.testing.assert_allclose(one.labels, other.labels, rtol=1e-6)


def test_blocks_that_are_near_are_labelled_together_but_not_too_many(monkeypatch):
    monkeypatch.setattr(pieces, "LABELLED_WHOLE", 400)
    monkeypatch.setattr(pieces, "LOOK_BACK", 30)
    monkeypatch.setattr(pieces, "LOOK_AHEAD", 5)

    def groups(*begins, stop=1_000):
        blocks = [((0, 0, begin, begin + 10), True) for begin in begins]
        return [[block[2] for block, _ in group] for group in pieces._near((0, 0, stop, 0), blocks)]

    assert groups(0, 45, 91, 500) == [[0, 45], [91], [500]]
    assert groups(0, 30, 60, 90, 120) == [[0, 30, 60, 90], [120]]
    assert groups(0, 45, 91, 300, stop=400) == [[0, 45, 91, 300]]


@pytest.mark.parametrize("kept", [2_000, 100_000])
def test_what_is_labelled_of_a_long_document_begins_with_a_block_of_lines(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(pieces, "LABELLED_WHOLE", 8_000)
    monkeypatch.setattr(pieces, "LOOK_BACK", 3_000)
    monkeypatch.setattr(pieces, "LOOK_AHEAD", 100)
    begun = []
    hypothesis = Hypothesis(
        "begin",
        "count",
        frozenset({"prose"}),
        "",
        False,
        lambda text, profile: (begun.append(text), column(text))[1],
    )
    lines = 'def f():\n    """Say.\n\n    More.\n    """\n    return 1\n\n'
    cut(write_corpus(tmp_path / "one", [lines * 2_000]), [hypothesis], max_chars=kept)
    assert all(text.startswith("def f") for text in begun)
    assert len(begun) > 1 and max(map(len, begun)) < 16_000


def column(text):
    return np.ones(len(text), np.float32)


def test_many_short_documents_take_little_memory(tmp_path):
    """Each of 40,000 documents costs some numbers, not objects."""
    corpus = write_corpus(tmp_path / "lines", ["x"])
    places = np.tile(np.array([0, *[1] * 9], np.uint8), 40_000)
    corpus = replace(corpus, places=places)
    tracemalloc.start()
    cut(corpus, COUNT, max_chars=9_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000 * 100 + 2_000_000
