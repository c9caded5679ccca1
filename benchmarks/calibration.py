"""How often does `inspect neurons` find what is not there?

    python benchmarks/calibration.py [--seed 1] [--out DIR]

Three kinds of trial, each an inspection of the standard library's sources by `find_neurons`, with every
second hypothesis in turn. Figures that no verdict depends on are left out, and so are interventions:
``tracks`` is what they would start from.

- ``untrained``: networks as they begin, true labels, twins from other seeds. What has learned nothing must
  get no verdict that says it has.
- ``other_documents``: trained networks, and in each half of the text every document has the labels of
  another one. No q may be small.
- ``other_text``: trained networks and one long text, labelled as another one; what is swapped is blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from quality import ROOT, machine

from charrnn.config import ModelConfig, TextConfig
from charrnn.inspection import neurons, report, untrained
from charrnn.inspection.figures import Measures
from charrnn.inspection.findings import Findings
from charrnn.inspection.hypotheses import for_kind, profile_text
from charrnn.inspection.measures import Labels, Series, Setting
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.pieces import Piece, cut_pieces
from charrnn.inspection.record import Recorded, Recorder, all_neurons
from charrnn.inspection.subject import TWINS, Subject
from charrnn.inspection.sums import GroupSums, correlation, products
from charrnn.inspection.verdicts import Q
from charrnn.model.network import Network
from charrnn.runs import find_checkpoint, load_checkpoint
from charrnn.text import corpora
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.start import start

CLAIMS = ("found", "tracks", "used", "drives", "redundant")
"""Verdicts that say something of a neuron."""
HIDDEN, LAYERS = 64, 1
TEXTS = 4
"""Every fourth file makes one text of many documents; the first of them is kept from training."""
DOCUMENT_CHARS = 1_800
LONG_CHARS = 100_000
ORDERS = 8
TRAINED = 2
TRAIN_STEPS = 2_000
TURNS = 2
"""Each trial asks every second hypothesis, so that all are asked."""
TRIALS = 200
ATTEMPTS = 1_000_000


class Remembering(Recorder):
    """Reads the same pieces with the same network once: between trials, it is the labels that differ."""

    memory: ClassVar[dict[Any, tuple[Network, list[Recorded], float]]] = {}

    def read(self, pieces: Sequence[Piece]) -> Iterator[Recorded]:
        spots = tuple((piece.document, piece.begin, piece.text) for piece in pieces)
        key = id(self.network), hash(spots)
        everything = all_neurons(self.network, "c")
        if key not in self.memory:
            recorder = Recorder(self.network, self.table, everything)
            windows = list(recorder.read(pieces))
            self.memory[key] = self.network, windows, recorder.largest_error
        _, windows, self.largest_error = self.memory[key]
        columns = [everything.index(neuron) for neuron in self.neurons]
        whole = len(columns) == len(everything)
        for window in windows:
            chosen = [torch.cat(window.parts, dim=-1)[..., columns]]
            yield window if whole else replace(window, parts=chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=TRIALS, help="of the first two kinds")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "records")
    options = parser.parse_args()
    torch.set_num_threads(1)
    patch()
    begun = time.monotonic()
    record = machine() | {"seed": options.seed, "model": f"lstm {LAYERS}×{HIDDEN}"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHARRNN_CACHE"] = folder
        bench = Bench(Path(folder), options.seed, options.trials)
        record["trained_bpc"] = bench.bpc
        for name in ("untrained", "other_documents", "other_text"):
            record[name] = summary(list(getattr(bench, name)()))
            print(name, json.dumps(record[name]["called"]), json.dumps(record[name]["worst"]), flush=True)
            Remembering.memory.clear()
    record |= {"seconds": time.monotonic() - begun, "load_after": os.getloadavg()[0]}
    path = options.out / "calibration.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


class Bench:
    """The texts, the trained networks, and the trials.

    Args:
        folder: For texts and runs, empty.
        seed: Of everything.
        trials: Of each of the first two kinds.
    """

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        self.folder, self.seed, self.trials = folder, seed, trials
        self.random = np.random.default_rng(seed)
        paths = corpora.locate(corpora.find("stdlib"))
        sources = [path.read_bytes().decode("utf-8", "replace") for path in paths]
        self.texts = [
            [source[:DOCUMENT_CHARS] for source in sources[first::TEXTS] if len(source) >= DOCUMENT_CHARS]
            for first in range(TEXTS)
        ]
        self.held_out = sources[::TEXTS]
        self.networks: list[Network] = []
        self.bpc: list[float] = []
        rest = [str(path) for number, path in enumerate(paths) if number % TEXTS]
        for number in range(TRAINED):
            self._train(rest, seed + number)

    def untrained(self) -> Iterator[Findings]:
        """Networks that have learned nothing, with true labels."""
        count = self.trials // TEXTS
        for number, documents in enumerate(self.texts):
            first = self.seed * ATTEMPTS + number * count
            networks = [self._untrained(first + n) for n in range(count)]
            subject = self._subject(documents, networks[0], networks[0])
            for turn, network in enumerate(networks):
                twin, *more = (networks[(turn + 1 + k) % count] for k in range(min(TWINS, count - 1)))
                yield inspected(replace(subject, network=network, twin=twin, more_twins=more), turn)
                if turn >= TWINS:  # the first are the last ones' twins
                    forget(network)

    def other_documents(self) -> Iterator[Findings]:
        """Trained networks; every document has the labels of another one of its half."""
        subject = self._subject(self.texts[0], self.networks[0], self._untrained(self.seed))
        for number, network in enumerate(self.networks):
            subject = replace(subject, network=network, twin=self._untrained(self.seed + number))
            for turn in range(self.trials // TRAINED):
                pieces = with_labels_of_others(subject.pieces, self.random)
                yield inspected(replace(subject, pieces=pieces), turn)

    def other_text(self) -> Iterator[Findings]:
        """Trained networks that read one long text, which is labelled as another one."""
        twin = self._untrained(self.seed)
        subjects = [self._subject([text], self.networks[0], twin) for text in self._long()]
        for turn, (own, other) in enumerate(permutations(subjects, 2)):
            yield inspected(replace(own, pieces=labelled_as(own, other)), turn)

    def _long(self) -> list[str]:
        """Join whole files in several orders, none of which begins with the same file."""
        starts = self.random.permutation(len(self.held_out))[:ORDERS]
        texts = []
        for begin in starts:
            rest = [n for n in self.random.permutation(len(self.held_out)) if n != begin]
            texts.append("".join(self.held_out[n] for n in (begin, *rest))[:LONG_CHARS])
        return texts

    def _untrained(self, seed: int) -> Network:
        return Network(self.config, len(self.vocabulary), seed).eval()

    def _train(self, paths: list[str], seed: int) -> None:
        settings = {
            "model.hidden_size": HIDDEN,
            "model.num_layers": LAYERS,
            "training.steps": TRAIN_STEPS,
            "training.seed": seed,
        }
        *_, end = start(paths, run=str(self.folder / f"run{seed}"), settings=settings).events()
        checkpoint = load_checkpoint(find_checkpoint(self.folder / f"run{seed}"))
        self.networks.append(checkpoint.network.eval())
        self.config: ModelConfig = checkpoint.config.model
        self.vocabulary: Vocabulary = checkpoint.vocabulary
        self.bpc.append(end.best_val_bpc)

    def _subject(self, documents: list[str], network: Network, twin: Network) -> Subject:
        """Label a text as the command does."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for number, text in enumerate(documents):
            (folder / f"{number:03}.py").write_bytes(text.encode())
        corpus = open_corpus(find_sources([str(folder)]), TextConfig())
        profile = profile_text("".join(documents))
        hypotheses = for_kind("python")
        return Subject(
            run="calibration",
            network=network,
            twin=twin,
            vocabulary=self.vocabulary,
            table=corpus.id_table(self.vocabulary),
            pieces=cut_pieces(corpus, [(0, len(corpus.places))], hypotheses, profile),
            hypotheses=hypotheses,
            profile=profile,
        )


