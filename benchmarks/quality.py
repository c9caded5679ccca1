"""Train for some minutes, measure what was reached, and keep a record.

    python benchmarks/quality.py tinyshakespeare linux stdlib [--seed 1 2 3] [--out DIR]
    python benchmarks/quality.py enwik8-15 --minutes 0.2 --out /tmp/rehearsal

Texts that are not ours are read from the folder in CHARRNN_TEXTS (default: ../shared/data). A record that is
there already, from the same commit and minutes, is left as it is, and a training that was interrupted goes
on: the same command again finishes the job.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TEXTS = Path(os.environ.get("CHARRNN_TEXTS", ROOT.parent / "shared" / "data"))
RECORDS = ROOT / "benchmarks" / "records"
LINUX_BYTES = 3_000_000
STRONG, GAIN = 0.45, 0.20
"""A neuron counts if |r| reaches the first, and is above the untrained twin's by the second."""
CONTROLS = "is_"
NAMED = ("tracks", "used", "drives", "redundant")


class Recipe(NamedTuple):
    """What a record is made of."""

    text: str
    """A file in the folder of texts, or the name of a corpus."""
    minutes: float
    options: tuple[str, ...] = ()
    """Further words for ``charrnn train``."""
    split: str = "val"
    """What is scored."""
    size: int | None = None
    """Read this many bytes of the text only."""
    dynamic: bool = True
    """Whether it is scored once more by a copy that learns while it reads."""
    neurons: bool = False
    """Whether neurons are inspected too."""


def split(val: float, test: float) -> tuple[str, ...]:
    return ("--val-fraction", str(val), "--test-fraction", str(test))


LONG_WINDOWS = ("--newlines", "lf", "--seq-len", "128", "--batch-size", "16")
RECIPES = {
    "tinyshakespeare": Recipe("tinyshakespeare.txt", 3, split(0.1, 0)),
    "tinyshakespeare-15": Recipe("tinyshakespeare.txt", 15, split(0.1, 0)),
    "warpeace-15": Recipe("warpeace.txt", 15, split(0.1, 0.1), "test"),
    "linux-15": Recipe("linux-kernel.txt.xz", 15, split(0.05, 0.05), "test"),
    "enwik8-15": Recipe("enwik8.xz", 15, (*split(0.05, 0.05), "--symbols", "bytes"), "test", dynamic=False),
    "linux": Recipe("linux-kernel.txt.xz", 5, size=LINUX_BYTES, dynamic=False, neurons=True),
    "linux-long": Recipe("linux-kernel.txt.xz", 75, ("--hidden-size", "512"), dynamic=False, neurons=True),
    "stdlib": Recipe("stdlib", 4, dynamic=False, neurons=True),
    "warpeace": Recipe("warpeace.txt", 10, dynamic=False, neurons=True),
    "warpeace-t128": Recipe("warpeace.txt", 10, LONG_WINDOWS, dynamic=False, neurons=True),
}
"""Those that end in -15 are split as others split the same text, so that their figures can stand beside."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=sorted(RECIPES), metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--minutes", type=float, help="other than the recipe's: a rehearsal; needs --out")
    parser.add_argument("--out", type=Path, help="folder of the records")
    options = parser.parse_args()
    if options.minutes is not None and options.out is None:
        parser.error("--minutes needs an --out of its own: records hold the recipe's minutes")
    out = options.out or RECORDS
    out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        recipe = RECIPES[name]._replace(**({"minutes": options.minutes} if options.minutes else {}))
        for seed in options.seed:
            path = out / f"{name}-seed{seed}.json"
            asked = {"recipe": name, "seed": seed, "minutes": recipe.minutes}
            if not is_done(path, asked):
                measure(recipe, asked, path)
            print(path)


def is_done(path: Path, asked: dict[str, Any]) -> bool:
    """Say whether a record of the same question and commit is there; records in the tree make it dirty."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = record.get("commit", "").removesuffix("-dirty") == commit().removesuffix("-dirty")
    return same and all(record.get(key) == value for key, value in asked.items())


def measure(recipe: Recipe, asked: dict[str, Any], path: Path) -> None:
    """Train, or go on with what was begun, score and inspect; the work's folder is gone afterwards."""
    record = machine() | asked
    place = "-".join(str(part) for part in (*asked.values(), record["commit"].removesuffix("-dirty")))
    folder = ROOT / "runs" / "quality" / place
    folder.mkdir(parents=True, exist_ok=True)
    record["train"] = train(folder, recipe, str(asked["seed"]))
    chosen = ["--split", recipe.split, *(["--dynamic"] if recipe.dynamic else [])]
    record["evaluate"] = run(folder, "evaluate", *chosen)
    record["log"] = looks(folder)
    record |= neurons(folder) if recipe.neurons else {}
    record["load_after"] = os.getloadavg()[0]
    path.write_text(as_text(record), encoding="utf-8")
    shutil.rmtree(folder)


def as_text(record: dict[str, Any]) -> str:
    """Return JSON with lists of numbers on one line."""
    text = json.dumps(record, indent=1) + "\n"
    return re.sub(r"\[[^][{}\"]*]", lambda found: " ".join(found[0].split()), text)


def train(folder: Path, recipe: Recipe, seed: str) -> dict[str, Any]:
    """Train in a folder, or resume what an earlier call began there."""
    words = ["train", text_of(folder, recipe), *recipe.options]
    words += ["--minutes", f"{recipe.minutes:g}", "--seed", seed]
    begun = next(folder.glob("runs/*/last"), None)
    if begun is None:
        return run(folder, *words)
    return run(folder, "train", "--resume", str(begun.parent)) | {"command": shown(words), "resumed": True}


def looks(folder: Path) -> list[list[float]]:
    """Return step, seconds and nats a character of every look at the validation split."""
    lines = next(folder.glob("runs/*/log.jsonl")).read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "eval"]
    return [[event["step"], round(event["seconds"], 1), round(event["loss"], 5)] for event in events]


def text_of(folder: Path, recipe: Recipe) -> str:
    """Return a corpus's name or a text's path; packed or cut ones are written to the folder."""
    path = TEXTS / recipe.text
    if not path.suffix:
        return recipe.text
    if path.suffix != ".xz" and recipe.size is None:
        return str(path)
    text = folder / path.name.removesuffix(".xz")
    if not text.exists():
        part = text.with_suffix(".part")
        with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as packed:
            part.write_bytes(packed.read(recipe.size if recipe.size is not None else -1))
        part.rename(text)
    return str(text)


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
    return {"command": shown(arguments), **json.loads(done.stdout)}


def shown(arguments: Iterable[str]) -> str:
    return " ".join(Path(a).name if os.sep in a else a for a in ("charrnn", *arguments))


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
        "commit": commit(),
    }


def commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git, and so no history
        return ""


if __name__ == "__main__":
    main()
