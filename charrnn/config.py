"""Every setting, its default, its meaning and its range; nothing else has defaults."""

from __future__ import annotations

import math
import reprlib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from charrnn.errors import ConfigError, suggest
from charrnn.presets import PRESETS
from charrnn.registry import Registry

CELLS: Registry = Registry(
    "cell",
    {
        "lstm": "charrnn.model.cells.lstm:LSTM",
        "gru": "charrnn.model.cells.gru:GRU",
        "elman": "charrnn.model.cells.elman:Elman",
        "elman_relu": "charrnn.model.cells.elman:ElmanReLU",
        "jordan": "charrnn.model.cells.jordan:Jordan",
        "mingru": "charrnn.model.cells.mingru:MinGRU",
        "minlstm": "charrnn.model.cells.minlstm:MinLSTM",
        "esn": "charrnn.model.cells.esn:ESN",
        "compressor": "charrnn.model.cells.compressor:Compressor",
    },
)
OPTIMIZERS: Registry = Registry(
    "optimizer",
    {
        "sgd": "charrnn.training.optimizers:sgd",
        "momentum": "charrnn.training.optimizers:momentum",
        "nesterov": "charrnn.training.optimizers:nesterov",
        "adagrad": "charrnn.training.optimizers:adagrad",
        "rmsprop": "charrnn.training.optimizers:rmsprop",
        "adadelta": "charrnn.training.optimizers:adadelta",
        "adam": "charrnn.training.optimizers:adam",
        "nadam": "charrnn.training.optimizers:nadam",
        "adamw": "charrnn.training.optimizers:adamw",
        "muon": "charrnn.training.optimizers:muon",
    },
)
SCHEDULES: Registry = Registry(
    "schedule",
    {
        "cosine": "charrnn.training.schedules:cosine",
        "linear": "charrnn.training.schedules:linear",
        "onecycle": "charrnn.training.schedules:onecycle",
        "multistep": "charrnn.training.schedules:multistep",
        "constant": "charrnn.training.schedules:constant",
        "plateau": "charrnn.training.schedules:plateau",
    },
)


AVERAGINGS: Registry = Registry(
    "averaging",
    {
        "none": "charrnn.training.averaging:NoAverage",
        "ema": "charrnn.training.averaging:ExponentialAverage",
        "ntasgd": "charrnn.training.averaging:NonMonotonicAverage",
    },
)


@dataclass(frozen=True)
class Range:
    """The numbers a setting may take; ``above`` leaves the lower end out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        low_ok = value > self.low if self.above else value >= self.low
        return low_ok and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if self.high == math.inf else f"{'below' if self.below else 'at most'} {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


def setting(default: Any, *, allowed: Range | Registry | Iterable[str] | None = None) -> Any:
    """Declare a field with the values that it may take."""
    return field(default=default, metadata={"allowed": allowed})


MAX_PROBLEMS = 20
"""Problems of one set of settings that are told at once."""
MAX_TOML_BYTES = 1 << 14
"""Of a file of settings: the time to read keys with many dots grows with the square of their length."""
DOCUMENTS = ("files", "lines", "blank")
"""The words that say what a document is; all else is a pattern."""
POSITIVE = Range(0, 1e30, above=True)  # far below what single precision holds
FRACTION = Range(0, 1, below=True)
NOT_NEGATIVE = Range(0, 1e6)


@dataclass(frozen=True)
class TextConfig:
    """How a text becomes documents, symbols and splits."""

    encoding: str = setting("utf-8")
    """Name of the text's encoding, as Python knows it."""
    newlines: str = setting("keep", allowed=("keep", "lf"))
    """``keep`` line ends as they are, or fold CRLF and CR to ``lf``."""
    documents: str = setting("files")
    """What a document is: each of the ``files``, ``lines``, blocks between ``blank`` lines, or a regular
    expression whose every match is one."""
    symbols: str = setting("chars", allowed=("chars", "bytes"))
    """``chars``: code points of the training text; ``bytes``: all 256."""
    val_fraction: float = setting(0.05, allowed=FRACTION)
    """Share of the characters kept for choosing the best checkpoint."""
    test_fraction: float = setting(0.05, allowed=FRACTION)
    """Share of the characters that training never looks at."""
    max_ratio: float = setting(256.0, allowed=POSITIVE)
    """What compressed text may become, in times its compressed size; the first 16 MiB are free."""

    def of(self, encoding: str | None) -> TextConfig:
        """Return the same for a text in another encoding; None changes nothing."""
        return self if encoding is None else replace(self, encoding=encoding)


