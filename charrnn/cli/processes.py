"""``charrnn train --processes N``: this command in N processes, watched, and once more if one is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from charrnn.cli.console import notice
from charrnn.cli.interrupts import HANGUP, INTERRUPTED, heard
from charrnn.errors import CharrnnError, ConfigError
from charrnn.rendering.text import visible
from charrnn.training.ranks import STORE, Rank, is_one_of_several, own_rank

MAX_RESTARTS = 3
GRACE_SECONDS = 10.0
"""How long the others have to end after one has, before they are killed."""
POLL_SECONDS = 0.05
LOST = 75
"""Exit code of a process that ends because another one has."""
TOLD = (0, 1, 2, INTERRUPTED, 141)
"""Exit codes of the first process after which there is nothing to add."""
LAUNCHER = "CHARRNN_LAUNCHER"
"""The end of a pipe that is closed when the launcher is gone, however it went."""
POSIX = os.name == "posix"


def wants_processes(number: int | None) -> bool:
    """Return whether this process is to start others, and to do nothing else.

    Raises:
        ConfigError: The number makes no sense, or torchrun has started processes already.
    """
    if number is None:
        return False
    if number < 1:
        raise ConfigError(f"`--processes` is `{number}`, but must be at least 1")
    if own_rank() is None:
        return number > 1
    if STORE not in os.environ:
        raise ConfigError("torchrun has started the processes already", "leave `--processes` out")
    return False


def run_in_processes(number: int) -> int:
    """Run this very command in several processes, again from its last checkpoint if one of them is killed.

    Returns:
        The exit code that one process would have had.

    Raises:
        CharrnnError: Processes were killed again and again, or lost each other.
    """
    with tempfile.TemporaryDirectory(prefix="charrnn-") as name, _Job(number, Path(name)).prepared() as job:
        for attempt in range(MAX_RESTARTS + 1):
            codes = [-signal.SIGINT] if job.signals else job.run(attempt)
            if job.signals:
                return job.interrupted(codes[0])
            if codes[0] in TOLD:
                return codes[0]
            killed = [rank for rank, code in enumerate(codes) if code < 0 and rank not in job.ended_by_us]
            if not killed:
                return job.show_what_failed(codes)
            how = f"process {killed[0]} was killed ({signal.Signals(-codes[killed[0]]).name})"
            if attempt < MAX_RESTARTS:
                notice(f"{how}; all begin again from the last checkpoint")
    hint = f"`charrnn train --resume RUN --processes {number}` goes on from the last checkpoint"
    raise CharrnnError(f"{how}, as others were {MAX_RESTARTS} times before", hint)


@dataclass
class _Job:
    """The processes of one command.

    Args:
        number: How many.
        folder: For what they share, and for what all but the first say.
    """

    number: int
    folder: Path
    workers: list[subprocess.Popen] = field(default_factory=list)
    ended_by_us: set[int] = field(default_factory=set)
    signals: list[int] = field(default_factory=list)
    pipe: int | None = None

    @contextmanager
    def prepared(self) -> Iterator[_Job]:
        """Pass signals on to the first process, and leave none behind."""
        with ExitStack() as stack:
            if POSIX:
                self.pipe, kept = os.pipe()
                stack.callback(os.close, self.pipe)
                stack.callback(os.close, kept)
            stack.enter_context(heard(self._pass_on))
            if POSIX and signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
                stack.callback(signal.signal, signal.SIGTSTP, signal.signal(signal.SIGTSTP, self._pause))
            stack.callback(self._end, range(self.number))
            yield self

    def run(self, attempt: int) -> list[int]:
        """Start all processes, wait until the last one has ended, and return their exit codes."""
        self.ended_by_us.clear()
        with ExitStack() as files:
            self.workers = []
            for rank in range(self.number):
                errors = files.enter_context(self._errors(rank).open("wb")) if rank else None
                self.workers.append(self._start(Rank(rank, self.number, rank, attempt, self._store), errors))
        if self.signals:  # one that came while there was nobody to pass it on to
            self.workers[0].send_signal(signal.SIGINT)
        return self._wait()

    @property
    def _store(self) -> str:
        return str(self.folder / "store")

    def _errors(self, rank: int) -> Path:
        return self.folder / f"stderr-{rank}"

    def _start(self, rank: Rank, errors: IO[bytes] | None) -> subprocess.Popen:
        own = None if errors is None else subprocess.DEVNULL
        kept = {"pass_fds": (self.pipe,), "start_new_session": True} if POSIX else {}
        command = [sys.executable, "-m", "charrnn", *sys.argv[1:]]
        environment = self._environment() | rank.variables()
        return subprocess.Popen(command, env=environment, stdin=own, stdout=own, stderr=errors, **kept)

    def _environment(self) -> dict[str, str]:
        threads = max(1, len(_cores()) // self.number)
        defaults = {"OMP_NUM_THREADS": str(threads)}
        if sys.platform == "linux":  # whatever the name of this machine resolves to
            defaults["GLOO_SOCKET_IFNAME"] = "lo"
        return defaults | os.environ | ({LAUNCHER: str(self.pipe)} if POSIX else {})

    def _wait(self) -> list[int]:
        deadline = math.inf
        while None in (codes := [worker.poll() for worker in self.workers]):
            if self._impatient or (codes[0] in TOLD and codes[0] != 0):
                deadline = 0.0  # all has been said and saved, or shall not be
            elif deadline == math.inf and (codes[0] is not None or any(codes)):
                deadline = time.monotonic() + GRACE_SECONDS
            if time.monotonic() > deadline:
                self._end(range(self.number))
            time.sleep(POLL_SECONDS)
        return [worker.returncode for worker in self.workers]

    def _end(self, ranks: range) -> None:
        for rank, worker in zip(ranks, self.workers, strict=False):
            if worker.poll() is None:
                self.ended_by_us.add(rank)
                worker.kill()
                worker.wait()

    def _pass_on(self, number: int, _: Any) -> None:
        """The first process alone hears of a signal; the others learn from it that all shall stop."""
        self.signals.append(number)
        if POSIX and not self._impatient:
            self._tell(self.workers[:1], number)

    @property
    def _impatient(self) -> bool:
        """Whether all shall end at once: the first process may wait for one that does nothing any more."""
        return any(self.signals.count(number) > 1 for number in self.signals if number != HANGUP)

    def _pause(self, *_: Any) -> None:
        """Ctrl-Z: stop and go on together with the processes, which do not belong to the terminal."""
        self._tell(self.workers, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._tell(self.workers, signal.SIGCONT)

    @staticmethod
    def _tell(workers: list[subprocess.Popen], number: int) -> None:
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.send_signal(number)

    def interrupted(self, code: int) -> int:
        """Return the exit code after a signal; the first process may have had no time for words."""
        if code in TOLD:
            return code
        print("interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED

    def show_what_failed(self, codes: list[int]) -> int:
        """Show what the first process that failed by itself has said, and return its exit code.

        Raises:
            CharrnnError: None has.
        """
        failed = [rank for rank, code in enumerate(codes) if code > 0 and code != LOST]
        if not failed:
            raise CharrnnError("the processes of this training have lost each other")
        if failed[0]:
            said = self._errors(failed[0]).read_text(encoding="utf-8", errors="replace")
            sys.stderr.write(visible(said))
        return codes[failed[0]]


def _cores() -> set[int]:
    """Return the cores that this process may use."""
    known = getattr(os, "sched_getaffinity", None)
    return known(0) if known else set(range(os.cpu_count() or 1))


@contextmanager
def ended_at_once() -> Iterator[None]:
    """End one of several processes without taking the interpreter down first.

    Threads of gloo may still hold tensors, and one that lets go of a tensor while the interpreter ends aborts
    the process, after all has been done (https://github.com/pytorch/pytorch/issues/190489).
    """
    try:
        yield
    except SystemExit as end:
        if not is_one_of_several() or not isinstance(end.code, int | None):
            raise
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(end.code or 0)


def end_with_launcher() -> None:
    """End this process when the one that started it is gone, were it by ``kill -9``: nobody else would."""
    with suppress(ValueError):  # unset, or another program's word
        pipe = int(os.environ.get(LAUNCHER, ""))
        threading.Thread(target=_wait_for_the_end, args=(pipe,), daemon=True).start()


def _wait_for_the_end(pipe: int) -> None:
    with suppress(OSError, OverflowError):  # a number that somebody else's environment has passed on
        os.read(pipe, 1)
        os._exit(1)
