"""Train the run that comes with the program, and keep what inspection finds in it.

    python benchmarks/demo_run.py

The text is Python's own library (PSF licence). Which of its files were trained on is kept with the weights,
so that inspection can read others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from quality import ROOT, machine

from charrnn.api import load
from charrnn.inspection.store import write_findings
from charrnn.runs import load_tensors, save_tensors
from charrnn.text import corpora
from charrnn.text.corpus import load_corpus

TRAIN = [
    "train",
    "stdlib",
    "--hidden-size",
    "384",
    "--steps",
    "6000",
    "--optimizer",
    "adamw",
    "--seed",
    "1",
    "--run",
    "demo",
    "--json",
]
DEMO = ROOT / "charrnn" / "demo"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "charrnn", *TRAIN], cwd=folder, check=True, stdout=subprocess.PIPE
        )
        keep(Path(folder, "runs", "demo", "best", "model.safetensors"))
    record = machine() | {"command": " ".join(["charrnn", *TRAIN]), "train": json.loads(done.stdout)}
    (ROOT / "benchmarks" / "records" / "demo.json").write_text(json.dumps(record, indent=1) + "\n")


def keep(model: Path) -> None:
    """Copy the weights with the names of the files they have seen, and inspect them."""
    tensors, header = load_tensors(model)
    root = Path(sysconfig.get_path("stdlib"))
    names = [path.relative_to(root).as_posix() for path in corpora.locate(corpora.find("stdlib"))]
    header["corpus"]["seen"] = names[: trained_on(header["corpus"])]
    save_tensors(DEMO / "model.safetensors", tensors, header)
    write_findings(DEMO / "findings.json", load(DEMO / "model.safetensors").inspect_neurons())


def trained_on(record: dict) -> int:
    """Return the number of documents, which are files, in the training split."""
    return sum(1 for _ in load_corpus(record["key"]).documents(*record["splits"]["train"]))


if __name__ == "__main__":
    main()
