"""Files, folders, globs, stdin and compressed files become bytes; bytes become text."""

from __future__ import annotations

import bz2
import errno
import gzip
import importlib
import io
import lzma
import os
import random
import re
import socket
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from charrnn.errors import ConfigError, TextError
from charrnn.text import reading
from charrnn.text.reading import Source, check_encoding, decode, find_sources, read_bytes

BOM = b"\xef\xbb\xbf"
TEXT = "naïve café\r\nlone\rreturn\n日本 🏳\ud7ff\n"
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
PIECE_SIZES = (1, 2, 3, 1 << 20)


def names(*texts):
    return [source.name for source in find_sources([str(text) for text in texts])]


def content(path):
    return b"".join(read_bytes(Source(path.name, path)))


def decoded(path, encoding="utf-8", newlines="keep"):
    with closing(read_bytes(Source(path.name, path))) as pieces:
        return "".join(decode(pieces, encoding, newlines, path.name))


def folder_of(tmp_path, files):
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


@pytest.fixture(params=PIECE_SIZES, ids=lambda size: f"pieces-of-{size}")
def piece_size(request, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", request.param)
    return request.param


# -- finding ------------------------------------------------------------------------------------


def test_folder_is_read_in_path_order_with_its_subfolders(tmp_path):
    files = dict.fromkeys(["b.txt", "a/z.txt", "a/b/c.py", "c", "a.txt"], b"text")
    assert names(folder_of(tmp_path, files)) == ["a/b/c.py", "a/z.txt", "a.txt", "b.txt", "c"]


def test_folder_leaves_out_hidden_binary_and_empty_files(tmp_path):
    files = {"keep.txt": b"text", ".hidden": b"text", ".git/config": b"text", "a/.b/c": b"text"}
    files |= {"picture.png": b"\x89PNG\0\0", "empty": b""}
    assert names(folder_of(tmp_path, files)) == ["keep.txt"]


def test_folder_whose_own_path_is_hidden_is_read(tmp_path):
    assert names(folder_of(tmp_path / ".notes", {"a.txt": b"text"})) == ["a.txt"]


def test_folder_takes_compressed_files_although_they_are_binary(tmp_path):
    data = {f"text.{kind}": pack(b"words " * 50) for kind, pack in PACK.items()}
    assert names(folder_of(tmp_path, data)) == sorted(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be", "utf-32-be"])
def test_folder_takes_wide_text_that_is_marked_and_reads_it(tmp_path, encoding, piece_size):
    words = "\ufeff" * encoding.endswith("be") + "naïve 日本 🏳\n" * 40
    folder = folder_of(tmp_path, {"wide.txt": words.encode(encoding), "plain.txt": "é".encode()})
    assert names(folder) == ["plain.txt", "wide.txt"]
    assert decoded(folder / "wide.txt") == words.lstrip("\ufeff")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe" + b"\0" * 6, b"\xff\xfe\0\xd8a\0\0\0", b"\xfe\xff\0\0", b"a\0b\0"]
)
def test_folder_leaves_out_what_only_begins_like_wide_text(tmp_path, data):
    assert names(folder_of(tmp_path, {"binary": data, "keep": b"text"})) == ["keep"]


def test_end_of_marked_wide_text_is_checked(tmp_path, piece_size):
    folder = folder_of(tmp_path, {"wide": "abc".encode("utf-16")[:-1]})
    with pytest.raises(TextError, match="`wide` is not utf-16"):
        decoded(folder / "wide")


def test_file_that_grows_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 4)
    path = folder_of(tmp_path, {"log": b"one two three"}) / "log"
    pieces = read_bytes(Source("log", path))
    assert next(pieces) == b"one "
    with path.open("ab") as file:
        file.write(b" four")
    with pytest.raises(TextError, match="`log` changed while it was read"):
        list(pieces)


def test_links_that_lead_back_are_not_followed(tmp_path):
    folder_of(tmp_path, {"a/text": b"words", "b": b"more"})
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "same").symlink_to(tmp_path / "b")
    assert names(tmp_path) == ["a/text", "b", "same"]
    with pytest.raises(TextError, match="no file, folder, glob"):
        find_sources([str(tmp_path / "round")])


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_cannot_be_read_below_a_folder_is_an_error(tmp_path, monkeypatch, kind):
    """As somebody else's files are; root, who may run the tests, could read those."""
    folder_of(tmp_path, {"a/text": b"words", "closed/text": b"more"})
    refused = {"folder": "closed", "file": "closed/text"}[kind]

    def refusing(call):
        def checked(path, *rest, **more):
            if str(path) == str(tmp_path / refused):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *rest, **more)

        return checked

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(io, "open", refusing(io.open))
    with pytest.raises(TextError, match=r"cannot read `.*closed.*`: Permission denied"):
        find_sources([str(tmp_path)])


