"""Text from a trained network, one character at a time."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from charrnn.errors import ConfigError
from charrnn.model.network import LayerHold, Network, NetworkState, no_hold
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

Chooser = Callable[[np.ndarray, float], int]
"""Logits (V,) float64 and a uniform number in [0, 1) to an id."""


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character is drawn.

    Args:
        temperature: Divides the logits; 0 always takes the most probable character.
        top_k: Keep this many most probable characters; 0 keeps all.
        top_p: Keep the most probable characters that together reach this probability (nucleus).
        min_p: Keep characters at least this many times as probable as the most probable one.

    Raises:
        ConfigError: A value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not (self.temperature == 0 or 1e-6 <= self.temperature <= 1e6):
            problems.append(
                f"`temperature` is `{self.temperature}`, but must be at least 0, and 1e-6 if it is not"
            )
        if self.top_k < 0:
            problems.append(f"`top_k` is `{self.top_k}`, but must be at least 0")
        if not 0 < self.top_p <= 1:
            problems.append(f"`top_p` is `{self.top_p}`, but must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            problems.append(f"`min_p` is `{self.min_p}`, but must be at least 0 and at most 1")
        if problems:
            raise ConfigError("; ".join(problems))


def make_chooser(config: SamplingConfig) -> Chooser:
    """Return the function that draws an id from logits.

    Temperature is applied first, then top-k, top-p and min-p each thin out what the one before left.
    """

    def choose(logits: np.ndarray, uniform: float) -> int:
        if config.temperature == 0:
            return int(logits.argmax())
        probabilities = next_probabilities(logits, config)
        cumulative = np.cumsum(probabilities)
        return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))

    return choose


def next_probabilities(logits: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Return the distribution that is drawn from, (V,) float64; temperature must be above 0."""
    scaled = (logits - logits.max()) / config.temperature
    p = np.exp(scaled)
    p /= p.sum()
    if config.top_k and config.top_k < len(p):
        p[np.argsort(-p, kind="stable")[config.top_k :]] = 0.0
    if config.top_p < 1:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= config.top_p * p.sum()]] = 0.0
    p[p < config.min_p * p.max()] = 0.0
    return p / p.sum()


class Speaker:
    """A network that reads a prompt and then speaks, in constant memory for any length.

    Args:
        network: In evaluation mode, on the device it shall run on.
        vocabulary: Symbols to ids.
        config: How the next character is drawn.
        hold: Keeps neurons at values, while the prompt is read too.
    """

    def __init__(
        self, network: Network, vocabulary: Vocabulary, config: SamplingConfig, hold: LayerHold = no_hold
    ) -> None:
        self.hold = hold
        self.network = network
        self.vocabulary = vocabulary
        self.choose = make_chooser(config)

    def ids(self, prompt: str, seed: int, stream: int = 0) -> Iterator[int]:
        """Yield sampled ids without end; characters of the prompt that are unknown are skipped.

        One seed and stream number always give the same uniform numbers, from a counter-based
        generator (Philox; Salmon et al. 2011), however many streams there are.

        A sampled boundary ends the document: nothing is written for it and a new one begins.
        """
        yield from (symbol for symbol, _ in self.drawn(prompt, seed, stream))

    def drawn(
        self, prompt: str, seed: int, stream: int = 0, hold: LayerHold | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the same ids, each with the logits it was drawn from, (V,) float64.

        Args:
            prompt: As for ``ids``.
            seed: As for ``ids``.
            stream: As for ``ids``.
            hold: Takes the place of the speaker's own once the prompt is read; it may also only look.
        """
        hold = self.hold if hold is None else hold
        random = np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))
        with torch.inference_mode():
            logits, state = self._read(prompt)
        symbol = BOUNDARY if not prompt else ESCAPE
        while True:
            if symbol == BOUNDARY:
                logits[BOUNDARY] = -np.inf  # no document is empty
            symbol = self.choose(logits, random.random())
            yield symbol, logits
            with torch.inference_mode():
                logits, state = self._step(symbol, state, hold)

    def characters(self, prompt: str, length: int, seed: int, stream: int = 0) -> Iterator[str]:
        """Yield ``length`` characters (with bytes: symbols), decoded as soon as they are whole.

        Bytes that are no UTF-8 come as lone surrogates (``surrogateescape``).
        """
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        written = 0
        for symbol in self.ids(prompt, seed, stream):
            if written == length:
                break
            if symbol != BOUNDARY:
                written += 1
                yield decoder.decode(self.vocabulary.symbol_bytes(symbol))
        yield decoder.decode(b"", final=True)

    def _read(self, prompt: str) -> tuple[np.ndarray, NetworkState]:
        """Read a boundary and the prompt; return the logits after them."""
        known = self.vocabulary.encode(prompt)
        known = known[known != ESCAPE] if self.vocabulary.kind == "chars" else known
        ids = torch.from_numpy(np.concatenate([[BOUNDARY], known]))[None].to(
            self.network.readout.weight.device
        )
        state = self.network.initial_state(1)
        if self.hold is not no_hold:
            for symbol in ids[0]:
                logits, state = self.network.step(symbol[None], state, self.hold)
            return self._drawable(logits), state
        for start in range(0, ids.shape[1], 4096):
            hidden, state = self.network.hidden(ids[:, start : start + 4096], state)
        return self._drawable(self.network.readout(hidden[-1])), state

    def _step(self, symbol: int, state: NetworkState, hold: LayerHold) -> tuple[np.ndarray, NetworkState]:
        ids = torch.tensor([symbol], device=self.network.readout.weight.device)
        logits, state = self.network.step(ids, state, hold)
        return self._drawable(logits), state

    def _drawable(self, logits: torch.Tensor) -> np.ndarray:
        """Return logits in float64; the escape stands for no character and is never drawn."""
        values = logits[0].cpu().double().numpy()
        if self.vocabulary.kind == "chars":
            values[ESCAPE] = -np.inf
        return values


def until(pieces: Iterator[str], stops: tuple[str, ...]) -> Iterator[str]:
    """Pass text on until one of ``stops`` appears; the stop string itself is left out.

    Text that may be the begin of a stop string is held back until that is decided.
    """
    held = ""
    for piece in pieces:
        held += piece
        cuts = [held.find(stop) for stop in stops if stop in held]
        if cuts:
            yield held[: min(cuts)]
            return
        keep = _undecided(held, stops)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held


def _undecided(text: str, stops: tuple[str, ...]) -> int:
    """Return the length of the longest end of ``text`` that begins a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stops)),
        0,
    )
