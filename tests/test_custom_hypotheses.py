"""Hypotheses of the user's own, and hypotheses tried on a text without a model."""

from __future__ import annotations

import io
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.config import TextConfig
from charrnn.errors import InspectionError
from charrnn.inspection import hypotheses
from charrnn.inspection.hypotheses import TextProfile, custom
from charrnn.inspection.hypotheses.custom import resolve, resolve_all
from charrnn.inspection.hypotheses.trial import MIN_EVENTS, try_hypotheses
from charrnn.inspection.pieces import cut_pieces
from charrnn.rendering.hypotheses import print_trials
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources

PROFILE = TextProfile(kind="prose", wrap_column=10, indent_unit=4)
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"


def written(spec: str, text: str) -> str:
    values = resolve(spec).label(text, PROFILE)
    return "".join("?" if np.isnan(value) else ".1"[int(value)] for value in values)


# In the text ⏎ is a newline; in the labels . is 0 and ? is "not scored".
@pytest.mark.parametrize(
    "spec, text, marks",
    [
        (r'q=/"(?P<in>[^"]*)"?/', 'a "bc" d', "...11..."),
        (r'q=/"[^"]*"?/', 'a "bc" d', "..1111.."),
        (r'q=/"[^"]*"/', 'a "bc" d', ".....1.."),
        (r'q=/"(?P<in>[^"]*)"/', 'a "bc" d', "........"),
        (r"c=/#.*/", "a #b⏎c", "..11.."),
        (r"c=/#.*/s", "a #b⏎c", "..1111"),
        (r"the=/\bthe\w*/i", "The then", "..1...11"),
        (r"c=/\/\*.*?\*\//s", "/*a⏎*/b", ".....1."),
        (r"who=/^[A-Z]+:/", "AB: c⏎D:", "..1....1"),
        (r"y=/x(?P<in>y)?z/", "xz xyz", "......"),
        (r"a=/a*/", "baa", ".11"),
        (r"Да=/да/i", "Да, да", ".1...1"),
        (r"link=/\[\[(?P<in>[^\]]*)/", "[[a]] [[b", "..1.....1"),
    ],
)
def test_a_regular_expression_counts_from_where_the_text_so_far_has_the_match(
    spec: str, text: str, marks: str
) -> None:
    assert written(spec, text.replace("⏎", "\n")) == marks
    assert resolve(spec).name == spec.split("=")[0]


CAUSAL_PATTERNS = (
    *(
        '"(?P<in>[^"]*)"?',
        '"[^"]*"',
        r"#.*",
        r"\bab\w*",
        "a+b?",
        r"(?<=b)a",
        r"^a+",
        r"\((?P<in>[^)]*)",
        "a|b+",
    ),
)


@pytest.mark.parametrize("pattern", CAUSAL_PATTERNS)
def test_a_regular_expression_agrees_with_a_search_of_every_prefix(pattern: str) -> None:
    rng = random.Random(3)
    for _ in range(30):
        text = "".join(rng.choices(['"', "a", "b", "ab", " ", "#", "(", ")", "\n"], k=40))
        slow = [covered(pattern, text[: end + 1]) for end in range(len(text))]
        np.testing.assert_array_equal(
            resolve(f"x=/{pattern}/").label(text, PROFILE), slow, err_msg=repr(text)
        )


def covered(pattern: str, prefix: str) -> bool:
    """Return whether the last character of a text is in a match."""
    compiled = re.compile(pattern, re.MULTILINE)
    group = "in" if "in" in compiled.groupindex else 0
    return any(m.start(group) < m.end(group) == len(prefix) for m in compiled.finditer(prefix))


SAMPLE = 'He "said no", and abc\nabd (ef) ab.\n\n' * 40