@pytest.mark.parametrize("name", ["zero", "null", "urandom", "tty"])
def test_devices_are_no_texts(name):
    if not Path("/dev", name).exists():
        pytest.skip(f"there is no /dev/{name}")
    with pytest.raises(TextError, match=f"`{name}` is a device"):
        content(Path("/dev", name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_that_nobody_writes_to_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    before = threading.active_count()
    with pytest.raises(TextError, match="nobody writes to the pipe `pipe`"):
        content(tmp_path / "pipe")
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before  # what waited for a writer is gone


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets in folders here")
def test_a_socket_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket")
        with pytest.raises(TextError, match="cannot read `socket`"):
            content(Path("socket"))
        folder_of(tmp_path, {"text": b"words"})
        assert names(tmp_path) == ["text"]


@pytest.mark.parametrize("files", [{}, {".hidden": b"text"}, {"image": b"\0\1\2"}, {"sub/empty": b""}])
def test_folder_without_text_is_an_error_that_says_what_was_skipped(tmp_path, files):
    with pytest.raises(TextError, match="has no text in it") as caught:
        find_sources([str(folder_of(tmp_path, files))])
    assert "hidden and binary" in caught.value.hint


def test_glob_is_sorted_and_recursive(tmp_path):
    root = folder_of(tmp_path, dict.fromkeys(["b.txt", "a.txt", "sub/c.txt", "a.py"], b"text"))
    assert names(root / "*.txt") == [str(root / "a.txt"), str(root / "b.txt")]
    assert names(root / "**" / "c.txt") == [str(root / "sub/c.txt")]


def test_glob_that_matches_only_folders_is_an_error(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(TextError):
        find_sources([str(tmp_path / "s*")])


def test_file_whose_name_looks_like_a_glob_is_itself(tmp_path):
    folder_of(tmp_path, {"a[1].txt": b"brackets", "a1.txt": b"other"})
    [source] = find_sources([str(tmp_path / "a[1].txt")])
    assert content(source.path) == b"brackets"


def test_several_texts_keep_the_order_given(tmp_path):
    root = folder_of(tmp_path, {"z.txt": b"z", "a.txt": b"a", "d/m.txt": b"m"})
    assert names(root / "z.txt", root / "d", root / "a.txt") == ["z.txt", "m.txt", "a.txt"]


def test_file_in_the_working_directory_hides_a_corpus_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(folder_of(tmp_path, {"ferry": b"mine"}))
    [source] = find_sources(["ferry"])
    assert source.path.read_bytes() == b"mine"


def test_corpus_name_is_found_when_no_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names("ferry") == ["ferry.txt"]


@pytest.mark.parametrize("text", ["missing.txt", "no*such", "nosuch/dir/file", "["])
def test_missing_text_is_an_error_that_points_to_the_corpora(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextError, match="is no file, folder, glob or corpus name") as caught:
        find_sources([text])
    assert f"`{text}`" in caught.value.message
    assert "charrnn corpora list" in caught.value.hint


@pytest.mark.parametrize("length", [300, 5000])
def test_overlong_name_is_an_error_like_any_missing_text(length):
    with pytest.raises(TextError):
        find_sources(["a" * length])


# -- standard input -----------------------------------------------------------------------------


def test_stdin_is_read_to_its_end(tmp_path, monkeypatch, piece_size):
    path = tmp_path / "piped"
    path.write_bytes(b"from the pipe\r\n" * 7)
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        [source] = find_sources(["-"])
        assert source == Source("stdin", None)
        assert b"".join(read_bytes(source)) == path.read_bytes()


def test_stdin_is_decompressed_like_a_file(tmp_path, monkeypatch):
    path = tmp_path / "piped"
    path.write_bytes(gzip.compress(b"words " * 1000))
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert b"".join(read_bytes(Source("stdin", None))) == b"words " * 1000


def test_stdin_can_be_named_once_only():
    with pytest.raises(TextError, match="twice"):
        find_sources(["-", "-"])


def test_stdin_that_is_closed_is_a_text_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(TextError, match="stdin"):
        list(read_bytes(Source("stdin", None)))


# -- compression --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text.txt", "noext", "wrong.bz2", "wrong.gz", "wrong.zst"])
@pytest.mark.parametrize("kind", PACK)
def test_compression_is_recognised_by_content_not_by_name(tmp_path, kind, name, piece_size):
    data = TEXT.encode() * 5
    path = tmp_path / name
    path.write_bytes(PACK[kind](data))
    assert content(path) == data


def test_plain_file_with_a_compressed_name_is_read_as_it_is(tmp_path):
    path = tmp_path / "plain.gz"
    path.write_bytes(b"no gzip at all")
    assert content(path) == b"no gzip at all"


def test_several_compressed_members_are_one_text(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(b"first ") + gzip.compress(b"second"))
    assert content(path) == b"first second"


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", PACK)
def test_truncated_compressed_file_is_a_text_error(tmp_path, kind, keep):
    data = PACK[kind](random.Random(0).randbytes(4000))
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(TextError, match=f"cannot read `cut.{kind}`: ."):
        content(path)


@pytest.mark.parametrize("kind", PACK)
def test_damaged_compressed_file_is_a_text_error(tmp_path, kind):
    data = bytearray(PACK[kind](random.Random(0).randbytes(4000)))
    for place in range(40, len(data) - 1, 100):
        data[place] ^= 0x55
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(data)
    with pytest.raises(TextError, match=r"cannot read `bad\."):
        content(path)


def test_zstandard_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    path = tmp_path / "text.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd rest")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TextError) as caught:
        content(path)
    assert "pip install" in caught.value.hint


def test_zstandard_is_read_where_a_package_is_there(tmp_path):
    packer = pytest.importorskip("zstandard")
    path = tmp_path / "text"
    path.write_bytes(packer.ZstdCompressor().compress(b"words " * 100))
    assert content(path) == b"words " * 100


@pytest.fixture
def frames(piece_size):
    """Two frames of zstandard, with a checksum, and what is in them."""
    packer = pytest.importorskip("zstandard")
    texts = [random.Random(seed).randbytes(1500) + b"words " * 500 for seed in (1, 2)]
    pack = packer.ZstdCompressor(write_checksum=True, write_content_size=False).compressobj
    packed = [(one := pack()).compress(text) + one.flush() for text in texts]
    return packed, texts


def test_frames_of_zstandard_follow_each_other(tmp_path, frames):
    packed, texts = frames
    path = tmp_path / "text"
    path.write_bytes(b"".join(packed))
    assert content(path) == b"".join(texts)


def test_zstandard_that_is_cut_anywhere_is_an_error(tmp_path, frames):
    (first, second), (text, _) = frames
    path = tmp_path / "text"
    for end in (*range(5, len(first), 97), len(first) - 1, len(first) + 1, len(first) + len(second) - 1):
        path.write_bytes((first + second)[:end])
        with pytest.raises(TextError, match="cannot read `text`"):
            content(path)
    path.write_bytes(first)
    assert content(path) == text


def test_damaged_zstandard_is_an_error(tmp_path, frames):
    data = bytearray(b"".join(frames[0]))
    path = tmp_path / "text"
    for place in (4, 5, 20, 700, len(data) - 2):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with pytest.raises(TextError, match="cannot read `text`"):
            content(path)


def test_folder_that_cannot_be_opened_as_a_file_is_a_text_error(tmp_path):
    with pytest.raises(TextError, match="cannot read"):
        content(tmp_path)


# -- decoding -----------------------------------------------------------------------------------


def test_decoding_does_not_depend_on_the_size_of_pieces(tmp_path, piece_size):
    path = tmp_path / "text"
    path.write_bytes(TEXT.encode())
    assert decoded(path) == TEXT


def test_mark_at_the_beginning_is_dropped_and_only_there(tmp_path, piece_size):
    path = tmp_path / "text"
    path.write_bytes(BOM + b"a" + BOM + b"b")
    assert decoded(path) == "a\ufeffb"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_mark_of_other_encodings_is_dropped(tmp_path, encoding, piece_size):
    path = tmp_path / "text"
    path.write_bytes(TEXT.encode(encoding))
    assert decoded(path, encoding) == TEXT


def test_mark_is_kept_where_bytes_are_wanted_as_they_are(tmp_path, piece_size):
    path = tmp_path / "text"
    path.write_bytes(BOM + b"a")
    assert decoded(path, "latin-1") == "\xef\xbb\xbfa"


def test_line_ends_are_kept_unless_folded(tmp_path, piece_size):
    path = tmp_path / "text"
    path.write_bytes(b"a\r\nb\rc\n\r\n\r")
    assert decoded(path) == "a\r\nb\rc\n\r\n\r"
    assert decoded(path, newlines="lf") == "a\nb\nc\n\n\n"


@pytest.mark.parametrize("encoding", ["cp1252", "koi8-r", "latin-1", "utf-16", "gb18030", "shift-jis"])
def test_named_encoding_round_trips(tmp_path, encoding, piece_size):
    text = {"koi8-r": "Привет, мир", "gb18030": "你好 world", "shift-jis": "日本語 text"}.get(
        encoding, "déjà vu"
    )
    path = tmp_path / "text"
    path.write_bytes(text.encode(encoding))
    assert decoded(path, check_encoding(encoding)) == text


@pytest.mark.parametrize("head", [b"", BOM, "é".encode(), b"a" * 7, "日本".encode() * 5], ids=len)
@pytest.mark.parametrize("bad", [b"\xff", b"\xe9 caf", b"\xc3", b"\xf0\x9f\x8f", b"\xed\xa0\x80"])
def test_offset_of_an_undecodable_byte_is_that_in_the_file(tmp_path, head, bad, piece_size):
    path = tmp_path / "text"
    path.write_bytes(head + bad)
    with pytest.raises(TextError) as caught:
        decoded(path)
    assert f"byte 0x{bad[0]:02x} at offset {len(head)} " in caught.value.message
    assert "`text` is not utf-8" in caught.value.message


def test_offset_is_right_far_into_a_compressed_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1000)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress("é".encode() * 2345 + b"\xff"))
    with pytest.raises(TextError, match=r"at offset 4,690 "):
        decoded(path)


