"""Text as it is made, with a number for every character: its surprisal, or a neuron's value."""

from __future__ import annotations

import codecs
import math
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from torch import Tensor

from charrnn.inspection.names import Neuron
from charrnn.model.cells.base import Hold
from charrnn.model.network import LayerHold
from charrnn.sampling import Speaker, until
from charrnn.text.vocabulary import BOUNDARY

Valued = tuple[str, list[float]]
"""Some characters, and one number for each."""


class Watch:
    """Looks at one neuron while a network takes steps, and changes nothing."""

    def __init__(self, neuron: Neuron, hold: LayerHold) -> None:
        self.value = math.nan
        """The neuron's value after the last step, ``tanh(c)`` for a c neuron."""
        self._neuron = neuron
        self._hold = hold

    def __call__(self, layer: int) -> Hold:
        held = self._hold(layer)
        if layer != self._neuron.layer:
            return held
        return lambda kind, values: self._look(kind, held(kind, values))

    def _look(self, kind: str, values: Tensor) -> Tensor:
        if kind == self._neuron.traced:
            value = float(values[0, self._neuron.index])
            self.value = math.tanh(value) if self._neuron.kind == "c" else value
        return values


def watched(
    speaker: Speaker,
    prompt: str,
    length: int,
    seed: int,
    stream: int = 0,
    stops: tuple[str, ...] = (),
    neuron: Neuron | None = None,
) -> Iterator[Valued]:
    """Yield what a speaker says, the same text as without watching, with a number for every character.

    Args:
        speaker: Who speaks.
        prompt: Text to continue.
        length: Characters to make (with bytes: symbols).
        seed: Of the draws.
        stream: Number of the sample.
        stops: Text that ends the sample, left out.
        neuron: Whose value after reading each character is given; None gives surprisals in bits under the
            model itself, whatever the temperature.
    """
    watch = None if neuron is None else Watch(neuron, speaker.hold)
    symbols = _symbols(speaker, prompt, seed, stream, watch)
    values: deque[float] = deque()

    def pieces() -> Iterator[str]:
        for text, own in _characters(speaker, symbols, length, sums=watch is None):
            values.extend(own)
            yield text

    for text in until(pieces(), stops):
        yield text, [values.popleft() for _ in text]


def _symbols(
    speaker: Speaker, prompt: str, seed: int, stream: int, watch: Watch | None
) -> Iterator[tuple[int, float]]:
    """Yield ids without end, each with its number."""
    drawn = speaker.drawn(prompt, seed, stream, watch)
    if watch is None:
        yield from ((symbol, _bits(logits, symbol)) for symbol, logits in drawn)
    else:
        # a symbol is read on the way to the next one, so only then is the value known
        yield from ((symbol, watch.value) for (symbol, _), _ in pairwise(drawn))


def _bits(logits: np.ndarray, symbol: int) -> float:
    shifted = logits - logits.max()
    return float((np.log(np.exp(shifted).sum()) - shifted[symbol]) / np.log(2))


def _characters(
    speaker: Speaker, symbols: Iterator[tuple[int, float]], length: int, sums: bool
) -> Iterator[Valued]:
    """Join symbols to characters; one of several bytes has the sum of their numbers, or the last one's."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    waiting: list[float] = []
    written = 0
    while written < length:
        symbol, value = next(symbols)
        if symbol == BOUNDARY:
            continue
        written += 1
        data = speaker.vocabulary.symbol_bytes(symbol)
        waiting += [0.0] * (len(data) - 1) + [value]
        yield _dealt(decoder.decode(data), waiting, sums)
    yield _dealt(decoder.decode(b"", final=True), waiting, sums)


def _dealt(text: str, waiting: list[float], sums: bool) -> Valued:
    """Take from what waits, one number per byte, the numbers of the characters that are whole."""
    values = []
    for char in text:
        size = len(char.encode("utf-8", "surrogateescape"))
        own = waiting[:size]
        del waiting[:size]
        values.append(sum(own) if sums else own[-1])
    return text, values
