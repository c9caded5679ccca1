"""How long the next window is: functions of seed, step and the share of the budget that is used."""

from __future__ import annotations

import numpy as np

from charrnn.config import TrainingConfig

HALF_SHARE = 0.05
"""Share of random windows that are about half as long."""
JITTER = 5.0
"""Standard deviation of random lengths, in symbols."""
MIN_LENGTH = 5
GROWTH_SHARE = 0.5
"""Share of the budget over which ``seq_len`` is reached from ``seq_len_start``."""
STREAM = 1
"""Keeps these random numbers apart from those of the dropout masks."""


def varies(training: TrainingConfig) -> bool:
    """Return whether windows have different lengths."""
    return training.random_seq_len or training.seq_len_start is not None


def longest(training: TrainingConfig, progress: float) -> int:
    """Return the usual length: from ``seq_len_start`` in a straight line to ``seq_len``, then that.

    Source: Li, Zhang & He 2022, "The Stability-Efficiency Dilemma" (sequence length warm-up).
    """
    start = training.seq_len_start
    if start is None or progress >= GROWTH_SHARE:
        return training.seq_len
    return round(start + (training.seq_len - start) * progress / GROWTH_SHARE)


def next_length(training: TrainingConfig, step: int, progress: float) -> int:
    """Return how many symbols the window of a step shall have.

    With ``random_seq_len`` it is the usual length T, or with probability .05 its half, plus normal noise
    with a standard deviation of 5: so windows begin at other places in every epoch.

    Source: Merity, Keskar & Socher 2018, section 5. Lengths above 2 T are cut there.
    """
    usual = longest(training, progress)
    if not training.random_seq_len:
        return usual
    rng = np.random.default_rng([training.seed, step, STREAM])
    middle = usual if rng.random() >= HALF_SHARE else usual / 2
    return int(np.clip(round(rng.normal(middle, JITTER)), min(MIN_LENGTH, usual), 2 * usual))


def rate_factor(training: TrainingConfig, length: int, progress: float) -> float:
    """Return what the learning rate is multiplied by: random windows count by their length (ibid.)."""
    return length / longest(training, progress) if training.random_seq_len else 1.0


def mean_length(training: TrainingConfig) -> float:
    """Return the symbols per window to expect over a whole budget."""
    start, seq_len = training.seq_len_start, training.seq_len
    mean = seq_len if start is None else seq_len - GROWTH_SHARE * (seq_len - start) / 2
    return mean * (1 - HALF_SHARE / 2) if training.random_seq_len else mean