def patch() -> None:
    """Leave out of an inspection what takes time and changes no verdict."""
    neurons.Recorder = report.Recorder = untrained.Recorder = Remembering
    report.Tally = FewFigures


class FewFigures:
    """Counts what verdicts depend on; arguments and functions are those of ``Tally``."""

    def __init__(self, kind: str, setting: Setting, labels: Labels, groups: tuple[int, int]) -> None:
        self._shift = setting.shift, labels.mean
        self._sums, self._on, self._chars = np.zeros(6), 0, GroupSums(groups[0])

    def add(self, part: Series, char: np.ndarray, pair: np.ndarray) -> None:
        """Add some pieces."""
        a, y = part.joined()
        self._on += int((y > 0).sum())
        a, y = a.astype(np.float64) - self._shift[0], y - self._shift[1]
        self._sums += products(a, y)
        self._chars.add(a, y, char[~np.isnan(np.concatenate(list(part.y)))])

    def measures(self) -> Measures:
        """Return the figures, the others as None."""
        figures = dict.fromkeys(field.name for field in fields(Measures))
        figures["r"] = float(correlation(self._sums))
        figures["r_within_char"] = self._chars.correlation(self._sums)
        return Measures(**figures | {"prevalence": self._on / max(self._sums[0], 1)})


