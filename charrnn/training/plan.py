"""The automatic plan: sizes from the amount of text and the budget.

A pure function; the same corpus size, budget and kind of device always give the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from charrnn.config import CELLS, OPTIMIZERS, Config, ModelConfig, TrainingConfig
from charrnn.errors import ConfigError, TextError
from charrnn.text.splits import Splits
from charrnn.training.lengths import mean_length

DEFAULT_MINUTES = 10.0
SEQ_LEN, SHORT_SEQ_LEN = 128, 64
"""Timesteps of a window; of a text with few windows of those, the second. Longer windows cost nothing and let
neurons hold more: with 64, none learned to hold a quotation of War and Peace (docs/log.md)."""
CHARS_PER_STEP = {"cpu": 2_048, "mps": 16_384, "cuda": 16_384}
"""Characters of a window, all streams together, if the text has eight such windows."""
MIN_STREAMS, MAX_STREAMS = 8, 128
EFFECTIVE_FLOPS = {"cpu": 1.0e11, "mps": 5.0e11, "cuda": 1.0e13}
"""Useful arithmetic per second that the plan counts on: two cores, one small and one large GPU."""

HIDDEN_SIZES = (64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 1024)
EMBEDDING_SIZE = 32
DROPOUT_BY_EPOCHS = ((3, 0.0), (6, 0.1), (20, 0.2), (60, 0.3))
MIN_EVALS, MAX_EVALS = 4, 20
EVAL_CHARS_SHARE = 0.25
"""Characters looked at for validation, all looks together, per training character."""
CHARS_PER_PARAM = 9.0
"""Training characters for which one weight is worth its time; twice that where they are much repeated."""
REPEATED_EPOCHS = 5.0
PARAMS_PER_CHAR = 1.5
"""More weights than this per different training character would learn the text by heart."""


def make_plan(config: Config, train_chars: int, val_chars: int, vocab_size: int, device: str) -> Config:
    """Fill in every setting that was left open.

    Args:
        config: Settings; what is set stays as it is.
        train_chars: Characters in the training split.
        val_chars: Characters in the validation split.
        vocab_size: Number of ids, V.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        TextError: The training split is shorter than one window.
        ConfigError: A readout alone is to be fitted, but everything below it is trained, or the reverse, or
            ``seq_len_start`` is above ``seq_len``.
    """
    model = config.model
    fixed = CELLS[model.cell].fixed
    training = _window(_budget(_readout(config.training, model.cell, fixed)), train_chars, device)
    embedding_size = 0 if fixed else EMBEDDING_SIZE
    model = replace(
        model,
        embedding_size=embedding_size if model.embedding_size is None else model.embedding_size,
        num_layers=model.num_layers or 1,
    )
    if model.hidden_size is None:
        model = replace(model, hidden_size=_hidden_size(training, model, train_chars, vocab_size, device))
    chars = expected_chars(training, train_chars, num_params(model, vocab_size), device)
    if model.dropout is None:
        model = replace(model, dropout=0.0 if fixed else _dropout(chars / train_chars))
    recipe = OPTIMIZERS[training.optimizer]
    if training.learning_rate is None:
        training = replace(training, learning_rate=recipe.rate(model.hidden_size))
    if training.weight_decay is None:
        training = replace(training, weight_decay=recipe.decay)
    if training.num_evals is None:
        training = replace(training, num_evals=_num_evals(chars, val_chars))
    return replace(config, model=model, training=training)


def check_validation(config: Config, splits: Splits) -> None:
    """Refuse settings that act on the validation loss where there is no validation split.

    Raises:
        ConfigError: There is none.
    """
    if splits.val[0] < splits.val[1]:
        return
    for name, value in (("schedule", "plateau"), ("averaging", "ntasgd")):
        if getattr(config.training, name) == value:
            raise ConfigError(
                f"`training.{name}` is `{value}`, but no text is kept for validation", "--val-fraction 0.05"
            )


def num_params(model: ModelConfig, vocab_size: int) -> int:
    """Return the weights that are multiplied at every character, biases left out."""
    hidden, layers = model.hidden_size, model.num_layers
    widths = [model.embedding_size or vocab_size] + [hidden] * (layers - 1)
    of_layer = CELLS[model.cell].num_matrix_weights
    recurrent = sum(of_layer(w, hidden, vocab_size, n == layers) for n, w in enumerate(widths, start=1))
    return recurrent + hidden * vocab_size


def expected_chars(training: TrainingConfig, train_chars: int, params: int, device: str) -> float:
    """Return how many characters will be read in the budget, the smallest of all that are set."""
    limits = [train_chars] if training.readout == "ridge" else []
    if training.epochs is not None:
        limits.append(training.epochs * train_chars)
    if training.steps is not None:
        limits.append(training.steps * training.batch_size * mean_length(training))
    if training.minutes is not None:
        limits.append(training.minutes * 60 * EFFECTIVE_FLOPS[device] / (6 * params))
    return float(min(limits))


def _readout(training: TrainingConfig, cell: str, fixed: bool) -> TrainingConfig:
    """Choose how the readout is fitted where it is all that is trained."""
    if training.readout == "ridge" and not fixed:
        raise ConfigError(
            f"`training.readout` is `ridge`, but a network of `{cell}` cells is trained by gradient",
            "`--cell esn` has a readout to fit",
        )
    if fixed and (training.activation_l2 or training.temporal_l2):
        raise ConfigError(
            f"`training.activation_l2` and `temporal_l2` change activations, and those of `{cell}` are fixed"
        )
    return replace(training, readout="ridge") if fixed and training.readout is None else training


def _budget(training: TrainingConfig) -> TrainingConfig:
    if training.epochs is None and training.steps is None and training.minutes is None:
        if training.readout == "ridge":
            return replace(training, epochs=1.0)
        return replace(training, minutes=DEFAULT_MINUTES)
    return training


def _window(training: TrainingConfig, train_chars: int, device: str) -> TrainingConfig:
    """Choose batch_size and seq_len so that an epoch has windows enough to learn from."""
    batch_size, seq_len = training.batch_size, training.seq_len
    wanted = CHARS_PER_STEP[device]
    seq_len = seq_len or (SEQ_LEN if train_chars >= 8 * wanted else SHORT_SEQ_LEN)
    if batch_size is None:
        streams = max(MIN_STREAMS, min(MAX_STREAMS, wanted // seq_len))
        batch_size = max(1, min(streams, train_chars // (8 * seq_len)))
    if train_chars < batch_size * seq_len + 1:
        raise TextError(
            f"the training text has {train_chars:,} characters, fewer than one window of "
            f"{batch_size} × {seq_len} (batch_size × seq_len)",
            "give more text, or a smaller `--batch-size` or `--seq-len`",
        )
    if training.seq_len_start is not None and training.seq_len_start > seq_len:
        start = training.seq_len_start
        raise ConfigError(f"`training.seq_len_start` is `{start}`, but must be at most `seq_len`, {seq_len}")
    return replace(training, batch_size=batch_size, seq_len=seq_len)


def _hidden_size(
    training: TrainingConfig, model: ModelConfig, train_chars: int, vocab_size: int, device: str
) -> int:
    """Choose the widest layers whose weights each see enough characters in the budget."""
    chosen = HIDDEN_SIZES[0]
    for size in HIDDEN_SIZES:
        params = num_params(replace(model, hidden_size=size), vocab_size)
        seen = expected_chars(training, train_chars, params, device)
        needed = CHARS_PER_PARAM * (1 if seen < REPEATED_EPOCHS * train_chars else 2)
        trained = size * vocab_size if CELLS[model.cell].fixed else params
        if seen >= needed * trained and trained <= PARAMS_PER_CHAR * train_chars:
            chosen = size
    return chosen


def _dropout(epochs: float) -> float:
    """Choose dropout by how often the text will be repeated."""
    return next((dropout for limit, dropout in DROPOUT_BY_EPOCHS if epochs < limit), 0.4)


def _num_evals(chars: float, val_chars: int) -> int:
    """Choose how often to look at the validation split: reading it shall not rule the time."""
    return int(min(MAX_EVALS, max(MIN_EVALS, EVAL_CHARS_SHARE * chars / max(1, val_chars))))


def estimate(config: Config, train_chars: int, params: int, device: str) -> dict[str, float]:
    """Return what a resolved config is expected to need: ``seconds``, ``epochs`` and ``memory_bytes``.

    Memory counts weights, gradients, two moments and any average per weight in fp32, and for every
    timestep of a window the recorded gates and states of every layer.
    """
    chars = expected_chars(config.training, train_chars, params, device)
    window = config.training.batch_size * config.training.seq_len
    activations = 4 * window * config.model.num_layers * config.model.hidden_size * 10
    return {
        "seconds": chars * 6 * params / EFFECTIVE_FLOPS[device],
        "epochs": chars / train_chars,
        "memory_bytes": (16 if config.training.averaging == "none" else 20) * params + activations,
    }
