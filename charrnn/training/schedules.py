"""Learning-rate schedules: pure functions of the share of the budget that is used."""

from __future__ import annotations

import math


def cosine(progress: float) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: half a cosine to zero.

    Source: Loshchilov & Hutter 2017 (SGDR), without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: a straight line to zero."""
    return 1 - progress


def constant(progress: float) -> float:
    """Return 1."""
    return 1.0


def warmed_up(factor: float, progress: float, warmup_fraction: float) -> float:
    """Return the factor with a linear rise from zero over the first ``warmup_fraction``."""
    return factor * min(1.0, progress / warmup_fraction) if warmup_fraction else factor
