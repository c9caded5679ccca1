"""The commands from end to end, at a small size: what scripts and people rely on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from charrnn import memorisation
from charrnn.cli.evaluate import _tell as tell
from charrnn.cli.main import app
from charrnn.config import build_config
from charrnn.evaluation import DynamicEvaluation, Evaluation
from charrnn.events import PlanEvent
from charrnn.rendering.plan import plan_line
from charrnn.training.plan import make_plan

ROOT = Path(__file__).resolve().parents[1]
HARBOUR = ROOT / "corpora" / "harbour.txt"


def charrnn(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small trained run called ``small``, as working directory."""
    path = tmp_path_factory.mktemp("work")
    before = os.getcwd()
    os.chdir(path)
    os.environ["CHARRNN_CACHE"] = str(path / "cache")
    text = HARBOUR.read_text(encoding="utf-8") * 3
    (path / "harbour.txt").write_text(text, encoding="utf-8")
    arguments = (
        "train harbour.txt --run small --steps 250 --hidden-size 32 --val-fraction .2 --test-fraction .2"
    )
    charrnn(*arguments.split())
    yield path
    os.chdir(before)


@pytest.fixture(autouse=True)
def same_cache(folder, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(folder / "cache"))


def test_help_is_quick_to_import_and_shows_every_command():
    script = (
        "import sys; sys.argv = ['charrnn', '--help']\n"
        "from charrnn.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for command in ("train", "sample", "evaluate", "inspect", "corpora", "runs", "doctor"):
        assert command in out


def every_command(group=app, path=()):
    from typer.main import get_command

    def walk(command, names):
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                yield from walk(child, (*names, name))
        else:
            yield names, command

    return list(walk(get_command(group), path))


@pytest.mark.parametrize("names", [names for names, _ in every_command()], ids=" ".join)
def test_every_command_explains_itself_and_is_in_the_reference(names):
    assert len(charrnn(*names, "--help").stdout) > 200
    assert f"charrnn {' '.join(names)}" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_train_json(folder):
    data = json.loads(
        charrnn("train", "harbour.txt", "--run", "j", "--steps", 3, "--hidden-size", 8, "--json").stdout
    )
    promised = "run steps epochs seconds chars_per_second params best_val_loss best_val_bpc stopped_by"
    assert set(data) >= set(promised.split())
    assert data["run"] == "runs/j" and data["steps"] == 3 and data["stopped_by"] == "steps"
    assert data["best_val_bpc"] == pytest.approx(data["best_val_loss"] / 0.6931471805599453)


def test_train_without_a_name_picks_a_free_one(folder):
    for expected in ("runs/harbour", "runs/harbour-2"):
        result = charrnn("train", "harbour.txt", "--steps", 2, "--hidden-size", 8)
        assert result.stdout == f"{expected}\n"
        assert "stopped by steps" in result.stderr


def test_train_from_stdin_and_quiet(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "charrnn",
        "train",
        "-",
        "--run",
        "piped",
        "--steps",
        "2",
        "--hidden-size",
        "8",
    ]
    with HARBOUR.open("rb") as text:
        done = subprocess.run([*command, "--quiet"], stdin=text, capture_output=True, text=True, check=True)
    assert done.stdout == "runs/piped\n" and done.stderr == ""


def test_a_plan_names_the_levers_that_are_not_at_their_defaults():
    def line(**values):
        settings = {name.replace("__", "."): value for name, value in values.items()}
        config = make_plan(build_config(values={"training.steps": 9} | settings), 10**6, 10**4, 60, "cpu")
        return plan_line(PlanEvent(0, config.to_json(), 5, 10**6, 10**4, 0, 60, "cpu fp32"))

    assert line().endswith("dropout 0; 9 steps")
    changed = line(model__zoneout=0.1, model__skip_connections=True, training__averaging="ema")
    assert changed.endswith("dropout 0, zoneout 0.1, skip_connections, averaging ema; 9 steps")


def test_dry_run_prints_the_plan_and_writes_nothing(folder):
    result = charrnn("train", "harbour.txt", "--run", "never", "--minutes", 1, "--dry-run")
    assert "model.hidden_size" in result.stdout and "expected time" in result.stdout
    data = json.loads(
        charrnn("train", "harbour.txt", "--run", "never", "--minutes", 1, "--dry-run", "--json").stdout
    )
    assert data["config"]["training"]["batch_size"] and data["memory_bytes"] > 0
    assert not (folder / "runs" / "never").exists()


def test_sample_json_and_text_agree(folder):
    how = ("sample", "small", "--length", 60, "--seed", 7, "--prompt", "The ")
    data = json.loads(charrnn(*how, "--json").stdout)
    assert set(data) >= {"text", "prompt", "seed", "chars_per_second"}
    assert len(data["text"]) == 60 and data["prompt"] == "The " and data["seed"] == 7
    assert charrnn(*how).stdout == "The " + data["text"]
    several = json.loads(charrnn(*how, "--count", 3, "--json").stdout)["texts"]
    assert several[0] == data["text"] and len(set(several)) == 3


def test_sample_with_held_neurons(folder):
    how = ("sample", "small", "--length", 120, "--seed", 7)
    free, high, low, own = (
        charrnn(*how, *(word for n in range(8) for word in ("--hold", f"L1.c{n}={value}") if value)).stdout
        for value in (None, 0.9, -0.9, "p95")
    )
    assert free == charrnn(*how).stdout
    assert len({free, high, low, own}) == 4 and {len(text) for text in (free, high, low, own)} == {120}
    assert charrnn(*how, "--hold", "L1.c3=mean").stdout == charrnn(*how, "--hold", " L1.c3 = mean ").stdout
    held = charrnn(*how, "--hold", "L1.o3=0", "--hold", "L1.h5=0.5")
    assert held.stdout != free
    data = json.loads(charrnn(*how, "--hold", "L1.o3=0", "--hold", "L1.h5=0.5", "--json").stdout)
    assert data["text"] == held.stdout


def test_sample_to_a_file_from_a_prompt_file(folder):
    (folder / "prompt.txt").write_text("The harbour", encoding="utf-8")
    assert (
        charrnn("sample", "small", "--prompt-file", "prompt.txt", "-o", "out.txt", "--length", 20).stdout
        == ""
    )
    assert (folder / "out.txt").read_text(encoding="utf-8").startswith("The harbour")


def test_sample_reports_unknown_characters_of_the_prompt(folder):
    result = charrnn("sample", "small", "--prompt", "Ж The", "--length", 5)
    assert "does not know `Ж`" in result.stderr


def test_the_model_file_alone_is_enough(folder, tmp_path, monkeypatch):
    data = (folder / "runs" / "small" / "best" / "model.safetensors").read_bytes()
    (tmp_path / "alone.safetensors").write_bytes(data)
    here = charrnn("sample", "small", "--seed", 1, "--length", 30).stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "empty"))
    assert charrnn("sample", "alone.safetensors", "--seed", 1, "--length", 30).stdout == here


