"""Text from a trained network, one character at a time."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from charrnn.devices import arithmetic
from charrnn.errors import ConfigError, suggest
from charrnn.model.network import LayerHold, Network, NetworkState, no_hold
from charrnn.native import CELLS
from charrnn.sampling import device
from charrnn.sampling.choice import SamplingConfig, make_chooser
from charrnn.sampling.samplers import NEVER, Draw, Sampler, make_sampler
from charrnn.sampling.weights import PRECISIONS, Weights, rounded
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

FIRST_CHARS, MOST_CHARS = 8, 256
"""Characters drawn at once: few at first, as somebody may be watching."""
READ_CHARS = 4096
SAMPLING_DEVICES = ("cuda",)
"""Devices that draw the characters of such a network themselves."""
LAYER_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Speaker:
    """A network that reads a prompt and then speaks, in constant memory for any length.

    A network on the CPU whose cell has a sampler (``charrnn.sampling.samplers``) speaks by that, on CUDA by
    ``charrnn.sampling.device``; others, and networks with neurons on hold, step by step in PyTorch.

    Args:
        network: In evaluation mode, on the device it shall run on.
        vocabulary: Symbols to ids.
        config: How the next character is drawn.
        hold: Keeps neurons at values, while the prompt is read too.
        precision: How a sampler stores the weights: ``fp32``, ``bf16`` or ``int8``.

    Raises:
        ConfigError: There is no sampler for this network, and the precision is another than ``fp32``.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        config: SamplingConfig,
        hold: LayerHold = no_hold,
        precision: str = "fp32",
    ) -> None:
        self.hold = hold
        self.network = network
        self.vocabulary = vocabulary
        self.precision = precision
        self.config = config
        self.choose = make_chooser(config)
        self._weights = network_weights(network) if hold is no_hold else None
        self._on_device = (
            hold is no_hold and self._device.type in SAMPLING_DEVICES and device.can_sample(network)
        )
        _check_precision(precision, self._weights)

    @property
    def _device(self) -> torch.device:
        return self.network.readout.weight.device

    def ids(self, prompt: str, seed: int, stream: int = 0) -> Iterator[int]:
        """Yield sampled ids without end; characters of the prompt that are unknown are skipped.

        One seed and stream number always give the same uniform numbers, from a counter-based
        generator (Philox; Salmon et al. 2011), however many streams there are.

        A sampled boundary ends the document: nothing is written for it and a new one begins.
        """
        if (draw := self._voices(prompt, seed, [stream])) is None:
            yield from (symbol for symbol, _ in self.drawn(prompt, seed, stream))
            return
        size, most = self._sizes
        while True:
            yield from draw(size)[0].tolist()
            size = min(2 * size, most)

    def texts(self, prompt: str, length: int, seed: int, count: int) -> list[str]:
        """Return the texts that ``characters`` yields for the first ``count`` streams, made side by side."""
        if (draw := self._voices(prompt, seed, range(count))) is None:
            return ["".join(self.characters(prompt, length, seed, stream)) for stream in range(count)]
        said: list[list[int]] = [[] for _ in range(count)]
        while (left := length - min(map(len, said))) > 0:
            for own, ids in zip(said, draw(min(left, self._sizes[1])), strict=True):
                own += ids[ids != BOUNDARY].tolist()
        return ["".join(self._decoded(ids[:length])) for ids in said]

    @property
    def _sizes(self) -> tuple[int, int]:
        """Return how many characters are drawn at once, at first and at most."""
        return (device.CALL_CHARS, device.READ_CHARS) if self._on_device else (FIRST_CHARS, MOST_CHARS)

    def _voices(self, prompt: str, seed: int, streams: Sequence[int]) -> Callable[[int], np.ndarray] | None:
        """Return what draws so many more ids of every stream, (S, N); None where there is no sampler."""
        if self._on_device:
            return self._device_sampler(prompt, seed, streams).draw
        if self._weights is None:
            return None
        sampler, random = self._sampler(prompt, len(streams)), [_uniforms(seed, stream) for stream in streams]

        def draw(count: int) -> np.ndarray:
            uniforms = np.stack([generator.random(count) for generator in random])
            return sampler.draw(uniforms, torch.get_num_threads())

        return draw

    def _device_sampler(self, prompt: str, seed: int, streams: Sequence[int]) -> device.DeviceSampler:
        """Return a sampler on the network's device that has read the prompt."""
        sampler = device.DeviceSampler(self.network, self._draw, seed, streams)
        known = self._known(prompt)
        if len(known):
            with torch.inference_mode(), arithmetic(self._device, "fp32"):
                state = self._read_ids(np.append(BOUNDARY, known[:-1]))[1]
            sampler.begin(state, int(known[-1]))
        return sampler

    @property
    def _draw(self) -> Draw:
        return Draw(self.config, BOUNDARY, ESCAPE if self.vocabulary.kind == "chars" else NEVER)

    def _sampler(self, prompt: str, streams: int) -> Sampler:
        """Return a sampler that has read the prompt."""
        sampler = make_sampler(self._weights, self._draw, self.precision, streams)
        known = self._known(prompt)
        for begin in range(0, len(known), READ_CHARS):
            sampler.read(np.tile(known[begin : begin + READ_CHARS], (streams, 1)))
        return sampler

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
        random = _uniforms(seed, stream)
        with torch.inference_mode():
            logits, state = self._read(prompt)
        symbol = BOUNDARY if not len(self._known(prompt)) else ESCAPE
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
        ids = (symbol for symbol in self.ids(prompt, seed, stream) if symbol != BOUNDARY)
        yield from self._decoded(islice(ids, min(length, sys.maxsize)))

    def _decoded(self, ids: Iterable[int]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for symbol in ids:
            yield decoder.decode(self.vocabulary.symbol_bytes(symbol))
        yield decoder.decode(b"", final=True)

    def _known(self, prompt: str) -> np.ndarray:
        """Return the ids of the prompt's characters that the vocabulary has."""
        ids = self.vocabulary.encode(prompt)
        return ids[ids != ESCAPE] if self.vocabulary.kind == "chars" else ids

    def _read(self, prompt: str) -> tuple[np.ndarray, NetworkState]:
        """Read a boundary and the prompt; return the logits after them."""
        ids = np.append(BOUNDARY, self._known(prompt))
        if self.hold is no_hold:
            hidden, state = self._read_ids(ids)
            return self._drawable(self.network.readout(hidden[-1])), state
        state = self.network.initial_state(1)
        for symbol in torch.from_numpy(ids).to(self._device):
            logits, state = self.network.step(symbol[None], state, self.hold)
        return self._drawable(logits), state

    def _read_ids(self, ids: np.ndarray) -> tuple[torch.Tensor, NetworkState]:
        """Read ids from a state of zeros; return what the readout reads last, (T, 1, H), and the state."""
        state = self.network.initial_state(1)
        for window in torch.from_numpy(ids).to(self._device)[None].split(READ_CHARS, dim=1):
            hidden, state = self.network.hidden(window, state)
        return hidden, state

    def _step(self, symbol: int, state: NetworkState, hold: LayerHold) -> tuple[np.ndarray, NetworkState]:
        ids = torch.tensor([symbol], device=self._device)
        logits, state = self.network.step(ids, state, hold)
        return self._drawable(logits), state

    def _drawable(self, logits: torch.Tensor) -> np.ndarray:
        """Return logits in float64; the escape stands for no character and is never drawn."""
        values = logits[0].cpu().double().numpy()
        if self.vocabulary.kind == "chars":
            values[ESCAPE] = -np.inf
        return values


def network_weights(network: Network) -> Weights | None:
    """Return the weights for a sampler, not copied; None where no sampler can do what the network does."""
    weight = network.readout.weight
    if network.config.cell not in CELLS or not network.config.plain:
        return None
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    layers = tuple(
        tuple(getattr(layer, f"{name}_l0").detach().numpy() for name in LAYER_WEIGHTS)
        for layer in network.layers
    )
    embedding = None if network.embedding is None else network.embedding.weight.detach().numpy()
    readout = (weight.detach().numpy(), network.readout.bias.detach().numpy())
    return Weights(network.config.cell, embedding, layers, readout)


def round_network(network: Network, precision: str) -> None:
    """Leave of a network's weights what a precision stores.

    Raises:
        ConfigError: The precision is unknown, or no sampler can store this network like that.
    """
    weights = network_weights(network)
    _check_precision(precision, weights)
    if precision == "fp32":
        return
    close = rounded(weights, precision)
    for old, new in zip((*weights.layers, weights.readout), (*close.layers, close.readout), strict=True):
        for array, values in zip(old, new, strict=True):
            array[...] = values  # the arrays are the network's own memory


def _check_precision(precision: str, weights: Weights | None) -> None:
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision `{precision}`", suggest(precision, PRECISIONS))
    if precision != "fp32" and weights is None:
        raise ConfigError(
            f"`{precision}` is for the cells lstm, gru and elman on the CPU, with nothing on hold",
            "leave out `--precision`",
        )


def _uniforms(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


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
