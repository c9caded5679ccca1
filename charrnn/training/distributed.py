"""Processes that train one network together: each reads some rows of every window.

Weights, optimizer and averages are the same in all of them, to the bit: before every update the gradients are
averaged by one all-reduce of one flat array. What depends on a clock, a signal or the disk is decided by the
first process, which alone writes. What is exchanged is tensors and JSON; nothing is ever unpickled.

Source: synchronous data parallelism (Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704), in one bucket:
the gradient of recurrent weights is whole only at the first timestep, so there is little to overlap.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from charrnn.errors import CharrnnError, ConfigError, TrainingError
from charrnn.events import ChangeEvent
from charrnn.model.network import Network, NetworkState
from charrnn.model.regularisation import SharedNoise
from charrnn.model.scoring import TextView, mean_nats, total_nats
from charrnn.training.ranks import Rank
from charrnn.training.state import pack_trainer, unpack_trainer

if TYPE_CHECKING:
    from charrnn.training.trainer import Trainer

TIMEOUT = timedelta(hours=1)
"""A process that is silent for so long is taken for lost. One that has died is noticed at once."""
DIFFERED = "the weights of the processes differed; all go on with those of the first"
STOPS = ("", "interrupted", "stopped")

T = TypeVar("T")


class LostPeerError(TrainingError):
    """Another process of the training has ended, or cannot be reached any more."""


class Team:
    """The processes that train together, seen from one of them. This one is alone."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this process decides, writes and speaks."""
        return self.rank == 0

    def rows(self, batch_size: int) -> range:
        """Return the rows of the batch that this process reads, always the same ones: no state ever moves."""
        return range(batch_size * self.rank // self.size, batch_size * (self.rank + 1) // self.size)

    def own(self, state: NetworkState) -> NetworkState:
        """Return, of the state of all rows, that of the rows that this process reads."""
        rows = self.rows(len(state[0][0]))
        return tuple(tuple(part[rows.start : rows.stop] for part in layer) for layer in state)

    def noise(self, device: torch.device, batch_size: int) -> torch.Generator:
        """Return a source of the masks of this process's rows."""
        return torch.Generator(device)

    def clock(self, started: float) -> float:
        """Return the seconds since the start that every process goes by; ``started`` is the first one's."""
        return time.monotonic() - started

    def agree(self, started: float, stop: str) -> str:
        """Set every process's clock by the first one's, and return why that one wants to stop, if it does."""
        return stop

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor, share: float) -> None:
        """Replace gradients and loss by their mean over all rows, of which each process has a share."""

    def mean_nats(self, network: Network, view: TextView, extra_nats: np.ndarray) -> tuple[float, int]:
        """Return what ``scoring.mean_nats`` does; every process reads a part of the text."""
        return mean_nats(network, view, extra_nats)

    def whole(self, state: NetworkState, batch_size: int) -> NetworkState:
        """Return, to the first process, the carried state of all rows of the batch."""
        return state

    def share(self, trainer: Trainer) -> None:
        """Put every trainer where the first process's stands, each with its own rows of the carried state."""

    def put_right(self, trainer: Trainer) -> str:
        """See to it that all processes have the same weights, to the bit; return what was wrong, if so."""
        return ""

    def has_saved(self) -> None:
        """Note that there is a checkpoint, from which a new attempt at the same job can go on."""


ALONE = Team()


