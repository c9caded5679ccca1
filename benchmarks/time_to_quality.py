"""How long it takes to reach a loss: nanoGPT's CPU recipe and ours on the same text, machine and hour.

    python benchmarks/time_to_quality.py --nanogpt CHECKOUT [--text FILE] [--minutes 3] [--repeats 3]
    python benchmarks/time_to_quality.py --draw [--out RECORD]

nanoGPT's code is not here: CHECKOUT is yours, and is copied, not changed. The two run one after the other,
each with all cores, and the order alternates. Seconds count from the start of each command, the import of
torch included; preparing the text is included in ours and left out of nanoGPT's.

Both losses are over the whole last tenth of the text, every character once: ours as training logs it, with
the state carried; nanoGPT's for every checkpoint that it saves, in windows of `block_size` characters that
advance by STRIDE and are charged for their last STRIDE, so that every character has at least
`block_size` - STRIDE + 1 before it (the first ones from the end of the training part). What nanoGPT prints
itself, a mean over random windows, is kept beside it. Its seed is fixed in its code; ours is `--seed`, then
one more a repeat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from quality import RECORDS, ROOT, TEXTS, machine, run, split
from svg import label, line, page

RECIPE = ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20"]
RECIPE += ["--log_interval=1", "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4"]
RECIPE += ["--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"]
"""What the README of nanoGPT recommends for a computer without a GPU."""
STRIDE = 16
BATCH = 128
TARGETS = (1.88, 1.60)
"""Nats per character: what nanoGPT's README promises for its recipe, and what ours is asked for."""
COLOURS = {"nanogpt": "#b2182b", "ours": "#2166ac"}
NAMES = {"nanogpt": "nanoGPT, its recipe for a CPU", "ours": "charrnn train"}

_LOOK = re.compile(r"step (\d+): train loss ([\d.]+), val loss ([\d.]+)")
_STEP = re.compile(r"iter (\d+): loss [\d.]+, time ([\d.]+)ms")


def main() -> None:
    options = parse()
    if options.score:
        with redirect_stdout(sys.stderr):  # nanoGPT's model.py prints
            losses = score_checkpoints(Path(options.score))
        print(json.dumps(losses))
        return
    if not options.draw:
        record = machine() | {"text": options.text.name, "recipe": " ".join(RECIPE), "repeats": []}
        record |= {"threads": os.environ.get("OMP_NUM_THREADS", "all"), "stride": STRIDE}
        record["nanogpt_sha256"] = fingerprint(options.nanogpt)
        for repeat in measured(options):
            record["repeats"].append(repeat)
            record["load_after"] = os.getloadavg()[0]
            options.out.write_text(as_text(record), encoding="utf-8")
    record = json.loads(options.out.read_text(encoding="utf-8"))
    options.svg.write_text(picture(record), encoding="utf-8")
    for repeat in record["repeats"]:
        print(json.dumps(repeat["summary"]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, metavar="CHECKOUT", help="a folder with its train.py")
    parser.add_argument("--text", type=Path, default=TEXTS / "tinyshakespeare.txt")
    parser.add_argument("--minutes", default="3", help="ours; nanoGPT takes what its 2,000 iterations need")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--order", choices=sorted(COLOURS), default="ours", help="who begins; then in turn")
    parser.add_argument("--limit", type=float, default=60, help="minutes after which nanoGPT is stopped")
    parser.add_argument("--iterations", type=int, help="fewer of nanoGPT's: a rehearsal")
    parser.add_argument("--out", type=Path, default=RECORDS / "time-to-quality.json", metavar="RECORD")
    parser.add_argument("--svg", type=Path, default=ROOT / "docs" / "time-to-quality.svg")
    parser.add_argument("--draw", action="store_true", help="draw RECORD again, measure nothing")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.draw or options.score):
        if options.nanogpt is None or not (options.nanogpt / "train.py").exists():
            parser.error("--nanogpt needs a checkout of nanoGPT, with its train.py")
        if not options.text.exists():
            parser.error(f"there is no text {options.text}")
    return options


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield each repeat once both have run."""
    other = next(name for name in COLOURS if name != options.order)
    for number in range(options.repeats):
        order = [options.order, other][:: -1 if number % 2 else 1]
        repeat: dict[str, Any] = {"order": order}
        for name in order:
            print(f"repeat {number + 1}: {name}", file=sys.stderr)
            load = os.getloadavg()[0]
            with tempfile.TemporaryDirectory() as folder:
                if name == "ours":
                    found = train_ours(Path(folder), options, options.seed + number)
                else:
                    found = train_nanogpt(Path(folder), options)
            repeat[name] = found | {"load_before": load, "load_after": os.getloadavg()[0]}
        repeat["summary"] = summary(repeat)
        yield repeat


def as_text(record: dict[str, Any]) -> str:
    """Return JSON with every point of a curve on one line."""
    text = json.dumps(record, indent=1) + "\n"
    return re.sub(r"\{[^][{}]*}", lambda found: " ".join(found[0].split()), text)


# -- ours -----------------------------------------------------------------------------------------


def train_ours(folder: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train for the minutes; what starting and ending the program takes counts as if it came first."""
    begun = time.monotonic()
    words = ["--minutes", options.minutes, "--seed", str(seed), "--quiet"]
    train = run(folder, "train", str(options.text.resolve()), *split(0.1, 0), *words)
    wall = time.monotonic() - begun
    lines = next(folder.glob("runs/*/log.jsonl")).read_text(encoding="utf-8").splitlines()
    return {
        "command": train["command"],
        "seed": seed,
        "params": train["params"],
        "steps": train["steps"],
        "seconds": wall,
        "curve": our_curve(lines, wall - train["seconds"]),
    }


