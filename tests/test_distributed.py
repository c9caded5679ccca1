"""Several processes train what one trains: the same losses, the same bits in all, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from crews import environment, logged, run_crew, train_command, wait_for, worker_of
from small_runs import SMALL, files_equal, interrupted, losses, run_events, write_words
from typer.testing import CliRunner

import charrnn
from charrnn.cli import processes
from charrnn.cli.main import app
from charrnn.config import Config, ModelConfig
from charrnn.errors import ConfigError
from charrnn.events import EndEvent
from charrnn.model.network import new_network
from charrnn.model.regularisation import SharedNoise, bernoulli
from charrnn.model.scoring import TextView, mean_nats, total_nats
from charrnn.text.streams import Streams
from charrnn.training import start
from charrnn.training.distributed import Crew, Team
from charrnn.training.ranks import Rank
from charrnn.training.together import check_shareable

BIG = SMALL | {"training.batch_size": 5, "text.val_fraction": 0.5, "training.num_evals": 2}
LEVERS = SMALL | {
    "text.documents": "lines",
    "model.cell": "gru",
    "model.dropout_kind": "variational",
    "model.input_dropout": 0.2,
    "model.output_dropout": 0.4,
    "model.weight_drop": 0.3,
    "training.activation_l2": 2.0,
    "training.temporal_l2": 1.0,
    "model.zoneout": 0.1,
    "training.optimizer": "adamw",
    "training.averaging": "ema",
    "training.random_seq_len": True,
    "training.batch_size": 7,
    "training.grad_clip": 0.05,
}
CHAIN = SMALL | {"training.steps": 40, "training.batch_size": 6}
LONG = SMALL | {"training.steps": 160, "training.num_evals": 16}
LAST = ("last/model.safetensors", "last/trainer.safetensors", "best/model.safetensors")

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def close(run, reference):
    """Return whether two runs have logged the same losses to float tolerance, at the same steps."""
    own, other = losses(run), losses(reference)
    return [e[:2] for e in own] == [e[:2] for e in other] and np.allclose(
        [e[2] for e in own], [e[2] for e in other], rtol=2e-4, atol=0
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with runs of one process and of two; those of four: `python -m tests.torture distributed`."""
    folder = tmp_path_factory.mktemp("crews")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        yield trained(folder)


def trained(folder: Path):
    text = write_words(folder)
    big = folder / "big.txt"
    big.write_text(Path(text).read_text() * 12)
    jobs = {"big": (str(big), BIG), "levers": (text, LEVERS), "chain": (text, CHAIN), "long": (text, LONG)}

    def job(name, run, **more):
        text, settings = jobs[name]
        return {"texts": [text], "run": str(folder / run), "settings": settings, **more}

    for name in ("big", "levers", "chain"):
        run_events(jobs[name][0], folder / f"{name}-1", **jobs[name][1])
    interrupted(text, folder / "moved", 10, **CHAIN)
    two = run_crew(
        2,
        folder,
        [
            job("big", "big-2"),
            job("levers", "levers-2"),
            job("long", "long-2"),
            job("chain", "chain-2"),
            job("chain", "cut-2", stop_at=10),
            {"resume": str(folder / "cut-2")},
            {"resume": str(folder / "moved"), "stop_at": 20},
            job("chain", "poisoned", poison_step=7),
            job("chain", "disturbed", disturb_step=3),
            job("chain", "unseen", settings=SMALL | {"training.batch_size": 1}),
        ],
    )
    end = list(start.resume(str(folder / "moved"), device="cpu").events())[-1]
    assert isinstance(end, EndEvent) and end.step == 40
    names = ("big", "levers", "long", "chain", "cut", "again", "moved", "poisoned", "disturbed", "unseen")
    found = dict(zip(names, two, strict=True))
    return folder, text, found


@pytest.mark.parametrize("run", ["big-2", "levers-2", "chain-2"])
def test_losses_are_those_of_one_process(work, run):
    folder, _, _ = work
    reference = folder / f"{run.partition('-')[0]}-1"
    assert len(losses(reference)) > 10 and close(folder / run, reference)
    assert losses(folder / run) != losses(folder / "levers-1")


