"""The catalogue of known corpora, the project's own texts, and the standard library as a text."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import charrnn
from charrnn.errors import CorpusError
from charrnn.text import corpora
from charrnn.text.cache_dir import cache_dir

FOLDER = Path(__file__).parent.parent / "corpora"
TOMLS = sorted(FOLDER.glob("*.toml"))
OWN = ("harbour", "gavan", "ferry")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("path", TOMLS, ids=lambda path: path.stem)
def test_entry_is_complete(path):
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    for key in ("title", "description", "licence", "language", "symbols"):
        assert isinstance(table[key], str) and table[key] and "\n" not in table[key]
    assert table["symbols"] in ("chars", "bytes")
    assert table["test_fraction"] >= 0 and table["val_fraction"] > 0
    assert table["val_fraction"] + table["test_fraction"] < 0.5
    assert sum(key in table for key in ("url", "file", "builtin")) == 1
    assert "builtin" in table or table["bytes"] > 0
    assert re.fullmatch("[0-9a-f]{64}", table.get("sha256", "0" * 64))
    assert "member" not in table or table["url"].endswith(".zip")
    # Who downloads something unverified must be able to read that it is.
    assert "url" not in table or "sha256" in table or "Not verified" in table["note"]


def test_catalogue_lists_every_file():
    entries = corpora.catalogue()
    assert list(entries) == [path.stem for path in TOMLS]
    assert {"stdlib", "tinyshakespeare", "warpeace", "linux", "enwik8", "text8", *OWN} <= set(entries)
    assert all(entry.name == name for name, entry in entries.items())
    assert entries["enwik8"].member == "enwik8" and entries["enwik8"].size_bytes == 100_000_000


def test_tinyshakespeare_suggests_the_usual_split():
    entry = corpora.find("tinyshakespeare")
    train = int(entry.size_bytes * (1 - entry.val_fraction))
    assert (train, entry.size_bytes - train, entry.test_fraction) == (1_003_854, 111_540, 0)


def test_unknown_corpus_gets_a_suggestion():
    with pytest.raises(CorpusError, match="unknown corpus `harbor`") as caught:
        corpora.find("harbor")
    assert "harbour" in caught.value.hint


@pytest.mark.parametrize("name", OWN)
def test_own_text_is_the_recorded_one(name):
    entry = corpora.find(name)
    (path,) = corpora.locate(entry)
    content = path.read_bytes()
    assert len(content) == entry.size_bytes
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert entry.licence == "CC0-1.0"
    assert b"\r" not in content and content.endswith(b"\n") and not content.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(("name", "columns", "smallest"), [("harbour", 64, 24_000), ("gavan", 60, 8_000)])
def test_own_text_is_wrapped(name, columns, smallest):
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    widths = [len(line) for line in text.split("\n")]
    assert max(widths) <= columns
    assert sum(width > columns - 10 for width in widths) > len(widths) / 3
    assert len(text.encode()) >= smallest


def test_harbour_closes_its_quotes_and_parentheses():
    for paragraph in (FOLDER / "harbour.txt").read_text(encoding="utf-8").split("\n\n"):
        assert paragraph.count('"') % 2 == 0, paragraph
        assert paragraph.count("(") == paragraph.count(")"), paragraph


@pytest.mark.parametrize(("name", "pairs"), [("gavan", ("«»", "„“", "()")), ("ferry", ("「」", "『』"))])
def test_other_own_texts_close_their_quotes(name, pairs):
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    for opening, closing in pairs:
        assert text.count(opening) == text.count(closing) > 0


def test_download_is_located_only_when_whole(cache):
    entry = corpora.find("tinyshakespeare")
    with pytest.raises(CorpusError, match="not on this machine") as caught:
        corpora.locate(entry)
    assert caught.value.hint == "charrnn corpora get tinyshakespeare"
    path = corpora.cached_path(entry)
    assert path.is_relative_to(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 10)
    with pytest.raises(CorpusError, match="damaged: 10 bytes instead of 1,115,394"):
        corpora.locate(entry)
    path.write_bytes(b"x" * entry.size_bytes)
    assert corpora.locate(entry) == [path]


def test_stdlib_is_sorted_capped_and_readable():
    root = Path(sysconfig.get_path("stdlib"))
    files = corpora.locate(corpora.find("stdlib"))
    names = [path.relative_to(root).as_posix() for path in files]
    assert names == sorted(names)
    assert names == [p.relative_to(root).as_posix() for p in corpora.locate(corpora.find("stdlib"))]
    sizes = [len(path.read_bytes().decode("utf-8").encode("utf-8")) for path in files]
    assert 1_000_000 < sum(sizes) <= corpora.STDLIB_CAP_BYTES
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "site-packages", "dist-packages", "encodings", "__pycache__"}
    assert not [name for name in names if "_sysconfigdata" in name]


def test_stdlib_skips_folders_and_takes_files_evenly_up_to_the_cap(tmp_path, monkeypatch):
    root = tmp_path / "lib"
    for name, content in {
        "b/tests/t.py": b"t",
        "b/core.py": b"12345",
        "a.py": b"123",
        "a.txt": b"no",
        "bad.py": b"\xff\xfe",
        "config-3.11/c.py": b"c",
        "site-packages/s.py": b"s",
        "_sysconfigdata_x.py": b"path",
        "c.py": b"123",
        "d.py": b"1",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    monkeypatch.setattr(corpora, "STDLIB_CAP_BYTES", 10)
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda _: str(root))
    found = corpora.locate(corpora.find("stdlib"))
    # 10 of 12 bytes fit: a.py would exceed five sixths of what was passed by then, the others do not
    assert [path.relative_to(root).as_posix() for path in found] == ["b/core.py", "c.py", "d.py"]


def test_stdlib_without_sources_is_a_corpus_error(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(CorpusError, match="no Python sources"):
        corpora.locate(corpora.find("stdlib"))


def test_catalogue_inside_the_package_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "charrnn"
    monkeypatch.setattr(charrnn, "__file__", str(package / "__init__.py"))
    with pytest.raises(CorpusError, match="catalogue is missing"):
        corpora.catalogue()
    for folder in (tmp_path / "corpora", package / "corpora"):
        folder.mkdir(parents=True)
        source = (FOLDER / "stdlib.toml").read_text(encoding="utf-8")
        title = f'title = "{folder.parent.name}"'
        text = re.sub("^title = .*$", title, source, flags=re.MULTILINE)
        (folder / "stdlib.toml").write_text(text, encoding="utf-8")
    assert corpora.find("stdlib").title == "charrnn"


def test_cache_dir_order(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("CHARRNN_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "charrnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "charrnn"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_dir() == tmp_path / "local" / "charrnn"


def test_importing_brings_in_nothing_heavy():
    code = "import sys, charrnn.text.corpora, charrnn.text.download; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
