"""The table of a compression."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from charrnn.rendering.tables import table
from charrnn.rendering.text import one_line


def compression_table(data: dict[str, Any], what: str) -> RenderableType:
    """Return the size of a file beside what the model and other compressors make of it."""
    sizes = {data["run"]: data["bytes_out"], "xz": data["xz_bytes"], "bz2": data["bz2_bytes"]}
    rows = [
        (f"{'▸ ' if name == data['run'] else '  '}{name}", f"{size:,}", _per_char(size, data["chars"]))
        for name, size in sorted(sizes.items(), key=lambda item: item[1])
    ]
    head = f"{one_line(what)}: {data['bytes_in']:,} bytes, {data['chars']:,} characters"
    return Group(Text(head), table(["", ">bytes", ">bits per char"], rows))


def _per_char(size: int, chars: int) -> str:
    return f"{8 * size / chars:.3f}" if chars else ""
