"""``log.jsonl``: one event a line, cut back on resume to what the checkpoint knew of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from charrnn.errors import CheckpointError
from charrnn.events import EndEvent, Event
from charrnn.files import flush_folder, open_own
from charrnn.untrusted import parse_json

LONGEST_LINE = 1 << 20
"""More bytes than any event takes."""


class EventLog:
    """``log.jsonl``, cut back to what a checkpoint knew of it."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self.path = path
        self._guard(lambda: self._open(keep_bytes))

    def _open(self, keep_bytes: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered: what a full disk has refused must not be tried again when the file is closed
        self._file = open_own(self.path, write=True)
        try:
            flush_folder(self.path.parent)
            self.size = self._whole_lines(keep_bytes)
            self._file.truncate(self.size)
        except BaseException:
            self._file.close()
            raise

    def _whole_lines(self, most: int) -> int:
        """Return the length of the file up to its last line end, of no more than so many bytes."""
        begin, tail = _tail(self._file.fileno(), most)
        end = tail.rfind(b"\n") + 1
        return begin + end if end else 0

    def write(self, event: Event) -> None:
        line = json.dumps(event.to_json()).encode() + b"\n"
        self._guard(lambda: self._write_whole(line))
        self.size += len(line)

    def _write_whole(self, line: bytes) -> None:
        """Write a line; a disk that fills up in the middle of it takes a part without an error."""
        while line:
            line = line[self._file.write(line) :]

    def flush(self) -> None:
        """Have all that was written survive a power failure."""
        self._guard(lambda: os.fsync(self._file.fileno()))

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


def _tail(descriptor: int, most: int) -> tuple[int, bytes]:
    """Return the last ``LONGEST_LINE`` bytes of the first so many of a file, and where they begin."""
    end = min(os.fstat(descriptor).st_size, most)
    begin = max(0, end - LONGEST_LINE)
    os.lseek(descriptor, begin, os.SEEK_SET)
    return begin, os.read(descriptor, end - begin)


def ended(path: Path, log_bytes: int) -> bool:
    """Return whether the end of a finished run stands in its log, or cannot be put there any more.

    Args:
        path: The log.
        log_bytes: Its length when the last checkpoint was written.
    """
    try:
        with open_own(path) as file:
            begin, tail = _tail(file.fileno(), sys.maxsize)
        *_, last = tail.splitlines() or [b"{}"]
        event = parse_json(last)
        short = begin + len(tail) < log_bytes
        return short or (isinstance(event, dict) and event.get("event") == EndEvent.name)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # a line that is cut, say
        return False


def write_end(path: Path, log_bytes: int, event: EndEvent) -> None:
    """Write the end of a run whose process was killed between its last checkpoint and that.

    Raises:
        CheckpointError: The disk is full or refuses.
    """
    with EventLog(path, log_bytes) as log:
        log.write(event)
