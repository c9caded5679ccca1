"""Hypotheses about the layout and the syntax of Python and C."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate

import numpy as np

from charrnn.inspection.hypotheses import arrays, lexers
from charrnn.inspection.hypotheses.arrays import Bools, Floats, Ints, code_points
from charrnn.inspection.hypotheses.base import (
    ANY,
    CODE,
    PYTHON,
    C,
    Labeller,
    TextProfile,
    causal,
    tab_widths,
)
from charrnn.inspection.hypotheses.lexers import lex

_LEADING_RUN = re.compile(r"^[ \t]+", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z0-9_]+")
_DIRECTIVE = re.compile(r"^[ \t]*(#)", re.MULTILINE)
_C_CONDITION = re.compile(r"(?<![A-Za-z0-9_])(if|while|for)\s*(?=\()")
_PYTHON_CONDITION = re.compile(r"^[ \t]*(?:if|elif|while)\b", re.MULTILINE)
_PYTHON_LINE = re.compile(r"^([ \t]*)(?:((?:async[ \t]+)?def|class)(?=[ \t])|(?=[^\s#]))", re.MULTILINE)

_C_KEYWORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int
    long register restrict return short signed sizeof static struct switch typedef union unsigned void
    volatile while
"""


def _prefixes(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:length] for word in words for length in range(1, len(word) + 1))


KEYWORDS = {"c": frozenset(_C_KEYWORDS.split()), "python": frozenset(keyword.kwlist)}
"""The keywords of a language, by kind of text."""
_KEYWORD_PREFIXES = {kind: _prefixes(words) for kind, words in KEYWORDS.items()}


def _along_line(text: str, values_of_run: Callable[[str], tuple[int, ...]]) -> Floats:
    """Give each leading run of a line its values, and the rest of the line the last of them."""
    values = np.zeros(len(text) + 1, dtype=np.int64)
    events = arrays.newlines(code_points(text))
    for run in _LEADING_RUN.finditer(text):
        values[run.start() : run.end()] = values_of_run(run.group())
        events[run.start() : run.end()] = True
    return values[arrays.last_index(events)].astype(np.float32)


def _indent_width(text: str, profile: TextProfile) -> Floats:
    return _along_line(text, tab_widths)


def _indent_level(text: str, profile: TextProfile) -> Floats:
    return _along_line(text, lambda run: _levels(run, profile.indent_unit))


