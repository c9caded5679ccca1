"""Where one document ends and the next begins: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import re
import tracemalloc

import numpy as np
import pytest

from charrnn.errors import ConfigError, TextError
from charrnn.text import documents as module
from charrnn.text.documents import document_splitter
from charrnn.text.vocabulary import text_of

ALPHABET = ["a", "b", " ", "\t", "\n", "\n", "\n\n", "\r\n", "\r", "é", "日", "🏳", "\0", "\x0c", "\u2028"]
SEEDS = range(40)


def random_text(seed):
    rng = random.Random(seed)
    return "".join(rng.choices(ALPHABET, k=rng.randrange(1, 60)))


def random_pieces(text, seed):
    rng = random.Random(seed)
    pieces, place = [], 0
    while place < len(text):
        size = rng.randrange(0, 5)  # empty pieces too
        pieces.append(text[place : place + size])
        place += size
    return pieces


def documents(mode, pieces):
    """The documents that come out, joined where the splitter hands them on in several pieces."""
    found = []
    for starts, symbols in document_splitter(mode)(pieces):
        head, *begun = np.split(symbols, starts)
        if len(head):
            found[-1] += text_of(head, "chars")
        found += [text_of(part, "chars") for part in begun]
    return found


@pytest.mark.parametrize("mode", ["files", "blank"])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_doubled(mode, seed):
    text = random_text(seed)
    assert "".join(documents(mode, random_pieces(text, seed))) == text


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_lose_nothing_but_empty_lines(seed):
    text = random_text(seed)
    kept = [part + "\n" for part in text.split("\n")[:-1]] + [text.split("\n")[-1]]
    assert documents("lines", random_pieces(text, seed)) == [p for p in kept if p.strip("\r\n")]


@pytest.mark.parametrize("mode", ["files", "lines", "blank", "[ab]+"])
@pytest.mark.parametrize("seed", SEEDS)
def test_size_of_pieces_never_matters(mode, seed):
    text = "a" + random_text(seed)
    whole = documents(mode, [text])
    assert documents(mode, random_pieces(text, seed + 1)) == whole
    assert documents(mode, list(text)) == whole


@pytest.mark.parametrize("mode", ["files", "lines", "blank", "."])
@pytest.mark.parametrize("seed", SEEDS[:10])
def test_no_piece_is_empty_and_the_first_begins_a_document(mode, seed):
    found = list(document_splitter(mode)(["", "a", random_text(seed)]))
    assert found[0][0][0] == 0 and all(len(symbols) for _, symbols in found)


@pytest.mark.parametrize("mode", ["files", "lines", "blank"])
@pytest.mark.parametrize("pieces", [[], [""], ["", ""]])
def test_empty_text_has_no_document(mode, pieces):
    assert documents(mode, pieces) == []


def test_file_is_one_document_whatever_is_in_it():
    assert documents("files", ["a\n\n", "b\n", "\n\nc"]) == ["a\n\nb\n\n\nc"]


def test_lines_keep_their_ends_and_the_last_may_have_none():
    assert documents("lines", ["one\ntwo\r\n\n\r\nthree"]) == ["one\n", "two\r\n", "three"]


def test_lines_of_blanks_are_lines():
    assert documents("lines", ["  \na\n\t\n"]) == ["  \n", "a\n", "\t\n"]


@pytest.mark.parametrize("text", ["\n\n\n", "\r\n\r\n", "\n"])
def test_lines_of_empty_lines_alone_are_no_documents(text):
    assert documents("lines", [text]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n\nc\n", ["a\nb\n\n", "c\n"]),
        ("\n\na\n\nb", ["\n\na\n\n", "b"]),
        ("a\n\n\n \t\nb\n\n", ["a\n\n\n \t\n", "b\n\n"]),
        ("a\r\n\r\nb\r\n", ["a\r\n\r\n", "b\r\n"]),
        ("a\n\nb\r\n\r\nc", ["a\n\n", "b\r\n\r\n", "c"]),
        ("\n \n", ["\n \n"]),
        ("no end", ["no end"]),
    ],
)
def test_blank_lines_belong_to_the_block_before_them(text, expected):
    assert documents("blank", [text]) == expected
    assert documents("blank", list(text)) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"<.*?>", "x<a>y<bc>", ["<a>", "<bc>"]),
        (r"^#.*$", "#one\ntwo\n#three", ["#one", "#three"]),
        (r"(?s)BEGIN.*?END", "BEGIN\r\n1 END\nBEGIN 2\nEND", ["BEGIN\r\n1 END", "BEGIN 2\nEND"]),
        (r"[^\r\n]+(?:\r?\n|$)", "a\r\nb\n\r\nc", ["a\r\n", "b\n", "c"]),
        (r"a*", "baab", ["aa"]),
    ],
)
def test_every_match_of_a_pattern_is_a_document(pattern, text, expected):
    assert documents(pattern, [text]) == expected
    assert documents(pattern, list(text)) == expected


PATTERNS = [
    r"<.*?>",
    r"^#.*$",
    r"(?s)BEGIN.*?END",
    r"(?s)BEGIN.*?(?=^BEGIN|\Z)",
    r"[^\r\n]+(?:\r?\n|$)",
    r"(?<=a)b+",
    r"\bEND\b",
    r"a*",
    r"(?s).+",
    r"\A.",
    r"(?m)^.*\n(?=<)",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", SEEDS[:12])
def test_a_pattern_finds_in_stretches_what_it_finds_in_the_whole(monkeypatch, pattern, seed):
    """No match that does not end at the end is longer than 80 characters, nor looks further ahead or back."""
    monkeypatch.setattr(module, "STRETCH", 160)
    monkeypatch.setattr(module, "AHEAD", 80)
    monkeypatch.setattr(module, "BEHIND", 40)
    rng = random.Random(seed)
    words = ["BEGIN 1\r\n", " END ", "<a>", "#b\n", "ab", "\n", "x y "]
    rows = ("".join(rng.choices(words, k=5)) + "<z>END #c\n" for _ in range(120))
    text = "<BEGIN " + "".join(rows)
    expected = [m.group() for m in re.compile(pattern, re.MULTILINE).finditer(text) if m.group()]
    assert documents(pattern, random_pieces(text, seed)) == expected
    assert len(text) > 4 * 160


def test_a_pattern_is_told_that_its_match_is_too_long(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 10)
    monkeypatch.setattr(module, "AHEAD", 5)
    monkeypatch.setattr(module, "LONGEST_MATCH", 99)
    assert documents("(?s).+", ["a" * 9] * 5) == ["a" * 45]
    with pytest.raises(TextError, match="more than 99 characters"):
        documents("(?s).+", ["a" * 9] * 50)


def test_memory_of_a_pattern_does_not_grow_with_the_text(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 1 << 16)
    monkeypatch.setattr(module, "AHEAD", 1 << 14)
    monkeypatch.setattr(module, "BEHIND", 1 << 10)

    def peak(lines):
        tracemalloc.start()
        try:
            for _ in document_splitter("^a.*$")("a line of text\n" * 100 for _ in range(lines // 100)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(200_000) < peak(20_000) + 100_000


@pytest.mark.parametrize("mode", ["lines", "blank"])
@pytest.mark.parametrize("seed", SEEDS)
def test_long_lines_in_parts_are_the_same_documents(monkeypatch, mode, seed):
    text = "a" + random_text(seed) + "\n" + "word é " * (seed % 7) + "\n\n" + random_text(seed + 1)
    monkeypatch.setattr(module, "LONG_LINE", 3)
    whole = documents(mode, [text])
    assert documents(mode, random_pieces(text, seed)) == whole
    assert documents(mode, list(text)) == whole


@pytest.mark.parametrize("mode", ["lines", "blank"])
@pytest.mark.parametrize("blank", [" ", "\r", "\u2028"])
def test_a_blank_line_without_end_is_not_held(monkeypatch, mode, blank):
    monkeypatch.setattr(module, "LONG_LINE", 1000)
    pieces = list(document_splitter(mode)(["a\n", *[blank * 300] * 100, "\nb\n"]))
    assert max(len(symbols) for _, symbols in pieces) < 1500
    assert sum(len(symbols) for _, symbols in pieces) == 30_005
    monkeypatch.setattr(module, "LONG_LINE", 30_000)
    short = documents(mode, ["a\n", blank * 30_000, "\nb\n"])
    monkeypatch.setattr(module, "LONG_LINE", 29_999)
    long = documents(mode, ["a\n", blank * 30_000, "\nb\n"])
    assert long == documents(mode, ["a\n", *[blank * 300] * 100, "\nb\n"])
    assert (short == long) == (mode == "lines" and blank != "\r")


def test_a_line_without_end_is_handed_on_in_parts(monkeypatch):
    monkeypatch.setattr(module, "LONG_LINE", 1000)
    for mode in ("lines", "blank"):
        pieces = list(document_splitter(mode)(["some words " * 20] * 100))
        assert max(len(symbols) for _, symbols in pieces) < 1500
        assert [starts.tolist() for starts, _ in pieces] == [[0]] + [[]] * (len(pieces) - 1)


@pytest.mark.parametrize("pattern", ["nosuch", "x*", "", "(?!)"])
def test_pattern_without_a_match_is_an_error(pattern):
    with pytest.raises(TextError, match="no document matches") as caught:
        documents(pattern, ["some words\n"])
    assert f"`{pattern}`" in caught.value.message
    assert "--documents" in caught.value.hint


@pytest.mark.parametrize("pattern", ["(", "[a", "a{99999999999999999999}", "(?P<x", "*", "(?<=a*)b"])
def test_broken_pattern_is_a_config_error_at_once(pattern):
    with pytest.raises(ConfigError, match="no valid regular expression") as caught:
        document_splitter(pattern)
    assert "files, lines or blank" in caught.value.hint
