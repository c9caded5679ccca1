"""A network's weights as a sampler needs them, and rounded as it stores them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

PRECISIONS = {"fp32": 0, "bf16": 1, "int8": 2}
"""How weights can be stored, and the library's number for it."""

Layer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """A network's weights, float32, in PyTorch's shapes and gate order.

    Args:
        cell: ``lstm``, ``gru``, ``elman`` or ``elman_relu``.
        embedding: (V, E), or None for one-hot input.
        layers: For each layer ``weight_ih weight_hh bias_ih bias_hh``: (G H, I), (G H, H), (G H,), (G H,).
        readout: Weight (V, H) and bias (V,).
    """

    cell: str
    embedding: np.ndarray | None
    layers: tuple[Layer, ...]
    readout: tuple[np.ndarray, np.ndarray]

    @property
    def hidden_size(self) -> int:
        """Neurons per layer, H."""
        return self.layers[0][1].shape[1]

    @property
    def vocab_size(self) -> int:
        """Number of ids, V."""
        return len(self.readout[1])

    def biases(self, layer: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the bias of the gate inputs, (G H,), and the GRU's inner one, (H,), which r scales."""
        _, _, bias_ih, bias_hh = self.layers[layer]
        if self.cell != "gru":
            return bias_ih + bias_hh, None
        outer = 2 * self.hidden_size
        return bias_ih + np.concatenate([bias_hh[:outer], 0 * bias_hh[outer:]]), bias_hh[outer:]

    def table(self) -> np.ndarray:
        """Return the first layer's gate inputs of every symbol, (V, G H)."""
        weight = self.layers[0][0].T
        return (weight if self.embedding is None else self.embedding @ weight) + self.biases(0)[0]


def rounded(weights: Weights, precision: str) -> Weights:
    """Return the weights that a precision leaves, in float32.

    ``bf16`` keeps 8 bits of mantissa. ``int8`` stores whole multiples of one scale per neuron and gate, the
    largest of its weights over 127. The first layer's table and all biases stay as they are.
    """
    if precision == "fp32":
        return weights
    layers = []
    for i, (w_ih, w_hh, *biases) in enumerate(weights.layers):
        matrices = _rounded([w_hh] if i == 0 else [w_ih, w_hh], precision)
        layers.append((w_ih, *matrices, *biases) if i == 0 else (*matrices, *biases))
    (readout,) = _rounded([weights.readout[0]], precision)
    return replace(weights, layers=tuple(layers), readout=(readout, weights.readout[1]))


def _rounded(matrices: list[np.ndarray], precision: str) -> list[np.ndarray]:
    if precision == "bf16":
        return [bf16(matrix).view(np.float32) for matrix in matrices]
    scales = row_scales(matrices)
    return [np.rint(matrix / scales) * scales for matrix in matrices]


def row_scales(matrices: list[np.ndarray]) -> np.ndarray:
    """Return what 1 stands for in 8 bits, in every row of matrices (…, H, K) side by side: (…, H, 1)."""
    largest = np.max([np.abs(matrix).max(axis=-1, keepdims=True) for matrix in matrices], axis=0)
    return (np.where(largest > 0, largest, 1) / 127).astype(np.float32)


def bf16(values: np.ndarray) -> np.ndarray:
    """Return the bits of float32 values, uint32, rounded to nearest even at 16 of them."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
