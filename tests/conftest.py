"""What all tests share: nothing outside the test's own folder is read or written."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Small networks gain nothing from threads, and threads that wait for one another slow a busy machine down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is started in the background ignores Ctrl-C, and would hand that down to the programs that are tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, and nothing kept between runs; fixtures that only name a folder may be shared.
settings.register_profile(
    "quick",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep encoded and downloaded texts of a test away from the user's."""
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "100")
