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

# One text and its labels below it. The letter is the kind of text: p(rose), (p)y(thon), c.
# In the text ⏎ is a newline, → a tab, ␍ a carriage return, ʼ an ASCII apostrophe (three end this string).
# In the labels . is 0, ? is "not scored", and a, b, c … go on after 9.
LABELLED = r'''
# in_quote
p|He said "no" now.
 |........111......
p|"a" "b"
 |11..11.
c|x = "a\"b";
 |....11111..
c|"\\" + x
 |111.....
p|“A 「b」 c” d
 |11111111...
p|„Ja“, “no”.
 |111...111..
p|« Oui », dit
 |111111......
p|— Нет, — «да».
 |.........111..
p|他说：「好。」走
 |...111..
p|a "b⏎⏎c "d"
 |..111...11.
p|a "b␍⏎␍⏎c"
 |..11111..1
y|x = "a⏎⏎b"
 |....11111.
c|#include "a.h"
 |.........1111.
p|don't ’tis 'x'
 |..............
p|a” b » c
 |........
p|“a⏎“b” c
 |11111...
c|"a⏎⏎b "c
 |111...11
# quote_age
p|a "bcd" e
 |...123...
p|“no「x」”
 |.12345.
c|"\""
 |.12.
# dialogue_turn
p|He: "no" yes
 |....11111111
p|"a"⏎b⏎⏎c "d
 |111111...11
p|— да. «Нет»
 |......11111
# column
p|ab⏎c⏎⏎de
 |12.1..12
p|a␍⏎b
 |12.1
y|→x⏎ y
 |12.12
p|⏎a
 |.1
p|Да 你好⏎好
 |12345.1
p|abcdefghijkl
 |123456789abc
c|{⏎}⏎
 |1.1.
p|⏎⏎⏎
 |...
p|a⏎
 |1.
p|😀é⏎😀
 |12.1
# past_wrap
p|abcdefghijkl
 |..........11
p|abcdefghij
 |..........
p|abcdefghijk⏎a
 |..........1..
p|ab cd ef gh ij⏎
 |..........1111.
p|⏎abcdefghijk
 |...........1
c|→→→→→→→→→→→x
 |..........11
p|Привет, мир!
 |..........11
p|你好你好你好你好你好你
 |..........1
p|abcdefghij␍⏎
 |..........1.
p|a⏎b⏎c
 |.....
# newline_run
p|a⏎⏎b⏎
 |.12.1
p|a␍⏎␍⏎b
 |..112.
p|⏎⏎⏎
 |123
c|{⏎ ⏎}
 |.1.1.
# word_position
p|ab c, def
 |12.1..123
p|don't
 |123.1
p|x2y
 |1.1
p|Я да
 |1.12
p|你好。好
 |12.1
y|foo_bar
 |123.123
p|a-b
 |1.1
p|ABcd
 |1234
p|été!
 |123.
p|1 ⏎ 2
 |.....
# caps_run
p|ROMEO: I
 |.1111...
p|A BC d
 |...1..
p|NaN
 |...
p|McDONALD
 |...11111
p|ДА нет
 |.1....
p|МОСКВА-РЕКА
 |.11111..111
p|你好
 |..
c|#define MAX_LEN 1
 |.........11..11..
p|KING⏎LEAR
 |.111..111
p|A1B2
 |....
y|HTTPError
 |.1111....
# in_number
p|in 1984, ok
 |...11111...
p|3.14!
 |1111.
p|a1b
 |.1.
p|,5
 |.1
p|1,000.00
 |11111111
c|x = 0xff;
 |....1....
p|no
 |..
p|第3章
 |.1.
p|1-2
 |1.1
p|7⏎8
 |1.1
p|٣ 3
 |..1
# number_position
p|a 12.5 b
 |..1234..
p|1 2
 |1.1
c|a[10]
 |..12.
# in_url
p|see http://a.b c
 |..........1111..
p|www.x.org/y) z
 |...11111111...
p|http:/x
 |.......
p|https://a>b
 |.......11..
p|awww.x
 |......
p|HTTP://A⏎b
 |......11..
c|s = "http://x";
 |...........11..
c|a // b
 |......
p|(http://a)
 |.......11.
p|http://www.a b
 |......111111..
p|http://д.рф,
 |......111111
# line_in_paragraph
p|ab⏎cd⏎⏎ef
 |..1112...
p|a⏎b⏎c
 |.1122
p|a⏎ ⏎b⏎c
 |.11..11
p|a␍⏎␍⏎b
 |..11..
# sentence_position
p|Hi. Go!
 |123.123
p|a.b c
 |12345
p|"No." I
 |12345.1
p|Eh?⏎⏎A
 |123.12
p|он. Да
 |123.12
p|好。走
 |1.1
p|「好。」走
 |12..1
p|a... b
 |1234.1
p|(a.) b
 |1234.1
p|a.␍⏎b
 |12.12
p|«Да!» Он
 |12345.12
# word_in_sentence
p|Go on. Now I
 |111222.11112
p|I don't
 |1122222
p|a b? c
 |1122.1
p|3 a
 |..1
p|да, нет
 |1111222
p|你好。好
 |11.1
p|'a' b
 |.1112
p|a-b
 |112
p|No." So
 |1111.11
p|A.⏎B c
 |11.112
p|l’eau
 |11111
# speaker_label
p|A: b⏎c:
 |1......
p|A b⏎⏎C: d
 |111.11...
p|x␍⏎␍⏎y
 |11..11
p|A: b⏎ ⏎⏎c
 |1.....111
# in_tag
p|a <b>c</b>
 |...1...11.
p|1 < 2 > 1
 |.........
p|<!-- x -->
 |.11111111.
p|<a⏎b>c
 |.111..
# in_wiki_link
p|[[ab]] c
 |.111....
p|[a] [b]
 |.......
p|[[[x]]
 |.111..
# indent_width
y|if x:⏎  a⏎b
 |......122..
c|→a
 |88
c| →a
 |188
y|  ⏎x
 |12..
y|a  b
 |....
# indent_level
y|    a⏎        b
 |...11....111122
c|→a
 |11
c|→→b⏎→c
 |122.11
c|→    a
 |111122
c|→ * x
 |11111
y|   a
 |....
y|if x:⏎    y
 |.........11
y|    a␍⏎b
 |...111..
y|a    b
 |......
y|    ⏎b
 |...1..
y|    # д
 |...1111
# in_leading_space
y|  a b⏎ c
 |11...11.
c|→x␍⏎⏎}
 |1..11.
y|⏎
 |1
y|x
 |.
# paren_depth
p|a (b) c
 |..11...
p| :) (x)
 |....11.
p|((a)b)c
 |12211..
p|(a⏎⏎b)
 |111...
p|（你（好））
 |11221.
c|f("(", g(x))
 |.1111111221.
c|a /* ( */ (b)
 |..........11.
c|x = '('; y
 |..........
y|f(  # )⏎)
 |.1111111.
y|)(a
 |.11
y|(a⏎⏎b)
 |11111.
y|("""(""")
 |11111111.
# in_paren
p|a (b) :)
 |..11....
c|((a))
 |1111.
y|")" (x)
 |....11.
# bracket_depth
y|a[{(1)}]
 |.123321.
c|f(a[0])
 |.11221.
y|'[' + []
 |......1.
c|]{(]
 |.121
# brace_depth
c|f() {⏎{ }⏎}
 |....112211.
c|"{" {
 |....1
y|d = {1: {}}
 |....111121.
c|/* { */ } {
 |..........1
# in_if_condition
c|if (a) b
 |...11...
c|if (f(x) && y)
 |...1111111111.
c|elif (a)
 |........
c|while(a)(b)
 |.....11....
c|for (;;) x
 |....111...
c|#if (A)⏎if (b)
 |...........11.
c|/* if (a) */
 |............
c|if (c == ')') d
 |...111111111...
y|if a: b
 |..11...
y|iffy = 1
 |........
y|x = a if b else c
 |.................
y|if a[1:2]:⏎b
 |..1111111...
y|if (a:=b): c
 |..1111111...
y|if a:=b: c
 |..11.11...
y|  elif not x:⏎
 |......111111..
y|while x<y:⏎
 |.....1111..
y|[a for b in c⏎if d]
 |...................
y|if "a:b":
 |..111111.
y|if a \⏎ or b: c
 |..1111111111...
# in_comment
c|a /* b */ c
 |...11111...
c|a // b⏎c
 |...111..
c|"http://x" // y
 |............111
c|"/*" /* */
 |......111.
c|/*/ x */ y
 |.111111...
c|/* a⏎* b */
 |.111111111.
c|// a \⏎b⏎c
 |.1111111..
c|/* "a */ b"
 |.111111....
c|'"' // "
 |.....111
y|x # y⏎z
 |..111..
y|"#" # "a"
 |....11111
y|# д⏎# 好
 |111.111
y|a // b
 |......
y|# a␍⏎b
 |1111..
y|# \⏎b
 |111..
# in_block_comment
c|/**/ a
 |.11...
c|// /* a⏎b
 |.........
c|/* // */ b
 |.111111...
# in_line_comment
c|a // /* ⏎b
 |...11111..
c|/* // */ b
 |..........
y|#!x⏎y
 |111..
y|'#'
 |...
# in_string
c|x = "a\"b";
 |....11111..
c|#include "a.h"
 |.........1111.
c|'"' "a"
 |....11.
c|/* "a" */
 |.........
c|"a⏎b
 |11..
c|"a\⏎b"
 |11111.
c|"a//b" c
 |11111...
y|r'\' + 1
 |.1111111
y|f"a{b}" c
 |.11111...
y|"" + ''
 |1....1.
y|"""a""" b
 |1.1111...
y|"""a"b⏎"""
 |1.1111111.
y|'a"b' "c"
 |1111..11.
y|"a␍⏎b
 |111..
y|# 'a'⏎'b'
 |......11.
y|"д\\"+好
 |1111...
# in_char_literal
c|x = '"';
 |....11..
c|'\'' + 1
 |111.....
c|"'"
 |...
# in_docstring
y|"""a"""
 |..1111.
y|x = """a"""
 |...........
y|def f():⏎  """a"""
 |.............1111.
y|r"""a"""
 |...1111.
y|"a"
 |...
y|f("""a""")
 |..........
y|f(⏎"""a""")
 |...........
y|x = \⏎"""a"""
 |.............
y|ʼʼʼa"ʼʼʼ
 |..11111.
y|"""a⏎⏎b
 |..11111
y|# """a"""
 |.........
y|"""д""" # x
 |..1111.....
# in_preprocessor
c|#if A⏎int b
 |11111......
c|  #a⏎
 |..11.
c|a #b
 |....
c|#a \⏎b⏎c
 |111111..
c|/*⏎#a */
 |........
c|#a /*⏎*/ b⏎c
 |1111111111..
c|#a\␍⏎b⏎
 |111111.
c|"#"⏎#b
 |....11
c|#a⏎#b
 |11.11
c|// \⏎#a
 |.......
c|# д␍⏎x
 |1111..
# in_identifier
c|ab = x1;
 |?1...11.
c|if (u)
 |??..?.
c|iffy
 |??11
y|0xff + 3
 |........
y|"ab" # cd
 |.........
y|my_var
 |111111
y|definition
 |???1111111
# identifier_position
c|int ab;
 |123.12.
y|x1 = 12
 |12.....
c|"ab"
 |....
# decl_depth
y|def f():⏎  a⏎b
 |...1111111111.
y|class A:⏎ def f():⏎  x⏎ y⏎z
 |.....111111112222222222211.
y|define = 1
 |..........
y|def f(a,⏎b): c⏎d
 |...111111111111.
y|def f():⏎ a⏎# c⏎ b
 |...111111111111111
y|def f(): pass⏎⏎⏎class B:
 |...1111111111111.....111
y|async def f():⏎ x
 |.........11111111
# is_space
p|a b⏎→c
 |.1.11.
p|␍⏎
 |11
p|你　好
 |.1.
# is_newline
p|a⏎ b
 |.1..
p|␍⏎
 |.1
p|⏎⏎
 |11
# is_upper
p|Ab Ц
 |1..1
p|aBc1
 |.1..
p|你A
 |.1
# is_vowel
p|Banana
 |.1.1.1
p|Ёлка
 |1..1
p|xyz
 |.1.
# is_digit
p|a1²٣
 |.1..
p|10
 |11
p|x
 |.
# is_punctuation
p|a,b! 
 |.1.1.
p|$ 5+
 |1..1
p|«да»—
 |1..11
p|_x
 |1.
'''