class Crew(Team):
    """Processes that are connected by ``torch.distributed``.

    Args:
        place: Which of them this one is.
        memory: What outlives an attempt at the job.
    """

    def __init__(self, place: Rank, memory: dist.Store) -> None:
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.memory, self._store = memory, place.store
        self._remembered: dict[str, str] = {}
        self._seconds = 0.0
        self._flat: Tensor | None = None

    # -- what training asks ---------------------------------------------------------------------------

    def noise(self, device: torch.device, batch_size: int) -> torch.Generator:
        noise = SharedNoise(device)
        noise.rows, noise.batch_size = self.rows(batch_size), batch_size
        return noise

    def clock(self, started: float) -> float:
        return self._seconds

    def agree(self, started: float, stop: str) -> str:
        code = STOPS.index(stop) if stop in STOPS else STOPS.index("stopped")
        told = torch.tensor([time.monotonic() - started, code], dtype=torch.float64)
        with _connected():
            dist.broadcast(told, 0)
        self._seconds = float(told[0])
        return stop if self.first else STOPS[int(told[1])]

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor, share: float) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # none of this process's rows has used it; another's may have
                parameter.grad = torch.zeros_like(parameter)
        own = [*(parameter.grad for parameter in trained), loss]
        flat = self._buffer(own)
        parts = [part.view_as(tensor) for part, tensor in zip(flat.split(_sizes(own)), own, strict=True)]
        torch._foreach_copy_(parts, own)
        flat.mul_(share)
        with _connected():
            dist.all_reduce(flat)
        torch._foreach_copy_(own, parts)

    def _buffer(self, tensors: list[Tensor]) -> Tensor:
        """Return one array that is as long as all tensors together, where they can be sent from."""
        length = sum(_sizes(tensors))
        if self._flat is None or len(self._flat) != length:
            device = tensors[0].device if tensors[0].device.type == "cuda" else torch.device("cpu")
            self._flat = torch.empty(length, device=device)
        return self._flat

    def mean_nats(self, network: Network, view: TextView, extra_nats: np.ndarray) -> tuple[float, int]:
        own = total_nats(network, view, extra_nats, (self.rank, self.size))
        sums = torch.tensor(own, dtype=torch.float64)
        with _connected():
            dist.all_reduce(sums)
        return float(sums[0]) / max(float(sums[1]), 1.0), int(sums[1])

    def whole(self, state: NetworkState, batch_size: int) -> NetworkState:
        parts = [part for layer in state for part in layer]
        own = torch.cat([part.detach().cpu() for part in parts], dim=1)
        padded = own.new_zeros(-(-batch_size // self.size), own.shape[1])
        padded[: len(own)] = own
        shares = [torch.empty_like(padded) for _ in range(self.size)] if self.first else None
        with _connected():
            dist.gather(padded, shares, dst=0)
        if shares is None:
            return state
        counts = [batch_size * (n + 1) // self.size - batch_size * n // self.size for n in range(self.size)]
        rows = torch.cat([share[:count] for share, count in zip(shares, counts, strict=True)])
        columns = iter(rows.split([part.shape[1] for part in parts], dim=1))
        return tuple(tuple(next(columns) for _ in layer) for layer in state)

    def share(self, trainer: Trainer) -> None:
        parts = (trainer.network, trainer.optimizer)
        position = (trainer.state, trainer.counters, trainer.average.tensors(), trainer.step.scaling)
        tensors, header = pack_trainer(*parts, *position)
        header |= {"seconds": trainer.seconds_before, "saved_at": trainer.saved_at}
        header |= {"changes": [asdict(change) for change in trainer.changes], "ahead": trainer.ahead}
        tensors, header = self._from_first(tensors, header)
        if not self.first:
            parts += (trainer.job.config.training, trainer.average, trainer.step.scaling)
            trainer.state, trainer.counters = unpack_trainer(tensors, header, *parts)
            trainer.step.parts = trainer.counters.parts
            trainer.seconds_before, trainer.saved_at = header["seconds"], header["saved_at"]
            trainer.changes = tuple(ChangeEvent(**change) for change in header["changes"])
            trainer.ahead = header["ahead"] and tuple(header["ahead"])
        trainer.state = self.own(trainer.state)

    def put_right(self, trainer: Trainer) -> str:
        with torch.no_grad():
            sums = [p.view(torch.int32).sum(dtype=torch.int64).cpu() for p in trainer.network.parameters()]
        low, high = torch.stack(sums), torch.stack(sums)
        with _connected():
            dist.all_reduce(low, dist.ReduceOp.MIN)
            dist.all_reduce(high, dist.ReduceOp.MAX)
        if torch.equal(low, high):
            return ""
        trainer.state = trainer.whole_state
        self.share(trainer)
        return DIFFERED

    # -- what is told -----------------------------------------------------------------------------------

    def _from_first(
        self, tensors: Mapping[str, Tensor], header: dict[str, Any]
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """Return named tensors and a header as the first process has them."""
        kinds = {name: (str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in tensors.items()}
        kinds, header = self.tell([kinds, header])
        told = {}
        for name, (dtype, shape) in kinds.items():
            own = tensors[name].detach().cpu().contiguous() if self.first else None
            told[name] = torch.empty(shape, dtype=getattr(torch, dtype)) if own is None else own
            with _connected():
                dist.broadcast(told[name], 0)
        return told, header

    def tell(self, data: Any) -> Any:
        """Return what JSON can hold as the first process has it."""
        line = _bytes(data)
        length = torch.tensor([len(line)])
        with _connected():
            dist.broadcast(length, 0)
            line = line if self.first else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(line, 0)
        return _data(line)

    def together(self, action: Callable[[], T] | None = None) -> T | None:
        """Do something in some processes; if one of them cannot, none goes on.

        Raises:
            CharrnnError: What the first of those that failed has raised.
        """
        result, own = None, None
        try:
            result = action() if action is not None else None
        except LostPeerError:
            raise
        except CharrnnError as error:
            own = error
        problems = [found for found in self.collect(own and [own.message, own.hint]) if found is not None]
        if own is not None:
            raise own
        if problems:
            raise CharrnnError(*problems[0])
        return result

    def collect(self, data: Any) -> list[Any]:
        """Return what JSON can hold from every process, in their order."""
        line = _bytes(data)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _connected():
            dist.all_gather(lengths, torch.tensor([len(line)]))
            padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
            padded[: len(line)] = line
            lines = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(lines, padded)
        return [_data(found[: int(length)]) for found, length in zip(lines, lengths, strict=True)]

    # -- what outlives an attempt --------------------------------------------------------------------------

    def remember(self, key: str, value: str) -> None:
        """Keep a word for the next attempt at the same job, should this one be killed."""
        self._remembered[key] = value
        with _connected():
            self.memory.set(f"charrnn/{key}", value)

    def recall(self, key: str) -> str | None:
        """Return what an earlier attempt wanted to be remembered."""
        with _connected():
            known = self.memory.check([f"charrnn/{key}"])
            return self.memory.get(f"charrnn/{key}").decode() if known else None

    def has_saved(self) -> None:
        if self.first and (self._store is None or Path(self._store).parent.is_dir()):
            for key, value in {**self._remembered, "saved": "yes"}.items():  # were the file removed meanwhile
                self.remember(key, value)


@contextmanager
def joined(place: Rank, device: str) -> Iterator[Crew]:
    """Connect the processes of a job, on the GPU of its own that each has, if there are any.

    Raises:
        LostPeerError: They do not find each other.
        ConfigError: There are more of them on a machine than it has GPUs.
    """
    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    with _connected():
        store = _store(place)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=dist.PrefixStore(f"attempt-{place.attempt}", store),
            rank=place.rank,
            world_size=place.size,
            timeout=TIMEOUT,
        )
    crew = Crew(place, store)
    crew.together((lambda: _take_gpu(place.local_rank)) if on_gpu else None)
    yield crew
    dist.destroy_process_group()  # after an error it might wait for those that are gone


def _store(place: Rank) -> dist.Store:
    if place.store is not None:
        return dist.FileStore(place.store, -1)
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    return store


def _take_gpu(local_rank: int) -> None:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(
            f"each process needs a GPU of its own, and this machine has {count}",
            f"`--processes {count}`, or `--device cpu`",
        )
    torch.cuda.set_device(local_rank)


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what all errors of torch.distributed are
        raise LostPeerError(
            "another process of this training has ended or cannot be reached",
            "`charrnn train --resume RUN` goes on from the last checkpoint",
        ) from error


def _sizes(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.numel() for tensor in tensors]


def _bytes(data: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(data).encode()), dtype=torch.uint8)


def _data(line: Tensor) -> Any:
    return json.loads(bytes(line.numpy()))
