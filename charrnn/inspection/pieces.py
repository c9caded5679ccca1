"""The text that is inspected, cut into pieces: half of them choose neurons, the others give the numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from charrnn.errors import InspectionError
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.text.corpus import Corpus

BLOCK_CHARS = 10_000
MIN_BLOCK_CHARS = 2_000
NUM_BLOCKS = 128
"""The text is cut into about so many blocks: enough for a null, and many can be read side by side."""
MIN_CHARS = 40 * MIN_BLOCK_CHARS
"""What a valid null needs."""
GAP_CHARS = 500
"""Read but not scored at the begin of a block that continues a document."""
WARM_UP_CHARS = 64
"""Read but not scored at the begin of a document, where the state still comes from zero."""
MIN_DOCUMENTS = 8
"""With fewer documents, it is blocks and not documents that are dealt to the two halves."""
MIN_SHARE = 0.25
"""Documents are not dealt where one half would get less than this share of the characters."""
MAX_CHARS = 400_000
"""Characters inspected at most; more text is read evenly from the whole."""
LABELLED_WHOLE = 4 << 20
"""Longer documents are labelled around the blocks that are read from them."""
LOOK_BACK, LOOK_AHEAD = 1 << 16, 1 << 12
"""Characters before and behind such a block that are labelled with it."""
_NEW_BLOCK, _NEW_LINE = re.compile(r"\n\r?\n(?=\S)"), re.compile(r"\n")


Block = tuple[int, int, int, int]
"""Number and begin of a document, begin and end of a block in it, as positions in the corpus."""
Document = tuple[int, int, int, int]
"""Number of a document, its begin and end in the corpus, and the characters in the documents before it."""


@dataclass(frozen=True)
class Piece:
    """Some characters of one document, read from a state of zeros.

    Args:
        text: The characters.
        places: The same in the corpus, (N,).
        labels: Value of every hypothesis at each character, NaN where it is not scored, (N, Y) float32.
        skip: Characters at the begin that are read but not scored.
        document: Number of the document it comes from.
        begin: Where in the document it begins, in characters.
        chooses: Whether it belongs to the half that chooses neurons.
    """

    text: str
    places: np.ndarray
    labels: np.ndarray
    skip: int
    document: int
    begin: int
    chooses: bool

    def __len__(self) -> int:
        return len(self.text)


def cut_pieces(
    corpus: Corpus,
    parts: Sequence[tuple[int, int]],
    hypotheses: Sequence[Hypothesis],
    profile: TextProfile,
    max_chars: int = MAX_CHARS,
    both_halves: bool = True,
) -> list[Piece]:
    """Cut parts of a corpus into pieces and label them.

    Every document is labelled whole (of more than 4 Mi characters, only around the blocks that are read, from
    64 Ki characters before them on), then cut into blocks of 2,000 to 10,000 characters; a block that
    continues a document begins with a gap of 500 characters that is read but not scored. With at least 8
    documents, whole documents are dealt to the two halves; otherwise neighbouring blocks alternate.

    Raises:
        InspectionError: ``both_halves`` are wanted and there are fewer than two pieces, so nothing can be
            confirmed; or labels from a file are not as many as the characters.
    """
    spans = np.concatenate([np.empty((0, 2), np.int64), *(corpus.spans(*part) for part in parts)])
    ends = np.cumsum(spans[:, 1] - spans[:, 0])
    for hypothesis in hypotheses:
        hypothesis.check_length(int(ends[-1]) if len(ends) else 0)
    before = ends - (spans[:, 1] - spans[:, 0])
    long_enough = spans[:, 1] - spans[:, 0] > 1
    spans, before = spans[long_enough], before[long_enough]
    blocks = _chosen_blocks(spans, max_chars)
    pieces = []
    dealt = zip(blocks, _halves(blocks), strict=True)
    for number, own in groupby(dealt, key=lambda pair: pair[0][0]):
        document = (number, *spans[number].tolist(), int(before[number]))
        for blocks_near in _near(document, list(own)):
            pieces += _label(corpus, document, blocks_near, hypotheses, profile)
    if both_halves and len({piece.chooses for piece in pieces}) < 2:
        raise InspectionError(
            "the text is too short to inspect: it gives fewer than two pieces",
            f"name a longer one with `--text`; two blocks of {MIN_BLOCK_CHARS:,} characters are the least",
        )
    return pieces


def _block_length(spans: np.ndarray | Sequence[tuple[int, int]], max_chars: int) -> int:
    """Return the largest length of a block in documents with these begins and ends, (D, 2)."""
    total = min(max_chars, int(np.diff(spans).sum()))
    return min(BLOCK_CHARS, max(MIN_BLOCK_CHARS, total // NUM_BLOCKS))


def _chosen_blocks(spans: np.ndarray, max_chars: int) -> list[Block]:
    """Cut every document into blocks of equal length; of much text keep some, evenly from the whole."""
    lengths = spans[:, 1] - spans[:, 0]
    counts = -(-lengths // _block_length(spans, max_chars))
    after, total = np.cumsum(counts), int(lengths.sum())
    num = int(counts.sum())
    kept = np.arange(num)
    if total > max_chars:
        keep = max(2, int(num * max_chars / total))
        kept = np.unique(np.linspace(0, num - 1, keep).astype(int))
    numbers = np.searchsorted(after, kept, side="right")
    found = []
    for number in np.unique(numbers).tolist():
        start, stop = spans[number].tolist()
        edges = np.linspace(start, stop, counts[number] + 1).astype(int)
        places = kept[numbers == number] - (after[number] - counts[number])
        found += [(number, start, int(edges[place]), int(edges[place + 1])) for place in places]
    return found


def _halves(blocks: list[Block]) -> list[bool]:
    """Deal documents to two halves; blocks, where documents are few or one of them outweighs the rest."""
    by_document = _deal([(number, end - begin) for number, _, begin, end in blocks])
    sizes = [end - begin for *_, begin, end in blocks]
    chosen = sum(size for size, half in zip(sizes, by_document, strict=True) if half)
    balanced = MIN_SHARE <= chosen / max(1, sum(sizes)) <= 1 - MIN_SHARE
    if balanced and len({number for number, *_ in blocks}) >= MIN_DOCUMENTS:
        return by_document
    return _deal(list(enumerate(sizes)))


def _deal(units: Iterable[tuple[int, int]]) -> list[bool]:
    """Deal units, given as number and length in order, to two halves of about equal length."""
    size = {True: 0, False: 0}
    half: dict[int, bool] = {}
    dealt = []
    for number, length in units:
        if number not in half:
            half[number] = size[True] <= size[False]
        size[half[number]] += length
        dealt.append(half[number])
    return dealt


def _near(document: Document, blocks: list[tuple[Block, bool]]) -> Iterator[list[tuple[Block, bool]]]:
    """Yield the blocks of a document that are labelled together: all, unless it is very long."""
    _, start, stop, _ = document
    if stop - start <= LABELLED_WHOLE:
        yield blocks
        return
    near: list[tuple[Block, bool]] = []
    for block in blocks:
        _, _, begin, end = block[0]
        is_far = bool(near) and begin - near[-1][0][3] > LOOK_BACK + LOOK_AHEAD
        if is_far or (near and end - near[0][0][2] > LABELLED_WHOLE // 4):
            yield near
            near = []
        near.append(block)
    yield near


def _label(
    corpus: Corpus,
    document: Document,
    blocks: list[tuple[Block, bool]],
    hypotheses: Sequence[Hypothesis],
    profile: TextProfile,
) -> list[Piece]:
    """Label a document, one hypothesis after the other, and keep what some of its blocks need of it."""
    number, start, stop, before = document
    begin, text = _labelled_text(corpus, start, stop, blocks)
    windows = [slice(first - begin, last - begin) for (_, _, first, last), _ in blocks]
    # mostly one hypothesis after the other is looked at, so each lies together
    labels = [np.empty((w.stop - w.start, len(hypotheses)), dtype=np.float32, order="F") for w in windows]
    for column, hypothesis in enumerate(hypotheses):
        values = hypothesis.label_at(before, text, profile, begin - start)
        for window, block in zip(windows, labels, strict=True):
            block[:, column] = values[window]
    return [
        Piece(
            text=text[w],
            places=corpus.places[first:last],
            labels=values,
            skip=_skipped(first - start, last - first),
            document=number,
            begin=first - start,
            chooses=chooses,
        )
        for w, values, ((_, _, first, last), chooses) in zip(windows, labels, blocks, strict=True)
    ]


def _labelled_text(
    corpus: Corpus, start: int, stop: int, blocks: list[tuple[Block, bool]]
) -> tuple[int, str]:
    """Return what is labelled for some blocks, and where it begins: the whole document unless that is long.

    Else it begins some way before the first block: after a blank line if a line without indentation
    follows one, where comments and strings seldom go on; or at a line's begin.
    """
    if stop - start <= LABELLED_WHOLE:
        return start, _one_char_per_place(corpus, start, stop)
    begin, end = max(start, blocks[0][0][2] - LOOK_BACK), min(stop, blocks[-1][0][3] + LOOK_AHEAD)
    text = _one_char_per_place(corpus, begin, end)
    if begin > start:
        room = blocks[0][0][2] - begin
        line = _NEW_BLOCK.search(text, 0, room) or _NEW_LINE.search(text, 0, room)
        cut = line.end() if line else 0
        begin, text = begin + cut, text[cut:]
    return begin, text


def _skipped(begin: int, length: int) -> int:
    """Return how many characters of a block are read but not scored; of a very short document, half."""
    return GAP_CHARS if begin else min(WARM_UP_CHARS, length // 2)


def _one_char_per_place(corpus: Corpus, begin: int, end: int) -> str:
    """Return text with one character per place; bytes that are no ASCII appear one by one."""
    if corpus.kind == "chars":
        return corpus.text(begin, end)
    return corpus.universe[corpus.places[begin:end]].astype(np.uint8).tobytes().decode("latin-1")
