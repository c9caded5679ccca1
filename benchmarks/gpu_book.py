"""A record that grows point by point, so that a measurement can go on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from quality import ROOT, machine

GONE = 3
"""Exit status that asks for another process: a point hung, or broke the device's context."""
POINT_SECONDS = 150.0
ROOM_SECONDS = 15.0
"""No point begins with less time left."""


class Point(NamedTuple):
    """Something to measure."""

    name: str
    run: Callable[[], dict[str, Any]]
    seconds: float = POINT_SECONDS
    """It is taken to hang after so long."""


class Book:
    """A record on disk, in several places: read from the one with most points, written to all.

    Args:
        places: Files.
        header: What each call adds to ``calls``.
    """

    def __init__(self, places: Sequence[Path], header: dict[str, Any]) -> None:
        self.places = places
        found = [json.loads(path.read_text(encoding="utf-8")) for path in places if path.exists()]
        data = max(
            found, key=lambda each: len(each["points"]), default={"calls": [], "points": {}, "begun": None}
        )
        self.calls: list[dict[str, Any]] = [*data["calls"], header]
        self.points: dict[str, Any] = data["points"]
        self.begun: dict[str, Any] | None = None
        hung = data["begun"]
        if (
            hung is not None and hung["seconds"] >= hung["allowed"]
        ):  # else the call was over: it may try again
            self.points[hung["name"]] = {"error": "it did not come back", "call": len(self.calls) - 2}

    def forget(self, words: Iterable[str]) -> None:
        """Drop points whose name has one of the words in it; ``errors`` drops those that failed."""
        for word in words:
            for name in [
                n for n, p in self.points.items() if word in n or (word == "errors" and "error" in p)
            ]:
                del self.points[name]

    def fill(self, points: Iterable[Point], end: float) -> int:
        """Measure what is not there yet until the time is over; return how many points are left."""
        left = 0
        for point in points:
            if point.name in self.points:
                continue
            if time.time() > end - ROOM_SECONDS:
                left += 1
                continue
            self._measure(point, end - time.time())
        return left

    def _measure(self, point: Point, seconds: float) -> None:
        self.begun = {"name": point.name, "seconds": seconds, "allowed": point.seconds}
        self.write()
        watch = threading.Timer(point.seconds, lambda: os._exit(GONE))
        watch.daemon = True
        watch.start()
        begun, broken = time.monotonic(), False
        try:
            found = point.run()
        except Exception as problem:
            found = {"error": f"{type(problem).__name__}: {str(problem).strip()[:600]}"}
            broken = is_broken(problem)
        watch.cancel()
        took = {"took_seconds": round(time.monotonic() - begun, 2), "call": len(self.calls) - 1}
        self.points[point.name] = found | took
        self.begun = None
        self.write()
        print(json.dumps({point.name: self.points[point.name]}), flush=True)
        if broken:
            os._exit(GONE)  # nothing works after that, not even the end of the process
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def write(self) -> None:
        """Write the record so that there is a whole one at any time, one point on a line."""
        points = ",\n".join(f"  {json.dumps(name)}: {json.dumps(p)}" for name, p in self.points.items())
        calls = ",\n".join(f"  {json.dumps(call)}" for call in self.calls)
        text = f'{{\n "begun": {json.dumps(self.begun)},\n "calls": [\n{calls}\n ],\n'
        text += f' "points": {{\n{points}\n }}\n}}\n'
        for path in self.places:
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)

    def summary(self) -> dict[str, Any]:
        """Return how many points there are, and the names of those that are not as they should be."""
        return {
            "points": len(self.points),
            "errors": [name for name, point in self.points.items() if "error" in point],
            "wrong": [name for name, point in self.points.items() if point.get("right") is False],
            "missed": [name for name, point in self.points.items() if point.get("met") is False],
        }


def is_broken(problem: Exception) -> bool:
    """Return whether the device's context is lost, so that every later call would fail too."""
    if isinstance(problem, torch.OutOfMemoryError):
        return False
    return any(word in str(problem) for word in ("CUDA error", "device-side assert", "illegal memory access"))


def facts(device: torch.device, arguments: list[str]) -> dict[str, Any]:
    """Return what is measured on and with."""
    found = machine() | {"command": " ".join(["benchmarks/gpu.sh", *arguments]), "code": fingerprint()}
    found |= {"device": device.type, "platform": platform.machine(), "cuda": torch.version.cuda}
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    found |= {"gpu": properties.name, "processors": properties.multi_processor_count}
    found |= {"capability": [properties.major, properties.minor], "gpu_bytes": properties.total_memory}
    found |= {"cudnn": torch.backends.cudnn.version(), "driver": _driver(), "triton": _triton()}
    return found


def _driver() -> str | None:
    words = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _triton() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def fingerprint() -> str:
    """Return a hash of the code: where a checkout has no history, a commit cannot be told."""
    files = sorted([*(ROOT / "charrnn").rglob("*.py"), *(ROOT / "benchmarks").glob("gpu*")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def wait(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def say(words: str) -> None:
    """Tell what is being done."""
    print(words, file=sys.stderr, flush=True)
