"""Steps that only some rows of a window take, as a packed batch of what is left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


@dataclass(frozen=True)
class Visits:
    """Where the N steps that are taken in a (T, B) window lie, cut into S pieces at resets.

    Args:
        order: Position ``t B + b`` in the window of every packed step, (N,).
        batch_sizes: Pieces still running at each packed step, on the CPU.
        rows: The row of every piece, longest piece first, (S,).
        carried: Whether the piece starts from its row's state, (S,) bool.
        last: For every row the piece that ends it; anything for rows that take no step, (B,).
        some: Whether a row takes any step, (B,) bool.
        newest: For every timestep the packed step last taken, N + b before the row's first, (T, B).
    """

    order: Tensor
    batch_sizes: Tensor
    rows: Tensor
    carried: Tensor
    last: Tensor
    some: Tensor
    newest: Tensor

    def pack(self, values: Tensor) -> PackedSequence:
        """Return values (T, B, ·) at the steps that are taken."""
        return PackedSequence(values.flatten(0, 1)[self.order], self.batch_sizes)

    def begin(self, state: Tensor) -> Tensor:
        """Return the first state of every piece, (S, H), from that of every row, (B, H)."""
        return state[self.rows] * self.carried.unsqueeze(1)

    def end(self, pieces: Tensor, state: Tensor) -> Tensor:
        """Return the last state of every row, (B, H): of its last piece (S, H), or the one it had before."""
        return torch.where(self.some.unsqueeze(1), pieces[self.last], state)

    def spread(self, packed: PackedSequence, state: Tensor) -> Tensor:
        """Return packed values as (T, B, H), each kept until the next; before the first stands the state."""
        return torch.cat([packed.data, state])[self.newest]


def find_visits(taken: Tensor, reset: Tensor) -> Visits:
    """Find the steps of a window and the pieces they form; at least one step must be taken.

    Args:
        taken: Which rows take a step, (T, B) bool.
        reset: Where the state is set to zero before the timestep, (T, B) bool; a step is taken there.
    """
    batch_size = taken.shape[1]
    rows, times = taken.t().nonzero(as_tuple=True)  # (N,), by row, then by time
    resets = reset[times, rows]
    changes = rows[1:] != rows[:-1]
    begins = torch.cat([resets.new_ones(1), changes]) | resets
    piece = begins.cumsum(0) - 1  # (N,)
    first = begins.nonzero().squeeze(1)  # (S,)
    by_length = torch.bincount(piece).argsort(descending=True, stable=True)
    place = by_length.argsort()[piece]  # (N,)
    rank = torch.arange(len(rows), device=rows.device) - first[piece]
    order = torch.argsort(rank * len(first) + place)
    per_row = taken.sum(0)
    ends = (per_row.cumsum(0) - 1).clamp(min=0)
    return Visits(
        order=(times * batch_size + rows)[order],
        batch_sizes=torch.bincount(rank).cpu(),
        rows=rows[first][by_length],
        carried=~resets[first][by_length],
        last=place[ends],
        some=per_row > 0,
        newest=_newest(taken, order.argsort()),
    )


def _newest(taken: Tensor, packed: Tensor) -> Tensor:
    """Return the packed place of the newest step at each timestep, (T, B), from that of every step, (N,)."""
    per_row = taken.sum(0)
    step = taken.long().cumsum(0) + (per_row.cumsum(0) - per_row) - 1
    before = len(packed) + torch.arange(taken.shape[1], device=taken.device)
    return torch.where(taken.cumsum(0) > 0, packed[step.clamp(min=0)], before)
