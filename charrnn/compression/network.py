"""The network in fixed point, without torch: the same frequencies on every machine.

Every cell here is that of ``charrnn.model.cells``, with weights, gates and states rounded to 2^-18.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from charrnn.compression.fixed_point import EXACT, ONE, quantise, rescale, sigmoid, tanh, weights
from charrnn.config import ModelConfig
from charrnn.errors import CheckpointError, RunError
from charrnn.text.vocabulary import BOUNDARY, Vocabulary

State = tuple[np.ndarray, ...]
Step = Callable[[np.ndarray, np.ndarray, State, float], State]

CELL_LIMIT = 2.0**15
"""Largest memory of an LSTM: a product with a gate stays exact."""


def _lstm(inputs: np.ndarray, recurrent: np.ndarray, state: State, limit: float) -> State:
    i, f, g, o = np.split(inputs + recurrent, 4, axis=1)
    c = rescale(sigmoid(f) * state[1] + sigmoid(i) * tanh(g))
    c = np.clip(c, -CELL_LIMIT * ONE, CELL_LIMIT * ONE)
    return rescale(sigmoid(o) * tanh(c * ONE)), c


def _gru(inputs: np.ndarray, recurrent: np.ndarray, state: State, limit: float) -> State:
    (r, z, n), (ur, uz, un) = np.split(inputs, 3, axis=1), np.split(recurrent, 3, axis=1)
    new = tanh(n + sigmoid(r + ur) * rescale(un))
    return (new + rescale(sigmoid(z + uz) * (state[0] - new)),)


def _elman(inputs: np.ndarray, recurrent: np.ndarray, state: State, limit: float) -> State:
    return (tanh(inputs + recurrent),)


def _elman_relu(inputs: np.ndarray, recurrent: np.ndarray, state: State, limit: float) -> State:
    return (np.clip(rescale(inputs + recurrent), 0, limit),)


@dataclass(frozen=True)
class _Cell:
    step: Step
    gates: int = 1
    parts: int = 1
    bounded: bool = True


CELLS = {
    "lstm": _Cell(_lstm, gates=4, parts=2),
    "gru": _Cell(_gru, gates=3),
    "elman": _Cell(_elman),
    "elman_relu": _Cell(_elman_relu, bounded=False),
}


class FixedPointNetwork:
    """A run's network in whole numbers.

    Args:
        model: Settings with nothing left open.
        vocabulary: Symbols to ids.
        tensors: The weights, fp32, named as in a model file.

    Raises:
        RunError: The cell has no form in whole numbers, or the weights are too large for one.
        CheckpointError: The weights do not have the shapes that the settings ask for.
    """

    def __init__(self, model: ModelConfig, vocabulary: Vocabulary, tensors: Mapping[str, np.ndarray]) -> None:
        if model.cell not in CELLS:
            raise RunError(
                f"compression has no exact arithmetic for the cell `{model.cell}`",
                f"it has for {', '.join(CELLS)}",
            )
        if not model.plain:
            raise RunError("compression has no exact arithmetic for zoneout or skip connections")
        self._cell = CELLS[model.cell]
        _check_shapes(tensors, _expected_shapes(model, len(vocabulary), self._cell.gates))
        self.digest = _digest(model, vocabulary, tensors)
        self._hidden = model.hidden_size
        self._num_layers = model.num_layers
        self._load({name: quantise(tensor) for name, tensor in tensors.items()})

    def _load(self, whole: Mapping[str, np.ndarray]) -> None:
        """Arrange the weights for multiplication from the right."""
        names = range(self._num_layers)
        self._recurrent = [whole[f"layers.{n}.weight_hh_l0"].T for n in names]
        self._recurrent_bias = [whole[f"layers.{n}.bias_hh_l0"] * ONE for n in names]
        self._input = [whole[f"layers.{n}.weight_ih_l0"].T for n in names]
        self._input_bias = [whole[f"layers.{n}.bias_ih_l0"] * ONE for n in names]
        self._readout, self._readout_bias = whole["readout.weight"].T, whole["readout.bias"] * ONE
        self._limit = self._largest_activation()
        first = self._input[0]
        embedding = whole.get("embedding.weight")
        largest = ONE if embedding is None else np.abs(embedding).max(initial=0)
        if _largest_sum(first) * largest >= EXACT / 8:
            raise _too_large()
        self._first = (first * ONE if embedding is None else embedding @ first) + self._input_bias[0]

    def _largest_activation(self) -> float:
        """Return what an activation may grow to while all sums stay exact."""
        biases = [*self._input_bias, *self._recurrent_bias, self._readout_bias]
        matrices = [*self._input[1:], *self._recurrent, self._readout]
        if max(np.abs(bias).max() for bias in biases) >= EXACT / 8:
            raise _too_large()
        limit = np.floor(EXACT / 4 / max(1.0, *(_largest_sum(m) for m in matrices)))
        if limit < ONE:
            raise _too_large()
        return float(ONE if self._cell.bounded else limit)

    def start(self, rows: int) -> list[State]:
        """Return the state at the begin of a document for every layer, each part (S, H)."""
        shape = (rows, self._hidden)
        return [tuple(np.zeros(shape) for _ in range(self._cell.parts)) for _ in range(self._num_layers)]

    def step(self, ids: np.ndarray, state: list[State]) -> tuple[np.ndarray, list[State]]:
        """Read one id per stream, (S,), and return the weights of the next, (S, V) int64, and the state."""
        if (ids == BOUNDARY).any():
            keep = (ids != BOUNDARY)[:, None]
            state = [tuple(part * keep for part in layer) for layer in state]
        after: list[State] = []
        inputs = self._first[ids]
        for n, layer in enumerate(state):
            if n:
                inputs = after[-1][0] @ self._input[n] + self._input_bias[n]
            recurrent = layer[0] @ self._recurrent[n] + self._recurrent_bias[n]
            after.append(self._cell.step(inputs, recurrent, layer, self._limit))
        return weights(after[-1][0] @ self._readout + self._readout_bias), after


def _too_large() -> RunError:
    return RunError(
        "the run's weights are too large for exact arithmetic", "train with more `--weight-decay`"
    )


def _largest_sum(matrix: np.ndarray) -> float:
    """Return the largest sum of absolute weights into one unit, for a matrix (I, O)."""
    return float(np.abs(matrix).sum(axis=0).max(initial=0))


def _expected_shapes(model: ModelConfig, vocab_size: int, gates: int) -> dict[str, tuple[int, ...]]:
    hidden, size = model.hidden_size, model.embedding_size
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab_size, size)} if size else {}
    for n in range(model.num_layers):
        width = hidden if n else size or vocab_size
        shapes[f"layers.{n}.weight_ih_l0"] = (gates * hidden, width)
        shapes[f"layers.{n}.weight_hh_l0"] = (gates * hidden, hidden)
        shapes |= dict.fromkeys((f"layers.{n}.bias_ih_l0", f"layers.{n}.bias_hh_l0"), (gates * hidden,))
    return shapes | {"readout.weight": (vocab_size, hidden), "readout.bias": (vocab_size,)}


def _check_shapes(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != dict(expected) or any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise CheckpointError("the weights do not have the names and shapes that the config asks for")
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError("a weight is not finite")


def _digest(model: ModelConfig, vocabulary: Vocabulary, tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return a SHA-256 of all that decides the frequencies."""
    digest = hashlib.sha256(json.dumps([model.cell, vocabulary.to_json()]).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f4").tobytes())
    return digest.digest()
