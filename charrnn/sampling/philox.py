"""numpy's counter-based generator in torch: a device makes the uniform numbers that the host would.

torch has no unsigned words of 64 bits that can be multiplied everywhere; those here are int64 of the same
bits. Their sums and products wrap around alike, and only shifts to the right have to drop copies of the sign.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox, 4 words, 10 rounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WORDS = 4
"""Numbers of one block."""
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
INCREMENTS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""What the two words of a key grow by from round to round."""
HALF = 0xFFFFFFFF


class Philox:
    """What ``np.random.Philox(key=[seed, stream])`` yields, for several streams at once.

    Args:
        seed: First word of all keys, in [0, 2^64).
        streams: Second word of each key, S of them.
        device: Where the numbers are made.
    """

    def __init__(self, seed: int, streams: Sequence[int], device: torch.device) -> None:
        keys = [
            [
                [_signed(seed + n * INCREMENTS[0])] * len(streams),
                [_signed(s + n * INCREMENTS[1]) for s in streams],
            ]
            for n in range(ROUNDS)
        ]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device).unsqueeze(2)  # (rounds, 2, 1, S)
        halves = [[m & HALF for m in MULTIPLIERS], [m >> 32 for m in MULTIPLIERS]]
        self._low, self._high = torch.tensor(halves, device=device).view(2, 2, 1, 1)

    def uniforms(self, blocks: Tensor) -> Tensor:
        """Return the numbers of some blocks, in [0, 1): (4 N, S) float64; nothing waits for the device.

        Args:
            blocks: Numbers of the blocks, (N,) int64; a stream's first four numbers are block 0.
        """
        # numpy counts before it makes a block; the three upper words of the counter stay 0
        first = (blocks + 1).view(1, -1, 1).expand(1, len(blocks), self._keys.shape[-1])
        even, odd = torch.cat([first, torch.zeros_like(first)]), first.new_zeros(2, *first.shape[1:])
        for key in self._keys:
            high, low = self._product(even)
            even, odd = high.flip(0) ^ odd ^ key, low.flip(0)
        words = torch.stack([even, odd], dim=1).flatten(0, 1).transpose(0, 1).flatten(0, 1)
        return _shifted(words, 11).double() * 2.0**-53

    def _product(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the upper and lower 64 bits of both words, (2, N, S), times their multipliers."""
        low, high = values & HALF, _shifted(values, 32)
        ends, inner, outer = low * self._low, low * self._high, high * self._low
        middle = _shifted(ends, 32) + (inner & HALF) + (outer & HALF)
        above = high * self._high + _shifted(inner, 32) + _shifted(outer, 32) + (middle >> 32)
        return above, (ends & HALF) | (middle << 32)


def _signed(word: int) -> int:
    """Return the number below 2^63 whose 64 bits are those of a word."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift to the right; what comes in from the left is 0."""
    return (values >> bits) & (2 ** (64 - bits) - 1)
