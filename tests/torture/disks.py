"""Real disks that are full or read-only, and folders of others: refused in a sentence, and later it goes on.

Each is a tmpfs in a mount namespace of its own, which takes Linux and the rights to make one (root, mostly).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charrnn.errors import CheckpointError
from charrnn.events import EndEvent, StepEvent
from charrnn.training import start
from torture.work import Place, differences, in_child, outcome, place, unloadable

NEW_NAMESPACE, PRIVATE, READ_ONLY, REMOUNT = 0x20000, (1 << 14) | (1 << 18), 1, 32
NOBODY = 65534
KIB = range(4, 124, 4)
"""Sizes of full disks: from one that holds nothing to one that holds the run, and not its next checkpoint."""
ROOM = b"size=64m,mode=755"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="unused: nothing here is random")


def run(options: argparse.Namespace) -> dict[str, Any]:
    with place(options.seed) as there:
        (there.folder / "disk").mkdir()
        there.folder.chmod(0o755)  # others may look in
        trial = Trial(there)
        if trial.answer(lambda: []) is None:
            return {"passed": 0, "of": 0, "failures": [], "skipped": "no mount namespaces here"}
        there.train("whole")
        ways: dict[str, Callable[[], list[str]]] = {
            f"{kib} KiB": lambda kib=kib: trial.full(kib) for kib in KIB
        }
        ways |= {name: getattr(trial, name) for name in ("read_only", "finished_read_only", "not_ours")}
        failures = [f"{name}: {wrong}" for name, way in ways.items() for wrong in trial.answer(way) or []]
    failed = len({failure.partition(":")[0] for failure in failures})
    return {"passed": len(ways) - failed, "of": len(ways), "failures": failures}


class Trial:
    """Runs on a disk of their own, in a process of its own."""

    def __init__(self, there: Place) -> None:
        self.there, self.disk, self.cut = there, there.folder / "disk", there.folder / "disk" / "cut"

    def answer(self, way: Callable[[], list[str]]) -> list[str] | None:
        """Return what a way finds wrong; None where the system allows no disks of ours."""
        said = self.there.folder / "said"

        def act() -> None:
            with said.open("w") as file:  # now, as a way may give up the rights to later
                file.write(json.dumps(way() if mounted(self.disk, ROOM) else None))

        code = outcome(in_child(act))
        return json.loads(said.read_text()) if code == 0 else [f"it ends with {code}"]

    def full(self, kib: int) -> list[str]:
        """Train on a disk of so many KiB; go on when there is more room."""
        mounted(self.disk, b"size=%dk" % kib)
        wrong = self._refused("No space left", lambda: self.there.train("disk/cut"), may_pass=True)
        wrong += unloadable(self.cut)
        mount(self.disk, REMOUNT, ROOM)
        return wrong + self._goes_on()

    def read_only(self) -> list[str]:
        """Stop a run, have its disk refuse all writing, resume, and again when it does not."""
        self._stopped()
        before = contents(self.cut)
        mount(self.disk, REMOUNT | READ_ONLY, ROOM)
        wrong = self._refused("Read-only", lambda: self.there.go_on("disk/cut"))
        wrong += self._refused("Read-only", lambda: self.there.train("disk/new"))
        wrong += unloadable(self.cut) + ([] if contents(self.cut) == before else ["files have changed"])
        mount(self.disk, REMOUNT, ROOM)
        return wrong + self._goes_on()

    def finished_read_only(self) -> list[str]:
        """Resume a finished run where nothing can be written: nothing has to be."""
        self.there.train("disk/cut")
        mount(self.disk, REMOUNT | READ_ONLY, ROOM)
        events = list(start.resume(str(self.cut), device="cpu").events())
        return [] if [type(event) for event in events] == [EndEvent] else ["it did more than tell its end"]

    def not_ours(self) -> list[str]:
        """Train into folders of another user: a stopped run of theirs, and a new one."""
        self._stopped()
        before = contents(self.cut)
        for path in (self.there.folder / "cache").rglob("*"):
            path.chmod(0o755)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        wrong = self._refused("Permission denied", lambda: self.there.go_on("disk/cut"))
        wrong += self._refused("Permission denied", lambda: self.there.train("disk/new"))
        return wrong + ([] if contents(self.cut) == before else ["files have changed"])

    def _refused(self, words: str, action: Callable[[], object], may_pass: bool = False) -> list[str]:
        try:
            action()
        except CheckpointError as error:
            return [] if words in error.message and error.hint else [f"it says: {error.message}"]
        return [] if may_pass else [f"it was not refused ({words})"]

    def _stopped(self) -> None:
        going = self.there.trainer("disk/cut")
        for event in going.events():
            if isinstance(event, StepEvent) and event.step == 3:
                going.request_stop()

    def _goes_on(self) -> list[str]:
        self.there.go_on("disk/cut")
        return differences(self.there.folder / "whole", self.cut)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mounted(folder: Path, settings: bytes) -> bool:
    """Mount an empty disk at a folder, for this process alone; return whether that is allowed."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(NEW_NAMESPACE) or library.mount(b"none", b"/", None, PRIVATE, None):
        return False
    return mount(folder, 0, settings) == 0


def mount(folder: Path, flags: int, settings: bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    return library.mount(b"tmpfs", str(folder).encode(), b"tmpfs", ctypes.c_ulong(flags), settings)
