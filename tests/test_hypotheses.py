"""Hypotheses: labels written by hand from the definitions, causality, and independent lexers."""

from __future__ import annotations

import argparse
import io
import itertools
import json.decoder
import random
import textwrap
import tokenize
from pathlib import Path

import numpy as np
import pytest

from charrnn.errors import InspectionError
from charrnn.inspection import hypotheses
from charrnn.inspection.hypotheses import TextProfile, profile_text

LABELLED = Path(__file__).with_name("labelled_strings.txt")
KINDS = {"p": "prose", "y": "python", "c": "c"}
SHOWN = str.maketrans("⏎→␍␠", "\n\t\r ")
IN_TENTHS = {"line_fraction", "word_repeat_age", "document_position"}
LOOKING_AHEAD = {"line_fraction", "word_boundary_next", "closing_paren_ends_line"}

HOSTILE = (
    'x = """a"b""" + r\'\\\' # no "end"\n"un\\\nclosed\n\'\'\'doc\\\'\'\'\'\'\'\'""""""f"{x["k"]}"""q"',
    'if (a /* ) */ && b[")"] == \'"\') { // "x\\\n#if (y)\n  #define A(b) /*\n*/ \\\r\n c\n}/*/ *//**/ "\\',
    'class A:\r\n\tasync def f(self,\n x): # def g():\n\tif a:=b: pass\n  elif (x[1]) \\\n or y:\n """d"""\n',
    '"He said “no „ja“ «oui» 「好『x』。」\n \n\\"A\\\\" don\'t... www.x.y http://a)b HTTPS://C\n\n\nK: «Да»',
    "<a <b>[[x]] [[[y]] 1,2.3x4 ٣ 😀é。」！ ?)\"' .. \r\n\r\n(（:))）⏎\u3000\n\x0c\n　ROM:\ndefinite whiles",
    '<a b="c"><br/>&amp;<!-- <i> --></a>{{x|{{y}}}} [[z]]\n# h\n== H ==\n- i `j` ``k\n```py\n`l`\n```m`` n\n',
    '$a\\$$b$$ \\[c\\] \\\\[ \\begin{d}\\end{d}\n\n{"e": ["f", "g\\"", {"h": 1}], "i\n'
    "— Да,\n он.\r\n— a?\n\n",
    "import a, b; from c import (\n d)\r\nx.y = f(a=[1, g(2)], b={3: 4}) == 5 # e:\n"
    'if x:\n\treturn "%-5d%%%s" \\\n + z\n',
    '#include <a.h>\n#include "b"\nstruct a { enum {\nB, C = 1 } d; };\n'
    'int f(int *a->b, c.d[e(1.f)]) /* ) */ {\n return "%lu',
)


def parse_labelled(block: str) -> list[tuple[str, str, str, str]]:
    """Return ``(hypothesis, kind, text, marks)`` for each pair of lines below the head of the file."""
    cases, name = [], ""
    lines = iter(line for line in block.partition("\n\n")[2].split("\n") if line)
    for line in lines:
        if line.startswith("# "):
            name = line[2:]
            continue
        cases.append((name, KINDS[line[0]], line[2:].translate(SHOWN), next(lines)[2:]))
    return cases


CASES = parse_labelled(LABELLED.read_text(encoding="utf-8"))


def profile(kind: str) -> TextProfile:
    return TextProfile(kind=kind, wrap_column=10, indent_unit=4)


def label(name: str, text: str, kind: str = "prose") -> np.ndarray:
    return hypotheses.get(name).label(text, profile(kind))


def written(values: np.ndarray) -> str:
    digits = ".123456789abcdefghijklmnopqrstuvwxyz"
    return "".join("?" if np.isnan(value) else digits[int(value)] for value in values)


def in_tenths(values: np.ndarray) -> np.ndarray:
    return np.floor(values * 10 + 1e-4)


@pytest.mark.parametrize("name, kind, text, marks", CASES)
def test_labels_written_by_hand(name: str, kind: str, text: str, marks: str) -> None:
    assert kind in hypotheses.get(name).kinds
    values = label(name, text, kind)
    assert written(in_tenths(values) if name in IN_TENTHS else values) == marks


@pytest.mark.parametrize("name", hypotheses.names())
def test_every_hypothesis_has_labelled_strings(name: str) -> None:
    mine = {(kind, text): marks for case, kind, text, marks in CASES if case == name}
    assert len(mine) >= 10
    assert len(set("".join(mine.values()))) > 1


