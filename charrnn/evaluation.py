"""How well a run predicts a text, beside what simpler methods reach on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import log
from typing import Any

import numpy as np

from charrnn.baselines import NgramModel, Symbols, compressor_bits, ppmd_bits, unigram_costs
from charrnn.errors import ConfigError, RunError, TextError
from charrnn.model import dynamic
from charrnn.model.network import Network
from charrnn.model.scoring import ScoredWindow, TextView, score, score_cold
from charrnn.text.corpus import Corpus
from charrnn.text.splits import count_characters
from charrnn.text.vocabulary import BOUNDARY, Vocabulary

LN2 = log(2)
BLOCK_CHARS = 1_000
PIECE = 1 << 20
PREFACE_BYTES = 64 << 20
"""What the baselines see of the end of the training text: so many bytes, and at most so many symbols."""
CHOICE_CHARS = 20_000
"""Characters on which the learning rate of dynamic evaluation is chosen."""
MOST_RATES = 6
BASELINES = ("unigram", "ngram", "xz", "bz2", "ppmd")


@dataclass(frozen=True)
class DynamicEvaluation:
    """The cost of a text under a copy of the model that learns from every segment once it is scored.

    Args:
        loss: Nats per character.
        bpc: Bits per character.
        bpb: Bits per UTF-8 byte of the text.
        stderr_bpc: As for ``Evaluation``.
        rate: Learning rate.
        rate_from: Where it is from: ``given``, ``default``, or ``val``, where it was the best of a few.
        scaled: Whether the training text told how large the gradients of each weight are; else plain
            gradient descent.
    """

    loss: float
    bpc: float
    bpb: float
    stderr_bpc: float | None
    rate: float
    rate_from: str
    scaled: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values with everything that shaped them."""
        data = asdict(self)
        settings = {name: data.pop(name) for name in ("rate", "rate_from", "scaled")}
        fixed = {"decay": dynamic.DECAY, "segment": dynamic.SEGMENT, "epsilon": dynamic.EPSILON}
        return data | {"settings": settings | fixed}


@dataclass(frozen=True)
class Difference:
    """How many bits per character one evaluation needs more than another of the same text.

    Args:
        bpc: Bits per character; negative if the first is better.
        stderr_bpc: Its standard error over the same blocks, far below that of either for models alike.
    """

    bpc: float
    stderr_bpc: float | None

    @classmethod
    def of(cls, first: Evaluation, second: Evaluation) -> Difference:
        """Return the difference of two evaluations of the same text."""
        blocks = np.array(first.block_bpc) - np.array(second.block_bpc)
        return cls(first.bpc - second.bpc, _standard_error(blocks))


@dataclass(frozen=True)
class Evaluation:
    """The cost of a text under a model.

    Args:
        chars: Characters scored, each exactly once.
        unseen_chars: Those the vocabulary lacks: scored by the escape and 8 bits per UTF-8 byte.
        loss: Nats per character.
        bpc: Bits per character.
        bpb: Bits per UTF-8 byte of the text.
        stderr_bpc: Standard error of ``bpc`` over blocks of 1,000 characters; None for fewer than two.
        context: ``carried``, or ``cold-N`` for windows of N from a state of zeros.
        baselines: Bits per character of other methods given the same training text; None where that
            text cannot be found any more, or the package that measures one is not installed.
        baselines_saw: Characters (or bytes) at the end of the training text that ``ngram``, the counts, and
            the compressors were given, where that is not all of it.
        trained_on: Whether the text has the training text in it.
        dynamic: The same for a copy that learns while it reads, where that was asked for.
        block_bpc: Bits per character of each block of 1,000 characters.
    """

    chars: int
    unseen_chars: int
    loss: float
    bpc: float
    bpb: float
    stderr_bpc: float | None
    context: str
    baselines: dict[str, float | None] = field(default_factory=dict)
    baselines_saw: dict[str, int] = field(default_factory=dict)
    trained_on: bool = False
    dynamic: DynamicEvaluation | None = None
    block_bpc: tuple[float, ...] = field(default=(), repr=False)

    @property
    def beaten_by(self) -> list[str]:
        """Names of the baselines with fewer bits per character than the model."""
        return [name for name, bpc in self.baselines.items() if bpc is not None and bpc < self.bpc]