KINDS = {"p": "prose", "y": "python", "c": "c"}
SHOWN = str.maketrans("⏎→␍ʼ", "\n\t\r'")
AT_LEAST_TEN = """in_quote column past_wrap word_position caps_run in_number in_url sentence_position
    word_in_sentence indent_level paren_depth in_if_condition in_comment in_string in_docstring
    in_preprocessor""".split()  # noqa: SIM905

HOSTILE = (
    'x = """a"b""" + r\'\\\' # no "end"\n"un\\\nclosed\n\'\'\'doc\\\'\'\'\'\'\'\'""""""f"{x["k"]}"""q"',
    'if (a /* ) */ && b[")"] == \'"\') { // "x\\\n#if (y)\n  #define A(b) /*\n*/ \\\r\n c\n}/*/ *//**/ "\\',
    'class A:\r\n\tasync def f(self,\n x): # def g():\n\tif a:=b: pass\n  elif (x[1]) \\\n or y:\n """d"""\n',
    '"He said “no „ja“ «oui» 「好『x』。」\n \n\\"A\\\\" don\'t... www.x.y http://a)b HTTPS://C\n\n\nK: «Да»',
    "<a <b>[[x]] [[[y]] 1,2.3x4 ٣ 😀é。」！ ?)\"' .. \r\n\r\n(（:))）⏎\u3000\n\x0c\n　ROM:\ndefinite whiles",
)