def inspected(subject: Subject, turn: int) -> Findings:
    """Inspect as the command does, but hold no neurons."""
    part = slice(turn % TURNS, None, TURNS)
    pieces = [replace(piece, labels=np.ascontiguousarray(piece.labels[:, part])) for piece in subject.pieces]
    subject = replace(subject, pieces=pieces, hypotheses=subject.hypotheses[part])
    return find_neurons(subject, Question(ablation=None))


def forget(network: Network) -> None:
    for key in [key for key, (own, *_) in Remembering.memory.items() if own is network]:
        del Remembering.memory[key]


def with_labels_of_others(pieces: Sequence[Piece], random: np.random.Generator) -> list[Piece]:
    """Return pieces in which every document has the labels of another one of its half, as far as they go."""
    result = list(pieces)
    for chooses in (True, False):
        places: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            if piece.chooses == chooses:
                places.setdefault(piece.document, []).append(i)
        order = random.permutation(list(places)).tolist()
        for document, other in zip(order, order[1:] + order[:1], strict=True):
            labels = np.concatenate([pieces[i].labels for i in places[other]])
            for i in places[document]:
                result[i] = replace(pieces[i], labels=cut(labels, len(pieces[i])))
                labels = labels[len(pieces[i]) :]
    return result


def cut(labels: np.ndarray, length: int) -> np.ndarray:
    """Return so many labels; what lacks is not scored."""
    lacking = max(0, length - len(labels))
    return np.pad(labels[:length], ((0, lacking), (0, 0)), constant_values=np.nan)


def labelled_as(own: Subject, other: Subject) -> list[Piece]:
    """Return the pieces of one subject with the labels of another of the same lengths."""
    pairs = zip(own.pieces, other.pieces, strict=True)
    return [replace(mine, labels=cut(theirs.labels, len(mine))) for mine, theirs in pairs]


def summary(trials: Sequence[Findings]) -> dict[str, Any]:
    """Return how many hypotheses were called found, by verdict and by q."""
    rows = [row for findings in trials for row in findings.rows]
    tested = Counter(row.hypothesis for row in rows)
    called = Counter(row.hypothesis for row in rows if row.verdict in CLAIMS)
    small = Counter(row.hypothesis for row in rows if row.q is not None and row.q <= Q)
    return {
        "trials": len(trials),
        "valid_nulls": sum(findings.null_units is not None for findings in trials),
        "null_by": sorted({findings.null_by for findings in trials}),
        "null_units": sorted({findings.null_units or 0 for findings in trials}),
        "split_by": sorted({findings.split_by for findings in trials}),
        "chars": sorted({findings.chars for findings in trials}),
        "hypotheses": sorted({findings.hypotheses_tested for findings in trials}),
        "called": share(called.total(), len(rows)),
        "small_q": share(small.total(), len(rows)),
        "small_p": share(sum(row.p is not None and row.p <= Q for row in rows), len(rows)),
        "trials_with_a_call": share(
            sum(any(r.verdict in CLAIMS for r in f.rows) for f in trials), len(trials)
        ),
        "trials_with_a_small_q": share(
            sum(any(r.q is not None and r.q <= Q for r in f.rows) for f in trials), len(trials)
        ),
        "verdicts": dict(Counter(row.verdict for row in rows).most_common()),
        "worst": {name: count / tested[name] for name, count in called.most_common(5)},
        "worst_q": {name: count / tested[name] for name, count in small.most_common(5)},
    }


def share(count: int, total: int) -> dict[str, Any]:
    """Return a share with its 95 % binomial interval (Wilson 1927)."""
    z = 1.959964
    centre, spread = count + z * z / 2, z * np.sqrt(count * (total - count) / total + z * z / 4)
    low, high = (float((centre + sign * spread) / (total + z * z)) for sign in (-1, 1))
    return {"count": count, "of": total, "share": count / total, "low": max(0.0, low), "high": high}


if __name__ == "__main__":
    main()
