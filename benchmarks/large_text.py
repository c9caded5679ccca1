"""A text far larger than memory, trained on, evaluated and inspected, and very many files: its memory.

    python benchmarks/large_text.py [--megabytes 2000] [--files 100000]

The text is made here from a seed: sentences of a Markov chain over 2,000 made-up words, with quotations,
brackets, numbers and paragraphs. Every stage is a command of its own, watched from outside: memory is the
largest anonymous resident memory (RssAnon, Linux), looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RECORD = Path(__file__).parent / "records" / "large-text.json"
LIMIT_BYTES = 1_000_000_000
WORDS, FOLLOWERS = 2000, 12
ROWS, ROW_WORDS = 4096, 24
TRAINING = (
    *("--steps", "300", "--hidden-size", "64", "--batch-size", "32", "--seq-len", "64"),
    *("--val-fraction", "0.002", "--test-fraction", "0.002", "--set", "training.num_evals=2"),
)
FEW_STEPS = ("--steps", "20", "--hidden-size", "32")
FILE_BYTES = 400
MAX_DESCRIPTORS = 64
TOLD = (
    "steps",
    "best_val_bpc",
    "chars",
    "bpc",
    "baselines",
    "baselines_saw",
    "documents",
    "hypotheses_tested",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2000, help="of text; 0 leaves this out")
    parser.add_argument("--files", type=int, default=100_000, help="small files; 0 leaves this out")
    parser.add_argument("--seed", type=int, default=1, help="of the text")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    from charrnn.bench.machine import facts

    record = facts() | {"seed": options.seed, "limit_megabytes": LIMIT_BYTES / 1e6}
    record["rows"] = large_text(options.megabytes, options.seed) if options.megabytes else []
    record["rows"] += many_files(options.files, options.seed) if options.files else []
    options.out.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
    sys.exit("; ".join(filter(None, map(wrong_with, record["rows"]))) or 0)


def large_text(megabytes: int, seed: int = 1) -> list[dict[str, Any]]:
    """Train on, evaluate and inspect a text of a size, and return a row for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        begun = time.monotonic()
        write_text(path, megabytes * 1_000_000, seed)
        rows = [{"stage": "make the text", "megabytes": megabytes, "seconds": time.monotonic() - begun}]
        stages = {
            "train": ("train", str(path), "--run", f"{folder}/run", *TRAINING),
            "evaluate": ("evaluate", f"{folder}/run"),
            "inspect": ("inspect", "neurons", f"{folder}/run"),
        }
        for stage, words in stages.items():
            rows.append({"stage": stage, "megabytes": megabytes} | watched(Path(folder), *words))
            print(json.dumps(rows[-1]), flush=True)
        return rows


def many_files(number: int, seed: int = 1) -> list[dict[str, Any]]:
    """Train a few steps on a fourth of the files and on all, and return a row for each."""
    rows = []
    for count in (number // 4, number):
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder) / "files", count, seed)
            words = ("train", f"{folder}/files", "--run", f"{folder}/run", *FEW_STEPS)
            rows.append({"stage": "train", "files": count} | watched(Path(folder), *words))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def watched(folder: Path, *words: str) -> dict[str, Any]:
    """Run a command of charrnn to its end and return its time, memory, and open files."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CHARRNN_CACHE": f"{folder}/cache"}
    command = [sys.executable, "-m", "charrnn", *words, "--json"]
    begun, before = time.monotonic(), processor_seconds()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)
        memory = descriptors = 0
        while process.poll() is None:
            memory = max(memory, anonymous_bytes(process.pid))
            descriptors = max(descriptors, open_files(process.pid))
            time.sleep(0.05)
    row = {"seconds": round(time.monotonic() - begun, 1), "code": process.returncode}
    row["processor_seconds"] = round(processor_seconds() - before, 1)
    row |= {"peak_anonymous_megabytes": round(memory / 1e6), "descriptors": descriptors}
    if process.returncode:
        return row | {"error": (folder / "err").read_text(errors="replace")[-500:]}
    told = json.loads((folder / "out").read_bytes())
    return row | {key: told[key] for key in TOLD if key in told}


def processor_seconds() -> float:
    """Return the time that processors have spent on commands which have ended."""
    used = os.times()
    return used.children_user + used.children_system


def anonymous_bytes(process: int) -> int:
    """Return the anonymous resident memory of a process; 0 once it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return 1024 * int((status.partition("RssAnon:")[2].split() or ["0"])[0])


def open_files(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0


def wrong_with(row: dict[str, Any]) -> str:
    """Return which promise a row breaks, or nothing."""
    if row.get("code"):
        return f"{row['stage']} ended with {row['code']}: {row['error']}"
    if row.get("peak_anonymous_megabytes", 0) > LIMIT_BYTES / 1e6:
        return f"{row['stage']} took {row['peak_anonymous_megabytes']} MB"
    if row.get("descriptors", 0) > MAX_DESCRIPTORS:
        return f"{row['stage']} had {row['descriptors']} files open"
    return ""


# -- the text -----------------------------------------------------------------------------------


def write_text(path: Path, size: int, seed: int) -> None:
    """Write a text of about a size, always the same for a seed."""
    with path.open("wb") as file:
        for block in blocks(seed):
            file.write(block[: max(0, size - file.tell())])
            if file.tell() >= size:
                return


def write_files(folder: Path, number: int, seed: int) -> None:
    """Write small files into subfolders of a hundred."""
    stock = next(blocks(seed))
    for index in range(number):
        if index % 100 == 0:
            (folder / f"{index // 100:04}").mkdir(parents=True)
        begin = index * 211 % (len(stock) - FILE_BYTES)
        (folder / f"{index // 100:04}" / f"{index:06}.txt").write_bytes(stock[begin : begin + FILE_BYTES])


def blocks(seed: int) -> Iterator[bytes]:
    """Yield text without end, about half a megabyte at a time."""
    random = np.random.Generator(np.random.Philox(key=seed))
    words = made_up(random)
    followers = random.integers(0, WORDS, (WORDS, FOLLOWERS))
    current = random.integers(0, WORDS, ROWS)
    while True:
        rows = np.empty((ROWS, ROW_WORDS), dtype=np.int64)
        for place in range(ROW_WORDS):
            current = followers[current, random.integers(0, FOLLOWERS, ROWS)]
            rows[:, place] = current
        shapes = random.integers(0, len(SHAPES), ROWS).tolist()
        yield b"".join(
            SHAPES[shape] % tuple(map(words.__getitem__, row))
            for shape, row in zip(shapes, rows.tolist(), strict=True)
        )


def made_up(random: np.random.Generator) -> list[bytes]:
    """Return words of one to four syllables, the first of them short and frequent."""
    syllables = [consonant + vowel for consonant in (*"bdfgklmnprstv", "ch", "sh") for vowel in "aeiou"]
    lengths = 1 + np.arange(WORDS) * 4 // WORDS
    return ["".join(random.choice(syllables, length)).encode() for length in lengths]


_PLAIN = b" ".join([b"%s"] * 12)
SHAPES = (
    _PLAIN + b",\n" + _PLAIN + b".\n",
    _PLAIN + b";\n" + _PLAIN + b".\n\n",
    b'%s %s %s %s: "' + _PLAIN + b'?"\n%s %s (%s %s %s) %s %s %s.\n',
    b"%s %s %s (" + b" ".join([b"%s"] * 6) + b") %s %s %s\n" + _PLAIN + b" 1984.\n",
    b"    %s(%s, %s)\n        " + b" ".join([b"%s"] * 9) + b".\n" + _PLAIN + b"!\n",
)


if __name__ == "__main__":
    main()
