"""What a notebook uses, and what the commands wrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charrnn import evaluation
from charrnn.devices import resolve_device
from charrnn.errors import ConfigError, RunError
from charrnn.evaluation import Evaluation
from charrnn.events import Event
from charrnn.inspection.delta_loss import HELD, delta_losses
from charrnn.inspection.examples import Examples, find_examples
from charrnn.inspection.findings import Findings
from charrnn.inspection.gates import GateFindings, find_gates
from charrnn.inspection.gradients import GradientFindings, find_gradients
from charrnn.inspection.holding import check_kind, named_neuron, parse_holds
from charrnn.inspection.names import Neuron
from charrnn.inspection.neurons import Question, find_neurons
from charrnn.inspection.page import Page, make_page, page_pieces
from charrnn.inspection.record import Recorder, raw_values
from charrnn.inspection.subject import Subject, make_subject
from charrnn.inspection.watching import watched
from charrnn.model.holds import hold_all
from charrnn.model.network import no_hold
from charrnn.runs import Checkpoint, find_checkpoint, find_corpus, load_checkpoint
from charrnn.sampling import SamplingConfig, Speaker, round_network, until
from charrnn.text.corpus import Corpus, open_corpus
from charrnn.text.reading import find_sources
from charrnn.training.start import start

HOLD_PIECES = 10
"""Pieces of held-out text that say what a neuron's quantiles are."""


