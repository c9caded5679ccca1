"""The encoded corpus: lossless, as small as can be, and never stale."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from charrnn.config import TextConfig
from charrnn.errors import ConfigError, TextError
from charrnn.text import corpus as corpus_module
from charrnn.text import reading
from charrnn.text.cache_dir import cache_dir, part_folder
from charrnn.text.corpus import load_corpus, open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.splits import count_characters, make_splits
from charrnn.text.streams import Streams
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

HARD = ["\0", "\r", "\n", "\r\n", "e\u0301", "\u200d", "\ufeff", "🏳", "\U0010ffff", "\ud7ff", "\ue000", "￿"]


def random_unicode(seed, length=400):
    rng = random.Random(seed)
    points = [*range(0xD800), *range(0xE000, 0x110000, 97)]
    return "a" + "".join(
        rng.choice(HARD) if rng.random() < 0.3 else chr(rng.choice(points)) for _ in range(length)
    )


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def opened(*paths, **settings):
    return open_corpus(find_sources([str(path) for path in paths]), TextConfig(**settings))


@pytest.fixture
def count_encodings(monkeypatch):
    """Count how often a text is really encoded, not taken from the cache."""
    calls = []
    encode = corpus_module._write
    monkeypatch.setattr(corpus_module, "_write", lambda *args: (calls.append(1), encode(*args))[1])
    return calls


# -- lossless -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_text_comes_back_exactly(tmp_path, seed, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", random.Random(seed).choice([1, 2, 3, 5, 64, 1 << 20]))
    text = random_unicode(seed)
    corpus = opened(write(tmp_path / "text", text))
    assert corpus.text(0, len(corpus.places)) == text
    assert corpus.info["characters"] == len(text)
    assert len(corpus.places) == len(text) + 1


@pytest.mark.parametrize("documents", ["files", "blank"])
def test_text_comes_back_exactly_from_documents(tmp_path, documents):
    text = "".join(random.Random(5).choices(["a", "b\n", "\n\n", "é", "\r\n"], k=3000))
    corpus = opened(write(tmp_path / "text", text), documents=documents)
    assert corpus.text(0, len(corpus.places)) == text


def test_any_stretch_of_text_comes_back(tmp_path):
    text = random_unicode(99)
    corpus = opened(write(tmp_path / "text", text))
    assert [corpus.text(n, n + 7) for n in (1, 50, 399)] == [text[n - 1 : n + 6] for n in (1, 50, 399)]
    assert corpus.text(5, 5) == ""


def test_bytes_are_lossless_for_every_value(tmp_path):
    data = bytes(range(256)) * 2 + "é🏳".encode() + b"\xef\xbb\xbf\r\n\r"
    corpus = opened(write(tmp_path / "text", data), symbols="bytes")
    text = corpus.text(0, len(corpus.places))
    assert text.encode("utf-8", "surrogateescape") == data
    assert corpus.kind == "bytes" and corpus.info["characters"] == len(data)


def test_mark_is_kept_with_bytes_and_dropped_with_characters(tmp_path):
    path = write(tmp_path / "text", b"\xef\xbb\xbfabc")
    assert opened(path).text(0, 9) == "abc"
    assert opened(path, symbols="bytes").text(0, 9) == "\ufeffabc"


@pytest.mark.parametrize(("symbols", "newlines", "expected"), [
    ("chars", "keep", "a\r\nb\rc"),
    ("chars", "lf", "a\nb\nc"),
    ("bytes", "keep", "a\r\nb\rc"),
    ("bytes", "lf", "a\nb\nc"),
])  # fmt: skip
def test_line_ends_are_as_asked(tmp_path, symbols, newlines, expected):
    corpus = opened(write(tmp_path / "text", b"a\r\nb\rc"), symbols=symbols, newlines=newlines)
    assert corpus.text(0, 99) == expected


# -- size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distinct", "dtype"),
    [(1, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32")],
)
def test_places_have_the_smallest_type(tmp_path, distinct, dtype):
    points = [p for p in range(distinct + 2048) if not 0xD800 <= p < 0xE000][:distinct]
    text = "".join(map(chr, points))
    corpus = opened(write(tmp_path / "text", text))
    assert corpus.places.dtype == dtype
    assert corpus.text(0, len(corpus.places)) == text


def test_all_256_bytes_need_two_bytes_each_with_the_boundary(tmp_path):
    corpus = opened(write(tmp_path / "text", bytes(range(256))), symbols="bytes")
    assert corpus.places.dtype == np.uint16


def one_by_one(text):
    """Places and symbols as a loop finds them, with one boundary before the text."""
    place = {}
    places = [0, *(place.setdefault(char, len(place) + 1) for char in text)]
    return places, [-1, *map(ord, place)]


@pytest.mark.parametrize("distinct", [255, 256, 300, 66_000])
def test_places_get_wider_while_they_are_written(tmp_path, monkeypatch, distinct):
    monkeypatch.setattr(corpus_module.batched, "__defaults__", (1000,))
    monkeypatch.setattr(reading, "PIECE_BYTES", 1500)
    points = [p for p in range(32, distinct + 2080) if not 0xD800 <= p < 0xE000][:distinct]
    text = "abc" * 2000 + "".join(map(chr, points)) + "cba" * 2000
    corpus = opened(write(tmp_path / "text", text))
    places, universe = one_by_one(text)
    assert corpus.places.tolist() == places and corpus.universe.tolist() == universe
    assert corpus.places.dtype == np.min_scalar_type(distinct)


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "settings", [{}, {"symbols": "bytes"}, {"documents": "lines"}, {"documents": "blank"}], ids=str
)
def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(corpus_module, "STRETCH", 1 << 16)
    monkeypatch.setattr(corpus_module.batched, "__defaults__", (1 << 16,))
    text = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20 + "\n\n"
    for repeats in (100, 12_000):
        write(tmp_path / f"text{repeats}", text * repeats)

    def use(repeats):
        corpus = opened(tmp_path / f"text{repeats}", **settings)
        splits = make_splits(corpus, 0.1, 0.1)
        vocabulary = corpus.training_vocabulary(*splits.train)
        assert count_characters(corpus, splits.train) > 0.7 * corpus.info["characters"]
        Streams(corpus.places, corpus.id_table(vocabulary), *splits.train, 8, 32).window(3)
        return corpus.info["documents"]

    small, large = peak_bytes(lambda: use(100)), peak_bytes(lambda: use(12_000))
    assert large < small + 2_000_000


# -- boundaries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ("files", ["a\n\nb\n", "c"]),
        ("lines", ["a\n", "b\n", "c"]),
        ("blank", ["a\n\n", "b\n", "c"]),
        ("[ac]", ["a", "c"]),
    ],
)
def test_boundary_stands_before_every_document(tmp_path, documents, expected):
    paths = [write(tmp_path / "1", "a\n\nb\n"), write(tmp_path / "2", "c")]
    corpus = opened(*paths, documents=documents)
    starts = np.flatnonzero(corpus.places == 0)
    assert [corpus.text(b, e) for b, e in corpus.documents(0, len(corpus.places))] == expected
    assert len(starts) == len(expected) == corpus.info["documents"]
    assert starts.tolist() == np.cumsum([0, *(len(d) + 1 for d in expected[:-1])]).tolist()
    assert corpus.universe[0] == -1


def test_boundary_is_no_character_of_the_text(tmp_path):
    corpus = opened(write(tmp_path / "text", "\0a\0"))
    assert corpus.places.tolist() == [0, 1, 2, 1] and corpus.universe.tolist() == [-1, 0, ord("a")]


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_size_of_batches_never_matters(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(corpus_module.batched, "__defaults__", (batch,))
    corpus = opened(write(tmp_path / "text", "ab\nc\n\nde\n"), documents="lines")
    assert [corpus.text(b, e) for b, e in corpus.documents(0, 99)] == ["ab\n", "c\n", "de\n"]


def test_document_spans_are_cut_at_the_ends_of_the_part(tmp_path):
    corpus = opened(write(tmp_path / "text", "abc\ndef\nghi\n"), documents="lines")
    # places: 0abc\n 0def\n 0ghi\n
    assert list(corpus.documents(2, 8)) == [(2, 5), (6, 8)]
    assert list(corpus.documents(5, 10)) == [(6, 10)]
    assert list(corpus.documents(7, 9)) == [(7, 9)]


@pytest.mark.parametrize("place", [0, 3, 15])
def test_part_without_text_has_no_documents(tmp_path, place):
    corpus = opened(write(tmp_path / "text", "abc\ndef\nghi\n"), documents="lines")
    assert list(corpus.documents(place, place)) == []


# -- vocabulary ---------------------------------------------------------------------------------


def test_vocabulary_is_that_of_the_training_part_alone(tmp_path):
    corpus = opened(write(tmp_path / "text", "ba" * 45 + "xé" * 5))
    splits = make_splits(corpus, 0.05, 0.05)
    vocabulary = corpus.training_vocabulary(*splits.train)
    assert vocabulary.symbols == (ord("a"), ord("b"))
    ids = corpus.id_table(vocabulary)[corpus.places]
    assert ids[0] == BOUNDARY and set(ids[1:91]) == {2, 3} and set(ids[91:]) == {ESCAPE}


def test_vocabulary_does_not_depend_on_the_order_of_appearance(tmp_path):
    parts = [opened(write(tmp_path / text, text)) for text in ("zébra", "arbéz")]
    first, second = (c.training_vocabulary(0, len(c.places)) for c in parts)
    assert first == second and list(first.symbols) == sorted(first.symbols)


@pytest.mark.parametrize("char", ["x", "é", "日", "🏳", "\0"])
def test_unseen_character_costs_eight_bits_per_utf8_byte_beyond_the_escape(tmp_path, char):
    corpus = opened(write(tmp_path / "text", "ab" + char))
    vocabulary = Vocabulary.of_chars(map(ord, "ab"))
    extra = corpus.extra_nats(vocabulary)[corpus.places]
    assert extra[:3].tolist() == [0, 0, 0]
    assert extra[3] == pytest.approx(8 * len(char.encode()) * math.log(2))


def test_bytes_know_every_byte(tmp_path):
    corpus = opened(write(tmp_path / "text", bytes(range(256))), symbols="bytes")
    vocabulary = corpus.training_vocabulary(0, 3)
    assert len(vocabulary) == 257 and not corpus.extra_nats(vocabulary).any()
    assert corpus.id_table(vocabulary)[corpus.places].tolist() == [0, *range(1, 257)]


@pytest.mark.parametrize(("symbols", "other"), [("chars", "bytes"), ("bytes", "chars")])
def test_vocabulary_of_the_other_kind_is_refused(tmp_path, symbols, other):
    corpus = opened(write(tmp_path / "text", "abc"), symbols=symbols)
    vocabulary = Vocabulary.of_bytes() if other == "bytes" else Vocabulary.of_chars([97])
    with pytest.raises(ConfigError, match=f"read as {symbols}, but the model reads {other}"):
        corpus.id_table(vocabulary)


@pytest.mark.parametrize("text", ["", "abc", "\0é日🏳", random_unicode(7)])
def test_encode_and_write_are_inverse(text):
    vocabulary = Vocabulary.of_chars(set(map(ord, text)) | {97})
    ids = vocabulary.encode(text)
    assert b"".join(vocabulary.symbol_bytes(i) for i in ids).decode() == text
    assert vocabulary.unknown(text) == []


def test_special_ids_write_nothing():
    assert Vocabulary.of_chars([97]).symbol_bytes(BOUNDARY) == b""
    assert Vocabulary.of_chars([97]).symbol_bytes(ESCAPE) == b""
    assert Vocabulary.of_bytes().symbol_bytes(BOUNDARY) == b""
    assert Vocabulary.of_bytes().symbol_bytes(1) == b"\0"


def test_unknown_characters_are_named_once_in_order():
    assert Vocabulary.of_chars([97]).unknown("zaéza") == ["z", "é"]
    assert Vocabulary.of_bytes().unknown("zé") == []


# -- cache --------------------------------------------------------------------------------------


def test_second_opening_is_served_from_the_cache(tmp_path, count_encodings):
    path = write(tmp_path / "text", "once")
    assert opened(path).info == opened(path).info
    assert len(count_encodings) == 1


def test_changed_file_is_never_served_stale(tmp_path):
    path = write(tmp_path / "text", "before")
    first = opened(path)
    stat = path.stat()
    write(path, "behind")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time, other content
    assert opened(path).text(0, 99) == "behind"
    assert first.text(0, 99) == "before"


def test_same_content_under_another_name_is_not_encoded_again(tmp_path, count_encodings):
    first = opened(write(tmp_path / "one", "same"))
    second = opened(write(tmp_path / "dir/other.md", "same"))
    assert first.info["key"] == second.info["key"] and len(count_encodings) == 1


def test_compressed_content_has_the_key_of_the_plain_one(tmp_path):
    plain = opened(write(tmp_path / "plain", "same text"))
    packed = opened(write(tmp_path / "packed", gzip.compress(b"same text")))
    assert plain.info["key"] == packed.info["key"]


@pytest.mark.parametrize(
    "settings",
    [
        {"encoding": "latin-1"},
        {"newlines": "lf"},
        {"documents": "lines"},
        {"documents": "a"},
        {"symbols": "bytes"},
    ],
    ids=str,
)
def test_every_setting_that_shapes_the_encoding_changes_the_key(tmp_path, settings):
    path = write(tmp_path / "text", "a\r\nb")
    assert opened(path).info["key"] != opened(path, **settings).info["key"]


@pytest.mark.parametrize(
    "settings", [{"encoding": "UTF8"}, {"val_fraction": 0.3}, {"test_fraction": 0}], ids=str
)
def test_what_does_not_shape_the_encoding_keeps_the_key(tmp_path, settings):
    path = write(tmp_path / "text", "a\r\nb")
    assert opened(path).info["key"] == opened(path, **settings).info["key"]


def test_texts_cut_differently_into_files_do_not_collide(tmp_path):
    one = write(tmp_path / "one", "ab")
    two = [write(tmp_path / "a", "a"), write(tmp_path / "b", "b")]
    whole, parts, turned = opened(one), opened(*two), opened(*two[::-1])
    assert len({c.info["key"] for c in (whole, parts, turned)}) == 3
    assert [c.text(0, 9) for c in (whole, parts, turned)] == ["ab", "ab", "ba"]


def test_file_that_spells_the_hashes_of_two_others_does_not_collide(tmp_path):
    two = opened(write(tmp_path / "a", "a"), write(tmp_path / "b", "b"))
    hashes = "".join(source["sha256"] for source in two.info["sources"])
    assert opened(write(tmp_path / "hashes", hashes)).text(0, 999) == hashes


def test_two_corpora_live_side_by_side(tmp_path):
    paths = [write(tmp_path / name, name * 9) for name in ("alpha", "beta")]
    first, second = opened(paths[0]), opened(paths[1])
    assert (opened(paths[0]).text(0, 5), opened(paths[1]).text(0, 4)) == ("alph", "bet")
    assert first.text(0, 46) == "alpha" * 9 and second.text(0, 37) == "beta" * 9


DAMAGE = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "head only": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(500)),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["places.npy", "universe.npy", "info.json"])
def test_damaged_cache_is_made_again(tmp_path, name, how):
    path = write(tmp_path / "text", "some words and more\n" * 20)
    key = opened(path).info["key"]
    DAMAGE[how](cache_dir() / "encoded" / key / name)
    assert opened(path).text(0, 10_000) == "some words and more\n" * 20
    assert load_corpus(key).text(0, 10_000) == "some words and more\n" * 20


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"kind": "chars"}', '"word"'])
def test_cache_whose_record_says_nothing_is_made_again(tmp_path, content):
    path = write(tmp_path / "text", "some words")
    key = opened(path).info["key"]
    (cache_dir() / "encoded" / key / "info.json").write_text(content)
    corpus = opened(path)
    assert corpus.kind == "chars" and corpus.info["characters"] == 10


def test_cache_of_another_format_is_not_read(tmp_path, monkeypatch):
    path = write(tmp_path / "text", "some words")
    key = opened(path).info["key"]
    monkeypatch.setattr(corpus_module, "FORMAT", 99)
    assert opened(path).info["key"] != key


def test_cache_that_vanishes_is_made_again(tmp_path):
    path = write(tmp_path / "text", "some words")
    opened(path)
    shutil.rmtree(cache_dir())
    assert opened(path).text(0, 99) == "some words"


def test_nothing_but_finished_entries_stays_in_the_cache(tmp_path):
    good, bad = write(tmp_path / "good", "text"), write(tmp_path / "bad", b"\xff")
    key = opened(good).info["key"]
    with pytest.raises(TextError):
        opened(bad)
    assert [p.name for p in (cache_dir() / "encoded").iterdir()] == [key]
    assert sorted(p.name for p in (cache_dir() / "encoded" / key).iterdir()) == [
        "info.json",
        "places.npy",
        "universe.npy",
    ]


def test_record_names_every_source_with_size_and_hash(tmp_path):
    corpus = opened(write(tmp_path / "a.txt", "one"), write(tmp_path / "b.txt", "three"))
    assert [(s["name"], s["bytes"], len(s["sha256"])) for s in corpus.info["sources"]] == [
        ("a.txt", 3, 64),
        ("b.txt", 5, 64),
    ]
    json.dumps(corpus.info)


def test_what_a_killed_process_left_is_removed(tmp_path):
    script = (
        "import sys; from charrnn.config import TextConfig; from charrnn.text.corpus import open_corpus\n"
        "from charrnn.text.reading import find_sources; open_corpus(find_sources(['-']), TextConfig())"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        process.stdin.write(b"some words " * 300_000)
        process.stdin.flush()
        while not (parts := list((cache_dir() / "encoded").glob("part-*/places.npy"))):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
    assert parts[0].exists()
    key = opened(write(tmp_path / "text", "next")).info["key"]
    assert [path.name for path in (cache_dir() / "encoded").iterdir()] == [key]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    with part_folder(cache_dir() / "encoded") as part:
        opened(write(tmp_path / "text", "words"))
        assert part.is_dir()
    assert not part.exists()


def test_an_entry_that_another_process_made_meanwhile_is_kept(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("some words", encoding="utf-8")
    sources, load = find_sources([str(tmp_path / "text")]), corpus_module.load_corpus
    first = open_corpus(sources, TextConfig())
    entry = cache_dir() / "encoded" / first.info["key"]
    before = (entry / "places.npy").stat().st_ino
    found = [None]  # as a process sees it that begins at the same time
    monkeypatch.setattr(corpus_module, "load_corpus", lambda key: found.pop() if found else load(key))
    assert open_corpus(sources, TextConfig()).text(0, 11) == "some words"
    assert (entry / "places.npy").stat().st_ino == before
    (entry / "info.json").write_text("{}", encoding="utf-8")
    assert open_corpus(sources, TextConfig()).text(0, 11) == "some words"
    assert not list(entry.parent.glob("part-*"))


def test_an_entry_that_cannot_be_read_back_is_a_text_error(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("some words", encoding="utf-8")
    monkeypatch.setattr(corpus_module, "load_corpus", lambda key: None)
    with pytest.raises(TextError, match="cannot be read back"):
        open_corpus(find_sources([str(tmp_path / "text")]), TextConfig())


def test_a_record_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("some words", encoding="utf-8")
    monkeypatch.setattr(corpus_module, "MAX_INFO_BYTES", 400)
    sources = find_sources([str(tmp_path / "text")])
    with pytest.raises(TextError, match="too many files: 3"):
        open_corpus(sources * 3, TextConfig())
    assert open_corpus(sources, TextConfig()).info["characters"] == 10


def test_file_that_changes_after_it_was_hashed_is_an_error(tmp_path, monkeypatch):
    path = write(tmp_path / "text", "before")
    load = corpus_module.load_corpus
    monkeypatch.setattr(corpus_module, "load_corpus", lambda key: (load(key), write(path, "behind"))[0])
    with pytest.raises(TextError, match="changed while it was read"):
        opened(path)
    assert list((cache_dir() / "encoded").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write, args=(tmp_path / "pipe", "through a pipe"))
    writer.start()
    corpus = opened(tmp_path / "pipe")
    writer.join()
    assert corpus.text(0, 99) == "through a pipe"


@pytest.mark.parametrize("key", ["", "nosuch", "../encoded", "x" * 300])
def test_unknown_key_is_no_corpus(key):
    assert load_corpus(key) is None


def test_cache_folder_that_cannot_be_made_is_a_text_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(write(tmp_path / "a file", "x") / "below"))
    with pytest.raises(TextError, match="cannot write the encoded text") as caught:
        opened(write(tmp_path / "text", "abc"))
    assert "CHARRNN_CACHE" in caught.value.hint


# -- many files ---------------------------------------------------------------------------------


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files cannot be counted here")
def test_many_files_are_closed_again(tmp_path):
    for number in range(300):
        write(tmp_path / f"{number % 10}" / f"{number:03}", f"text {number}\n")
    before = open_files()
    corpus = opened(tmp_path)
    assert open_files() <= before + 1  # the encoded text
    assert corpus.info["documents"] == 300 and corpus.text(0, 9) == "text 0\n"
    write(tmp_path / "5" / "bad", b"\xff")
    with pytest.raises(TextError, match="`5/bad` is not utf-8"):
        opened(tmp_path)
    assert open_files() <= before + 1


def test_reading_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 100)
    texts = {"a": b"words " * 100, "b": gzip.compress(b"more " * 200), "empty": b""}
    sources = find_sources([str(write(tmp_path / name, data)) for name, data in texts.items()])
    shares = []
    open_corpus(sources, TextConfig(), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 20
    assert 0 < shares[0] < 0.1 and 0.25 in shares
    again = []
    open_corpus(sources, TextConfig(), progress=again.append)
    assert again == shares[: len(again)] and again[-1] == 0.25


# -- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_file_without_text_is_an_error(tmp_path, data):
    with pytest.raises(TextError, match="there is no text in `text`"):
        opened(write(tmp_path / "text", data))


def test_lines_of_nothing_are_an_error(tmp_path):
    with pytest.raises(TextError, match="there is no text"):
        opened(write(tmp_path / "text", "\n\r\n\n"), documents="lines")


def test_empty_file_among_others_does_no_harm(tmp_path):
    corpus = opened(write(tmp_path / "a", ""), write(tmp_path / "b", "text"))
    assert corpus.text(0, 9) == "text" and corpus.info["documents"] == 1


def test_encoding_with_bytes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--encoding"):
        opened(write(tmp_path / "text", "abc"), symbols="bytes", encoding="cp1252")


def test_undecodable_file_names_the_file(tmp_path):
    with pytest.raises(TextError, match=r"`bad\.txt` is not utf-8"):
        opened(write(tmp_path / "good.txt", "good"), write(tmp_path / "bad.txt", b"\xff"))
