"""Sampling with packed weights: the library's sampler, and the same in numpy where there is no library.

A sampler knows weights and states alone; what a symbol is, and how its text is made, is not its concern.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_int, c_void_p
from dataclasses import dataclass

import numpy as np

from charrnn.native import CELLS, Library

PRECISIONS = {"fp32": 0, "bf16": 1, "int8": 2}
"""How weights are stored; states and sums are always fp32."""


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
    layers: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
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


@dataclass(frozen=True)
class Choice:
    """How an id is drawn: the fields of ``SamplingConfig``, and the ids that are special.

    Args:
        boundary: The id that ends a document; never drawn twice in a row.
        escape: An id that is never drawn, or -1.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    boundary: int
    escape: int


class _Layer(Structure):
    _fields_ = [("I", c_int)] + [(n, c_void_p) for n in ("start", "inner", "scale", "input", "recurrent")]


class _Model(Structure):
    _fields_ = [(n, c_int) for n in ("cell", "type", "H", "V", "L")] + [
        ("layers", POINTER(_Layer)),
        *((n, c_void_p) for n in ("readout", "readout_bias", "readout_scale")),
    ]


class _Choice(Structure):
    _fields_ = [(n, c_double) for n in ("temperature", "top_p", "min_p")] + [
        (n, c_int) for n in ("top_k", "boundary", "escape")
    ]


class _Task(Structure):
    _fields_ = [(n, c_void_p) for n in ("h", "c", "symbols", "uniforms", "text", "logits")] + [
        (n, c_int) for n in ("S", "N")
    ]


class NativeSampler:
    """Any number of streams, each at its own place, in the library.

    Args:
        native: The library.
        weights: What is sampled from; copied.
        precision: A name in ``PRECISIONS``.
        first: The id that every stream has read last, the begin of a document.
        streams: Number of streams, S.
    """

    def __init__(
        self, native: Library, weights: Weights, precision: str, first: int, streams: int = 1
    ) -> None:
        self._native, self._precision = native, PRECISIONS[precision]
        self._kept: list[np.ndarray] = []
        code, gates = CELLS[weights.cell]
        self._gates = gates
        size, layers = weights.hidden_size, len(weights.layers)
        packed = (_Layer * layers)(*(self._layer(weights, i) for i in range(layers)))
        (readout,), scale = self._pack([weights.readout[0][None]], 4)
        bias = self._keep(weights.readout[1])
        self._model = _Model(
            code, self._precision, size, weights.vocab_size, layers, packed, readout, bias, scale
        )
        self.h = np.zeros((layers, streams, size), np.float32)
        self.c = np.zeros_like(self.h) if weights.cell == "lstm" else None
        self.symbols = np.full(streams, first, np.int64)

    def read(self, ids: np.ndarray) -> None:
        """Read ids, (S, N) int64, all but the last of each stream, which the next call reads."""
        self._run(None, np.ascontiguousarray(ids, np.int64), None, 1)

    def draw(self, uniforms: np.ndarray, how: Choice, threads: int = 1) -> np.ndarray:
        """Draw one id per uniform number in [0, 1), (S, N) float64; return them, (S, N) int64."""
        text = np.empty(uniforms.shape, np.int64)
        self._run(np.ascontiguousarray(uniforms), text, how, threads)
        return text

    def _run(self, uniforms: np.ndarray | None, text: np.ndarray, how: Choice | None, threads: int) -> None:
        choice = _Choice(1.0, 1.0, 0.0, 0, 0, -1)
        if how is not None:
            choice = _Choice(how.temperature, how.top_p, how.min_p, how.top_k, how.boundary, how.escape)
        arrays = (self.h, self.c, self.symbols, uniforms, text, None)
        task = _Task(*(None if a is None else a.ctypes.data for a in arrays), *text.shape)
        if self._native.sample(
            ctypes.byref(self._model), ctypes.byref(task), ctypes.byref(choice), min(threads, len(text))
        ):
            raise MemoryError("no memory to sample")

    def _layer(self, weights: Weights, index: int) -> _Layer:
        w_ih, w_hh, *_ = weights.layers[index]
        bias, inner = weights.biases(index)
        start = self._keep(weights.table() if index == 0 else bias)
        parts = [w_hh] if index == 0 else [w_ih, w_hh]
        gated = [w.reshape(self._gates, -1, w.shape[1]) for w in parts]
        groups = 4 if self._gates == 1 else 2
        packed, scale = self._pack(gated, groups)
        inputs = (0, None) if index == 0 else (w_ih.shape[1], packed[0])
        inner = None if inner is None else self._keep(inner)
        return _Layer(inputs[0], start, inner, scale, inputs[1], packed[-1])

    def _pack(self, weights: list[np.ndarray], groups: int) -> tuple[list[int], int | None]:
        """Pack matrices (G, H, K) that share their rows' scales into panels [panel][k][gate][group][lane]."""
        scale = None
        if self._precision == PRECISIONS["int8"]:
            largest = np.max([np.abs(w).max(axis=2) for w in weights], axis=0)
            scales = np.where(largest > 0, largest, 1) / 127
            weights = [np.rint(w / scales[..., None]) for w in weights]
            scale = self._keep(scales.reshape(-1))
        panels = [_panels(w, groups * self._native.width) for w in weights]
        return [self._keep(_stored(p, self._precision, self._native.width), None) for p in panels], scale

    def _keep(self, array: np.ndarray, kind: type | None = np.float32) -> int:
        """Keep an array alive and return where it is."""
        array = np.ascontiguousarray(array, kind)
        self._kept.append(array)
        return array.ctypes.data


def _panels(weight: np.ndarray, units: int) -> np.ndarray:
    """Return (G, H, K) as [panel][k][gate][unit], units past H zero."""
    gates, size, depth = weight.shape
    panels = -(-size // units)
    padded = np.zeros((gates, panels * units, depth), np.float32)
    padded[:, :size] = weight
    return padded.reshape(gates, panels, units, depth).transpose(1, 3, 0, 2)


def _stored(panels: np.ndarray, precision: int, width: int) -> np.ndarray:
    """Return weights as they are stored.

    bf16 is the upper half of a float, rounded to nearest even; two vectors of them share their lanes' words.
    """
    if precision == PRECISIONS["fp32"]:
        return panels
    if precision == PRECISIONS["int8"]:
        return panels.astype(np.int8)
    bits = np.ascontiguousarray(panels).view(np.uint32)
    halves = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return halves.reshape(-1, 2, width).transpose(0, 2, 1)
