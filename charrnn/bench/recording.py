"""``charrnn bench inspect``: recording beside the plain forward pass, and correlating."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from charrnn.bench.machine import GIGA, facts, load, matmul
from charrnn.bench.stock import check_cell
from charrnn.bench.timing import Spread, Task, measure
from charrnn.bench.training import SECONDS, Shape
from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection.choice import scored_labels
from charrnn.inspection.hypotheses import for_kind, profile_text
from charrnn.inspection.pieces import Piece, cut_pieces
from charrnn.inspection.record import ROWS, WINDOW, Recorder, all_neurons
from charrnn.inspection.scores import Moments
from charrnn.model.network import Network, new_network
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources

TEXTS = ("harbour", "gavan", "ferry")
"""Short texts that come with the program."""
PIECE_CHARS = 8 * WINDOW
"""As many as give a full set of rows. The first window of each is checked, so one in 8; in a long text it is
fewer, and recording costs less than it does here."""


@dataclass(frozen=True)
class InspectBench:
    """What reading, recording and correlating take.

    Args:
        machine: The machine.
        cell: Of the network.
        hidden_size: H.
        num_layers: L.
        chars: Characters read, side by side.
        neurons: Neurons recorded.
        hypotheses: Hypotheses that they are correlated with.
        rounds: Rounds measured.
        max_error: Largest difference of what is recorded from the cell's definition.
        forward_chars_per_second: Of the plain forward pass, without readout; median.
        record_chars_per_second: Of recording.
        record_cost: How many times as long recording takes as the forward pass, of the same round each.
        score_chars_per_second: Of correlating all neurons with all hypotheses once they are recorded.
        score_cost: How many times as long that takes as the forward pass.
        forward_gflops: Useful work of the forward pass per second, 10^9.
        matmul_gflops: Of the fastest of a few matrix products with as many threads, between the others.
    """

    machine: dict[str, Any]
    cell: str
    hidden_size: int
    num_layers: int
    chars: int
    neurons: int
    hypotheses: int
    rounds: int
    max_error: float
    forward_chars_per_second: float
    record_chars_per_second: float
    record_cost: Spread
    score_chars_per_second: float
    score_cost: Spread
    forward_gflops: float
    matmul_gflops: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        data = asdict(self)
        return data.pop("machine") | data


def bench_inspect(
    cell: str = "lstm",
    hidden_size: int = 512,
    num_layers: int = 3,
    rounds: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> InspectBench:
    """Measure inspection on the CPU, with random weights on the texts that come with the program.

    Args:
        cell: ``lstm`` or ``gru``.
        hidden_size: H.
        num_layers: L.
        rounds: None takes about a minute.
        progress: Told what is being done.

    Raises:
        InspectionError: What is recorded misses the definition of the cell.
    """
    shape = Shape(cell, hidden_size, num_layers, ROWS, WINDOW)
    check_cell(cell)
    record = facts()
    progress("labelling the text")
    pieces, table = _pieces()
    config = ModelConfig(cell, hidden_size, num_layers, 0, 0.0)
    network = new_network(config, int(table.max()) + 1).eval()
    recorder = Recorder(network, table, all_neurons(network, network.layers[0].neuron_kind))
    chars = sum(map(len, pieces))
    progress("recording")
    recorded = _recorded(recorder, pieces)
    tasks = [
        Task("forward", lambda: _read(network, pieces, table), chars),
        Task("record", lambda: [None for _ in recorder.read(pieces)], chars),
        Task("score", lambda: _score(recorded, len(recorder.neurons)), chars),
        matmul(),
    ]
    progress(f"timing {chars:,} characters")
    timings = measure(tasks, rounds, SECONDS)
    return InspectBench(
        machine=record | {"load_after": load()},
        cell=cell,
        hidden_size=hidden_size,
        num_layers=num_layers,
        chars=chars,
        neurons=len(recorder.neurons),
        hypotheses=pieces[0].labels.shape[1],
        rounds=timings.rounds,
        max_error=recorder.largest_error,
        forward_chars_per_second=timings.rate("forward"),
        record_chars_per_second=timings.rate("record"),
        record_cost=timings.ratio("forward", "record"),
        score_chars_per_second=timings.rate("score"),
        score_cost=timings.ratio("forward", "score"),
        forward_gflops=2 * shape.recurrent_weights * timings.rate("forward") / GIGA,
        matmul_gflops=timings.rate("matmul") / GIGA,
    )


def _pieces() -> tuple[list[Piece], np.ndarray]:
    """Return as many pieces as are read side by side, and the table from place to id."""
    corpus = open_corpus(find_sources(TEXTS), TextConfig())
    whole = (0, len(corpus.places))
    profile = profile_text(corpus.text(*whole))
    labelled = cut_pieces(corpus, [whole], for_kind(profile.kind), profile)
    parts = [part for piece in labelled for part in _parts(piece)][:ROWS]
    return parts, corpus.id_table(corpus.training_vocabulary(*whole))


def _parts(piece: Piece) -> list[Piece]:
    cuts = [slice(b, b + PIECE_CHARS) for b in range(0, len(piece) - PIECE_CHARS + 1, PIECE_CHARS)]
    return [
        replace(piece, text=piece.text[c], places=piece.places[c], labels=piece.labels[c], skip=0)
        for c in cuts
    ]


def _recorded(recorder: Recorder, pieces: Sequence[Piece]) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    """Return activations, layer by layer, (M, n), and labels, (M, Y), of every window."""
    windows = []
    for window in recorder.read(pieces):
        labels = scored_labels(window, pieces)
        parts = [part.flatten(0, 1) for part in window.parts]
        windows.append((parts, torch.from_numpy(labels.reshape(len(parts[0]), -1))))
    return windows


def _score(windows: Sequence[tuple[list[torch.Tensor], torch.Tensor]], neurons: int) -> np.ndarray:
    moments = Moments(neurons, windows[0][1].shape[1])
    for parts, labels in windows:
        moments.add(parts, labels)
    return moments.correlations()


@torch.inference_mode()
def _read(network: Network, pieces: Sequence[Piece], table: np.ndarray) -> None:
    """Read the text on the fast path, in the windows in which it is recorded."""
    ids = torch.from_numpy(np.stack([table[piece.places] for piece in pieces]))
    state = network.initial_state(len(pieces))
    for window in ids.split(WINDOW, dim=1):
        _, state = network.hidden(window, state)
