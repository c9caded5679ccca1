"""Cells that torch.nn lacks, written again from the equations of their papers, one timestep at a time.

The modules have the weights' names of the layers they are compared with, and are called as torch.nn's.
"""

from __future__ import annotations

import torch
from torch import nn

OUTPUTS = 11
"""Output units of a Jordan layer."""


def g(x):
    return torch.where(x >= 0, x + 0.5, 1 / (1 + torch.exp(-x)))


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


class SlowMinGRU(nn.Module):
    """Feng et al. 2024, section 3.1, with their z = 1 - ours."""

    gates = 1

    def __init__(self, size, hidden):
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty((self.gates + 1) * hidden, size))
        self.bias_ih_l0 = nn.Parameter(torch.empty((self.gates + 1) * hidden))
        self.hidden = hidden

    def parts(self, x):
        return (x @ self.weight_ih_l0.t() + self.bias_ih_l0).split(self.hidden, dim=-1)

    def advance(self, x, h, held=lambda kind, values: values):
        keep, candidate = self.parts(x)
        z = 1 - held("z", sigmoid(keep))
        return held("h", (1 - z) * h + z * g(candidate))

    def forward(self, inputs, state):
        h, outputs = state[0], []
        for x in inputs:
            h = self.advance(x, h)
            outputs.append(h)
        return torch.stack(outputs), h.unsqueeze(0)


class SlowMinLSTM(SlowMinGRU):
    """Feng et al. 2024, section 3.2, gates divided by their sum."""

    gates = 2

    def advance(self, x, h, held=lambda kind, values: values):
        i, f, candidate = self.parts(x)
        i, f = sigmoid(i), sigmoid(f)
        i, f = held("i", i / (i + f)), held("f", f / (i + f))
        return held("h", f * h + i * g(candidate))


class SlowJordan(nn.Module):
    """Jordan 1986 with state units themselves, one per output unit; what was carried in fades beside them."""

    def __init__(self, size, hidden):
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(hidden, size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(hidden))
        self.weight_yh_l0 = nn.Parameter(torch.empty(hidden, OUTPUTS))
        self.outputs = nn.Linear(hidden, OUTPUTS)

    def forward(self, inputs, state):
        (h, carried), outputs = (part[0] for part in state), []
        units = torch.zeros(*h.shape[:-1], OUTPUTS, dtype=h.dtype)
        for x in inputs:
            scores = torch.exp(h @ self.outputs.weight.t() + self.outputs.bias)
            units = 0.5 * units + scores / scores.sum(-1, keepdim=True)
            carried = 0.5 * carried
            reaching = units @ self.weight_yh_l0.t() + carried
            h = torch.tanh(x @ self.weight_ih_l0.t() + self.bias_ih_l0 + reaching)
            outputs.append(h)
        return torch.stack(outputs), (h.unsqueeze(0), reaching.unsqueeze(0))
