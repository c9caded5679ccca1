"""What neurons did over the half of the text that reports: figures of the chosen ones, correlations of all.

The text is read once. Of the chosen neurons the values of the pieces that are read side by side are held
until these end; then they go into figures, and only the passages that may be shown stay. So nothing here but
the labels grows with the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from charrnn.devices import to_device
from charrnn.inspection.choice import Choice, add, scored_labels
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.measures import Labels, Series, Setting, Tally
from charrnn.inspection.null import Units, make_units
from charrnn.inspection.passages import Passages, Spot
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, raw_values
from charrnn.inspection.scores import Moments
from charrnn.model.network import Network

SETTING_CHARS = 100_000
"""Characters of the choosing half, evenly from the whole, that set thresholds and shapes."""
MIN_DOCUMENTS = 20
"""With fewer documents, intervals come from a bootstrap over pieces."""
RANDOM_SEED = 0

Pair = tuple[int, int]
"""Row of a neuron and column of a hypothesis."""


@dataclass(frozen=True)
class Report:
    """What was read of the reporting half.

    Args:
        pieces: The half.
        r: Correlations of all neurons with all hypotheses, (N, Y).
        figures: Of the wanted pairs.
        passages: Of the same.
        units: What is swapped for the null.
        sample: Activations of all neurons at the units' positions, (U, P, N).
        float_error: Largest difference between the recorded outputs and those of the cell's definition.
        gate_error: The same of gates at a single step.
        state_error: The same of states, given the recorded gates.
    """

    pieces: list[Piece]
    r: np.ndarray
    figures: dict[Pair, Tally]
    passages: dict[Pair, Passages]
    units: Units
    sample: torch.Tensor
    float_error: float
    gate_error: float
    state_error: float


def read_report(
    network: Network,
    table: np.ndarray,
    choice: Choice,
    wanted: Sequence[Pair],
    halves: tuple[list[Piece], list[Piece]],
    hypotheses: Sequence[Hypothesis],
) -> Report:
    """Read the reporting half, and some of the choosing one first.

    Args:
        network: In evaluation mode.
        table: Place to id, (U,).
        choice: What the choosing half says.
        wanted: Neurons and hypotheses whose figures are wanted.
        halves: The pieces that choose, and those that report.
        hypotheses: In column order.
    """
    chooses, reports = halves
    rows = sorted({row for row, _ in wanted})
    shown = Recorder(network, table, [choice.neurons[row] for row in rows])
    settings = _settings(shown, rows, choice, wanted, _thinned(chooses), hypotheses)
    texts = _Texts(reports)
    figures = {pair: texts.tally(pair, hypotheses, settings[pair]) for pair in settings}
    passages = {pair: texts.passages(pair, hypotheses, settings[pair]) for pair in settings}
    recorder, units = Recorder(network, table, choice.neurons), make_units(reports)
    moments = Moments(*choice.r.shape, recorder.device)
    # the sample of all neurons stays where they are recorded
    sample = torch.empty(units.pieces.size, len(choice.neurons), device=recorder.device)
    spots, held = _Spots(units), _Held(rows)
    for window in recorder.read(reports):
        if window.begin == 0:
            texts.count(held, figures, passages)
        add(moments, window, scored_labels(window, reports))
        held.add(window, reports)
        spots.add(window, sample)
    texts.count(held, figures, passages)
    return Report(
        pieces=reports,
        r=moments.correlations(),
        figures=figures,
        passages=passages,
        units=units,
        sample=sample.view(*units.pieces.shape, len(choice.neurons)),
        float_error=max(recorder.largest_error, shown.largest_error),
        gate_error=max(recorder.gate_error, shown.gate_error),
        state_error=max(recorder.state_error, shown.state_error),
    )


def _settings(
    shown: Recorder,
    rows: list[int],
    choice: Choice,
    wanted: Sequence[Pair],
    pieces: list[Piece],
    hypotheses: Sequence[Hypothesis],
) -> dict[Pair, Setting]:
    """Return what some of the choosing half decides about every pair."""
    values = raw_values(shown, pieces)
    settings = {}
    for row, column in dict.fromkeys(wanted):
        a = [own[piece.skip :, rows.index(row)] for piece, own in zip(pieces, values, strict=True)]
        chosen = Series(a, _labels(pieces, column), [piece.document for piece in pieces])
        settings[row, column] = Setting.of(chosen, hypotheses[column].type, choice.r[row, column])
    return settings


def _labels(pieces: Sequence[Piece], column: int) -> list[np.ndarray]:
    return [piece.labels[piece.skip :, column] for piece in pieces]


def _thinned(pieces: list[Piece]) -> list[Piece]:
    total = sum(map(len, pieces))
    if total <= SETTING_CHARS:
        return pieces
    keep = max(2, int(len(pieces) * SETTING_CHARS / total))
    return [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, keep).astype(int))]


class _Texts:
    """The reporting half, as far as it is known before it is read: characters, pairs of them, documents."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        documents = [piece.document for piece in pieces]
        few = len(set(documents)) < MIN_DOCUMENTS
        self._documents = list(range(len(pieces))) if few else documents
        self._chars = np.unique(np.concatenate([piece.places for piece in pieces]))
        self._pairs = np.unique(np.concatenate([self._pairs_of(piece) for piece in pieces]))
        random = np.random.default_rng(RANDOM_SEED)
        number = int(random.integers(len(pieces)))
        self._anywhere: Spot = (number, int(random.integers(pieces[number].skip, len(pieces[number]))))

    def _pairs_of(self, piece: Piece) -> np.ndarray:
        """Return a number for every scored character with the one before it."""
        chars = np.searchsorted(self._chars, piece.places[piece.skip :])
        before = np.concatenate(([len(self._chars)], chars))[:-1]  # nothing comes before the first
        return chars + (len(self._chars) + 1) * before

    def tally(self, pair: Pair, hypotheses: Sequence[Hypothesis], setting: Setting) -> Tally:
        """Return what counts a pair's figures."""
        groups = len(self._chars), len(self._pairs)
        return Tally(hypotheses[pair[1]].type, setting, Labels.of(_labels(self._pieces, pair[1])), groups)

    def passages(self, pair: Pair, hypotheses: Sequence[Hypothesis], setting: Setting) -> Passages:
        """Return what keeps a pair's passages."""
        labels = np.concatenate(_labels(self._pieces, pair[1]))
        on, off = int((labels > 0).sum()), int((labels <= 0).sum())
        return Passages(pair[1], hypotheses[pair[1]].type == "binary", setting, on, off, self._anywhere)

    def count(self, held: _Held, figures: dict[Pair, Tally], passages: dict[Pair, Passages]) -> None:
        """Count the values of the pieces that have ended, and let them go."""
        numbers, values = held.emptied()
        if not numbers:
            return
        pieces = [self._pieces[number] for number in numbers]
        documents = [self._documents[number] for number in numbers]
        chars = np.concatenate([np.searchsorted(self._chars, piece.places[piece.skip :]) for piece in pieces])
        pairs = np.searchsorted(self._pairs, np.concatenate([self._pairs_of(piece) for piece in pieces]))
        for (row, column), tally in figures.items():
            own = [held.row(part, row) for part in values]
            a = [part[piece.skip :] for piece, part in zip(pieces, own, strict=True)]
            tally.add(Series(a, _labels(pieces, column), documents), chars, pairs)
            for number, piece, part in zip(numbers, pieces, own, strict=True):
                passages[row, column].add(number, piece, part)


