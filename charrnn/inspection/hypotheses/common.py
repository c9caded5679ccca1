"""Hypotheses that make sense in any text, and the controls: classes of the current character."""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from charrnn.inspection.hypotheses import arrays
from charrnn.inspection.hypotheses.arrays import Bools, Floats, code_points
from charrnn.inspection.hypotheses.base import ANY, Hypothesis, TextProfile, ahead, causal

# A longer quotation or tag is taken for an unbalanced one: not scored from its 600th character on.
LONGEST_SPAN = 600

# Longer beginnings of words are not looked up: such a word is data, and would cost its length squared.
_LONGEST_PREFIX = 40

_QUOTE_EVENT = re.compile(r'\\["\\]|["“”„«»「」『』]|(?<=\n)[ \t\r\f\v\u00a0\u3000]*\n')
_CLOSED_BY = {"»": "«", "」": "「", "』": "『"}
_NUMBER = re.compile(r"[0-9][0-9.,]*")
_URL = re.compile(r"""(https?://|\bwww\.)[^\s<>"')\]]*""", re.IGNORECASE)
_VOWELS = frozenset("aeiouyAEIOUYаеёиоуыэюяАЕЁИОУЫЭЮЯäöüÄÖÜéèêàâîôûÉÈÊÀÂÎÔÛ")


def quote_spans(text: str, ends_at_blank_line: bool) -> list[tuple[int, int]]:
    """Return the outermost quotations, half open: from the opening mark to before the closing one."""
    spans, marks, start = [], "", 0
    for event in _QUOTE_EVENT.finditer(text):
        mark, position = event.group(), event.end() - 1
        if mark[0] == "\\" or (mark[-1] == "\n" and not ends_at_blank_line):
            continue
        now = "" if mark[-1] == "\n" else _after_quote(marks, mark)
        begins = now == mark and now != ""
        if marks and (begins or not now):
            spans.append((start, position))
        start = position if begins else start
        marks = now
    return [*spans, (start, len(text))] if marks else spans


def _after_quote(marks: str, mark: str) -> str:
    """Return the open quotation marks, outermost first, after one more mark was read."""
    if mark == "”":
        return marks[: max(marks.rfind("“"), marks.rfind("„"))] if set("“„") & set(marks) else marks
    if mark == "“" and "„" in marks:
        return marks[: marks.rindex("„")]
    if mark in _CLOSED_BY:
        return marks[: marks.rindex(_CLOSED_BY[mark])] if _CLOSED_BY[mark] in marks else marks
    if mark in marks:
        # A second ASCII mark closes; any other opener that is still open had its closer forgotten.
        return marks[: marks.rindex(mark)] + ("" if mark == '"' else mark)
    return marks + mark


def quote_age(text: str, profile: TextProfile) -> arrays.Ints:
    """Return the characters since the mark that opened the outermost quotation, -1 outside."""
    # A docstring has blank lines inside; elsewhere they put right what a single mark has turned around.
    return arrays.span_age(len(text), quote_spans(text, ends_at_blank_line=profile.kind != "python"))


def _in_quote(text: str, profile: TextProfile) -> Floats:
    age = quote_age(text, profile)
    return arrays.masked(age >= 0, age >= LONGEST_SPAN)


def _quote_age_label(text: str, profile: TextProfile) -> Floats:
    age = quote_age(text, profile)
    return arrays.masked(np.maximum(age, 0), age >= LONGEST_SPAN)


def _column(text: str, profile: TextProfile) -> Floats:
    return arrays.since(arrays.newlines(code_points(text))).astype(np.float32)


def _past_wrap(text: str, profile: TextProfile) -> Floats:
    return (_column(text, profile) > profile.wrap_column).astype(np.float32)


def _newline_run(text: str, profile: TextProfile) -> Floats:
    codes = code_points(text)
    return arrays.count_since(arrays.newlines(codes), ~arrays.among(codes, "\r\n")).astype(np.float32)


def _word_position(text: str, profile: TextProfile) -> Floats:
    letters = arrays.having(text, str.isalpha)
    return arrays.count_since(letters, ~letters).astype(np.float32)