def our_curve(lines: Iterable[str], late: float) -> list[dict[str, float]]:
    """Return the looks of a log at the validation split, ``late`` seconds later than it says."""
    events = [json.loads(text) for text in lines]
    return [
        {"step": event["step"], "seconds": event["seconds"] + late, "loss": event["loss"]}
        for event in events
        if event["event"] == "eval"
    ]


# -- nanoGPT --------------------------------------------------------------------------------------


def train_nanogpt(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run its train.py in a copy, keep every checkpoint that it saves, and score them afterwards."""
    place = folder / "nanogpt"
    copied(options.nanogpt, place)
    prepare(options.text, place / "data" / "shakespeare_char")
    command = [sys.executable, "-u", "train.py", *RECIPE]
    if few := options.iterations:
        command += [f"--max_iters={few}", f"--lr_decay_iters={few}", f"--eval_interval={-(-few // 2)}"]
    log, ended = follow(command, place, 60 * options.limit)
    looks = parse_log(log)
    scorer = [sys.executable, str(Path(__file__).resolve()), "--score", str(place)]
    done = subprocess.run(scorer, check=True, stdout=subprocess.PIPE)
    exact = {int(step): loss for step, loss in json.loads(done.stdout).items()}
    return {
        "command": " ".join(["python", *command[2:]]),
        "seconds": log[-1][0],
        "ended": ended,
        "iterations": len(step_milliseconds(log)),
        "ms_per_iteration": statistics.median(step_milliseconds(log)),
        "curve": [look | {"loss": exact[look["step"]]} for look in looks if look["step"] in exact],
        "printed": looks,
    }


def copied(checkout: Path, place: Path) -> None:
    """Copy the code of nanoGPT; the checkout stays as it is."""
    shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "data", "assets", "out*"))


def prepare(text: Path, folder: Path) -> None:
    """Write a text as nanoGPT's ``data/shakespeare_char`` does: sorted characters, 90 % to train on."""
    chars = text.read_bytes().decode("utf-8-sig")
    number = {char: index for index, char in enumerate(sorted(set(chars)))}
    ids = np.array([number[char] for char in chars], dtype=np.uint16)
    cut = int(len(ids) * 0.9)
    folder.mkdir(parents=True)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(number), "stoi": number, "itos": dict(enumerate(number))}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def follow(command: list[str], place: Path, limit: float) -> tuple[list[tuple[float, str]], str]:
    """Run a training to its end or the limit; return its lines with the seconds at which they came.

    A checkpoint is whole once the line after its announcement is out, and overwritten by the next one;
    that is when it is copied, as ``ckpt-STEP.pt``.
    """
    begun, log, step, saved = time.monotonic(), [], 0, False
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(limit, process.kill)
        timer.daemon = True
        timer.start()
        for text in process.stdout:
            log.append((time.monotonic() - begun, text.rstrip("\n")))
            if saved:
                shutil.copy(next(place.glob("out*/ckpt.pt")), place / f"ckpt-{step}.pt")
            step = int(found[1]) if (found := _LOOK.match(text)) else step
            saved = text.startswith("saving checkpoint")
        timer.cancel()
    stopped = time.monotonic() - begun >= limit
    if (process.returncode and not stopped) or not step_milliseconds(log):
        sys.exit(f"nanoGPT's train.py failed: {log[-1][1] if log else 'it said nothing'}")
    return log, "limit" if stopped else "finished"


