"""Numbers that are the same everywhere: fixed point, and tables of functions made by integer arithmetic.

A fixed-point number is a whole number of 2^-18, held in a float64. Products and sums of whole numbers
are exact in float64 while they stay below 2^53, with fused multiplication or without, so neither the
order of a sum nor the kernel, the machine or the number of threads can change a matrix product.
The functions come from tables that are made without the machine's own ``exp``.
"""

from __future__ import annotations

from functools import cache

import numpy as np

BITS = 18
ONE = 2**BITS
EXACT = 2.0**52
"""No sum may reach this: half of what a float64 holds exactly."""

STEP_BITS = 11
"""Sigmoid and tanh are looked up every 2^-11; the exponential twice as finely."""
SIGMOID_RANGE, TANH_RANGE, EXP_RANGE = 13, 7, 19
"""Beyond these the functions do not change within 18 bits (the exponential: within its own 26)."""
WEIGHT_BITS = 26
"""The most probable symbol has the weight 2^26."""

_GUARD = 96


def quantise(values: np.ndarray) -> np.ndarray:
    """Return the nearest fixed-point numbers, float64."""
    return np.rint(values.astype(np.float64) * ONE)


def rescale(values: np.ndarray, bits: int = BITS) -> np.ndarray:
    """Divide whole numbers by 2^bits, to the nearest, halves to even."""
    return np.rint(values * 2.0**-bits)


def sigmoid(total: np.ndarray) -> np.ndarray:
    """Return σ in fixed point for sums of products (36 bits behind the point)."""
    return _look_up(_sigmoid_table(), total)


def tanh(total: np.ndarray) -> np.ndarray:
    """Return tanh in fixed point for sums of products (36 bits behind the point)."""
    return _look_up(_tanh_table(), total)


def weights(logits: np.ndarray) -> np.ndarray:
    """Return whole numbers in proportion to exp(logits), at least 1, at most 2^26 + 1, as int64.

    Args:
        logits: Sums of products (36 bits behind the point), (…, V).
    """
    table = _exp_table()
    below = (logits.max(axis=-1, keepdims=True) - logits) * 2.0 ** (STEP_BITS + 1 - 2 * BITS)
    return table.take(np.minimum(np.rint(below), len(table) - 1).astype(np.intp))


def _look_up(table: np.ndarray, total: np.ndarray) -> np.ndarray:
    half = len(table) // 2
    index = np.rint(total * 2.0 ** (STEP_BITS - 2 * BITS))
    return table.take(np.clip(index, -half, half).astype(np.intp) + half)


@cache
def _powers() -> list[int]:
    """Return e^(-k/4096) for k = 0, 1, …, with 96 bits behind the point."""
    one = 1 << _GUARD
    factor = term = one
    for n in range(1, 20):
        term = -term // (n << (STEP_BITS + 1))
        factor += term
    found = [one]
    for _ in range(EXP_RANGE << (STEP_BITS + 1)):
        found.append(found[-1] * factor >> _GUARD)
    return found


def _symmetric(positive: list[int], middle: int) -> np.ndarray:
    """Return a table over −range … range from the half that is not negative; f(−x) = middle − f(x)."""
    right = np.array(positive, dtype=np.float64)
    return np.concatenate([middle - right[:0:-1], right])


@cache
def _sigmoid_table() -> np.ndarray:
    one, powers = 1 << _GUARD, _powers()
    ratios = ((one, one + powers[2 * k]) for k in range((SIGMOID_RANGE << STEP_BITS) + 1))
    return _symmetric([_nearest(ONE * above, below) for above, below in ratios], ONE)


@cache
def _tanh_table() -> np.ndarray:
    one, powers = 1 << _GUARD, _powers()
    squares = (powers[4 * k] for k in range((TANH_RANGE << STEP_BITS) + 1))
    return _symmetric([_nearest(ONE * (one - e), one + e) for e in squares], 0)


@cache
def _exp_table() -> np.ndarray:
    shift = _GUARD - WEIGHT_BITS
    return np.array([1 + ((power + (1 << (shift - 1))) >> shift) for power in _powers()], dtype=np.int64)


def _nearest(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
