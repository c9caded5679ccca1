"""What each character of the page costs more while a neuron is held, for neurons that were held at all."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import torch

from charrnn.inspection.findings import Findings
from charrnn.inspection.names import parse_neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.subject import Subject
from charrnn.model.holds import Held, held_losses
from charrnn.text.vocabulary import BOUNDARY

MOST = 5
"""Neurons that are held: each costs one more reading of the text, step by step."""

HELD = (
    "The neuron is held at the value of the test (its mean, or zero) at every step, before anything follows "
    "from it, so that readout and recurrence both see it; every piece is read from a state of zeros."
)


def delta_losses(
    subject: Subject, findings: Findings, pieces: Sequence[Piece], most: int = MOST
) -> dict[str, np.ndarray]:
    """Hold each of the best neurons over whole pieces, at the value it was held at when it was tested.

    Args:
        subject: What was inspected.
        findings: What was found; neurons without a cause, or held at varying values, are left out.
        pieces: The text.
        most: Neurons at most.

    Returns:
        Bits for each character of the joined pieces, (N,), NaN at the first of a piece, by neuron.
    """
    holds = dict([*_holds(subject, findings).items()][:most])
    if not holds:
        return {}
    ids, length = _rows(subject, pieces), max(map(len, pieces))
    copies = [[], *([hold] for hold in holds.values())]
    nats = held_losses(subject.network, ids, copies).cpu().double().numpy()  # (K, R, T - 1)
    bits = np.full((len(holds), len(pieces), length), np.nan)
    bits[..., 1:] = (nats[1:] - nats[:1]) / log(2)
    kept = [bits[:, row, : len(piece)] for row, piece in enumerate(pieces)]
    return dict(zip(holds, np.concatenate(kept, axis=1), strict=True))


def _holds(subject: Subject, findings: Findings) -> dict[str, Held]:
    """Return what is held, by neuron, the best of the findings first."""
    network, layer = subject.network, subject.network.layers[0]
    kinds = (*layer.state_names, *layer.gate_names)
    holds: dict[str, Held] = {}
    for row in findings.rows:
        if row.cause is not None and row.cause.alone.value is not None:
            neuron = parse_neuron(row.neuron, kinds, len(network.layers), network.config.hidden_size)
            held = Held(neuron.layer, neuron.kind, neuron.index, row.cause.alone.value)
            holds.setdefault(row.neuron, held)
    return holds


def _rows(subject: Subject, pieces: Sequence[Piece]) -> torch.Tensor:
    """Return one row of ids per piece, filled up with boundaries, which come after all that counts."""
    ids = np.full((len(pieces), max(map(len, pieces))), BOUNDARY, dtype=np.int64)
    for row, piece in zip(ids, pieces, strict=True):
        row[: len(piece)] = subject.table[piece.places]
    return torch.from_numpy(ids).to(subject.network.readout.weight.device)
