"""How long inspection takes beyond the forward pass, and how a naive loop compares.

    python benchmarks/inspect_speed.py [--chars 1000000] [--hidden-size 512] [--num-layers 3]

The network is untrained and the text is the first of the default corpus: neither changes the time.
Interventions are not counted. The forward pass is one plain reading of the text by the network, and of its
share by each untrained twin. The naive loop takes one step after the other, as a notebook with hooks does,
and correlates pair after pair; its times are measured on a part and scaled up.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import ROOT, machine

from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection.hypotheses import for_kind, profile_text
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.null import SWAPS, make_units
from charrnn.inspection.pieces import Piece, cut_pieces
from charrnn.inspection.record import ROWS, WINDOW
from charrnn.inspection.subject import TWINS, Subject
from charrnn.inspection.untrained import share
from charrnn.model.network import Network
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources

NAIVE_PAIRS, NAIVE_LENGTH = 20, 200_000
"""Pairs of a neuron and a hypothesis that the naive loop correlates, and how many characters of each."""
HYPOTHESES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chars", type=int, default=1_000_000)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--naive-chars", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records" / "inspect-speed.json")
    options = parser.parse_args()
    record = machine() | {"threads": torch.get_num_threads()}
    begun = time.perf_counter()
    subject = make_subject(options)
    record["labelling_seconds"] = time.perf_counter() - begun
    record |= {"chars": sum(map(len, subject.pieces)), "hypotheses": len(subject.hypotheses)}
    record |= {"hidden_size": options.hidden_size, "num_layers": options.num_layers}
    shares = [share(subject.pieces, number, TWINS) for number in range(TWINS)]
    record["twin_chars"] = sum(len(piece) for pieces in shares for piece in pieces)
    record |= timings(subject, shares)
    record["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    record |= naive(subject, options.naive_chars, record)
    record["load_after"] = os.getloadavg()[0]
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def timings(subject: Subject, shares: Sequence[Sequence[Piece]]) -> dict[str, float]:
    """Return what the forward passes take, and the whole inspection, which makes them too."""
    read(subject.network, subject.pieces[:ROWS], subject.table)  # memory and threads are there from now on
    forward = timed(lambda: read(subject.network, subject.pieces, subject.table))
    for twin, pieces in zip(subject.twins, shares, strict=True):
        forward += timed(lambda n=twin, p=pieces: read(n, p, subject.table))
    total = timed(lambda: find_neurons(subject, Question(ablation=None), progress=said))
    return {"forward_seconds": forward, "total_seconds": total, "beyond_seconds": total - forward}


def said(text: str) -> None:
    print(f"{time.perf_counter():.1f} {text}", flush=True)


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def make_subject(options: argparse.Namespace) -> Subject:
    corpus = open_corpus(find_sources(["stdlib"]), TextConfig())
    part = (0, min(options.chars, len(corpus.places)))
    vocabulary = corpus.training_vocabulary(*part)
    profile = profile_text(corpus.text(0, 500_000))
    asked = for_kind(profile.kind)[:HYPOTHESES]
    pieces = cut_pieces(corpus, [part], asked, profile, options.chars)
    config = ModelConfig("lstm", options.hidden_size, options.num_layers, 32, 0.0)
    network, twin, *more = (Network(config, len(vocabulary), seed).eval() for seed in range(1, TWINS + 2))
    table = corpus.id_table(vocabulary)
    return Subject("speed", network, twin, vocabulary, table, pieces, asked, profile, 0, more)


@torch.inference_mode()
def read(network: Network, pieces: Sequence[Piece], table: np.ndarray) -> None:
    """Read text once on the fast path, as many pieces side by side as inspection does."""
    pieces = sorted(pieces, key=len, reverse=True)
    for first in range(0, len(pieces), ROWS):
        rows = pieces[first : first + ROWS]
        lengths = np.array(list(map(len, rows)))
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for i, piece in enumerate(rows):
            ids[i, : len(piece)] = table[piece.places]
        state = network.initial_state(len(rows))
        for begin in range(0, ids.shape[1], WINDOW):
            running = int((lengths > begin).sum())
            state = tuple(tuple(part[:running] for part in layer) for layer in state)
            _, state = network.hidden(torch.from_numpy(ids[:running, begin : begin + WINDOW]), state)


def naive(subject: Subject, chars: int, record: dict[str, Any]) -> dict[str, float]:
    """Return what a notebook's way would take: without a null, and with the same swaps at the same places."""
    step, pair = naive_seconds(subject, chars)
    neurons = len(subject.network.layers) * subject.network.config.hidden_size
    pairs = neurons * len(subject.hypotheses)
    plain = (step + pairs * pair) * (record["chars"] + record["twin_chars"])
    null = SWAPS * pairs * pair * make_units(subject.half(chooses=False)).pieces.size
    return {
        "naive_step_seconds": step,
        "naive_pair_seconds_per_char": pair,
        "naive_seconds": plain,
        "naive_null_seconds": null,
        "naive_over_ours": plain / record["total_seconds"],
        "naive_with_null_over_ours": (plain + null) / record["total_seconds"],
    }


@torch.inference_mode()
def naive_seconds(subject: Subject, chars: int) -> tuple[float, float]:
    """Return seconds for a step that keeps all activations, and per character for one correlation."""
    network, piece = subject.network, max(subject.pieces, key=len)
    begun, values, state = time.perf_counter(), [], subject.network.initial_state(1)
    for position in range(min(chars, len(piece))):
        _, state = network.step(torch.tensor([subject.table[piece.places[position]]]), state)
        values.append([float(v) for layer in state for v in torch.tanh(layer[1][0])])
    step = (time.perf_counter() - begun) / len(values)
    a, y = np.random.default_rng(0).random((2, NAIVE_LENGTH))
    correlating = timed(lambda: [np.corrcoef(a, y) for _ in range(NAIVE_PAIRS)])
    return step, correlating / (NAIVE_PAIRS * NAIVE_LENGTH)


if __name__ == "__main__":
    main()
