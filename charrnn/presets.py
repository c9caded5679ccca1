"""Settings that go together, by name; what a preset leaves open is planned from text and budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One of them.

    Args:
        about: What it is for, in a sentence.
        settings: ``"section.name"`` to value.
    """

    about: str
    settings: dict[str, Any]


PRESETS = {
    "tiny": Preset(
        "A first try in seconds, on any machine.",
        {
            "model.hidden_size": 64,
            "model.num_layers": 1,
            "training.batch_size": 16,
            "training.seq_len": 32,
        },
    ),
    "laptop": Preset(
        "A laptop's processor and some megabytes of text: one wide layer, to be looked into. War and Peace "
        "in 15 minutes of two cores: 1.15 nats a character (benchmarks/records/warpeace-15-seed1.json).",
        {
            "model.hidden_size": 512,
            "model.num_layers": 1,
            "training.batch_size": 16,
            "training.seq_len": 128,
        },
    ),
    "gpu": Preset(
        "An hour of one GPU and tens of megabytes of text: three layers of 1,024, windows of 256. Not "
        "measured yet.",
        {
            "model.hidden_size": 1024,
            "model.num_layers": 3,
            "model.embedding_size": 128,
            "training.batch_size": 128,
            "training.seq_len": 256,
        },
    ),
    # The recipe drops .1 of the input, .1 between layers and .4 before the readout, divides the rate by 10
    # twice, and ties a top layer of 400 to the embedding; here one dropout stands for all three, the
    # schedule is the default, and all layers are alike.
    "awd": Preset(
        "AWD-LSTM's recipe for characters (Merity et al. 2018, enwik8: 1.232 bpc in two days), for a large "
        "GPU and many epochs. Not measured here.",
        {
            "model.cell": "lstm",
            "model.hidden_size": 1840,
            "model.num_layers": 3,
            "model.embedding_size": 400,
            "model.dropout": 0.2,
            "model.dropout_kind": "variational",
            "model.weight_drop": 0.2,
            "training.batch_size": 128,
            "training.seq_len": 200,
            "training.random_seq_len": True,
            "training.optimizer": "adam",
            "training.learning_rate": 1e-3,
            "training.l2": 1.2e-6,
            "training.grad_clip": 0.25,
        },
    ),
}
