"""Several processes, killed, interrupted, or on two machines: together they train what one trains."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from crews import environment, logged, run_crew, train_command, wait_for, worker_of
from small_runs import SMALL, losses, run_events
from small_runs import interrupted as cut

from charrnn.config import AVERAGINGS, OPTIMIZERS
from charrnn.training import start
from torture.work import Place, differences, place

SETTINGS = SMALL | {"training.steps": 200, "training.num_evals": 25}
MOVED = SMALL | {"training.steps": 24, "training.num_evals": 4, "training.batch_size": 6}
ENDLESS = SETTINGS | {"training.steps": 10**9}
ONCE = (
    "four",
    "minutes",
    "interrupted",
    "begun",
    "orphans",
    "second",
    "killed_too_often",
    "moved",
    "torchrun",
    "torchrun_static",
    "namespaces",
)
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
PORT = "29713"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=30, help="workers that are killed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Try everything once, and kills until there were enough."""
    with place(options.seed) as there:
        torture = Crews(there)
        trials = [getattr(torture, name) for name in ONCE] + [torture.killed] * -(-options.count // 3)
        trials += [torture.short] * 2 * options.count
        failures = [failure for trial in trials if (failure := torture.failure(trial)) is not None]
    figures = {"kills": torture.kills, "skipped": torture.skipped}
    return {"passed": len(trials) - len(failures), "of": len(trials), **figures, "failures": failures}


class Crews:
    """Trials of ``charrnn train`` in several processes; each raises ``AssertionError`` where it fails."""

    def __init__(self, there: Place) -> None:
        self.folder, self.text, self.random = there.folder, there.text, there.random
        self.run = there.folder / "run"
        self.kills = 0
        self.skipped: list[str] = []
        there.train("one", SETTINGS)
        two = there.folder / "two"
        assert self.finished("--processes", "2", run=two) == (0, f"{two}\n", "")

    def failure(self, trial: Callable[[], None]) -> str | None:
        """Return what is wrong with a trial, or nothing."""
        shutil.rmtree(self.run, ignore_errors=True)
        try:
            trial()
        except (AssertionError, LookupError, subprocess.TimeoutExpired) as error:
            return f"{trial.__name__}: {error!r:.500}"
        return None

    # -- trials ---------------------------------------------------------------------------------------

    def four(self) -> None:
        """Four processes have the losses of one."""
        assert self.finished("--processes", "4") == (0, f"{self.run}\n", "")
        self.assert_close()

    def short(self) -> None:
        """A training that ends at once ends well, whatever threads of its processes still do."""
        settings = SETTINGS | {"training.steps": 5, "training.num_evals": 1}
        assert self.finished("--processes", "2", settings=settings) == (0, f"{self.run}\n", "")

    def moved(self) -> None:
        """Runs of all optimizers and averages go from one process to two, four and back; rows are uneven."""
        ways = {name: {"training.optimizer": name} for name in OPTIMIZERS}
        ways |= {name: {"training.averaging": name} for name in AVERAGINGS}
        folder = self.folder / "moved"
        folder.mkdir()
        for name, way in ways.items():
            run_events(self.text, folder / f"{name}-1", **MOVED | way)
            cut(self.text, folder / name, 6, **MOVED | way)
        for size, step in ((2, 10), (4, 20)):
            jobs = [{"resume": str(folder / name), "stop_at": step} for name in ways]
            for found in run_crew(size, folder, jobs):
                assert len({each["digest"] for each in found}) == 1
        for name in ways:
            *_, end = start.resume(str(folder / name), device="cpu").events()
            assert end.step == MOVED["training.steps"], name
            self.assert_close(folder / name, folder / f"{name}-1")

    def minutes(self) -> None:
        """A budget in minutes ends all of them at the same step."""
        settings = ENDLESS | {"training.minutes": 0.2}
        assert self.finished("--processes", "4", settings=settings) == (0, f"{self.run}\n", "")
        assert last_event(self.run)["stopped_by"] == "minutes"

    def killed(self) -> None:
        """Three workers are killed, any of them at any moment: the result is the same, bit for bit."""
        with self.started("--processes", "2") as job:
            for kill in range(3):
                wait_for(lambda wanted=2 + 7 * kill: logged(self.run, "checkpoint") >= wanted)
                time.sleep(self.random.uniform(0, 0.05))
                self.kill(job, self.random.randrange(2))
            code, out, err = ended(job)
        assert (code, out) == (0, f"{self.run}\n"), err
        assert err.count("was killed (SIGKILL)") == 3 == len(err.splitlines()), err
        self.assert_same()

    def killed_too_often(self) -> None:
        """The fourth kill ends the command in one sentence; the run can go on."""
        with self.started("--processes", "2") as job:
            for kill in range(4):
                wait_for(lambda wanted=2 + 5 * kill: logged(self.run, "checkpoint") >= wanted)
                self.kill(job, 0)
            code, out, err = ended(job)
        assert (code, out) == (1, "") and err.count("error: process 0 was killed") == 1, err
        assert self.again() == 0
        self.assert_same()

    def interrupted(self) -> None:
        """Ctrl-C and SIGTERM stop all after a step, save, and lose nothing."""
        for number in (signal.SIGINT, signal.SIGTERM):
            shutil.rmtree(self.run, ignore_errors=True)
            with self.started("--processes", "2") as job:
                wait_for(lambda: logged(self.run, "checkpoint") >= 4)
                job.send_signal(number)
                assert ended(job) == (130, f"{self.run}\n", "")
            assert self.again() == 0
            self.assert_same()

    def begun(self) -> None:
        """Ctrl-C before the first step is one line."""
        with self.started("--processes", "2") as job:
            wait_for(lambda: found(job.pid, 1))
            time.sleep(0.5)
            job.send_signal(signal.SIGINT)
            assert ended(job) == (130, "", "interrupted\n")

    def orphans(self) -> None:
        """A launcher that is killed leaves no process behind."""
        with self.started("--processes", "2", settings=ENDLESS) as job:
            wait_for(lambda: logged(self.run, "checkpoint") >= 1)
            workers = [worker_of(job.pid, rank) for rank in (0, 1)]
            job.kill()
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 20)
        start.resume(str(self.run), device="cpu")

    def second(self) -> None:
        """A second command for the same directory is refused, once, and the first one goes on."""
        with self.started("--processes", "2", settings=ENDLESS) as job:
            wait_for(lambda: logged(self.run, "checkpoint") >= 1)
            code, out, err = self.finished("--processes", "2", "--overwrite")
            assert (code, out) == (1, "") and err.startswith("error: another process is training"), err
            job.send_signal(signal.SIGINT)
            assert ended(job)[0] == 130

    def torchrun(self) -> None:
        """torchrun trains the same, and starts workers anew that were killed."""
        self._torchrun("--standalone")

    def torchrun_static(self) -> None:
        """So it does with a given port."""
        self._torchrun("--master-port", PORT)

    def _torchrun(self, *how: str) -> None:
        launcher = (sys.executable, *TORCHRUN, "--max-restarts", "2", *how, "-m", "--", "charrnn")
        with self.started(launcher=launcher) as job:
            for wanted, rank in ((4, 1), (16, 0)):
                wait_for(lambda wanted=wanted: logged(self.run, "checkpoint") >= wanted)
                self.kill(job, rank)
            code, out, err = ended(job)
        assert code == 0 and str(self.run) in out, err
        self.assert_same()

    def namespaces(self) -> None:
        """Two network namespaces with a cache each, a wire between them: only the first process writes."""
        if not has_namespaces():
            self.skipped.append("namespaces: this system makes no network namespaces for its users")
            return
        other = self.folder / "other-cache"
        command = train_command(self.text, self.run, SETTINGS, "--quiet")
        shell = ["unshare", "--user", "--map-root-user", "--net", "bash", "-c", NAMESPACES, "bash"]
        command = [*shell, str(other), *command]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{self.run}\n"), done.stderr
        assert any(other.rglob("places.npy"))
        self.assert_close()

    # -- parts of them ----------------------------------------------------------------------------------

    @contextmanager
    def started(
        self,
        *more: str,
        settings: dict[str, Any] = SETTINGS,
        launcher: tuple[str, ...] = (sys.executable, "-m", "charrnn"),
        run: Path | None = None,
    ) -> Iterator[subprocess.Popen]:
        """Yield the launcher of a training; whatever happens, it is gone afterwards."""
        command = [*launcher, *train_command(self.text, run or self.run, settings, "--quiet", *more)[3:]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=environment(), **pipes) as job:
            try:
                yield job
            finally:
                job.kill()

    def finished(self, *more: str, **how: Any) -> tuple[int, str, str]:
        with self.started(*more, **how) as job:
            return ended(job)

    def again(self) -> int:
        command = ["-m", "charrnn", "train", "--resume", str(self.run), "--processes", "2", "--quiet"]
        return subprocess.run([sys.executable, *command], env=environment(), capture_output=True).returncode

    def kill(self, job: subprocess.Popen, rank: int) -> None:
        os.kill(wait_for(lambda: found(job.pid, rank)), signal.SIGKILL)
        self.kills += 1

    def assert_same(self) -> None:
        wrong = differences(self.folder / "two", self.run)
        assert not wrong, wrong

    def assert_close(self, run: Path | None = None, reference: Path | None = None) -> None:
        own, other = losses(run or self.run), losses(reference or self.folder / "one")
        assert [event[:2] for event in own] == [event[:2] for event in other]
        np.testing.assert_allclose([event[2] for event in own], [event[2] for event in other], rtol=1e-3)