class Run:
    """A trained run, loaded.

    Args:
        checkpoint: What was read from disk.
        device: Where the network shall run.
        precision: How its weights are stored: ``fp32``, or on the CPU ``bf16`` or ``int8``, which speak
            faster and know a little less.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: str = "fp32") -> None:
        self.checkpoint = checkpoint
        self.network = checkpoint.network.to(device)
        self.precision = precision
        round_network(self.network, precision)
        self.vocabulary = checkpoint.vocabulary
        self.config = checkpoint.config

    @property
    def name(self) -> str:
        """The run's name."""
        return self.checkpoint.name

    def stream(
        self,
        length: int = 500,
        *,
        prompt: str = "",
        seed: int = 1,
        stop: str | Sequence[str] = (),
        stream: int = 0,
        hold: str | Sequence[str] = (),
        **how: Any,
    ) -> Iterator[str]:
        """Yield text as it is made; arguments as for ``sample``, ``stream`` numbers the sample."""
        speaker, stops = self._speaker(length, prompt, seed, stop, hold, how)
        return until(speaker.characters(prompt, length, seed, stream), stops)

    def watch(
        self,
        length: int = 500,
        *,
        colour: str = "surprisal",
        prompt: str = "",
        seed: int = 1,
        stop: str | Sequence[str] = (),
        stream: int = 0,
        hold: str | Sequence[str] = (),
        **how: Any,
    ) -> Iterator[tuple[str, list[float]]]:
        """Yield the text of ``stream`` as it is made, with a number for each of its characters.

        Args:
            length: As for ``sample``, like all but ``colour`` and ``stream``.
            colour: ``surprisal``, in bits under the model itself, or a neuron: its value after reading the
                character, ``tanh(c)`` for a c neuron.
            stream: Numbers the sample.

        Raises:
            ConfigError: As for ``sample``.
            InspectionError: The network has no such neuron.
        """
        neuron = None if colour == "surprisal" else named_neuron(self.network, colour)
        speaker, stops = self._speaker(length, prompt, seed, stop, hold, how)
        return watched(speaker, prompt, length, seed, stream, stops, neuron)

    def _speaker(
        self,
        length: int,
        prompt: str,
        seed: int,
        stop: str | Sequence[str],
        hold: str | Sequence[str],
        how: dict[str, Any],
    ) -> tuple[Speaker, tuple[str, ...]]:
        """Check what was asked for; return who speaks, and what ends the text."""
        if length < 0:
            raise ConfigError(f"`length` is `{length}`, but must be at least 0")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"`seed` is `{seed}`, but must be at least 0 and below 2**64")
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if "" in stop:
            raise ConfigError("`stop` is empty", "give the text to stop at")
        holds = parse_holds(self.network, (hold,) if isinstance(hold, str) else hold, self._activations)
        keep = hold_all(holds, self.network) if holds else no_hold
        precision = self.precision if keep is no_hold else "fp32"  # the weights are rounded either way
        speaker = Speaker(self.network, self.vocabulary, SamplingConfig(**how), keep, precision)
        if prompt and len(self.vocabulary.unknown(prompt)) == len(set(prompt)):
            known = "".join(chr(symbol) for symbol in self.vocabulary.symbols if chr(symbol).isprintable())
            raise ConfigError(
                f"the model knows no character of the prompt `{prompt}`", f"it knows: {known[:200]}"
            )
        return speaker, stop

    def sample(self, length: int = 500, **how: Any) -> str:
        """Return generated text, without the prompt.

        Args:
            length: Characters to generate (with bytes: symbols).
            how: ``prompt`` (unknown characters are skipped), ``seed``, ``stop`` (strings that end the
                text, left out), ``hold`` (neurons kept at values, such as ``L1.c5=0.9``), and the fields
                of ``SamplingConfig``.

        Raises:
            ConfigError: A value is out of range, or the model knows no character of the prompt.
            InspectionError: What is to be held is no neuron or no value for it.
        """
        return "".join(self.stream(length, **how))

    def samples(
        self,
        count: int,
        length: int = 500,
        *,
        prompt: str = "",
        seed: int = 1,
        stop: str | Sequence[str] = (),
        hold: str | Sequence[str] = (),
        **how: Any,
    ) -> list[str]:
        """Return several texts, made side by side: those that ``stream`` yields for streams 0, 1, ….

        Args:
            count: How many.
            length: As for ``sample``, like all that follow.
        """
        speaker, stops = self._speaker(length, prompt, seed, stop, hold, how)
        return ["".join(until(iter([text]), stops)) for text in speaker.texts(prompt, length, seed, count)]

    def _activations(self, neuron: Neuron) -> np.ndarray:
        """Return a neuron's activations over some of the run's held-out text."""
        subject = make_subject(self.checkpoint, self.network.readout.weight.device, hypotheses=("is_space",))
        pieces = subject.pieces[:: 1 + len(subject.pieces) // HOLD_PIECES]
        values = raw_values(Recorder(self.network, subject.table, [neuron]), pieces)
        return np.concatenate([v[piece.skip :, 0] for piece, v in zip(pieces, values, strict=True)])

    def evaluate(
        self,
        texts: Sequence[str] = (),
        *,
        split: str = "val",
        encoding: str | None = None,
        cold_window: int | None = None,
        dynamic: bool = False,
        dynamic_rate: float | None = None,
        baselines: bool = True,
        text: tuple[Corpus, tuple[int, int]] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Evaluation:
        """Score texts whole, or a split of the run's own text.

        Args:
            texts: Files, folders, globs, ``-`` or corpus names; none means the run's own text.
            split: ``val`` or ``test``, without ``texts``.
            encoding: That of ``texts``; None means that of the run's own text.
            cold_window: Score windows of this many characters from zero state.
            dynamic: Score the text once more with a copy that learns while it reads.
            dynamic_rate: Its learning rate; None chooses it on the validation split, and for that split
                itself takes the default.
            baselines: Whether to measure what simpler methods reach.
            text: What ``text_to_score`` returned for the same ``texts``, read already.
            progress: Called with the share done.

        Raises:
            RunError: The run's own text cannot be found any more.
            TextError: A text cannot be read, or has nothing to score.
        """
        if cold_window is not None and cold_window < 1:
            raise ConfigError(f"`cold_window` is `{cold_window}`, but must be at least 1")
        if dynamic_rate is not None and not dynamic:
            raise ConfigError("`--dynamic-rate` has no meaning without `--dynamic`")
        own = find_corpus(self.checkpoint)
        corpus, part = text or self.text_to_score(texts, split=split, encoding=encoding)
        result = evaluation.evaluate(
            self.network, self.vocabulary, corpus, part, cold_window=cold_window, progress=progress
        )
        again = training = validation = None
        if own is not None:
            train, val = (tuple(self.checkpoint.corpus["splits"][name]) for name in ("train", "val"))
            training = own, train
            validation = (own, val) if val[0] < val[1] and part != val else None
        if dynamic:
            again = evaluation.evaluate_dynamic(
                self.network,
                self.vocabulary,
                corpus,
                part,
                training=training,
                validation=validation,
                rate=dynamic_rate,
                progress=progress,
            )
        seen = bool(texts) and corpus.info["sha256"] == self.checkpoint.corpus.get("sha256")
        measured: dict[str, Any] = {}
        if baselines:
            known = evaluation.baselines(self.vocabulary, training, corpus, part)
            measured = dict(zip(("baselines", "baselines_saw"), known, strict=True))
        return replace(result, trained_on=seen, dynamic=again, **measured)

    def text_to_score(
        self,
        texts: Sequence[str] = (),
        *,
        split: str = "val",
        encoding: str | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[Corpus, tuple[int, int]]:
        """Return texts whole, or a split of the run's own text, and the positions where it lies.

        Args:
            texts: As for ``evaluate``, like the others.
            split: ``val`` or ``test``.
            encoding: That of ``texts``.
            progress: Called with the share that is read.

        Raises:
            RunError: The run's own text cannot be found any more.
            TextError: A text cannot be read.
        """
        evaluation.check_split(split)
        if texts:
            corpus = open_corpus(find_sources(texts), self.config.text.of(encoding), progress=progress)
            return corpus, (0, len(corpus.places))
        if encoding is not None:
            raise ConfigError("`--encoding` is that of a text to score, and none was named")
        own = find_corpus(self.checkpoint)
        if own is None:
            raise RunError(f"the text of `{self.name}` cannot be found any more", "name the text to score")
        return own, evaluation.split_part(self.checkpoint.corpus, split)

    def subject(self, *, texts: Sequence[str] = (), **how: Any) -> Subject:
        """Return the network, its untrained twins and labelled text: what ``inspect_neurons`` inspects.

        Args:
            texts: What to read; none means the run's held-out text.
            how: ``encoding``, ``hypotheses`` and ``max_chars`` as ``make_subject`` takes them.

        Raises:
            InspectionError: A hypothesis is unknown, or there is too little text.
            RunError: The run's held-out text cannot be found any more.
        """
        return make_subject(self.checkpoint, self.network.readout.weight.device, texts=texts, **how)

    def inspect_neurons(
        self,
        *,
        texts: Sequence[str] = (),
        neuron: str | None = None,
        hypotheses: Sequence[str] = (),
        top: int = 1,
        kind: str | None = None,
        steer: bool = False,
        ablation: str | None = "mean",
        progress: Callable[[str], None] = lambda _: None,
        subject: Subject | None = None,
    ) -> Findings:
        """Find the neurons that track something in text.

        Args:
            texts: What to read; none means the run's held-out text.
            neuron: Show this one closely, such as ``L2.c117``.
            hypotheses: Names; none means all that suit the text.
            top: Neurons per hypothesis to report.
            kind: Kind of neurons, ``h``, ``c`` or a gate; None means that of ``neuron``, else the cell's own.
            steer: Let the network speak with ``neuron`` held, whatever its verdict.
            ablation: What a held neuron is held at: ``mean``, ``zero`` or ``resample``; None holds none.
            progress: Called with what begins.
            subject: What ``subject`` returned, read already; then ``texts`` and ``hypotheses`` say nothing.

        Raises:
            InspectionError: A neuron or a hypothesis is unknown, or there is too little text.
            RunError: The run's held-out text cannot be found any more.
        """
        wanted = named_neuron(self.network, neuron) if neuron is not None else None
        check_kind(self.network, kind)
        if subject is None:
            progress("reading and labelling the text")
            subject = self.subject(texts=texts, hypotheses=hypotheses)
        return find_neurons(subject, Question(top, kind, wanted, steer, ablation), progress)

    def inspect_page(self, subject: Subject, findings: Findings, *, command: str = "") -> Page:
        """Return what the interactive page shows; ``charrnn.rendering.html.save_html`` writes it.

        Args:
            subject: What ``subject`` returned.
            findings: What ``inspect_neurons`` found on it.
            command: What led here, for the reader of the page.

        Raises:
            InspectionError: The findings name no neuron.
        """
        delta = delta_losses(subject, findings, page_pieces(subject))
        return make_page(
            subject, findings, vocabulary=self.vocabulary, command=command, delta_loss=delta, ablation=HELD
        )

    def inspect_like(
        self,
        example: str,
        *,
        texts: Sequence[str] = (),
        hypotheses: Sequence[str] = (),
        progress: Callable[[str], None] = lambda _: None,
        subject: Subject | None = None,
    ) -> Examples:
        """Find where else in text the neurons are on that are on over an example.

        Args:
            example: Some text; where it first stands in what is read, or by itself.
            texts: What to read; none means the run's held-out text.
            hypotheses: Names; none means all that suit the text.
            progress: Called with what begins.
            subject: What ``subject`` returned, read already; then ``texts`` and ``hypotheses`` say nothing.

        Raises:
            InspectionError: The example is empty or unknown to the model, or no neuron is on over all of it.
            RunError: The run's held-out text cannot be found any more.
        """
        if subject is None:
            progress("reading and labelling the text")
            subject = self.subject(texts=texts, hypotheses=hypotheses)
        return find_examples(subject, example, progress)

    def inspect_gates(
        self,
        *,
        texts: Sequence[str] = (),
        progress: Callable[[str], None] = lambda _: None,
        subject: Subject | None = None,
    ) -> GateFindings:
        """Count how often gates are saturated, and for how many characters neurons remember.

        Args:
            texts: What to read; none means the run's held-out text.
            progress: Called with what begins.
            subject: What ``subject`` returned, read already; then ``texts`` says nothing.

        Raises:
            InspectionError: The cell has no gates, or there is too little text.
            RunError: The run's held-out text cannot be found any more.
        """
        if subject is None:
            progress("reading the text")
            subject = self.subject(texts=texts, hypotheses=("column",))
        return find_gates(subject, progress)

    def inspect_gradients(
        self,
        *,
        texts: Sequence[str] = (),
        lags: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
        subject: Subject | None = None,
    ) -> GradientFindings:
        """Measure how fast gradients fade on their way back in time.

        Args:
            texts: What to read; none means the run's held-out text.
            lags: How many characters to follow them; None means the run's ``seq_len``, at most 256.
            progress: Called with what begins.
            subject: What ``subject`` returned, read already; then ``texts`` says nothing.

        Raises:
            ConfigError: ``lags`` is out of range.
            InspectionError: There is too little text.
            RunError: The run's held-out text cannot be found any more.
        """
        if subject is None:
            progress("reading the text")
            subject = self.subject(texts=texts, hypotheses=("column",))
        return find_gradients(subject, self.checkpoint.config.training.seq_len, lags, progress)


def load(
    run: str | Path | None = None, *, last: bool = False, device: str = "auto", precision: str = "auto"
) -> Run:
    """Load a trained run.

    Args:
        run: A run directory, a checkpoint directory, a ``.safetensors`` file, a name under ``runs/``, or
            None for the newest.
        last: Take the last checkpoint instead of the best.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` (fp32), ``fp32``, ``bf16`` or ``int8``: how the weights are stored.

    Raises:
        ConfigError: The network's weights cannot be stored like that, or there is no such device.
        RunError: There is no such run.
        CheckpointError: Its file is damaged or foreign.
    """
    where = resolve_device(device)
    stored = "fp32" if precision == "auto" else precision
    return Run(load_checkpoint(find_checkpoint(run, last=last)), where, stored)


def train(texts: str | Sequence[str] = (), **how: Any) -> Iterator[Event]:
    """Train a new run; a generator of events, the last one an ``EndEvent``.

    Args:
        texts: A file, folder, glob or corpus name, or several; none means ``stdlib``.
        how: As for ``charrnn.training.start.start``: ``run``, ``settings``, ``preset``, ``device`` …
    """
    yield from start([texts] if isinstance(texts, str) else texts, **how).events()
