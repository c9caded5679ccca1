"""Begin with another run's weights: old symbols keep their rows, new ones are added."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from charrnn.config import Config
from charrnn.errors import ConfigError
from charrnn.model.network import Network, new_network
from charrnn.runs import Checkpoint
from charrnn.text.vocabulary import Vocabulary

SHAPE = ("cell", "hidden_size", "num_layers", "embedding_size")


def extended_vocabulary(base: Checkpoint, vocabulary: Vocabulary) -> Vocabulary:
    """Return the base run's vocabulary with the new text's further symbols behind it.

    Raises:
        ConfigError: One has characters, the other bytes.
    """
    if base.vocabulary.kind != vocabulary.kind:
        raise ConfigError(f"`{base.name}` was trained on {base.vocabulary.kind}, not {vocabulary.kind}")
    known = set(base.vocabulary.symbols)
    added = tuple(symbol for symbol in vocabulary.symbols if symbol not in known)
    return Vocabulary(vocabulary.kind, base.vocabulary.symbols + added)


def origin_of(base: Checkpoint) -> tuple[dict[str, Any], ...]:
    """Return what a warm start comes from, the nearest first: name, step, SHA-256 of the model file."""
    digest = hashlib.sha256(base.path.read_bytes()).hexdigest()
    own = {"run": base.name, "step": base.progress.get("step"), "sha256": digest}
    return (own, *base.corpus.get("init_from", ()))


def warm_network(base: Checkpoint, config: Config, vocabulary: Vocabulary) -> Network:
    """Return a network with the base run's weights; new symbols are read as random ones.

    They are predicted with the mean of the known symbols' logits, by whatever predicts symbols: improbable,
    so that the old text is predicted as before but for their mass; random rows would make them as probable as
    any.

    Raises:
        ConfigError: The settings ask for another shape than the base run has.
    """
    changed = [name for name in SHAPE if getattr(config.model, name) != getattr(base.config.model, name)]
    if changed:
        raise ConfigError(
            f"`model.{changed[0]}` differs from that of `{base.name}`",
            "a warm start keeps the network's shape",
        )
    training = config.training
    network = new_network(config.model, len(vocabulary), training.seed, training.seq_len)
    fresh = network.state_dict()
    with torch.no_grad():
        for name, old in base.network.state_dict().items():
            fresh[name][tuple(slice(size) for size in old.shape)] = old
        for readout in network.modules():
            if isinstance(readout, nn.Linear):  # the network's own, or one that a level or a layer has
                for weight in (readout.weight, readout.bias):
                    weight[len(base.vocabulary) :] = weight[: len(base.vocabulary)].mean(0)
    return network
