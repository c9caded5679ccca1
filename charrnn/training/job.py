"""What a run trains on and with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.config import Config
from charrnn.model.network import Network, new_network
from charrnn.text.corpus import Corpus
from charrnn.text.splits import Splits
from charrnn.text.vocabulary import Vocabulary

MAX_SOURCES = 20
"""With more files than this, a checkpoint keeps their common hash alone."""


@dataclass(frozen=True)
class Job:
    """What a run trains on and with; everything here is on disk before the first step."""

    folder: Path
    config: Config
    corpus: Corpus
    splits: Splits
    vocabulary: Vocabulary
    texts: tuple[str, ...] = ()
    """Absolute paths or names that the text was read from."""
    origin: tuple[dict[str, Any], ...] = ()
    """The runs that it began from, the nearest first."""

    @property
    def record(self) -> dict[str, Any]:
        """Return what a checkpoint keeps about its text."""
        info = {name: self.corpus.info[name] for name in ("key", "kind", "sha256", "characters", "documents")}
        sources = self.corpus.info["sources"]
        if len(sources) <= MAX_SOURCES:
            info["sources"] = sources
        info |= {"init_from": list(self.origin)} if self.origin else {}
        return {**info, "texts": list(self.texts), "splits": self.splits.to_json()}

    def first_network(self) -> Network:
        """Return the network with random weights."""
        training = self.config.training
        return new_network(self.config.model, len(self.vocabulary), training.seed, training.seq_len)
