"""Which of several processes this one is, as whoever started it says in the environment.

The names are torchrun's, and one of our own: where processes of one machine find each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

STORE = "CHARRNN_STORE"
"""A file through which processes of one machine find each other, set by ``charrnn train --processes``."""


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


def own_rank() -> Rank | None:
    """Return the place of this process; None if it was started alone."""
    given = os.environ
    if not {"RANK", "WORLD_SIZE"} <= given.keys() or not {STORE, "MASTER_ADDR"} & given.keys():
        return None
    rank = int(given["RANK"])
    attempt = int(given.get("TORCHELASTIC_RESTART_COUNT", 0))
    return Rank(rank, int(given["WORLD_SIZE"]), int(given.get("LOCAL_RANK", rank)), attempt, given.get(STORE))
