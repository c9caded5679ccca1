"""Hypotheses of the user's own: combinations, regular expressions, functions and files of labels."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from charrnn.errors import InspectionError
from charrnn.inspection.hypotheses import arrays, get, names
from charrnn.inspection.hypotheses.arrays import Floats
from charrnn.inspection.hypotheses.base import ANY, Hypothesis, TextProfile, causal
from charrnn.inspection.hypotheses.foreign import checked_labels, load_function, load_labels
from charrnn.inspection.hypotheses.patience import time_limit

# Every cut of a few short texts is tried: some thousand labellings.
_WINDOW = 400
_WINDOWS_AT_CHANGES, _OTHER_WINDOWS = 7, 3

_REGEX_SECONDS = 30
_REGEX_SPEC = re.compile(r"(\w+)=/(.*)/([a-z]*)", re.DOTALL)
_FLAGS = {"i": re.IGNORECASE, "s": re.DOTALL}
_COMBINING = (ast.Name, ast.Load, ast.UnaryOp, ast.Invert, ast.BinOp, ast.BitAnd, ast.BitOr)
_MAX_NODES = 200  # some fifty names: what walks through them calls itself


def resolve(spec: str) -> Hypothesis:
    """Return the hypothesis that a user names or describes.

    Args:
        spec: A built-in name; ``name=/regex/`` with flags ``i`` and ``s``; ``file.py:function``;
            ``labels.npy``; or built-in names combined with ``& | ~`` and parentheses.

    Raises:
        InspectionError: There is no such hypothesis, or what describes it cannot be read.
    """
    if spec in names():
        return get(spec)
    if described := _REGEX_SPEC.fullmatch(spec):
        return _from_regex(*described.groups())
    if spec.endswith(".npy"):
        return _from_labels(spec)
    if re.search(r"\.py(:|$)", spec):
        return _from_function(spec)
    if re.match(r"\w+=", spec):
        raise InspectionError(
            f"`{spec}` is no hypothesis: a regular expression stands between slashes",
            r"for example 'capitalised=/\b[A-Z]\w*/'",
        )
    return _combined(spec) if set("&|~()") & set(spec) else get(spec)


def resolve_all(specs: Iterable[str], sample: str, profile: TextProfile) -> list[Hypothesis]:
    """Return what the specs describe, each once; those of the user's own are tried on a sample.

    Raises:
        InspectionError: One cannot be resolved, fails on the sample, or has the name of another.
    """
    found = [_tried(resolve(spec), sample, profile) for spec in dict.fromkeys(specs)]
    for number, hypothesis in enumerate(found):
        if hypothesis.name in [other.name for other in found[:number]]:
            raise InspectionError(f"two hypotheses are called `{hypothesis.name}`", "rename one of them")
    return found


def _tried(hypothesis: Hypothesis, sample: str, profile: TextProfile) -> Hypothesis:
    """Return a hypothesis with the type that its labels have, and whether they look ahead."""
    if hypothesis.name in names() or hypothesis.whole is not None:
        return hypothesis
    values = hypothesis.label(sample, profile)
    looks = hypothesis.lookahead or looks_ahead(hypothesis, sample, profile, values)
    return replace(hypothesis, type=_type_of(values), lookahead=looks)


def _type_of(values: Floats) -> str:
    return "binary" if np.isin(values[~np.isnan(values)], (0, 1)).all() else "count"


def looks_ahead(hypothesis: Hypothesis, sample: str, profile: TextProfile, values: Floats) -> bool:
    """Return whether cutting a text off changes labels before the cut, at every cut of some short texts.

    Args:
        hypothesis: What labels.
        sample: The short texts are windows of this one, most of them where its labels change.
        profile: Its profile.
        values: Its labels.
    """
    return any(
        not np.array_equal(hypothesis.label(window[:cut], profile), whole[:cut], equal_nan=True)
        for window in _windows(sample, values)
        for whole in [hypothesis.label(window, profile)]
        for cut in range(1, len(window))
    )


def _windows(sample: str, values: Floats) -> Iterator[str]:
    changes = np.flatnonzero(np.diff(np.nan_to_num(values, nan=-1), prepend=0))
    places = _spread(changes, _WINDOWS_AT_CHANGES) + _spread(np.arange(len(sample)), _OTHER_WINDOWS)
    for place in places:
        begin = max(0, place - _WINDOW // 2)
        yield sample[begin : begin + _WINDOW]


def _spread(places: np.ndarray, count: int) -> list[int]:
    """Return at most ``count`` of some places, evenly."""
    if len(places) <= count:
        return places.tolist()
    return places[np.linspace(0, len(places) - 1, count).astype(int)].tolist()


def _combined(spec: str) -> Hypothesis:
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        tree = None
    nodes = [] if tree is None else list(ast.walk(tree))
    if not 0 < len(nodes) <= _MAX_NODES or not all(isinstance(node, _COMBINING) for node in nodes):
        raise InspectionError(
            f"`{spec}` is no combination of hypotheses",
            "join names with & (and), | (or), ~ (not) and parentheses: 'in_string & ~in_docstring'",
        )
    parts = [get(node.id) for node in nodes if isinstance(node, ast.Name)]

    def label(text: str, profile: TextProfile) -> Floats:
        return _evaluated(tree, text, profile).astype(np.float32)

    looks = any(part.lookahead for part in parts)
    name = ast.unparse(tree)
    return Hypothesis(name, "binary", ANY, f"{name} (above 0 counts as true)", looks, label)


def _evaluated(node: ast.AST, text: str, profile: TextProfile) -> Floats:
    """Return 1 where a combination holds, 0 where not, NaN where any part of it is not scored."""
    if isinstance(node, ast.Name):
        values = get(node.id).label(text, profile)
        return arrays.masked(values > 0, np.isnan(values))
    if isinstance(node, ast.UnaryOp):
        return 1 - _evaluated(node.operand, text, profile)
    either = np.minimum if isinstance(node.op, ast.BitAnd) else np.maximum
    return either(_evaluated(node.left, text, profile), _evaluated(node.right, text, profile))


@dataclass(frozen=True)
class RegexLabeller:
    """Labels what a regular expression matches, as far as the text read so far has the match.

    A character counts if the text up to and including it, cut off there, has the match and the match
    covers that character. So ``"[^"]*"?`` counts from the opening quote on, but of ``"[^"]*"`` only the
    closing one does.
    """

    pattern: re.Pattern[str]

    def __call__(self, text: str, profile: TextProfile) -> Floats:
        with self._time_limit():
            return arrays.paint(len(text), self._determined(text)).astype(np.float32)

    def matched(self, text: str) -> int:
        """Return how many characters the expression matches when it sees the whole text."""
        with self._time_limit():
            spans = (match.span(self._group) for match in self.pattern.finditer(text))
            return sum(end - begin for begin, end in spans)

    def _time_limit(self) -> AbstractContextManager[None]:
        return time_limit(_REGEX_SECONDS, f"`/{self.pattern.pattern}/` takes too long on one document")

    @property
    def _group(self) -> str | int:
        return "in" if "in" in self.pattern.groupindex else 0

    def _determined(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self.pattern.finditer(text):
            begin, end = match.span(self._group)
            if begin == end:
                continue
            stops = range(begin + 1, end + 1)
            # Once the prefix has the match, a longer one has it, too; where not, the trial finds out.
            unsure = bisect_left(stops, True, key=lambda stop: self._covers(text, match.start(), stop))
            yield begin + unsure, end

    def _covers(self, text: str, start: int, stop: int) -> bool:
        """Return whether the text cut off at ``stop`` has a match whose span reaches to the cut."""
        match = self.pattern.match(text, start, stop)
        return match is not None and match.start(self._group) < match.end(self._group) == stop


def _from_regex(name: str, source: str, flags: str) -> Hypothesis:
    _check_name(name)
    if unknown := set(flags) - set(_FLAGS):
        raise InspectionError(
            f"`{min(unknown)}` is no flag of a regular expression here",
            "i ignores case, s lets the dot match newlines",
        )
    try:
        pattern = re.compile(source, re.MULTILINE | sum(_FLAGS[flag] for flag in set(flags)))
    except (re.error, RecursionError, OverflowError) as error:
        raise InspectionError(
            f"`{source}` is no valid regular expression: {error}",
            "Python's syntax; quote it for the shell: 'name=/regex/'",
        ) from None
    definition = f"matches /{source}/{flags}, counted from where the text so far has the match"
    return causal(name, "binary", ANY, definition, RegexLabeller(pattern))


def _from_function(spec: str) -> Hypothesis:
    function = load_function(spec)

    def label(text: str, profile: TextProfile) -> Floats:
        try:
            values = function(text)
        # Whatever the user's own code raises is theirs to mend: one line for it, too.
        except Exception as error:
            raise InspectionError(
                f"`{spec}` failed: {type(error).__name__}: {error}", "it is called with one document, a str"
            ) from error
        return checked_labels(values, spec, len(text))

    name = spec.rpartition(":")[2]
    _check_name(name)
    return causal(name, "count", ANY, f"the values of {spec}", label)


def _from_labels(path: str) -> Hypothesis:
    values = load_labels(path)
    name = Path(path).stem
    _check_name(name)

    def label(text: str, profile: TextProfile) -> Floats:
        return checked_labels(values, path, len(text))

    definition = f"the values in {Path(path).name} (taken to look ahead: a file cannot be asked)"
    return Hypothesis(name, _type_of(values), ANY, definition, True, label, values)


def _check_name(name: str) -> None:
    if name in names():
        raise InspectionError(f"`{name}` is the name of a built-in hypothesis", "choose another one")
