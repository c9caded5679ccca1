"""Hypotheses about the expressions and statements of Python and C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from charrnn.inspection.hypotheses import arrays, lexers
from charrnn.inspection.hypotheses.arrays import Bools, Floats, code_points
from charrnn.inspection.hypotheses.base import (
    CODE,
    PYTHON,
    C,
    TextProfile,
    ahead,
    causal,
)
from charrnn.inspection.hypotheses.code import KEYWORDS, begins_line, in_preprocessor, until_closed
from charrnn.inspection.hypotheses.lexers import lex

_BRACKET_OR_COMMA = re.compile(r"[()\[\]{},]")
# Looked for where a word begins, so that a word as long as a book is read once.
_CALLED = re.compile(r"(?<!\w)(?:(?![A-Za-z_])\w)*+([A-Za-z_]\w*+)\(")
# The character after = tells that it is no ==, and is the first of what is assigned.
_ASSIGNED = re.compile(r"(?<![=!<>:])=(?=[^=])")
_RETURN = re.compile(r"\breturn\b")
_ATTRIBUTE = re.compile(r"\b[0-9][\w.]*|(?:\.|->)([A-Za-z_]\w*)")
_CONVERSION = re.compile(r"%(?:%|([-+ #0]*[0-9*]*(?:\.[0-9*]*)?[hlLzjtq]*[A-Za-z]?))")
_IMPORT = re.compile(r"^[ \t]*(?:import|from)\b", re.MULTILINE)
_PYTHON_PARAMETERS = re.compile(r"\bdef[ \t]+\w+[ \t]*(?=\()")
_INCLUDED = re.compile(r"^[ \t]*(#)[ \t]*include[ \t]*([<\"][^>\"\n]*)", re.MULTILINE)
# Up to whatever follows: one that had to find its brace would look again from every word.
_STRUCT = re.compile(r"\b(?:struct|union|enum)\b[^;(){}=,]*+")
_PAREN_ENDS_LINE = re.compile(r"\)(?=[ \t]*[:{]?[ \t]*\r?(?:\n|\Z))")


def _innermost(text: str, kind: str) -> tuple[arrays.Ints, Bools, arrays.Ints]:
    """Return the code point of the innermost open bracket, whether it calls, and the commas since it."""
    events = list(_bracket_events(text, kind))
    opener, calls, commas = ([(event[0], event[n]) for event in events] for n in (1, 2, 3))
    size = len(text)
    return arrays.steps(size, opener), arrays.steps(size, calls) > 0, arrays.steps(size, commas)


@lru_cache(maxsize=4)
def _bracket_events(text: str, kind: str) -> tuple[tuple[int, int, bool, int], ...]:
    """Return position, innermost opener, whether it calls, and commas since it, wherever one changes."""
    code = lex(text, kind).code
    called = _call_parens(text, kind)
    events, stack = [], [(0, False, 0)]
    for match in _BRACKET_OR_COMMA.finditer(text):
        position, char = match.start(), match.group()
        if not code[position]:
            continue
        if char in "([{":
            stack.append((ord(char), position in called, 0))
        elif char == ",":
            opener, calls, commas = stack[-1]
            stack[-1] = opener, calls, commas + 1
        elif len(stack) > 1:
            stack.pop()
        events.append((position, *stack[-1]))
    return tuple(events)


def _call_parens(text: str, kind: str) -> frozenset[int]:
    words = KEYWORDS["c" if kind == "c" else "python"]
    return frozenset(name.end() - 1 for name in _CALLED.finditer(text) if name.group(1) not in words)


def _in_arguments(text: str, profile: TextProfile) -> Floats:
    return _innermost(text, profile.kind)[1].astype(np.float32)


def _in_square_brackets(text: str, profile: TextProfile) -> Floats:
    return (_innermost(text, profile.kind)[0] == ord("[")).astype(np.float32)


def _commas_in_brackets(text: str, profile: TextProfile) -> Floats:
    opener, _, commas = _innermost(text, profile.kind)
    return np.where((opener == ord("(")) | (opener == ord("[")), commas, 0).astype(np.float32)


def _in_continuation_line(text: str, profile: TextProfile) -> Floats:
    ends = arrays.newlines(code_points(text))
    depth = _open_in_line(text, profile.kind)
    return (arrays.at(depth, arrays.last_index(ends)) > 0).astype(np.float32)


def _open_in_line(text: str, kind: str) -> arrays.Ints:
    """Return the open brackets that keep a statement going: in C, braces do not."""
    lexed = lex(text, kind)
    return lexers.code_depth(text, lexed.code, "([", ")]") if kind == "c" else lexed.brackets


def _after_block_opener(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    ends = arrays.newlines(codes)
    opens = _words_of_code(text, profile.kind) & ~arrays.blanks(codes)
    last = arrays.at(codes, arrays.last_index(opens))
    opened = last == ord("{" if profile.kind == "c" else ":")
    return (arrays.at(opened, arrays.last_index(ends)) > 0).astype(np.float32)


def _words_of_code(text: str, kind: str) -> Bools:
    """Return what is code, without the slashes at the ends of a comment, which the lexer calls code, too."""
    state = lex(text, kind).state
    comment = (state == lexers.LINE_COMMENT) | (state == lexers.BLOCK_COMMENT)
    beside = arrays.just_before(comment) | np.append(comment[1:], False)[: len(comment)]
    return (state == lexers.CODE) & ~(beside & (code_points(text) == ord("/")))


def _statement_ends(text: str, kind: str) -> Bools:
    """Return the semicolons in code, and in Python the newlines that end a statement."""
    lexed, codes = lex(text, kind), code_points(text)
    ends = lexed.code & (codes == ord(";"))
    if kind != "c":
        ends |= lexed.code & (lexed.brackets == 0) & arrays.newlines(codes) & ~arrays.spliced(codes)
    return ends


def _until_statement_end(text: str, kind: str, starts: Iterable[int]) -> Floats:
    starts = list(starts)
    ends = np.append(np.flatnonzero(_statement_ends(text, kind)), len(text))
    stops = ends[np.searchsorted(ends, starts)] if starts else []
    return arrays.paint(len(text), zip(starts, stops, strict=True)).astype(np.float32)


def _in_return(text: str, profile: TextProfile) -> Floats:
    code = lex(text, profile.kind).code
    starts = (match.end() for match in _RETURN.finditer(text) if code[match.start()])
    return _until_statement_end(text, profile.kind, starts)


def _in_import(text: str, profile: TextProfile) -> Floats:
    lexed = lex(text, "python")
    outermost = lexed.code & (lexed.brackets == 0)
    starts = (match.end() for match in _IMPORT.finditer(text) if begins_line(text, outermost, match))
    return _until_statement_end(text, "python", starts)


def _in_assigned_value(text: str, profile: TextProfile) -> Floats:
    return arrays.steps(len(text), _assignments(text, profile.kind)).astype(np.float32)


def _assignments(text: str, kind: str) -> Iterator[tuple[int, bool]]:
    """Yield ``(position, whether inside an assigned value)`` wherever that may change."""
    lexed, codes = lex(text, kind), code_points(text)
    begins = np.zeros(len(text) + 1, dtype=bool)
    begins[[match.end() for match in _ASSIGNED.finditer(text) if lexed.code[match.start()]]] = True
    ends = (lexed.code & arrays.among(codes, ",)]}")) | _statement_ends(text, kind)
    depths: list[int] = []
    events = np.flatnonzero(begins[:-1] | ends)
    outside = lexed.brackets[np.maximum(events - 1, 0)]
    for position, before, depth in zip(
        events.tolist(), outside.tolist(), lexed.brackets[events].tolist(), strict=True
    ):
        if begins[position]:
            depths.append(before)
        # A closing bracket ends the values inside it, anything else those beside it.
        least = depth if depth < before else depth - 1
        while ends[position] and depths and depths[-1] > least:
            depths.pop()
        yield position, bool(depths)


def _in_attribute(text: str, profile: TextProfile) -> Floats:
    code = lex(text, profile.kind).code
    names = (m.span(1) for m in _ATTRIBUTE.finditer(text) if m.group(1) and code[m.start()])
    return arrays.paint(len(text), names).astype(np.float32)


def _in_format(text: str, profile: TextProfile) -> Floats:
    inside = lex(text, profile.kind).state == lexers.STRING
    spans = (m.span(1) for m in _CONVERSION.finditer(text) if m.group(1) and inside[m.start()])
    return (arrays.paint(len(text), spans) & inside).astype(np.float32)


def _string_age(text: str, profile: TextProfile) -> Floats:
    spans = arrays.runs(lex(text, profile.kind).state == lexers.STRING)
    return np.maximum(arrays.span_age(len(text), spans), 0).astype(np.float32)


def _in_parameters(text: str, profile: TextProfile) -> Floats:
    code = lex(text, profile.kind).code
    depth = lexers.code_depth(text, code, "(", ")")
    if profile.kind == "c":
        outside = lexers.code_depth(text, code, "{", "}") == 0
        return ((depth > 0) & outside & (in_preprocessor(text, profile) == 0)).astype(np.float32)
    openers = {match.end() for match in _PYTHON_PARAMETERS.finditer(text) if code[match.start()]}
    return _bracketed(text, depth, openers)


def _bracketed(text: str, depth: arrays.Ints, openers: set[int]) -> Floats:
    events = np.flatnonzero(np.diff(depth, prepend=0))
    spans = until_closed(events.tolist(), depth[events].tolist(), openers, len(text))
    return arrays.paint(len(text), spans).astype(np.float32)


def _in_include_path(text: str, profile: TextProfile) -> Floats:
    state = lex(text, "c").state
    spans = (m.span(2) for m in _INCLUDED.finditer(text) if state[m.start(1)] == lexers.CODE)
    return arrays.paint(len(text), spans).astype(np.float32)


def _in_struct(text: str, profile: TextProfile) -> Floats:
    code = lex(text, "c").code
    heads = (match.span() for match in _STRUCT.finditer(text))
    openers = {end for begin, end in heads if text[end : end + 1] == "{" and code[begin] and code[end]}
    return _bracketed(text, lexers.code_depth(text, code, "{", "}"), openers)


def _closing_paren_ends_line(text: str, profile: TextProfile) -> Floats:
    code = lex(text, profile.kind).code
    spans = (m.span() for m in _PAREN_ENDS_LINE.finditer(text) if code[m.start()])
    return arrays.paint(len(text), spans).astype(np.float32)


HYPOTHESES = (
    causal(
        "in_arguments",
        "binary",
        CODE,
        "the innermost open bracket is a ( right after a name that is no keyword: of a call or a definition",
        _in_arguments,
    ),
    causal(
        "in_square_brackets",
        "binary",
        CODE,
        "the innermost open bracket is a [",
        _in_square_brackets,
    ),
    causal(
        "commas_in_brackets",
        "count",
        CODE,
        "commas read since the innermost open bracket, where that is ( or [; 0 elsewhere",
        _commas_in_brackets,
    ),
    causal(
        "in_continuation_line",
        "binary",
        CODE,
        "from a newline inside ( or [ (in Python also {) to before the next newline",
        _in_continuation_line,
    ),
    causal(
        "after_block_opener",
        "binary",
        CODE,
        "from a newline before which the last character of code is { (Python: a colon) to before the next",
        _after_block_opener,
    ),
    causal(
        "in_assigned_value",
        "binary",
        CODE,
        "right of an = (also +=, but not == != <= >= :=) to before the , ; or closing bracket around it "
        "(Python: or the end of the statement)",
        _in_assigned_value,
    ),
    causal(
        "in_return",
        "binary",
        CODE,
        "from after return to before the ; or, in Python, the newline that ends the statement",
        _in_return,
    ),
    causal(
        "in_attribute",
        "binary",
        CODE,
        "a name right after . or ->, outside strings and comments",
        _in_attribute,
    ),
    causal(
        "in_format",
        "binary",
        CODE,
        "in a string, from after % to the letter that ends the conversion (%-5d, %lu), but not in %%",
        _in_format,
    ),
    causal(
        "string_age",
        "count",
        CODE,
        "characters since the quote that opened the string (of three, the third), 0 outside",
        _string_age,
    ),
    causal(
        "in_parameters",
        "binary",
        CODE,
        "Python: inside the parentheses of a def; C: inside parentheses outside all braces and directives",
        _in_parameters,
    ),
    causal(
        "in_import",
        "binary",
        PYTHON,
        "from after an import or from that begins a statement to before its end",
        _in_import,
    ),
    causal(
        "in_include_path",
        "binary",
        C,
        "the path after #include: the opening < or quote is inside, the closing one outside",
        _in_include_path,
    ),
    causal(
        "in_struct",
        "binary",
        C,
        "inside the braces of a struct, union or enum",
        _in_struct,
    ),
    ahead(
        "closing_paren_ends_line",
        "binary",
        CODE,
        "a ) after which nothing but blanks and one : or { stand on its line",
        _closing_paren_ends_line,
    ),
)
