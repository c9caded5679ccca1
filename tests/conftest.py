"""What all tests share: nothing outside the test's own folder is read or written."""

from __future__ import annotations

import os

import pytest

# Small networks gain nothing from threads, and threads that wait for one another slow a busy machine down.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep encoded and downloaded texts of a test away from the user's."""
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "100")