def _caps_run(text: str, profile: TextProfile) -> Floats:
    capitals = arrays.having(text, str.isupper)
    return (arrays.count_since(capitals, ~capitals) >= 2).astype(np.float32)


def _in_number(text: str, profile: TextProfile) -> Floats:
    return (_number_position(text, profile) > 0).astype(np.float32)


def _number_position(text: str, profile: TextProfile) -> Floats:
    age = arrays.span_age(len(text), (match.span() for match in _NUMBER.finditer(text)))
    return (age + 1).astype(np.float32)


def _in_url(text: str, profile: TextProfile) -> Floats:
    spans = ((match.end(1) - 1, match.end()) for match in _URL.finditer(text))
    return arrays.paint(len(text), spans).astype(np.float32)


def _previous_line_length(text: str, profile: TextProfile) -> Floats:
    ends = arrays.newlines(code_points(text))
    before_end = arrays.last_index(ends) - 1
    return arrays.at(arrays.since(ends), np.maximum(before_end, -1)).astype(np.float32)


def word_starts(text: str) -> Bools:
    """Return where a word begins: at a letter after what is no letter, but not at the t of "don't"."""
    letters = arrays.having(text, str.isalpha)
    before = arrays.just_before(letters)
    apostrophes = arrays.just_before(arrays.among(code_points(text), "'’"))
    return letters & ~before & ~(apostrophes & arrays.just_before(before))


def _words_in_line(text: str, profile: TextProfile) -> Floats:
    return arrays.count_since(word_starts(text), arrays.newlines(code_points(text))).astype(np.float32)


def _previous_word_length(text: str, profile: TextProfile) -> Floats:
    letters = arrays.having(text, str.isalpha)
    ended = ~letters & arrays.just_before(letters)
    last_letter = np.maximum(arrays.last_index(ended) - 1, -1)
    return arrays.at(arrays.count_since(letters, ~letters), last_letter).astype(np.float32)


def _in_capitalised_word(text: str, profile: TextProfile) -> Floats:
    letters = arrays.having(text, str.isalpha)
    begun_by = arrays.last_index(word_starts(text))
    return (letters & arrays.at(arrays.having(text, str.isupper), begun_by)).astype(np.float32)


def _word_repeat_age(text: str, profile: TextProfile) -> Floats:
    ages = np.full(len(text), np.nan, dtype=np.float32)
    last: dict[str, int] = {}
    for start, end in arrays.runs(arrays.having(text, str.isalpha)):
        for stop in range(start + 1, min(end, start + _LONGEST_PREFIX) + 1):
            prefix = text[start:stop]
            if prefix in last:
                ages[stop - 1] = start - last[prefix]
            last[prefix] = start
    return np.log1p(ages)


def _line_fraction(text: str, profile: TextProfile) -> Floats:
    column = _column(text, profile)
    ends = arrays.newlines(code_points(text))
    is_last = np.append(ends[1:], True)[: len(ends)] & ~ends
    last = np.flatnonzero(is_last)
    # The last character of every character's line; there is none after newlines that end the text.
    own = np.append(last, -1)[np.searchsorted(last, np.arange(len(text)))]
    return np.divide(column, column[own], out=np.zeros_like(column), where=column > 0)


def _word_boundary_next(text: str, profile: TextProfile) -> Floats:
    letters = arrays.having(text, str.isalpha)
    ends = ~np.append(letters[1:], True)[: len(letters)]
    is_last = np.arange(len(text)) == len(text) - 1
    return arrays.masked(ends, ~letters | is_last)


def _document_position(text: str, profile: TextProfile) -> Floats:
    return _document_position_after(text, 0)


def _document_position_after(text: str, skipped: int) -> Floats:
    return np.log1p(np.arange(skipped, skipped + len(text), dtype=np.float32))


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def _is_ascii_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_newline(char: str) -> bool:
    return char == "\n"


