"""What reads files that anybody may have written: each target takes the bytes of one, or refuses them.

A target returns, or raises ``CharrnnError``; anything else is a defect. It holds a good file, what changes
it, and a function that reads the changed one and uses what came of it as a command would.
"""

from __future__ import annotations

import bz2
import gzip
import http.client
import importlib
import io
import json
import lzma
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from charrnn.compression import archive
from charrnn.config import Config, build_config
from charrnn.errors import CharrnnError
from charrnn.inspection import store
from charrnn.inspection.hypotheses.custom import resolve
from charrnn.inspection.hypotheses.foreign import load_labels
from charrnn.model.network import Network
from charrnn.runs import find_corpus, load_checkpoint, load_record, read_header, save_model
from charrnn.text import download
from charrnn.text.cache_dir import cache_dir
from charrnn.text.corpora import CorpusEntry
from charrnn.text.corpus import load_corpus, open_corpus
from charrnn.text.documents import document_splitter
from charrnn.text.reading import Source, check_encoding, decode, read_bytes
from charrnn.text.splits import make_splits
from charrnn.text.vocabulary import Vocabulary
from charrnn.training import start
from charrnn.training.averaging import NoAverage
from charrnn.training.log import EventLog, ended
from charrnn.training.state import Counters, load_trainer, save_trainer
from charrnn.training.step import Step
from charrnn.untrusted import parse_json
from fuzzing import mutations
from fuzzing.mutations import Mutation

TEXT = 'One "two", three (four).\n\nfünf, sechs\n' * 6
SMALL = {"model.hidden_size": 3, "model.num_layers": 1, "model.embedding_size": 0, "model.dropout": 0.0}
SMALL |= {"training.batch_size": 2, "training.seq_len": 4, "training.learning_rate": 0.01}
SMALL |= {"training.weight_decay": 0.0}


@dataclass(frozen=True)
class Target:
    """Something that reads a file.

    Args:
        good: Files that it takes.
        mutate: What makes a bad one of one of them.
        read: Reads and uses a file.
        share: Of all inputs, in proportion; slow targets get fewer.
        reads_elsewhere: Whether the file may name others to read, as a run does its text.
    """

    good: tuple[bytes, ...]
    mutate: Mutation
    read: Callable[[bytes], None]
    share: float = 2.0
    reads_elsewhere: bool = False

    def inputs(self, seed: str, count: int) -> Iterator[bytes]:
        """Yield changed files; the same seed gives the same ones."""
        for number in range(count):
            random = Random(f"{seed} {number}")
            good = random.choice(self.good)
            try:
                yield self.mutate(random, good)
            except (RecursionError, OverflowError, ValueError):  # values in values that cannot be written
                yield mutations.bytes_mutated(random, good)


def make_targets(folder: Path) -> dict[str, Target]:
    """Return all targets by name; their files lie in a folder, which holds the cache, too."""
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    corpus = open_corpus([Source("text.txt", text)], Config().text)
    makers = (_models, _trainers, _settings, _caches, _findings, _archives, _labels, _texts, _others)
    makers += (_runs, _answers)
    found: dict[str, Target] = {}
    for maker in makers:
        found |= maker(folder, corpus)
    for name, target in found.items():
        for data in target.good:
            try:
                target.read(data)
            except CharrnnError as error:
                raise AssertionError(f"{name} refuses a good file: {error}") from error
    return found


