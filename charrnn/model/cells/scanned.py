"""What cells have in common whose gates depend on the input alone: a window of them is one parallel scan."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from charrnn.model.cells.base import Hold, RecurrentLayer, State, untouched

CHUNKED_KERNELS = ("cuda", "mps")
"""Devices on which starting a kernel costs more than a second pass over the window."""


class ScannedLayer(RecurrentLayer):
    """A layer whose state is ``h' = keep ⊙ h + new`` with ``keep`` and ``new`` read off the input.

    Weights are ``weight_ih_l0`` (G H, I) and ``bias_ih_l0`` (G H,): the gates' rows, then the candidate's.
    """

    packs: ClassVar[bool] = False
    ranges: ClassVar[dict[str, tuple[float, float]]] = {"h": (0, 1e6)}

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = (len(self.gate_names) + 1) * hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, input_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():  # as torch.nn's recurrent layers begin
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    @classmethod
    def num_matrix_weights(cls, input_size: int, hidden_size: int, vocab_size: int, last: bool) -> int:
        """Return the weights of its matrices: nothing is multiplied with the state before."""
        return (len(cls.gate_names) + 1) * hidden_size * input_size

    def keep_and_new(self, gate_input: Tensor, hold: Hold = untouched) -> tuple[Tensor, Tensor]:
        """Return what the state is multiplied by and what is added to it, each (…, H), of (…, G H)."""
        raise NotImplementedError

    def step(self, gate_input: Tensor, state: State, hold: Hold = untouched) -> State:
        """Advance one timestep; ``gate_input`` is (B, G H)."""
        keep, new = self.keep_and_new(gate_input, hold)
        return (hold("h", keep * state[0] + new),)

    def recurrence(self, inputs: Tensor, state: State, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window as one scan; arguments and results as for ``reference``."""
        keep, new = self.keep_and_new(self.gate_input(inputs))
        if reset is not None:
            keep = keep * ~reset.unsqueeze(-1)
        outputs = scan(keep, new, state[0])
        return outputs, (outputs[-1],)


def positive(values: Tensor) -> Tensor:
    """Return g(x) = x + 1/2 above 0 and σ(x) below (Feng et al. 2024): smooth to first order, above 0."""
    # without torch.where, which alone takes longer than all of this
    above = torch.relu(values)
    return torch.sigmoid(values - above) + above


def scan(keep: Tensor, new: Tensor, first: Tensor) -> Tensor:
    """Return every ``h_t = keep_t ⊙ h_(t-1) + new_t``.

    In linear space: with ``keep`` in [0, 1] products can only fade to 0, where they belong, and a state of
    exactly 0, as documents begin with, needs no logarithm.

    Args:
        keep: (T, B, H), each in [0, 1]; 0 forgets all that was before.
        new: (T, B, H).
        first: State before the first timestep, (B, H).

    Returns:
        (T, B, H).
    """
    return _Scan.apply(keep, new, first)


class _Scan(torch.autograd.Function):
    """The scan; its gradient is the same scan from the end: ``d_t = g_t + keep_(t+1) ⊙ d_(t+1)``."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, new: Tensor, first: Tensor) -> Tensor:
        outputs = _scanned(keep, new, first)
        ctx.save_for_backward(keep, outputs, first)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keep, outputs, first = ctx.saved_tensors
        total = _scanned_back(keep, grad)
        grad_keep = torch.empty_like(keep)
        torch.mul(total[0], first, out=grad_keep[0])
        torch.mul(total[1:], outputs[:-1], out=grad_keep[1:])
        return grad_keep, total, total[0] * keep[0]


def _scanned(keep: Tensor, new: Tensor, first: Tensor) -> Tensor:
    """Scan in chunks side by side where starting a kernel is what costs, else in one pass."""
    if keep.device.type in CHUNKED_KERNELS:
        return _chunked(keep, new, first, max(1, math.isqrt(len(keep))))
    return _one_pass(keep, new, first)


def _scanned_back(keep: Tensor, grad: Tensor) -> Tensor:
    if keep.device.type in CHUNKED_KERNELS:
        later = torch.cat([keep[1:], torch.zeros_like(keep[:1])]).flip(0)
        return _scanned(later, grad.flip(0), torch.zeros_like(grad[0])).flip(0)
    total = grad.clone(memory_format=torch.contiguous_format)
    for t in range(len(keep) - 2, -1, -1):
        total[t].addcmul_(keep[t + 1], total[t + 1])
    return total


def _one_pass(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
    outputs = torch.empty_like(new, memory_format=torch.contiguous_format)
    for t in range(len(keep)):
        state = torch.addcmul(new[t], keep[t], state, out=outputs[t])
    return outputs


def _chunked(keep: Tensor, new: Tensor, first: Tensor, size: int) -> Tensor:
    """Scan all chunks of ``size`` timesteps at once from zero, then add what each was handed, faded.

    About 2 √T steps one after the other instead of T, for twice the arithmetic.
    """
    length = len(keep)
    padding = -length % size
    # a padded timestep keeps what is there: it changes nothing before it, and is cut off
    keep = torch.cat([keep, keep.new_ones(padding, *keep.shape[1:])]).unflatten(0, (-1, size)).transpose(0, 1)
    new = torch.cat([new, new.new_zeros(padding, *new.shape[1:])]).unflatten(0, (-1, size)).transpose(0, 1)
    own = _one_pass(keep, new, torch.zeros_like(new[0]))  # (size, chunks, B, H)
    faded = keep.cumprod(0)
    handed = torch.cat([first.unsqueeze(0), _one_pass(faded[-1], own[-1], first)[:-1]])  # (chunks, B, H)
    return torch.addcmul(own, faded, handed).transpose(0, 1).flatten(0, 1)[:length]