@pytest.mark.parametrize(
    "spec, looks",
    [
        (r'q=/"(?P<in>[^"]*)"?/', False),
        (r"word=/\w+/", False),
        (r"w=/ab(?!c)/", True),
        (r"w=/\w+$/", True),
        ("in_quote & ~is_space", False),
        ("in_quote | word_boundary_next", True),
    ],
)
def test_what_looks_ahead_is_found_out(spec: str, looks: bool) -> None:
    (hypothesis,) = resolve_all([spec], SAMPLE, PROFILE)
    assert hypothesis.lookahead == looks
    assert hypothesis.type == "binary"


@pytest.mark.parametrize(
    "spec, message, hint",
    [
        ("in_qoute", "unknown hypothesis `in_qoute`", "did you mean `in_quote`?"),
        ("", "unknown hypothesis ``", "known: "),
        ("x=/(/", "`(` is no valid regular expression", "'name=/regex/'"),
        ("x=/a/g", "`g` is no flag", "i ignores case"),
        ("x=abc", "between slashes", "for example"),
        ("column=/a/", "`column` is the name of a built-in hypothesis", "another"),
        ("in_quote & ", "`in_quote & ` is no combination", "~ (not)"),
        ("in_quote & f(column)", "is no combination", "~ (not)"),
        ("in_quote & 1", "is no combination", "~ (not)"),
        ("in_quote & ~colum", "unknown hypothesis `colum`", "did you mean `column`?"),
        ("(" * 500 + ")" * 500, "is no combination", "~ (not)"),
        ("absent.npy", "there is no file `absent.npy`", "numpy.save"),
        ("absent.py:f", "there is no file `absent.py`", "file.py:function"),
        ("absent.py", "`absent.py` names no function", "file.py:function"),
    ],
)
def test_what_cannot_be_resolved_says_why(spec: str, message: str, hint: str) -> None:
    with pytest.raises(InspectionError) as caught:
        resolve(spec)
    assert message in caught.value.message and hint in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no alarm to interrupt it")
def test_a_regular_expression_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "_REGEX_SECONDS", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(InspectionError, match=r"takes too long"):
        resolve(r"x=/(a+)+$b/").label("a" * 60 + "c", PROFILE)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize(
    "spec, marks",
    [
        ("is_space", "..1.1."),
        ("~is_space", "11.1.1"),
        ("is_upper|is_space", "1.111."),
        ("is_upper | is_vowel & ~is_space", "11.1.1"),
        ("(is_upper | is_vowel) & ~is_vowel", "...1.."),
        ("word_boundary_next | is_space", ".1?1??"),
        ("column & is_upper", "1..1.."),
    ],
)
def test_combinations(spec: str, marks: str) -> None:
    assert written(spec, "Ao B a") == marks


def module(folder: Path, source: str) -> str:
    path = folder / "mine.py"
    path.write_text(source, encoding="utf-8")
    return f"{path}:label"


@pytest.mark.parametrize(
    "source, expected, type",
    [
        ("def label(text): return [c == 'a' for c in text]", [1, 0, 1], "binary"),
        ("def label(text): return range(len(text))", [0, 1, 2], "count"),
        (
            "import numpy as np\ndef label(text): return np.arange(len(text)) / 4 - 1",
            [-1, -0.75, -0.5],
            "count",
        ),
        ("def label(text): return [float('nan') if c == 'b' else 1 for c in text]", [1, np.nan, 1], "binary"),
    ],
)
def test_a_function_of_the_users_own(tmp_path: Path, source: str, expected: list[float], type: str) -> None:
    (hypothesis,) = resolve_all([module(tmp_path, source)], "aba", PROFILE)
    values = hypothesis.label("aba", PROFILE)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32(expected))
    assert (hypothesis.name, hypothesis.type, hypothesis.lookahead) == ("label", type, False)


def test_a_function_that_looks_ahead_is_found_out(tmp_path: Path) -> None:
    spec = module(tmp_path, "def label(text): return [text[i + 1 : i + 2] == 'n' for i in range(len(text))]")
    assert resolve_all([spec], SAMPLE, PROFILE)[0].lookahead


