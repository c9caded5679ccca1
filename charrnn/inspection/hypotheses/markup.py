"""Hypotheses about markup and data: wikis, Markdown, XML, LaTeX, CSV and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from charrnn.inspection.hypotheses import arrays
from charrnn.inspection.hypotheses.arrays import Floats, code_points
from charrnn.inspection.hypotheses.base import PROSE, Labeller, TextProfile, causal
from charrnn.inspection.hypotheses.common import LONGEST_SPAN

_TAG = re.compile(r"<[A-Za-z/!?][^>]*")
_ATTRIBUTE_VALUE = re.compile(r"""=\s*+("[^">]*+|'[^'>]*+)""")
_ELEMENT_TAG = re.compile(r"<!--(?:(?!-->)[\s\S])*+|<(/?)([A-Za-z][^\s<>/]*+)[^<>]*?(/?)>")
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905
_ENTITY = re.compile(r"&([A-Za-z#][A-Za-z0-9]{0,9})")
_WIKI_LINK = re.compile(r"\[\[[^\]]*")
_TEMPLATE_BRACES = re.compile(r"(\{\{)|(\}\})")
_HEADING = re.compile(r"^(?:#{1,6}([ \t][^\n]*)|=(=[^\n]*))", re.MULTILINE)
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|[0-9]{1,3}[.)])([ \t][^\n]*)", re.MULTILINE)
_CODE_SPAN = re.compile(
    r"^[ \t]*+(?P<fence>`{3,}+[^`\n]*+\n(?:(?!^[ \t]*+```)[\s\S])*+(?:[ \t]*+``(?=`))?+)`*+"
    r"|(?P<inline>`++[^`\n]*+)`*+",
    re.MULTILINE,
)
# What may stand in a formula: anything but its end and a blank line.
_FORMULA = r"(?:{plain}|\\{escapable}|(?<!\n)(?<!\n\r)\n|\\\Z)*+"
_MATH = re.compile(
    r"(?P<dollar>\$++" + _FORMULA.format(plain=r"[^$\\\n]", escapable=r"[\s\S]") + r")\$*+"
    r"|\\(?P<display>\[" + _FORMULA.format(plain=r"[^\\\n]", escapable=r"[^\]]") + r"(?:\\(?=\]))?+)"
    r"|\\[^\[]"
)
_ENVIRONMENT = re.compile(r"\\(?:(begin)|end)\{")
_JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\[\s\S])*+(?:"|\\\Z)?+|[{}\[\],:]')


def _bounded(text: str, spans: Iterable[tuple[int, int]]) -> Floats:
    age = arrays.span_age(len(text), spans)
    return arrays.masked(age >= 0, age >= LONGEST_SPAN)


def _after_first_character(pattern: re.Pattern[str]) -> Labeller:
    """Label the matches of a pattern from their second character on, which shows what they are."""

    def label(text: str, profile: TextProfile) -> Floats:
        return _bounded(text, ((match.start() + 1, match.end()) for match in pattern.finditer(text)))

    return label


def _groups(pattern: re.Pattern[str]) -> Labeller:
    """Label what the one group that matched of a pattern holds."""

    def label(text: str, profile: TextProfile) -> Floats:
        spans = (match.span(match.lastindex) for match in pattern.finditer(text) if match.lastindex)
        return arrays.paint(len(text), spans).astype(np.float32)

    return label


def _in_attribute_value(text: str, profile: TextProfile) -> Floats:
    tags = [(tag.start() + 1, tag.end()) for tag in _TAG.finditer(text)]
    values = (
        value.span(1)
        for start, end in tags
        for value in _ATTRIBUTE_VALUE.finditer(text, start, min(end, start + LONGEST_SPAN))
    )
    too_far = arrays.span_age(len(text), tags) >= LONGEST_SPAN
    return arrays.masked(arrays.paint(len(text), values), too_far)


def _element_depth(text: str, profile: TextProfile) -> Floats:
    opening, closing = np.zeros((2, len(text)), dtype=bool)
    for tag in _ELEMENT_TAG.finditer(text):
        if tag.group(1):
            closing[tag.end() - 1] = True
        elif tag.group(2) and not tag.group(3) and tag.group(2).lower() not in _VOID:
            opening[tag.end() - 1] = True
    return arrays.floored_depth(opening, closing).astype(np.float32)


def _depth_of_marks(pattern: re.Pattern[str]) -> Labeller:
    """Label matches with group 1 minus those without, counted at their last character."""

    def label(text: str, profile: TextProfile) -> Floats:
        opening, closing = np.zeros((2, len(text)), dtype=bool)
        for mark in pattern.finditer(text):
            (opening if mark.group(1) else closing)[mark.end() - 1] = True
        return arrays.floored_depth(opening, closing).astype(np.float32)

    return label


def _wiki_link_position(text: str, profile: TextProfile) -> Floats:
    age = arrays.span_age(len(text), ((m.start() + 1, m.end()) for m in _WIKI_LINK.finditer(text)))
    return arrays.masked(age + 1, age >= LONGEST_SPAN)


def _in_math(text: str, profile: TextProfile) -> Floats:
    return _bounded(text, (math.span(math.lastgroup) for math in _MATH.finditer(text) if math.lastgroup))


def _csv_field(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    ends = arrays.newlines(codes)
    quoted = arrays.count_since(codes == ord('"'), ends) % 2 == 1
    return arrays.count_since(arrays.among(codes, ",;\t") & ~quoted, ends).astype(np.float32)


def _in_json_key(text: str, profile: TextProfile) -> Floats:
    return arrays.paint(len(text), _json_keys(text) if "{" in text else ()).astype(np.float32)


def _json_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yield the strings that come right after { or a comma in an object, without their closing quotes."""
    stack, expected = "", False
    for token in _JSON_TOKEN.finditer(text):
        first, (start, end) = token.group()[0], token.span()
        if first == '"':
            if expected:
                yield start, end - _is_closed(token.group())
        elif first in "{[":
            stack += first
        elif first in "}]":
            stack = stack[:-1]
        expected = first == "{" or (first == "," and stack.endswith("{"))


