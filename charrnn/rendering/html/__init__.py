"""Findings as one page that needs nothing but itself: no network, no server, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files
from pathlib import Path

from charrnn.errors import CharrnnError
from charrnn.files import write_atomically
from charrnn.inspection.page import Page
from charrnn.rendering.html.method import method
from charrnn.rendering.html.pack import json_text, packed

MAX_BYTES, BYTES_PER_CHAR = 5_000_000, 50
SCRIPTS = (
    "data.js",
    "paint.js",
    "text.js",
    "character.js",
    "board.js",
    "counter.js",
    "card.js",
    "spans.js",
    "copy.js",
    "page.js",
)
"""In the order in which they are joined to one module."""
_SPARE = 8_000
"""Bytes for the panel that says how all was computed, which is known only when all else is packed."""


def page_html(page: Page) -> str:
    """Return the page as one HTML document, of at most 5 MB for up to 100,000 characters."""
    style = _source("page.css")
    script = "\n".join(_source(name) for name in SCRIPTS)
    parts = {
        "policy": _policy(style, script),
        "title": html.escape(f"{page.findings['run']} · neurons"),
        "style": style,
        "script": script,
        "data": "",
    }
    frame = _source("page.html")
    room = max(MAX_BYTES, BYTES_PER_CHAR * len(page.text)) - _SPARE
    data = packed(page, room - len(_filled(frame, parts).encode("utf-8", "xmlcharrefreplace")))
    data["method"] = method(page, data)
    return _filled(frame, parts | {"data": json_text(data)})


def save_html(path: str | Path, page: Page) -> None:
    """Write the page, whole or not at all.

    Raises:
        CharrnnError: The file cannot be written.
    """
    target = Path(path)
    if not target.name:
        raise CharrnnError(f"cannot write `{path}`: it is no file name", "for example `--html neurons.html`")
    # a run's name may hold bytes that are no text; they can only stand in the title
    write_atomically(target, page_html(page).encode("utf-8", "xmlcharrefreplace"))


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy: nothing is loaded, and nothing runs but the page's own script."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _filled(frame: str, parts: dict[str, str]) -> str:
    """Put parts into their places in one pass, so that no part is searched for places."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts.get(match[1], match[0]), frame)
