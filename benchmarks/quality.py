"""Train for a few minutes, measure what was reached, and keep a record.

    python benchmarks/quality.py tinyshakespeare linux stdlib [--seed 1] [--out DIR]

Texts that are not ours are read from the folder in CHARRNN_TEXTS (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEXTS = Path(os.environ.get("CHARRNN_TEXTS", ROOT.parent / "shared" / "data"))
LINUX_BYTES = 3_000_000
STRONG, GAIN = 0.45, 0.20
"""A neuron counts if |r| reaches the first, and is above the untrained twin's by the second."""
CONTROLS = "is_"
NAMED = ("tracks", "used", "drives", "redundant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=sorted(RECIPES))
    parser.add_argument("--seed", default="1")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records")
    options = parser.parse_args()
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            record = machine() | {"recipe": name, "seed": int(options.seed)}
            record |= RECIPES[name](Path(folder), options.seed)
        record["load_after"] = os.getloadavg()[0]
        path = options.out / f"{name}-seed{options.seed}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(path)


def tinyshakespeare(folder: Path, seed: str) -> dict[str, Any]:
    """Three minutes on nanoGPT's split: the last 111,540 characters are scored."""
    text = TEXTS / "tinyshakespeare.txt"
    train = run(folder, "train", str(text), *split(0.1, 0), "--minutes", "3", "--seed", seed)
    return {"train": train, "evaluate": run(folder, "evaluate")}


def linux(folder: Path, seed: str) -> dict[str, Any]:
    """Five minutes on 3 MB of Linux sources: which neurons track structure?"""
    text = folder / "linux.c"
    with lzma.open(TEXTS / "linux-kernel.txt.xz") as packed:
        text.write_bytes(packed.read(LINUX_BYTES))
    train = run(folder, "train", str(text), "--minutes", "5", "--seed", seed)
    return {"train": train, "evaluate": run(folder, "evaluate"), **neurons(folder)}


def stdlib(folder: Path, seed: str) -> dict[str, Any]:
    """Four minutes on the default corpus, as `make demo` does it."""
    train = run(folder, "train", "stdlib", "--minutes", "4", "--seed", seed)
    return {"train": train, "evaluate": run(folder, "evaluate"), **neurons(folder)}


def linux_long(folder: Path, seed: str) -> dict[str, Any]:
    """All 6 MB of Linux sources and a wider network: are the cells of the 2015 paper found again?"""
    text = folder / "linux.c"
    with lzma.open(TEXTS / "linux-kernel.txt.xz") as packed:
        text.write_bytes(packed.read())
    size = ("--hidden-size", "512", "--minutes", "75")
    train = run(folder, "train", str(text), *size, "--seed", seed)
    return {"train": train, "evaluate": run(folder, "evaluate"), **neurons(folder)}


def warpeace(folder: Path, seed: str) -> dict[str, Any]:
    """Ten minutes of War and Peace: quotations and line length."""
    train = run(folder, "train", str(TEXTS / "warpeace.txt"), "--minutes", "10", "--seed", seed)
    return {"train": train, "evaluate": run(folder, "evaluate"), **neurons(folder)}


RECIPES = {
    "tinyshakespeare": tinyshakespeare,
    "linux": linux,
    "linux-long": linux_long,
    "stdlib": stdlib,
    "warpeace": warpeace,
}


def split(val: float, test: float) -> list[str]:
    return ["--val-fraction", str(val), "--test-fraction", str(test)]


def neurons(folder: Path) -> dict[str, Any]:
    found = run(folder, "inspect", "neurons")
    rows = [of_row(row) for row in found["rows"]]
    strong = [row for row in rows if is_strong(row)]
    return {
        "inspect": {key: found[key] for key in ("chars", "documents", "split_by", "null_units", "null_by")},
        "strong_hypotheses": [row["hypothesis"] for row in strong],
        "strong_neurons": sorted({row["neuron"] for row in strong}),
        "rows": rows,
    }


def of_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a row: its figures, the cost of holding the neuron, and that of the controls."""
    keys = ("hypothesis", "neuron", "r", "r_within_char", "r_untrained", "ap", "prevalence", "q", "verdict")
    kept = {key: row[key] for key in (*keys, "delta_on_bpc", "delta_off_bpc")}
    kept["f1"] = row["measures"]["f1"] if row["measures"] else None
    kept["controls_on"] = row["cause"]["alone"]["controls_on"] if row["cause"] else None
    if row["steering"]:
        settings = {name: row["steering"][name] for name in ("free", "high", "low")}
        kept["steering"] = {name: {**s, "sample": None} for name, s in settings.items()}
    return kept


def is_strong(row: dict[str, Any]) -> bool:
    if row["neuron"] is None or row["hypothesis"].startswith(CONTROLS) or row["verdict"] not in NAMED:
        return False
    return abs(row["r"]) >= STRONG and abs(row["r"]) - abs(row["r_untrained"]) >= GAIN


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command with --json in a folder and return its object, with the command itself."""
    command = [sys.executable, "-m", "charrnn", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    shown = " ".join(Path(a).name if os.sep in a else a for a in ("charrnn", *arguments))
    return {"command": shown, **json.loads(done.stdout)}


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "date": date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": version("torch"),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
    }


if __name__ == "__main__":
    main()