def _written(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """Return what writes bytes into a file and has it read."""

    def write_and_read(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return write_and_read


# -- runs ---------------------------------------------------------------------------------------


def _model_file(folder: Path, corpus: Any, **changed: Any) -> tuple[Path, Network, Config]:
    config = build_config(values=SMALL | changed)
    splits = make_splits(corpus, 0.2, 0.1)
    vocabulary = corpus.training_vocabulary(*splits.train)
    network = Network(config.model, len(vocabulary), 1)
    record = {
        name: corpus.info[name] for name in ("key", "kind", "sha256", "characters", "documents", "sources")
    }
    record |= {"texts": [str(folder / "text.txt")], "splits": splits.to_json()}
    path = folder / "good.safetensors"
    progress = {"step": 3, "epochs": 0.5, "seconds": 1.0, "val_loss": 2.5}
    save_model(path, network, config, vocabulary, record, progress)
    return path, network, config


def _models(folder: Path, corpus: Any) -> dict[str, Target]:
    good = []
    for cell, size in (("lstm", 0), ("gru", 2), ("esn", 0)):
        path, *_ = _model_file(folder, corpus, **{"model.cell": cell, "model.embedding_size": size})
        good.append(path.read_bytes())
    bad = folder / "bad.safetensors"
    mutate = mutations.safetensors_mutated
    return {
        "model": Target(tuple(good), mutate, _written(bad, _use_model), 0.4, reads_elsewhere=True),
        "model, exact": Target(tuple(good[:2]), mutate, _written(bad, archive.load_model), 0.6),
        "model, header": Target(tuple(good), mutate, _written(bad, _use_header), 0.6),
    }


def _use_model(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    find_corpus(checkpoint)
    with torch.no_grad():
        checkpoint.network.step(torch.zeros(1, dtype=torch.long), checkpoint.network.initial_state(1))
    json.dumps(checkpoint.config.to_json())


def _use_header(path: Path) -> None:
    from charrnn.cli.runs import _shown, _summary

    _shown(_summary(str(path)))
    store.key_of(path, [], store.DEFAULT_QUESTION | {"hypotheses": []})


def _trainers(folder: Path, corpus: Any) -> dict[str, Target]:
    path, network, _ = _model_file(folder, corpus)
    about = {name: part for name, part in read_header(path).items() if name != "progress"}
    found = {}
    for rule in ("muon", "momentum"):
        config = build_config(values=SMALL | {"training.optimizer": rule})
        step = Step(network, config.training, torch.device("cpu"), "fp32")
        _step(network, step.optimizer)
        state, counters = network.initial_state(2), Counters(step=1, position=4, val_losses=[2.0])
        save_trainer(folder / "last", network, step.optimizer, state, counters, {}, about=about)
        good = (folder / "last" / "trainer.safetensors").read_bytes()
        read = _written(folder / "last" / "trainer.safetensors", partial(_use_trainer, network, config))
        found[f"trainer, {rule}"] = Target((good,), mutations.safetensors_mutated, read, 0.2)
    return found


def _use_trainer(network: Network, config: Config, path: Path) -> None:
    load_record(path.parent.parent)
    step = Step(network, config.training, torch.device("cpu"), "fp32")
    average = NoAverage(network, config.training, Counters())
    load_trainer(path, network, step.optimizer, config.training, average)
    _step(network, step.optimizer)


def _step(network: Network, optimizer: torch.optim.Optimizer) -> None:
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()


# -- settings, caches ---------------------------------------------------------------------------


def _settings(folder: Path, _: Any) -> dict[str, Target]:
    good = (
        b"# mine\n[text]\nencoding = 'utf-8'\nval_fraction = 0.1\n[model]\ncell = \"gru\"\nhidden_size = 64\n"
        b"[training]\nminutes = 3.5\nlearning_rate = 1e-3\nrandom_seq_len = true\n"
    )
    config = json.dumps(Config().to_json()).encode()
    read = _written(folder / "bad.toml", lambda path: build_config(file=path))
    flags = [b"model.hidden_size=8", b"training.minutes=1.5", b"text.documents=lines", b"model.cell=lstm"]
    return {
        "config.toml": Target((good,), mutations.words_mutated, read),
        "config, JSON": Target((config,), mutations.json_mutated, lambda data: _use_config(data)),
        "--set": Target(tuple(flags), mutations.words_mutated, _use_setting),
    }


def _use_config(data: bytes) -> None:
    try:
        Config.from_json(parse_json(data))
    except (ValueError, TypeError, AttributeError, KeyError):  # as runs.py has it
        return


def _use_setting(data: bytes) -> None:
    name, _, value = data.decode("utf-8", "surrogateescape").partition("=")
    build_config(values={name: value})


def _caches(folder: Path, corpus: Any) -> dict[str, Target]:
    entry = cache_dir() / "encoded" / corpus.info["key"]
    good = {path.name: path.read_bytes() for path in entry.iterdir()}
    ways = {"info.json": mutations.json_mutated}

    def target(name: str) -> Target:
        def read(data: bytes) -> None:
            (entry / name).write_bytes(data)
            try:
                _use_corpus(corpus.info["key"])
            finally:
                (entry / name).write_bytes(good[name])

        return Target((good[name],), ways.get(name, mutations.npy_mutated), read, 1.0)

    return {f"cache, {name}": target(name) for name in sorted(good)}


def _use_corpus(key: str) -> None:
    corpus = load_corpus(key)
    if corpus is None:
        return
    end = len(corpus.places)
    vocabulary = corpus.training_vocabulary(0, end)
    corpus.id_table(vocabulary)[corpus.places[:100]]
    corpus.extra_nats(vocabulary)
    make_splits(corpus, 0.1, 0.1)
    list(corpus.documents(0, min(end, 200)))
    corpus.text(0, min(end, 50))


def _findings(_: Path, __: Any) -> dict[str, Target]:
    data = json.loads(store.DEMO.with_name("findings.json").read_bytes())
    data["rows"], data["cards"] = data["rows"][:1], data["cards"][:1]
    data["cards"][0]["excerpts"] = data["cards"][0]["excerpts"][:1]
    good = store._restored(store.Findings, data)
    store.save_findings("good", good)
    path = store._path("good")
    read = _written(path, lambda _: store.load_findings("good", "x"))
    return {"findings": Target((path.read_bytes(),), mutations.checksummed_json_mutated, read, 0.4)}


# -- compressed texts, labels -------------------------------------------------------------------


def _archives(folder: Path, corpus: Any) -> dict[str, Target]:
    model = archive.load_model(_model_file(folder, corpus)[0])
    good, sizes = [], []
    for text in ("One", "fünf \x1b é", ""):
        (folder / "plain").write_text(text, encoding="utf-8")
        archive.compress(model, folder / "plain", folder / "small.crnn")
        good.append((folder / "small.crnn").read_bytes())
        with (folder / "small.crnn").open("rb") as file:
            archive.read_header(file)
            sizes.append(file.tell() - 4)
    assert len(set(sizes)) == 1

    def read(path: Path) -> None:
        archive.decompress(model, path, folder / "back", max_bytes=300)

    return {
        "compressed text": Target(
            tuple(good), mutations.archive_mutated(sizes[0]), _written(folder / "bad.crnn", read)
        )
    }


def _labels(folder: Path, _: Any) -> dict[str, Target]:
    good = []
    for values in (np.arange(50, dtype=np.float64), np.zeros(30, bool), np.ones((2, 3), np.float32)):
        file = io.BytesIO()
        np.save(file, values)
        good.append(file.getvalue())
    specs = (b"in_quote & ~is_space", rb"mine=/\bthe\b(?P<in>x)/i", b"(column)", b"in_quote")
    read = _written(folder / "labels.npy", lambda path: load_labels(str(path)))
    return {
        "labels": Target(tuple(good[:2]), mutations.npy_mutated, read),
        "hypothesis": Target(specs, mutations.words_mutated, _use_hypothesis),
    }


def _use_hypothesis(data: bytes) -> None:
    spec = data.decode("utf-8", "surrogateescape")
    if ".py" not in spec:  # code of the user's own, which is run
        resolve(spec)


# -- texts --------------------------------------------------------------------------------------


def _texts(folder: Path, _: Any) -> dict[str, Target]:
    data = TEXT.encode()
    packed = (gzip.compress(data), bz2.compress(data), lzma.compress(data), gzip.compress(data) * 2)
    plain = (data, TEXT.encode("utf-16"), TEXT.encode("utf-32"), b"\xef\xbb\xbf" + data)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("inner", data)
    entry = CorpusEntry(
        "x", "", "", "", "", "chars", 0.1, 0.1, size_bytes=len(data), url="http://x", member="inner"
    )
    unpack = _written(folder / "x.zip", lambda path: download._unpack(path, entry, folder / "x.txt"))
    path = folder / "bad.txt"
    others = {name: TEXT.encode(name) for name in ("utf-7", "gb18030")}
    return {
        "compressed corpus": Target(packed, mutations.bytes_mutated, _written(path, _use_text)),
        "corpus": Target(plain, mutations.bytes_mutated, _written(path, _use_text)),
        **{
            f"corpus, {name}": Target(
                (good,), mutations.bytes_mutated, _written(path, partial(_use_text, encoding=name)), 1.0
            )
            for name, good in others.items()
        },
        "corpus, zip": Target((file.getvalue(),), mutations.bytes_mutated, unpack),
        **_zstandard(path, data),
    }


def _zstandard(path: Path, data: bytes) -> dict[str, Target]:
    if find_spec("zstandard") is None:
        return {}
    pack = importlib.import_module("zstandard").ZstdCompressor
    checked = pack(write_checksum=True).compress(data)
    begun = pack(write_content_size=False).compressobj()
    packed = (pack().compress(data), checked, begun.compress(data) + begun.flush(), checked * 2)
    return {"corpus, zstandard": Target(packed, mutations.bytes_mutated, _written(path, _use_text))}


def _use_text(path: Path, encoding: str = "utf-8") -> None:
    source = Source(path.name, path)
    pieces = decode(read_bytes(source), check_encoding(encoding), "lf", path.name)
    for _ in document_splitter("blank")(pieces):
        pass


def _others(folder: Path, _: Any) -> dict[str, Target]:
    vocabulary = json.dumps(Vocabulary.of_chars(map(ord, "abcé😀")).to_json()).encode()
    log = b'{"event": "step", "step": 1, "loss": 2.5}\n{"event": "end", "step": 2}\n'
    return {
        "vocabulary": Target((vocabulary,), mutations.json_mutated, _use_vocabulary),
        "log.jsonl": Target((log,), mutations.bytes_mutated, _written(folder / "log.jsonl", _use_log)),
    }


def _use_vocabulary(data: bytes) -> None:
    try:
        vocabulary = Vocabulary.from_json(parse_json(data))
    except (ValueError, TypeError, KeyError, AttributeError):  # as runs.py has it
        return
    vocabulary.encode("abc\ud800")
    [vocabulary.symbol_bytes(index) for index in range(min(9, len(vocabulary)))]


def _use_log(path: Path) -> None:
    ended(path, 10)
    with closing(EventLog(path, 60)._file):
        pass


# -- a whole run that goes on -------------------------------------------------------------------


def _runs(folder: Path, _: Any) -> dict[str, Target]:
    """Return the target that resumes a run of which one file was changed, or is no file any more."""
    run, outside = folder / "run", folder / "outside"
    settings = SMALL | {"training.steps": 6, "training.num_evals": 2}
    going = start.start([str(folder / "text.txt")], run=str(run), settings=settings, device="cpu")
    for event in going.events():
        if event.step == 3:
            going.request_stop()
    files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outside.mkdir()
    good = tuple(f"{name}\n".encode() + data for name, data in files.items() if data)
    read = partial(_use_run, run, files, outside)
    return {"run": Target(good, mutations.run_file_mutated, read, 0.1, reads_elsewhere=True)}


def _use_run(run: Path, files: dict[Path, bytes], outside: Path, data: bytes) -> None:
    first, _, content = data.partition(b"\n")
    name, _, kind = first.decode("latin-1").partition(" ")
    _fill(run, files)
    _fill(outside, {Path("file"): b"mine", Path("model.safetensors"): b"mine", Path("trainer.json"): b"mine"})
    if Path(name) in files or name in ("last", "best", ".lock"):
        _put(run / name, kind, content, outside)
    going = start.resume(str(run), device="cpu")
    try:
        for number, _ in enumerate(going.events()):
            if number == 9:
                going.request_stop()
    finally:
        found = {path.name: path.is_file() and path.read_bytes() for path in outside.iterdir()}
        if sorted(found) != ["file", "model.safetensors", "trainer.json"] or {*found.values()} != {b"mine"}:
            raise AssertionError("a file outside of the run was changed")


def _fill(folder: Path, files: dict[Path, bytes]) -> None:
    """Make a folder that holds these files and no others."""
    if folder.is_dir():
        shutil.rmtree(folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _put(path: Path, kind: str, content: bytes, outside: Path) -> None:
    """Put content in the place of a file, or something that is none."""
    if kind:
        with suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "link":
        path.symlink_to(outside if path.name in ("last", "best") else outside / "file")
    elif kind == "dangling":
        path.symlink_to(outside / "new")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif not kind and not path.is_dir():
        path.write_bytes(content)


# -- what a server answers ----------------------------------------------------------------------


def _answers(folder: Path, _: Any) -> dict[str, Target]:
    """Return the target that goes on with a download of 40 bytes, 10 of which are there."""
    body = bytes(range(40, 80))
    whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 40\r\n\r\n" + body
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-39/40\r\nContent-Length: 30\r\n\r\n"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n%b\r\n14\r\n%b\r\n0\r\n\r\n"
    good = (whole, part + body[10:], chunks % (body[:20], body[20:]), b"HTTP/1.0 200 OK\r\n\r\n" + body)
    good += (b"HTTP/1.1 416 No\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n",)
    return {"answer": Target(good, mutations.answer_mutated, partial(_use_answer, folder / "download"))}


class _Socket(io.BytesIO):
    """A connection to a server that says the same to everything."""

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.getvalue())

    def sendall(self, data: bytes) -> None:
        """Nobody listens."""


def _use_answer(target: Path, data: bytes) -> None:
    target.unlink(missing_ok=True)
    target.with_name("download.part").write_bytes(bytes(range(40, 50)))

    def connect(connection: http.client.HTTPConnection) -> None:
        connection.sock = _Socket(data)

    with (
        patch.object(http.client.HTTPConnection, "connect", connect),
        patch.object(http.client.HTTPSConnection, "connect", connect),
    ):
        download.fetch("http://texts.invalid/text", target, max_bytes=1000)
    if target.stat().st_size > 1000:
        raise AssertionError("more was written than was allowed")
