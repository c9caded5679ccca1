"""What the interactive page shows: some text and all that a few neurons did on it, as small integers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charrnn.errors import InspectionError
from charrnn.inspection.findings import Findings
from charrnn.inspection.hypotheses import Hypothesis
from charrnn.inspection.names import Neuron, parse_neuron
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorded, Recorder, readout_neurons, readout_of
from charrnn.inspection.subject import Subject
from charrnn.text.vocabulary import ESCAPE, Vocabulary, escape_nats

MAX_CHARS = 100_000
MAX_NEURONS = 40
NEXT = 5
"""Next characters that are named."""
STEPS = 127
"""Steps on each side of zero that an activation is rounded to."""
DELTA_STEPS_PER_BIT = 31
"""Reaches to ±4 bits, which is enough for all but a few characters."""
SURPRISAL_STEPS_PER_BIT = 10
NONE = 255
"""Stands for no value, in arrays of bytes; in wider ones their largest number does."""
END, UNKNOWN = -1, -2
"""Stand for the end of a document and for any character that training did not see, among code points."""
_RAW_BYTES = 0xDC00
"""Where Python keeps a byte that is no text (``surrogateescape``)."""


@dataclass(frozen=True)
class Stretch:
    """Where a piece of the text lies.

    Args:
        begin: Its first character on the page.
        skip: Characters that are read but not scored.
        document: Number of its document, from 0.
        offset: Its first character in the document.
    """

    begin: int
    skip: int
    document: int
    offset: int


@dataclass(frozen=True)
class Page:
    """Everything the page shows. K neurons with G gates, N characters, Y hypotheses.

    Args:
        findings: As they are; of the cards, what holding a neuron does to next characters.
        neurons: Their names, asked-for first, then as in the findings.
        gates: Names of the gates.
        hypotheses: ``name type definition lookahead`` of each.
        stretches: The pieces.
        symbols: Code points, ``END`` or ``UNKNOWN``.
        text: Each character as an index into ``symbols``, (N,).
        values: Activations in ``STEPS`` from -1 (0) to 1 (254), (K, N) uint8.
        gate_values: The same for gates, (K, G, N) uint8.
        next_symbols: The likeliest next characters, as indices, the best first, (5, N).
        next_probs: Their probabilities in steps of 1/255, (5, N) uint8.
        surprisal: What each character cost, in tenths of a bit, (N,) uint8.
        labels: Hypothesis values, (N,) uint8 or uint16 each.
        delta_loss: For some neurons what each character costs more without it, in 31sts of a bit
            around 127, (N,) uint8.
        chars_reporting: Characters of the half that the page's text comes from.
        clipped: Largest activation beyond ±1, which is shown as ±1; 0 where there is none.
        facts: ``command``, ``ablation`` and ``sha256`` of the inspected characters.
    """

    findings: dict[str, Any]
    neurons: list[str]
    gates: list[str]
    hypotheses: list[dict[str, Any]]
    stretches: list[Stretch]
    symbols: list[int]
    text: np.ndarray
    values: np.ndarray
    gate_values: np.ndarray
    next_symbols: np.ndarray
    next_probs: np.ndarray
    surprisal: np.ndarray
    labels: list[np.ndarray]
    delta_loss: dict[str, np.ndarray]
    chars_reporting: int
    clipped: float
    facts: dict[str, str]


def make_page(
    subject: Subject,
    findings: Findings,
    *,
    vocabulary: Vocabulary,
    command: str,
    max_chars: int = MAX_CHARS,
    max_neurons: int = MAX_NEURONS,
    delta_loss: Mapping[str, np.ndarray] | None = None,
    ablation: str = "",
) -> Page:
    """Read the half that reports once more and collect what the page shows.

    Args:
        subject: What was inspected.
        findings: What was found.
        vocabulary: The network's, which names the next characters.
        command: What the user typed.
        max_chars: Characters of text, in whole pieces.
        max_neurons: Neurons, the best ones of the findings.
        delta_loss: Neuron to what each character of ``page_pieces`` costs more without it, bits, (N,).
        ablation: What "without it" means, for people.

    Raises:
        InspectionError: The findings name no neuron.
    """
    pieces = page_pieces(subject, max_chars)
    neurons = _neurons(subject, findings, max_neurons)
    reading = _read(subject, pieces, neurons, vocabulary)
    delta_loss = {name: delta_loss[name] for name in map(str, neurons) if name in (delta_loss or {})}
    return Page(
        findings=_shown(findings),
        neurons=[str(neuron) for neuron in neurons],
        gates=list(_layer(subject).gate_names),
        hypotheses=[_described(hypothesis) for hypothesis in subject.hypotheses],
        stretches=_stretches(pieces),
        symbols=reading.symbols.tolist(),
        text=reading.text,
        values=quantised(reading.values),
        gate_values=quantised(reading.gates),
        next_symbols=reading.next_symbols,
        next_probs=np.rint(reading.next_probs * 255).astype(np.uint8),
        surprisal=_bytes(reading.surprisal * SURPRISAL_STEPS_PER_BIT),
        labels=_labels(pieces),
        delta_loss={name: _delta(values) for name, values in delta_loss.items()},
        chars_reporting=sum(len(piece) for piece in subject.half(chooses=False)),
        clipped=_beyond(reading.values),
        facts={"command": command, "ablation": ablation, "sha256": _digest(subject.pieces)},
    )


def _shown(findings: Findings) -> dict[str, Any]:
    """Return findings with curves to four digits; of their cards, what the page cannot make itself."""
    data = findings.to_json()
    kept = ("neuron", "next_characters", "direct_characters", "closing")
    cards = [{"hypothesis": card["row"]["hypothesis"]} | {k: card[k] for k in kept} for card in data["cards"]]
    curves = ("mean", "sd", "untrained_mean", "p_newline")
    rounded = [
        curve | {key: [v and round(v, 4) for v in curve[key]] for key in curves if curve[key] is not None}
        for curve in data.get("counters", ())
    ]
    return data | {"counters": rounded, "cards": cards}


def page_pieces(subject: Subject, max_chars: int = MAX_CHARS) -> list[Piece]:
    """Return the whole pieces of the reporting half that fit, at least one."""
    kept, total = [], 0
    for piece in subject.half(chooses=False):
        if not kept or total + len(piece) <= max_chars:
            kept.append(piece)
            total += len(piece)
    return kept


def quantised(values: np.ndarray) -> np.ndarray:
    """Return values in [-1, 1] as bytes, 0 … 254; what lies beyond counts as ±1, NaN as 255."""
    steps = np.rint(np.clip(values, -1, 1) * STEPS) + STEPS
    return np.where(np.isnan(steps), NONE, steps).astype(np.uint8)


@dataclass(frozen=True)
class _Reading:
    symbols: np.ndarray
    text: np.ndarray
    values: np.ndarray
    gates: np.ndarray
    next_symbols: np.ndarray
    next_probs: np.ndarray
    surprisal: np.ndarray


def _read(
    subject: Subject, pieces: Sequence[Piece], neurons: list[Neuron], vocabulary: Vocabulary
) -> _Reading:
    """Read the pieces once: activations, gates, and what is expected next."""
    codes = np.concatenate([_code_points(piece.text, vocabulary.kind) for piece in pieces])
    ids = np.concatenate([subject.table[piece.places] for piece in pieces])
    named = _id_code_points(vocabulary)
    symbols, index = np.unique(np.concatenate([codes, named]), return_inverse=True)
    small = np.uint8 if len(symbols) <= 256 else np.uint16 if len(symbols) <= 2**16 else np.uint32
    index = index.astype(small)
    text, symbol_of_id = index[: len(codes)], index[len(codes) :]
    activations, best, probs, surprisal = _recorded(subject, pieces, neurons, ids)
    if vocabulary.kind == "chars":
        surprisal += np.where(ids == ESCAPE, [escape_nats(int(code)) / np.log(2) for code in codes], 0)
    count = len(neurons)
    gates = activations[count:].reshape(-1, count, len(ids)).swapaxes(0, 1)
    return _Reading(symbols, text, activations[:count], gates, symbol_of_id[best], probs, surprisal)


def _recorded(
    subject: Subject, pieces: Sequence[Piece], neurons: list[Neuron], ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return activations then gates, (K + G K, N); next ids and probabilities, (5, N); surprisal, (N,)."""
    network = subject.network
    gates = [Neuron(n.layer, gate, n.index) for gate in _layer(subject).gate_names for n in neurons]
    read = readout_neurons(network)
    wanted = len(neurons) + len(gates)
    begins = np.cumsum([0, *map(len, pieces)])
    count = min(NEXT, network.vocab_size)
    values = np.empty((wanted, len(ids)), dtype=np.float32)
    best = np.empty((count, len(ids)), dtype=np.int64)
    probs = np.empty((count, len(ids)), dtype=np.float32)
    surprisal = np.full(len(ids), np.nan)
    for window in Recorder(network, subject.table, [*neurons, *gates, *read]).read(pieces):
        with torch.inference_mode():
            log_probs = readout_of(network, window.values[..., wanted:]).log_softmax(-1)
        found = log_probs.topk(count, dim=-1)
        for row, at, length in _rows(window, begins):
            here = slice(at, at + length)
            values[:, here] = window.values[row, :length, :wanted].float().cpu().numpy().T
            best[:, here] = found.indices[row, :length].cpu().numpy().T
            probs[:, here] = found.values[row, :length].float().exp().cpu().numpy().T
            last = begins[window.rows[row] + 1] - 1  # nothing follows the last character of a piece
            after = ids[at + 1 : min(at + length, last) + 1]
            bits = -log_probs[row, : len(after)].float().cpu().numpy() / np.log(2)
            surprisal[at + 1 : at + 1 + len(after)] = bits[np.arange(len(after)), after]
    return values, best, probs, surprisal


