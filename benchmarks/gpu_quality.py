"""How good a model is after some minutes: the shipped recipes on one device, and nanoGPT on the same.

Training and its evaluation are one point, so that a machine which forgets everything between calls measures
it whole; where the folder of the run is still there, an interrupted training goes on. What takes longer, the
evaluation that learns while it reads, is a point of its own that needs that folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import time_to_quality as timed
import torch
from gpu_book import Point, fingerprint
from quality import ROOT, TEXTS, Recipe, split, train

from charrnn import load

SECONDS = 460.0
TARGET = 1.4697
"""Nats per character on tiny shakespeare's last tenth: the best that nanoGPT's README reports."""
RECIPES = {
    "tinyshakespeare": Recipe("tinyshakespeare.txt", 3, split(0.1, 0)),
    "warpeace": Recipe("warpeace.txt", 5, split(0.1, 0.1), "test"),
    "linux": Recipe("linux-kernel.txt.xz", 5, split(0.05, 0.05), "test"),
    "enwik8": Recipe(
        "enwik8.xz",
        5.5,
        (*split(0.05, 0.05), "--symbols", "bytes", "--preset", "gpu"),
        "test",
        dynamic=False,
    ),
}
"""Split as others split the same text; sizes are the plan's, or the preset's."""
REHEARSED = Recipe("harbour", 0.03, split(0.1, 0), "val")
NANOGPT = ["config/train_shakespeare_char.py", "--log_interval=10"]


def quality_points(name: str, device: torch.device, rehearse: bool) -> Iterator[Point]:
    """Yield what is measured on a text."""
    if name == "nanogpt":
        yield Point("nanogpt", partial(nanogpt, device, rehearse), SECONDS)
        return
    recipe = REHEARSED if rehearse else RECIPES[name]
    recipe = recipe._replace(options=(*recipe.options, "--device", device.type))
    folder = ROOT / "runs" / "gpu-quality" / f"{name}{'-rehearsal' if rehearse else ''}-{fingerprint()}"
    yield Point("trained", partial(trained, folder, recipe, device), SECONDS)
    if recipe.dynamic:
        yield Point("dynamic", partial(dynamic, folder, recipe, device), SECONDS)


def trained(folder: Path, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Train, score, and say when the target was reached."""
    folder.mkdir(parents=True, exist_ok=True)
    done = _kept(folder / "train.json", lambda: train(folder, recipe, "1"))
    found = {"train": done, "evaluate": _evaluate(folder, recipe, device)}
    log = next(folder.glob("runs/*/log.jsonl")).read_text(encoding="utf-8").splitlines()
    curve = timed.our_curve(log, 0.0)
    found |= {"curve": curve, "target": TARGET if recipe.text == "tinyshakespeare.txt" else None}
    return found | {"seconds_to_target": timed.seconds_to(curve, TARGET) if found["target"] else None}


def dynamic(folder: Path, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Score once more with a copy that learns while it reads."""
    if not (folder / "train.json").exists():
        return {"skipped": "the run is not on this machine any more"}
    return {"evaluate": _evaluate(folder, recipe, device, learning=True)}


def _evaluate(folder: Path, recipe: Recipe, device: torch.device, learning: bool = False) -> dict[str, Any]:
    """Score what was kept apart; the baselines run on a processor and belong to other records."""
    loaded = load(next(folder.glob("runs/*/last")).parent, device=device.type)
    found = asdict(loaded.evaluate(split=recipe.split, dynamic=learning, baselines=False))
    return {name: value for name, value in found.items() if name not in ("block_bpc", "baselines")}


def _kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def nanogpt(device: torch.device, rehearse: bool) -> dict[str, Any]:
    """Run nanoGPT's own recipe for this text; losses are what it prints, over random windows."""
    checkout = Path(os.environ.get("NANOGPT", ROOT.parent / "nanoGPT"))
    if not (checkout / "train.py").exists():
        return {"skipped": "NANOGPT names no checkout of nanoGPT"}
    recipe = [*NANOGPT, f"--device={device.type}"]
    if rehearse:
        recipe = [*timed.RECIPE, "--max_iters=4", "--lr_decay_iters=4", "--eval_interval=2", "--eval_iters=2"]
    options = argparse.Namespace(nanogpt=checkout, text=TEXTS / "tinyshakespeare.txt")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "nanogpt"
        timed.copied(options.nanogpt, place)
        timed.prepare(options.text, place / "data" / "shakespeare_char")
        log, ended = timed.follow([sys.executable, "-u", "train.py", *recipe], place, SECONDS - 30)
    looks = timed.parse_log(log)
    found = {
        "recipe": " ".join(recipe),
        "sha256": timed.fingerprint(checkout),
        "ended": ended,
        "printed": looks,
    }
    return found | {"target": TARGET, "seconds_to_target": timed.seconds_to(looks, TARGET, "val")}