def test_what_looks_ahead_says_so() -> None:
    assert {name for name in hypotheses.names() if hypotheses.get(name).lookahead} == LOOKING_AHEAD
    for name in LOOKING_AHEAD:
        texts = [text for case, kind, text, _ in CASES if case == name and kind != "p"]
        kind = "c" if "c" in hypotheses.get(name).kinds else "prose"
        assert any(changes_with_what_follows(name, text, kind) for text in texts)


def changes_with_what_follows(name: str, text: str, kind: str) -> bool:
    whole = label(name, text, kind)
    return any(
        not np.array_equal(label(name, text[:cut], kind), whole[:cut], equal_nan=True)
        for cut in range(len(text))
    )


CODE_PIECES = (
    *('"', "'", '"""', "\\", "\n", "\r\n", "/*", "*/", "//", "#", "if (", "):", "def ", " ", "\t", "“", "”"),
    *(
        "a",
        "[[",
        "]",
        "http://",
        ". ",
        "f(",
        ")",
        "[",
        ", ",
        "=",
        "==",
        "{",
        "}",
        ";",
        "return ",
        ".b",
        "->c",
    ),
    *("%d", "%", "import ", "struct ", "enum {", "#include <", ">", ":", "1"),
)
MARKUP_PIECES = (
    *(
        "<a ",
        "</a>",
        "<b/>",
        ">",
        '="',
        "'",
        "=",
        "&",
        ";",
        "[[",
        "]]",
        "{{",
        "}}",
        "{",
        "}",
        "`",
        "```",
        "$",
    ),
    *(
        "\\",
        "\\[",
        "\\]",
        "\\begin{",
        "\\end{",
        "\n",
        "\n\n",
        "\r\n",
        "# ",
        "== ",
        "- ",
        "1. ",
        "— ",
        '"',
        ",",
        ":",
    ),
    *(" ", "a", "B", ". ", "? ", "。", "「", "」", "«", "»", "<!--", "-->", "\t"),
)
CAUSAL = [name for name in hypotheses.names() if name not in LOOKING_AHEAD]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_label_knows_nothing_of_what_follows(name: str) -> None:
    for text, kind in itertools.product(HOSTILE, sorted(hypotheses.get(name).kinds)):
        whole = label(name, text, kind)
        for cut in range(len(text)):
            np.testing.assert_array_equal(
                label(name, text[:cut], kind), whole[:cut], err_msg=repr(text[:cut])
            )


@pytest.mark.parametrize("name", CAUSAL)
def test_a_label_of_random_text_knows_nothing_of_what_follows(name: str) -> None:
    rng = random.Random(0)
    for kind in sorted(hypotheses.get(name).kinds):
        for pieces in (CODE_PIECES, MARKUP_PIECES):
            text = "".join(rng.choices(pieces, k=300))
            whole = label(name, text, kind)
            for cut in rng.sample(range(len(text)), 60):
                np.testing.assert_array_equal(
                    label(name, text[:cut], kind), whole[:cut], err_msg=repr(text[:cut])
                )


@pytest.mark.parametrize("name", hypotheses.names())
def test_labels_are_float32_one_per_character(name: str) -> None:
    for kind, text in itertools.product(hypotheses.KINDS, ("", "\n", '"', *HOSTILE)):
        values = label(name, text, kind)
        assert values.dtype == np.float32
        assert values.shape == (len(text),)
        assert not (values < 0).any()


@pytest.mark.parametrize(
    "name, opener", [("in_quote", "“"), ("quote_age", '"'), ("in_tag", "<a"), ("in_math", "$")]
)
def test_an_unbalanced_span_is_not_scored_from_its_600th_character_on(name: str, opener: str) -> None:
    before, shift = "ab ", len(opener) - 1
    values = label(name, before + opener + "x" * 700)
    first_unknown = len(before) + shift + 600
    assert not np.isnan(values[:first_unknown]).any()
    assert np.isnan(values[first_unknown:]).all()
    closed = label(
        name, before + opener + "x" * 700 + {"“": "”", '"': '"', "<a": ">", "$": "$"}[opener] + " a"
    )
    np.testing.assert_array_equal(closed[: len(values)], values)
    assert (closed[-3:] == 0).all()


def test_the_table() -> None:
    names = hypotheses.names()
    assert len(names) == len(set(names)) >= 50
    for hypothesis in map(hypotheses.get, names):
        assert hypothesis.type in ("binary", "count", "level")
        assert hypothesis.kinds <= set(hypotheses.KINDS) and hypothesis.kinds
        assert hypothesis.definition and "\n" not in hypothesis.definition