@lru_cache(maxsize=4096)
def _levels(run: str, unit: int) -> tuple[int, ...]:
    tabs = accumulate(char == "\t" for char in run)
    return tuple(tab + (end - tab) // unit for end, tab in enumerate(tabs, 1))


def _in_leading_space(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    nonblank = ~arrays.blanks(codes)
    return (arrays.last_index(nonblank) <= arrays.last_index(arrays.newlines(codes))).astype(np.float32)


def _parens(text: str, profile: TextProfile) -> Ints:
    if profile.kind != "prose":
        return lexers.code_depth(text, lex(text, profile.kind).code, "(", ")")
    codes = code_points(text)
    opening, closing = arrays.among(codes, "(（"), arrays.among(codes, ")）")
    return arrays.floored_depth(opening, closing, arrays.blank_line_ends(codes))


def _paren_depth(text: str, profile: TextProfile) -> Floats:
    return _parens(text, profile).astype(np.float32)


def _in_paren(text: str, profile: TextProfile) -> Floats:
    return (_parens(text, profile) > 0).astype(np.float32)


def _bracket_depth(text: str, profile: TextProfile) -> Floats:
    return lex(text, profile.kind).brackets.astype(np.float32)


def _brace_depth(text: str, profile: TextProfile) -> Floats:
    return lexers.code_depth(text, lex(text, profile.kind).code, "{", "}").astype(np.float32)


def _in_if_condition(text: str, profile: TextProfile) -> Floats:
    label = _c_condition if profile.kind == "c" else _python_condition
    return label(text).astype(np.float32)


def _c_condition(text: str) -> Bools:
    code = lex(text, "c").code
    depth = lexers.code_depth(text, code, "(", ")")
    openers = {
        match.end() for match in _C_CONDITION.finditer(text) if _is_c_keyword(text, code, match.start())
    }
    events = np.flatnonzero(np.diff(depth, prepend=0))
    return arrays.paint(len(text), until_closed(events.tolist(), depth[events].tolist(), openers, len(text)))


def _is_c_keyword(text: str, code: Bools, position: int) -> bool:
    before = position
    while before and text[before - 1] in " \t":
        before -= 1
    return bool(code[position]) and text[before - 1 : before] != "#"


def until_closed(
    events: list[int], depths: list[int], openers: set[int], length: int
) -> Iterator[tuple[int, int]]:
    """Yield the spans from each outermost of the ``openers`` to before its match.

    Args:
        events: Positions at which the depth of brackets changes, in order.
        depths: The depth from each of them on.
        openers: Positions of the opening brackets that count.
        length: Length of the text, where a span that is never closed ends.
    """
    start = None
    for position, depth in zip(events, depths, strict=True):
        if start is None and position in openers:
            start, outside = position, depth - 1
        elif start is not None and depth == outside:
            yield start, position
            start = None
    if start is not None:
        yield start, length


def _python_condition(text: str) -> Bools:
    lexed, codes = lex(text, "python"), code_points(text)
    outermost = lexed.code & (lexed.brackets == 0)
    colons = outermost & (codes == ord(":"))
    # After `:=` the condition goes on; the colon itself cannot know that yet.
    walrus = colons & np.concatenate((codes[1:] == ord("="), [False]))[: len(codes)]
    line_ends = outermost & arrays.newlines(codes) & ~arrays.spliced(codes)
    ends = np.append(np.flatnonzero((colons & ~walrus) | line_ends), len(text))
    starts = [m.end() for m in _PYTHON_CONDITION.finditer(text) if begins_line(text, outermost, m)]
    stops = ends[np.searchsorted(ends, starts)] if starts else []
    return arrays.paint(len(text), zip(starts, stops, strict=True)) & ~walrus


def begins_line(text: str, outermost: Bools, keyword_match: re.Match[str]) -> bool:
    """Return whether a keyword that was found at the begin of a line begins a statement, too."""
    return bool(outermost[keyword_match.end() - 1]) and not lexers.continues(text, keyword_match.start())


def _state_label(*states: int) -> Labeller:
    def label(text: str, profile: TextProfile) -> Floats:
        return np.isin(lex(text, profile.kind).state, states).astype(np.float32)

    return label


def _in_docstring(text: str, profile: TextProfile) -> Floats:
    lexed = lex(text, "python")
    spans = [
        (third, end)
        for third, end in lexed.triples
        if lexed.brackets[third - 2] == 0 and lexers.starts_statement(text, third - 2)
    ]
    return arrays.paint(len(text), spans).astype(np.float32)


def in_preprocessor(text: str, profile: TextProfile) -> Floats:
    """Label the lines that are C directives, with what continues them."""
    codes, state = code_points(text), lex(text, "c").state
    starts = [m.start(1) for m in _DIRECTIVE.finditer(text) if state[m.start(1)] == lexers.CODE]
    ends = arrays.newlines(codes) & ~arrays.spliced(codes) & (state != lexers.BLOCK_COMMENT)
    ends = np.append(np.flatnonzero(ends), len(text))
    stops = ends[np.searchsorted(ends, starts)] if starts else []
    return arrays.paint(len(text), zip(starts, stops, strict=True)).astype(np.float32)


def _words(text: str, kind: str) -> list[tuple[int, int]]:
    code = lex(text, kind).code
    words = (word.span() for word in _WORD.finditer(text))
    return [(start, end) for start, end in words if code[start] and text[start] not in "0123456789"]


def _in_identifier(text: str, profile: TextProfile) -> Floats:
    words = _words(text, profile.kind)
    prefixes = _KEYWORD_PREFIXES["c" if profile.kind == "c" else "python"]
    unsure = [(start, start + _unsure_length(text[start:end], prefixes)) for start, end in words]
    return arrays.masked(arrays.paint(len(text), words), arrays.paint(len(text), unsure))


@lru_cache(maxsize=65536)
def _unsure_length(word: str, prefixes: frozenset[str]) -> int:
    """Return how many characters of a word could still become (or are) a keyword."""
    length = 0
    while length < len(word) and word[: length + 1] in prefixes:
        length += 1
    return length


def _identifier_position(text: str, profile: TextProfile) -> Floats:
    return (arrays.span_age(len(text), _words(text, profile.kind)) + 1).astype(np.float32)


def _decl_depth(text: str, profile: TextProfile) -> Floats:
    return arrays.steps(len(text), _declarations(text)).astype(np.float32)


def _declarations(text: str) -> Iterator[tuple[int, int]]:
    """Yield ``(position, depth)`` where a line leaves declarations and where a keyword opens one."""
    lexed = lex(text, "python")
    outermost = lexed.code & (lexed.brackets == 0)
    indents: list[int] = []
    for line in _PYTHON_LINE.finditer(text):
        first = line.end(1)
        # The line goes on with a string, a bracket or a backslash of the line before.
        if (line.start() and not outermost[line.start() - 1]) or lexers.continues(text, line.start()):
            continue
        width = (tab_widths(line.group(1)) or (0,))[-1]
        while indents and indents[-1] >= width:
            indents.pop()
        yield first, len(indents)
        if line.group(2):
            indents.append(width)
            yield line.end(2), len(indents)


HYPOTHESES = (
    causal(
        "indent_width",
        "count",
        CODE,
        "columns of leading blanks of the line so far (a tab goes to the next multiple of 8)",
        _indent_width,
    ),
    causal(
        "indent_level",
        "level",
        CODE,
        "leading tabs of the line so far, plus leading spaces // the most frequent step of the corpus",
        _indent_level,
    ),
    causal(
        "in_leading_space",
        "binary",
        CODE,
        "nothing but blanks since the newline, which is included",
        _in_leading_space,
    ),
    causal(
        "paren_depth",
        "level",
        ANY,
        "( minus ), never below 0; code: outside strings and comments; prose: 0 again at a blank line",
        _paren_depth,
    ),
    causal(
        "in_paren",
        "binary",
        ANY,
        "paren_depth above 0: the opening parenthesis is inside, the closing one outside",
        _in_paren,
    ),
    causal(
        "bracket_depth",
        "level",
        CODE,
        "open ( [ { outside strings and comments; any closing bracket closes the innermost one",
        _bracket_depth,
    ),
    causal(
        "brace_depth", "level", CODE, "{ minus } outside strings and comments, never below 0", _brace_depth
    ),
    causal(
        "in_if_condition",
        "binary",
        CODE,
        "C: from the ( after if, while or for to before its match; Python: from after an if, elif or while "
        "that begins a line to before its colon",
        _in_if_condition,
    ),
    causal(
        "in_comment",
        "binary",
        CODE,
        "inside a block or line comment",
        _state_label(lexers.LINE_COMMENT, lexers.BLOCK_COMMENT),
    ),
    causal(
        "in_block_comment",
        "binary",
        C,
        "from the * of /* to before the / of */",
        _state_label(lexers.BLOCK_COMMENT),
    ),
    causal(
        "in_line_comment",
        "binary",
        CODE,
        "from # or the second / of // to before the end of the line",
        _state_label(lexers.LINE_COMMENT),
    ),
    causal(
        "in_string",
        "binary",
        CODE,
        "inside a string literal: the opening quote is inside, the closing one outside",
        _state_label(lexers.STRING),
    ),
    causal(
        "in_char_literal",
        "binary",
        C,
        "inside a character literal: the opening quote is inside, the closing one outside",
        _state_label(lexers.CHAR_LITERAL),
    ),
    causal(
        "in_docstring",
        "binary",
        PYTHON,
        "inside a triple-quoted string that begins a statement, from its third quote on",
        _in_docstring,
    ),
    causal(
        "in_preprocessor",
        "binary",
        C,
        "on a line whose first non-blank is #, from there to before its end, backslash continuations too",
        in_preprocessor,
    ),
    causal(
        "in_identifier",
        "binary",
        CODE,
        "in a name outside strings and comments; not scored while it could still become a keyword",
        _in_identifier,
    ),
    causal(
        "identifier_position",
        "count",
        CODE,
        "characters of the name or keyword read so far, 0 elsewhere",
        _identifier_position,
    ),
    causal(
        "decl_depth",
        "level",
        PYTHON,
        "open def and class blocks, from after the keyword to the first line that is indented no further",
        _decl_depth,
    ),
)
