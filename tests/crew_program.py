"""What tests/test_distributed.py starts: jobs, one after the other, done by several processes together.

    python tests/crew_program.py JOBS.json SIZE

Importing torch takes seconds, so it is done once, and the processes are forked. Each writes
``JOBS.json.<rank>``: for each job a digest of all that it holds in the end, its rows and what it has read of
the text, its notices, and what went wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torture.work import in_child, outcome

from charrnn.errors import CharrnnError
from charrnn.events import NoticeEvent, StepEvent
from charrnn.model.network import Network
from charrnn.training import start
from charrnn.training.distributed import Crew, joined
from charrnn.training.ranks import Rank
from charrnn.training.state import pack_trainer
from charrnn.training.together import start_together
from charrnn.training.trainer import Trainer


def main(path: Path, size: int) -> None:
    store = str(path.with_name(f"store-{size}"))
    places = [Rank(rank, size, rank, 0, store) for rank in range(size)]
    children = [in_child(lambda place=place: work(path, place)) for place in places]
    codes = [outcome(child) for child in children]
    sys.exit(f"exit codes {codes}" if any(codes) else 0)


def work(path: Path, place: Rank) -> None:
    jobs = json.loads(path.read_text())
    with joined(place, "cpu") as crew:
        results = [attempt(crew, job) for job in jobs]
    path.with_name(f"{path.name}.{place.rank}").write_text(json.dumps(results))


def attempt(crew: Crew, job: dict[str, Any]) -> dict[str, Any]:
    crew.memory = dist.HashStore()  # each job is a new one
    try:
        return train(crew, job)
    except CharrnnError as error:
        return {"error": error.message}


def train(crew: Crew, job: dict[str, Any]) -> dict[str, Any]:
    def begin(folder: str | None) -> Trainer:
        if "resume" in job:
            return start.resume(job["resume"], device="cpu", team=crew)
        return start.start(job["texts"], run=job["run"], settings=job["settings"], device="cpu", team=crew)

    trainer = start_together(crew, begin, "cpu", "auto", time.monotonic())
    places = NotedReads(trainer.streams.places)
    trainer.streams = trainer.feed.streams = replace(trainer.streams, places=places)
    notices = []
    with poisoned(job.get("poison_step", math.inf), crew.rank == 1):
        for event in trainer.events():
            if isinstance(event, NoticeEvent):
                notices.append(event.message)
            if isinstance(event, StepEvent):
                act(trainer, job, event.step)
    rows = trainer.streams.rows
    edges = (rows.start, rows.stop - 1, rows.stop)
    own = [trainer.streams.start + row * trainer.streams.row_length for row in edges]
    found = {"rows": list(rows), "own": own, "read": [places.begin, places.end]}
    return found | {"digest": digest(trainer), "notices": notices}


class NotedReads:
    """The places of a corpus, and between which of them was read."""

    def __init__(self, places: np.ndarray) -> None:
        self.places, self.begin, self.end = places, len(places), 0

    def __getitem__(self, part: slice) -> np.ndarray:
        self.begin, self.end = min(self.begin, part.start), max(self.end, part.stop)
        return self.places[part]


def act(trainer: Trainer, job: dict[str, Any], step: int) -> None:
    crew = trainer.team
    if crew.first and step == job.get("stop_at"):
        trainer.request_stop()
    if crew.rank == 1 and step == job.get("disturb_step"):
        with torch.no_grad():
            trainer.network.readout.bias[0] += 1e-6


@contextmanager
def poisoned(step: float, here: bool):
    """Make the loss of one process no number from a step on."""
    real, calls = Network.loss, []

    def loss(*args, **kwargs):
        calls.append(1)
        value, state = real(*args, **kwargs)
        return value * (math.nan if here and len(calls) >= step else 1.0), state

    Network.loss = loss
    try:
        yield
    finally:
        Network.loss = real


def digest(trainer: Trainer) -> str:
    """Return a hash of weights, optimizer and average: all that must be the same in every process."""
    found = hashlib.sha256()
    tensors, _ = pack_trainer(
        trainer.network, trainer.optimizer, (), trainer.counters, trainer.average.tensors()
    )
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
