"""How often gates are saturated, and for how many characters neurons remember."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charrnn.devices import home_of_sums
from charrnn.errors import InspectionError
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, all_neurons
from charrnn.inspection.subject import Subject
from charrnn.model.cells.base import RecurrentLayer
from charrnn.model.network import Network

SIGMOID_BOUNDS = (0.1, 0.9)
"""A gate is left-saturated below and right-saturated above them (Karpathy, Johnson & Fei-Fei 2015)."""
TANH_BOUNDS = (-0.9, 0.9)
TANH_GATES = ("g", "n")
KEEPING_GATES = ("f", "z")
"""Near 1 they keep the state: an LSTM's forget gate, and a GRU's update gate in PyTorch's convention."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_TAU = 1e6
"""Characters; beyond this float32 has no digits left between a gate and 1."""
EXTREMES = 3
TWIN_STEP = 8
"""The untrained twin reads every eighth piece: its neurons hardly differ from one another."""


@dataclass(frozen=True)
class Gate:
    """One gate of one layer, neuron by neuron.

    Args:
        layer: From 1.
        name: PyTorch's letter.
        left: Share of characters at which it is left-saturated, (H,).
        right: Share of characters at which it is right-saturated, (H,).
        mean: Mean value, (H,).
    """

    layer: int
    name: str
    left: np.ndarray
    right: np.ndarray
    mean: np.ndarray

    @property
    def bounds(self) -> tuple[float, float]:
        """The values below and above which it counts as saturated."""
        return TANH_BOUNDS if self.name in TANH_GATES else SIGMOID_BOUNDS

    def mostly(self, side: str) -> float:
        """Return the share of neurons that are saturated on a side more than half of the time."""
        return float((getattr(self, side) > 0.5).mean())

    def extremes(self, side: str, count: int = EXTREMES) -> list[tuple[str, float]]:
        """Return the neurons that are most often saturated on a side, with their shares."""
        return _largest(getattr(self, side), self.layer, self.name, count)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        data: dict[str, Any] = {"layer": self.layer, "gate": self.name, "bounds": list(self.bounds)}
        for side in ("left", "right"):
            data[f"mostly_{side}"] = self.mostly(side)
            data[f"most_{side}"] = [{"neuron": name, "share": v} for name, v in self.extremes(side)]
        return data | {key: getattr(self, key).tolist() for key in ("left", "right", "mean")}


@dataclass(frozen=True)
class Timescale:
    """For how many characters the neurons of one layer remember.

    Args:
        layer: From 1.
        gate: The gate that keeps.
        tau: ``-1 / mean(ln gate)``, characters until what was stored has faded to 1/e, (H,).
        static: ``-1 / ln gate`` where the biases alone decide, (H,) (Mahto et al. 2021).
    """

    layer: int
    gate: str
    tau: np.ndarray
    static: np.ndarray

    def quantiles(self) -> list[float]:
        """Return tau at 5, 25, 50, 75 and 95 % of the neurons."""
        return np.quantile(self.tau, QUANTILES).tolist()

    def longest(self, count: int = EXTREMES) -> list[tuple[str, float]]:
        """Return the neurons that remember longest, with their tau."""
        return _largest(self.tau, self.layer, self.gate, count)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        data: dict[str, Any] = {"layer": self.layer, "gate": self.gate}
        data["quantiles"] = dict(zip(map(str, QUANTILES), self.quantiles(), strict=True))
        data["longest"] = [{"neuron": name, "tau": tau} for name, tau in self.longest()]
        return data | {"tau": self.tau.tolist(), "static": self.static.tolist()}


@dataclass(frozen=True)
class Gates:
    """All gates of a network.

    Args:
        gates: Layer by layer, in PyTorch's order.
        timescales: One per layer.
    """

    gates: tuple[Gate, ...]
    timescales: tuple[Timescale, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "gates": [gate.to_json() for gate in self.gates],
            "timescales": [timescale.to_json() for timescale in self.timescales],
        }


@dataclass(frozen=True)
class GateFindings:
    """The whole result of ``inspect gates``.

    Args:
        run: What names the run to a command.
        model: Cell and size, as text.
        chars: Characters that were counted.
        documents: Documents they come from.
        float_error: Largest difference between the recorded outputs and those of the cell's definition.
        trained: What the network does.
        untrained: What the same network did before training.
    """

    run: str
    model: str
    chars: int
    documents: int
    float_error: float
    trained: Gates
    untrained: Gates

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the untrained network's stand apart."""
        data = {key: getattr(self, key) for key in ("run", "model", "chars", "documents", "float_error")}
        return data | self.trained.to_json() | {"untrained": self.untrained.to_json()}


