"""Speeds beside the two roofs of a machine: what it can multiply, and what it can read.

Source: Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One measured speed.

    Args:
        label: What was measured.
        group: What is drawn alike.
        intensity: Operations per byte that has to be moved at least.
        gflops: Operations per second, 10^9.
        ratio: How many times as fast as ``torch.nn``; None if it was not compared.
    """

    label: str
    group: str
    intensity: float
    gflops: float
    ratio: float | None


@dataclass(frozen=True)
class Roofline:
    """Points and the roofs above them.

    Args:
        points: At least one.
        peak_gflops: Of the fastest matrix product.
        bandwidths: What is read, and its GB/s.
    """

    points: Sequence[Point]
    peak_gflops: float
    bandwidths: Mapping[str, float]
