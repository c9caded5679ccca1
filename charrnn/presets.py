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
        "A first try in seconds, on any machine: one pass over tiny shakespeare, 12 seconds of two cores, "
        "leaves 1.77 nats a character on its last tenth.",
        {
            "model.hidden_size": 64,
            "model.num_layers": 1,
            "training.batch_size": 16,
            "training.seq_len": 32,
        },
    ),
    "laptop": Preset(
        "A laptop's processor and some megabytes of text: one wide layer, to be looked into. War and Peace "
        "in 15 minutes of two cores, then in windows of 32 × 64: 1.15 nats a character "
        "(benchmarks/records/warpeace-15-seed1.json).",
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
    # The published command for enwik8, which has neither AR nor TAR (--alpha 0 --beta 0). Not as there: three
    # layers of 1840 and a readout of its own (71 million weights), instead of 1840, 1840 and 400 with the
    # embedding as readout (47 million); first weights, with forget biases of 1; Adam's β₂ of .99 instead of
    # .999; no l2 of biases; no window of more than 2 T symbols.
    "awd": Preset(
        "AWD-LSTM's recipe for characters (Merity et al. 2018, enwik8: 1.232 bpc in two days), for a large "
        "GPU and 50 epochs. Not measured here.",
        {
            "model.cell": "lstm",
            "model.hidden_size": 1840,
            "model.num_layers": 3,
            "model.embedding_size": 400,
            "model.input_dropout": 0.1,
            "model.dropout": 0.1,
            "model.output_dropout": 0.4,
            "model.dropout_kind": "variational",
            "model.weight_drop": 0.2,
            "training.batch_size": 128,
            "training.seq_len": 200,
            "training.random_seq_len": True,
            "training.epochs": 50.0,
            "training.optimizer": "adam",
            "training.learning_rate": 1e-3,
            "training.schedule": "multistep",
            "training.warmup_fraction": 0.0,
            "training.l2": 1.2e-6,
            "training.grad_clip": 0.25,
        },
    ),
}