def _rows(window: Recorded, begins: np.ndarray) -> list[tuple[int, int, int]]:
    """Return number, first character on the page, and length of every row with text in it."""
    rows = zip(window.rows, window.length.tolist(), strict=True)
    return [(i, int(begins[row]) + window.begin, length) for i, (row, length) in enumerate(rows) if length]


def _neurons(subject: Subject, findings: Findings, most: int) -> list[Neuron]:
    """Return the neuron that was asked for, then the best ones, then runners-up."""
    named = [findings.asked, *(row.neuron for row in findings.rows)]
    named += [name for row in findings.rows for name, _ in row.runners_up]
    network, layer = subject.network, _layer(subject)
    kinds = (*layer.state_names, *layer.gate_names)
    unique = dict.fromkeys(name for name in named if name is not None)
    if not unique:
        raise InspectionError("no neuron goes with any hypothesis: there is nothing to show on a page")
    size = network.config.hidden_size
    return [parse_neuron(name, kinds, len(network.layers), size) for name in [*unique][:most]]


def _layer(subject: Subject) -> Any:
    return subject.network.layers[0]


def _described(hypothesis: Hypothesis) -> dict[str, Any]:
    return {key: getattr(hypothesis, key) for key in ("name", "type", "definition", "lookahead")}


def _stretches(pieces: Sequence[Piece]) -> list[Stretch]:
    begins = np.cumsum([0, *map(len, pieces)]).tolist()
    return [Stretch(begin, p.skip, p.document, p.begin) for begin, p in zip(begins, pieces, strict=False)]


