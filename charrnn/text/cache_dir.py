"""Where downloaded texts are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for downloads; it need not exist yet.

    The first of: ``$CHARRNN_CACHE``; ``%LOCALAPPDATA%\\charrnn`` on Windows; ``$XDG_CACHE_HOME/charrnn``;
    ``~/.cache/charrnn``. Empty variables count as unset.
    """
    if chosen := os.environ.get("CHARRNN_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "charrnn"