def parse_labelled(block: str) -> list[tuple[str, str, str, str]]:
    """Return ``(hypothesis, kind, text, marks)`` for each pair of lines."""
    cases, name, lines = [], "", iter(block.strip("\n").split("\n"))
    for line in lines:
        if line.startswith("# "):
            name = line[2:]
            continue
        cases.append((name, KINDS[line[0]], line[2:].translate(SHOWN), next(lines)[2:]))
    return cases


CASES = parse_labelled(LABELLED)


def profile(kind: str) -> TextProfile:
    return TextProfile(kind=kind, wrap_column=10, indent_unit=4)


def label(name: str, text: str, kind: str = "prose") -> np.ndarray:
    return hypotheses.get(name).label(text, profile(kind))


def written(values: np.ndarray) -> str:
    digits = ".123456789abcdefghijklmnopqrstuvwxyz"
    return "".join("?" if np.isnan(value) else digits[int(value)] for value in values)


@pytest.mark.parametrize("name, kind, text, marks", CASES)
def test_labels_written_by_hand(name: str, kind: str, text: str, marks: str) -> None:
    assert kind in hypotheses.get(name).kinds
    assert written(label(name, text, kind)) == marks


@pytest.mark.parametrize("name", hypotheses.names())
def test_every_hypothesis_has_labelled_strings(name: str) -> None:
    mine = [marks for case, _, _, marks in CASES if case == name]
    assert len(mine) >= (10 if name in AT_LEAST_TEN else 3)
    assert len(set("".join(mine))) > 1


