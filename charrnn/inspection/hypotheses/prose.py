"""Hypotheses about prose: paragraphs, sentences, dialogue, plays and light markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from charrnn.inspection.hypotheses import arrays
from charrnn.inspection.hypotheses.arrays import Bools, Floats, code_points
from charrnn.inspection.hypotheses.base import PROSE, Hypothesis, TextProfile
from charrnn.inspection.hypotheses.common import LONGEST_SPAN

_SENTENCE_END = re.compile(r"[.?!…][\"')\]”’»]*\s")
# No blank follows a Chinese or Japanese full stop: the sentence ends at once, closing marks belong to it.
_FULL_WIDTH_END = re.compile(r"[。！？][」』”’）]*")
_TAG = re.compile(r"<[A-Za-z/!?][^>]*")
_WIKI_LINK = re.compile(r"\[\[[^\]]*")


def _dialogue_turn(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    marks = arrays.among(codes, '"“„«「『')
    return (arrays.count_since(marks, arrays.blank_line_ends(codes)) > 0).astype(np.float32)


def _line_in_paragraph(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    return arrays.count_since(arrays.newlines(codes), arrays.blank_line_ends(codes)).astype(np.float32)


def _sentence_ends(text: str) -> Bools:
    ends = [(match.end() - 1, match.end()) for match in _SENTENCE_END.finditer(text)]
    ends += [match.span() for match in _FULL_WIDTH_END.finditer(text)]
    return arrays.paint(len(text), ends)


def _sentence_position(text: str, profile: TextProfile) -> Floats:
    return arrays.since(_sentence_ends(text)).astype(np.float32)


def _word_in_sentence(text: str, profile: TextProfile) -> Floats:
    return arrays.count_since(_word_starts(text), _sentence_ends(text)).astype(np.float32)


def _word_starts(text: str) -> Bools:
    letters = arrays.having(text, str.isalpha)
    before = np.concatenate(([False, False], letters))
    # The t of "don't" begins no word.
    elided = np.concatenate(([False], arrays.among(code_points(text), "'’")))[:-1] & before[:-2]
    return letters & ~before[1:-1] & ~elided


def _speaker_label(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    blank_ends = arrays.blank_line_ends(codes)
    # The first line of the text counts as one after a blank line.
    over = (arrays.newlines(codes) | (codes == ord(":"))) & ~blank_ends
    return (arrays.last_index(over) <= arrays.last_index(blank_ends)).astype(np.float32)


def _in_tag(text: str, profile: TextProfile) -> Floats:
    return _bounded(text, ((match.start() + 1, match.end()) for match in _TAG.finditer(text)))


def _in_wiki_link(text: str, profile: TextProfile) -> Floats:
    return _bounded(text, ((match.start() + 1, match.end()) for match in _WIKI_LINK.finditer(text)))


def _bounded(text: str, spans: Iterable[tuple[int, int]]) -> Floats:
    age = arrays.span_age(len(text), spans)
    return arrays.masked(age >= 0, age >= LONGEST_SPAN)


HYPOTHESES = (
    Hypothesis(
        "dialogue_turn",
        "binary",
        PROSE,
        "0 from the start of a paragraph to before its first opening quotation mark, then 1",
        False,
        _dialogue_turn,
    ),
    Hypothesis(
        "line_in_paragraph", "count", PROSE, "newlines since the last blank line", False, _line_in_paragraph
    ),
    Hypothesis(
        "sentence_position",
        "count",
        PROSE,
        "characters since the blank after . ? ! and closing marks, or since 。？！",
        False,
        _sentence_position,
    ),
    Hypothesis(
        "word_in_sentence",
        "count",
        PROSE,
        "words begun since the sentence began, the current one included",
        False,
        _word_in_sentence,
    ),
    Hypothesis(
        "speaker_label",
        "binary",
        PROSE,
        "on the line after a blank line, before its first colon (the name of who speaks, in a play)",
        False,
        _speaker_label,
    ),
    Hypothesis(
        "in_tag",
        "binary",
        PROSE,
        "inside <…>, from the letter, / ! or ? after < until >; not scored from the 600th character on",
        False,
        _in_tag,
    ),
    Hypothesis(
        "in_wiki_link",
        "binary",
        PROSE,
        "inside [[…, from the second [ until ]; not scored from the 600th character on",
        False,
        _in_wiki_link,
    ),
)
