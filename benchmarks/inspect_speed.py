"""How long inspection takes beyond the forward pass, and how a naive loop compares.

    python benchmarks/inspect_speed.py [--chars 1000000] [--hidden-size 512] [--num-layers 3]

The network is untrained and the text is the default corpus: neither changes the time. Interventions are not
counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
from quality import ROOT, machine

from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection.hypotheses import for_kind, profile_text
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.pieces import cut_pieces
from charrnn.inspection.record import ROWS, WINDOW
from charrnn.inspection.subject import Subject
from charrnn.model.network import Network
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources

NAIVE_PAIRS, NAIVE_LENGTH = 20, 200_000
"""Pairs of a neuron and a hypothesis that the naive loop correlates, and how many characters of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chars", type=int, default=1_000_000)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--naive-chars", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records" / "inspect-speed.json")
    options = parser.parse_args()
    subject = make_subject(options)
    record = machine() | {"chars": sum(map(len, subject.pieces)), "hypotheses": len(subject.hypotheses)}
    record |= {"hidden_size": options.hidden_size, "num_layers": options.num_layers}
    forward = sum(timed(lambda n=network: read(n, subject)) for network in (subject.network, subject.twin))
    total = timed(lambda: find_neurons(subject, Question(ablation=None), progress=print))
    record |= {"forward_seconds": forward, "total_seconds": total, "beyond_seconds": total - forward}
    record["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    naive = naive_seconds(subject, options.naive_chars)
    record |= {"naive_seconds_per_char": naive, "naive_over_ours": 2 * naive * record["chars"] / total}
    record["load_after"] = os.getloadavg()[0]
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def timed(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def make_subject(options: argparse.Namespace) -> Subject:
    corpus = open_corpus(find_sources(["stdlib"]), TextConfig())
    vocabulary = corpus.training_vocabulary(0, len(corpus.places))
    profile = profile_text(corpus.text(0, 500_000))
    asked = for_kind(profile.kind)[:40]
    pieces = cut_pieces(corpus, [(0, len(corpus.places))], asked, profile, options.chars)
    config = ModelConfig("lstm", options.hidden_size, options.num_layers, 32, 0.0)
    networks = (Network(config, len(vocabulary), seed).eval() for seed in (1, 2))
    return Subject("speed", *networks, vocabulary, corpus.id_table(vocabulary), pieces, asked, profile)


@torch.inference_mode()
def read(network: Network, subject: Subject) -> None:
    """Read the text once on the fast path, as many pieces side by side as inspection does."""
    pieces = sorted(subject.pieces, key=len, reverse=True)
    for first in range(0, len(pieces), ROWS):
        rows = pieces[first : first + ROWS]
        lengths = np.array(list(map(len, rows)))
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for i, piece in enumerate(rows):
            ids[i, : len(piece)] = subject.table[piece.places]
        state = network.initial_state(len(rows))
        for begin in range(0, ids.shape[1], WINDOW):
            running = int((lengths > begin).sum())
            state = tuple(tuple(part[:running] for part in layer) for layer in state)
            _, state = network.hidden(torch.from_numpy(ids[:running, begin : begin + WINDOW]), state)


@torch.inference_mode()
def naive_seconds(subject: Subject, chars: int) -> float:
    """Return seconds a character of what a notebook does: one at a time, each pair correlated by itself."""
    network, piece = subject.network, max(subject.pieces, key=len)
    begun, values, state = time.perf_counter(), [], subject.network.initial_state(1)
    for position in range(min(chars, len(piece))):
        _, state = network.step(torch.tensor([subject.table[piece.places[position]]]), state)
        values.append([float(v) for layer in state for v in torch.tanh(layer[1][0])])
    reading = (time.perf_counter() - begun) / len(values)
    a, y = np.random.default_rng(0).random((2, NAIVE_LENGTH))
    pairs = len(values[0]) * len(subject.hypotheses)
    return reading + pairs * timed(lambda: [np.corrcoef(a, y) for _ in range(NAIVE_PAIRS)]) / (
        NAIVE_PAIRS * NAIVE_LENGTH
    )


if __name__ == "__main__":
    main()
