"""A neuron's activation as a function of a count, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CounterCurve:
    """A neuron's activation as a function of a count, on text that did not choose it.

    Args:
        neuron: Its name.
        hypothesis: What is counted.
        chars: Characters at each value from 0, (V,).
        mean: Mean activation, NaN where there are no characters, (V,).
        sd: Standard deviation, (V,).
        untrained: The untrained twin's best neuron, chosen alike.
        untrained_mean: Its mean activation, (V,).
        p_newline: Mean probability that the model gives a newline as the next character, (V,); None where
            the model knows none.
        slope: Activation per step of the count, by least squares over the straight part.
        straight: First and last value of the straight part.
        flat: Whether the curve is flatter behind the straight part.
    """

    neuron: str
    hypothesis: str
    chars: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    untrained: str
    untrained_mean: np.ndarray
    p_newline: np.ndarray | None
    slope: float
    straight: tuple[int, int]
    flat: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values, null where there are no characters."""
        data = {key: getattr(self, key) for key in ("neuron", "hypothesis", "untrained", "slope", "flat")}
        data |= {"straight": list(self.straight), "chars": [int(n) for n in self.chars]}
        for key in ("mean", "sd", "untrained_mean", "p_newline"):
            values = getattr(self, key)
            data[key] = None if values is None else [None if np.isnan(v) else float(v) for v in values]
        return data