def test_evaluate_json(folder):
    data = json.loads(charrnn("evaluate", "small", "--json").stdout)
    keys = {"run", "chars", "loss", "bpc", "bpb", "context", "dynamic", "baselines", "stderr_bpc"}
    assert set(data) >= keys and set(data["baselines"]) >= {"unigram", "ngram", "xz", "ppmd"}
    assert data["context"] == "carried" and data["dynamic"] is None
    cold = json.loads(charrnn("evaluate", "small", "--split", "test", "--cold-window", 64, "--json").stdout)
    assert cold["context"] == "cold-64"


def test_evaluate_dynamic_is_reported_apart(folder):
    static = json.loads(charrnn("evaluate", "small", "--json").stdout)
    data = json.loads(charrnn("evaluate", "small", "--dynamic", "--dynamic-rate", "1e-3", "--json").stdout)
    assert {**data, "dynamic": None} == static
    assert data["dynamic"]["settings"]["rate"] == 1e-3 and data["dynamic"]["settings"]["scaled"] is True
    assert data["dynamic"]["bpc"] != static["bpc"]
    table = charrnn("evaluate", "small", "--dynamic").stdout
    assert "small, dynamic" in table and f"{static['bpc']:.3f}" in table


def test_evaluate_tells_more_than_one_number(folder, monkeypatch):
    monkeypatch.setattr(memorisation, "find_copies", partial(memorisation.find_copies, samples=3, length=90))
    more = ("--context-lengths", "--memorisation", "--against", "small")
    data = json.loads(charrnn("evaluate", "small", *more, "--json").stdout)
    assert data["against"]["difference_bpc"] == 0 and data["against"]["trained_on"] is False
    assert [row["context"] for row in data["context_lengths"]["reach"]][:3] == [1, 2, 4]
    assert (
        len(data["memorisation"]["sampled"]) == 3 and data["memorisation"]["quantiles"]["sampled"]["max"] > 2
    )
    shown = charrnn("evaluate", "small", *more).stdout
    for words in ("not more than two", "how many before them are known", "3 samples"):
        assert words in shown


