"""What charrnn does on one CUDA device; ``benchmarks/gpu.sh`` is how to call it.

    benchmarks/gpu.sh parity         every path beside the same on the CPU
    benchmarks/gpu.sh speed          every row of the table, beside its peers and the device's peaks
    benchmarks/gpu.sh quality NAME   tinyshakespeare, warpeace, linux or enwik8 by our recipes; nanogpt

Texts for quality are read from the folder in CHARRNN_TEXTS, nanoGPT from the checkout in NANOGPT. Records are
benchmarks/records/gpu-*.json, and in the folder OUT too if that is set. A point that is there is not measured
again (``--again WORD`` measures anew what has the word in its name, ``--again errors`` what failed). Without
CUDA a rehearsal runs the same code with tiny sizes, ``--device cpu --rehearse``; its record stays in
runs/gpu-rehearsal, for no figure in it means anything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from gpu_book import Book, Point, facts, say
from quality import RECORDS, ROOT

REHEARSALS = ROOT / "runs" / "gpu-rehearsal"
QUALITIES = ("tinyshakespeare", "warpeace", "linux", "enwik8", "nanogpt")


def main() -> None:
    options = parse()
    device = torch.device(options.device)
    name = "-".join(["gpu", options.part, *options.names])
    places = [folder / f"{name}.json" for folder in folders(options)]
    book = Book(places, facts(device, sys.argv[1:]) | {"rehearsal": options.rehearse})
    book.forget(options.again)
    left = book.fill(points(options, device, book), options.end)
    if options.part == "speed":
        from gpu_speed import summary

        book.calls[-1]["summary"] = summary(book.points)
    book.write()
    say(f"{places[-1]}: {json.dumps(book.summary())}")
    say(f"{left} points left: run it again" if left else "nothing is left")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["parity", "speed", "quality"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of a text: {', '.join(QUALITIES)}")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes; no figure of it means anything")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="points with it in their name")
    parser.add_argument("--again", nargs="+", default=[], metavar="WORD", help="measure such points anew")
    parser.add_argument(
        "--out", type=Path, help="folder of the record; default: OUT, then benchmarks/records"
    )
    parser.add_argument("--end", type=float, default=time.time() + 480, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "quality" and (len(options.names) != 1 or options.names[0] not in QUALITIES):
        parser.error(f"quality needs one of {', '.join(QUALITIES)}")
    if options.part != "quality" and options.names:
        parser.error(f"{options.part} takes no name")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; `--device cpu --rehearse --out DIR` rehearses without one")
    return options


def folders(options: argparse.Namespace) -> list[Path]:
    """Return where the record is."""
    if options.out is not None:
        found = [options.out]
    elif options.rehearse or options.device == "cpu":
        found = [REHEARSALS]
    else:
        found = [RECORDS] + ([Path(os.environ["OUT"])] if os.environ.get("OUT") else [])
    for folder in found:
        folder.mkdir(parents=True, exist_ok=True)
    return found


def points(options: argparse.Namespace, device: torch.device, book: Book) -> Iterable[Point]:
    """Yield what is asked for."""
    if options.part == "parity":
        from gpu_parity import parity_points as made
    elif options.part == "speed":
        from gpu_speed import peaks
        from gpu_speed import speed_points as made

        book.calls[-1]["peaks"] = peaks(device, options.rehearse)
    else:
        from gpu_quality import quality_points

        return quality_points(options.names[0], device, options.rehearse)
    chosen = made(device, options.rehearse)
    return [p for p in chosen if not options.only or any(word in p.name for word in options.only)]


if __name__ == "__main__":
    main()
