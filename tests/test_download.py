"""Downloads: resumed, verified, refused; against a server in this process."""

from __future__ import annotations

import hashlib
import io
import socket
import struct
import zipfile
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from charrnn.errors import CorpusError
from charrnn.text import download as module
from charrnn.text.corpora import CorpusEntry, cached_path
from charrnn.text.download import download, fetch, recorded_sha256

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 64
ENDLESS = 100_000_000
"""Bytes with a redirect, more than a connection holds."""


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content``; the other attributes of the server say how badly."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/endless":
            self.send_response(302)
            self.send_header("Location", server.url)
            self.end_headers()
            with suppress(OSError):
                while server.sent < ENDLESS:
                    server.sent += self.wfile.write(bytes(1 << 16))
        elif self.path in server.redirects:
            self.answer(302, {"Location": server.redirects[self.path]}, b"moved")
        elif self.path != "/text":
            self.answer(404, {}, b"nothing here")
        else:
            self.answer_content(*self.start())

    def start(self):
        given = self.headers.get("Range")
        if given is None or not self.server.ranges:
            return 200, 0
        start = int(given.removeprefix("bytes=").rstrip("-"))
        return (416 if start >= len(self.server.content) else 206), start

    def answer_content(self, status, start):
        size = len(self.server.content)
        if status == 416:
            return self.answer(416, {"Content-Range": f"bytes */{size}"}, b"")
        start += self.server.range_shift if status == 206 else 0
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if status == 206 else {}
        self.answer(status, headers, self.server.content[start:], self.server.cuts)

    def answer(self, status, headers, body, cuts=()):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: cuts.pop(0)] if cuts else body)
        if cuts == [] and self.server.reset:
            self.wfile.flush()
            self.server.reset = False
            # Closing with a linger time of zero sends a reset, as a dying server would.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        pass


class Server(HTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.redirects, self.cuts = CONTENT, [], {}, []
        self.sent = 0
        self.ranges, self.lengths, self.reset, self.range_shift = True, True, False, 0
        self.url = f"http://127.0.0.1:{self.server_port}/text"

    def handle_error(self, request, client_address):
        """A client that hangs up is part of these tests."""


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 5.0)


@pytest.fixture
def server():
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "text.txt"


@pytest.fixture
def part(target):
    target.parent.mkdir()
    return target.with_name("text.txt.part")


def entry_of(server, **known):
    return CorpusEntry(
        name="sample",
        title="Sample",
        description="A sample",
        licence="CC0-1.0",
        language="none",
        symbols="bytes",
        val_fraction=0.1,
        test_fraction=0.1,
        **{"url": server.url, "size_bytes": len(CONTENT), "sha256": DIGEST} | known,
    )


def zipped(name="inner", content=CONTENT):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(name, content)
    return buffer.getvalue()


def spoiled(content):
    """Return an archive whose directory is whole and whose first member is not."""
    return content[:300] + bytes([content[300] ^ 255]) + content[301:]


def test_fetch_writes_and_reports(server, target):
    seen = []
    digest = fetch(
        server.url,
        target,
        expected_bytes=len(CONTENT),
        sha256=DIGEST,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert digest == DIGEST and target.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and len(seen) > 3
    assert list(target.parent.iterdir()) == [target]


def test_fetch_without_length_or_hash(server, target):
    server.lengths = False
    seen = []
    assert fetch(server.url, target, progress=lambda *step: seen.append(step)) == DIGEST
    assert seen[-1] == (len(CONTENT), None)


def test_truncated_answer_is_kept_and_resumed(server, target, part):
    server.cuts = [100_000]
    with pytest.raises(CorpusError, match="ended after 100,000 of 256,000 bytes") as caught:
        fetch(server.url, target, sha256=DIGEST)
    assert "again" in caught.value.hint
    assert part.read_bytes() == CONTENT[:100_000] and not target.exists()
    assert fetch(server.url, target, sha256=DIGEST) == DIGEST
    assert server.requests[-1] == ("/text", "bytes=100000-")
    assert target.read_bytes() == CONTENT and not part.exists()


def test_connection_cut_midway_is_a_corpus_error(server, target):
    server.cuts, server.reset = [100_000], True
    with pytest.raises(CorpusError) as caught:
        fetch(server.url, target, sha256=DIGEST)
    assert "again" in caught.value.hint
    assert fetch(server.url, target, sha256=DIGEST) == DIGEST


def test_server_without_ranges_restarts(server, target, part):
    server.ranges = False
    part.write_bytes(b"?" * 1000)
    assert fetch(server.url, target, sha256=DIGEST) == DIGEST
    assert server.requests == [("/text", "bytes=1000-")]


def test_range_from_another_place_restarts(server, target, part):
    server.range_shift = 7
    part.write_bytes(CONTENT[:1000])
    assert fetch(server.url, target, sha256=DIGEST) == DIGEST
    assert [given for _, given in server.requests] == ["bytes=1000-", None]


def test_whole_part_needs_no_second_transfer(server, target, part):
    part.write_bytes(CONTENT)
    assert fetch(server.url, target, expected_bytes=len(CONTENT), sha256=DIGEST) == DIGEST
    assert server.requests == []


def test_refused_range_of_a_whole_part_is_the_end(server, target, part):
    part.write_bytes(CONTENT)
    assert fetch(server.url, target, sha256=DIGEST) == DIGEST
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("expected", "requests"),
    [(None, ["bytes=256004-", None]), (len(CONTENT), [None])],
    ids=["unknown", "known"],
)
def test_part_that_is_too_long_restarts(server, target, part, expected, requests):
    part.write_bytes(CONTENT + b"more")
    assert fetch(server.url, target, expected_bytes=expected, sha256=DIGEST) == DIGEST
    assert [given for _, given in server.requests] == requests