@dataclass(frozen=True)
class ModelConfig:
    """The network. ``None`` is filled in by the plan."""

    cell: str = setting("lstm", allowed=CELLS)
    """Kind of recurrent layer."""
    hidden_size: int | None = setting(None, allowed=Range(1, 65536))
    """Neurons per layer, H."""
    num_layers: int | None = setting(None, allowed=Range(1, 64))
    """Recurrent layers, L."""
    embedding_size: int | None = setting(None, allowed=Range(0, 65536))
    """Width of a learned input embedding; 0 gives the first layer one-hot input."""
    dropout: float | None = setting(None, allowed=FRACTION)
    """Share of layer outputs set to zero while training, between layers (Zaremba et al. 2014) and before the
    readout."""
    input_dropout: float = setting(0.0, allowed=FRACTION)
    """The same share of what the first layer reads (Merity et al. 2018)."""
    output_dropout: float | None = setting(None, allowed=FRACTION)
    """The same share before the readout; ``None``: as ``dropout``."""
    dropout_kind: str = setting("inverted", allowed=("inverted", "variational"))
    """A mask for every timestep (Srivastava et al. 2014), or ``variational``: one for every window and row
    (Gal & Ghahramani 2016)."""
    weight_drop: float = setting(0.0, allowed=FRACTION)
    """Share of recurrent weights set to zero for a window of training (Merity et al. 2018)."""
    zoneout: float = setting(0.0, allowed=FRACTION)
    """Probability that a neuron's state stays as it was, h and c (Krueger et al. 2017)."""
    skip_connections: bool = setting(False)
    """Whether the readout reads the sum of all layers' outputs, not the top one's (Melis et al. 2018)."""
    init: str = setting("torch", allowed=("torch", "orthogonal"))
    """First recurrent weights: uniform, or ``orthogonal`` for every gate (Saxe et al. 2014)."""
    forget_init: str = setting("constant", allowed=("constant", "chrono"))
    """First bias of the gate that keeps: ``forget_bias``, or ``chrono``: spread over ``seq_len`` (Tallec &
    Ollivier 2018)."""

    @property
    def readout_dropout(self) -> float:
        """Share of what the readout reads that is set to zero while training."""
        return self.dropout if self.output_dropout is None else self.output_dropout

    @property
    def plain(self) -> bool:
        """Whether, outside training, layers do what their cell says and the readout reads the top one."""
        return not self.zoneout and not self.skip_connections

    forget_bias: float = setting(1.0, allowed=Range(-100, 100))
    """First value of the forget-gate bias of LSTM and minLSTM."""
    spectral_radius: float = setting(0.8, allowed=NOT_NEGATIVE)
    """Largest absolute eigenvalue of an echo state network's recurrent weights."""
    fan_in: int = setting(10, allowed=Range(1, 65536))
    """Recurrent connections into each neuron of an echo state network."""
    input_scaling: float = setting(1.5, allowed=POSITIVE)
    """Largest input weight of an echo state network."""
    leak: float = setting(0.7, allowed=Range(0, 1, above=True))
    """Share of an echo state network's state that is new at each timestep."""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimization. ``None`` is filled in by the plan or means "no limit"."""

    batch_size: int | None = setting(None, allowed=Range(1, 65536))
    """Parallel streams, B."""
    seq_len: int | None = setting(None, allowed=Range(1, 65536))
    """Timesteps per window, T: the truncation length of backpropagation."""
    seq_len_start: int | None = setting(None, allowed=Range(1, 65536))
    """T at first, from which it grows to ``seq_len`` over half the budget (Li et al. 2022); ``None``: it does
    not grow."""
    random_seq_len: bool = setting(False)
    """Whether windows have random lengths about T, and rates in proportion (Merity et al. 2018)."""
    epochs: float | None = setting(None, allowed=Range(0, 1e9, above=True))
    """Budget: passes over the training split."""
    steps: int | None = setting(None, allowed=Range(1, 10**12))
    """Budget: optimizer steps."""
    minutes: float | None = setting(None, allowed=Range(0, 1e7, above=True))
    """Budget: wall time from the command's start to its end."""
    optimizer: str = setting("muon", allowed=OPTIMIZERS)
    """Update rule."""
    learning_rate: float | None = setting(None, allowed=Range(0, 1e6, above=True))
    """Peak learning rate; ``None`` takes the plan's."""
    schedule: str = setting("cosine", allowed=SCHEDULES)
    """How the learning rate goes over the budget; ``plateau`` needs a validation split."""
    warmup_fraction: float = setting(0.02, allowed=FRACTION)
    """Share of the budget over which the learning rate rises from zero (Goyal et al. 2017); none of it with
    ``onecycle``, which has a rise of its own."""
    weight_decay: float | None = setting(None, allowed=NOT_NEGATIVE)
    """Decoupled weight decay of matrices, not of biases (Loshchilov & Hutter 2019); ``None`` takes the update
    rule's."""
    l2: float = setting(0.0, allowed=NOT_NEGATIVE)
    """This times the weight is added to the gradient of matrices (Krogh & Hertz 1992)."""
    activation_l2: float = setting(0.0, allowed=NOT_NEGATIVE)
    """AR: this times the mean square of what the readout reads is added to the loss that is learned from, not
    to the one that is told (Merity et al. 2017)."""
    temporal_l2: float = setting(0.0, allowed=NOT_NEGATIVE)
    """TAR: likewise, the mean square of its change from one timestep to the next, before dropout (ibid.)."""
    grad_clip: float = setting(1.0, allowed=POSITIVE)
    """Largest norm of the gradient of all weights together (Pascanu et al. 2013)."""
    grad_clip_value: float | None = setting(None, allowed=POSITIVE)
    """Largest size of any element of the gradient, cut before the norm is (Mikolov 2012)."""
    averaging: str = setting("none", allowed=AVERAGINGS)
    """Whether averaged weights are judged, saved and speak; ``ntasgd`` needs a validation split."""
    ema_decay: float = setting(0.999, allowed=FRACTION)
    """Largest decay of ``ema``; early in a run it is smaller."""
    recompute: bool = setting(False)
    """Whether a window's activations are computed again for the gradient, not kept (Chen et al. 2016)."""
    num_evals: int | None = setting(None, allowed=Range(1, 100_000))
    """Looks at the validation split over the budget."""
    patience: int = setting(0, allowed=Range(0, 10**6))
    """Stop after this many looks without improvement; 0 never stops early."""
    readout: str | None = setting(None, allowed=("ridge", "gradient"))
    """How the readout of an echo state network is fitted: ``ridge`` regression in one pass over the text, or
    by ``gradient`` like everything else."""
    seed: int = setting(1, allowed=Range(0, 2**63 - 1))
    """Fixes the first weights and the dropout masks."""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def to_json(self) -> dict[str, Any]:
        """Return nested dictionaries of plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        """Rebuild a config; unknown or invalid settings raise ``ConfigError``."""
        flat = {f"{s}.{k}": v for s, section in data.items() for k, v in dict(section).items()}
        return cls().updated(flat)

    def updated(self, values: Mapping[str, Any]) -> Config:
        """Return a config with dotted settings replaced, checked, all problems reported at once.

        Args:
            values: ``"section.name"`` to a value, or to the text of one, as it comes from a command line.

        Raises:
            ConfigError: One line with every unknown name and every value out of range.
        """
        problems: list[ConfigError] = []
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if len(problems) == MAX_PROBLEMS:
                break
            try:
                declared = declaration(name)
                section, _, key = name.partition(".")
                changed.setdefault(section, {})[key] = parse(name, value, declared)
            except ConfigError as problem:
                problems.append(problem)
        raise_together(problems)
        return replace(self, **{s: replace(getattr(self, s), **part) for s, part in changed.items()})


SECTIONS: dict[str, type] = {"text": TextConfig, "model": ModelConfig, "training": TrainingConfig}


def setting_names() -> list[str]:
    """Return every dotted setting name."""
    return [f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)]


@cache
def declaration(name: str) -> tuple[Any, Any]:
    """Return the type and the allowed values of a dotted setting.

    Raises:
        ConfigError: There is no such setting.
    """
    section, _, key = name.partition(".")
    if name not in setting_names():
        raise ConfigError(f"unknown setting `{name}`", suggest(name, setting_names()))
    hints = typing.get_type_hints(SECTIONS[section])
    allowed = next(f.metadata["allowed"] for f in fields(SECTIONS[section]) if f.name == key)
    return hints[key], allowed


def parse(name: str, value: Any, declared: tuple[Any, Any]) -> Any:
    """Turn a value, or its text, into the declared type and check its range.

    Raises:
        ConfigError: The value has another type or lies outside the allowed ones.
    """
    kind, allowed = declared
    optional = isinstance(kind, types.UnionType)
    if optional:
        if value is None or value == "none":
            return None
        kind = typing.get_args(kind)[0]
    value = _convert(name, value, kind)
    if isinstance(allowed, Range) and value not in allowed:
        raise ConfigError(f"`{name}` is `{_shown(value)}`, but must be {allowed}")
    if isinstance(allowed, Registry):
        allowed.check(value)
    elif isinstance(allowed, tuple) and value not in allowed:
        raise ConfigError(
            f"`{name}` is `{value}`, but must be one of {', '.join(allowed)}", suggest(value, allowed)
        )
    return value


def _convert(name: str, value: Any, kind: type) -> Any:
    """Convert to ``str``, ``int``, ``float`` or ``bool`` without losing anything."""
    words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[kind]
    if kind is bool and isinstance(value, bool | str) and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    try:
        if kind is bool:
            raise ValueError
        if isinstance(value, bool) or not isinstance(value, str if kind is str else str | int | float):
            raise ValueError
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        return kind(value)
    except (ValueError, OverflowError):
        raise ConfigError(f"`{name}` is `{_shown(value)}`, but must be {words}") from None


def _shown(value: Any) -> str:
    """Return a value as a message repeats it; Python writes out no number of thousands of digits."""
    try:
        return reprlib.repr(value) if isinstance(value, list | dict) else str(value)
    except ValueError:
        return "a number of thousands of digits"


def raise_together(problems: list[ConfigError]) -> None:
    """Raise one ``ConfigError`` for several, if there is any."""
    if problems:
        hints = [p.hint for p in problems if p.hint]
        raise ConfigError("; ".join(p.message for p in problems), "; ".join(hints))


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read dotted settings from a TOML file with the sections of ``Config``.

    Raises:
        ConfigError: The file cannot be read or is no TOML.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {error.strerror}") from None
    if len(content) > MAX_TOML_BYTES:
        raise ConfigError(f"`{path}` has more than {MAX_TOML_BYTES:,} bytes: these are no settings")
    try:
        data = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # TOML's and Unicode's errors are ValueErrors
        raise ConfigError(f"`{path}` is not valid TOML: {error}") from None
    loose = [name for name, section in data.items() if not isinstance(section, dict)]
    if loose:
        raise ConfigError(
            f"`{loose[0]}` in `{path}` stands outside a section", "sections: [text] [model] [training]"
        )
    return {f"{s}.{k}": v for s, section in data.items() for k, v in section.items()}


def build_config(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    suggested: Mapping[str, Any] | None = None,
) -> Config:
    """Combine the sources of settings: defaults < a corpus's suggestions < preset < file < values.

    Raises:
        ConfigError: A name is unknown or a value out of range; all problems in one sentence.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"unknown preset `{preset}`", suggest(preset, PRESETS))
    merged = {**(suggested or {}), **(PRESETS[preset].settings if preset else {})}
    merged |= read_toml(file) if file is not None else {}
    merged |= values or {}
    config = Config().updated(merged)
    _check_documents(config.text.documents)
    if config.text.val_fraction + config.text.test_fraction >= 1:
        raise ConfigError("`text.val_fraction` and `text.test_fraction` leave nothing to train on")
    return config


def _check_documents(mode: str) -> None:
    """Raise ``ConfigError`` for a known word misspelt, which as a pattern would find only itself."""
    near = get_close_matches(mode.lower(), DOCUMENTS, n=1) if mode.isalpha() else []
    if near and mode not in DOCUMENTS:
        raise ConfigError(
            f"`text.documents` is `{mode}`, which is neither files, lines nor blank",
            f"did you mean `{near[0]}`? If it is a pattern, write `(?:{mode})`",
        )
