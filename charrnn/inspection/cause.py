"""Is a neuron used? It is held while the network reads, and the cost is compared with that of its likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import log

import numpy as np
import torch

from charrnn.errors import InspectionError
from charrnn.inspection.figures import Cause, Effect
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, raw_values
from charrnn.model.holds import Held, held_log_probs, held_losses
from charrnn.model.network import Network

ROWS, ROW_CHARS = 25, 400
"""Text that is read once for every held neuron: 10,000 characters, in more rows where documents are short."""
MIN_ROW_CHARS = 4
WARM_UP = 64
CONTROLS = 20
AT_ONCE = 640
"""Rows that are read at the same time: any more leave the processor's cache."""
ALIKE = 0.7
"""Neurons that correlate this much are held as a group."""
MAX_GROUP = 8
MIN_ON = 200
"""Characters with the hypothesis on that the text is chosen to have, if it can."""
MIN_OFF_SHARE = 0.1
"""Where a hypothesis is off more rarely, it has no off side to speak of."""
DRAWS = 200
ABLATIONS = ("mean", "zero", "resample")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Excerpts:
    """The text that is read for interventions.

    Args:
        spots: Number of a piece and first character in it, for each row.
        ids: (R, T) int64.
        labels: NaN where they are not scored, (R, T - 1, Y).
        documents: The document of each row.
    """

    spots: Sequence[tuple[int, int]]
    ids: torch.Tensor
    labels: np.ndarray
    documents: np.ndarray


