"""Ctrl-C before, while and after a command works: one line and exit code 130, never a traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 130
HANGUP = getattr(signal, "SIGHUP", None)
"""A terminal that is closed, or a connection that is lost; a shell may say so twice."""
STOPPING = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)
"""What asks a training to save and to stop."""


def leave(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """End the program at once: there is nothing to put away."""
    if os.environ.get("RANK", "0") == "0":  # of several processes one says so
        with suppress(OSError):
            os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def leave_on_interrupt() -> None:
    """Have Ctrl-C end the program at once, unless whoever started it wants it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


@contextmanager
def heard(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a function hear of what asks to stop, but for a hangup that ``nohup`` wants ignored."""
    wanted = [n for n in STOPPING if n != HANGUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def raised_on_interrupt() -> Iterator[None]:
    """Have Ctrl-C raise ``KeyboardInterrupt`` meanwhile, where it would end the program at once."""
    if signal.getsignal(signal.SIGINT) is not leave:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, leave)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    # a package of compiled code that is interrupted while it is imported reports something else, or dies
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            leave()
        frame = frame.f_back
    raise KeyboardInterrupt
