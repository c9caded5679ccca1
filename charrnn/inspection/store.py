"""Findings kept between commands, so that looking again takes no second pass; torch is not needed.

They are kept under a key that covers the weights, the text, the question and the code that answered it, so
findings that anything has made stale are never found.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import charrnn
from charrnn.config import Config
from charrnn.errors import CharrnnError
from charrnn.files import write_atomically
from charrnn.inspection.findings import Findings
from charrnn.runs import DEMO, read_header
from charrnn.text.cache_dir import cache_dir
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources
from charrnn.untrusted import parse_json, read_whole

CODE = ("*.py", "*.so")
"""Whatever may shape findings: also what reads text and runs, and the compiled library."""
DEFAULT_QUESTION = {"neuron": None, "top": 1, "kind": None, "steer": False, "ablation": "mean"}
DEFAULT_QUESTION |= {"max_chars": None}
MAX_BYTES = 50_000_000
"""Larger files are no findings of ours."""
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError)


def key_of(
    model: Path, texts: Sequence[str], question: Mapping[str, Any], encoding: str | None = None
) -> str | None:
    """Return the key of the answer to a question, or None for one whose answer is not kept.

    Args:
        model: The file of weights.
        texts: What is read, as the user named it; none means the run's held-out text.
        question: All else that shapes the answer, as plain values; ``hypotheses`` among them.
        encoding: That of the texts; None means that of the run's own text.

    Raises:
        CheckpointError: The file is damaged or foreign.
        TextError: A text cannot be read.
    """
    if any(mark in spec for spec in question["hypotheses"] for mark in (".py", ".npy")):
        return None  # a file of the user's own may change
    if "-" in texts:
        return None
    text = _text_key(read_header(model), texts, encoding)
    if text is None:
        return None
    content = hashlib.sha256(_code())
    with model.open("rb") as file:
        content.update(hashlib.file_digest(file, "sha256").digest())
    content.update(json.dumps([text, question], sort_keys=True).encode())
    return content.hexdigest()[:32]


def _text_key(header: Mapping[str, Any], texts: Sequence[str], encoding: str | None) -> str | None:
    """Return the key of the text that is read; None without one, or with a header that makes no sense."""
    try:
        text, own = header["corpus"].get("key"), "seen" in header["corpus"]
        config = Config.from_json(header["config"]) if texts else None
    except _MALFORMED:
        return None
    if texts:
        return open_corpus(find_sources(texts), config.text.of(encoding)).info["key"]
    # of this interpreter's own library, what was not trained on is left
    return f"{text} {platform.python_version()}" if own else text


def load_findings(key: str, run: str) -> Findings | None:
    """Return the findings under a key, told of a run by its present name; None if there are none."""
    try:
        checksum, _, data = read_whole(_path(key), MAX_BYTES).partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != checksum:
            return None
        return replace(_restored(Findings, parse_json(data)), run=run)
    except (OSError, *_MALFORMED):
        return None


def demo_findings(model: Path, texts: Sequence[str], question: Mapping[str, Any]) -> Findings | None:
    """Return the findings that come with the demo run, if it is what was asked for and nothing else."""
    path = DEMO.with_name("findings.json")
    if (
        model != DEMO
        or texts
        or dict(question) != DEFAULT_QUESTION | {"hypotheses": []}
        or not path.is_file()
    ):
        return None
    return replace(_restored(Findings, json.loads(path.read_bytes())), run="demo")


def save_findings(key: str, findings: Findings) -> None:
    """Keep findings under their checksum; a disk that refuses costs nothing but time."""
    data = _json(findings)
    with suppress(CharrnnError):
        write_atomically(_path(key), f"{hashlib.sha256(data).hexdigest()}\n".encode() + data)


def write_findings(path: Path, findings: Findings) -> None:
    """Write findings as a file.

    Raises:
        CheckpointError: The disk is full or refuses.
    """
    write_atomically(path, _json(findings))


def _json(findings: Findings) -> bytes:
    return json.dumps(_plain(findings), allow_nan=False).encode()


def _path(key: str) -> Path:
    return cache_dir() / "inspection" / f"{key}.json"


@cache
def _code() -> bytes:
    """Return a hash of the package's code."""
    root = Path(charrnn.__file__).parent
    files = sorted(path for kind in CODE for path in root.rglob(kind))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()


def _plain(value: Any) -> Any:
    """Return plain values for JSON; NaN becomes null."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        # the shortest digits that make the same float32 again
        return [None if math.isnan(v) else float(str(v)) for v in value]
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _restored(kind: Any, data: Any) -> Any:
    """Return a value of a type from what ``_plain`` made of it.

    Raises:
        ValueError, TypeError, KeyError: The data does not fit the type.
    """
    if is_dataclass(kind):
        hints = _hints(kind)
        # findings of an earlier version lack what was added since: its defaults stand for it
        known = [field.name for field in fields(kind) if field.name in data]
        return kind(**{name: _restored(hints[name], data[name]) for name in known})
    if kind is np.ndarray:
        return np.array([math.nan if v is None else v for v in data], dtype=np.float32)
    if isinstance(kind, types.UnionType):
        return (
            None if data is None else _restored(next(k for k in kind.__args__ if k is not type(None)), data)
        )
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        inner = inner[:1] * len(data) if inner[1:] == (Ellipsis,) else inner
        return tuple(_restored(k, v) for k, v in zip(inner, data, strict=True))
    return data