@pytest.mark.parametrize(
    "source, message, hint",
    [
        ("def labels(text): return 0", "has no function `label`", "did you mean `labels`?"),
        ("label = 3", "has no function `label`", ""),
        ("def label(text: return", "failed: SyntaxError", ""),
        ("1 / 0", "failed: ZeroDivisionError: division by zero", ""),
        ("raise SystemExit(3)", "failed: SystemExit: 3", ""),
        ("def label(text): return text[10**6]", "failed: IndexError", "one document"),
        ("def label(): return 0", "failed: TypeError", "one document"),
        ("def label(text): return [1]", "gave 1 values for 3 characters", "one bool, int or float per"),
        ("def label(text): return 1", "gave values of type int64, shape ()", "per character"),
        ("def label(text): return None", "gave values of type object", "per character"),
        ("def label(text): return list(text)", "gave values of type <U1", "per character"),
        ("def label(text): return [[1], [1, 2], 3]", "rows of different lengths", "per character"),
        ("def label(text): return [[1]] * 3", "shape (3, 1)", "per character"),
        ("def label(text): return [1, 1e99, 1]", "an infinite value", "per character"),
    ],
)
def test_a_function_that_fails_is_one_clear_error(
    tmp_path: Path, source: str, message: str, hint: str
) -> None:
    with pytest.raises(InspectionError) as caught:
        resolve_all([module(tmp_path, source)], "aba", PROFILE)
    assert message in caught.value.message and hint in caught.value.hint


def test_two_hypotheses_with_one_name_are_refused_and_the_same_is_asked_once() -> None:
    with pytest.raises(InspectionError, match="two hypotheses are called `x`"):
        resolve_all(["x=/a/", "x=/b/"], "ab", PROFILE)
    assert [h.name for h in resolve_all(["column", "x=/a/", "column"], "ab", PROFILE)] == ["column", "x"]


DOCUMENTS = ("ab\n" * 900, "c", "d" * 2_500, "efg " * 700)