def test_evaluate_paints_what_every_character_costs(folder, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("The harbour\x1b[31m Ж at night\n", encoding="utf-8")
    data = json.loads(charrnn("evaluate", "small", text, "--per-character", "--json").stdout)
    assert "".join(row["character"] for row in data["characters"]) == "The harbour\x1b[31m Ж at night\n"
    bits = sum(row["bits"] for row in data["characters"])
    assert bits / data["chars"] == pytest.approx(data["bpc"], abs=1e-4) and data["baselines"] == {}
    shown = charrnn("evaluate", "small", text, "--per-character").stdout
    assert "harbour␛[31m" in shown and "[Ж]" in shown and "\x1b" not in shown
    both = charrnn("evaluate", "small", text, "--per-character", "--against", "small").stdout
    assert "most different" in both


def test_evaluate_says_when_the_model_loses(folder):
    result = charrnn("evaluate", "small")
    assert "bits per char" in result.stdout and "loses to" in result.stderr


@pytest.mark.parametrize(("dynamic", "wins"), [(1.1, True), (1.3, False), (None, False)])
def test_evaluate_says_whether_learning_while_it_reads_helps(capsys, dynamic, wins):
    again = None if dynamic is None else DynamicEvaluation(0, dynamic, dynamic, None, 1e-3, "val", True)
    baselines = {"unigram": 4.0, "ngram": 1.5, "xz": 1.2, "ppmd": None}
    tell(Evaluation(9, 0, 0, 1.9, 1.9, None, "carried", baselines, dynamic=again), "own")
    said = " ".join(capsys.readouterr().err.split())
    assert "loses to ngram, xz on this text" in said
    assert ("learning while it reads, it does not" in said) == wins


def test_evaluate_other_text_and_missing_training_text(folder, tmp_path, monkeypatch):
    other = tmp_path / "other.txt"
    other.write_text("“The harbour!” said Жанна.\n" * 20, encoding="utf-8")
    (folder / "harbour.txt").rename(folder / "gone.txt")
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "empty"))
    try:
        result = charrnn("evaluate", "small", other, "--json")
    finally:
        (folder / "gone.txt").rename(folder / "harbour.txt")
    data = json.loads(result.stdout)
    assert data["chars"] == 20 * 27 and data["unseen_chars"] > 0
    assert set(data["baselines"].values()) == {None} and "cannot be found" in result.stderr


def test_inspect_neurons_json_and_board_show_the_same(folder):
    data = json.loads(charrnn("inspect", "neurons", "small", "--json").stdout)
    assert set(data) >= {"run", "chars", "documents", "neurons_tested", "hypotheses_tested", "rows"}
    assert data["neurons_tested"] == 32 and len(data["rows"]) == data["hypotheses_tested"] > 10
    names = [row["hypothesis"] for row in data["rows"]]
    assert len(set(names)) == len(names)
    board = charrnn("inspect", "neurons", "small").stdout
    assert all(name in board for name in names)
    card = charrnn("inspect", "neurons", "small", "--neuron", "L1.f3").stdout
    assert "L1.f3" in card and card.index("fails first") < card.index("works")


def test_inspect_neurons_on_other_text_with_chosen_hypotheses(folder):
    result = charrnn(
        "inspect", "neurons", "small", "--text", HARBOUR, "--hypothesis", "column", "--top", 3, "--json"
    )
    (row,) = json.loads(result.stdout)["rows"]
    assert row["hypothesis"] == "column" and len(row["runners_up"]) == 2


def test_inspect_neurons_reads_as_much_as_is_asked_for(folder, tmp_path):
    (tmp_path / "long.txt").write_text(HARBOUR.read_text(encoding="utf-8") * 4, encoding="utf-8")
    ask = ("inspect", "neurons", "small", "--text", tmp_path / "long.txt", "--hypothesis", "column", "--json")
    how = ("--ablation", "none")
    read = {n: json.loads(charrnn(*ask, *how, "--max-chars", n).stdout)["chars"] for n in (20_000, 60_000)}
    assert 0.6 * 20_000 <= read[20_000] <= 20_000 < read[60_000] <= 60_000
    places = json.loads(charrnn(*ask, "--like", "th", "--max-chars", 20_000).stdout)
    assert places["chars"] == read[20_000]


