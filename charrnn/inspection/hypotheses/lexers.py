"""Where the strings and comments of Python and C are, as far as the text read so far can tell.

A regular expression finds the tokens and paints them. Each label depends on the characters up to it only:
the first slash of a comment is still code, and the second quote of a triple one closes an empty string,
until the third one shows that it did not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from charrnn.inspection.hypotheses import arrays
from charrnn.inspection.hypotheses.arrays import Bools, Ints, code_points

CODE, LINE_COMMENT, BLOCK_COMMENT, STRING, CHAR_LITERAL = range(5)

# A backslash takes the next character with it, a CRLF as one; a lone one may stand at the end of the text.
_ONE_LINE = r"{q}[^{q}\\\n]*+(?:\\(?:\r\n|.)[^{q}\\\n]*+)*+(?:{q}|\\\Z)?+"
_TRIPLE = r"{q}{q}{q}[^{q}\\]*+(?:(?:\\.|{q}(?!{q}{q}))[^{q}\\]*+)*+(?:{q}{q}{q}|\\\Z)?+"


def _quoted(pattern: str) -> str:
    return "|".join(pattern.format(q=quote) for quote in "\"'")


_PYTHON_TOKEN = re.compile(
    rf"(?P<comment>#[^\n]*)|(?P<triple>{_quoted(_TRIPLE)})|(?P<string>{_quoted(_ONE_LINE)})", re.DOTALL
)
_C_TOKEN = re.compile(
    r"(?P<comment>//[^\n]*+(?:(?:(?<=\\)|(?<=\\\r))\n[^\n]*+)*+)"
    r"|(?P<block>/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/)?+)"
    r"|(?P<string>" + _ONE_LINE.format(q='"') + r")|(?P<char>" + _ONE_LINE.format(q="'") + ")",
    re.DOTALL,
)


@dataclass(frozen=True)
class Lexed:
    """What a lexer knows after each character of a document.

    Attributes:
        state: One of ``CODE``, ``LINE_COMMENT``, ``BLOCK_COMMENT``, ``STRING``, ``CHAR_LITERAL``, (n,).
        triples: Half-open spans of the triple-quoted strings, from the third quote to before the last one.
        brackets: Open brackets of all kinds outside strings and comments, (n,).
    """

    state: NDArray[np.uint8]
    triples: tuple[tuple[int, int], ...]
    brackets: Ints

    @property
    def code(self) -> Bools:
        """Where the text is neither comment nor literal, (n,)."""
        return self.state == CODE


@lru_cache(maxsize=4)
def lex(text: str, kind: str) -> Lexed:
    """Lex one document as C if ``kind`` is ``c``, else as Python; the last few results are kept."""
    state = np.zeros(len(text), dtype=np.uint8)
    triples = _paint_c(text, state) if kind == "c" else _paint_python(text, state)
    brackets = code_depth(text, state == CODE, "([{", ")]}")
    state.setflags(write=False)
    brackets.setflags(write=False)
    return Lexed(state, tuple(triples), brackets)


def code_depth(text: str, code: Bools, opening: str, closing: str) -> Ints:
    """Return how many brackets are open, counting those in ``code`` only and never below 0."""
    codes = code_points(text)
    return arrays.floored_depth(arrays.among(codes, opening) & code, arrays.among(codes, closing) & code)


def _paint_python(text: str, state: NDArray[np.uint8]) -> list[tuple[int, int]]:
    triples = []
    for token in _PYTHON_TOKEN.finditer(text):
        start, end = token.span()
        if token.lastgroup == "comment":
            state[start:end] = LINE_COMMENT
        elif token.lastgroup == "string":
            state[start : _before_closer(token, 1)] = STRING
        else:
            state[start] = STRING
            triples.append((start + 2, _before_closer(token, 3)))
            state[slice(*triples[-1])] = STRING
    return triples


def _paint_c(text: str, state: NDArray[np.uint8]) -> list[tuple[int, int]]:
    for token in _C_TOKEN.finditer(text):
        start, end = token.span()
        if token.lastgroup == "comment":
            state[start + 1 : end] = LINE_COMMENT
        elif token.lastgroup == "block":
            closed = end - start >= 4 and token.group().endswith("*/")
            state[start + 1 : end - closed] = BLOCK_COMMENT
        else:
            literal = STRING if token.lastgroup == "string" else CHAR_LITERAL
            state[start : _before_closer(token, 1)] = literal
    return []


def _before_closer(token: re.Match[str], quotes: int) -> int:
    """Return where a literal stops being inside: at its last quote if it is closed, else at its end."""
    literal = token.group()
    body = literal[quotes:]
    # Within the token an unescaped quote can only be the closer, so count the backslashes before it.
    head = body[:-quotes] if body.endswith(literal[0] * quotes) else None
    closed = head is not None and (len(head) - len(head.rstrip("\\"))) % 2 == 0
    return token.end() - 1 if closed else token.end()


def starts_statement(text: str, position: int) -> bool:
    """Return whether only blanks and a prefix (r, u) stand before a string on its line, not continued."""
    line = position - (position > 0 and text[position - 1] in "rRuU")
    while line and text[line - 1] in " \t":
        line -= 1
    return text[line - 1 : line] in ("", "\n") and not continues(text, line)


def continues(text: str, line: int) -> bool:
    """Return whether the line that starts at ``line`` goes on with the one before (a backslash)."""
    return text.endswith(("\\\n", "\\\r\n"), 0, line)