@pytest.mark.parametrize("encoding", ["cp1252", "koi8-r"])
def test_hint_names_an_encoding_that_works_and_the_way_around(tmp_path, encoding):
    text = {"cp1252": "Das Mädchen aß Äpfel. ", "koi8-r": "Все счастливые семьи похожи. "}[encoding] * 20
    path = tmp_path / "text"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(TextError) as caught:
        decoded(path)
    assert "--symbols bytes" in caught.value.hint
    guess = caught.value.hint.split("`--encoding ")[1].split("`")[0]
    assert decoded(path, check_encoding(guess))


WESTERN = {
    "German": "Die Straße führt über die Brücke, und schöne Mädchen grüßen höflich. ",
    "French": "L'élève a déjà mangé; où est sa mère? Ça va être à la fête de Noël. ",
    "Swedish": "På ön låg ett rött hus där några små flickor åt äpplen och sjöng. ",
    "Portuguese": "Não há ninguém na praça; o coração é um órgão que bate às três. ",
}


@pytest.mark.parametrize("language", WESTERN)
@pytest.mark.parametrize("times", [1, 10, 60])
def test_western_european_text_is_not_taken_for_central_european(tmp_path, language, times):
    path = tmp_path / "text"
    path.write_bytes((WESTERN[language] * times).encode("latin-1"))
    with pytest.raises(TextError) as caught:
        decoded(path)
    guess = re.search(r"`--encoding (\S+)`", caught.value.hint)
    assert guess and decoded(path, check_encoding(guess[1])) == WESTERN[language] * times


