"""Run directories and checkpoints: what is on disk, and how it comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

from charrnn import __version__
from charrnn.config import Config
from charrnn.errors import CharrnnError, CheckpointError, RunError
from charrnn.files import exists, write_atomically, write_together
from charrnn.text.corpus import Corpus, load_corpus, open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.splits import Splits
from charrnn.text.vocabulary import Vocabulary
from charrnn.untrusted import check_safetensors, other_version, parse_json, utf8_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from charrnn.model.network import Network

FORMAT = 2
RUNS = Path("runs")
MODEL, TRAINER = "model.safetensors", "trainer.safetensors"
DEMO = Path(__file__).parent / "demo" / MODEL
"""A small run that comes with the program, called ``demo`` where no other run is."""
COPIES = 3
"""How often safetensors holds what it writes, for a moment."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with everything needed to sample, evaluate and inspect it.

    Args:
        path: The ``.safetensors`` file it came from.
        network: In evaluation mode, on the CPU.
        config: The settings of the run.
        vocabulary: Symbols to ids.
        corpus: What was trained on: cache key, sources, splits.
        progress: ``step``, ``epochs``, ``seconds``, ``val_loss``.
    """

    path: Path
    network: Network
    config: Config
    vocabulary: Vocabulary
    corpus: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def location(self) -> Path:
        """What names the run to every command: its directory, or a file that lies outside any run."""
        return location_of(self.path)

    @property
    def name(self) -> str:
        """The run's name, for people."""
        return self.location.stem if self.location == self.path else self.location.name


class Record(NamedTuple):
    """What a run trains on and with: settings, symbols, text."""

    config: Config
    vocabulary: Vocabulary
    corpus: dict[str, Any]


def location_of(model: Path) -> Path:
    """Return what names the run of a model file to every command."""
    if model == DEMO:
        return Path("demo")
    return model.parent.parent if model.parent.name in ("best", "last") else model


def find_checkpoint(run: str | Path | None = None, *, last: bool = False) -> Path:
    """Return the checkpoint file that a user's RUN means.

    Args:
        run: A run directory, a checkpoint directory, a ``.safetensors`` file, a name under ``runs/``, or
            None for the newest run that has a checkpoint.
        last: Take a run directory's last checkpoint instead of its best.

    Raises:
        RunError: There is no such run, or it has no checkpoint.
    """
    if run is None:
        return _newest(last)
    candidates = [Path(run), RUNS / run]
    found = [file for path in candidates if (file := _checkpoint_in(path, last)) is not None]
    if not found and str(run) == "demo" and DEMO.is_file():
        return DEMO
    if found:
        return found[0]
    empty = [path for path in candidates if exists(path)]
    if empty:
        raise RunError(
            f"`{empty[0]}` has no checkpoint in it", "a run directory holds `best/model.safetensors`"
        )
    raise RunError(f"there is no run `{run}`", "`charrnn runs list` shows those below `runs/`")


def find_run(run: str | Path) -> Path:
    """Return the run directory that a user means to continue.

    Raises:
        RunError: There is no such run, it has nothing to continue from, or it is a single file.
    """
    for folder in (Path(run), RUNS / run):
        if exists(folder / "last" / TRAINER):
            return folder
    path = find_checkpoint(run, last=True)
    if path.name != MODEL or path.parent.name != "last":
        raise RunError(
            f"`{run}` is not a run directory", "only a whole run can be continued, not a single file"
        )
    return path.parent.parent


def _checkpoint_in(path: Path, last: bool) -> Path | None:
    """Return the model file that a path means. A file of another kind is one only outside ``runs/``."""
    inside = [path / MODEL, *(path / which / MODEL for which in (("last",) if last else ("best", "last")))]
    files = [file for file in inside if exists(file)]
    if files:
        return files[0]
    hidden_by_name = exists(RUNS / path / "last" / MODEL) and path.suffix != ".safetensors"
    return path if exists(path) and path.is_file() and not hidden_by_name else None


def list_runs(folder: Path = RUNS) -> list[Path]:
    """Return the run directories that have a checkpoint, the newest first."""
    found = [path.parent.parent for path in folder.glob(f"*/last/{MODEL}")]
    return sorted(found, key=lambda path: (path / "last" / MODEL).stat().st_mtime, reverse=True)


def _newest(last: bool) -> Path:
    runs = list_runs()
    if not runs:
        raise RunError(
            "there is no run below `runs/` yet", "charrnn train corpus.txt, or try the run called `demo`"
        )
    return find_checkpoint(runs[0], last=last)


