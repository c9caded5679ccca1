"""Text and names cannot speak to the terminal: every command, on a pseudo-terminal, with hostile ones."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rich.table import Table
from rich.text import Text
from terminals import OBEYED, at_terminal, obeyed
from typer.testing import CliRunner

from charrnn import runs
from charrnn.cli.main import app
from charrnn.rendering.console import SafeConsole
from charrnn.rendering.svg import save_svg
from charrnn.rendering.tables import table
from charrnn.rendering.text import one_line, visible

MARK = "\x1b[4;5;7m"
"""Colours that the program never uses."""
ATTACKS = (
    MARK,
    "\x1b]0;owned\x07",
    "\x9b2J",
    "\x08\x08",
    "\r",
    "\x7f",
    "\u202eevil\u2066",
    "\ufeff",
    "\x0b\x0c",
    "\0",
)
EVIL = f"ev{MARK}il\x9b1m\u202e[red]"
"""As a name of a run and of a file, with markup in it."""
SIZES = ("--hidden-size", "8", "--num-layers", "1", "--batch-size", "2", "--seq-len", "16", "--device", "cpu")


def hostile_text() -> str:
    picker = random.Random(3)
    words = ["the cat", "said", '"no"', "(twice)", "and ran.", "Then it rained;", "12", *ATTACKS]
    lines = (" ".join(picker.choices(words, k=7)) for _ in range(400))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a hostile text, and two runs that were trained on it, one at a terminal."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / f"{EVIL}.txt").write_bytes(hostile_text().encode())
    (folder / "short.txt").write_text(hostile_text()[:300], encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        train = ["train", f"{EVIL}.txt", "--steps", "6", "--set", "training.num_evals=3", *SIZES]
        # done here first, so that no child has to import what it needs
        for arguments in ([*train, "--run", "b", "--seed", "2"], ["evaluate", "b"], ["sample", "b"]):
            assert CliRunner().invoke(app, arguments).exit_code == 0
        return folder, at_terminal(folder, *train, "--run", EVIL)


@pytest.fixture(autouse=True)
def there(place, own_cache, monkeypatch):
    monkeypatch.chdir(place[0])
    monkeypatch.setenv("CHARRNN_CACHE", str(place[0] / "cache"))


def test_training_shows_its_samples_and_obeys_none(place):
    code, shown = place[1]
    assert code == 0, shown
    assert obeyed(shown) == [] and MARK not in shown and "␛" in shown


HOT = ("--temperature", "3", "--length", "400", "--seed", "1")
COMMANDS = {
    "dry run": ["train", f"{EVIL}.txt", "--run", EVIL + "2", "--dry-run"],
    "run is there": ["train", f"{EVIL}.txt", "--run", EVIL],
    "sample": ["sample", EVIL, *HOT],
    "sample, prompt": ["sample", EVIL, *HOT, "--prompt", f"cat{MARK}"],
    "sample, unknown characters": ["sample", EVIL, "--length", "9", "--prompt", "cat\x1c\x85"],
    "sample, colour": ["sample", EVIL, *HOT, "--colour", "surprisal"],
    "sample, neuron": ["sample", EVIL, *HOT, "--colour", "L1.c3", "--count", "2"],
    "sample, no such colour": ["sample", EVIL, "--colour", f"L1{MARK}"],
    "evaluate": ["evaluate", EVIL],
    "evaluate, text": ["evaluate", EVIL, f"{EVIL}.txt"],
    "evaluate, characters": ["evaluate", EVIL, "short.txt", "--per-character"],
    "evaluate, against": ["evaluate", "b", "short.txt", "--per-character", "--against", EVIL],
    "compress": ["compress", EVIL, "short.txt", "-o", f"{EVIL}.crnn"],
    "decompress": ["decompress", "b", f"{EVIL}.crnn", "-o", "back"],
    "neurons": ["inspect", "neurons", EVIL, "--text", f"{EVIL}.txt", "--hypothesis", "column"],
    "neuron": ["inspect", "neurons", EVIL, "--neuron", "L1.c0", "--ablation", "none"],
    "like": ["inspect", "neurons", EVIL, "--like", f"cat{MARK}"],
    "gates": ["inspect", "gates", EVIL],
    "gradients": ["inspect", "gradients", EVIL],
    "hypotheses": ["inspect", "hypotheses", f"{EVIL}.txt"],
    "hypothesis": [
        "inspect",
        "hypotheses",
        f"{EVIL}.txt",
        "--hypothesis",
        f"mine=/{MARK}/".replace("[", r"\["),
    ],
    "no such hypothesis": ["inspect", "hypotheses", "--hypothesis", f"mine=/({MARK}/"],
    "runs": ["runs", "list"],
    "run": ["runs", "show", EVIL],
    "corpora": ["corpora", "show", EVIL],
    "doctor": ["doctor"],
    "no such option": ["sample", f"--{MARK}"],
    "no such command": [MARK],
    "too many arguments": ["sample", EVIL, MARK, "\x9b"],
    "no such text": ["train", f"missing{MARK}\x9b\n\r"],
    "no number": ["sample", EVIL, "--length", MARK],
}
SHOWS = [name for name in COMMANDS if name not in ("dry run", "doctor", "sample, unknown characters")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_obeys_nothing_of_a_text_or_a_name(place, name, monkeypatch):
    if name == "doctor":
        monkeypatch.setenv("CHARRNN_CACHE", EVIL)
    code, shown = at_terminal(place[0], *COMMANDS[name])
    assert "Traceback" not in shown and code in (0, 1, 2), shown
    assert obeyed(shown) == [] and MARK not in shown
    if name in SHOWS:
        assert "␛" in shown or "\\x1b" in shown, shown


def test_pipes_and_files_get_the_text_itself(tmp_path):
    arguments = ["sample", EVIL, *HOT]
    piped = CliRunner().invoke(app, arguments)
    text = piped.stdout_bytes.decode()
    assert piped.exit_code == 0 and {"\x1b", "\x9b", "\u202e", "\0", "\r"} <= set(text)
    CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert (tmp_path / "out").read_bytes().decode() == text
    _, shown = at_terminal(Path.cwd(), *arguments)
    assert shown.replace("\r\n", "\n") == visible(text) + "\n"


@pytest.mark.parametrize(
    "command", [["neurons", EVIL, "--neuron", "L1.c0", "--ablation", "none"], ["gates", EVIL]]
)
def test_a_picture_of_a_hostile_run_is_well_formed(tmp_path, command):
    result = CliRunner().invoke(app, ["inspect", *command, "--svg", str(tmp_path / "x.svg")])
    assert result.exit_code == 0, result.stderr
    text = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
    assert "␛" in text and not OBEYED.search(text)


def test_every_character_in_a_picture_is_one_that_xml_allows(tmp_path):
    edges = (0, 8, 0xB, 0xE, 0x1F, 0x7F, 0x9F, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFDD0, 0xFFFD, 0xFFFE, 0xFFFF)
    text = "".join(map(chr, (*edges, 0x1FFFE, 0x10FFFF)))
    save_svg(tmp_path / "x.svg", lambda console: console.print(Text(text)), 200)
    shown = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
    assert "\\ufffe\\uffff" in shown and "\U0001fffe" in shown


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied", f"{EVIL}/last")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "list_runs", refuse)
    result = CliRunner().invoke(app, ["runs", "list"])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and not OBEYED.search(result.stderr)
    assert (
        result.stderr.startswith("error: cannot use `ev␛[4;5;7mil") and "Permission denied" in result.stderr
    )


# -- the pieces ---------------------------------------------------------------------------------

ANY = some.text(
    some.characters(codec=None) | some.sampled_from("\x1b[]\x9b\r\n\t\b\0\u202e\ufeff\ud800\udc9b")
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ANY)
def test_what_is_visible_is_not_obeyed(text):
    shown = visible(text)
    assert not OBEYED.search(shown) and shown == visible(shown)
    assert not any(0xD800 <= ord(char) < 0xE000 for char in shown)
    assert "\n" not in one_line(text) and "\t" not in one_line(text)
    assert visible("".join(filter(str.isprintable, text))) == "".join(filter(str.isprintable, text))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(ANY)
def test_a_console_obeys_nothing_of_what_it_is_given(text):
    console = SafeConsole(
        force_terminal=True, color_system="truecolor", width=60, record=True, highlight=False
    )
    grid = Table(title=Text(text))
    grid.add_column(Text(text, style="bold red"))
    grid.add_row(Text(text))
    with console.capture() as capture:
        console.print(Text.assemble("a", (text, "blue")), grid, table([text, f">{text}"], [(text, text)]))
    assert obeyed(capture.get()) == []


def test_names_in_tables_are_no_markup():
    console = SafeConsole(width=60, highlight=False)
    with console.capture() as capture:
        console.print(table(["[/]", ">[red]x[/red]"], [("[bold]", ":smile:")]))
    assert all(name in capture.get() for name in ("[/]", "[red]x[/red]", "[bold]", ":smile:"))