@pytest.mark.parametrize("job", ["big", "levers", "long", "chain", "moved"])
def test_all_processes_hold_the_same_bits(work, job):
    found = work[2][job]
    assert len({each["digest"] for each in found}) == 1
    assert not any("differed" in line for each in found for line in each["notices"])


@pytest.mark.parametrize(("job", "batch_size"), [("big", 5), ("levers", 7)])
def test_each_process_reads_its_rows_and_no_other_part_of_the_text(work, job, batch_size):
    found = work[2][job]
    assert [row for each in found for row in each["rows"]] == list(range(batch_size))
    for each in found:
        begin, last, end = each["own"]
        assert begin == each["read"][0] and last < each["read"][1] <= end + 1


def test_the_same_number_of_processes_resumes_bit_identically(work):
    folder, _, _ = work
    for name in LAST:
        files_equal(folder / "chain-2", folder / "cut-2", name)
    assert losses(folder / "chain-2") == losses(folder / "cut-2")


def test_a_run_moves_from_one_process_to_two_and_back(work):
    folder, _, _ = work
    assert close(folder / "moved", folder / "chain-1")


def test_divergence_in_one_process_is_one_error_in_all(work):
    folder, _, found = work
    errors = [each["error"] for each in found["poisoned"]]
    assert len(set(errors)) == 1 and "diverged" in errors[0] and "step 7" in errors[0]
    start.resume(str(folder / "poisoned"), device="cpu")  # the last good checkpoint is there


def test_weights_that_differ_are_noticed_and_put_right(work):
    found = work[2]["disturbed"]
    assert len({each["digest"] for each in found}) == 1
    assert sum("weights of the processes differed" in line for line in found[0]["notices"]) == 1


def test_what_the_first_process_refuses_is_refused_by_all(work):
    folder, _, found = work
    assert all("too few rows for 2 processes" in each["error"] for each in found["unseen"])
    assert not (folder / "unseen").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_worker_costs_nothing(work, tmp_path):
    folder, text, _ = work
    run = tmp_path / "run"
    command = train_command(text, run, LONG, "--processes", "2", "--quiet")
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        wait_for(lambda: logged(run, "checkpoint") >= 4)
        os.kill(worker_of(job.pid, 1), signal.SIGKILL)
        out, err = job.communicate(timeout=120)
    assert (job.returncode, out) == (0, f"{run}\n")
    assert err == "note: process 1 was killed (SIGKILL); all begin again from the last checkpoint\n"
    for name in LAST:
        files_equal(folder / "long-2", run, name)
    assert losses(folder / "long-2") == losses(run)


def test_an_error_is_told_once(work, tmp_path):
    settings = SMALL | {"training.optimizer": "sgd", "training.learning_rate": 1e6}
    command = train_command(work[1], tmp_path / "run", settings, "--processes", "2", "--quiet")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: training diverged") and hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes", "0"], "must be at least 1"),
        (["--processes", "two"], "must be a whole number"),
    ],
)
def test_a_senseless_number_of_processes_is_one_line(flags, message):
    result = CliRunner().invoke(app, ["train", *flags])
    assert result.exit_code == 1 and message in result.stderr


def test_a_plan_that_the_processes_would_refuse_is_refused(work):
    result = CliRunner().invoke(
        app, ["train", work[1], "--batch-size", "4", "--processes", "5", "--dry-run"], catch_exceptions=False
    )
    assert result.exit_code == 1 and "too few rows for 5 processes" in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.batch_size": 3}, "too few rows"),
        ({"training.readout": "ridge", "model.cell": "esn"}, "ridge"),
        ({"model.cell": "compressor", "model.num_layers": 2, "model.dropout": 0.1}, "compressor"),
    ],
)
def test_what_several_processes_cannot_do_alike_is_refused(settings, message):
    usual = {"training.batch_size": 8, "model.num_layers": 1, "model.dropout": 0.0}
    check_shareable(Config().updated(usual), 4)
    with pytest.raises(ConfigError, match=message):
        check_shareable(Config().updated(usual | settings), 4)


