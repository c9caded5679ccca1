"""Whether the sampler chooses what PyTorch would, and what weights of fewer bits cost.

    python benchmarks/sampling_check.py [RUN] [--chars 100000] [--out FILE]

A greedy text soon repeats itself, so after every fifty choices both read three random characters. PyTorch's
side is `nn.LSTM` or `nn.GRU` with the run's weights over the same text: as long as no choice differs, that is
its own greedy stream. Losses are `charrnn evaluate`'s, of the validation split. Ends with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import RECORDS, machine

import charrnn
from charrnn.bench.stock import LAYERS
from charrnn.model.network import Network
from charrnn.sampling import SamplingConfig
from charrnn.sampling.samplers import Draw, make_sampler
from charrnn.sampling.speaker import LAYER_WEIGHTS, network_weights
from charrnn.sampling.weights import PRECISIONS
from charrnn.text.vocabulary import BOUNDARY, ESCAPE

EVERY, RANDOM, WINDOW, MOST_LOST = 50, 3, 1_000, 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="demo")
    parser.add_argument("--chars", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RECORDS / "sampling-check.json")
    options = parser.parse_args()
    record = machine() | {"run": options.run} | greedy(charrnn.load(options.run).network, options.chars)
    losses = {p: charrnn.load(options.run, precision=p).evaluate(baselines=False).loss for p in PRECISIONS}
    lost = {name: loss - losses["fp32"] for name, loss in losses.items()}
    met = record["differ"] == 0 and max(lost.values()) <= MOST_LOST
    options.out.write_text(json.dumps(record | {"nats": losses, "lost": lost, "met": met}, indent=1) + "\n")
    print(options.out.read_text())
    sys.exit(not met)


def greedy(network: Network, chars: int) -> dict[str, Any]:
    """Compare so many greedy choices with those of ``torch.nn``; a boundary is never chosen."""
    sampler = make_sampler(network_weights(network), Draw(SamplingConfig(0.0), BOUNDARY, BOUNDARY))
    random, pieces = np.random.default_rng(1), [np.array([BOUNDARY])]
    for _ in range(-(-chars // EVERY)):
        read = random.integers(ESCAPE + 1, network.vocab_size, RANDOM)
        pieces += [sampler.draw(np.zeros((1, EVERY)))[0], read]
        sampler.read(read[None])
    text = torch.from_numpy(np.concatenate(pieces))
    best = torch_logits(network, text[:-1])[:, BOUNDARY + 1 :].argmax(1) + BOUNDARY + 1
    chosen = torch.arange(len(best)) % (EVERY + RANDOM) < EVERY
    found = {"compared": chosen.sum(), "differ": (text[1:] != best)[chosen].sum()}
    return {name: int(count) for name, count in found.items()}


@torch.inference_mode()
def torch_logits(network: Network, ids: torch.Tensor) -> torch.Tensor:
    """Return what ``torch.nn``'s layers with the network's weights make of ids, (N,): logits, (N, V)."""
    inputs, config, state, logits = network.inputs(ids), network.config, None, []
    layers = LAYERS[config.cell](inputs.shape[1], config.hidden_size, config.num_layers)
    for number, name in product(range(config.num_layers), LAYER_WEIGHTS):
        getattr(layers, f"{name}_l{number}").copy_(getattr(network.layers[number], f"{name}_l0"))
    for window in inputs.split(WINDOW):
        hidden, state = layers(window, state)
        logits.append(network.readout(hidden))
    return torch.cat(logits)


if __name__ == "__main__":
    main()