def parse_log(log: Iterable[tuple[float, str]]) -> list[dict[str, float]]:
    """Return nanoGPT's own looks, each a step, the seconds at which it was printed, and the two losses."""
    looks = [(seconds, _LOOK.match(text)) for seconds, text in log]
    return [
        {"step": int(look[1]), "seconds": seconds, "train": float(look[2]), "val": float(look[3])}
        for seconds, look in looks
        if look
    ]


def step_milliseconds(log: Iterable[tuple[float, str]]) -> list[float]:
    """Return what nanoGPT says that each iteration took."""
    return [float(found[2]) for _, text in log if (found := _STEP.match(text))]


def fingerprint(checkout: Path) -> dict[str, str]:
    """Return hashes by which the version of nanoGPT can be told."""
    names = ("train.py", "model.py", "config/train_shakespeare_char.py")
    return {name: hashlib.sha256((checkout / name).read_bytes()).hexdigest() for name in names}


def score_checkpoints(place: Path) -> dict[int, float]:
    """Score every kept checkpoint of a copy of nanoGPT, in a process of its own; by step, in nats."""
    import torch

    sys.path.insert(0, str(place))
    from model import GPT, GPTConfig

    data = place / "data" / "shakespeare_char"
    train, val = (np.fromfile(data / f"{name}.bin", dtype=np.uint16) for name in ("train", "val"))
    losses = {}
    for path in place.glob("ckpt-*.pt"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        network = GPT(GPTConfig(**checkpoint["model_args"])).eval()
        network.load_state_dict(checkpoint["model"])
        block = checkpoint["model_args"]["block_size"]
        ids = torch.from_numpy(np.concatenate([train[-block:], val]).astype(np.int64))
        losses[int(path.stem.removeprefix("ckpt-"))] = whole_loss(network, ids, block)
    return losses


def whole_loss(network: Any, ids: Any, block: int, stride: int = STRIDE) -> float:
    """Return the mean cost in nats of ``ids[block:]``, each character scored once.

    Args:
        network: From ids (B, block) and targets to logits (B, block, V) and something else.
        ids: Text after ``block`` characters of what stands before it, (block + N,).
        block: Characters in a window.
        stride: Characters of each window that are charged for, its last; fewer in the last window.
    """
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, len(ids) - block
    ends = [min(begin + stride, count) for begin in range(0, count, stride)]
    for group in (ends[i : i + BATCH] for i in range(0, len(ends), BATCH)):
        read = torch.stack([ids[end - 1 : end - 1 + block] for end in group])
        wanted = torch.stack([ids[end : end + block] for end in group])
        with torch.inference_mode():
            logits, _ = network(read, wanted)
        nats = cross_entropy(logits.transpose(1, 2), wanted, reduction="none")  # (B, block)
        charged = [(end - 1) % stride + 1 for end in group]
        total += sum(float(row[-number:].sum()) for row, number in zip(nats, charged, strict=True))
    return total / count


# -- what it says ---------------------------------------------------------------------------------


def seconds_to(curve: list[dict[str, float]], loss: float, key: str = "loss") -> float | None:
    """Return when a curve was first seen at a loss or below; None if it never was."""
    return next((point["seconds"] for point in curve if point[key] <= loss), None)


def summary(repeat: dict[str, Any]) -> dict[str, Any]:
    """Return when each passed the targets, nanoGPT its best, and our time to a loss as a share of that."""
    ours, other = repeat["ours"]["curve"], repeat["nanogpt"]["curve"]
    best = min(other, key=lambda point: point["loss"], default=None)
    found: dict[str, Any] = {"order": repeat["order"], "nanogpt_best": best}
    found["ours"] = {f"{loss:.2f}": seconds_to(ours, loss) for loss in TARGETS}
    found["nanogpt"] = {f"{loss:.2f}": seconds_to(other, loss) for loss in TARGETS}
    printed = repeat["nanogpt"]["printed"]
    found["nanogpt_as_printed"] = {f"{loss:.2f}": seconds_to(printed, loss, "val") for loss in TARGETS}
    if best:
        times = {"its best": seconds_to(ours, best["loss"]), **found["ours"]}
        found["ours_to_nanogpt_best"] = {k: t / best["seconds"] if t else None for k, t in times.items()}
    return found


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 420, 60, 50, 370
HIGHEST = 3.0


def picture(record: dict[str, Any]) -> str:
    """Return both curves of every repeat, nats per character over seconds, and the targets."""
    curves = [(name, repeat[name]["curve"]) for repeat in record["repeats"] for name in COLOURS]
    longest = max((point["seconds"] for _, curve in curves for point in curve), default=1.0)
    lowest = min([point["loss"] for _, curve in curves for point in curve] + [min(TARGETS)]) - 0.05
    low = int(10 * lowest) / 10

    def place(seconds: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 30) * seconds / longest
        return x, BOTTOM - (BOTTOM - TOP) * (loss - low) / (HIGHEST - low)

    parts = [label(LEFT, 22, f"{record['text']}, last tenth: nats per character over seconds", bold=True)]
    parts += ruler(place, low, longest)
    for name, curve in curves:
        seen = [place(p["seconds"], p["loss"]) for p in curve if p["loss"] <= HIGHEST]
        parts += line(seen, COLOURS[name])
    for number, (name, colour) in enumerate(COLOURS.items()):
        parts.append(label(LEFT + 220 * number, 40, f"● {NAMES[name]}", fill=colour))
    caption = f"{record['cpu']}, {record['cores']} cores, torch {record['torch']}, {record['date']}"
    return page(WIDTH, HEIGHT, [*parts, label(WIDTH - 30, 410, caption, anchor="end", fill="#666")])


def ruler(place: Any, low: float, longest: float) -> list[str]:
    """Return the lines and figures of both axes, and a dashed line at each target."""
    parts = []
    for tenth in range(round(10 * low), round(10 * HIGHEST) + 1, 2):
        x, y = place(0, tenth / 10)
        parts.append(f'<path d="M{x:.0f} {y:.1f}H{WIDTH - 30}" stroke="#eee"/>')
        parts.append(label(x - 6, y + 4, f"{tenth / 10:.1f}", anchor="end", fill="#666"))
    for loss in TARGETS:
        x, y = place(0, loss)
        parts.append(f'<path d="M{x:.0f} {y:.1f}H{WIDTH - 30}" stroke="#666" stroke-dasharray="4 4"/>')
        parts.append(label(WIDTH - 30, y - 4, f"{loss:.2f}", anchor="end", fill="#666"))
    step = next(s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 10**9) if longest / s <= 10)
    for seconds in range(0, int(longest) + 1, step):
        parts.append(label(place(seconds, low)[0], BOTTOM + 18, f"{seconds} s", anchor="middle", fill="#666"))
    return parts


if __name__ == "__main__":
    main()