@pytest.mark.parametrize("command", ["neurons small --text", "gates small --text", "hypotheses"])
def test_inspect_reads_other_encodings(folder, tmp_path, command):
    text = HARBOUR.read_text(encoding="utf-8").replace("a", "ä")
    for encoding in ("utf-8", "cp1252"):
        (tmp_path / encoding).write_bytes(text.encode(encoding, "replace"))
    (tmp_path / "utf-8").write_bytes((tmp_path / "cp1252").read_bytes().decode("cp1252").encode())
    common = ["inspect", *command.split()]
    plain = charrnn(*common, tmp_path / "utf-8", "--json").stdout
    assert "--encoding cp1252" in charrnn(*common, tmp_path / "cp1252", code=1).stderr
    other = charrnn(*common, tmp_path / "cp1252", "--encoding", "cp1252", "--json").stdout
    assert other.replace("cp1252", "utf-8") == plain


def test_inspect_neurons_holds_a_neuron_at_what_is_asked_for(folder):
    how = ("inspect", "neurons", "small", "--neuron", "L1.c3", "--hypothesis", "is_space", "--json")
    found = {
        a: json.loads(charrnn(*how, "--ablation", a).stdout) for a in ("mean", "zero", "resample", "none")
    }
    alone = {a: data["cards"][0]["row"]["cause"] for a, data in found.items()}
    assert alone.pop("none") is None and found["none"]["ablation"] is None
    values = {a: cause["alone"]["value"] for a, cause in alone.items()}
    assert values["zero"] == 0 and values["resample"] is None and values["mean"] not in (0, None)
    assert len({cause["alone"]["on"] for cause in alone.values()}) == 3


def test_inspect_neurons_svg_is_whole_and_asks_for_nothing(folder):
    charrnn("inspect", "neurons", "small", "--svg", "board.svg")
    picture = (folder / "board.svg").read_text(encoding="utf-8")
    import xml.etree.ElementTree as ElementTree

    ElementTree.fromstring(picture)
    markup = re.sub(r">[^<]*</text>", ">", picture)  # the painted text may well speak of a URL
    assert set(re.findall(r"https?://[^\"' )]+", markup)) == {"http://www.w3.org/2000/svg"}


def test_runs_corpora_hypotheses_doctor(folder):
    assert "runs/small" in charrnn("runs", "list").stdout
    assert "training.seed" in charrnn("runs", "show", "small").stdout
    assert (
        json.loads(charrnn("runs", "show", "small", "--json").stdout)["config"]["model"]["hidden_size"] == 32
    )
    assert "tinyshakespeare" in charrnn("corpora", "list").stdout
    assert json.loads(charrnn("corpora", "show", "stdlib", "--json").stdout)["builtin"] == "stdlib"
    assert "in_quote" in charrnn("inspect", "hypotheses").stdout
    assert "torch" in charrnn("doctor").stdout