def test_wrong_hash_deletes_the_part(server, target, part):
    with pytest.raises(CorpusError) as caught:
        fetch(server.url, target, sha256=WRONG)
    assert DIGEST in caught.value.message and WRONG in caught.value.message
    assert not part.exists() and not target.exists()


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("limit", ["expected_bytes", "max_bytes"])
def test_more_than_expected_is_refused(server, target, lengths, limit):
    server.lengths = lengths
    seen = []
    with pytest.raises(CorpusError, match=r"(more than|instead of) 100,000"):
        fetch(server.url, target, **{limit: 100_000}, progress=lambda done, _: seen.append(done))
    assert list(target.parent.iterdir()) == []
    # Where the server says its size nothing is transferred; else it ends before the limit.
    assert seen == ([] if lengths else [0, module.PIECE_BYTES])


def test_less_than_expected_is_refused(server, target, part):
    server.lengths = False
    with pytest.raises(CorpusError, match="ended after 256,000 of 256,001 bytes"):
        fetch(server.url, target, expected_bytes=len(CONTENT) + 1)
    assert not target.exists()


def test_redirects_are_followed_over_http_only(server, target, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    server.redirects = {
        "/good": server.url,
        "/file": secret.as_uri(),
        "/ftp": "ftp://127.0.0.1/text",
        "/loop": server.url.replace("/text", "/loop"),
        "/bad": "http://[broken/text",
    }
    base = server.url.removesuffix("/text")
    assert fetch(f"{base}/good", target) == DIGEST
    for path, message in {
        "/file": "not allowed",
        "/ftp": "`ftp://127.0.0.1/text` is not an http or https address",
        "/loop": "answered 302",
        "/bad": "could not be fetched",
    }.items():
        with pytest.raises(CorpusError, match=message):
            fetch(base + path, target.with_name("other.txt"))
    assert list(target.parent.iterdir()) == [target]


def test_what_comes_with_a_redirect_is_not_read(server, target):
    assert fetch(server.url.removesuffix("/text") + "/endless", target) == DIGEST
    assert 0 < server.sent < ENDLESS


@pytest.mark.parametrize("scheme", ["file:///etc/hostname", "ftp://127.0.0.1/text", "data:,text", "text"])
def test_other_schemes_are_refused(scheme, target):
    with pytest.raises(CorpusError, match="not an http or https address"):
        fetch(scheme, target)


def test_missing_page(server, target):
    with pytest.raises(CorpusError, match="answered 404 Not Found"):
        fetch(server.url + "s", target)
    assert list(target.parent.iterdir()) == []


def test_no_server_at_all(target):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(CorpusError, match="could not be fetched") as caught:
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/text", target)
    assert "again" in caught.value.hint


def test_disk_trouble_is_a_corpus_error(server, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(CorpusError, match="cannot write") as caught:
        fetch(server.url, tmp_path / "taken" / "text.txt")
    assert "CHARRNN_CACHE" in caught.value.hint


def test_download_records_its_hash_and_is_not_repeated(server):
    entry = entry_of(server, sha256=None)
    path = download(entry)
    assert path == cached_path(entry) and path.read_bytes() == CONTENT
    assert recorded_sha256(path) == DIGEST
    assert download(entry) == path and len(server.requests) == 1


def test_download_mends_a_damaged_file(server):
    entry = entry_of(server)
    path = cached_path(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"?" * len(CONTENT))
    assert recorded_sha256(path) is None
    assert download(entry).read_bytes() == CONTENT


def test_download_unpacks_a_member(server):
    server.content = zipped()
    seen = []
    path = download(entry_of(server, member="inner"), progress=lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(server.content), len(server.content))
    assert {item.name for item in path.parent.iterdir()} == {"sample.txt", "sample.txt.sha256"}


def test_member_with_a_path_stays_in_the_cache(server, monkeypatch):
    server.content = zipped(name="../../escaped")
    replace, sources = module.os.replace, []
    monkeypatch.setattr(module.os, "replace", lambda old, new: sources.append(old) or replace(old, new))
    path = download(entry_of(server, member="../../escaped"))
    assert path == cached_path(entry_of(server))
    assert {source.resolve().parent for source in sources} == {path.resolve().parent}


@pytest.mark.parametrize(
    ("content", "known", "message"),
    [
        (zipped(), {"size_bytes": 1000}, "holds more than 1,000 bytes"),
        (zipped(), {"sha256": WRONG}, WRONG),
        (zipped(content=CONTENT[:-1]), {}, "255,999 bytes instead of 256,000"),
        (zipped(name="another"), {}, "cannot be unpacked"),
        (zipped()[:-10], {}, "cannot be unpacked"),
        (spoiled(zipped()), {}, "cannot be unpacked"),
        (b"not a zip at all", {}, "cannot be unpacked"),
    ],
)
def test_bad_archive_leaves_nothing_behind(server, content, known, message):
    server.content = content
    entry = entry_of(server, member="inner", **known)
    with pytest.raises(CorpusError, match=message):
        download(entry)
    assert list(cached_path(entry).parent.iterdir()) == []


def test_own_text_is_not_downloaded(server):
    with pytest.raises(CorpusError, match="needs no download"):
        download(entry_of(server, url=None, file="sample.txt"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Content-Length": "\u0664"},
        {"Content-Range": f"bytes 3-4/{'9' * 5000}"},
        {"Content-Range": f"bytes {'3' * 5000}-4/9"},
    ],
)
def test_numbers_of_a_server_that_cannot_be_are_not_taken(headers):
    message = Message()
    for name, value in headers.items():
        message[name] = value
    answer = SimpleNamespace(headers=message, status=206)
    assert module._content_range(message) == (None, None)
    assert module._total_bytes(answer, 3) is None
