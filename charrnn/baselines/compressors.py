"""What compressors need for a text when they have just read another."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from typing import Any

_XZ_DICT_BYTES = (1 << 12, 32 << 20)
_PPMD_MEMORY_BYTES = (1 << 24, 384 << 20)
_PPMD_LARGE_BYTES = 2 << 20

Pieces = Iterable[bytes]
"""A text that can be gone through more than once."""


def compressor_bits(train: bytes, text: Pieces) -> dict[str, int]:
    """Measure what a text costs a compressor that has just read the training text.

    ``xz`` is LZMA2 at preset 9 extreme without a container, its dictionary as large as both texts, up to
    32 MiB (the encoder needs about 12 times that). ``bz2`` works in blocks of 900 kB, so only the end of the
    training text helps it.

    Args:
        train: The preface, not charged for.
        text: What is charged for, in pieces.

    Returns:
        For ``xz`` and ``bz2``, the bits of both texts compressed together less the bits of
        ``train`` compressed alone. Can be slightly negative for a text of a few bytes.
    """
    low, high = _XZ_DICT_BYTES
    dict_bytes = min(max(len(train) + _size(text), low), high)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dict_bytes}]
    makers = {
        "xz": lambda: lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=filters),
        "bz2": lambda: bz2.BZ2Compressor(9),
    }
    # Both release the interpreter's lock while they work.
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = {
            name: pool.submit(_bits_beyond, make, "compress", train, text) for name, make in makers.items()
        }
        return {name: job.result() for name, job in jobs.items()}


def ppmd_bits(train: bytes, text: Pieces) -> int | None:
    """Measure what a text costs PPMd variant I, which goes on learning while it reads.

    The order is 6, and 8 where both texts together have 2 MiB or more, which suits each best on English. It
    has 32 times the memory of both texts, up to 384 MiB.

    Args:
        train: The preface, not charged for.
        text: What is charged for, in pieces.

    Returns:
        The bits of both texts compressed together less the bits of ``train`` compressed alone; None
        where the package ``pyppmd`` is not installed.

    Source:
        Shkarin 2002, "PPM: one step to practicality"; variant I as in 7-Zip.
    """
    if find_spec("pyppmd") is None:
        return None
    encoder = import_module("pyppmd").Ppmd8Encoder
    both = len(train) + _size(text)
    low, high = _PPMD_MEMORY_BYTES
    memory = min(max(32 * both, low), high)
    order = 6 if both < _PPMD_LARGE_BYTES else 8
    return _bits_beyond(lambda: encoder(order, memory), "encode", train, text)


def _size(text: Pieces) -> int:
    return sum(len(piece) for piece in text)


def _bits_beyond(make: Callable[[], Any], method: str, train: bytes, text: Pieces) -> int:
    """Return the bits of both texts compressed together less those of the first alone."""
    return 8 * (_packed_bytes(make(), method, chain([train], text)) - _packed_bytes(make(), method, [train]))


def _packed_bytes(compressor: Any, method: str, text: Pieces) -> int:
    pack = getattr(compressor, method)
    return sum(len(pack(piece)) for piece in text) + len(compressor.flush())
