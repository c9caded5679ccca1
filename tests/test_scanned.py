"""Cells that run as a scan: the scan against a slow loop, and the cells against the code of their paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import pad, softplus

from charrnn.config import CELLS, ModelConfig
from charrnn.model.cells import scanned
from charrnn.model.network import Network


@pytest.fixture(params=["one pass", "chunks"])
def way(request, monkeypatch):
    monkeypatch.setattr(scanned, "CHUNKED_KERNELS", ("cpu",) if request.param == "chunks" else ())


def random_window(length, dtype=torch.float64):
    random = torch.Generator().manual_seed(length)
    keep, new = (torch.rand(length, 2, 3, generator=random, dtype=dtype) for _ in range(2))
    keep[keep < 0.1] = 0.0
    keep[keep > 0.9] = 1.0
    return keep, new - 0.3, torch.randn(2, 3, generator=random, dtype=dtype)


@pytest.mark.parametrize("length", [*range(1, 18), 63, 64, 65])
def test_a_scan_is_its_loop_with_every_gradient(way, length):
    leaves = [part.requires_grad_() for part in random_window(length)]
    keep, new, state = leaves
    slow = []
    for t in range(length):
        state = keep[t] * state + new[t]
        slow.append(state)
    slow = torch.stack(slow)
    fast = scanned.scan(*leaves)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(-1, 2, slow.numel(), dtype=slow.dtype).view_as(slow)
    for got, expected in zip(
        torch.autograd.grad((fast * weights).sum(), leaves),
        torch.autograd.grad((slow * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences(way):
    assert torch.autograd.gradcheck(scanned.scan, [part.requires_grad_() for part in random_window(7)])


def test_a_long_window_in_single_precision_stays_at_the_double_one(way):
    keep, new, first = random_window(3000)
    keep = 1 - keep * 1e-3  # remembers for a thousand timesteps: errors add up, if they do
    single = scanned.scan(keep.float(), new.float(), first.float())
    torch.testing.assert_close(single.double(), scanned.scan(keep, new, first), rtol=2e-5, atol=2e-4)


def paper_scan(log_coeffs, log_values):
    """``parallel_scan_log``, Feng et al. 2024, appendix B; time comes first here."""
    a_star = pad(torch.cumsum(log_coeffs, dim=0), (0, 0, 0, 0, 1, 0))
    return torch.exp(a_star + torch.logcumsumexp(log_values - a_star, dim=0))[1:]


def paper_log_g(x):
    return torch.where(x >= 0, (torch.relu(x) + 0.5).log(), -softplus(-x))


def paper_min_gru(k, candidate, first):
    return paper_scan(-softplus(k), torch.cat([first.log()[None], -softplus(-k) + paper_log_g(candidate)]))


def paper_min_lstm(i, f, candidate, first):
    more = softplus(-f) - softplus(-i)
    log_values = torch.cat([first.log()[None], -softplus(-more) + paper_log_g(candidate)])
    return paper_scan(-softplus(more), log_values)


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_a_window_is_that_of_the_papers_log_space_code(way, cell):
    torch.manual_seed(3)
    layer = CELLS[cell](5, 4).double()
    inputs, first = 3 * torch.randn(29, 2, 5).double(), torch.rand(2, 4).double()
    rows = layer.gate_input(inputs).chunk(len(layer.gate_names) + 1, dim=-1)
    theirs = {"mingru": lambda k, n, h: paper_min_gru(-k, n, h), "minlstm": paper_min_lstm}  # their z lets in
    expected = theirs[cell](*rows, first)
    outputs, (after,) = layer.recurrence(inputs, (first,))
    torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after, expected[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_chunks_and_documents_that_begin_anywhere(monkeypatch, cell):
    monkeypatch.setattr(scanned, "CHUNKED_KERNELS", ("cpu",))
    network = Network(ModelConfig(cell, 6, 2, embedding_size=0, dropout=0.0), 9, 2).double()
    ids = torch.randint(0, 9, (4, 23), generator=torch.Generator().manual_seed(1))
    fast, after = network(ids, network.initial_state(4))
    slow, expected = network.reference(ids, network.initial_state(4))
    weights = list(network.parameters())
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, expected, rtol=1e-10, atol=1e-10)
    for got, wanted in zip(
        torch.autograd.grad(fast.square().sum(), weights),
        torch.autograd.grad(slow.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [30.0, 200.0])
def test_gates_that_are_shut_or_open_for_good_stay_finite(size):
    layer = CELLS["minlstm"](1, 4)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.bias_ih_l0.copy_(torch.tensor([1, -1, -1, 1, 1, -1, 1, -1, 1, 1, 1, 1]) * size)
    inputs = torch.zeros(8, 1, 1)
    outputs, _ = layer.recurrence(inputs, layer.zero_state(1))
    # both open or both shut: half of either; only f open: nothing ever comes in; only i: the candidate
    expected = (size + 0.5) * np.array([1 - 0.5**8, 1 - 0.5**8, 0.0, 1.0])
    np.testing.assert_allclose(outputs[-1, 0].detach(), expected, rtol=1e-5, atol=1e-9)
    outputs.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_the_positive_function_is_the_papers():
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64, requires_grad=True)
    found, expected = scanned.positive(x), paper_log_g(x).exp()
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), x)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    away = x.abs() > 1e-9  # at 0 itself the slopes of both sides differ
    torch.testing.assert_close(slope[away], wanted[away])
