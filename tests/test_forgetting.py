"""How long a neuron remembers: planted decays have their half-life, and only what is shared counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charrnn.config import ModelConfig
from charrnn.inspection import forgetting as module
from charrnn.inspection.forgetting import AFTER, BEFORE, CONTEXTS, forgetting, halved
from charrnn.inspection.names import Neuron
from charrnn.inspection.pieces import Piece
from charrnn.model.network import Network

TABLE = np.arange(12)


def leaky(*shares):
    """A network whose neurons keep these shares of themselves and add something for every character."""
    network = Network(ModelConfig("elman_relu", len(shares), 1, embedding_size=0, dropout=0.0), 12, 2).eval()
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
        layer = network.layers[0]
        layer.weight_hh_l0.copy_(torch.diag(torch.tensor(shares)))
        layer.weight_ih_l0.copy_(torch.rand(len(shares), 12, generator=torch.Generator().manual_seed(1)))
        layer.weight_ih_l0[:, 0] = 0
    return network


def piece(number, length):
    places = np.random.default_rng(number).integers(2, 12, length)
    return Piece("x" * length, places, np.empty((length, 0), np.float32), 0, number, 0, False)


NEURONS = [Neuron(1, "h", i) for i in range(4)]


def test_planted_decays_have_their_half_life():
    found = forgetting(leaky(0.9, 0.97, 1.0, 0.0), TABLE, [piece(n, 900) for n in range(8)], NEURONS)
    for share, own in zip((0.9, 0.97), found, strict=False):
        assert own.after == pytest.approx(math.log(0.5) / math.log(share), abs=0.02)
        assert own.left == pytest.approx(share**AFTER, abs=1e-4)
    assert found[2].after is None and found[2].left == pytest.approx(1, abs=1e-4)
    assert found[3].after == 0.5 and found[3].left == 0


def test_what_never_changes_and_too_little_text_have_no_figure():
    network = leaky(0.5, 0.5)
    with torch.no_grad():
        network.layers[0].weight_ih_l0[1] = 0
    neurons = NEURONS[:2]
    found = forgetting(network, TABLE, [piece(n, 900) for n in range(8)], neurons)
    assert found[0] is not None and found[1] is None
    assert forgetting(network, TABLE, [piece(0, CONTEXTS * (BEFORE + AFTER))], neurons) == [None, None]
    assert forgetting(network, TABLE, [piece(n, BEFORE + AFTER - 1) for n in range(9)], neurons) == [None] * 2


def test_a_segment_is_read_after_its_own_context_and_after_others():
    pieces = [piece(n, 700) for n in range(3)]
    spots = module._spots(pieces)
    assert spots == [(n, begin) for n in range(3) for begin in (BEFORE, 2 * BEFORE + AFTER)]
    own = module._read_after(pieces, spots[1], spots[1])
    size = BEFORE + AFTER
    assert (own.places == pieces[0].places[size : 2 * size]).all()
    other = module._read_after(pieces, spots[1], spots[4])
    assert (other.places[:BEFORE] == pieces[2].places[:BEFORE]).all()
    assert (other.places[BEFORE:] == pieces[0].places[size + BEFORE : 2 * size]).all()


def test_between_characters_it_is_a_straight_line():
    assert halved(np.array([2.0, 1.6, 0.6, 0.5])).after == pytest.approx(1.6)
    assert halved(np.array([1.0, 0.5, 0.6])).after == 1.0
    assert halved(np.zeros(3)) is None
