"""Steps without the host: a few windows are recorded once per shape as a CUDA graph, then replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from charrnn.model.network import NetworkState
from charrnn.training.feed import Window
from charrnn.training.step import Outcome, Step

WARM_UPS = 3
"""Steps taken before anything is recorded: what torch, cuDNN and the optimizer make once is there then."""
MAX_RECORDINGS = 128
"""Shapes beyond these are not recorded: windows of random length have about 80."""


class Recorder(Protocol):
    """What can record work on a device and run it again; ``CudaGraphs``, or a test's stand-in."""

    def aside(self) -> AbstractContextManager[None]:
        """Run what is not recorded where recordings are made."""

    def record(self, work: Callable[[], None], noises: Sequence[torch.Generator]) -> Callable[[], None]:
        """Return what runs the work again, on the same arrays and with the noise as it is seeded then.

        Nothing is computed while it is recorded.
        """


class CudaGraphs:
    """Records CUDA graphs; they share a pool of memory, as none leaves anything in it that is read later."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run steps on the stream that records: autograd remembers the stream of a weight's first use."""
        before = torch.cuda.current_stream()
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            yield
        before.wait_stream(self.stream)

    def record(self, work: Callable[[], None], noises: Sequence[torch.Generator]) -> Callable[[], None]:
        """Capture a graph; each generator is read anew at every replay."""
        graph = torch.cuda.CUDAGraph()
        for noise in noises:
            graph.register_generator_state(noise)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            work()
        return graph.replay


@dataclass(frozen=True)
class _Recording:
    """What replays some windows, and the arrays that it reads and writes."""

    run: Callable[[], None]
    ids: Tensor  # (K, B, T)
    targets: Tensor  # (K, B, T)
    rates: Tensor  # (K,)
    loss: Tensor
    norm: Tensor


class Replay:
    """Runs windows one after the other, from recordings where there are any.

    A recording is made when a shape comes the second time, and anew only for another shape: with windows of
    random length, or the last one of an epoch. Windows in which a document begins are never recorded: how
    they are cut depends on where.

    Args:
        step: What is done with a window.
        recorder: None takes every step by itself.
        group: Windows to a recording, where so many follow one another.
    """

    def __init__(self, step: Step, recorder: Recorder | None = None, group: int = 1) -> None:
        self.step, self.recorder = step, recorder
        self.group = group if recorder is not None else 1
        self.noises = self._generators()
        self.recordings: dict[tuple[int, ...], _Recording] = {}
        self._seen: Counter[torch.Size] = Counter()
        self._state: NetworkState | None = None

    def __call__(self, windows: Sequence[Window], state: NetworkState) -> Outcome:
        """Take the steps of at most ``group`` windows, all of one shape; return what the last one leaves.

        Raises:
            TrainingError: Memory does not even hold one row.
        """
        if 1 < len(windows) == self.group and all(self._recordable(window) for window in windows):
            return self._replayed(windows, state)
        for window in windows:
            recorded = self._recordable(window)
            outcome = self._replayed([window], state) if recorded else self._plain(window, state)
            state = outcome.state
        return outcome

    def _generators(self) -> list[torch.Generator]:
        batch_size = self.step.training.batch_size
        return [self.step.team.noise(self.step.device, batch_size) for _ in range(self.group)]

    def _recordable(self, window: Window) -> bool:
        """Return whether a window of this shape has been read before, and enough of all."""
        if self.recorder is None or window.inside:
            return False
        return self._seen.total() >= WARM_UPS and self._seen[window.ids.shape] > 0

    def _plain(self, window: Window, state: NetworkState) -> Outcome:
        noise = self.noises[0].manual_seed(window.seed)
        if self.recorder is None:
            return self.step(window.ids, window.targets, state, noise, window.rate, window.inside)
        with self.recorder.aside():
            rate = torch.full((), window.rate, device=self.step.device)
            outcome = self.step(window.ids, window.targets, state, noise, rate, window.inside)
        if not window.inside and len(self._seen) < MAX_RECORDINGS:
            self._seen[window.ids.shape] += 1
        return outcome

    def _replayed(self, windows: Sequence[Window], state: NetworkState) -> Outcome:
        key = (len(windows), *windows[0].ids.shape, self.step.parts)
        if key not in self.recordings:
            self._record(key, state)
        if self.recorder is None:  # it could not be recorded
            return self(windows, state)
        recording = self.recordings[key]
        for place, window in enumerate(windows):
            recording.ids[place].copy_(window.ids)
            recording.targets[place].copy_(window.targets)
            recording.rates[place].fill_(window.rate)
            self.noises[place].manual_seed(window.seed)
        _copy(self._state, state)
        recording.run()
        return Outcome(recording.loss.clone(), recording.norm.clone(), self._state)

    def _record(self, key: tuple[int, ...], state: NetworkState) -> None:
        """Record as many windows of a shape as the key says, or give up recording."""
        like = state[0][0]
        if self._state is None:
            self._state = tuple(tuple(part.clone() for part in layer) for layer in state)
        ids, targets = (torch.zeros(key[:3], dtype=torch.int64, device=like.device) for _ in range(2))
        rates, loss, norm = like.new_zeros(key[0]), like.new_zeros(()), like.new_zeros(())

        def work() -> None:
            after = self._state
            for place in range(key[0]):
                noise, rate = self.noises[place], rates[place]
                outcome = self.step(ids[place], targets[place], after, noise, rate, False)
                after = outcome.state
            loss.copy_(outcome.loss)
            norm.copy_(outcome.norm)
            _copy(self._state, after)

        self.step.optimizer.zero_grad()
        try:
            run = self.recorder.record(work, self.noises[: key[0]])
        except RuntimeError as problem:  # whatever CUDA finds wrong with it, memory too
            reason = str(problem).strip().partition("\n")[0]
            self.step.notices.append(f"steps run one by one, as no CUDA graph could be recorded: {reason}")
            self.recorder = None
            self.recordings.clear()
            self.noises = self._generators()  # the others believe that a capture still goes on
        else:
            self.recordings[key] = _Recording(run, ids, targets, rates, loss, norm)
        # what a gradient leaves in the graphs' memory is theirs again
        self.step.optimizer.zero_grad()


def _copy(own: NetworkState, new: NetworkState) -> None:
    """Copy a state into another's arrays."""
    for own_layer, new_layer in zip(own, new, strict=True):
        for mine, theirs in zip(own_layer, new_layer, strict=True):
            if mine is not theirs:
                mine.copy_(theirs)
