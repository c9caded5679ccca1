"""Which of several processes this one is, as whoever started it says in the environment.

The names are torchrun's, and one of our own: where processes of one machine find each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from charrnn.errors import ConfigError

STORE = "CHARRNN_STORE"
"""A file through which processes of one machine find each other, set by ``charrnn train --processes``."""

UNSET = "torchrun sets it; to train with one process, unset it"


@dataclass(frozen=True)
class Rank:
    """A process's place among those that train together.

    Args:
        rank: From 0, over all machines.
        size: How many there are.
        local_rank: From 0, on this machine.
        attempt: How often they were started anew.
        store: The file through which they find each other; None asks ``MASTER_ADDR``.
    """

    rank: int
    size: int
    local_rank: int
    attempt: int
    store: str | None

    def variables(self) -> dict[str, str]:
        """Return what the environment of this process says."""
        named = {"RANK": self.rank, "WORLD_SIZE": self.size, "LOCAL_RANK": self.local_rank}
        named |= {"LOCAL_WORLD_SIZE": self.size, "TORCHELASTIC_RESTART_COUNT": self.attempt}
        named |= {STORE: self.store} if self.store else {}
        return {name: str(value) for name, value in named.items()}


def is_one_of_several() -> bool:
    """Return whether the environment gives this process a place among others."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys() and bool({STORE, "MASTER_ADDR"} & os.environ.keys())


def own_rank() -> Rank | None:
    """Return the place of this process; None if it was started alone.

    Raises:
        ConfigError: What the environment says is no place.
    """
    if not is_one_of_several():
        return None
    rank, size = _whole("RANK"), _whole("WORLD_SIZE")
    if rank >= size:
        raise ConfigError(f"`RANK` is `{rank}`, but must be below `WORLD_SIZE`, which is `{size}`", UNSET)
    attempt = _whole("TORCHELASTIC_RESTART_COUNT", 0)
    return Rank(rank, size, _whole("LOCAL_RANK", rank), attempt, os.environ.get(STORE))


def _whole(name: str, default: int = 0) -> int:
    given = os.environ.get(name, str(default))
    if not (given.isdecimal() and len(given) < 10):
        raise ConfigError(f"`{name}` in the environment is `{given}`, but must be a whole number", UNSET)
    return int(given)