class _Held:
    """The values of some neurons over the pieces that are being read."""

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows
        self._values: dict[int, np.ndarray] = {}

    def add(self, window: Recorded, pieces: Sequence[Piece]) -> None:
        """Add a window of all neurons."""
        values = _columns(window.parts, self._rows).permute(1, 2, 0).float().cpu().numpy()  # (B, n, T)
        for own, number, length in zip(values, window.rows, window.length.tolist(), strict=True):
            if number not in self._values:
                self._values[number] = np.empty((len(self._rows), len(pieces[number])), dtype=np.float32)
            self._values[number][:, window.begin : window.begin + length] = own[:, :length]

    def row(self, values: np.ndarray, row: int) -> np.ndarray:
        """Return one neuron's of a piece's values."""
        return values[self._rows.index(row)]

    def emptied(self) -> tuple[list[int], list[np.ndarray]]:
        """Return the numbers of the pieces, ascending, and their values, (n, len(piece)), and forget both."""
        held, self._values = self._values, {}
        return sorted(held), [held[number] for number in sorted(held)]


def _columns(parts: Sequence[torch.Tensor], rows: list[int]) -> torch.Tensor:
    """Return some neurons of the parts, ascending, side by side: (T, B, n)."""
    picked, begin = [], 0
    for part in parts:
        own = [row - begin for row in rows if begin <= row < begin + part.shape[2]]
        picked.append(part.index_select(2, to_device(np.array(own, dtype=np.int64), part.device)))
        begin += part.shape[2]
    return torch.cat(picked, dim=2)


class _Spots:
    """The positions of units, piece by piece, and their rows in the sample."""

    def __init__(self, units: Units) -> None:
        pieces, at = units.pieces.ravel(), units.positions.ravel()
        order = np.lexsort((at, pieces))
        numbers, first = np.unique(pieces[order], return_index=True)
        parts = np.split(order, first[1:]) if len(order) else []
        self._spots = {int(n): (at[part], part) for n, part in zip(numbers, parts, strict=True)}

    def add(self, window: Recorded, sample: torch.Tensor) -> None:
        """Put the activations of a window at those positions into the sample, (U P, N)."""
        times, rows, places = [], [], []
        for row, (number, length) in enumerate(zip(window.rows, window.length, strict=True)):
            at, where = self._spots.get(number, (np.empty(0, int), np.empty(0, int)))
            here = slice(*np.searchsorted(at, (window.begin, window.begin + length)))
            times.append(at[here] - window.begin)
            rows.append(np.full(len(times[-1]), row))
            places.append(where[here])
        t, b, place = (to_device(np.concatenate(part), sample.device) for part in (times, rows, places))
        if len(place):
            sample[place] = torch.cat([part[t, b] for part in window.parts], dim=1).float()
