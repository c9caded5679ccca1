"""Starting several processes, and finding them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("crew_program.py")
ALONE = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
"""What must not come from the environment of the tests."""
FLAGS = {
    "model.hidden_size": "--hidden-size",
    "model.num_layers": "--num-layers",
    "model.dropout": "--dropout",
    "training.batch_size": "--batch-size",
    "training.seq_len": "--seq-len",
    "training.steps": "--steps",
}


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ALONE} | more


def run_crew(size: int, folder: Path, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Do jobs in several processes; return for each job what every process found."""
    path = folder / f"jobs-{size}.json"
    path.write_text(json.dumps(jobs))
    command = [sys.executable, str(PROGRAM), str(path), str(size)]
    done = subprocess.run(
        command, env=environment(GLOO_SOCKET_IFNAME="lo"), stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.with_name(f"{path.name}.{rank}").read_text()) for rank in range(size)]
    return [list(of_job) for of_job in zip(*found, strict=True)]


def train_command(text: str, run: Path, settings: dict[str, Any], *more: str) -> list[str]:
    """Return the command that trains with settings."""
    flags = [f"{FLAGS[k]}={v}" if k in FLAGS else f"--set={k}={v}" for k, v in settings.items()]
    return [sys.executable, "-m", "charrnn", "train", text, "--run", str(run), *flags, *more]


def worker_of(launcher: int, rank: int) -> int:
    """Return the id of a process that a launcher has started, by its rank (Linux)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if parent == launcher and f"RANK={rank}".encode() in variables:
            return int(entry.name)
    raise LookupError(rank)


def wait_for(what, seconds: float = 240.0):
    """Return what a function returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def logged(run: Path, event: str) -> int:
    """Return how many events of a kind a run has logged."""
    log = run / "log.jsonl"
    return log.read_text().count(f'"event": "{event}"') if log.exists() else 0
