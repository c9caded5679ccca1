"""Padded layers against the definition: outputs, final state, every gradient, at odd sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from charrnn.config import ModelConfig
from charrnn.model.network import Network
from charrnn.model.paths import Path, up
from charrnn.model.regularisation import Pull
from charrnn.model.stack import flat_weights

CELLS = ["lstm", "gru", "elman", "elman_relu"]
STACK = Path("stack", "", "fp32", True, 128, 8, 128)
SIZES = [  # H, B, T, embedding, path
    (1, 1, 1, 0, STACK),
    (13, 3, 7, 4, STACK),
    (130, 9, 4, 0, STACK),
    (16, 8, 6, 8, Path("stock", "", "fp32", True, 8, 8, 8)),
    (33, 5, 6, 0, Path("stock", "", "fp32", True, 8, 8, 8)),
    (21, 6, 5, 3, Path("stock", "", "fp32", True)),
]


def make(cell, hidden=13, embedding=4, layers=2, **levers):
    config = ModelConfig(cell, hidden, layers, embedding_size=embedding, dropout=0.0)
    return Network(replace(config, **levers), 11, seed=3)


def window(network, batch, length, resets=0.0):
    noise = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 11, (batch, length), generator=noise)
    ids[:, 0] *= torch.rand(batch, generator=noise) > 0.3  # documents that begin with the window
    ids[torch.rand(batch, length, generator=noise) < resets] = 0
    state = network.initial_state(batch)
    return ids, [[torch.randn(part.shape, generator=noise) for part in layer] for layer in state]


def flat(state):
    return [part for layer in state for part in layer]


def everything(network, run, ids, states, dtype):
    """Outputs, final state, and the gradients of all weights and of the first state."""
    states = [[part.to(dtype).requires_grad_() for part in layer] for layer in states]
    hidden, after = run(ids, tuple(tuple(layer) for layer in states))
    after = [part for layer in after for part in layer]
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=dtype).view_as(hidden)
    loss = (hidden * weights).sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(after))
    wanted = [*network.layers.parameters(), *(part for layer in states for part in layer)]
    if network.embedding is not None:
        wanted.append(network.embedding.weight)
    return [hidden, *after, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden", "batch", "length", "embedding", "path"), SIZES)
def test_a_window_equals_the_definition(cell, hidden, batch, length, embedding, path):
    network = make(cell, hidden, embedding)
    ids, states = window(network, batch, length)

    def padded(ids, state):
        return network.hidden(ids, state, path=path, inside=False)

    fast = everything(network, padded, ids, states, torch.float32)
    slow = everything(network, network.reference_hidden, ids, states, torch.float32)
    network.double()
    exact = everything(network, network.reference_hidden, ids, states, torch.float64)
    doubled = everything(network, padded, ids, states, torch.float64)
    for mine, plain, true, twice in zip(fast, slow, exact, doubled, strict=True):
        assert (mine - true).norm() <= 4 * (plain - true).norm() + 2e-6 * true.norm() + 1e-7
        assert (twice - true).norm() <= 1e-12 * (1 + true.norm())


@pytest.mark.parametrize("cell", CELLS)
def test_levers_draw_the_same_masks_as_on_any_path(cell):
    levers = {"input_dropout": 0.2, "output_dropout": 0.5, "skip_connections": True}
    network = make(cell, dropout=0.3, weight_drop=0.4, **levers).double().train()
    ids, states = window(network, 5, 9)
    states = tuple(tuple(part.double() for part in layer) for layer in states)
    found = []
    for path in (None, STACK):
        noise = torch.Generator().manual_seed(7)
        loss, _ = network.loss(ids, ids.roll(1), states, noise, path, False, Pull(2.0, 1.0))
        found.append([loss, *torch.autograd.grad(loss, list(network.parameters()))])
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-14) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_documents_that_begin_inside_a_window_run_as_ever(cell):
    network = make(cell)
    ids, states = window(network, 5, 9, resets=0.2)
    states = tuple(tuple(layer) for layer in states)
    own, own_after = network.hidden(ids, states)
    hidden, after = network.hidden(ids, states, path=STACK, inside=True)
    assert torch.equal(own, hidden)
    assert all(map(torch.equal, flat(own_after), flat(after)))


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.01), ("bf16", 0.08)])
def test_16_bits_are_near_the_definition(cell, precision, most):
    """The same code in fp16 and bf16: this processor's rounding stands in for cuDNN's."""
    network = make(cell, 24)
    ids, states = window(network, 5, 12)
    path = Path("stack", "", precision, True, 128, 8, 128)
    loss, after = network.loss(ids, ids.roll(1), tuple(map(tuple, states)), None, path, False)
    assert {loss.dtype, *(part.dtype for part in flat(after))} == {torch.float32}
    mine = torch.autograd.grad(loss * 1024, list(network.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in mine)
    network.double()
    logits, _ = network.reference(ids, tuple(tuple(part.double() for part in layer) for layer in states))
    true = torch.autograd.grad(
        cross_entropy(logits.flatten(0, 1), ids.roll(1).flatten()), list(network.parameters())
    )
    for found, wanted in zip(mine, true, strict=True):
        assert (found / 1024 - wanted).norm() < most * wanted.norm()


@pytest.mark.parametrize("cell", CELLS)
def test_weights_lie_one_after_the_other_as_cudnn_wants_them(cell):
    """torch's ``try_get_weight_buf`` takes them without a copy if they fill one storage in this order."""
    layer = make(cell, hidden=13, embedding=4).layers[0]
    weights = flat_weights(layer, 128, 128, torch.float16)
    gates = len(layer.weight_hh_l0) // 13
    assert [tuple(w.shape) for w in weights] == [(gates * 128, 128)] * 2 + [(gates * 128,)] * 2
    offset = 0
    for weight in weights:
        assert weight.is_contiguous() and weight.storage_offset() == offset
        assert weight.untyped_storage().data_ptr() == weights[0].untyped_storage().data_ptr()
        offset += weight.numel()
    assert weights[0].untyped_storage().nbytes() == 2 * offset
    block = weights[1].view(gates, 128, 128)
    assert torch.equal(block[:, :13, :13], layer.weight_hh_l0.half().view(gates, 13, 13))
    assert not block[:, 13:].any() and not block[:, :, 13:].any()


def test_sizes_are_rounded_up():
    assert [up(n, 128) for n in (1, 128, 129, 1000)] == [128, 128, 256, 1024]
    assert up(7, 1) == 7
