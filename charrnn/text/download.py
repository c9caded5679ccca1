"""Fetch a corpus over HTTP: resumed where it was cut, verified before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from charrnn import __version__
from charrnn.errors import CorpusError
from charrnn.text.corpora import CorpusEntry, cached_path

Progress = Callable[[int, int | None], None]

PIECE_BYTES = 64 * 1024
TIMEOUT_SECONDS = 30.0

_RESUME_HINT = "run the same command again: it goes on where it stopped"
_CHANGED_HINT = "run the same command again; if it fails alike, the file at this address has changed"
_DISK_HINT = "free some space, or set CHARRNN_CACHE to another folder"
_ARCHIVE_SLACK_BYTES = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError, OverflowError)


def download(entry: CorpusEntry, *, progress: Progress | None = None) -> Path:
    """Bring a corpus into the cache, unless it is there already and whole.

    Beside the text stands ``NAME.txt.sha256`` with the hash that was computed; where ``entry.sha256``
    is None that is the only record of what came, and nothing vouches for it.

    Args:
        entry: A corpus with a ``url``.
        progress: Called with the bytes that are here and the bytes in all (None when the server does
            not say), for the transfer alone.

    Returns:
        The text, unpacked.

    Raises:
        CorpusError: The corpus is not one to download, the network failed, what came is not what was
            expected, or the cache cannot be written.
    """
    if entry.url is None:
        raise CorpusError(f"corpus `{entry.name}` needs no download", f"charrnn train {entry.name}")
    target = cached_path(entry)
    with _disk_errors(target):
        digest = _digest_if_whole(target, entry) or _bring(entry, target, progress)
        _record(target, digest)
    return target


def recorded_sha256(path: Path) -> str | None:
    """Return the hash that was computed when ``path`` was downloaded, or None without a record."""
    record = _record_path(path)
    return record.read_text(encoding="utf-8").split()[0] if record.is_file() else None


def fetch(
    url: str,
    target: Path,
    *,
    expected_bytes: int | None = None,
    max_bytes: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Download one file, going on from ``target.part`` where an earlier attempt left one.

    Args:
        url: An http or https address; redirects may lead to no other scheme.
        target: Written in one step when everything is here and verified.
        expected_bytes: Exact size, if known.
        max_bytes: Where the size is not known, more than this is refused.
        sha256: Expected hash in hexadecimal, if known.
        progress: See ``download``.

    Returns:
        The SHA-256 of the file in hexadecimal, whether or not there was one to compare it with.

    Raises:
        CorpusError: The scheme is another, the network failed (the part is kept), the size or the hash
            differs (the part is deleted), or a file cannot be written.
    """
    _check_scheme(url)
    part = target.with_name(target.name + ".part")
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _fill(part, url, expected_bytes, max_bytes, progress)
        return _finish(part, target, expected_bytes, sha256, url)


def _bring(entry: CorpusEntry, target: Path, progress: Progress | None) -> str:
    if entry.member is not None:
        return _bring_member(entry, target, progress)
    return fetch(entry.url, target, expected_bytes=entry.size_bytes, sha256=entry.sha256, progress=progress)


def _bring_member(entry: CorpusEntry, target: Path, progress: Progress | None) -> str:
    archive = target.with_suffix(".zip")
    if not archive.is_file():
        limit = None if entry.size_bytes is None else entry.size_bytes + _ARCHIVE_SLACK_BYTES
        fetch(entry.url, archive, max_bytes=limit, progress=progress)
    try:
        digest = _unpack(archive, entry, target)
    except CorpusError:
        archive.unlink()
        raise
    archive.unlink()
    return digest


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """Turn what the disk refuses into a ``CorpusError``; network errors became one where they happened."""
    try:
        yield
    except OSError as error:
        raise CorpusError(f"cannot write `{target}`: {error.strerror or error}", _DISK_HINT) from error


def _fill(
    part: Path, url: str, expected: int | None, max_bytes: int | None, progress: Progress | None
) -> None:
    """Bring ``part`` to its full length, from the end of what it holds if the server allows."""
    limit = expected if expected is not None else max_bytes
    offset = part.stat().st_size if part.exists() else 0
    if offset and offset == expected:
        return
    if limit is not None and offset > limit:
        offset = 0
    response, offset = _open_at(url, offset)
    if response is None:
        return
    with response:
        total = _total_bytes(response, offset)
        _check_offer(total, expected, max_bytes, url)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            done = _copy(_pieces(response, url), file, offset, limit, lambda n: _tell(progress, n, total))
    _check_limit(part, done, limit, url)
    wanted = total if total is not None else expected
    if wanted is not None and done < wanted:
        raise CorpusError(f"`{url}` ended after {done:,} of {wanted:,} bytes", _RESUME_HINT)


def _open_at(url: str, offset: int) -> tuple[http.client.HTTPResponse | None, int]:
    """Ask for the file from ``offset`` on; return the answer and where it really begins.

    None stands for "nothing is missing": the server knows no byte behind ``offset``.
    """
    if offset:
        try:
            response = _open(url, {"Range": f"bytes={offset}-"})
        except _RangeRefused as refused:
            return (None, offset) if refused.total == offset else (_open(url, {}), 0)
        if response.status == 206 and _content_range(response.headers)[0] == offset:
            return response, offset
        if response.status == 200:
            return response, 0
        response.close()
    response = _open(url, {})
    if response.status != 200:
        response.close()
        raise CorpusError(f"`{url}` answered with status {response.status}", _CHANGED_HINT)
    return response, 0


