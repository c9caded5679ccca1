"""The native kernels against the definitions, in every variant that this processor can run."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from charrnn import native
from charrnn.config import ModelConfig
from charrnn.model import kernels
from charrnn.model.network import Network
from charrnn.training import updates

if native.library() is None:
    pytest.skip(f"no native library: {native.find()[1]}", allow_module_level=True)

HANDLE = native.ctypes.CDLL(str(native.LIBRARY))
VARIANTS = list(native.VARIANTS)[: HANDLE.charrnn_best() + 1]


@pytest.fixture(params=VARIANTS)
def variant(request, monkeypatch):
    found = native.Library(HANDLE, request.param)
    for module in (kernels, updates):
        monkeypatch.setattr(module, "library", lambda: found)
    return request.param


def make(cell, hidden, embedding, vocab=11):
    config = ModelConfig(cell, hidden, 2, embedding_size=embedding, dropout=0.0)
    return Network(config, vocab, seed=3)


def window(network, batch, length, resets, vocab=11):
    torch.manual_seed(1)
    ids = torch.randint(1, vocab, (batch, length))
    ids[torch.rand(batch, length) < resets] = 0
    states = network.initial_state(batch)
    return ids, [[torch.randn_like(part) for part in layer] for layer in states]


def everything(network, path, ids, states, dtype):
    """Outputs, final state, and the gradients of all weights and of the first state."""
    states = [[part.to(dtype).requires_grad_() for part in layer] for layer in states]
    hidden, after = path(ids, tuple(tuple(layer) for layer in states))
    after = [part for layer in after for part in layer]
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=dtype).view_as(hidden)
    loss = (hidden * weights).sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(after))
    wanted = [*network.layers.parameters(), *(part for layer in states for part in layer)]
    if network.embedding is not None:
        wanted.append(network.embedding.weight)
    return [hidden, *after, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("cell", list(native.CELLS))
@pytest.mark.parametrize(
    ("hidden", "batch", "length", "embedding", "resets"),
    [(1, 1, 1, 0, 0.0), (13, 3, 7, 4, 0.2), (16, 26, 5, 0, 0.0), (33, 9, 6, 0, 1.0), (64, 17, 9, 8, 0.1)],
)
def test_a_window_equals_the_definition(variant, cell, hidden, batch, length, embedding, resets):
    network = make(cell, hidden, embedding)
    ids, states = window(network, batch, length, resets)
    fast = everything(network, network.hidden, ids, states, torch.float32)
    slow = everything(network, network.reference_hidden, ids, states, torch.float32)
    network.double()
    exact = everything(network, network.reference_hidden, ids, states, torch.float64)
    for mine, plain, true in zip(fast, slow, exact, strict=True):
        error, usual = (mine - true).norm(), (plain - true).norm()
        assert error <= 4 * usual + 2e-6 * true.norm() + 1e-7


@pytest.mark.parametrize("cell", list(native.CELLS))
def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_threads(variant, cell):
    network = make(cell, 40, 0)
    ids, states = window(network, 19, 8, 0.1)
    states = tuple(tuple(layer) for layer in states)
    layer = network.layers[0]
    reset = (ids.t() == 0).to(torch.uint8).contiguous()
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(kernels.run_layer(cell, layer, None, ids.t().contiguous(), states[0], reset)[0])
    finally:
        torch.set_num_threads(before)
    alone = tuple(part[5:6].contiguous() for part in states[0])
    row = kernels.run_layer(cell, layer, None, ids[5:6].t().contiguous(), alone, reset[:, 5:6].contiguous())[
        0
    ]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert torch.equal(results[0][:, 5:6], row)


def test_a_vocabulary_larger_than_the_window_is_looked_up_by_what_is_there(variant):
    for embedding in (0, 6):
        network = make("lstm", 20, embedding, vocab=500)
        ids, states = window(network, 3, 5, 0.0, vocab=500)
        fast = everything(network, network.hidden, ids, states, torch.float32)
        slow = everything(network, network.reference_hidden, ids, states, torch.float32)
        for mine, plain in zip(fast, slow, strict=True):
            torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", list(native.CELLS))
def test_the_trace_equals_the_steps(variant, cell):
    network = make(cell, 21, 0)
    ids, states = window(network, 6, 9, 0.2)
    states = tuple(tuple(layer) for layer in states)
    traces, after = network.trace(ids, states)
    layer_trace, layer_after = network.layers[0].trace(network.inputs(ids.t()), states[0], ids.t() == 0, None)
    assert set(traces[0]) == set(layer_trace)
    for name, values in layer_trace.items():
        torch.testing.assert_close(traces[0][name], values, rtol=0, atol=2e-6)
    for mine, plain in zip(after[0], layer_after, strict=True):
        torch.testing.assert_close(mine, plain, rtol=0, atol=2e-6)


@pytest.mark.parametrize("vocab", [2, 16, 65, 300])
def test_the_loss_and_its_gradients_equal_torchs(variant, vocab):
    torch.manual_seed(0)
    tensors = [torch.randn(50, 12), torch.randn(vocab, 12), torch.randn(vocab)]
    targets = torch.randint(vocab, (50,))
    mine = [t.clone().requires_grad_() for t in tensors]
    theirs = [t.double().requires_grad_() for t in tensors]
    loss = 3 * kernels.readout_loss(*mine, targets)
    expected = 3 * cross_entropy(theirs[0] @ theirs[1].t() + theirs[2], targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = zip(torch.autograd.grad(loss, mine), torch.autograd.grad(expected, theirs), strict=True)
    for a, b in gradients:
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_no_number_stays_none(variant):
    network = make("lstm", 20, 0)
    with torch.no_grad():
        network.layers[0].weight_hh_l0[3, 4] = float("nan")
    ids, states = window(network, 2, 6, 0.0)
    loss, _ = network.loss(ids, ids, tuple(tuple(layer) for layer in states))
    assert loss.isnan()


def test_gradients_are_made_once(variant):
    network = make("lstm", 8, 0)
    ids, states = window(network, 2, 3, 0.0)
    loss, _ = network.loss(ids, ids, tuple(tuple(layer) for layer in states))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize("norm", [0.5, 1e6])
def test_clipping_equals_torchs(variant, norm):
    torch.manual_seed(0)
    shapes = [(3,), (200, 170), (1,), (64,)]
    mine, theirs = ([torch.nn.Parameter(torch.zeros(s)) for s in shapes] for _ in range(2))
    for a, b in zip(mine, theirs, strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    assert updates.clip_gradients(mine, norm).item() == pytest.approx(clip_grad_norm_(theirs, norm).item())
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_adamw_equals_torchs_and_takes_up_its_state(variant):
    torch.manual_seed(0)
    shapes = [(3,), (50, 47), (20_000,)]
    mine = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    options = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}
    own, other = updates.AdamW(mine, **options), torch.optim.AdamW(theirs, **options)
    for step in range(8):
        if step == 4:
            own = updates.AdamW(mine, **options)
            own.load_state_dict(copy.deepcopy(other.state_dict()))
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a) * 10.0 ** (step - 4)
            b.grad = a.grad.clone()
        own.step()
        other.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_adds_up_every_word(variant, threads):
    buffer = np.random.default_rng(1).integers(0, 2**32, 37 * 512 // 4, np.uint32)
    total = native.c_uint32()
    read = native.Library(HANDLE, variant).read_memory
    read(buffer.ctypes.data, buffer.nbytes, 3, native.ctypes.byref(total), threads)
    assert total.value == 3 * int(buffer.sum(dtype=np.uint64)) % 2**32


def test_the_switch_turns_the_library_off():
    code = "from charrnn import native; print(native.library() is None, native.find()[1])"
    environment = {**os.environ, native.SWITCH: "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("True switched off")
