"""What turns uniform numbers into ids: the library's sampler, and the same in numpy where that is not there.

A sampler keeps any number of streams, each at its own place in its text. Its arithmetic is fp32 with weights
of 32, 16 or 8 bits, and a stream's text does not depend on the streams beside it.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_int, c_void_p
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from charrnn.native import CELLS, Library, library
from charrnn.sampling.choice import SamplingConfig, make_chooser
from charrnn.sampling.weights import PRECISIONS, Weights, bf16, rounded, row_scales

NEVER = -1
"""Stands for an id that does not exist."""
LINE_BYTES, PAGE_BYTES, ROOM_BYTES = 64, 2 << 20, 4 << 20


@dataclass(frozen=True)
class Draw:
    """How ids are drawn.

    Args:
        config: Temperature and what thins out the rest.
        boundary: The id that begins a document: read with a state of zeros, never drawn twice in a row.
        escape: An id that is never drawn, or ``NEVER``.
    """

    config: SamplingConfig
    boundary: int
    escape: int


class Sampler(Protocol):
    """Streams that begin with a document."""

    def read(self, ids: np.ndarray) -> None:
        """Read a text: ids (S, N) int64."""

    def draw(self, uniforms: np.ndarray, threads: int = 1) -> np.ndarray:
        """Draw one id for each uniform number in [0, 1), (S, N) float64; return them, (S, N) int64."""


def make_sampler(weights: Weights, draw: Draw, precision: str = "fp32", streams: int = 1) -> Sampler:
    """Return the fastest sampler that can run here.

    Args:
        weights: What is sampled from; copied.
        draw: How ids are drawn.
        precision: A name in ``PRECISIONS``: how weights are stored. States and sums are always fp32.
        streams: Number of streams, S.
    """
    native = library()
    if native is None:
        return NumpySampler(weights, draw, precision, streams)
    return NativeSampler(native, weights, draw, precision, streams)


class NumpySampler:
    """Streams in numpy; arguments as for ``make_sampler``."""

    def __init__(self, weights: Weights, draw: Draw, precision: str = "fp32", streams: int = 1) -> None:
        self._cell, self._special = weights.cell, draw
        self._choose = make_chooser(draw.config)
        weights = rounded(weights, precision)
        self._table = weights.table()
        self._layers = [
            (np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), *weights.biases(i))
            for i, (w_ih, w_hh, _, _) in enumerate(weights.layers)
        ]
        self._readout = np.ascontiguousarray(weights.readout[0].T), weights.readout[1]
        self._state = np.zeros((2, len(self._layers), streams, weights.hidden_size), np.float32)
        self._last = np.full(streams, draw.boundary)

    def read(self, ids: np.ndarray) -> None:
        """Read a text: ids (S, N) int64."""
        for column in ids.T:
            self._step()
            self._last = column

    def draw(self, uniforms: np.ndarray, threads: int = 1) -> np.ndarray:
        """Draw one id for each uniform number in [0, 1), (S, N) float64; return them, (S, N) int64."""
        text = np.empty(uniforms.shape, np.int64)
        for n in range(uniforms.shape[1]):
            logits = (self._step() @ self._readout[0] + self._readout[1]).astype(np.float64)
            logits[self._last == self._special.boundary, self._special.boundary] = -np.inf
            if self._special.escape != NEVER:
                logits[:, self._special.escape] = -np.inf
            text[:, n] = [self._choose(row, u) for row, u in zip(logits, uniforms[:, n], strict=True)]
            self._last = text[:, n].copy()
        return text

    def _step(self) -> np.ndarray:
        """Read every stream's last id; return the top layer's output, (S, H)."""
        self._state[:, :, self._last == self._special.boundary] = 0
        output = None
        for i, (w_ih, w_hh, bias, inner) in enumerate(self._layers):
            h, c = self._state[:, i]
            begun = self._table[self._last] if output is None else output @ w_ih + bias
            output = self._state[0, i] = self._update(i, begun, h @ w_hh, inner, h, c)
        return output

    def _update(
        self,
        layer: int,
        begun: np.ndarray,
        recurrent: np.ndarray,
        inner: np.ndarray | None,
        h: np.ndarray,
        c: np.ndarray,
    ) -> np.ndarray:
        size = h.shape[1]
        if self._cell == "lstm":
            total = begun + recurrent
            i, f, o = (_sigmoid(total[:, k * size : (k + 1) * size]) for k in (0, 1, 3))
            self._state[1, layer] = c = f * c + i * np.tanh(total[:, 2 * size : 3 * size])
            return o * np.tanh(c)
        if self._cell == "gru":
            r, z = (_sigmoid((begun + recurrent)[:, k * size : (k + 1) * size]) for k in (0, 1))
            n = np.tanh(begun[:, 2 * size :] + r * (recurrent[:, 2 * size :] + inner))
            return n + z * (h - n)
        total = begun + recurrent
        return np.tanh(total) if self._cell == "elman" else np.maximum(total, 0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


class _Layer(Structure):
    _fields_ = [("I", c_int)] + [(n, c_void_p) for n in ("start", "inner", "scale", "input", "recurrent")]


class _Model(Structure):
    _fields_ = (
        [(n, c_int) for n in ("cell", "type", "H", "V", "L")]
        + [("layers", POINTER(_Layer))]
        + [(n, c_void_p) for n in ("readout", "readout_bias", "readout_scale")]
    )


class _Choice(Structure):
    _fields_ = [(n, c_double) for n in ("temperature", "top_p", "min_p")] + [
        (n, c_int) for n in ("top_k", "boundary", "escape")
    ]


class _Task(Structure):
    _fields_ = [(n, c_void_p) for n in ("h", "c", "symbols", "uniforms", "text")] + [
        (n, c_int) for n in ("S", "N")
    ]


class NativeSampler:
    """Streams in the library: ``source/sampler.c``. Arguments as for ``make_sampler``, and the library."""

    def __init__(
        self, native: Library, weights: Weights, draw: Draw, precision: str = "fp32", streams: int = 1
    ) -> None:
        self._native, self._precision = native, precision
        self._kept: list[np.ndarray] = []
        self._free = np.empty(0, np.uint8)
        config = draw.config
        top_k = min(config.top_k, weights.vocab_size)  # whatever was asked for, no more than an int holds
        numbers = (config.temperature, config.top_p, config.min_p, top_k)
        self._choice = _Choice(*numbers, draw.boundary, draw.escape)
        code, self._gates = CELLS[weights.cell]
        size, layers = weights.hidden_size, len(weights.layers)
        packed = (_Layer * layers)(*(self._layer(weights, i) for i in range(layers)))
        (readout,), scale = self._pack([weights.readout[0][None]], 4)
        shape = (code, PRECISIONS[precision], size, weights.vocab_size, layers)
        self._model = _Model(*shape, packed, readout, self._keep(weights.readout[1]), scale)
        self._h = np.zeros((layers, streams, size), np.float32)
        self._c = np.zeros_like(self._h)
        self._last = np.full(streams, draw.boundary, np.int64)

    @property
    def weights_bytes(self) -> int:
        """Bytes of weights that every character reads, all but the first layer's table."""
        return sum(array.nbytes for array in self._kept[1:])

    def read(self, ids: np.ndarray) -> None:
        """Read a text: ids (S, N) int64."""
        self._run(None, np.ascontiguousarray(ids, np.int64), 1)

    def draw(self, uniforms: np.ndarray, threads: int = 1) -> np.ndarray:
        """Draw one id for each uniform number in [0, 1), (S, N) float64; return them, (S, N) int64."""
        text = np.empty(uniforms.shape, np.int64)
        self._run(np.ascontiguousarray(uniforms, np.float64), text, threads)
        return text

    def _run(self, uniforms: np.ndarray | None, text: np.ndarray, threads: int) -> None:
        arrays = (self._h, self._c, self._last, uniforms, text)
        task = _Task(*(None if a is None else a.ctypes.data for a in arrays), *text.shape)
        parts = (byref(self._model), byref(task), byref(self._choice))
        if self._native.sample(*parts, min(threads, len(text))):
            raise MemoryError("no memory to sample")

    def _layer(self, weights: Weights, index: int) -> _Layer:
        w_ih, w_hh, *_ = weights.layers[index]
        bias, inner = weights.biases(index)
        start = self._keep(weights.table() if index == 0 else bias)
        inner = None if inner is None else self._keep(inner)
        parts = [w.reshape(self._gates, -1, w.shape[1]) for w in ([w_hh] if index == 0 else [w_ih, w_hh])]
        packed, scale = self._pack(parts, 4 if self._gates == 1 else 2)
        inputs = (0, None) if index == 0 else (w_ih.shape[1], packed[0])
        return _Layer(inputs[0], start, inner, scale, inputs[1], packed[-1])

    def _pack(self, parts: list[np.ndarray], groups: int) -> tuple[list[int], int | None]:
        """Pack matrices (G, H, K) that share their rows' scales into panels [panel][k][gate][group][lane]."""
        scale = None
        if self._precision == "int8":
            scales = row_scales(parts)
            parts = [np.rint(part / scales) for part in parts]
            scale = self._keep(scales.reshape(-1))
        width = self._native.width
        panels = [_stored(_panels(part, groups * width), self._precision, width) for part in parts]
        return [self._keep(panel, panel.dtype) for panel in panels], scale

    def _keep(self, array: np.ndarray, kind: np.dtype | type = np.float32) -> int:
        """Copy an array to memory of our own and return where it is.

        Vectors of 64 bytes lie in one line of the cache each, arrays side by side in large pages, for which
        numpy asks the system from 4 MB on: weights are read too fast to look up a page for every 4 kB.
        """
        array = np.ascontiguousarray(array, kind)
        size = -(-array.nbytes // LINE_BYTES) * LINE_BYTES
        if size > len(self._free):
            room = np.empty(max(size, ROOM_BYTES) + PAGE_BYTES, np.uint8)
            self._free = room[-room.ctypes.data % PAGE_BYTES :]
        self._kept.append(self._free[: array.nbytes].view(array.dtype).reshape(array.shape))
        self._kept[-1][...] = array
        self._free = self._free[size:]
        return self._kept[-1].ctypes.data


def _panels(weight: np.ndarray, units: int) -> np.ndarray:
    """Return (G, H, K) as [panel][k][gate][unit], units past H zero."""
    gates, size, depth = weight.shape
    panels = -(-size // units)
    padded = np.zeros((gates, panels * units, depth), np.float32)
    padded[:, :size] = weight
    return padded.reshape(gates, panels, units, depth).transpose(1, 3, 0, 2)


def _stored(panels: np.ndarray, precision: str, width: int) -> np.ndarray:
    """Return weights as they are stored; of 16 bits, two vectors share their lanes' words."""
    if precision == "fp32":
        return panels
    if precision == "int8":  # two rows side by side, so that their products are added at once
        count, depth, *_ = panels.shape
        even = np.zeros((count, depth + depth % 2, panels[0, 0].size), np.int8)
        even[:, :depth] = panels.reshape(count, depth, -1)
        return even.reshape(count, -1, 2, even.shape[2]).swapaxes(2, 3)
    halves = bf16(panels) >> 16
    return halves.astype(np.uint16).reshape(-1, 2, width).transpose(0, 2, 1)
