"""The text that is inspected, cut into pieces: half of them choose neurons, the others give the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

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

    Every document is labelled whole, then cut into blocks of 2,000 to 10,000 characters; a block that
    continues a document begins with a gap of 500 characters that is read but not scored. With at least 8
    documents, whole documents are dealt to the two halves; otherwise neighbouring blocks alternate.

    Raises:
        InspectionError: ``both_halves`` are wanted and there are fewer than two pieces, so nothing can be
            confirmed; or labels from a file are not as many as the characters.
    """
    documents = [span for part in parts if part[1] > part[0] for span in corpus.documents(*part)]
    ends = list(accumulate(end - begin for begin, end in documents))
    for hypothesis in hypotheses:
        hypothesis.check_length(ends[-1] if ends else 0)
    before = {span: end - (span[1] - span[0]) for span, end in zip(documents, ends, strict=True)}
    documents = [(begin, end) for begin, end in documents if end - begin > 1]
    length = _block_length(documents, max_chars)
    blocks = [block for n, span in enumerate(documents) for block in _blocks(n, *span, length)]
    blocks = _thinned(blocks, max_chars)
    pieces = []
    dealt = zip(blocks, _halves(blocks), strict=True)
    for number, own in groupby(dealt, key=lambda pair: pair[0][0]):
        span = documents[number]
        pieces += _label(corpus, number, span, before[span], list(own), hypotheses, profile)
    if both_halves and len({piece.chooses for piece in pieces}) < 2:
        raise InspectionError(
            "the text is too short to inspect: it gives fewer than two pieces",
            f"name a longer one with `--text`; two blocks of {MIN_BLOCK_CHARS:,} characters are the least",
        )
    return pieces


Block = tuple[int, int, int, int]
"""Number and begin of a document, begin and end of a block in it, as positions in the corpus."""


def _block_length(documents: Sequence[tuple[int, int]], max_chars: int) -> int:
    """Return the largest length of a block."""
    total = min(max_chars, sum(end - begin for begin, end in documents))
    return min(BLOCK_CHARS, max(MIN_BLOCK_CHARS, total // NUM_BLOCKS))


def _blocks(number: int, start: int, stop: int, length: int) -> list[Block]:
    """Cut a document into blocks of equal length."""
    count = -(-(stop - start) // length)
    edges = np.linspace(start, stop, count + 1).astype(int).tolist()
    return [(number, start, begin, end) for begin, end in pairwise(edges)]


def _thinned(blocks: list[Block], max_chars: int) -> list[Block]:
    """Keep blocks evenly from the whole text, up to a number of characters."""
    total = sum(end - begin for *_, begin, end in blocks)
    if total <= max_chars:
        return blocks
    keep = max(2, int(len(blocks) * max_chars / total))
    return [blocks[i] for i in np.unique(np.linspace(0, len(blocks) - 1, keep).astype(int))]


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


def _label(
    corpus: Corpus,
    number: int,
    span: tuple[int, int],
    before: int,
    blocks: list[tuple[Block, bool]],
    hypotheses: Sequence[Hypothesis],
    profile: TextProfile,
) -> list[Piece]:
    """Label a document whole, one hypothesis after the other, and keep what its blocks need of it.

    ``before`` is the number of characters in the documents before it.
    """
    text = _one_char_per_place(corpus, *span)
    windows = [slice(begin - span[0], end - span[0]) for (_, _, begin, end), _ in blocks]
    # mostly one hypothesis after the other is looked at, so each lies together
    labels = [np.empty((w.stop - w.start, len(hypotheses)), dtype=np.float32, order="F") for w in windows]
    for column, hypothesis in enumerate(hypotheses):
        values = hypothesis.label_at(before, text, profile)
        for window, block in zip(windows, labels, strict=True):
            block[:, column] = values[window]
    return [
        Piece(text[w], corpus.places[begin:end], values, _skipped(w), number, w.start, chooses)
        for w, values, ((_, _, begin, end), chooses) in zip(windows, labels, blocks, strict=True)
    ]


def _skipped(window: slice) -> int:
    """Return how many characters of a block are read but not scored; of a very short document, half."""
    return GAP_CHARS if window.start else min(WARM_UP_CHARS, (window.stop - window.start) // 2)


def _one_char_per_place(corpus: Corpus, begin: int, end: int) -> str:
    """Return text with one character per place; bytes that are no ASCII appear one by one."""
    if corpus.kind == "chars":
        return corpus.text(begin, end)
    return corpus.universe[corpus.places[begin:end]].astype(np.uint8).tobytes().decode("latin-1")
