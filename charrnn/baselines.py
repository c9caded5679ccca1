"""What models without a network need for the same text: counts, an n-gram model, compressors."""

from __future__ import annotations

import bz2
import lzma
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

_XZ_DICT_BYTES = (1 << 12, 3 << 29)  # what liblzma's encoder accepts
_PPMD_MEMORY_BYTES = (1 << 24, 1 << 30)
_PPMD_LARGE_BYTES = 2 << 20
_FALLBACK_DISCOUNTS = np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's, for counts 0, 1, 2, 3 and more


class _Grams(NamedTuple):
    """All n-grams of one length, numbered: the same n-gram has the same number in both texts.

    Entry ``j`` of ``train`` and ``scored`` is the number of the n-gram that *starts* at symbol
    ``j``, so each array has ``N - n + 1`` entries (none where the text is shorter than n).
    """

    train: np.ndarray
    scored: np.ndarray
    num: int


def unigram_nats(train_ids: np.ndarray, ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Score each symbol by how often it occurs in the training text.

    Args:
        train_ids: Symbols to count, integers in [0, V), (M,). May be empty.
        ids: Symbols to score, integers in [0, V), (N,).
        vocab_size: Number of symbols V.

    Returns:
        ``-ln p`` of each symbol under add-one smoothed counts, in nats, (N,) float64.

    Raises:
        ValueError: The ids are not one-dimensional integers in [0, V).
    """
    train, scored = _checked(train_ids, vocab_size), _checked(ids, vocab_size)
    counts = np.bincount(train, minlength=vocab_size) + 1
    return -np.log(counts / counts.sum())[scored]


def ngram_nats(train_ids: np.ndarray, ids: np.ndarray, vocab_size: int, order: int = 6) -> np.ndarray:
    """Score each symbol by an n-gram model with interpolated, modified Kneser-Ney smoothing.

    The longest n-grams are counted as they occur, shorter ones by their number of different left
    neighbours; the beginning of the training text is such a neighbour too. Below the single
    symbols lies the uniform distribution, so no probability is zero. A context ends at the
    beginning of the scored text: its first symbols are scored with the shorter contexts there are.

    Peak memory is about 50 bytes per symbol of both texts together, 3.4 GB for 68 Mi symbols.

    Args:
        train_ids: Symbols to count, integers in [0, V), (M,). May be empty.
        ids: Symbols to score, integers in [0, V), (N,).
        vocab_size: Number of symbols V.
        order: Number of symbols of context, 0 or more.

    Returns:
        ``-ln p`` of each symbol given the ``order`` symbols before it, in nats, (N,) float64.

    Raises:
        ValueError: The ids are not one-dimensional integers in [0, V), or ``order`` is negative.

    Source:
        Kneser & Ney 1995; three discounts per length from Chen & Goodman 1998.
    """
    if order < 0:
        raise ValueError(f"order must not be negative, got {order}")
    train, scored = _checked(train_ids, vocab_size), _checked(ids, vocab_size)
    probability = np.full(len(scored), 1.0 / vocab_size)
    contexts = _Grams(np.zeros(len(train) + 1, np.int32), np.zeros(len(scored) + 1, np.int32), 1)
    grams = _extend(contexts, train, scored, 1, vocab_size)
    for length in range(1, order + 2):
        if length <= order:
            longer = _extend(grams, train, scored, length + 1, vocab_size)
            counts = _left_neighbours(grams, longer)
        else:
            longer = None
            counts = np.bincount(grams.train, minlength=grams.num)
        tail = probability[length - 1 :]
        tail[:] = _interpolated(contexts, grams, counts, tail)
        contexts, grams = grams, longer
    return -np.log(probability)


def compressor_bits(train: bytes, text: bytes) -> dict[str, int]:
    """Measure what a text costs a compressor that has just read the training text.

    ``xz`` is LZMA2 at preset 9 extreme without a container, its dictionary as large as both texts
    (up to 1.5 GiB; the encoder needs about 12 times that). ``bz2`` works in blocks of 900 kB, so
    only the end of the training text helps it.

    Args:
        train: The preface, not charged for.
        text: What is charged for.

    Returns:
        For ``xz`` and ``bz2``, the bits of both texts compressed together less the bits of
        ``train`` compressed alone. Can be slightly negative for a text of a few bytes.
    """
    whole = train + text
    low, high = _XZ_DICT_BYTES
    dict_bytes = min(max(len(whole), low), high)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dict_bytes}]

    def xz_bytes(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))

    def bz2_bytes(data: bytes) -> int:
        return len(bz2.compress(data, 9))

    # Both release the interpreter's lock while they work.
    with ThreadPoolExecutor(max_workers=2) as pool:
        sizes = {
            name: pool.submit(lambda size=size: size(whole) - size(train))
            for name, size in (("xz", xz_bytes), ("bz2", bz2_bytes))
        }
        return {name: 8 * difference.result() for name, difference in sizes.items()}


def ppmd_bits(train: bytes, text: bytes) -> int | None:
    """Measure what a text costs PPMd variant I, which goes on learning while it reads.

    The order is 6, and 8 where both texts together have 2 MiB or more, which suits each best on English.

    Args:
        train: The preface, not charged for.
        text: What is charged for.

    Returns:
        The bits of both texts compressed together less the bits of ``train`` compressed alone; None
        where the package ``pyppmd`` is not installed.

    Source:
        Shkarin 2002, "PPM: one step to practicality"; variant I as in 7-Zip.
    """
    if find_spec("pyppmd") is None:
        return None
    encoder = import_module("pyppmd").Ppmd8Encoder
    whole = train + text
    low, high = _PPMD_MEMORY_BYTES
    memory = min(max(32 * len(whole), low), high)
    order = 6 if len(whole) < _PPMD_LARGE_BYTES else 8

    def ppmd_bytes(data: bytes) -> int:
        coder = encoder(order, memory)
        return len(coder.encode(data)) + len(coder.flush())

    return 8 * (ppmd_bytes(whole) - ppmd_bytes(train))


def _checked(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return ids as an array, or raise ValueError where they are not integers in [0, V), (N,)."""
    ids = np.asarray(ids)
    if vocab_size < 1:
        raise ValueError(f"vocab_size must be positive, got {vocab_size}")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids must be one-dimensional integers, got {ids.dtype} of shape {ids.shape}")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise ValueError(f"ids must lie in [0, {vocab_size}), got {ids.min()} to {ids.max()}")
    # NumPy neither counts uint64 nor adds it to int64.
    return ids.astype(np.int64) if ids.dtype == np.uint64 else ids


def _extend(shorter: _Grams, train: np.ndarray, scored: np.ndarray, length: int, vocab_size: int) -> _Grams:
    """Number the n-grams of ``length`` symbols; none crosses from one text into the other."""
    starts = np.concatenate([shorter.train[:-1], shorter.scored[:-1]])
    keys = np.multiply(starts, vocab_size, dtype=np.int64)
    num_train = len(shorter.train[:-1])
    keys[:num_train] += train[length - 1 :]
    keys[num_train:] += scored[length - 1 :]
    del starts
    numbers, num = _numbered(keys, shorter.num * vocab_size)
    return _Grams(numbers[:num_train], numbers[num_train:], num)


def _numbered(keys: np.ndarray, space: int) -> tuple[np.ndarray, int]:
    """Replace keys in [0, space) by their ranks among the different keys, int32."""
    if space <= 4 * len(keys):  # a table of all possible keys is smaller and faster than sorting
        seen = np.zeros(space, bool)
        seen[keys] = True
        ranks = np.cumsum(seen, dtype=np.int32)
        ranks -= 1
        return ranks[keys], int(seen.sum())
    order = np.argsort(keys)
    keys = keys[order]
    is_new = np.empty(len(keys), bool)
    is_new[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    del keys
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.cumsum(is_new, dtype=np.int32)
    numbers -= 1
    return numbers, int(is_new.sum())


def _left_neighbours(grams: _Grams, longer: _Grams) -> np.ndarray:
    """Count the different symbols that precede each n-gram in the training text, (num,)."""
    ending = np.zeros(longer.num, np.int32)
    seen = np.zeros(longer.num, bool)
    ending[longer.train] = grams.train[1:]
    seen[longer.train] = True
    counts = np.bincount(ending[seen], minlength=grams.num)
    counts[grams.train[:1]] += 1  # the beginning of the text
    return counts


def _interpolated(contexts: _Grams, grams: _Grams, counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Mix the discounted counts of the scored n-grams with the probabilities from shorter contexts.

    Args:
        contexts: The n-grams without their last symbol.
        grams: The n-grams.
        counts: Count of each n-gram in the training text, (grams.num,).
        shorter: Probability of each scored n-gram's last symbol, one symbol of context less.
    """
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    # N-grams that only the scored text has stay at context 0, where their weight of 0 does no harm.
    context_of = np.zeros(grams.num, np.int32)
    context_of[grams.train] = contexts.train[:-1]
    total = np.bincount(context_of, weights=counts, minlength=contexts.num)[contexts.scored[:-1]]
    freed = np.bincount(context_of, weights=discounts, minlength=contexts.num)[contexts.scored[:-1]]
    kept = (counts - discounts)[grams.scored]
    return np.where(total > 0, (kept + freed * shorter) / np.maximum(total, 1), shorter)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return what is taken off a count of 0, 1, 2, 3 and more, (4,).

    The estimate needs n-grams of every count from 1 to 4 and is of use only where every discount is
    positive; small or odd texts get fixed discounts instead.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not n1 * n2 * n3 * n4:
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimate = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return estimate if estimate[1:].min() > 0 else _FALLBACK_DISCOUNTS
