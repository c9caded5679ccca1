"""From what a user asked for to a trainer: a new run, or one that continues."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from charrnn.config import Config, build_config
from charrnn.devices import resolve_device, resolve_precision
from charrnn.errors import CheckpointError, RunError
from charrnn.files import stamp
from charrnn.runs import (
    TRAINER,
    Checkpoint,
    find_checkpoint,
    find_corpus,
    find_run,
    load_checkpoint,
    load_record,
    new_run_directory,
)
from charrnn.text import corpora
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.splits import Splits, count_characters, make_splits
from charrnn.training.changes import changed_config
from charrnn.training.checks import check_place, check_settings
from charrnn.training.distributed import ALONE, Team
from charrnn.training.job import Job
from charrnn.training.plan import check_validation, make_plan
from charrnn.training.ridge import RidgeTrainer
from charrnn.training.trainer import Trainer
from charrnn.training.warm_start import extended_vocabulary, origin_of, warm_network


def start(
    texts: Sequence[str],
    *,
    run: str | None = None,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    preset: str | None = None,
    config_file: str | Path | None = None,
    init_from: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    started: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
    team: Team = ALONE,
) -> Trainer:
    """Return a trainer for a new run; nothing is written before its first event.

    Args:
        texts: Files, folders, globs, ``-`` or corpus names; none means ``stdlib``.
        run: Name under ``runs/`` or a path; None picks a free name after the text.
        overwrite: Whether a directory that holds a run may be used.
        settings: ``"section.name"`` to value, as in ``--set``.
        preset: Name of a preset.
        config_file: TOML with settings.
        init_from: A run whose weights to begin with.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` or ``fp32``; on CUDA ``tf32``, ``fp16`` or ``bf16`` too.
        started: ``time.monotonic()`` when the command began.
        progress: Called with the share of the text that is read.
        team: The processes that this one is the first of (``together.start_together``).

    Raises:
        CharrnnError: Anything that was asked for cannot be had; nothing has been changed on disk.
    """
    started = time.monotonic() if started is None else started
    texts = list(texts) or ["stdlib"]
    base = load_checkpoint(find_checkpoint(init_from)) if init_from else None
    suggested = _suggested(texts) | _inherited(base)
    config = build_config(preset=preset, file=config_file, values=settings, suggested=suggested)
    where = resolve_device(device)
    number_format = resolve_precision(precision, where)
    folder = new_run_directory(run, _run_name(texts), overwrite)
    found = stamp(folder / "last" / TRAINER)
    corpus = open_corpus(find_sources(texts), config.text, progress=progress)
    splits = make_splits(corpus, config.text.val_fraction, config.text.test_fraction)
    vocabulary = corpus.training_vocabulary(*splits.train)
    if base is not None:
        vocabulary = extended_vocabulary(base, vocabulary)
    chars = (count_characters(corpus, part) for part in (splits.train, splits.val))
    config = make_plan(config, *chars, len(vocabulary), where.type)
    check_validation(config, splits)
    named = tuple(_absolute(text) for text in texts)
    job = Job(folder, config, corpus, splits, vocabulary, named, origin_of(base) if base is not None else ())
    initial = warm_network(base, config, vocabulary) if base is not None else None
    return _trainer(config)(job, where, number_format, started, initial, found, team)


def resume(
    run: str,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: str = "auto",
    started: float | None = None,
    team: Team = ALONE,
) -> Trainer:
    """Return a trainer that continues a run with its own corpus, settings and budget.

    Args:
        run: A run directory or its name.
        settings: Those of ``MAY_CHANGE`` that shall have other values from here on; a budget that is named
            takes the place of all that the run had.
        device: As for ``start``.
        precision: As for ``start``.
        started: As for ``start``.
        team: As for ``start``.

    Raises:
        RunError: There is no such run, or its text cannot be found any more.
        CheckpointError: Its checkpoint is damaged.
        ConfigError: A setting has no valid value, or cannot change.
    """
    started = time.monotonic() if started is None else started
    folder = find_run(run)
    found = stamp(folder / "last" / TRAINER)
    record = load_record(folder)
    corpus = find_corpus(record)
    if corpus is None:
        raise RunError(
            f"the text of `{run}` cannot be found any more, or has changed", "train a new run on it"
        )
    try:
        splits = Splits.from_json(record.corpus["splits"])
        texts = tuple(record.corpus["texts"])
        origin = tuple(record.corpus.get("init_from", ()))
    except (KeyError, TypeError):
        raise CheckpointError(f"`{folder}` does not say what it was trained on") from None
    check_settings(record.config.training)
    config = changed_config(record.config, settings or {})
    check_validation(config, splits)
    where = resolve_device(device)
    job = Job(folder, config, corpus, splits, record.vocabulary, texts, origin)
    precision = resolve_precision(precision, where)
    trainer = _trainer(config)(job, where, precision, started, found=found, team=team)
    trainer.resume(record.config)
    check_place(trainer.counters, trainer.streams.row_length)
    return trainer


def _trainer(config: Config) -> type[Trainer]:
    return RidgeTrainer if config.training.readout == "ridge" else Trainer


def _suggested(texts: Sequence[str]) -> dict[str, Any]:
    """Return the split and the kind of symbol that a single known corpus comes with."""
    known = corpora.catalogue()
    if len(texts) != 1 or texts[0] not in known or Path(texts[0]).exists():
        return {}
    entry = known[texts[0]]
    return {
        "text.symbols": entry.symbols,
        "text.val_fraction": entry.val_fraction,
        "text.test_fraction": entry.test_fraction,
    }


def _inherited(base: Checkpoint | None) -> dict[str, Any]:
    """Return the settings that a warm start takes over: the shape of the network and the symbols."""
    if base is None:
        return {}
    model = base.config.to_json()["model"]
    return {f"model.{name}": value for name, value in model.items()} | {
        "text.symbols": base.config.text.symbols
    }


def _run_name(texts: Sequence[str]) -> str:
    first = "stdin" if texts[0] == "-" else Path(texts[0]).stem
    return re.sub(r"[^\w.-]+", "-", first).strip("-.")[:60] or "run"


def _absolute(text: str) -> str:
    """Return a path that still means the same from another working directory."""
    return (
        text
        if text == "-" or (text in corpora.catalogue() and not Path(text).exists())
        else str(Path(text).absolute())
    )