# -- parts of it in one process ----------------------------------------------------------------------


def member(rank, size):
    team = Team()
    team.rank, team.size = rank, size
    return team


@pytest.mark.parametrize(("batch_size", "size"), [(1, 1), (5, 2), (7, 3), (64, 8), (9, 9)])
def test_rows_are_dealt_whole_in_order_and_evenly(batch_size, size):
    shares = [member(rank, size).rows(batch_size) for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(batch_size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("shape", [(6, 11, 5), (1, 11, 5), (11, 3)])
def test_shares_of_the_noise_make_up_that_of_one_process(shape):
    whole = bernoulli(torch.empty(shape), 0.7, torch.Generator().manual_seed(5))
    shares = []
    for rank in range(3):
        noise = SharedNoise()
        noise.rows, noise.batch_size = member(rank, 3).rows(11), 11
        like = torch.empty(*shape[:-2], len(noise.rows), shape[-1])
        shares.append(bernoulli(like, 0.7, noise.manual_seed(5)))
    assert torch.equal(torch.cat(shares, dim=-2), whole) and 0 < whole.mean() < 1


def test_noise_that_does_not_go_by_rows_is_the_same_everywhere():
    noise = SharedNoise()
    noise.rows, noise.batch_size = range(3, 5), 9
    like = torch.empty(8, 6)
    own = bernoulli(like, 0.5, noise.manual_seed(1), by_row=False)
    assert torch.equal(own, bernoulli(like, 0.5, torch.Generator().manual_seed(1)))


def test_streams_of_some_rows_are_those_rows():
    places, table = np.arange(100, dtype=np.uint8), np.arange(100)
    whole, some = Streams(places, table, 3, 97, 7, 5), Streams(places, table, 3, 97, 7, 5, range(2, 5))
    assert (whole.num_rows, some.num_rows, some.row_length) == (7, 3, whole.row_length)
    for index in range(whole.num_windows):
        for all_rows, own in zip(whole.window(index), some.window(index), strict=True):
            assert (all_rows[2:5] == own).all()


@pytest.mark.parametrize(("symbols", "shares"), [(45_000, 3), (5_000, 2)])
def test_shares_of_a_text_cost_what_the_whole_costs(symbols, shares):
    network = new_network(ModelConfig("lstm", 6, 1, embedding_size=4, dropout=0.0), 5).eval()
    places = np.random.default_rng(0).integers(0, 5, symbols).astype(np.uint8)
    places[0] = 0
    view, extra = TextView(places, np.arange(5), 0, symbols), np.zeros(5)
    parts = [total_nats(network, view, extra, (n, shares)) for n in range(shares)]
    loss, characters = mean_nats(network, view, extra)
    assert sum(count for _, count in parts) == characters == int((places[1:] != 0).sum())
    assert sum(total for total, _ in parts) / characters == pytest.approx(loss, rel=1e-6)
    assert parts[-1][1] > 0 or symbols < 20_000


@pytest.mark.parametrize("lost", ["store", "folder"])
def test_a_store_that_somebody_removes_is_made_again_or_done_without(tmp_path, lost):
    path = tmp_path / "folder" / "store"
    path.parent.mkdir()
    crew = Crew(Rank(0, 2, 0, 0, str(path)), torch.distributed.FileStore(str(path), -1))
    crew.memory.set_timeout(timedelta(seconds=1))
    crew.remember("folder", "run")
    path.unlink()
    if lost == "folder":
        path.parent.rmdir()
    crew.has_saved()
    assert path.exists() == (lost == "store")
    if path.exists():
        crew.memory = torch.distributed.FileStore(str(path), -1)
        assert (crew.recall("folder"), crew.recall("saved")) == ("run", "yes")


# -- what other processes say, and the launcher ---------------------------------------------------


def test_what_a_process_said_is_shown_without_its_escapes(tmp_path, capsys):
    job = processes._Job(2, tmp_path)
    (tmp_path / "stderr-1").write_bytes("error: `a\x1b]0;x\x07b`\n\thint: ü\x9b2J\n".encode() + b"\xff")
    assert job.show_what_failed([processes.LOST, 1]) == 1
    assert capsys.readouterr().err == "error: `a␛]0;x␇b`\n\thint: ü\\u009b2J\n\ufffd"


@pytest.mark.parametrize(("flag", "code"), [("--version", 0), ("--unknown", 2)])
def test_one_of_several_processes_ends_without_taking_the_interpreter_down(tmp_path, flag, code):
    program = "import atexit; from charrnn.cli.main import main; atexit.register(print, 'down'); main()"
    ranks = [None, Rank(0, 2, 0, 0, str(tmp_path / "store"))]
    for rank, last in zip(ranks, ("down\n", ""), strict=True):
        more = rank.variables() if rank else {}
        command = [sys.executable, "-c", program, flag]
        done = subprocess.run(command, env=environment(**more), capture_output=True, text=True)
        assert done.returncode == code
        assert done.stdout == (f"charrnn {charrnn.__version__}\n" if code == 0 else "") + last


@pytest.mark.parametrize(
    ("rank", "size", "message"),
    [("", "2", "`RANK` in the environment is ``"), ("0", "two", "`WORLD_SIZE`"), ("2", "2", "below")],
)
def test_a_place_that_is_none_is_one_line(monkeypatch, rank, size, message):
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["train", "x"])
    assert result.exit_code == 1 and message in result.stderr and "hint: torchrun" in result.stderr


@pytest.mark.parametrize("word", ["", "x", "-", "9" * 30, "1e3", "\u0664\u0664\u0664\u0664"])
def test_a_launcher_that_is_none_is_not_waited_for(monkeypatch, word):
    monkeypatch.setenv(processes.LAUNCHER, word)
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("it ended"))
    before = set(threading.enumerate())
    processes.end_with_launcher()
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
        assert not thread.is_alive()


