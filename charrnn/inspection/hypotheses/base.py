"""What a hypothesis is, and the facts about a corpus that some of them need."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from charrnn.errors import InspectionError
from charrnn.inspection.hypotheses.arrays import Floats

KINDS = ("prose", "python", "c")
PROSE = frozenset({"prose"})
PYTHON = frozenset({"python"})
C = frozenset({"c"})
CODE = PYTHON | C
ANY = PROSE | CODE

PROFILE_CHARS = 500_000
"""A sample that is long enough for a profile."""
_TAB_STOP = 8
_SAMPLE_CHARS = 2_000_000
_DEFAULT_WRAP = 80
_LONGEST_CODE_LINE = 200
# Shares of the non-blank lines; running prose stays below .02 and source files lie above .2.
_CODE_SHARE = 0.12

_PYTHON_LINE = re.compile(
    r"\s*(?:(?:async\s+)?def\s+\w+\s*\(|class\s+\w+.*:|(?:from\s+[\w.]+\s+)?import\s+[\w.*(]+"
    r"|@[\w.]+(?:\(.*)?$|(?:if|elif|else|for|while|with|try|except|finally)\b.*:\s*(?:#.*)?$"
    r"|\s+return\b|\s+raise\b|[\w.\[\]]+\s*=\s*[^;]*[^;\s]\s*$|\s*self\.)"
)
_C_LINE = re.compile(
    r"\s*(?:#\s*(?:include|define|undef|if|ifdef|ifndef|elif|else|endif|pragma)\b|/\*|\*/|//"
    r"|\}.*$|.*[\w)\s]\{\s*$|.*(?:[()=\]]|->|\+\+|--).*;\s*(?:/[/*].*)?$|\{\s*$"
    r"|(?:static|const|struct|unsigned|int|char|void|return|break|goto)\b.*;\s*$)"
)


@dataclass(frozen=True)
class TextProfile:
    """Facts about a corpus, from a sample of its training text, or of a text that was named.

    Attributes:
        kind: What the text is: ``python``, ``c`` (any language with its comments and braces) or ``prose``.
        wrap_column: 80th percentile of the lengths of the non-empty lines, in characters.
        indent_unit: Most frequent positive change of indentation from line to line, in columns, at least 1.
    """

    kind: str
    wrap_column: int
    indent_unit: int


Labeller = Callable[[str, TextProfile], Floats]


@dataclass(frozen=True)
class Hypothesis:
    """A property of the text at each character, computed without the model.

    Attributes:
        name: The spelling used everywhere.
        type: ``binary``, ``count`` (any number from 0) or ``level`` (few values, from 0).
        kinds: The kinds of text in which it is worth asking.
        definition: One line that says what is labelled.
        lookahead: Whether the label at t may depend on characters after t.
        label: Labels one document: float32 (len(text),), the value after reading character t, NaN
            where the position is not to be scored.
        whole: Labels of the whole inspected text, where they come from a file: one value for every
            character of its documents, one after the other, (N,).
        label_rest: Labels a document without its first characters, and is told how many these are; where
            they shape all labels that follow.
        control: Whether it is trivially true of any network that reads: no part of what is asked.
    """

    name: str
    type: str
    kinds: frozenset[str]
    definition: str
    lookahead: bool
    label: Labeller
    whole: Floats | None = field(default=None, repr=False, compare=False)
    label_rest: Callable[[str, int], Floats] | None = field(default=None, repr=False, compare=False)
    control: bool = False

    def label_at(self, begin: int, text: str, profile: TextProfile, skipped: int = 0) -> Floats:
        """Label a document, or the rest of it.

        Args:
            begin: Characters of the inspected text before the document.
            text: The document, without its first ``skipped`` characters.
            profile: Facts about the corpus.
            skipped: How many are left out.
        """
        if self.whole is not None:
            return self.whole[begin + skipped :][: len(text)]
        return self.label(text, profile) if self.label_rest is None else self.label_rest(text, skipped)

    def check_length(self, characters: int) -> None:
        """Check that labels from a file are as many as the inspected text has characters.

        Raises:
            InspectionError: They are not.
        """
        if self.whole is not None and len(self.whole) != characters:
            raise InspectionError(
                f"`{self.name}` has {len(self.whole):,} labels, but the text {characters:,} characters",
                "such a file has one per character of all documents, in the order in which they are read",
            )


def causal(name: str, type: str, kinds: frozenset[str], definition: str, label: Labeller) -> Hypothesis:
    """Return a hypothesis whose label at t depends on nothing after t."""
    return Hypothesis(name, type, kinds, definition, False, label)


def ahead(name: str, type: str, kinds: frozenset[str], definition: str, label: Labeller) -> Hypothesis:
    """Return a hypothesis that looks ahead: what a network can only guess."""
    return Hypothesis(name, type, kinds, definition, True, label)


def profile_text(text: str) -> TextProfile:
    """Return the profile of a text, from at most its first 2,000,000 characters."""
    lines = [line.rstrip("\r") for line in text[:_SAMPLE_CHARS].split("\n")]
    lengths = [len(line) for line in lines if line]
    wrap = int(np.percentile(lengths, 80)) if lengths else _DEFAULT_WRAP
    return TextProfile(kind=_kind(lines), wrap_column=wrap, indent_unit=_indent_unit(lines))


def _kind(lines: list[str]) -> str:
    # Lines of code are short, and the patterns are slow on a line as long as a book.
    lines = [line[:_LONGEST_CODE_LINE] for line in lines if line.strip()]
    share = {
        "python": sum(bool(_PYTHON_LINE.match(line)) for line in lines) / max(len(lines), 1),
        "c": sum(bool(_C_LINE.match(line)) for line in lines) / max(len(lines), 1),
    }
    best = max(share, key=lambda kind: share[kind])
    return best if share[best] >= _CODE_SHARE else "prose"


def _indent_unit(lines: list[str]) -> int:
    # A line that begins with `*` goes on with a block comment: its one column is no indentation.
    indented = [line for line in lines if line.strip() and line.lstrip()[0] != "*"]
    widths = [tab_widths(line[: len(line) - len(line.lstrip(" \t"))])[-1:] for line in indented]
    increments = np.diff([width[0] if width else 0 for width in widths])
    increments = increments[increments > 0]
    return int(np.bincount(increments).argmax()) if len(increments) else 1


@lru_cache(maxsize=4096)
def tab_widths(run: str) -> tuple[int, ...]:
    """Return the column after each blank of a leading run; a tab goes to the next multiple of 8."""
    widths, width = [], 0
    for char in run:
        width = (width // _TAB_STOP + 1) * _TAB_STOP if char == "\t" else width + 1
        widths.append(width)
    return tuple(widths)
