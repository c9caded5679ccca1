"""Streams on an accelerator: weights, states, the random numbers and the draw all stay there.

A call makes ``CALL_CHARS`` characters of every stream and leaves them on the device. Nothing in it waits for
the device or depends on a value there, so a CUDA device records it once as a graph and replays it. What it
says is what the samplers of the CPU say for the same seed, up to ties: the sums run in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from charrnn.model.network import Network, NetworkState
from charrnn.native import CELLS as SAMPLED
from charrnn.sampling.choice import SamplingConfig
from charrnn.sampling.philox import WORDS, Philox
from charrnn.sampling.samplers import NEVER, Draw

CALL_CHARS = 256
"""Characters of each stream that one call makes; a whole number of blocks of random numbers."""
READ_CHARS = 4 * CALL_CHARS
"""Characters after which the host may read what was made."""
STEPS = {
    "lstm": torch.lstm_cell,
    "gru": torch.gru_cell,
    "elman": torch.rnn_tanh_cell,
    "elman_relu": torch.rnn_relu_cell,
}
"""What reads one symbol: torch's own cells, each two products and one kernel more on CUDA."""


def can_sample(network: Network) -> bool:
    """Return whether a ``DeviceSampler`` can do what the network does."""
    config, weight = network.config, network.readout.weight
    return config.cell in SAMPLED and config.plain and weight.dtype == torch.float32