def _is_closed(string: str) -> bool:
    head = string[1:-1]
    return len(string) > 1 and string[-1] == '"' and (len(head) - len(head.rstrip("\\"))) % 2 == 0


HYPOTHESES = (
    causal(
        "in_tag",
        "binary",
        PROSE,
        "inside <…>, from the letter, / ! or ? after < until >; not scored from the 600th character on",
        _after_first_character(_TAG),
    ),
    causal(
        "in_attribute_value",
        "binary",
        PROSE,
        "inside the quotes after an = in a tag: the opening quote is inside, the closing one outside",
        _in_attribute_value,
    ),
    causal(
        "element_depth",
        "level",
        PROSE,
        "open elements <a>…</a>, counted at >; not <a/>, those HTML leaves empty, nor any in a comment",
        _element_depth,
    ),
    causal(
        "in_entity",
        "binary",
        PROSE,
        "right after &: a letter or #, and up to nine letters and digits more",
        _groups(_ENTITY),
    ),
    causal(
        "in_wiki_link",
        "binary",
        PROSE,
        "inside [[…, from the second [ until ]; not scored from the 600th character on",
        _after_first_character(_WIKI_LINK),
    ),
    causal(
        "wiki_link_position",
        "count",
        PROSE,
        "characters of in_wiki_link so far, 1 on the second [, 0 outside; not scored from the 600th on",
        _wiki_link_position,
    ),
    causal(
        "template_depth",
        "level",
        PROSE,
        "{{ minus }}, counted at the second brace, never below 0",
        _depth_of_marks(_TEMPLATE_BRACES),
    ),
    causal(
        "in_heading",
        "binary",
        PROSE,
        "on a line that begins with one to six # and a blank, from the blank on, or with ==, from the "
        "second = on",
        _groups(_HEADING),
    ),
    causal(
        "in_list_item",
        "binary",
        PROSE,
        "on a line that begins with - * + • or a number with . or ) and a blank, from that blank on",
        _groups(_LIST_ITEM),
    ),
    causal(
        "in_code_span",
        "binary",
        PROSE,
        "between runs of ` on one line, or between lines that begin with ```: the opening run is inside; "
        "of the closing ``` the third is outside",
        _groups(_CODE_SPAN),
    ),
    causal(
        "in_math",
        "binary",
        PROSE,
        "between runs of $ or inside \\[ \\], until an empty line; not after a backslash; not scored "
        "from the 600th character on",
        _in_math,
    ),
    causal(
        "environment_depth",
        "level",
        PROSE,
        "\\begin{ minus \\end{, counted at the brace, never below 0",
        _depth_of_marks(_ENVIRONMENT),
    ),
    causal(
        "csv_field",
        "count",
        PROSE,
        'commas, semicolons and tabs outside "…" since the newline: the column of a table',
        _csv_field,
    ),
    causal(
        "in_json_key",
        "binary",
        PROSE,
        "in a string right after { or a comma in { }: the opening quote is inside, the closing one outside",
        _in_json_key,
    ),
)
