"""Search by example: where else the neurons are on that are on over a piece of text.

The rule is LSTMVis's (Strobelt et al. 2018), for both signs: a neuron is on over a span if its value is at
least .3, or at most -.3, at every character of it. What is on nearly everywhere tells no place from another
and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charrnn.errors import InspectionError
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons
from charrnn.inspection.subject import Subject
from charrnn.text.vocabulary import ESCAPE

THRESHOLD = 0.3
MAX_SHARE = 0.9
"""A neuron that has one sign at more than this share of all characters is not searched for."""
MAX_MATCHES = 50
PER_PIECE = 2
PER_DOCUMENT = 2
"""At least so many of one document; of few documents, so many of each that 50 can be found."""
BEFORE, AFTER = 45, 25
"""Characters of context shown before and after a match."""
MAX_TIES = 256
"""Equally good spans of one piece whose lengths are compared."""
MIN_OVERLAP_MATCHES = 5
OVERLAPS = 5
MIN_LIFT = 3.0
"""Standard errors by which a hypothesis must hold at more matches than chance gives."""

Bits = np.ndarray
"""Which neurons are on at each character, positive ones first, then negative ones, packed, (T, W) uint8."""
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Match:
    """One span at which many of the same neurons are on.

    Args:
        source: Document and character at which it begins.
        shared: Neurons of the example that are on over the whole span.
        union: These and all others that are on over one of both.
        length: Characters over which the shared ones stay on.
        text: The span with some context.
        values: Share of the example's neurons that are on, by character of ``text``.
        start: Where in ``text`` the span begins.
        stop: Where it ends.
    """

    source: str
    shared: int
    union: int
    length: int
    text: str
    values: np.ndarray
    start: int
    stop: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("source", "shared", "union", "length", "text", "start", "stop")
        return {key: getattr(self, key) for key in keys} | {"values": self.values.tolist()}


@dataclass(frozen=True)
class Overlap:
    """How many matches end where a hypothesis holds.

    Args:
        hypothesis: Its name.
        inside: Matches at whose last character it holds.
        matches: Matches at which it is known whether it does.
        base: Share of all characters at which it holds.
    """

    hypothesis: str
    inside: int
    matches: int
    base: float

    @property
    def lift(self) -> float:
        """Return by how many standard errors there are more than chance gives."""
        expected = self.matches * self.base
        return (self.inside - expected) / max(np.sqrt(expected * (1 - self.base)), 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in ("hypothesis", "inside", "matches", "base")}


@dataclass(frozen=True)
class Examples:
    """The whole result of a search by example.

    Args:
        run: What names the run to a command.
        model: Cell and size, as text.
        example: The text that was given.
        source: Where it was found; None where it was read by itself.
        neurons: Those that are on over the whole example, and not nearly everywhere, with their sign.
        neurons_searched: Number of all neurons.
        chars: Characters that were searched.
        matches: The best first.
        overlaps: Hypotheses that hold at more matches than chance gives, the clearest first.
    """

    run: str
    model: str
    example: str
    source: str | None
    neurons: tuple[tuple[str, int], ...]
    neurons_searched: int
    chars: int
    matches: tuple[Match, ...]
    overlaps: tuple[Overlap, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("run", "model", "example", "source", "neurons_searched", "chars")
        data: dict[str, Any] = {key: getattr(self, key) for key in keys}
        data["neurons"] = [{"neuron": name, "sign": sign} for name, sign in self.neurons]
        data["overlaps"] = [overlap.to_json() for overlap in self.overlaps]
        return data | {"matches": [match.to_json() for match in self.matches]}


@dataclass(frozen=True)
class _Span:
    """A candidate: characters ``begin`` to ``end`` of a piece."""

    piece: int
    begin: int
    end: int
    shared: int
    union: int

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        return -self.shared, self.union, self.begin - self.end, self.piece, self.begin


def find_examples(
    subject: Subject, example: str, progress: Callable[[str], None] = lambda _: None
) -> Examples:
    """Find other spans at which the neurons are on that are on over the whole example.

    The example is taken where it first stands in the subject's text, with what came before it; where it does
    not, it is read by itself, as a document.

    Raises:
        InspectionError: The example is empty or unknown to the model, or no neuron is on over all of it.
    """
    neurons = all_neurons(subject.network, subject.network.layers[0].neuron_kind)
    place = _first(subject.pieces, example)
    progress("reading")
    if place is None:
        rows = _alone(subject, neurons, example)
    bits = switched(Recorder(subject.network, subject.table, neurons), subject.pieces)
    if place is not None:
        rows = bits[place[0]][place[1] : place[1] + len(example)]
    telling = _telling(bits)
    on = np.bitwise_and.reduce(rows, axis=0) & telling
    if not on.any():
        raise InspectionError(
            f"no neuron is on over the whole of `{example}` and off elsewhere", "give a shorter text"
        )
    bits = [each & telling for each in bits]
    progress("searching")
    spans = _best(subject.pieces, bits, on, len(example), place)
    config = subject.network.config
    return Examples(
        run=subject.run,
        model=f"{config.cell} {config.num_layers}×{config.hidden_size}",
        example=example,
        source=None if place is None else _source(subject.pieces[place[0]], place[1]),
        neurons=_signed(neurons, on),
        neurons_searched=len(neurons),
        chars=sum(len(piece) - piece.skip for piece in subject.pieces),
        matches=tuple(_match(subject.pieces[span.piece], bits[span.piece], on, span) for span in spans),
        overlaps=_overlaps(subject, spans),
    )


def switched(recorder: Recorder, pieces: Sequence[Piece]) -> list[Bits]:
    """Return which neurons are on at every character of each piece: a quarter of a byte per neuron."""
    width = 2 * -(-len(recorder.neurons) // 8)
    bits = [np.zeros((len(piece), width), dtype=np.uint8) for piece in pieces]
    for window in recorder.read(pieces):
        signs = (window.values >= THRESHOLD, window.values <= -THRESHOLD)
        block = np.concatenate([packed_bits(sign) for sign in signs], axis=-1)
        for i, (row, length) in enumerate(zip(window.rows, window.length, strict=True)):
            bits[row][window.begin : window.begin + length] = block[i, :length]
    return bits


def packed_bits(values: torch.Tensor) -> np.ndarray:
    """Return what ``np.packbits`` makes of the last axis of bools; only the packed ones leave the device."""
    if values.device.type == "cpu":
        return np.packbits(values.numpy(), axis=-1)
    return packed_there(values).cpu().numpy()


def packed_there(values: torch.Tensor) -> torch.Tensor:
    """Return the same, (…, ⌈N / 8⌉) uint8, made where the values are."""
    bits = torch.nn.functional.pad(values.to(torch.uint8), (0, -values.shape[-1] % 8)).unflatten(-1, (-1, 8))
    places = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
    return (bits * places).sum(-1, dtype=torch.uint8)


def _telling(bits: list[Bits]) -> Bits:
    """Return the neurons and signs that are not on nearly everywhere, (W,)."""
    total = sum(len(each) for each in bits)
    on = sum(np.unpackbits(each, axis=1).sum(axis=0, dtype=np.int64) for each in bits)
    return np.packbits(on <= MAX_SHARE * total)


def _first(pieces: Sequence[Piece], example: str) -> tuple[int, int] | None:
    """Return the piece and the character where the example first stands."""
    if not example:
        raise InspectionError("the example is empty", "give the text to search for")
    for number, piece in enumerate(pieces):
        at = piece.text.find(example, piece.skip)
        if at >= 0:
            return number, at
    return None


def _alone(subject: Subject, neurons: list[Neuron], example: str) -> Bits:
    """Return what is on while the network reads the example as a document of its own."""
    ids = subject.vocabulary.encode(example)
    if subject.vocabulary.kind == "chars" and (ids == ESCAPE).any():
        unknown = " ".join(f"`{char}`" for char in subject.vocabulary.unknown(example)[:20])
        raise InspectionError(f"the model does not know {unknown}", "give a text that it can read")
    places = np.arange(len(ids))
    piece = Piece(example, places, np.zeros((len(ids), 0), np.float32), 0, 0, 0, True)
    recorder = Recorder(subject.network, ids, neurons)
    return switched(recorder, [piece])[0]


def _signed(neurons: list[Neuron], on: Bits) -> tuple[tuple[str, int], ...]:
    halves = np.unpackbits(on.reshape(2, -1), axis=1)[:, : len(neurons)]
    return tuple(
        (str(n), 1 if positive else -1)
        for n, positive, negative in zip(neurons, *halves, strict=True)
        if positive or negative
    )


def _best(
    pieces: Sequence[Piece], bits: list[Bits], on: Bits, length: int, place: tuple[int, int] | None
) -> list[_Span]:
    """Return the best spans that do not overlap, at most 50: 2 of a piece, and of a document its share."""
    own = {} if place is None else {place[0]: place[1]}
    found = [
        span
        for number, piece in enumerate(pieces)
        for span in _best_of(number, piece, bits[number], on, length, own.get(number))
    ]
    taken: list[_Span] = []
    share = max(PER_DOCUMENT, -(-MAX_MATCHES // len({piece.document for piece in pieces})))
    per_document: dict[int, int] = {}
    for span in sorted(found, key=lambda span: span.rank):
        document = pieces[span.piece].document
        if per_document.get(document, 0) < share:
            per_document[document] = per_document.get(document, 0) + 1
            taken.append(span)
    return taken[:MAX_MATCHES]


def _best_of(
    number: int, piece: Piece, bits: Bits, on: Bits, length: int, own: int | None
) -> Iterator[_Span]:
    """Yield the best spans of a piece."""
    windows = all_on(bits, length)
    shared = _count(windows & on)
    union = _count(on[None]) + _count(windows) - shared
    taken = np.arange(len(bits)) < piece.skip
    if own is not None:
        taken[own : own + length] = True
    for _ in range(PER_PIECE):
        free = (shared > 0) & _free(taken, length)
        if not free.any():
            return
        most = free & (shared == shared[free].max())
        ties = np.flatnonzero(most & (union == union[most].min()))[:MAX_TIES].tolist()
        spans = [_stretched(bits, windows[at] & on, at, length, taken) for at in ties]
        longest = int(np.argmax([end - begin for begin, end in spans]))
        at, (begin, end) = ties[longest], spans[longest]
        yield _Span(number, begin, end, int(shared[at]), int(union[at]))
        taken[begin:end] = True


def _free(taken: np.ndarray, length: int) -> np.ndarray:
    """Return the windows of which no character is taken."""
    before = np.append(0, np.cumsum(taken))
    return before[length:] == before[:-length]


def all_on(bits: Bits, length: int) -> Bits:
    """Return what is on over all of the ``length`` characters from each one on, (T - length + 1, W)."""
    done = 1
    while done < length and len(bits):
        step = min(done, length - done)
        bits = bits[:-step] & bits[step:]
        done += step
    return bits


def _count(bits: Bits) -> np.ndarray:
    return _ONES[bits].sum(axis=-1, dtype=np.int64)


def _stretched(bits: Bits, common: Bits, at: int, length: int, taken: np.ndarray) -> tuple[int, int]:
    """Return from where to where the neurons that are on over a window stay on, up to what is taken."""
    off = ((bits & common) != common).any(axis=1) | taken
    before, after = np.flatnonzero(off[:at]), np.flatnonzero(off[at + length :])
    begin = int(before[-1]) + 1 if len(before) else 0
    return begin, at + length + int(after[0]) if len(after) else len(bits)


def _match(piece: Piece, bits: Bits, on: Bits, span: _Span) -> Match:
    window = slice(max(0, span.begin - BEFORE), min(len(piece), span.end + AFTER))
    return Match(
        source=_source(piece, span.begin),
        shared=span.shared,
        union=span.union,
        length=span.end - span.begin,
        text=piece.text[window],
        values=_count(bits[window] & on) / _count(on[None]),
        start=span.begin - window.start,
        stop=span.end - window.start,
    )


def _source(piece: Piece, at: int) -> str:
    return f"document {piece.document + 1}, character {piece.begin + at + 1:,}"


def _overlaps(subject: Subject, spans: list[_Span]) -> tuple[Overlap, ...]:
    """Return the hypotheses that hold at more of the matches than chance gives."""
    found = []
    for column, hypothesis in enumerate(subject.hypotheses):
        if hypothesis.type == "binary":
            ends = np.array([subject.pieces[s.piece].labels[s.end - 1, column] for s in spans])
            everywhere = np.concatenate([p.labels[p.skip :, column] for p in subject.pieces])
            base = float((everywhere[~np.isnan(everywhere)] > 0).mean()) if len(everywhere) else 0.0
            found.append(Overlap(hypothesis.name, int((ends > 0).sum()), int((~np.isnan(ends)).sum()), base))
    clear = [o for o in found if o.matches >= MIN_OVERLAP_MATCHES and o.base < 1 and o.lift >= MIN_LIFT]
    return tuple(sorted(clear, key=lambda overlap: -overlap.lift)[:OVERLAPS])