class DeviceSampler:
    """Streams of one network, on the device where it is.

    Args:
        network: What is sampled from; its weights are copied.
        draw: How ids are drawn.
        seed: Of all streams, in [0, 2^64).
        streams: Number of each stream, S of them; a stream's text does not depend on the others.
    """

    @torch.inference_mode()
    def __init__(self, network: Network, draw: Draw, seed: int, streams: Sequence[int]) -> None:
        self._draw = draw
        self._choose = make_device_chooser(draw.config)
        self._step = STEPS[network.config.cell]
        self._pack(network, draw)
        device = network.readout.weight.device
        self._random = Philox(seed, streams, device)
        self._state = [list(layer) for layer in network.initial_state(len(streams))]
        self._last = torch.full((len(streams),), draw.boundary, device=device)
        self._blocks = torch.arange(CALL_CHARS // WORDS, device=device)
        self._text = torch.empty(CALL_CHARS, len(streams), dtype=torch.int64, device=device)
        self._left = np.empty((len(streams), 0), np.int64)
        self._run = _Replayed(self.advance, device)

    def _pack(self, network: Network, draw: Draw) -> None:
        """Copy the weights; the temperature divides those of the readout, once instead of at every draw."""
        weight, bias = network.readout.weight, network.readout.bias
        if network.embedding is None:
            self._symbols = torch.eye(network.vocab_size, device=weight.device)
        else:
            self._symbols = network.embedding.weight.clone()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self._layers = [tuple(getattr(layer, name).clone() for name in names) for layer in network.layers]
        temperature = draw.config.temperature or 1.0
        self._readout, self._bias = (weight / temperature).t().contiguous(), bias / temperature
        if draw.escape != NEVER:
            self._bias[draw.escape] = -torch.inf
        self._first_bias = self._bias.clone()  # no document is empty
        self._first_bias[draw.boundary] = -torch.inf
        size = network.config.hidden_size
        self._kept, self._gone = (
            torch.ones(size, device=weight.device),
            torch.zeros(size, device=weight.device),
        )

    @torch.inference_mode()
    def begin(self, state: NetworkState, last: int) -> None:
        """Let every stream go on from a text.

        Args:
            state: The network's before it read the last symbol, of one row.
            last: The last symbol, not read yet.
        """
        for own, layer in zip(self._state, state, strict=True):
            for part, begun in zip(own, layer, strict=True):
                part.copy_(begun.expand_as(part))
        self._last.fill_(last)

    def draw(self, count: int) -> np.ndarray:
        """Draw so many more ids of every stream, (S, N) int64; the device is waited for once."""
        missing = count - self._left.shape[1]
        if missing > 0:
            self._left = np.concatenate([self._left, self._made(-(-missing // CALL_CHARS))], axis=1)
        drawn, self._left = self._left[:, :count], self._left[:, count:]
        return drawn

    @property
    def problem(self) -> str | None:
        """Why a CUDA device could not record the second call; None if it could, or need not."""
        return self._run.problem

    @torch.inference_mode()
    def _made(self, calls: int) -> np.ndarray:
        text = []
        for _ in range(calls):
            self._run()
            text.append(self._text.clone())
        return torch.cat(text).t().cpu().numpy()

    def advance(self) -> None:
        """Make ``CALL_CHARS`` characters; what is carried on lies in the same memory before and after."""
        uniforms = self._random.uniforms(self._blocks).unsqueeze(2)
        last, state, text = self._last, self._state, []
        for uniform in uniforms:
            logits, state = self._read(last, state)
            last = self._choose(logits, uniform)
            text.append(last)
        torch.stack(text, out=self._text)
        self._blocks += len(self._blocks)
        self._last.copy_(last)
        for own, layer in zip(self._state, state, strict=True):
            for part, after in zip(own, layer, strict=True):
                part.copy_(after)

    def _read(self, last: Tensor, state: list[list[Tensor]]) -> tuple[Tensor, list[list[Tensor]]]:
        """Read one symbol of every stream, (S,); return logits over temperature, (S, V), and the state."""
        begins = (last == self._draw.boundary).unsqueeze(1)
        keep = torch.where(begins, self._gone, self._kept)
        parts = [part for layer in state for part in layer]
        parts = torch._foreach_mul(parts, [keep] * len(parts))  # in one kernel
        values, after, width = self._symbols.index_select(0, last), [], len(state[0])
        for number, weights in enumerate(self._layers):
            own = parts[width * number : width * (number + 1)]
            stepped = self._step(values, own if width > 1 else own[0], *weights)
            after.append(list(stepped) if width > 1 else [stepped])
            values = after[-1][0]
        return torch.addmm(torch.where(begins, self._first_bias, self._bias), values, self._readout), after


Chooser = Callable[[Tensor, Tensor], Tensor]
"""Logits over the temperature, (S, V), and uniform numbers, (S, 1) float64, to ids, (S,)."""


def make_device_chooser(config: SamplingConfig) -> Chooser:
    """Return what ``make_chooser`` does, for streams side by side and without waiting for the device."""
    if config.temperature == 0:
        return lambda logits, uniform: logits.argmax(1)

    def choose(logits: Tensor, uniform: Tensor) -> Tensor:
        p = _thinned(torch.softmax(logits, 1, dtype=torch.float64), config)
        cumulative = p.cumsum(1)
        # without the last sum, rounding cannot lead past the last id
        return (cumulative[:, :-1] <= uniform * cumulative[:, -1:]).sum(1)

    return choose


def _thinned(p: Tensor, config: SamplingConfig) -> Tensor:
    """Leave of probabilities, (S, V), what top-k, top-p and min-p leave; they need not sum to 1 then."""
    if config.top_k or config.top_p < 1:
        ranked, order = p.sort(dim=1, descending=True, stable=True)
        if config.top_k:
            ranked[:, min(config.top_k, p.shape[1]) :].zero_()
        if config.top_p < 1:
            before = ranked.cumsum(1) - ranked
            ranked = ranked.masked_fill(before >= config.top_p * ranked.sum(1, keepdim=True), 0.0)
        p = torch.zeros_like(p).scatter(1, order, ranked)
    return p.masked_fill(p < config.min_p * p.amax(1, keepdim=True), 0.0) if config.min_p else p


class _Replayed:
    """A call that a CUDA device records when it is made for the second time, and replays from then on.

    The first time it runs as it is: its libraries have to be set up before anything can be recorded.
    """

    def __init__(self, run: Callable[[], None], device: torch.device) -> None:
        self._run, self._records, self._calls = run, device.type == "cuda", 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self.problem: str | None = None
        """Why it could not be recorded; it runs as it is then."""

    def __call__(self) -> None:
        self._calls += 1
        if self._records and self._graph is None and self._calls > 1:
            self._record()
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._run()
        except RuntimeError as problem:  # nothing was computed, so nothing is lost
            self._records, self.problem = False, str(problem).strip().partition("\n")[0]
        else:
            self._graph = graph
