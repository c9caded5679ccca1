"""An end to what might never end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from charrnn.errors import InspectionError


@contextmanager
def time_limit(seconds: float, complaint: str) -> Iterator[None]:
    """Raise where the body takes too long; without effect on Windows and outside the main thread.

    The alarm of the process is used meanwhile: it alone interrupts a regular expression.

    Raises:
        InspectionError: The body took longer.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise InspectionError(complaint, "nested repetitions such as (a+)+ can take for ever")

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
