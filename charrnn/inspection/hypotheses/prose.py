"""Hypotheses about prose: paragraphs, sentences, clauses, dialogue and plays."""

from __future__ import annotations

import re

import numpy as np

from charrnn.inspection.hypotheses import arrays
from charrnn.inspection.hypotheses.arrays import Bools, Floats, code_points
from charrnn.inspection.hypotheses.base import PROSE, Hypothesis, TextProfile, causal
from charrnn.inspection.hypotheses.common import LONGEST_SPAN, quote_age, quote_spans, word_starts

_SENTENCE_END = re.compile(r"[.?!…][\"')\]”’»]*\s")
# No blank follows a Chinese or Japanese full stop: the sentence ends at once, closing marks belong to it.
_FULL_WIDTH_END = re.compile(r"[。！？][」』”’）]*")
_CLAUSE_END = re.compile(r"""[,;:]["')\]”’»]*\s""")
_CLAUSE_MARKS = "，；：、—"
# The speech goes on in the next line, unless this one ends like a sentence or is empty.
_SENTENCE_ENDS_HERE = r"[.?!…:;»”\"。？！」』]"
_DASH_SPEECH = re.compile(
    r"^[ \t\u00a0\u3000]*+([—–―][^\n]*+"
    rf"(?:(?<!{_SENTENCE_ENDS_HERE})(?<!{_SENTENCE_ENDS_HERE}\r)(?<!\n)(?<!\n\r)\n[^\n]*+)*+)",
    re.MULTILINE,
)


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
    return arrays.count_since(word_starts(text), _sentence_ends(text)).astype(np.float32)


def _speaker_label(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    blank_ends = arrays.blank_line_ends(codes)
    # The first line of the text counts as one after a blank line.
    over = (arrays.newlines(codes) | (codes == ord(":"))) & ~blank_ends
    return (arrays.last_index(over) <= arrays.last_index(blank_ends)).astype(np.float32)


def _paragraph_position(text: str, profile: TextProfile) -> Floats:
    return arrays.since(arrays.blank_line_ends(code_points(text))).astype(np.float32)


def _sentence_in_paragraph(text: str, profile: TextProfile) -> Floats:
    ends = _sentence_ends(text)
    first = ends & ~arrays.just_before(ends)
    return arrays.count_since(first, arrays.blank_line_ends(code_points(text))).astype(np.float32)


def _clause_position(text: str, profile: TextProfile) -> Floats:
    ends = arrays.paint(len(text), ((match.end() - 1, match.end()) for match in _CLAUSE_END.finditer(text)))
    ends |= _sentence_ends(text) | arrays.among(code_points(text), _CLAUSE_MARKS)
    return arrays.since(ends).astype(np.float32)


def _after_quote(text: str, profile: TextProfile) -> Floats:
    age = quote_age(text, profile)
    closings = np.zeros(len(text) + 1, dtype=bool)
    closings[[end for _, end in quote_spans(text, ends_at_blank_line=profile.kind != "python")]] = True
    closed = arrays.count_since(closings[:-1], arrays.blank_line_ends(code_points(text))) > 0
    return arrays.masked(closed & (age < 0), age >= LONGEST_SPAN)


def _in_dash_speech(text: str, profile: TextProfile) -> Floats:
    return arrays.paint(len(text), (match.span(1) for match in _DASH_SPEECH.finditer(text))).astype(
        np.float32
    )


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
    causal(
        "paragraph_position",
        "count",
        PROSE,
        "characters since the newline of the last blank line",
        _paragraph_position,
    ),
    causal(
        "sentence_in_paragraph",
        "count",
        PROSE,
        "sentences that have ended since the last blank line",
        _sentence_in_paragraph,
    ),
    causal(
        "clause_position",
        "count",
        PROSE,
        "characters since the blank after , ; : and closing marks, since ，；：、 or —, or since the "
        "sentence began",
        _clause_position,
    ),
    causal(
        "after_quote",
        "binary",
        PROSE,
        "outside quotations, in a paragraph in which one has ended (who speaks, and how)",
        _after_quote,
    ),
    causal(
        "in_dash_speech",
        "binary",
        PROSE,
        "from a dash — – ― that begins a line until an empty line, or a newline after . ? ! … : ; or a "
        "closing quotation mark",
        _in_dash_speech,
    ),
)