@pytest.fixture
def corpus(tmp_path: Path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(DOCUMENTS):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return open_corpus(find_sources([str(folder)]), TextConfig())


def saved(tmp_path: Path, values: object, name: str = "mine.npy") -> str:
    np.save(tmp_path / name, values)
    return str(tmp_path / name)


def test_labels_from_a_file_follow_the_documents_in_order(tmp_path: Path, corpus) -> None:
    text = "".join(DOCUMENTS)
    (hypothesis,) = resolve_all([saved(tmp_path, [ord(char) for char in text])], text, PROFILE)
    assert (hypothesis.name, hypothesis.type, hypothesis.lookahead) == ("mine", "count", True)
    pieces = cut_pieces(corpus, [(0, len(corpus.places))], [hypothesis], PROFILE)
    assert len({piece.document for piece in pieces}) == 3
    for piece in pieces:
        assert piece.labels[:, 0].tolist() == [ord(char) for char in piece.text]


def test_labels_from_a_file_of_another_length_are_refused(tmp_path: Path, corpus) -> None:
    hypothesis = resolve(saved(tmp_path, np.zeros(9)))
    with pytest.raises(InspectionError, match="`mine` has 9 labels, but the text 8,001 characters"):
        cut_pieces(corpus, [(0, len(corpus.places))], [hypothesis], PROFILE)
    with pytest.raises(InspectionError, match="gave 9 values for 2 characters"):
        hypothesis.label("ab", PROFILE)


def test_other_files_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    several = tmp_path / "several.npy"
    with several.open("wb") as file:
        np.savez(file, a=np.zeros(2))
    (tmp_path / "text.npy").write_text("no array", encoding="utf-8")
    (tmp_path / "short.npy").write_bytes((tmp_path / "pickled.npy").read_bytes()[:70])
    for name, message in (
        ("pickled", "cannot read"),
        ("several", "holds several arrays"),
        ("text", "cannot read"),
        ("short", "cannot read"),
    ):
        with pytest.raises(InspectionError, match=message):
            resolve(str(tmp_path / f"{name}.npy"))
    with pytest.raises(InspectionError, match="type <U1"):
        resolve(saved(tmp_path, ["a", "b"]))


def corpus_of(tmp_path: Path, text: str):
    (tmp_path / "one.txt").write_bytes(text.encode())
    return open_corpus(find_sources([str(tmp_path / "one.txt")]), TextConfig())


def test_a_trial_gives_the_figures_of_the_whole_text(tmp_path: Path) -> None:
    text = 'a "bc" d\n' * 1_000
    asked = resolve_all(["in_quote", "column", "word_boundary_next", "in_url", 'q=/"[^"]*"/'], text, PROFILE)
    trials = try_hypotheses(corpus_of(tmp_path, text), asked, PROFILE)
    quote, column, boundary, url, regex = trials.trials
    assert (trials.chars, trials.total_chars, trials.documents, trials.excerpts) == (9_000, 9_000, 1, ())
    assert (quote.prevalence, quote.unscored, quote.matched) == (3 / 9, 0, None)
    # At most one event is lost at the begin of every block after the first.
    assert 995 <= quote.events <= 1_000
    assert (column.mean, column.largest) == (pytest.approx(4), 8)
    assert (boundary.unscored, boundary.prevalence) == (pytest.approx(5 / 9), pytest.approx(3 / 4))
    assert (url.prevalence, url.events, url.why_not) == (0, 0, "never on")
    assert (regex.prevalence, regex.matched) == (pytest.approx(1 / 9), 4_000)
    assert not any(trial.why_not for trial in (quote, column, boundary, regex))


@pytest.mark.parametrize("on", [MIN_EVENTS - 1, MIN_EVENTS])
@pytest.mark.parametrize("common, seldom, why", [("a", "b", "too seldom on"), ("b", "a", "too seldom off")])
def test_a_binary_hypothesis_needs_fifty_characters_in_each_half(
    tmp_path: Path, on: int, common: str, seldom: str, why: str
) -> None:
    text = common * 6_000
    asked = resolve_all(["x=/b/"], text, PROFILE)
    spans = [(p.begin + p.skip, p.chooses) for p in pieces_of(corpus_of(tmp_path, text))]
    chars = list(text)
    for half in (True, False):
        begin = next(begin for begin, chooses in spans if chooses == half)
        chars[begin : begin + on] = seldom * on
    (trial,) = try_hypotheses(corpus_of(tmp_path, "".join(chars)), asked, PROFILE).trials
    assert trial.why_not == ("" if on == MIN_EVENTS else why)


def pieces_of(corpus):
    return cut_pieces(corpus, [(0, len(corpus.places))], [hypotheses.get("column")], PROFILE)


def test_a_short_text_is_tried_but_cannot_be_tested(tmp_path: Path) -> None:
    trials = try_hypotheses(corpus_of(tmp_path, 'a "b" c'), [hypotheses.get("in_quote")], PROFILE)
    (trial,), (excerpt,) = trials.trials, trials.excerpts
    assert (trial.events, trial.why_not) == (1, "text too short")
    assert (excerpt.text, excerpt.labels.tolist()) == ('a "b" c', [0, 0, 1, 1, 0, 0, 0])


def test_excerpts_begin_with_a_line_and_show_where_it_goes_on(tmp_path: Path) -> None:
    text = ("nothing here\n" * 40 + 'he said "no" then\n') * 30
    trials = try_hypotheses(corpus_of(tmp_path, text), [hypotheses.get("in_quote")], PROFILE)
    assert len(trials.excerpts) == 3
    for excerpt in trials.excerpts:
        assert excerpt.text == text[excerpt.begin : excerpt.begin + len(excerpt.text)]
        assert text[excerpt.begin - 1] == "\n" and (excerpt.labels > 0).any()


def test_labels_are_painted_in_colour_and_in_blocks(tmp_path: Path) -> None:
    trials = try_hypotheses(corpus_of(tmp_path, 'ab "cd" e'), [hypotheses.get("in_quote")], PROFILE)
    plain = io.StringIO()
    print_trials(trials, "one.txt", Console(file=plain, width=90))
    assert '  ab "cd" e\n' in (shown := re.sub(" +\n", "\n", plain.getvalue()))
    assert "  ▁▁▁███▁▁▁\n" in shown
    colour = io.StringIO()
    print_trials(
        trials, "one.txt", Console(file=colour, width=90, force_terminal=True, color_system="truecolor")
    )
    assert re.search(r'  ab \x1b\[[0-9;]*48;2;[0-9;]*m"cd\x1b\[0m" e', colour.getvalue())


def charrnn(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def test_the_list_marks_what_looks_ahead() -> None:
    listed = charrnn("inspect", "hypotheses").stdout
    for name in hypotheses.names():
        assert f" {name} " in listed
    assert "word_boundary_next → " in listed and "in_quote → " not in listed
    rows = json.loads(charrnn("inspect", "hypotheses", "--json").stdout)["hypotheses"]
    assert [row["name"] for row in rows] == hypotheses.names()
    assert {row["name"] for row in rows if row["lookahead"]} == {
        *("line_fraction", "word_boundary_next", "closing_paren_ends_line")
    }
    one = charrnn("inspect", "hypotheses", "--hypothesis", "in_quote & ~column", "--json").stdout
    assert [row["name"] for row in json.loads(one)["hypotheses"]] == ["in_quote & ~column"]


def test_trying_all_hypotheses_on_a_text() -> None:
    data = json.loads(charrnn("inspect", "hypotheses", HARBOUR, "--json").stdout)
    assert data["kind"] == "prose" and data["documents"] == 1
    assert data["chars"] == data["total_chars"] == len(HARBOUR.read_text(encoding="utf-8"))
    names = [row["name"] for row in data["hypotheses"]]
    assert names == [hypothesis.name for hypothesis in hypotheses.for_kind("prose")]
    shown = charrnn("inspect", "hypotheses", HARBOUR).stdout
    for row in data["hypotheses"]:
        assert row["name"] in shown and row["testable"] == (row["why_not"] is None)
    assert f"{sum(row['testable'] for row in data['hypotheses'])} of {len(names)} can be tested" in shown
    assert data["excerpts"] == []


def test_trying_one_hypothesis_shows_where_it_holds() -> None:
    spec = r"name=/\b[A-Z]\w*/"
    shown = charrnn("inspect", "hypotheses", HARBOUR, "--hypothesis", spec).stdout
    assert "characters match; those count" in shown and "█" in shown and "document 1, character" in shown
    data = json.loads(charrnn("inspect", "hypotheses", HARBOUR, "--hypothesis", spec, "--json").stdout)
    (row,) = data["hypotheses"]
    assert row["name"] == "name" and row["matched"] > row["events"] > 10
    for excerpt in data["excerpts"]:
        assert len(excerpt["text"]) == len(excerpt["labels"])
        on = [char for char, label in zip(excerpt["text"], excerpt["labels"], strict=True) if label]
        assert all(char.isalnum() for char in on)


def test_trying_needs_no_torch_and_reads_stdin() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['charrnn', 'inspect', 'hypotheses', '-', '--hypothesis', 'in_quote', '--json']\n"
        "from charrnn.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], input=b'a "b" c', capture_output=True, check=True)
    (excerpt,) = json.loads(done.stdout)["excerpts"]
    assert excerpt["labels"] == [0, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nosuch.txt"], "`nosuch.txt` is no file, folder, glob or corpus name"),
        ([HARBOUR, "--hypothesis", "in_qoute"], "hint: did you mean `in_quote`?"),
        (["--hypothesis", "x=/[/"], "`[` is no valid regular expression"),
    ],
)
def test_bad_input_is_one_error(arguments: list, words: str) -> None:
    result = charrnn("inspect", "hypotheses", *arguments, code=1)
    assert result.stdout == "" and words in result.stderr
