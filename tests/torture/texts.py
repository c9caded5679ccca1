"""Hostile texts: trained on, sampled, scored, compressed and inspected, or refused in a sentence."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from hostile_texts import REFUSED, TEXTS, do_everything


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=200_000, help="characters of each text")
    parser.add_argument(
        "--line", type=int, default=10_000_000, help="characters of the text that is one line"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    rows, failures = [], []
    for name in TEXTS:
        for symbols in ("chars", "bytes"):
            size = options.line if name == "one line" else options.size
            row = tried(name, size, symbols)
            rows.append(row)
            failures += [f"{name}, {symbols}: {row['failed']}"] if row["failed"] else []
    return {"passed": len(rows) - len(failures), "of": len(rows), "failures": failures, "texts": rows}


def tried(name: str, size: int, symbols: str) -> dict[str, Any]:
    """Return what was done with a text, what of it was refused, and what went wrong."""
    begun, done, failed = time.monotonic(), [], ""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHARRNN_CACHE"] = f"{folder}/cache"
        try:
            done += do_everything(Path(folder), name, size, symbols)
        except Exception as error:
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"[:300]
    refused = {one.what: one.refused for one in done if one.refused}
    if not failed and ("train" in refused) != (name in REFUSED[symbols]):
        failed = refused.get("train", "it was trained on")
    row = {
        "text": name,
        "symbols": symbols,
        "size": size,
        "done": [one.what for one in done if not one.refused],
    }
    return row | {"refused": refused, "seconds": round(time.monotonic() - begun, 1), "failed": failed}