def test_ctrl_c_saves_and_exits_130(folder):
    command = [sys.executable, "-m", "charrnn", "train", "harbour.txt", "--run", "cut", "--minutes", "5"]
    with subprocess.Popen(
        [*command, "--hidden-size", "16"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stderr.readline()  # the plan: training has begun
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "stopped by interrupted" in process.stderr.read()
    assert charrnn("runs", "show", "cut", "--last").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_terminal_that_is_closed_saves_and_stops_unless_nohup_wants_it_ignored(folder, monkeypatch):
    """Shells say it twice: the kernel tells the processes of a terminal, and the shell its jobs."""

    @contextmanager
    def closing(*_, **__):
        def show(event):
            if event.name == "step" and event.step == 3:
                signal.raise_signal(signal.SIGHUP)
                signal.raise_signal(signal.SIGHUP)

        yield show

    monkeypatch.setattr("charrnn.rendering.live.make_reporter", closing)
    command = ["train", "harbour.txt", "--hidden-size", "8", "--steps", "5", "--overwrite", "--json"]
    ended = [charrnn(*command, "--run", "hung", code=130)]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ended.append(charrnn(*command, "--run", "nohup"))
    finally:
        signal.signal(signal.SIGHUP, before)
    found = [json.loads(each.stdout) for each in ended]
    assert [(each["steps"], each["stopped_by"]) for each in found] == [(3, "interrupted"), (5, "steps")]


def test_unknown_flags_exit_2(folder):
    charrnn("train", "--no-such-flag", code=2)
    charrnn("corpora", "show", code=2)


def test_python_m_works_and_version_is_that_of_the_package(folder):
    from charrnn import __version__

    out = subprocess.run(
        [sys.executable, "-m", "charrnn", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout == f"charrnn {__version__}\n"


README_COMMANDS = [
    line.removeprefix("$ ").split("  #")[0].strip()
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("$ charrnn ")
]


def test_the_readme_shows_commands():
    assert len(README_COMMANDS) >= 6


@pytest.mark.parametrize("command", README_COMMANDS)
def test_readme_commands_run_at_a_small_size(folder, command):
    words = shlex.split(command)[1:]
    (folder / "corpus.txt").write_text(HARBOUR.read_text(encoding="utf-8") * 10, encoding="utf-8")
    (folder / "names.txt").write_text("ada\nbob\ncleo\n" * 200, encoding="utf-8")
    if words[0] == "train":
        words += ["--steps", "2", "--hidden-size", "8"] if "--resume" not in words else []
    if words[:2] != ["corpora", "get"]:
        charrnn(*words)


def test_evaluate_reads_a_text_in_its_own_encoding(folder, tmp_path):
    losses = []
    for encoding in ("utf-8", "utf-16"):
        text = tmp_path / encoding
        text.write_bytes("The harbour at night\n".encode(encoding))
        losses.append(
            json.loads(charrnn("evaluate", "small", text, "--encoding", encoding, "--json").stdout)["loss"]
        )
    assert losses[0] == losses[1]


def test_evaluate_warns_when_the_text_is_the_one_trained_on(folder):
    result = charrnn("evaluate", "small", "harbour.txt", "--json")
    assert json.loads(result.stdout)["trained_on"] is True and "was trained on this text" in result.stderr


def test_the_list_of_runs_has_numbers(folder):
    (row,) = [
        row for row in json.loads(charrnn("runs", "list", "--json").stdout)["runs"] if "small" in row["run"]
    ]
    assert row["hidden_size"] == 32 and type(row["step"]) is int and type(row["val_bpc"]) is float


def program(*arguments, redirect="", **environment):
    """Run the program in a shell of its own; return its exit code, stdout and stderr as bytes."""
    command = shlex.join([sys.executable, "-m", "charrnn", *arguments])
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirect}"], capture_output=True, env=os.environ | environment
    )
    return done.returncode, done.stdout, done.stderr


def test_pipes_get_utf_8_whatever_the_locale(folder):
    code, out, _ = program("corpora", "list", PYTHONIOENCODING="cp1252")
    assert code == 0 and "─" in out.decode("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["corpora", "list"], ["runs", "list"], ["inspect", "hypotheses"]])
def test_a_table_that_cannot_be_written_is_one_error(folder, arguments):
    code, _, error = program(*arguments, redirect="> /dev/full")
    assert (
        code == 1
        and error.startswith(b"error: cannot write to standard output")
        and b"Traceback" not in error
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no such redirection there")
def test_closed_streams_are_no_traceback(folder):
    code, _, error = program("runs", "list", redirect=">&-")
    assert code == 1 and b"standard output is closed" in error
    code, out, _ = program("runs", "list", redirect="2>&-")
    assert code == 0 and out
    pipe = "import os; from charrnn.cli.main import _prepare_streams as p; p(); print(0 in os.pipe())"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" <&-', sys.executable, pipe], capture_output=True)
    assert done.stdout == b"False\n"  # processes with another standard input would lose it


def test_many_samples_are_made_one_after_the_other(folder):
    _code, out, _ = program(
        "sample", "small", "--count", "1000000000", "--length", "1", redirect="| head -c 20"
    )
    assert len(out) == 20


@pytest.mark.parametrize("module", ["typer", "rich.console", "charrnn.training", "torch.nn", "numpy.linalg"])
def test_ctrl_c_while_the_program_starts_is_one_line(folder, module):
    """The interrupt comes at a place that is certain: when a module is first imported."""
    script = (
        "import os, signal, sys\n"
        "from charrnn.__main__ import main\n"
        "class Watching:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Watching())\n"
        "sys.argv = ['charrnn', 'train', 'harbour.txt', '--steps', '1']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_training_goes_on_when_nothing_can_be_said(folder):
    options = ["harbour.txt", "--steps", "3", "--preset", "tiny", "--overwrite", "--run"]
    assert program("train", *options, "full", redirect="2> /dev/full")[:2] == (0, b"runs/full\n")
    command = [sys.executable, "-m", "charrnn", "train", *options, "gone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stderr.close()
        assert process.stdout.read() == b"runs/gone\n"
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes there")
def test_reader_that_leaves_is_no_error(folder):
    command = [sys.executable, "-m", "charrnn", "sample", "small", "--length", "200000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
