"""How fast text is read and encoded, and in how much memory, from 1 MB to 1 GB.

    python benchmarks/text_speed.py [--sizes 1 10 100 1000]

Every row is a process of its own. Speed is megabytes per second of *processor* time of one core, so that a
busy machine changes it little; a text is hashed first (is it in the cache?), then hashed and encoded. Memory
is the largest anonymous resident memory (Linux), numpy and the interpreter included. enwik8 is in the folder
in CHARRNN_TEXTS (default: ../shared/data); beyond 100 MB it repeats, each time rotated.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from quality import ROOT, TEXTS, machine
from svg import label, line, page

LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩ"
KINDS = {"bytes": "#2166ac", "chars": "#b2182b", "chars, Cyrillic": "#1e823c", "chars, lines": "#a06e00"}
WINDOWS, BATCH_SIZE, SEQ_LEN = 2000, 64, 128
ROTATION = 7_000_003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1000], metavar="MB")
    parser.add_argument("--row", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records" / "text-speed.json")
    parser.add_argument("--svg", type=Path, default=ROOT / "docs" / "text-speed.svg")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*options.row)))
        return
    record = machine() | {"seed": None, "rows": list(rows(options.sizes)), "load_after": os.getloadavg()[0]}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    options.svg.write_text(picture(record["rows"]), encoding="utf-8")


def rows(sizes: list[int]):
    """Yield one measurement after the other, each made by a new process."""
    with tempfile.TemporaryDirectory() as folder, lzma.open(TEXTS / "enwik8.xz") as packed:
        base = packed.read(min(max(sizes) * 10**6, 10**8))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CHARRNN_CACHE": f"{folder}/cache"}
        for size in sizes:
            for kind in KINDS:
                path = write_text(Path(folder) / "text", base, size * 10**6, kind)
                command = [sys.executable, __file__, "--row", kind, str(path)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
                row = {"megabytes": path.stat().st_size / 1e6} | json.loads(done.stdout)
                print(json.dumps(row), flush=True)
                yield row


def write_text(path: Path, base: bytes, size: int, kind: str) -> Path:
    """Write about ``size`` bytes; Cyrillic is the same text with other letters."""
    if kind.endswith("Cyrillic"):
        text = base[: size // 2 + 1].decode("utf-8", "ignore")
        base = text.translate(str.maketrans(LATIN, CYRILLIC)).encode()
    with path.open("wb") as file:
        for turn in range(-(-size // len(base))):
            cut = base.find(b"\n", turn * ROTATION % len(base)) + 1 if turn else 0
            file.write((base[cut:] + base[:cut])[: size - file.tell()] if turn else base[:size])
    with path.open("rb+") as file:  # whole characters only
        file.seek(max(0, path.stat().st_size - 200_000))
        tail = file.read()
        file.truncate(file.tell() - len(tail) + tail.rfind(b"\n") + 1)
    return path


def measure(kind: str, path: str) -> dict[str, Any]:
    """Open a text twice and read windows from it."""
    from charrnn.config import TextConfig
    from charrnn.text.corpus import open_corpus
    from charrnn.text.reading import find_sources
    from charrnn.text.splits import make_splits
    from charrnn.text.streams import Streams

    settings = (
        {"symbols": "bytes"} if kind == "bytes" else {"documents": "lines" if "lines" in kind else "files"}
    )
    with Memory() as memory:
        begun = time.process_time()
        corpus = open_corpus(find_sources([path]), TextConfig(**settings))
        encoded = time.process_time()
        open_corpus(find_sources([path]), TextConfig(**settings))
        found = time.process_time()
        splits = make_splits(corpus, 0.05, 0.05)
        table = corpus.id_table(corpus.training_vocabulary(*splits.train))
        planned = time.process_time()
        streams = Streams(corpus.places, table, *splits.train, BATCH_SIZE, SEQ_LEN)
        count = min(WINDOWS, streams.num_windows)
        for index in range(count):
            streams.window(index)
        read = time.process_time()
    megabytes = Path(path).stat().st_size / 1e6
    return {
        "kind": kind,
        "mb_per_second": megabytes / (encoded - begun),
        "again_mb_per_second": megabytes / (found - encoded),
        "split_and_vocabulary_seconds": planned - found,
        "windows_per_second": count / (read - planned),
        "peak_anonymous_mib": memory.peak / 2**20,
        "bytes_per_symbol_on_disk": corpus.places.itemsize,
    }


class Memory:
    """The largest anonymous resident memory of this process, looked at a hundred times a second."""

    def __enter__(self) -> Memory:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._done.wait(0.01)
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, 1024 * int(status.partition("RssAnon:")[2].split()[0]))


# -- the picture --------------------------------------------------------------------------------


def picture(rows: list[dict[str, Any]]) -> str:
    """Return two charts over the size of the text: speed, and memory."""
    sizes = sorted({round(row["megabytes"]) for row in rows})
    names = [label(60 + 130 * n, 290, f"● {kind}", fill=KINDS[kind]) for n, kind in enumerate(KINDS)]
    charts = [
        *chart(rows, sizes, "mb_per_second", 60, "MB per second of one core"),
        *chart(rows, sizes, "peak_anonymous_mib", 430, "anonymous memory at most, MiB"),
    ]
    return page(760, 300, [*charts, *names])


def chart(rows: list[dict[str, Any]], sizes: list[int], key: str, left: int, title: str) -> list[str]:
    """Return the elements of one chart, from zero to above its largest value."""
    top = 100 * (int(max(row[key] for row in rows)) // 100 + 1)
    step = 300 / max(1, len(sizes) - 1)
    height = {value: 240 - 200 * value / top for value in (0, top // 2, top)}
    parts = [label(left, 22, title, bold=True)]
    for value, y in height.items():
        parts.append(f'<path d="M{left} {y:.0f}h300" stroke="#ddd"/>')
        parts.append(label(left - 6, y + 4, str(value), anchor="end", fill="#666"))
    for number, size in enumerate(sizes):
        parts.append(label(left + step * number, 258, f"{size} MB", anchor="middle", fill="#666"))
    for kind, colour in KINDS.items():
        own = sorted((row["megabytes"], row[key]) for row in rows if row["kind"] == kind)
        points = [(left + step * n, 240 - 200 * value / top) for n, (_, value) in enumerate(own)]
        parts += line(points, colour)
    return parts


if __name__ == "__main__":
    main()
