"""2 GB of text, trained on, evaluated and inspected within 1 GB of anonymous memory; 100,000 small files."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import large_text


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=2000, help="of text")
    parser.add_argument("--files", type=int, default=100_000, help="small files")
    parser.add_argument("--seed", type=int, default=1, help="of the text")


def run(options: argparse.Namespace) -> dict[str, Any]:
    rows = large_text.large_text(options.megabytes, options.seed)
    rows += large_text.many_files(options.files, options.seed)
    failures = [sentence for sentence in map(large_text.wrong_with, rows) if sentence]
    limit = large_text.LIMIT_BYTES / 1e6
    counts = {"passed": len(rows) - len(failures), "of": len(rows), "failures": failures}
    return counts | {"limit_megabytes": limit, "rows": rows}