def _code_points(text: str, kind: str) -> np.ndarray:
    """Return code points; a byte that is no ASCII becomes what Python keeps such bytes as."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    return np.where(codes >= 0x80, codes + _RAW_BYTES, codes) if kind == "bytes" else codes


def _id_code_points(vocabulary: Vocabulary) -> np.ndarray:
    """Return the code point of every id, (V,)."""
    special = [END, UNKNOWN][: vocabulary.num_special]
    symbols = np.array(vocabulary.symbols, dtype=np.int64)
    if vocabulary.kind == "bytes":
        symbols = np.where(symbols >= 0x80, symbols + _RAW_BYTES, symbols)
    return np.concatenate([special, symbols]).astype(np.int64)


def _labels(pieces: Sequence[Piece]) -> list[np.ndarray]:
    """Return every hypothesis in the smallest integers that hold it, the largest for no value, (N,) each."""
    labels = np.concatenate([piece.labels for piece in pieces])
    return [_smallest(labels[:, i]) for i in range(labels.shape[1])]


def _smallest(values: np.ndarray) -> np.ndarray:
    small = np.nanmax(values, initial=0) < NONE
    none = NONE if small else 0xFFFF
    filled = np.where(np.isnan(values), none, np.clip(np.rint(values), 0, none - 1))
    return filled.astype(np.uint8 if small else np.uint16)


def _delta(bits: np.ndarray) -> np.ndarray:
    return quantised(np.asarray(bits, dtype=np.float64) * DELTA_STEPS_PER_BIT / STEPS)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return numbers from 0 as bytes up to 254; NaN as 255."""
    return np.where(np.isnan(values), NONE, np.clip(np.rint(values), 0, NONE - 1)).astype(np.uint8)


def _beyond(values: np.ndarray) -> float:
    largest = float(np.abs(values).max(initial=0))
    return largest if largest > 1 + 1 / STEPS else 0.0


def _digest(pieces: Sequence[Piece]) -> str:
    """Return what names the inspected text: the sha256 of its characters as UTF-8."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
