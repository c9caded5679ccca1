"""What the chosen neurons did over the text: raw values of those that are shown, a sample of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from charrnn.devices import to_device
from charrnn.inspection.measures import Series
from charrnn.inspection.names import Neuron
from charrnn.inspection.null import Units, make_units
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, raw_values
from charrnn.model.network import Network

SETTING_CHARS = 100_000
"""Characters of the choosing half, evenly from the whole, that set thresholds and shapes."""
MIN_DOCUMENTS = 20
"""With fewer documents, intervals come from a bootstrap over pieces."""


@dataclass(frozen=True)
class Report:
    """Activations of the chosen neurons over both halves.

    Args:
        pieces: The half that reports.
        column: Number of a neuron among all of its kind, to its column in ``values``.
        values: By piece, (len(piece), n).
        setting_pieces: Some of the half that chooses.
        setting_values: The same for those.
        units: What is swapped for the null.
        sample: Activations of all neurons at the units' positions, (U, P, N).
        float_error: Largest difference between the recorded outputs and those of the cell's definition.
    """

    pieces: list[Piece]
    column: dict[int, int]
    values: list[np.ndarray]
    setting_pieces: list[Piece]
    setting_values: list[np.ndarray]
    units: Units
    sample: torch.Tensor
    float_error: float

    @classmethod
    def read(
        cls,
        network: Network,
        table: np.ndarray,
        neurons: Sequence[Neuron],
        rows: Sequence[int],
        halves: tuple[list[Piece], list[Piece]],
        *,
        figures_only: bool = False,
    ) -> Report:
        """Read both halves.

        Args:
            network: In evaluation mode.
            table: Place to id, (U,).
            neurons: All of one kind.
            rows: Numbers of those whose values are kept.
            halves: The pieces that choose, and those that report.
            figures_only: Read the reporting half alone, without a sample of the other neurons.
        """
        chooses, reports = halves
        shown = Recorder(network, table, [neurons[row] for row in rows])
        units = make_units([] if figures_only else reports)
        recorder = shown if figures_only else Recorder(network, table, neurons)
        columns = list(range(len(rows))) if figures_only else list(rows)
        values, sample = _read(recorder, reports, columns, units)
        setting = [] if figures_only else _thinned(chooses)
        return cls(
            pieces=reports,
            column={row: i for i, row in enumerate(rows)},
            values=values,
            setting_pieces=setting,
            setting_values=raw_values(shown, setting),
            units=units,
            sample=sample,
            float_error=max(recorder.largest_error, shown.largest_error),
        )

    def joined(self, row: int, hypothesis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return activations, labels and current characters at scored positions, each (N,)."""
        return self.series(row, hypothesis).joined()[:3]

    def series(self, row: int, hypothesis: int, *, chooses: bool = False) -> Series:
        """Return a neuron and a hypothesis over one half."""
        pieces, values = (self.setting_pieces, self.setting_values) if chooses else (self.pieces, self.values)
        column = self.column[row]
        documents = [piece.document for piece in pieces]
        few = len(set(documents)) < MIN_DOCUMENTS
        return Series(
            a=[v[piece.skip :, column] for piece, v in zip(pieces, values, strict=True)],
            y=[piece.labels[piece.skip :, hypothesis] for piece in pieces],
            chars=[piece.places[piece.skip :].astype(np.int64) for piece in pieces],
            documents=list(range(len(pieces))) if few else documents,
        )


def _thinned(pieces: list[Piece]) -> list[Piece]:
    total = sum(map(len, pieces))
    if total <= SETTING_CHARS:
        return pieces
    keep = max(2, int(len(pieces) * SETTING_CHARS / total))
    return [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, keep).astype(int))]


def _read(
    recorder: Recorder, pieces: list[Piece], rows: list[int], units: Units
) -> tuple[list[np.ndarray], torch.Tensor]:
    """Return the values of some neurons over every piece, and of all neurons at the units' positions."""
    values = [np.empty((len(piece), len(rows)), dtype=np.float32) for piece in pieces]
    # the sample of all neurons stays where they are recorded
    sample = torch.empty(
        units.pieces.size, len(recorder.neurons), device=recorder.network.readout.weight.device
    )
    spots = _spots(units)
    for window in recorder.read(pieces):
        shown = window.values[..., rows].float().cpu().numpy()
        for i, (number, length) in enumerate(zip(window.rows, window.length, strict=True)):
            values[number][window.begin : window.begin + length] = shown[i, :length]
        _sample(window, spots, sample)
    return values, sample.view(*units.pieces.shape, len(recorder.neurons))


def _sample(window: Recorded, spots: dict[int, tuple[np.ndarray, np.ndarray]], sample: torch.Tensor) -> None:
    """Put the values of a window's sampled positions into their rows of the sample."""
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    for i, (number, length) in enumerate(zip(window.rows, window.length, strict=True)):
        if number in spots:
            at, where = spots[number]
            here = slice(*np.searchsorted(at, (window.begin, window.begin + length)))
            taken.append((i * window.values.shape[1] + at[here] - window.begin, where[here]))
    if taken:
        at, where = (to_device(np.concatenate(part), sample.device) for part in zip(*taken, strict=True))
        sample[where] = window.values.flatten(0, 1)[at].float()


def _spots(units: Units) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return, by piece, the positions that are sampled, ascending, and their rows in the sample."""
    pieces, at = units.pieces.ravel(), units.positions.ravel()
    order = np.lexsort((at, pieces))
    numbers, first = np.unique(pieces[order], return_index=True)
    parts = np.split(order, first[1:])
    return {int(n): (at[part], part) for n, part in zip(numbers, parts, strict=True)} if len(order) else {}