def _control(name: str, definition: str, test: arrays.CharTest) -> Hypothesis:
    def label(text: str, profile: TextProfile) -> Floats:
        return arrays.having(text, test).astype(np.float32)

    return Hypothesis(name, "binary", ANY, definition + " (a control)", False, label, control=True)


HYPOTHESES = (
    Hypothesis(
        "in_quote",
        "binary",
        ANY,
        'inside "…", “…”, „…“, «…», 「…」 or 『…』; the opening mark is inside, the closing one outside; '
        'not after \\"; a blank line ends it, but not in Python; not scored from the 600th character on',
        False,
        _in_quote,
    ),
    Hypothesis(
        "quote_age",
        "count",
        ANY,
        "characters since the mark that opened the quotation, 0 outside; not scored from the 600th on",
        False,
        _quote_age_label,
    ),
    Hypothesis(
        "column", "count", ANY, "characters since the last newline, 0 on the newline itself", False, _column
    ),
    Hypothesis(
        "past_wrap",
        "binary",
        ANY,
        "column beyond the 80th percentile of the line lengths of the training text, or of the text that was "
        "named (a wrap is due)",
        False,
        _past_wrap,
    ),
    Hypothesis(
        "newline_run",
        "count",
        ANY,
        "newlines in the current run of them (carriage returns are skipped), 0 elsewhere",
        False,
        _newline_run,
    ),
    Hypothesis(
        "word_position",
        "count",
        ANY,
        "letters since the last character that is no letter, 0 outside words",
        False,
        _word_position,
    ),
    Hypothesis(
        "caps_run",
        "binary",
        ANY,
        "inside a run of at least two capitals, from the second one on",
        False,
        _caps_run,
    ),
    Hypothesis(
        "in_number",
        "binary",
        ANY,
        "a digit, or digits, points and commas right after one",
        False,
        _in_number,
    ),
    Hypothesis(
        "number_position",
        "count",
        ANY,
        "characters of the number read so far, 0 outside numbers",
        False,
        _number_position,
    ),
    Hypothesis(
        "in_url",
        "binary",
        ANY,
        "from the last character of http://, https:// or www. until a blank or one of < > \" ' ) ]",
        False,
        _in_url,
    ),
    causal(
        "previous_word_length",
        "count",
        ANY,
        "letters of the last word that has ended, 0 before there is one",
        _previous_word_length,
    ),
    causal(
        "words_in_line",
        "count",
        ANY,
        "words begun since the newline, the current one included",
        _words_in_line,
    ),
    causal(
        "previous_line_length",
        "count",
        ANY,
        "characters of the line before this one without its newline, 0 on the first line",
        _previous_line_length,
    ),
    causal(
        "in_capitalised_word",
        "binary",
        ANY,
        "a letter of a word that begins with a capital",
        _in_capitalised_word,
    ),
    causal(
        "word_repeat_age",
        "count",
        ANY,
        "ln(1 + characters since a word last began with the same letters as this one so far); not scored "
        "outside words, the first time, and from the 41st letter on",
        _word_repeat_age,
    ),
    ahead(
        "line_fraction",
        "count",
        ANY,
        "column divided by the length of the whole line, 0 on the newline",
        _line_fraction,
    ),
    ahead(
        "word_boundary_next",
        "binary",
        ANY,
        "a letter with no letter after it; not scored outside words and at the end of the document",
        _word_boundary_next,
    ),
)

CONTROLS = (
    Hypothesis(
        "document_position",
        "count",
        ANY,
        "ln(1 + characters since the document began) (a control: what drifts along a document follows it)",
        False,
        _document_position,
        label_rest=_document_position_after,
        control=True,
    ),
    _control("is_space", "the current character is a space, tab or line end", str.isspace),
    _control("is_newline", "the current character is a newline", _is_newline),
    _control("is_upper", "the current character is a capital letter", str.isupper),
    _control("is_vowel", "the current character is a Latin or Cyrillic vowel", _VOWELS.__contains__),
    _control("is_digit", "the current character is one of 0 to 9", _is_ascii_digit),
    _control("is_punctuation", "the current character is punctuation or a symbol", _is_punctuation),
)