def test_central_european_text_still_is(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(("Příliš žluťoučký kůň úpěl ďábelské ódy. " * 20).encode("cp1250"))
    with pytest.raises(TextError, match="utf-8") as caught:
        decoded(path)
    assert "cp1250" in caught.value.hint


@pytest.mark.parametrize("words", [b"plain words, line after line\n" * 10_000, b"few words: "])
def test_hint_names_an_encoding_that_leaves_plain_words_alone(tmp_path, words):
    path = tmp_path / "text"
    path.write_bytes(words + "café".encode("cp1252"))
    with pytest.raises(TextError) as caught:
        decoded(path)
    guess = re.search(r"`--encoding (\S+)`", caught.value.hint)
    assert guess is None or decoded(path, check_encoding(guess[1])).startswith(words.decode())


@pytest.mark.parametrize("name", ["nosuch", "", "base64", "rot13", "utf-8\0", "zip"])
def test_unknown_encoding_is_a_config_error_with_examples(name):
    with pytest.raises(ConfigError, match="unknown encoding") as caught:
        check_encoding(name)
    assert "cp1252" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "own"), [("UTF8", "utf-8"), ("Latin1", "iso8859-1"), ("Windows-1252", "cp1252")]
)
def test_encoding_is_called_by_its_own_name(name, own):
    assert check_encoding(name) == own


@pytest.mark.parametrize(
    "encoding",
    [
        pytest.param("undefined"),
        "idna",
        "punycode",
    ],
)
def test_encoding_that_decodes_no_file_is_an_error_not_a_crash(tmp_path, encoding):
    path = tmp_path / "text"
    path.write_bytes(b"xn--\xff\xfe-..a" * 20)
    with pytest.raises((TextError, ConfigError)):
        decoded(path, check_encoding(encoding))
