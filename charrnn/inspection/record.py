"""What every neuron did while the network read pieces of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from charrnn.devices import arithmetic, to_device
from charrnn.errors import InspectionError
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.model.network import Network, NetworkState
from charrnn.model.scoring import begun_inside
from charrnn.text.vocabulary import BOUNDARY

WINDOW = 50
ROWS = 64
CHECKED_WINDOWS, CHECKED_ROWS = 40, 8
"""One window in so many, and of it so many rows, is also read step by step as the cell is defined."""
MAX_ERROR = 1e-3
"""Outputs that differ by more are no rounding; by how much they differ is always reported."""
NEAR = 10
"""First steps of a window after which outputs must agree: where a network is chaotic, rounding alone grows a
thousandfold in fifty. Each later step is checked by itself, given the recorded state before it."""


@dataclass(frozen=True)
class Recorded:
    """Activations over one window of some pieces.

    Args:
        rows: Number of the piece of each row, (B,).
        begin: First character of the window in its pieces.
        length: Characters of each row that are text, not padding, (B,).
        parts: Activations after reading each character, ``tanh(c)`` for c neurons, time first: some neurons
            each, (T, B, n) float32. They are to be read only: the network may go on from them.
    """

    rows: list[int]
    begin: int
    length: np.ndarray
    parts: list[torch.Tensor]

    @cached_property
    def values(self) -> torch.Tensor:
        """All activations side by side, (B, T, N)."""
        return torch.cat([part.transpose(0, 1) for part in self.parts], dim=-1)

    def text(self, first: np.ndarray | int = 0) -> torch.Tensor:
        """Return the activations of what is text, row after row, (M, N).

        Args:
            first: Characters of each row's window to leave out at its begin, (B,).
        """
        at = np.arange(self.values.shape[1])
        taken = (at >= np.reshape(first, (-1, 1))) & (at < self.length[:, None])
        values = self.values.flatten(0, 1)
        # numbers instead of a mask: how many there are is known here, and need not be asked of the device
        return values if taken.all() else values[to_device(np.flatnonzero(taken), values.device)]


class Recorder:
    """Reads pieces of text, each from a state of zeros, and yields activations.

    Args:
        network: In evaluation mode, on the device it shall run on.
        table: Place to id, (U,) int64.
        columns: ``(layer, kind)`` of the quantities to record, whole layers of them; or single neurons.
    """

    def __init__(self, network: Network, table: np.ndarray, neurons: Sequence[Neuron]) -> None:
        self.network = network
        self.table = table
        self.neurons = list(neurons)
        self.device = network.readout.weight.device
        self.largest_error = 0.0
        """Largest difference so far between the recorded outputs and the definition's, or the fast path's."""
        self.gate_error = 0.0
        """The same of a gate at one step, given the recorded state before it."""
        self.state_error = 0.0
        """The same of c and h at one step, given the recorded gates."""
        self._groups = _groups(self.neurons)
        self._kinds = {"h", *(neuron.traced for neuron in self.neurons)}

    def read(self, pieces: Sequence[Piece]) -> Iterator[Recorded]:
        """Yield the activations of all pieces, window by window.

        Raises:
            InspectionError: What is recorded misses the forward pass.
        """
        order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i]))
        for first in range(0, len(order), ROWS):
            yield from self._read_rows(pieces, order[first : first + ROWS])

    def _read_rows(self, pieces: Sequence[Piece], rows: list[int]) -> Iterator[Recorded]:
        lengths = np.array([len(pieces[row]) for row in rows])
        # what fills a row up is not looked at; a boundary there would cut the row
        ids = np.full((len(rows), lengths.max()), BOUNDARY + 1, dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = self.table[pieces[row].places]
        symbols = to_device(ids, self.device)
        state = self.network.initial_state(len(rows))
        with torch.inference_mode():
            start = torch.full((len(rows), 1), BOUNDARY, device=self.device)
            _, state = self.network.hidden(start, state)
            for begin in range(0, ids.shape[1], WINDOW):
                running = int((lengths > begin).sum())  # rows are sorted, the longest first
                state = tuple(tuple(part[:running] for part in layer) for layer in state)
                at = np.s_[:running, begin : begin + WINDOW]
                checked = begin // WINDOW % CHECKED_WINDOWS == 0
                inside = begun_inside(self.network, ids[at])
                parts, state = self._window(symbols[at], state, checked, inside)
                left = np.clip(lengths[:running] - begin, 0, WINDOW)
                yield Recorded(rows[:running], begin, left, parts)

    def _window(
        self, window: torch.Tensor, state: NetworkState, checked: bool, inside: dict[str, bool]
    ) -> tuple[list[torch.Tensor], NetworkState]:
        """Read a window, (B, T); return the activations, some neurons each, and the state after it."""
        with arithmetic(window.device, "fp32"):
            traces, after = self.network.trace(window, state, None if checked else self._kinds, **inside)
            if checked:
                self._check(traces, state, window)
        return self._parts(traces), after

    def _parts(self, traces: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
        parts = []
        for layer, kind, index in self._groups:
            part = traces[layer - 1][Neuron(layer, kind, 0).traced][..., index]
            parts.append(torch.tanh(part) if kind == "c" else part)
        return parts or [traces[0]["h"][..., :0]]

    def _check(
        self, traces: list[dict[str, torch.Tensor]], state: NetworkState, window: torch.Tensor
    ) -> None:
        """Compare some rows with the definition, by windows and by steps, and with the fast path."""
        state = tuple(tuple(part[:CHECKED_ROWS] for part in layer) for layer in state)
        traces = [{kind: part[:, :CHECKED_ROWS] for kind, part in trace.items()} for trace in traces]
        window = window[:CHECKED_ROWS]
        outputs = self.network.join([trace["h"] for trace in traces])
        size = float(outputs.abs().max())
        for path in (self.network.reference_hidden, self.network.hidden):
            error = (path(window, state)[0] - outputs).abs().amax((1, 2))
            near = float(error[:NEAR].max())
            if not near <= MAX_ERROR * max(1.0, size):  # NaN too
                raise InspectionError(f"what is recorded misses the forward pass by {near:.1g}")
            self.largest_error = max(self.largest_error, float(error.max()))
        if self.network.stacked:  # else the trace is made by the definition
            errors = self.network.step_errors(window, state, traces)
            if not all(error <= MAX_ERROR for error in errors):
                raise InspectionError(f"the recorded gates miss the recorded states by {max(errors):.1g}")
            own = self.gate_error, self.state_error
            self.gate_error, self.state_error = map(max, own, errors)


def _groups(neurons: list[Neuron]) -> list[tuple[int, str, list[int] | slice]]:
    """Join neighbouring neurons of one kind into one part of a layer; without gaps it needs no copy."""
    groups: list[tuple[int, str, list[int]]] = []
    for neuron in neurons:
        if not groups or groups[-1][:2] != (neuron.layer, neuron.kind):
            groups.append((neuron.layer, neuron.kind, []))
        groups[-1][2].append(neuron.index)
    return [(layer, kind, _joined(index)) for layer, kind, index in groups]


def _joined(index: list[int]) -> list[int] | slice:
    first, after = index[0], index[0] + len(index)
    return slice(first, after) if index == list(range(first, after)) else index


def all_neurons(network: Network, kind: str) -> list[Neuron]:
    """Return every neuron of one kind, layer by layer."""
    size = network.config.hidden_size
    return [Neuron(layer + 1, kind, i) for layer in range(len(network.layers)) for i in range(size)]


def readout_neurons(network: Network) -> list[Neuron]:
    """Return the h neurons that the readout reads: in the order in which it reads them."""
    return [neuron for neuron in all_neurons(network, "h") if neuron.layer in network.read_layers]


def readout_of(network: Network, values: torch.Tensor) -> torch.Tensor:
    """Return logits, (…, V), from the values of ``readout_neurons``, (…, N)."""
    return network.readout(network.join(values.split(network.config.hidden_size, dim=-1)))


def raw_values(recorder: Recorder, pieces: Sequence[Piece]) -> list[np.ndarray]:
    """Return the activations of the recorder's neurons over each piece, (len(piece), N) float32."""
    values = [np.empty((len(piece), len(recorder.neurons)), dtype=np.float32) for piece in pieces]
    for window in recorder.read(pieces):
        block = window.values.float().cpu().numpy()
        for i, (row, length) in enumerate(zip(window.rows, window.length, strict=True)):
            values[row][window.begin : window.begin + length] = block[i, :length]
    return values