def ended(job: subprocess.Popen) -> tuple[int, str, str]:
    out, err = job.communicate(timeout=240)
    return job.returncode, out, err


def found(launcher: int, rank: int) -> int | None:
    try:
        return worker_of(launcher, rank)
    except LookupError:
        return None


def last_event(run: Path) -> dict[str, Any]:
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])


NAMESPACES = """
set -e
ip link add near type veth peer name far
unshare --net sleep 300 &
other=$!
trap 'kill $other' EXIT
sleep 0.3
ip link set far netns $other
ip addr add 10.77.0.1/24 dev near
ip link set near up
ip link set lo up
there="nsenter --target $other --net"
$there ip addr add 10.77.0.2/24 dev far
$there ip link set far up
$there ip link set lo up
export WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=10.77.0.1 MASTER_PORT=29700
RANK=1 GLOO_SOCKET_IFNAME=far CHARRNN_CACHE=$1 $there "${@:2}" &
RANK=0 GLOO_SOCKET_IFNAME=near "${@:2}"
wait $!
"""
"""Two namespaces and a wire; what follows a folder for the other one's cache is run in both."""


def has_namespaces() -> bool:
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip", "bash"))
    probe = ["unshare", "--user", "--map-root-user", "--net", "ip", "link", "add", "near", "type", "veth"]
    return tools and subprocess.run([*probe, "peer", "name", "far"], capture_output=True).returncode == 0