class Interventions:
    """Holds neurons while the network reads some of the reporting half.

    Args:
        network: In evaluation mode.
        table: Place to id, (U,).
        pieces: The half of the text that reports.
        neurons: All neurons of one kind, in the order of ``values``.
        values: Activations of all of them at some of the text, (M, N): for means and matching controls.
        hypotheses: Columns of the labels that count when text is chosen.
        ablation: ``mean``, ``zero`` or ``resample`` (the neuron's values at the same places of another
            row: of another document, if the excerpts come from several).

    Raises:
        InspectionError: The ablation is unknown.
    """

    def __init__(
        self,
        network: Network,
        table: np.ndarray,
        pieces: Sequence[Piece],
        neurons: Sequence[Neuron],
        values: torch.Tensor,
        hypotheses: Sequence[int],
        ablation: str = "mean",
    ) -> None:
        if ablation not in ABLATIONS:
            raise InspectionError(f"unknown ablation `{ablation}`", f"known: {', '.join(ABLATIONS)}")
        self.network = network
        self.table = table
        self.pieces = pieces
        self.neurons = list(neurons)
        self.ablation = ablation
        excerpts = choose_excerpts(pieces, table, hypotheses)
        self.excerpts = replace(excerpts, ids=excerpts.ids.to(values.device))
        self.mean, self._std = (part.cpu().numpy() for part in (values.mean(0), values.std(0)))
        self._values = values
        self._alike: dict[int, tuple[int, ...]] = {}
        self._recorded: dict[int, torch.Tensor] = {}
        self._deltas: dict[tuple[int, ...], np.ndarray] = {}
        self._bare: np.ndarray | None = None

    def causes(self, wanted: Sequence[tuple[int, int]], progress: Progress = lambda _: None) -> list[Cause]:
        """Return what holding neurons does, for pairs of a neuron's number and a hypothesis's column.

        Controls are held only beside what surely costs something: else there is nothing to compare.
        """
        columns: dict[int, list[int]] = {}
        for neuron, column in wanted:
            columns.setdefault(neuron, []).append(column)
        groups = {neuron: self.alike(neuron) for neuron in columns}
        alone = [(neuron,) for neuron in groups]
        self._read([*alone, *groups.values()], progress)
        other = self._held_otherwise()
        other._read(alone, progress)
        controls = {(n,): [(i,) for i in self.controls(n)] for n in groups if self._costs((n,), columns[n])}
        controls |= {
            group: self._control_groups(group)
            for n, group in groups.items()
            if len(group) > 1 and self._costs(group, columns[n])
        }
        self._read([held for others in controls.values() for held in others], progress)
        return [
            Cause(
                self._effect((neuron,), controls.get((neuron,), []), column),
                self._effect(group, controls.get(group, []), column) if len(group) > 1 else None,
                other._effect((neuron,), [], column),
            )
            for neuron, column in wanted
            for group in [groups[neuron]]
        ]

    def _costs(self, held: tuple[int, ...], columns: Sequence[int]) -> bool:
        """Return whether holding neurons surely costs something where one of some hypotheses is on."""
        delta, excerpts = self._deltas[held], self.excerpts
        labels = (excerpts.labels[..., column] for column in columns)
        return any(_interval(delta, own, excerpts.documents)[0] > 0 for own in labels)

    def _held_otherwise(self) -> Interventions:
        """Return the same with neurons resampled, or at their mean where they are resampled here."""
        other = copy(self)
        other.ablation = "mean" if self.ablation == "resample" else "resample"
        other._deltas = {}
        return other

    def delta_bits(self, neuron: int) -> np.ndarray:
        """Return what holding one neuron costs at every character of the excerpts, in bits, (R, T - 1)."""
        self._read([(neuron,)])
        return self._deltas[neuron,]

    def next_characters(self, neuron: int, column: int) -> np.ndarray:
        """Return what a neuron adds to the log probability of each next symbol where on, (V,)."""
        where = torch.from_numpy(self.excerpts.labels[..., column] > 0).to(self.excerpts.ids.device)
        ids = self.excerpts.ids
        held = held_log_probs(self.network, ids, [self.held(neuron)], where)
        return (held_log_probs(self.network, ids, [], where) - held).cpu().numpy()

    def values_of(self, neuron: int) -> np.ndarray:
        """Return a neuron's activations at some of the text, (M,)."""
        return self._values[:, neuron].cpu().numpy()

    def alike(self, neuron: int) -> tuple[int, ...]:
        """Return a neuron and up to seven that correlate with it by at least .7, the most alike first."""
        return self._all_alike(neuron)[:MAX_GROUP]

    def _all_alike(self, neuron: int) -> tuple[int, ...]:
        if neuron not in self._alike:
            self._alike[neuron] = self._correlated(neuron)
        return self._alike[neuron]

    def _correlated(self, neuron: int) -> tuple[int, ...]:
        values = self._values - self._values.mean(0)
        own = values[:, neuron]
        scale = (values.square().sum(0) * own.square().sum()).sqrt().clamp(min=1e-12)
        r = ((values.t() @ own) / scale).abs().cpu().numpy()
        r[neuron] = 2.0
        order = np.argsort(-r, kind="stable")
        return tuple(int(i) for i in order if r[i] >= ALIKE)

    def controls(self, neuron: int) -> list[int]:
        """Return up to 20 other neurons of the layer, the closest of all in spread and in outgoing weights.

        Neurons that correlate with this one are left out: they would do its work.
        """
        size = np.log(np.maximum(np.stack([self._std, self._outgoing()]), 1e-6))
        layer, alike = self.neurons[neuron].layer, set(self._all_alike(neuron))
        own = [i for i, other in enumerate(self.neurons) if other.layer == layer and i not in alike]
        apart = np.square(size[:, own] - size[:, [neuron]]) / np.maximum(
            size[:, own].var(1, keepdims=True), 1e-6
        )
        return [own[i] for i in np.argsort(apart.sum(0), kind="stable")[:CONTROLS]]

    def _outgoing(self) -> np.ndarray:
        """Return for every neuron the norm of the weights from its output upwards, (N,)."""
        layers = range(1, len(self.network.layers) + 1)
        norms = [self.network.outgoing(layer).detach().norm(dim=0) for layer in layers]
        return np.array([float(norms[n.layer - 1][n.index]) for n in self.neurons])

    def _control_groups(self, group: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return up to 20 groups of the same size, all different, one control for each member."""
        own = [[i for i in self.controls(member) if i not in group] for member in group]
        groups = dict.fromkeys(tuple(sorted(_one_of_each(own, k))) for k in range(CONTROLS))
        return [other for other in groups if len(other) == len(group)]

    def _read(self, sets: Iterable[tuple[int, ...]], progress: Progress = lambda _: None) -> None:
        """Measure the cost of holding each set of neurons, once."""
        new = [held for held in dict.fromkeys(sets) if held not in self._deltas]
        if self._bare is None:
            self._bare = self._bits([()])[0]
        if self.ablation == "resample":
            self._record({neuron for held in new for neuron in held})
        new.sort(key=lambda held: min((self.neurons[i].layer for i in held), default=0))
        step = max(1, AT_ONCE // len(self.excerpts.ids))
        for first in range(0, len(new), step):
            progress(f"holding neurons ({first} of {len(new)})")
            batch = new[first : first + step]
            for held, bits in zip(batch, self._bits(batch), strict=True):
                self._deltas[held] = bits - self._bare

    def _bits(self, sets: Sequence[tuple[int, ...]]) -> np.ndarray:
        copies = [[self.held(neuron) for neuron in held] for held in sets]
        return held_losses(self.network, self.excerpts.ids, copies).cpu().numpy() / log(2)

    def held(self, neuron: int) -> Held:
        """Return a neuron kept at the value of the ablation."""
        name = self.neurons[neuron]
        if self.ablation == "resample":
            self._record({neuron})
            value = self._recorded[neuron]
        else:
            value = float(self.mean[neuron]) if self.ablation == "mean" else 0.0
        return Held(name.layer, name.kind, name.index, value)

    def activations(self, neurons: Sequence[Neuron]) -> np.ndarray:
        """Return what any neurons do over the excerpts, (R, T, len(neurons)) float32."""
        length = self.excerpts.ids.shape[1]
        cut = [_part(self.pieces[piece], begin, length) for piece, begin in self.excerpts.spots]
        return np.stack(raw_values(Recorder(self.network, self.table, neurons), cut))

    def _record(self, neurons: set[int]) -> None:
        """Record neurons over the excerpts, and give each row the values of another document's."""
        new = sorted(neurons - self._recorded.keys())
        if new:
            values = self.activations([self.neurons[i] for i in new])[donors(self.excerpts.documents)]
            stacked = torch.from_numpy(values).to(self._values.device)
            self._recorded |= {neuron: stacked[..., i] for i, neuron in enumerate(new)}

    def _effect(self, held: tuple[int, ...], controls: Sequence[tuple[int, ...]], column: int) -> Effect:
        labels = self.excerpts.labels[..., column]
        mine = split(self._deltas[held], labels)
        theirs = [split(self._deltas[control], labels) for control in controls]
        low, high = _interval(self._deltas[held], labels, self.excerpts.documents)
        above = low > 0 and all(mine.on > other.on for other in theirs)
        if mine.off is not None:
            above = above and all(mine.on - mine.off > other.on - (other.off or 0.0) for other in theirs)
            above = above and mine.on > mine.off
        value = self.held(held[0]).value
        return Effect(
            held=tuple(str(self.neurons[i]) for i in held),
            value=value if isinstance(value, float) else None,
            on=mine.on,
            off=mine.off,
            on_low=low,
            on_high=high,
            controls_on=tuple(sorted(other.on for other in theirs)),
            beats=bool(above and len(theirs) >= CONTROLS),
        )


def _one_of_each(choices: Sequence[Sequence[int]], k: int) -> list[int]:
    """Return one number from each list, none twice, others for another k; fewer where a list has no more."""
    taken: list[int] = []
    for m, own in enumerate(choices):
        start = (k + 7 * m) % max(1, len(own))
        taken += [i for i in (*own[start:], *own[:start]) if i not in taken][:1]
    return taken


@dataclass(frozen=True)
class OnOff:
    """Mean change of bpc where a hypothesis is on, and where it is off (None where it hardly ever is)."""

    on: float
    off: float | None


def split(delta: np.ndarray, labels: np.ndarray) -> OnOff:
    """Average a change of bpc over characters with a hypothesis on and off, both (R, T)."""
    on, off = labels > 0, labels <= 0  # NaN is neither
    share = off.sum() / max(1, on.sum() + off.sum())
    return OnOff(
        float(delta[on].mean()) if on.any() else 0.0,
        float(delta[off].mean()) if share >= MIN_OFF_SHARE else None,
    )


def _interval(delta: np.ndarray, labels: np.ndarray, documents: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean change where on, from a bootstrap over documents or rows."""
    on = labels > 0
    sums = np.stack([np.where(on, delta, 0).sum(1), on.sum(1)])
    _, unit = np.unique(documents, return_inverse=True)
    if unit.max() + 1 >= CONTROLS:
        sums = np.stack([np.bincount(unit, part) for part in sums])
    drawn = np.random.default_rng(0).integers(sums.shape[1], size=(DRAWS, sums.shape[1]))
    total, count = sums[:, drawn].sum(2)
    low, high = np.quantile(total / np.maximum(count, 1), (0.025, 0.975))
    return float(low), float(high)


def donors(documents: np.ndarray) -> list[int]:
    """Return for each row another one, of another document if there is any; of several, not always the same.

    Args:
        documents: The document of each row, (R,).
    """
    rows = np.arange(len(documents))
    found = []
    for row, document in enumerate(documents):
        others = rows[documents != document] if (documents != document).any() else rows
        found.append(int(others[(row - 1) % len(others)]))
    return found


def row_length(pieces: Sequence[Piece]) -> int:
    """Return the characters of a row: 400, or fewer where less than half of the text is in pieces as long.

    Then half of the text is in pieces that are long enough.
    """
    lengths = np.sort([len(piece) for piece in pieces])[::-1]
    half = int(np.searchsorted(np.cumsum(lengths), lengths.sum() / 2))
    return int(min(ROW_CHARS, lengths[half]))


def _spots(pieces: Sequence[Piece]) -> tuple[list[tuple[int, int]], int]:
    """Return where rows can begin, no two of which overlap, and their length."""
    length = row_length(pieces)
    return [
        (number, begin)
        for number, piece in enumerate(pieces)
        for begin in range(0, len(piece) - length + 1, length)
    ], length


def fits(pieces: Sequence[Piece]) -> bool:
    """Return whether there is text enough to hold neurons on."""
    spots, length = _spots(pieces)
    return len(spots) >= 2 and length >= MIN_ROW_CHARS


def choose_excerpts(pieces: Sequence[Piece], table: np.ndarray, hypotheses: Sequence[int]) -> Excerpts:
    """Take rows evenly from the text, then those that show what is still rarely on.

    Every row is read from a state of zeros. The first 64 characters do not count, or half of a shorter row.

    Raises:
        InspectionError: There are no two rows of text.
    """
    if not fits(pieces):
        raise InspectionError("too little text to hold neurons on", "name a longer one with `--text`")
    spots, length = _spots(pieces)
    wanted = min(len(spots), AT_ONCE, ROWS * ROW_CHARS // length)
    on = np.array([_counts(pieces[piece], begin, length, hypotheses) for piece, begin in spots])
    taken = list(dict.fromkeys(np.linspace(0, len(spots) - 1, wanted // 2).astype(int).tolist()))
    while len(taken) < wanted:
        rest = np.setdiff1d(np.arange(len(spots)), taken)
        total = on[taken].sum(0)
        lacking = [c for c in np.argsort(total, kind="stable") if total[c] < MIN_ON and on[rest, c].any()]
        best = int(rest[on[rest, lacking[0]].argmax()]) if lacking else int(rest[len(rest) // 2])
        taken.append(best)
    chosen = [spots[i] for i in sorted(taken)]
    window = [(pieces[piece], slice(begin, begin + length)) for piece, begin in chosen]
    labels = np.stack([piece.labels[part] for piece, part in window])[:, :-1].copy()
    labels[:, : _warm_up(length)] = np.nan
    ids = torch.from_numpy(np.stack([table[piece.places[part]] for piece, part in window]))
    return Excerpts(chosen, ids, labels, np.array([piece.document for piece, _ in window]))


def _counts(piece: Piece, begin: int, length: int, hypotheses: Sequence[int]) -> np.ndarray:
    """Return how often each hypothesis is on in a row, the warm-up left out."""
    labels = piece.labels[begin + _warm_up(length) : begin + length - 1][:, list(hypotheses)]
    return (labels > 0).sum(0)


def _warm_up(length: int) -> int:
    return min(WARM_UP, length // 2)


def _part(piece: Piece, begin: int, length: int) -> Piece:
    part = slice(begin, begin + length)
    return Piece(
        piece.text[part],
        piece.places[part],
        piece.labels[part],
        WARM_UP,
        piece.document,
        piece.begin + begin,
        piece.chooses,
    )
