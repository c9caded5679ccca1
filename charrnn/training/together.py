"""From one process's job to the same job in all of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charrnn.config import Config
from charrnn.devices import resolve_device
from charrnn.errors import ConfigError, TextError
from charrnn.text.corpus import Corpus, load_corpus, open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.splits import Splits
from charrnn.text.vocabulary import Vocabulary
from charrnn.training import start
from charrnn.training.distributed import Crew
from charrnn.training.trainer import Job, Trainer


def start_together(
    crew: Crew, begin: Callable[[str | None], Trainer], device: str, precision: str, started: float
) -> Trainer:
    """Return a trainer in every process, all of them at the same point of the same job.

    The first process alone reads the request and the run, and plans. The others find the same text, in the
    cache or under the same path, and are told everything else. After a killed attempt the first one goes on
    from what that one has saved.

    Args:
        crew: The processes.
        begin: What the first one does for a new job: from the run directory that a killed attempt has chosen,
            if there was one, to a trainer.
        device: As for ``start.start``.
        precision: As for ``start.start``.
        started: ``time.monotonic()`` when the command began.

    Raises:
        CharrnnError: What was asked for cannot be had by one of the processes, and so by none.
    """
    trainer = crew.together((lambda: _first(crew, begin, device, precision, started)) if crew.first else None)
    told = crew.tell(None if trainer is None else _describe(trainer))
    for turn in (crew.local_rank == 0, crew.local_rank != 0):  # one reads the text, the rest its cache
        follows = turn and trainer is None
        found = crew.together((lambda: _follow(crew, told, device)) if follows else None)
        trainer = trainer or found
    _check_alike(crew, trainer)
    crew.share(trainer)
    return trainer


def _first(
    crew: Crew, begin: Callable[[str | None], Trainer], device: str, precision: str, started: float
) -> Trainer:
    chosen = crew.recall("folder")
    if chosen is not None and crew.recall("saved") is not None:
        trainer = start.resume(chosen, device=device, precision=precision, started=started, team=crew)
    else:
        # a path, also where the run directory's name alone would mean one below `runs/`
        trainer = begin(None if chosen is None else os.path.join(os.curdir, chosen))
    check_shareable(trainer.job.config, crew.size)
    crew.remember("folder", str(trainer.job.folder))
    return trainer


def _check_alike(crew: Crew, trainer: Trainer) -> None:
    """Refuse GPUs of which one cannot do what the others do: gradients of another scale would be added up."""
    found = sorted(set(crew.collect(trainer.precision)))
    if len(found) > 1:
        words = ", ".join(found)
        raise ConfigError(f"the processes would compute differently: {words}", "`--precision fp32`")


def check_shareable(config: Config, size: int) -> None:
    """Refuse what several processes would not do exactly as one does.

    Raises:
        ConfigError: There are fewer rows than processes, a readout is fitted in one pass, or masks of one row
            depend on what the others read.
    """
    model, training = config.model, config.training
    if training.batch_size < size:
        raise ConfigError(
            f"`training.batch_size` is `{training.batch_size}`, too few rows for {size} processes",
            f"`--batch-size {size}` or more",
        )
    if training.readout == "ridge":
        raise ConfigError(
            "`training.readout` is `ridge`, which is fitted by one process",
            "leave `--processes` out, or `--set training.readout=gradient`",
        )
    if model.cell == "compressor" and model.num_layers > 1 and model.dropout:
        raise ConfigError(
            "dropout between the layers of a `compressor` cannot be shared by several processes",
            "`--dropout 0` or `--num-layers 1`",
        )


def _describe(trainer: Trainer) -> dict[str, Any]:
    job = trainer.job
    return {
        "folder": str(job.folder),
        "config": job.config.to_json(),
        "key": job.corpus.info["key"],
        "splits": job.splits.to_json(),
        "vocabulary": job.vocabulary.to_json(),
        "texts": list(job.texts),
        "precision": trainer.precision,
    }


def _follow(crew: Crew, told: dict[str, Any], device: str) -> Trainer:
    """Return a trainer for the job of the first process; its weights are still to come."""
    config, texts = Config.from_json(told["config"]), tuple(told["texts"])
    corpus = _same_text(told["key"], texts, config)
    vocabulary = Vocabulary.from_json(told["vocabulary"])
    job = Job(Path(told["folder"]), config, corpus, Splits.from_json(told["splits"]), vocabulary, texts)
    return Trainer(job, resolve_device(device), told["precision"], team=crew)


def _same_text(key: str, texts: tuple[str, ...], config: Config) -> Corpus:
    found = load_corpus(key)
    if found is None and "-" not in texts:
        found = open_corpus(find_sources(texts), config.text)
    if found is None or found.info["key"] != key:
        raise TextError(
            f"the text of this training is not on `{socket.gethostname()}`, or is another one there",
            "every machine needs it under the same path, or the same CHARRNN_CACHE",
        )
    return found