def new_run_directory(name: str | None, default: str, overwrite: bool) -> Path:
    """Return the directory for a new run.

    Args:
        name: A name under ``runs/`` or a path; None picks a free name that begins with ``default``.
        default: The corpus, as a word.
        overwrite: Whether a directory that already has a checkpoint may be used again.

    Raises:
        RunError: The directory has a checkpoint in it, and ``overwrite`` is not set.
    """
    if name is None:
        names = [default, *(f"{default}-{n}" for n in range(2, 10_000))]
        return next(RUNS / n for n in names if _what_blocks(RUNS / n) is None and _is_free(RUNS / n))
    if not name.strip() or Path(name).name in ("", ".."):
        raise RunError(
            f"`{name}` is no name for a run", "for example `--run mine`, or a path such as `--run ./mine`"
        )
    is_path = any(mark in name for mark in ("/", "\\")) or Path(name).is_absolute()
    folder = Path(name) if is_path else RUNS / name
    blocked = _what_blocks(folder)
    if blocked is not None:
        raise RunError(f"`{folder}` cannot be a directory: {blocked}", "choose another name with `--run`")
    if not overwrite and not _is_free(folder):
        raise RunError(
            f"`{folder}` already holds a run",
            f"`--overwrite` replaces it, `--resume {quote(str(folder))}` continues it",
        )
    return folder


def _what_blocks(folder: Path) -> str | None:
    """Return why a directory cannot be made or used, or None."""
    try:
        files = [path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()]
    except OSError as error:  # a name that is too long, say
        return error.strerror
    return f"`{files[0]}` is a file" if files else None


def _is_free(folder: Path) -> bool:
    return not any(exists(folder / name) for name in (f"best/{MODEL}", f"last/{MODEL}", f"last/{TRAINER}"))


def start_directory(
    folder: Path,
    config: Config,
    vocabulary: Vocabulary,
    corpus: Mapping[str, Any],
    checkpoint: Mapping[str, bytes] | None = None,
) -> None:
    """Write the resolved config, the vocabulary and the first checkpoint, all of them or none.

    Args:
        folder: The run directory.
        config: Its settings.
        vocabulary: Its symbols.
        corpus: What is trained on.
        checkpoint: Files by their names in the directory; the first comes before all others.

    Raises:
        CheckpointError: The disk is full or refuses.
    """
    record = {"format": FORMAT, "config": config.to_json(), "corpus": corpus}
    files = {
        **(checkpoint or {}),
        "config.json": json.dumps(record, indent=1).encode(),
        "vocabulary.json": json.dumps(vocabulary.to_json()).encode(),
    }
    write_together({folder / name: data for name, data in files.items()})