class _RangeRefused(Exception):
    """The server answered 416; ``total`` is the size that it gave with it."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


class _SafeRedirects(request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        fp.close()  # what comes with a redirect, which may have no end, would be read whole
        _check_scheme(newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise CorpusError(f"`{req.full_url}` leads away from https, to `{newurl}`", _CHANGED_HINT)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    # An opener of its own: urllib's default one also reads file:, ftp: and data: addresses.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    common = {"User-Agent": f"charrnn/{__version__}", "Accept-Encoding": "identity"}
    try:
        return opener.open(request.Request(url, headers=common | headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416 and "Range" in headers:
            raise _RangeRefused(_content_range(error.headers)[1]) from error
        reason = " ".join(str(error.reason).split())
        raise CorpusError(f"`{url}` answered {error.code} {reason}", _CHANGED_HINT) from error
    # ValueError: a redirect to an address that cannot be parsed.
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        raise _network_error(url, error) from error


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise CorpusError(f"`{url}` is not an http or https address", "only these two are fetched")


def _content_range(headers: http.client.HTTPMessage) -> tuple[int | None, int | None]:
    """Return the first byte and the full size that a ``Content-Range`` names (RFC 9110, 14.4)."""
    given = headers.get("Content-Range", "").strip()
    match = re.fullmatch(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)", given, re.ASCII)
    if match is None:
        return None, None
    start, total = match.groups()
    return (None if start is None else int(start)), (None if total == "*" else int(total))


def _total_bytes(response: http.client.HTTPResponse, offset: int) -> int | None:
    if response.status == 206 and (total := _content_range(response.headers)[1]) is not None:
        return total
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None


def _check_offer(total: int | None, expected: int | None, max_bytes: int | None, url: str) -> None:
    if total is None:
        return
    if expected is not None and total != expected:
        raise CorpusError(f"`{url}` has {total:,} bytes instead of {expected:,}", _CHANGED_HINT)
    if max_bytes is not None and total > max_bytes:
        raise CorpusError(f"`{url}` has {total:,} bytes, more than {max_bytes:,}", _CHANGED_HINT)


def _pieces(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read(PIECE_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _network_error(url, error) from error
        if not piece:
            return
        yield piece


def _copy(
    pieces: Iterator[bytes], file: IO[bytes], done: int, limit: int | None, tell: Callable[[int], None]
) -> int:
    """Write pieces behind the ``done`` bytes that are there; return how many there are then.

    The piece that crosses ``limit`` is counted, not written, and ends the copy.
    """
    tell(done)
    for piece in pieces:
        done += len(piece)
        if limit is not None and done > limit:
            break
        file.write(piece)
        tell(done)
    return done


def _check_limit(part: Path, done: int, limit: int | None, source: str) -> None:
    if limit is not None and done > limit:
        part.unlink()
        raise CorpusError(f"`{source}` holds more than {limit:,} bytes", _CHANGED_HINT)


def _tell(progress: Progress | None, done: int, total: int | None) -> None:
    if progress is not None:
        progress(done, total)


def _finish(part: Path, target: Path, expected: int | None, sha256: str | None, source: str) -> str:
    """Verify ``part`` and give it its final name; delete it when it is not what was expected."""
    size, digest = part.stat().st_size, _digest(part)
    if expected not in (None, size):
        part.unlink()
        raise CorpusError(f"`{source}` has {size:,} bytes instead of {expected:,}", _CHANGED_HINT)
    if sha256 not in (None, digest):
        part.unlink()
        raise CorpusError(f"`{source}` has the sha256 {digest} instead of {sha256}", _CHANGED_HINT)
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    return digest


def _unpack(archive: Path, entry: CorpusEntry, target: Path) -> str:
    """Unpack one member; the name of the output comes from the catalogue, never from the archive."""
    part = target.with_name(target.name + ".part")
    try:
        with zipfile.ZipFile(archive) as bundle, bundle.open(entry.member) as member, part.open("wb") as file:
            pieces = iter(lambda: member.read(PIECE_BYTES), b"")
            done = _copy(pieces, file, 0, entry.size_bytes, lambda _: None)
    except (*_ZIP_ERRORS, OSError) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # not from the archive
            raise
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise CorpusError(f"`{entry.url}` cannot be unpacked: {reason}", _CHANGED_HINT) from error
    _check_limit(part, done, entry.size_bytes, entry.url)
    return _finish(part, target, entry.size_bytes, entry.sha256, entry.url)


def _digest_if_whole(path: Path, entry: CorpusEntry) -> str | None:
    """Return the hash of a file that is here and fits the entry, else None."""
    if not path.is_file() or entry.size_bytes not in (None, path.stat().st_size):
        return None
    digest = _digest(path)
    return digest if entry.sha256 in (None, digest) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record(path: Path, digest: str) -> None:
    # The format of the sha256sum tool, so that `sha256sum --check` reads it.
    _record_path(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8", newline="\n")


def _network_error(url: str, error: Exception) -> CorpusError:
    reason = getattr(error, "reason", None) or error
    return CorpusError(f"`{url}` could not be fetched: {str(reason) or type(error).__name__}", _RESUME_HINT)
