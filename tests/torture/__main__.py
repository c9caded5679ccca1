"""The long tests of reliability, each recorded with machine and date in benchmarks/records/torture-PART.json.

    python -m tests.torture                             every part, in order
    python -m tests.torture locks --count 20 --seed 1   one part; --help lists its options

A part is a module of this package, named in PARTS. It has a docstring, whose first line says what it shows;
``options(parser)``, which adds its options, all with defaults; and ``run(options)``, which returns figures
to record, among them ``passed``, ``of`` and ``failures``: sentences, and with any the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
RECORDS = ROOT / "benchmarks" / "records"
PARTS = (
    "kills",
    "power",
    "faults",
    "disks",
    "locks",
    "clock",
    "resumes",
    "large",
    "supply",
    "distributed",
    "fuzz",
    "texts",
)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: processes are forked, threads are not
    sys.path[:0] = [str(TESTS), str(ROOT)]
    options = parsed(sys.argv[1:])
    wanted = PARTS if options.part is None else (options.part,)
    failed = [name for name in wanted if not passes(name, options if options.part else None)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", metavar="PART")
    for name in PARTS:
        module = importlib.import_module(f"torture.{name}")
        first = module.__doc__.splitlines()[0]
        own = parts.add_parser(name, help=first, description=first)
        module.options(own)
        own.add_argument("--out", type=Path, default=RECORDS, help="folder of the record")
    return parser.parse_args(words)


def passes(name: str, options: argparse.Namespace | None) -> bool:
    """Run a part, record what it found, say it in a line, and return whether nothing failed."""
    from charrnn.bench.machine import facts

    options = options or parsed([name])
    settings = {key: value for key, value in vars(options).items() if key not in ("part", "out")}
    record = {"part": name, "options": settings} | facts()
    begun = time.monotonic()
    found = importlib.import_module(f"torture.{name}").run(options)
    record |= {"seconds": round(time.monotonic() - begun, 1)} | found
    path = options.out / f"torture-{name}.json"
    path.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"{name}: {found['passed']} of {found['of']} in {record['seconds']:.0f} s", flush=True)
    for failure in found["failures"][:20]:
        print(f"  {failure}", flush=True)
    return not found["failures"]


if __name__ == "__main__":
    main()
