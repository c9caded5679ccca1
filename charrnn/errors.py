"""What can go wrong that a user can cause and mend.

CharrnnError
├── ConfigError       a setting has no valid value, or the name of a part is unknown
├── TextError         a text cannot be found, read, decoded or cut
├── CorpusError       a known corpus cannot be found, fetched or verified
├── RunError          a run directory is missing, taken, or does not fit the request
│   └── CheckpointError   a checkpoint file is damaged, foreign, or cannot be written
├── TrainingError     training cannot go on (the loss is not finite any more, say)
└── InspectionError   a neuron or a hypothesis is unknown, or the text cannot test it
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class CharrnnError(Exception):
    """One sentence about what is wrong, and a hint about what helps.

    Args:
        message: One sentence without a full stop; the offending value stands in backticks.
        hint: What to do about it, best with the command or flag that does it. May be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(CharrnnError):
    """A setting has no valid value, or the name of a part is unknown."""


class TextError(CharrnnError):
    """A text cannot be found, read, decoded or cut into documents and splits."""


class CorpusError(CharrnnError):
    """A known corpus cannot be found, fetched or verified."""


class RunError(CharrnnError):
    """A run directory is missing, already taken, or does not fit the request."""


class CheckpointError(RunError):
    """A checkpoint file is damaged, foreign, or cannot be written."""


class TrainingError(CharrnnError):
    """Training cannot go on."""


class InspectionError(CharrnnError):
    """A neuron or a hypothesis is unknown, or the text cannot test it."""


_NO_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc")
"""How torch says it: on Linux, on Windows, on CUDA, and where C++ says it first."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is no memory left."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest known one, else the whole list."""
    known = list(known)
    close = get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else "known: " + ", ".join(known)