def evaluate(
    network: Network,
    vocabulary: Vocabulary,
    corpus: Corpus,
    part: tuple[int, int],
    *,
    cold_window: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Score a part of a corpus, every character exactly once.

    Args:
        network: In evaluation mode, on the device it shall run on.
        vocabulary: Symbols to ids.
        corpus: Holds the text.
        part: Begin and end position.
        cold_window: Score windows of this many characters from zero state, instead of carrying it.
        progress: Called with the share done.

    Raises:
        TextError: There is nothing to score.
    """
    view = TextView(corpus.places, corpus.id_table(vocabulary), *part)
    windows = score_cold(network, view, cold_window) if cold_window else score(network, view)
    total = _totals(windows, view, corpus.extra_nats(vocabulary), progress)
    return Evaluation(
        chars=total.chars,
        unseen_chars=total.unseen,
        context=f"cold-{cold_window}" if cold_window else "carried",
        block_bpc=tuple(total.block_means().tolist()),
        **total.figures(_utf8_bytes(corpus, part)),
    )


def evaluate_dynamic(
    network: Network,
    vocabulary: Vocabulary,
    corpus: Corpus,
    part: tuple[int, int],
    *,
    training: tuple[Corpus, tuple[int, int]] | None,
    validation: tuple[Corpus, tuple[int, int]] | None = None,
    rate: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> DynamicEvaluation:
    """Score a part of a corpus in one stream with a copy of the network that learns from what it has scored.

    Args:
        network: In evaluation mode, on the device it shall run on; left as it is.
        vocabulary: Symbols to ids.
        corpus: Holds the text.
        part: Begin and end position.
        training: The training text and where it lies, for the size of the gradients; None takes plain
            gradient descent.
        validation: Another text and where it lies, on which the learning rate is chosen if none is given.
        rate: Learning rate; None takes the best on the validation text, or without one the default.
        progress: Called with the share done.

    Raises:
        TextError: There is nothing to score.
        ConfigError: The rate is out of range, or so large that learning went astray.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(f"`dynamic_rate` is `{rate}`, but must be above 0")
    view = TextView(corpus.places, corpus.id_table(vocabulary), *part)
    sizes = None
    if training is not None:
        own, train = training
        sizes = dynamic.gradient_sizes(network, TextView(own.places, own.id_table(vocabulary), *train))
    source = "default" if rate is None else "given"
    if rate is None and sizes is not None and validation is not None:
        own, val = validation
        held_out = TextView(own.places, own.id_table(vocabulary), val[0], min(val[1], val[0] + CHOICE_CHARS))
        rate, source = _best_rate(network, held_out, sizes), "val"
    rate = rate or (dynamic.PLAIN_RATE if sizes is None else dynamic.RATE)
    windows = dynamic.score_dynamic(network, view, rate, sizes)
    total = _totals(windows, view, corpus.extra_nats(vocabulary), progress)
    figures = total.figures(_utf8_bytes(corpus, part))
    return DynamicEvaluation(rate=rate, rate_from=source, scaled=sizes is not None, **figures)


def _best_rate(network: Network, view: TextView, sizes: dynamic.Weights) -> float:
    """Return the rate under which a text costs least: doubled or halved as long as that helps."""
    costs: dict[float, float] = {}

    def cost(rate: float) -> float:
        if rate not in costs:
            windows = dynamic.score_dynamic(network, view, rate, sizes)
            total = sum(float(window.nats.sum()) for window in windows)
            costs[rate] = total if np.isfinite(total) else np.inf
        return costs[rate]

    best = dynamic.RATE
    for factor in (2.0, 0.5):
        while len(costs) < MOST_RATES and cost(best * factor) < cost(best):
            best *= factor
    return best


def _totals(
    windows: Iterable[ScoredWindow],
    view: TextView,
    extra_nats: np.ndarray,
    progress: Callable[[float], None] | None,
) -> _Totals:
    total = _Totals(len(view))
    for window in windows:
        total.add(window, extra_nats)
        if progress:
            progress(min(1.0, total.symbols / len(view)))
    if total.chars == 0:
        raise TextError("there is no character to score", "choose another `--split`, or name a text")
    return total


class _Totals:
    """Sums over blocks of neighbouring characters, whose costs are not independent."""

    def __init__(self, length: int) -> None:
        self.block_nats = np.zeros(length // BLOCK_CHARS + 1)
        self.block_chars = np.zeros(length // BLOCK_CHARS + 1)
        self.symbols = 0
        self.unseen = 0

    def add(self, window: ScoredWindow, extra_nats: np.ndarray) -> None:
        counted = window.place != BOUNDARY
        extra = extra_nats[window.place[counted]]
        block = window.index[counted] // BLOCK_CHARS
        np.add.at(self.block_nats, block, window.nats[counted] + extra)
        np.add.at(self.block_chars, block, 1)
        self.symbols += window.place.size
        self.unseen += int((extra > 0).sum())

    @property
    def chars(self) -> int:
        return int(self.block_chars.sum())

    def figures(self, utf8_bytes: int) -> dict[str, float | None]:
        """Return ``loss``, ``bpc``, ``bpb`` and ``stderr_bpc``."""
        loss = float(self.block_nats.sum()) / self.chars
        if not np.isfinite(loss):
            raise ConfigError("the loss is not finite any more", "try a smaller `--dynamic-rate`")
        bpc = loss / LN2
        bpb = bpc * self.chars / utf8_bytes
        return {"loss": loss, "bpc": bpc, "bpb": bpb, "stderr_bpc": self.standard_error()}

    def standard_error(self) -> float | None:
        return _standard_error(self.block_means())

    def block_means(self) -> np.ndarray:
        """Return the bits per character of each block that is more than half full."""
        full = self.block_chars > BLOCK_CHARS // 2
        return self.block_nats[full] / self.block_chars[full] / LN2


def _standard_error(means: np.ndarray) -> float | None:
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None


def _utf8_bytes(corpus: Corpus, part: tuple[int, int]) -> int:
    return sum(len(piece) for piece in TextBytes(corpus, part))


@dataclass(frozen=True)
class TextBytes:
    """The UTF-8 (or raw) bytes of a part of a corpus, documents joined, piece by piece as often as wanted."""

    corpus: Corpus
    part: tuple[int, int]

    def __iter__(self) -> Iterator[bytes]:
        for start in range(*self.part, PIECE):
            text = self.corpus.text(start, min(start + PIECE, self.part[1]))
            yield text.encode("utf-8", "surrogateescape")

    def last(self, limit: int) -> bytes:
        """Return the last bytes, at most so many."""
        held = bytearray()
        for piece in TextBytes(self.corpus, (max(self.part[0], self.part[1] - limit), self.part[1])):
            held += piece
            del held[: max(0, len(held) - limit)]
        return bytes(held)


def baselines(
    vocabulary: Vocabulary,
    training: tuple[Corpus, tuple[int, int]] | None,
    corpus: Corpus,
    part: tuple[int, int],
) -> tuple[dict[str, float | None], dict[str, int]]:
    """Measure the bits per character that simpler methods need for a text, given the training text.

    The counts and the n-gram are trained on, and the compressors are given first, the last 64 MiB of the
    training text; the n-gram on less where that has more different n-grams than there is memory for.

    Args:
        vocabulary: The run's, so that unseen characters cost every method the same.
        training: The training text and where it lies; None where it cannot be found any more.
        corpus: Holds the text to score, at ``part``.
        part: Begin and end position.

    Returns:
        The bits by name, None without training text, or for ``ppmd`` without ``pyppmd``; and what they saw of
        the training text, if not all: ``unigram`` and ``ngram`` in symbols, ``compressors`` in bytes.
    """
    if training is None:
        return dict.fromkeys(BASELINES), {}
    own, (begin, stop) = training
    end = (max(begin, stop - PREFACE_BYTES), stop)
    known = Symbols(own.places, own.id_table(vocabulary), *end)
    counted, symbols = _counted_bits(vocabulary, known, corpus, part)
    preface, text = TextBytes(own, end).last(PREFACE_BYTES), TextBytes(corpus, part)
    bits: dict[str, float | None] = counted | compressor_bits(preface, text)
    bits["ppmd"] = ppmd_bits(preface, text)
    chars = count_characters(corpus, part)
    per_char = {name: None if total is None else total / chars for name, total in bits.items()}
    whole = end[0] == begin and symbols == len(known) and len(preface) < PREFACE_BYTES
    return per_char, {} if whole else {"unigram": len(known), "ngram": symbols, "compressors": len(preface)}


def _counted_bits(
    vocabulary: Vocabulary, known: Symbols, corpus: Corpus, part: tuple[int, int]
) -> tuple[dict[str, float], int]:
    """Return the bits that counts and n-gram need, and how many symbols the n-gram counted."""
    places = Symbols(corpus.places, None, *part)
    table, extra = corpus.id_table(vocabulary), corpus.extra_nats(vocabulary)
    unigram, ngram = unigram_costs(known, len(vocabulary)), NgramModel(known, len(vocabulary))
    nats = dict.fromkeys(("unigram", "ngram"), 0.0)
    for begin, piece in places.pieces():
        before = min(begin, ngram.order)
        ids = table[places[begin - before : begin + len(piece)]]
        is_char = piece != BOUNDARY
        more = float(extra[piece].sum())
        nats["unigram"] += float(unigram[ids[before:]][is_char].sum()) + more
        nats["ngram"] += float(ngram.nats(ids)[before:][is_char].sum()) + more
    return {name: total / LN2 for name, total in nats.items()}, ngram.symbols


def check_split(split: str) -> None:
    """Raise ``RunError`` for a split that is unknown or trained on."""
    if split not in ("val", "test"):
        raise RunError(
            f"unknown split `{split}`", "a run keeps a `val` and a `test` split apart from training"
        )


def split_part(record: dict[str, Any], split: str) -> tuple[int, int]:
    """Return the position of a run's split, so that training text cannot be scored by mistake.

    Raises:
        RunError: The split is unknown, or the run left it empty.
    """
    check_split(split)
    begin, end = record["splits"][split]
    if end <= begin:
        hint = f"train with more text or a larger `--{split}-fraction`, or name a text"
        raise RunError(f"the run has no {split} split", hint)
    return begin, end