def test_for_kind_keeps_the_order_and_leaves_out_what_does_not_apply() -> None:
    prose = [hypothesis.name for hypothesis in hypotheses.for_kind("prose")]
    assert prose == [name for name in hypotheses.names() if name in prose]
    assert "speaker_label" in prose and "in_string" not in prose
    assert "in_preprocessor" not in [hypothesis.name for hypothesis in hypotheses.for_kind("python")]
    with pytest.raises(ValueError, match="perl"):
        hypotheses.for_kind("perl")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(InspectionError, match="unknown hypothesis `in_qoute`") as caught:
        hypotheses.get("in_qoute")
    assert "`in_quote`" in caught.value.hint


def test_profiles() -> None:
    python = Path(textwrap.__file__).read_text(encoding="utf-8")
    assert profile_text(python).kind == "python"
    assert profile_text(python).indent_unit == 4
    c = "/* tun */\n#include <a.h>\n\nstatic int f(int a)\n{\n\tif (a)\n\t\treturn g(a);\n\treturn 0;\n}\n"
    assert profile_text(c) == TextProfile("c", 14, 8)
    prose = "It was, for a while, the best\nof times; if not,\nfrom the worst: with all.\n\nKING:\nWhile I;\n"
    assert profile_text(prose * 3) == TextProfile("prose", 25, 1)
    assert profile_text("") == TextProfile("prose", 80, 1)


STDLIB = [Path(module.__file__) for module in (json.decoder, textwrap, argparse, tokenize)]


@pytest.mark.parametrize("path", STDLIB, ids=lambda path: path.stem)
def test_python_strings_and_comments_agree_with_tokenize(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    strings, comments, delimiters = tokenized(text)
    assert strings.sum() > 500 and comments.sum() > 100
    for name, expected in (("in_string", strings), ("in_comment", comments)):
        agrees = label(name, text, "python") == expected
        assert agrees[~delimiters].mean() > 0.999


def tokenized(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `tokenize` holds for a string, a comment, and the prefixes and quotes of a string."""
    strings, comments, delimiters = np.zeros((3, len(text)), dtype=bool)
    line_starts = [0, *itertools.accumulate(len(line) for line in text.splitlines(keepends=True))]
    open_at = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        start, end = (line_starts[row - 1] + column for row, column in (token.start, token.end))
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            comments[start:end] = True
        elif kind == "FSTRING_START":
            open_at.append(start)
        elif kind in ("STRING", "FSTRING_END") and len(open_at) <= (kind == "FSTRING_END"):
            start = open_at.pop() if kind == "FSTRING_END" else start
            whole = text[start:end]
            opening = len(whole) - len(whole.lstrip("rRbBuUfF"))
            quotes = 3 if whole.endswith(whole[opening] * 3) and len(whole) - opening >= 6 else 1
            strings[start:end] = True
            delimiters[start : start + opening + quotes] = True
            delimiters[end - quotes : end] = True
    return strings, comments, delimiters


def test_c_strings_and_comments_agree_with_a_slow_lexer() -> None:
    rng = random.Random(1)
    pieces = ['"', "'", "\\", "\n", "/", "*", "//", "/*", "*/", "a", " ", "\\\n", "#", "\\\r\n", "\r"]
    for _ in range(200):
        text = "".join(rng.choices(pieces, k=60))
        state = slow_c_lexer(text)
        assert written(label("in_string", text, "c")) == written(state == '"'), repr(text)
        assert written(label("in_char_literal", text, "c")) == written(state == "'"), repr(text)
        assert written(label("in_comment", text, "c")) == written((state == "/") | (state == "*")), repr(text)


def slow_c_lexer(text: str) -> np.ndarray:
    """Read character by character: ``"`` string, ``'`` character, ``/`` line and ``*`` block comment."""
    states, state, since = [], "", 0
    for position, char in enumerate(text):
        before = text[:position].removesuffix("\r") if char == "\n" else text[:position]
        if state == "":
            slash = text[position - 1 : position] == "/" and position > since
            state = char if char in "\"'" or (slash and char in "/*") else ""
            opened = position
        elif state in "\"'":
            body = before[opened + 1 :]
            escaped = (len(body) - len(body.rstrip("\\"))) % 2 == 1
            if char in (state, "\n") and not escaped:
                state, since = "", position + 1
        else:
            line_ends = char == "\n" and not before.endswith("\\")
            closed = line_ends if state == "/" else text[opened + 1 : position + 1].endswith("*/")
            state, since = ("", position + 1) if closed else (state, since)
        states.append(state)
    return np.array(states)