def find_gates(subject: Subject, progress: Callable[[str], None] = lambda _: None) -> GateFindings:
    """Read the subject's text, both halves, and count how its gates are saturated.

    Raises:
        InspectionError: The cell has no gates.
    """
    config = subject.network.config
    if not subject.network.layers[0].gate_names:
        raise InspectionError(
            f"`{config.cell}` has no gates", "`charrnn inspect neurons` looks at its hidden states"
        )
    progress("reading")
    trained, float_error = read_gates(subject.network, subject.table, subject.pieces)
    progress("reading with the untrained twin")
    untrained, _ = read_gates(subject.twin, subject.table, subject.pieces[::TWIN_STEP])
    return GateFindings(
        run=subject.run,
        model=f"{config.cell} {config.num_layers}×{config.hidden_size}",
        chars=sum(len(piece) - piece.skip for piece in subject.pieces),
        documents=len({piece.document for piece in subject.pieces}),
        float_error=float_error,
        trained=trained,
        untrained=untrained,
    )


def read_gates(network: Network, table: np.ndarray, pieces: Sequence[Piece]) -> tuple[Gates, float]:
    """Return the statistics of every gate, in constant memory, and the recorder's largest error.

    Characters that a piece skips are read and not counted.
    """
    names = network.layers[0].gate_names
    recorder = Recorder(network, table, [n for name in names for n in all_neurons(network, name)])
    sums = _Sums(recorder.neurons, network.config.zoneout, network.readout.weight.device)
    for window in recorder.read(pieces):
        sums.add(_counted(window, pieces))
    return _gates(network, names, sums.means()), recorder.largest_error


def _counted(window: Recorded, pieces: Sequence[Piece]) -> torch.Tensor:
    """Return the values at characters that are text and not skipped, (M, N)."""
    return window.text(np.array([pieces[row].skip for row in window.rows]) - window.begin)


class _Sums:
    """Counts and sums over characters, per neuron; with zoneout states fade by less than the gate says."""

    def __init__(self, neurons: Sequence[Neuron], zoneout: float, device: torch.device) -> None:
        self._zoneout = zoneout
        bounds = [TANH_BOUNDS if n.kind in TANH_GATES else SIGMOID_BOUNDS for n in neurons]
        self._low, self._high = torch.tensor(bounds, dtype=torch.float32, device=device).t()
        self._keeping = torch.tensor([n.kind in KEEPING_GATES for n in neurons], device=device)
        self._total = torch.zeros(4, len(neurons), dtype=torch.float64, device=home_of_sums(device))
        self._count = 0

    def add(self, values: torch.Tensor) -> None:
        """Add characters, (M, N)."""
        values = values.float()
        # a gate of exactly 0 forgets everything, and its logarithm must stay finite
        kept = kept_share(torch.where(self._keeping, values, 1.0), self._zoneout)
        logs = kept.clamp(min=1e-38).log()
        parts = (values < self._low, values > self._high, values, logs)
        sums = torch.stack([part.sum(0, dtype=torch.float32) for part in parts])
        self._total += sums.to(self._total.device).double()
        self._count += len(values)

    def means(self) -> np.ndarray:
        """Return left and right share, mean and mean logarithm, (4, N)."""
        return (self._total / max(1, self._count)).cpu().numpy()


def _gates(network: Network, names: Sequence[str], means: np.ndarray) -> Gates:
    """Deal the columns, gate by gate and layer by layer, to gates and timescales."""
    layers = len(network.layers)
    left, right, mean, log = means.reshape(4, len(names), layers, -1)
    gates = [
        Gate(layer + 1, name, left[i, layer], right[i, layer], mean[i, layer])
        for layer in range(layers)
        for i, name in enumerate(names)
    ]
    keeping = [(i, name) for i, name in enumerate(names) if name in KEEPING_GATES]
    timescales = [
        Timescale(
            layer + 1,
            name,
            timescale(log[i, layer]),
            _static(network.layers[layer], name, network.config.zoneout),
        )
        for layer in range(layers)
        for i, name in keeping
    ]
    return Gates(tuple(gates), tuple(timescales))


def kept_share(gate: torch.Tensor, zoneout: float) -> torch.Tensor:
    """Return what is left of a state after a timestep, given the gate that keeps it."""
    return zoneout + (1 - zoneout) * gate


def timescale(mean_log: np.ndarray) -> np.ndarray:
    """Return characters until what is multiplied at every one has faded to 1/e, at most 1,000,000."""
    return 1.0 / np.maximum(-mean_log, 1.0 / MAX_TAU)


def _static(layer: RecurrentLayer, gate: str, zoneout: float) -> np.ndarray:
    """Return the timescale of a gate at an input and a state of zeros: what its biases alone give, (H,)."""
    layer = copy.deepcopy(layer).cpu().double()
    inputs = torch.zeros(1, 1, layer.input_size, dtype=torch.float64)
    with torch.no_grad():
        traces, _ = layer.trace(inputs, layer.zero_state(1), torch.zeros(1, 1, dtype=torch.bool), {gate})
    return timescale(kept_share(traces[gate], zoneout).log().flatten().numpy())


def _largest(values: np.ndarray, layer: int, kind: str, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-values, kind="stable")[:count]
    return [(str(Neuron(layer, kind, int(i))), float(values[i])) for i in order]
