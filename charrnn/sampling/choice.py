"""How the next character is drawn from logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from charrnn.errors import ConfigError

Chooser = Callable[[np.ndarray, float], int]
"""Logits (V,) float64 and a uniform number in [0, 1) to an id."""


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character is drawn.

    Args:
        temperature: Divides the logits; 0 always takes the most probable character.
        top_k: Keep this many most probable characters; 0 keeps all.
        top_p: Keep the most probable characters that together reach this probability (nucleus).
        min_p: Keep characters at least this many times as probable as the most probable one.

    Raises:
        ConfigError: A value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not (self.temperature == 0 or 1e-6 <= self.temperature <= 1e6):
            problems.append(
                f"`temperature` is `{self.temperature}`, but must be 0, or at least 1e-6 and at most 1e6"
            )
        if self.top_k < 0:
            problems.append(f"`top_k` is `{self.top_k}`, but must be at least 0")
        if not 0 < self.top_p <= 1:
            problems.append(f"`top_p` is `{self.top_p}`, but must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            problems.append(f"`min_p` is `{self.min_p}`, but must be at least 0 and at most 1")
        if problems:
            raise ConfigError("; ".join(problems))


def make_chooser(config: SamplingConfig) -> Chooser:
    """Return the function that draws an id from logits.

    Temperature is applied first, then top-k, top-p and min-p each thin out what the one before left.
    """

    def choose(logits: np.ndarray, uniform: float) -> int:
        if config.temperature == 0:
            return int(logits.argmax())
        probabilities = next_probabilities(logits, config)
        cumulative = np.cumsum(probabilities)
        return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))

    return choose


def next_probabilities(logits: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Return the distribution that is drawn from, (V,) float64; temperature must be above 0."""
    scaled = (logits - logits.max()) / config.temperature
    p = np.exp(scaled)
    p /= p.sum()
    if config.top_k and config.top_k < len(p):
        p[np.argsort(-p, kind="stable")[config.top_k :]] = 0.0
    if config.top_p < 1:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= config.top_p * p.sum()]] = 0.0
    p[p < config.min_p * p.max()] = 0.0
    return p / p.sum()