class Workers(processes._Job):
    """The launcher of shell commands that stand for its processes."""

    def __init__(self, folder, *commands):
        super().__init__(len(commands), folder)
        self.commands = commands

    def _start(self, rank, errors):
        return subprocess.Popen(["sh", "-c", self.commands[rank.rank]], preexec_fn=deaf)


def deaf():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def impatience(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.0)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("commands", "codes"), [(("exec sleep 9", "exit 3"), [-9, 3]), (("exit 0", "exec sleep 9"), [0, -9])]
)
def test_no_process_waits_for_one_that_has_ended(tmp_path, impatience, commands, codes):
    """Before they have found each other nobody but the launcher sees that one is missing."""
    job = Workers(tmp_path, *commands)
    assert job.run(0) == codes and job.ended_by_us == {codes.index(-9)}


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_processes_that_do_not_listen(tmp_path, monkeypatch, number):
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: signal.raise_signal(number))
    with Workers(tmp_path, *["exec sleep 9"] * 2).prepared() as job:
        assert job.run(0) == [-9, -9] and len(job.signals) >= 2


@pytest.mark.skipif(os.name != "posix", reason="a terminal's signals")
def test_a_hangup_is_passed_on_as_often_as_it_comes_and_ctrl_z_holds_for_all(tmp_path, monkeypatch):
    told = []

    class Worker:
        def __init__(self, name):
            self.name, self.poll = name, lambda: 0

        def send_signal(self, number):
            told.append((self.name, signal.Signals(number).name))

    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number.name)))
    with Workers(tmp_path, "", "").prepared() as job:
        job.workers = [Worker(0), Worker(1)]
        for number in (signal.SIGHUP, signal.SIGTSTP, signal.SIGHUP):
            signal.raise_signal(number)
    stopped = [(0, "SIGSTOP"), (1, "SIGSTOP"), (os.getpid(), "SIGSTOP"), (0, "SIGCONT"), (1, "SIGCONT")]
    assert told == [(0, "SIGHUP"), *stopped, (0, "SIGHUP")] and not job._impatient