@pytest.mark.parametrize("name", hypotheses.names())
def test_a_label_knows_nothing_of_what_follows(name: str) -> None:
    hypothesis = hypotheses.get(name)
    assert not hypothesis.lookahead
    for text, kind in itertools.product(HOSTILE, sorted(hypothesis.kinds)):
        whole = label(name, text, kind)
        for cut in range(len(text)):
            np.testing.assert_array_equal(
                label(name, text[:cut], kind), whole[:cut], err_msg=repr(text[:cut])
            )


@pytest.mark.parametrize("name", hypotheses.names())
def test_a_label_of_random_text_knows_nothing_of_what_follows(name: str) -> None:
    rng = random.Random(0)
    pieces = [
        '"',
        "'",
        '"""',
        "\\",
        "\n",
        "\r\n",
        "/*",
        "*/",
        "//",
        "#",
        "if (",
        "):",
        "def ",
        " ",
        "\t",
        "“",
        "”",
    ]
    for kind in sorted(hypotheses.get(name).kinds):
        text = "".join(rng.choices([*pieces, "a", "[[", "]", "http://", ". "], k=300))
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


@pytest.mark.parametrize("name, opener", [("in_quote", "“"), ("quote_age", '"'), ("in_tag", "<a")])
def test_an_unbalanced_span_is_not_scored_from_its_600th_character_on(name: str, opener: str) -> None:
    before, shift = "ab ", len(opener) - 1
    values = label(name, before + opener + "x" * 700)
    first_unknown = len(before) + shift + 600
    assert not np.isnan(values[:first_unknown]).any()
    assert np.isnan(values[first_unknown:]).all()
    closed = label(name, before + opener + "x" * 700 + {"“": "”", '"': '"', "<a": ">"}[opener] + " a")
    np.testing.assert_array_equal(closed[: len(values)], values)
    assert (closed[-3:] == 0).all()


def test_the_table() -> None:
    names = hypotheses.names()
    assert len(names) == len(set(names)) >= 40
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
