"""Dots, eight to a character cell, for curves and scatters in a terminal."""

from __future__ import annotations

import numpy as np

_EMPTY = 0x2800
# the bit of every dot, four rows of two (Unicode 16, section 21.1)
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Dots:
    """A rectangle of dots, two columns and four rows to a character.

    Args:
        width: In characters.
        height: In characters.
    """

    def __init__(self, width: int, height: int) -> None:
        self.on = np.zeros((4 * height, 2 * width), dtype=bool)

    def put(self, x: np.ndarray, y: np.ndarray) -> None:
        """Set dots at positions in [0, 1], x from the left and y from the bottom; NaN sets nothing."""
        x, y = np.broadcast_arrays(x, y)
        known = ~(np.isnan(x) | np.isnan(y))
        rows, columns = self.on.shape
        across = np.clip(x[known], 0, 1) * (columns - 1)
        down = (1 - np.clip(y[known], 0, 1)) * (rows - 1)
        self.on[np.rint(down).astype(int), np.rint(across).astype(int)] = True

    def put_curve(self, y: np.ndarray) -> None:
        """Join one height in [0, 1] per column of dots, (2 width,), without gaps; NaN interrupts."""
        for column, (before, here) in enumerate(zip(np.append(np.nan, y[:-1]), y, strict=True)):
            if np.isnan(here):
                continue
            start = here if np.isnan(before) else before
            steps = np.linspace(start, here, len(self.on))
            self.put(np.full(len(steps), column / max(1, len(y) - 1)), steps)

    def rows(self) -> list[str]:
        """Return one string per row of characters, a space where there are no dots."""
        cells = self.on.reshape(self.on.shape[0] // 4, 4, -1, 2).transpose(0, 2, 1, 3)
        codes = (cells * _BITS).sum((2, 3))
        return ["".join(chr(_EMPTY + code) if code else " " for code in row) for row in codes]