def save_model(
    path: Path,
    network: Network,
    config: Config,
    vocabulary: Vocabulary,
    corpus: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> None:
    """Write a model file that is enough to sample, evaluate and inspect.

    Raises:
        CheckpointError: The disk is full or refuses; the file that was there before is untouched.
    """
    write_atomically(path, model_bytes(network, config, vocabulary, corpus, progress))


def model_bytes(
    network: Network,
    config: Config,
    vocabulary: Vocabulary,
    corpus: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> bytes:
    """Return the content of a model file."""
    return tensor_bytes(network.state_dict(), header_of(config, vocabulary, corpus) | {"progress": progress})


def header_of(config: Config, vocabulary: Vocabulary, corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every file of a run says about what it is."""
    return {
        "format": FORMAT,
        "charrnn": __version__,
        "config": config.to_json(),
        "vocabulary": vocabulary.to_json(),
        "corpus": corpus,
    }


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON header as one safetensors file."""
    write_atomically(path, tensor_bytes(tensors, header))


def tensor_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return the content of a safetensors file with named tensors and a JSON header."""
    import torch
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # safetensors copies all of it, and where there is no room for that, it panics or ends the process
    torch.empty(COPIES * sum(tensor.nbytes for tensor in contiguous.values()), dtype=torch.uint8)
    return save(contiguous, metadata={"charrnn": json.dumps(header)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a file that ``save_tensors`` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or not ours.
    """
    return _read(path, "pt", lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors as arrays, and the header, without torch; errors as for ``load_tensors``."""
    return _read(path, "np", lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def read_header(path: Path) -> dict[str, Any]:
    """Return the header alone, without importing torch; errors as for ``load_tensors``."""
    return _read(path, "np", lambda file: {})[1]


def _read(
    path: Path, framework: str, take: Callable[[Any], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    check_safetensors(path)
    try:
        with utf8_name(path) as name, safe_open(name, framework=framework, device="cpu") as file:
            header = parse_json((file.metadata() or {})["charrnn"])
            tensors = take(file)
    except (SafetensorError, OSError) as error:
        ours = path.suffix == ".safetensors"
        hint = "was it copied whole?" if ours else "a RUN comes first, texts after it"
        raise CheckpointError(f"`{path}` is damaged or no checkpoint: {error}", hint) from None
    except (KeyError, ValueError, TypeError):
        raise CheckpointError(f"`{path}` was not written by charrnn", "it has no charrnn header") from None
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise CheckpointError(f"`{path}` has a header that charrnn cannot read")
    if header["format"] > FORMAT:
        raise CheckpointError(f"`{path}` has format {header['format']}; this charrnn reads up to {FORMAT}")
    return tensors, header


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a model file onto the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, foreign, or its parts do not fit together.
    """
    tensors, header = load_tensors(path)
    with _understood(path, header):
        record, progress = _record(header), dict(header["progress"])
        network = build_network(record.config, len(record.vocabulary), tensors)
    return Checkpoint(path, network, *record, progress)


def load_record(folder: Path) -> Record:
    """Return what a run that goes on trains on and with.

    That stands in ``trainer.safetensors``, beside the state that it belongs to; in runs of earlier versions
    in the model, which is never of another run there.

    Raises:
        CheckpointError: A file is missing, damaged or foreign.
    """
    model, trainer = folder / "last" / MODEL, folder / "last" / TRAINER
    beside = load_checkpoint(model) if exists(model) else None
    weights, header = _read(trainer, "pt", _trained_weights)
    if beside is not None and "config" not in header:
        return Record(beside.config, beside.vocabulary, beside.corpus)
    with _understood(trainer, header):
        record = _record(header)
        build_network(record.config, len(record.vocabulary), weights)  # before one of that size is made
    return record


def _trained_weights(file: Any) -> dict[str, Tensor]:
    names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
    return {name.removeprefix("model."): file.get_tensor(name) for name in names}


@contextmanager
def _understood(path: Path, header: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever a header that cannot be causes into an error that names the file."""
    other = other_version(header)
    try:
        yield
    except CharrnnError as error:
        raise CheckpointError(f"`{path}` cannot be loaded: {error.message}", other or error.hint) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"`{path}` has a header that charrnn cannot read", other) from None


def _record(header: Mapping[str, Any]) -> Record:
    config = Config.from_json(_todays_names(header["config"], header["format"]))
    return Record(config, Vocabulary.from_json(header["vocabulary"]), _checked_record(header["corpus"]))


def _todays_names(config: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """Return the settings that mean today what those of a file of format ``number`` meant.

    Up to format 1, ``sgd`` had Nesterov's momentum, and all rules but ``adamw`` took ``weight_decay``
    as L2.
    """
    training = dict(config.get("training", {}))
    if number > 1 or training.get("optimizer", "adamw") == "adamw":
        return config
    if training["optimizer"] == "sgd":
        training["optimizer"] = "nesterov"
    training |= {"l2": training.pop("weight_decay", 0.01), "weight_decay": 0.0}
    return {**config, "training": training}


def _checked_record(record: Any) -> dict[str, Any]:
    """Return what a checkpoint says about its text, if it can be what a run wrote.

    Raises:
        ValueError: It cannot.
    """
    if record == {}:
        return {}
    splits = Splits.from_json(record["splits"])
    ends = [end for part in (splits.train, splits.val, splits.test) for end in part]
    for names in (record["texts"], record.get("seen", [])):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names")
    if not all(type(end) is int and end >= 0 for end in ends) or ends != sorted(ends) or len(ends) != 6:
        raise ValueError("splits")
    if not isinstance(record.get("init_from", []), list):
        raise ValueError("init_from")
    return dict(record)


def build_network(config: Config, vocab_size: int, tensors: Mapping[str, Tensor]) -> Network:
    """Return a network in evaluation mode with the given weights.

    Raises:
        CheckpointError: A weight is missing, left over, or has another shape than the config says.
    """
    import torch

    from charrnn.model.initial import Unfilled
    from charrnn.model.network import new_network

    settings = config.model
    if None in (settings.hidden_size, settings.num_layers, settings.embedding_size, settings.dropout):
        raise CheckpointError("the config leaves a part of the network open")
    with torch.device("meta"), Unfilled():  # shapes are compared before anything is allocated
        network = new_network(config.model, vocab_size)
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if expected != found or any(t.dtype != torch.float32 for t in tensors.values()):
        raise CheckpointError("the weights do not have the names and shapes that the config asks for")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise CheckpointError("a weight is not finite")
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval()


def find_corpus(checkpoint: Checkpoint | Record) -> Corpus | None:
    """Return the text a run was trained on, from the cache or read again; None if it is gone or changed."""
    record = checkpoint.corpus
    key = str(record.get("key", ""))
    found = load_corpus(key)
    if found is None and "-" not in record.get("texts", ["-"]):
        with suppress(CharrnnError):
            # a file that somebody else wrote may name any path: nothing is taken of another content
            found = open_corpus(find_sources(record["texts"]), checkpoint.config.text, key=key)
    fits = found is not None and record["splits"]["test"][1] <= len(found.places)
    return found if fits else None
