"""Documents that begin inside a window: the window as a packed batch of shorter rows.

A fast recurrent kernel cannot set its state to zero in the middle of a row. So a row with resets is
cut there, and all pieces of all rows run as one packed batch: pieces that begin a document start
from zero, the others from the state their row carried in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


@dataclass(frozen=True)
class Segments:
    """Where the S pieces of a (T, B) window lie.

    Args:
        order: Position ``t B + b`` in the window of every packed timestep, (T B,).
        batch_sizes: Pieces still running at each packed timestep, on the CPU.
        rows: The row of every piece, longest piece first, (S,).
        carried: Whether the piece starts from its row's state, (S,) bool.
        last: For every row the piece that ends it, (B,).
        window: T and B.
    """

    order: Tensor
    batch_sizes: Tensor
    rows: Tensor
    carried: Tensor
    last: Tensor
    window: tuple[int, int]

    def pack(self, values: Tensor) -> PackedSequence:
        """Return values (T, B, ·) as a packed batch of pieces."""
        return PackedSequence(values.flatten(0, 1)[self.order], self.batch_sizes)

    def unpack(self, packed: PackedSequence) -> Tensor:
        """Return packed values as (T, B, ·)."""
        flat = torch.empty_like(packed.data)
        return flat.index_copy(0, self.order, packed.data).unflatten(0, self.window)

    def begin(self, state: Tensor) -> Tensor:
        """Return the first state of every piece, (S, H), from that of every row, (B, H)."""
        return state[self.rows] * self.carried.unsqueeze(1)

    def end(self, state: Tensor) -> Tensor:
        """Return the last state of every row, (B, H), from that of every piece, (S, H)."""
        return state[self.last]


def cut_at_resets(reset: Tensor) -> Segments:
    """Cut a window into pieces.

    Args:
        reset: Where the state is set to zero before the timestep, (T, B) bool.
    """
    length, batch_size = reset.shape
    starts = reset.clone()
    starts[0] = True
    rows, times = starts.t().nonzero(as_tuple=True)  # (S,), by row, then by time
    ends = torch.cat([times[1:], times.new_tensor([length])])
    ends = torch.where(ends > times, ends, length)  # the next piece is in another row
    lengths = ends - times
    last = torch.cat([rows[1:] != rows[:-1], rows.new_tensor([True], dtype=torch.bool)])
    by_length = torch.argsort(lengths, descending=True, stable=True)
    rank = torch.empty_like(by_length).scatter_(
        0, by_length, torch.arange(len(by_length), device=reset.device)
    )
    steps = torch.arange(int(lengths.max()), device=reset.device)
    running = steps.unsqueeze(1) < lengths[by_length]  # (longest, S)
    positions = (times[by_length] + steps.unsqueeze(1)) * batch_size + rows[by_length]
    return Segments(
        order=positions[running],
        batch_sizes=running.sum(1).cpu(),
        rows=rows[by_length],
        carried=~reset[times, rows][by_length],
        last=rank[last],
        window=(length, batch_size),
    )
