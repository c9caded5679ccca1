"""Learning-rate schedules: pure functions of the share of the budget that is used.

``misses`` is the number of looks at the validation split so far that found no improvement.
"""

from __future__ import annotations

import math

from charrnn.config import SCHEDULES, TrainingConfig

ONECYCLE_RISE = 0.3
ONECYCLE_START, ONECYCLE_END = 1 / 25, 1 / 25e4
MULTISTEP_AT, MULTISTEP_FACTOR = (0.5, 0.7), 0.1
PLATEAU_FACTOR = 0.5
"""What the rate is multiplied by at each look without improvement."""


def cosine(progress: float, misses: int = 0) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: half a cosine to zero.

    Source: Loshchilov & Hutter 2017 (SGDR), without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float, misses: int = 0) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: a straight line to zero.

    Source: Li, Yumer & Ramanan 2020 (budgeted training).
    """
    return 1 - progress


def onecycle(progress: float, misses: int = 0) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: a rise from 1/25 and a fall.

    Both are half cosines, the rise over the first 30 %. The momentum stays as it is.

    Source: Smith & Topin 2018 (super-convergence), with the shape and figures of torch's ``OneCycleLR``.
    """
    if progress < ONECYCLE_RISE:
        return ONECYCLE_START + (1 - ONECYCLE_START) * (1 - cosine(progress / ONECYCLE_RISE))
    return ONECYCLE_END + (1 - ONECYCLE_END) * cosine((progress - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))


def multistep(progress: float, misses: int = 0) -> float:
    """Return the factor of the peak rate at ``progress`` in [0, 1]: .1 from half on, .01 from seven tenths.

    Source: Merity, Keskar & Socher 2018, "An Analysis of Neural Language Modeling at Multiple Scales", whose
    recipe for enwik8 divides by 10 after 25 and 35 of 50 epochs.
    """
    return MULTISTEP_FACTOR ** sum(progress >= at for at in MULTISTEP_AT)


def constant(progress: float, misses: int = 0) -> float:
    """Return 1."""
    return 1.0


def plateau(progress: float, misses: int = 0) -> float:
    """Return the factor of the peak rate: halved at every look that found no improvement.

    Source: the practice of Zaremba et al. 2014 and of torch's ``ReduceLROnPlateau`` without patience.
    """
    return PLATEAU_FACTOR**misses


def warmed_up(factor: float, progress: float, warmup_fraction: float) -> float:
    """Return the factor with a linear rise from zero over the first ``warmup_fraction``.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD" (gradual warm-up).
    """
    return factor * min(1.0, progress / warmup_fraction) if warmup_fraction else factor


def scheduled(training: TrainingConfig, progress: float, misses: int) -> float:
    """Return the factor of the peak rate by the settings: schedule and warm-up; ``onecycle`` has its own."""
    factor = SCHEDULES[training.schedule](progress, misses)
    if training.schedule == "onecycle":
        return factor
    return warmed_up(factor, progress, training.warmup_fraction)
