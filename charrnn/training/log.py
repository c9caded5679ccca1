"""``log.jsonl``: one event a line, cut back on resume to what the checkpoint knew of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from charrnn.errors import CheckpointError
from charrnn.events import Event


class EventLog:
    """``log.jsonl``, cut back to what a checkpoint knew of it."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self.path = path
        self._guard(lambda: self._open(keep_bytes))

    def _open(self, keep_bytes: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered: what a full disk has refused must not be tried again when the file is closed
        self._file = self.path.open("ab", buffering=0)
        self.size = min(keep_bytes, self._whole_lines())
        self._file.truncate(self.size)

    def _whole_lines(self) -> int:
        """Return the length of the file up to its last line end."""
        return self.path.read_bytes().rfind(b"\n") + 1

    def write(self, event: Event) -> None:
        line = json.dumps(event.to_json()).encode() + b"\n"
        self._guard(lambda: self._file.write(line))
        self.size += len(line)

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise CheckpointError(
                f"cannot write `{self.path}`: {error.strerror}", "the last checkpoint is still whole"
            ) from None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
