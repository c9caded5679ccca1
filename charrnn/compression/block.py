"""One block of text, coded as streams side by side.

A block is cut into up to 64 streams, each of which the model reads from the begin of a document on, so
that one matrix product advances all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from charrnn.compression.coder import RangeDecoder, RangeEncoder
from charrnn.compression.network import FixedPointNetwork
from charrnn.compression.symbols import Alphabet, num_following, spelled, unspelled
from charrnn.text.vocabulary import ESCAPE

STREAM_SYMBOLS = 1 << 14
MAX_STREAMS = 64

Progress = Callable[[float], None]


def num_streams(symbols: int) -> int:
    """Return into how many streams a block is cut; part of the format."""
    return max(1, min(MAX_STREAMS, symbols // STREAM_SYMBOLS))


def _edges(symbols: int) -> np.ndarray:
    """Return where the streams begin, and the end, (S + 1,); no stream is longer than one before it."""
    streams = num_streams(symbols)
    size, longer = divmod(symbols, streams)
    place = np.arange(streams + 1)
    return place * size + np.minimum(place, longer)


def encode_block(
    network: FixedPointNetwork, alphabet: Alphabet, ids: np.ndarray, symbols: np.ndarray, progress: Progress
) -> list[bytes]:
    """Return the compressed streams of a block.

    Args:
        network: Predicts.
        alphabet: Says what an escape is.
        ids: What is predicted, (N,).
        symbols: The code points or bytes of these, (N,).
        progress: Called with the share done.
    """
    edges = _edges(len(ids))
    lengths = np.diff(edges)
    coders = [RangeEncoder() for _ in lengths]
    rows = np.arange(len(lengths))
    read, state = np.zeros(len(rows), dtype=np.int64), network.start(len(rows))
    for t in range(lengths.max()):
        weights, state = network.step(read, state)
        upper = weights.cumsum(axis=1)
        at = np.minimum(edges[:-1] + t, len(ids) - 1)
        read = ids[at]
        sizes = weights[rows, read]
        begins = upper[rows, read] - sizes
        table = zip(begins.tolist(), sizes.tolist(), upper[:, -1].tolist(), strict=True)
        for row, (begin, size, total) in enumerate(table):
            if t < lengths[row]:
                coders[row].encode(begin, size, total)
                if alphabet.has_escape and read[row] == ESCAPE:
                    for byte in spelled(int(symbols[at[row]])):
                        coders[row].encode(byte, 1, 256)
        _tell(progress, t, lengths)
    return [coder.finish() for coder in coders]


def decode_block(
    network: FixedPointNetwork, alphabet: Alphabet, symbols: int, streams: list[bytes], progress: Progress
) -> bytes:
    """Return the bytes of a block from its compressed streams and its number of symbols.

    Raises:
        TextError: No encoder has written this.
    """
    lengths = np.diff(_edges(symbols))
    coders = [RangeDecoder(stream) for stream in streams]
    out = [bytearray() for _ in coders]
    read, state = np.zeros(len(coders), dtype=np.int64), network.start(len(coders))
    for t in range(lengths.max()):
        weights, state = network.step(read, state)
        upper = weights.cumsum(axis=1)
        active = int((t < lengths).sum())  # longer streams stand first
        read = np.zeros_like(read)
        read[:active] = _decoded(coders[:active], weights[:active], upper[:active])
        for row, index in enumerate(read[:active].tolist()):
            out[row] += _written(coders[row], alphabet, index)
        _tell(progress, t, lengths)
    return b"".join(out)


def _decoded(coders: list[RangeDecoder], weights: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the next symbol of every stream, (S,), given weights and their sums, (S, V)."""
    totals = upper[:, -1].tolist()
    targets = [coder.target(total) for coder, total in zip(coders, totals, strict=True)]
    read = (upper <= np.array(targets)[:, None]).sum(axis=1)
    rows = np.arange(len(coders))
    sizes = weights[rows, read]
    begins = upper[rows, read] - sizes
    for coder, begin, size in zip(coders, begins.tolist(), sizes.tolist(), strict=True):
        coder.consume(begin, size)
    return read


def _written(coder: RangeDecoder, alphabet: Alphabet, index: int) -> bytes:
    if not (alphabet.has_escape and index == ESCAPE):
        return alphabet.written[index]
    lead = coder.byte()
    return unspelled(bytes((lead, *(coder.byte() for _ in range(num_following(lead))))))


def _tell(progress: Progress, t: int, lengths: np.ndarray) -> None:
    if t % 64 == 0:
        progress(t / int(lengths[0]))
