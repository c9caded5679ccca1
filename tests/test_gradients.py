"""Fading gradients: one neuron by hand, torch's own LSTM, every cell by finite differences; the picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.config import CELLS, ModelConfig
from charrnn.errors import ConfigError, InspectionError
from charrnn.inspection import gradients
from charrnn.inspection.gradients import Fading, GradientFindings, fading, find_gradients, lag_norms
from charrnn.inspection.hypotheses import TextProfile
from charrnn.inspection.pieces import Piece
from charrnn.inspection.subject import Subject
from charrnn.model.network import new_network
from charrnn.rendering.gradients import print_gradients
from charrnn.text.vocabulary import Vocabulary

SYMBOLS = "abcdefgh"
TABLE = np.array([0, *range(2, 10)])
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"


def make_network(cell, layers=2, hidden=5, seed=2):
    network = new_network(ModelConfig(cell, hidden, layers, embedding_size=0, dropout=0.0), 10, seed).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network.double()


def make_ids(rows, length):
    return torch.randint(2, 10, (rows, length), generator=torch.Generator().manual_seed(length))


def make_piece(length, skip=0, document=0):
    places = np.random.default_rng(length).integers(1, 9, length).astype(np.uint8)
    text = "".join(SYMBOLS[place - 1] for place in places)
    return Piece(text, places, np.zeros((length, 1), np.float32), skip, document, 0, True)


def test_one_neuron_has_the_product_of_its_derivatives():
    network = make_network("elman", layers=1, hidden=1)
    ids = make_ids(3, 9)
    ids[:, 0] = 0
    w = {name: p.detach().numpy() for name, p in network.named_parameters()}
    read, again = w["layers.0.weight_ih_l0"][0], w["layers.0.weight_hh_l0"].item()
    bias = (w["layers.0.bias_ih_l0"] + w["layers.0.bias_hh_l0"]).item()
    found = lag_norms(network, ids, 7)[(1, "h")]
    for row, norms in zip(ids.tolist(), found, strict=True):  # a shared boundary, then eight symbols
        h, states = 0.0, []
        for symbol in row[:-1]:
            h = np.tanh(read[symbol] + again * h + bias)
            states.append(h)
        p = np.exp(w["readout.weight"][:, 0] * h + w["readout.bias"])
        p /= p.sum()
        slope = float((p - np.eye(10)[row[-1]]) @ w["readout.weight"][:, 0])
        for lag in range(8):
            np.testing.assert_allclose(norms[lag], abs(slope), rtol=1e-10)
            slope *= again * (1 - states[-1 - lag] ** 2)


@pytest.mark.parametrize("cell", list(CELLS))
def test_every_cell_by_finite_differences(cell):
    network, ids, last = make_network(cell), make_ids(1, 11), 4
    found = lag_norms(network, ids, last)
    assert set(found) == {
        (layer, kind) for layer in range(1, len(network.layers) + 1) for kind in CELLS[cell].state_names
    }

    def loss(part, lag, index, change):
        def hold(layer):
            return lambda kind, values: values + push if (layer, kind) == part and here else values

        push = torch.zeros(5, dtype=torch.float64)
        push[index] = change
        state = network.initial_state(1)
        for t in range(10):
            here = t == 9 - lag
            logits, state = network.step(ids[:, t], state, hold)
        return float(cross_entropy(logits, ids[:, -1]))

    with torch.no_grad():
        for part, norms in found.items():
            for lag in range(last + 1):
                step = 1e-5
                slopes = [
                    (loss(part, lag, i, step) - loss(part, lag, i, -step)) / (2 * step) for i in range(5)
                ]
                np.testing.assert_allclose(norms[0, lag], np.linalg.norm(slopes), rtol=1e-5, atol=1e-9)


def test_the_lowest_layer_of_an_lstm_equals_torchs_own_gradient():
    """The carried (h, c) of torch.nn.LSTM, between two calls, holds all that came before."""
    network, ids = make_network("lstm", layers=1), make_ids(4, 30)
    lstm = torch.nn.LSTM(10, 5).double()
    lstm.load_state_dict(network.layers[0].state_dict())
    found = lag_norms(network, ids, 12)
    inputs = network.inputs(ids.t())
    for lag in (0, 1, 5, 12):
        _, (h, c) = lstm(inputs[: 29 - lag])
        h, c = h.detach().requires_grad_(), c.detach()
        top = lstm(inputs[29 - lag : 29], (h, c))[0][-1] if lag else h[0]
        loss = cross_entropy(network.readout(top), ids[:, -1], reduction="sum")
        (expected,) = torch.autograd.grad(loss, h)
        np.testing.assert_allclose(found[(1, "h")][:, lag], expected[0].norm(dim=1), rtol=1e-9)


def test_a_document_that_begins_inside_cuts_the_gradient():
    network, ids = make_network("gru"), make_ids(2, 12)
    ids[:, 7] = 0
    norms = lag_norms(network, ids, 9)[(1, "h")]
    assert (norms[:, :4] > 0).all() and (norms[:, 4:] == 0).all()


def test_the_mean_is_over_characters_evenly_from_the_text(monkeypatch):
    monkeypatch.setattr(gradients, "ROWS", 3)
    monkeypatch.setattr(gradients, "WARM_UP", 1000)
    network = make_network("lstm", layers=1)
    pieces = [make_piece(30, skip=10), make_piece(45, document=1), make_piece(3, document=2)]
    (of_c, of_h), counted = fading(network, TABLE, pieces, 6, 10)
    assert (of_c.name, of_h.name) == ("L1.c", "L1.h") and (counted == 10).all()
    # 19 characters of the first piece are not skipped and have another after them; 38 of the second have
    # six before them
    chosen = ((np.arange(10) + 0.5) * 57 / 10).astype(int)
    means = []
    for n in chosen:
        piece, t = (pieces[0], 10 + n) if n < 19 else (pieces[1], 6 + n - 19)
        ids = torch.tensor([0, *TABLE[piece.places[: t + 2]]])[None]
        means.append(lag_norms(network, ids, 6)[(1, "h")][0])
    np.testing.assert_allclose(of_h.norms, np.mean(means, 0), rtol=1e-10)


def test_short_documents_count_at_the_lags_that_they_have():
    network = make_network("elman", layers=1)
    pieces = [make_piece(4, document=i) for i in range(5)]
    (found,), counted = fading(network, TABLE, pieces, 6, 15)
    assert counted.tolist() == [15, 10, 5, 0, 0, 0, 0]
    assert (found.norms[:3] > 0).all() and (found.norms[3:] == 0).all()
    with pytest.raises(InspectionError, match="too little text"):
        fading(network, TABLE, [make_piece(1)], 6, 15)


def subject():
    vocabulary = Vocabulary.of_chars(map(ord, SYMBOLS))
    networks = make_network("gru", hidden=6), make_network("gru", hidden=6, seed=3)
    return Subject("mine", *networks, vocabulary, TABLE, [make_piece(400)], [], TextProfile("prose", 60, 1))


def test_findings_are_of_both_networks_and_json_is_complete():
    found = find_gradients(subject(), seq_len=20)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["model"] == "gru 2×6" and data["seq_len"] == 20 and data["lags"] == list(range(21))
    assert data["positions"] == [256] * 21 and data["untrained"]["positions"] == [64] * 21
    (again, _), _ = fading(subject().twin, TABLE, subject().pieces, 20, 64)
    assert data["untrained"]["gradients"][0]["norm"] == pytest.approx(again.norms.tolist())
    for layer, part in enumerate(data["gradients"], start=1):
        assert (part["layer"], part["kind"], part["relative"][0]) == (layer, "h", 1.0)
        assert part["relative"][5] == pytest.approx(part["norm"][5] / part["norm"][0])


@pytest.mark.parametrize("lags", [0, -1, 257])
def test_lags_out_of_range_are_refused(lags):
    with pytest.raises(ConfigError, match=rf"`--lags` is `{lags}`"):
        find_gradients(subject(), 20, lags)


def test_half_life_and_reach():
    def of(*norms):
        return Fading(1, "h", np.array(norms))

    assert of(4, 3, 1, 0).half_life == 1.5 and of(4, 2, 1).half_life == 1.0
    assert of(4, 3, 3).half_life is None and of(0, 0).half_life is None
    assert of(1, 0.5, 0.01, 0.009).reach == 2 and of(0, 0).reach is None
    decaying = of(*0.9 ** np.arange(40))
    assert decaying.half_life == pytest.approx(np.log(0.5) / np.log(0.9), abs=0.02)


# the picture


def example():
    lags = np.arange(33)

    def faded(base, layer=1, kind="h"):
        return Fading(layer, kind, 2 * base**lags)

    return GradientFindings(
        "mine", "lstm 1×4", 32, np.full(33, 256), np.full(33, 64),
        (faded(0.9, kind="c"), faded(0.7)), (faded(0.5, kind="c"), faded(0.4)),
    )  # fmt: skip


def drawn(width, color_system=None, findings=None):
    console = Console(
        width=width,
        file=io.StringIO(),
        color_system=color_system,
        force_terminal=True,
        _environ={},
        legacy_windows=False,
    )
    print_gradients(findings or example(), console)
    return console.file.getvalue().splitlines()


GOLDEN = """\
mine · lstm 1×4 · trained on windows of 32
norm of d loss(t) / d state(t − lag), mean over 256 characters t, as a share of
that at lag 0

 state             half-life   1 %  lag 1  lag 4  lag 16
 ───────────────────────────────────────────────────────
 L1.c                    6.6  ≥ 32    .90    .66     .19
        untrained        1.0     6    .50    .06    2e-5
 L1.h                    2.0    12    .70    .24    3e-3
        untrained        0.8     5    .40    .03    4e-7

      L1.c                                     L1.h
    1┤⠉⠉⡙⠒⠒⠒⠲⠤⠤⠤⠤⣄⣀⣀⣀⣀                       1┤⠉⠓⠦⢤⣀
     │    ⠄          ⠈⠉⠉⠉⠙⠒⠒⠒⠒⠦⠤⠤⠤⣄⣀⣀⣀⣀       │  ⠁ ⠈⠉⠓⠦⢤⣀⡀
     │      ⠂                         ⠈       │    ⠁     ⠉⠓⠲⢤⣀⡀
     │        ⠁ ⡀                             │      ⠁        ⠉⠓⠲⢤⣀⡀
     │            ⠄                           │        ⠁           ⠉⠓⠲⢤⣀⡀
     │              ⠂                         │          ⠁              ⠉⠙⠲⠤⣄⡀
     │                ⠂                       │            ⠁                 ⠉⠙⠲
 1e-6┤                  ⠁ ⡀               1e-6┤              ⠁
     └─────────────────────────────────       └─────────────────────────────────
      0             lag              32        0             lag              32
curve: this network; dots: the same before training; half-life: lag in
characters at which half is left; 1 %: the last lag at which a hundredth is"""


def test_golden_without_colour():
    assert "\n".join(line.rstrip() for line in drawn(80)) == GOLDEN


@pytest.mark.parametrize("width", [40, 60, 80, 98, 120])
def test_no_line_is_wider_than_the_terminal(width):
    assert all(cell_len(line) <= width for line in drawn(width))


def test_gradients_of_nothing_can_be_drawn():
    nothing = (Fading(1, "h", np.zeros(5)),)
    findings = GradientFindings("mine", "elman 1×1", 4, np.ones(5, int), np.ones(5, int), nothing, nothing)
    assert "–" in "\n".join(drawn(80, findings=findings))


def test_the_command_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(HARBOUR.read_text(encoding="utf-8") * 3, encoding="utf-8")

    def charrnn(arguments, code=0):
        result = CliRunner().invoke(app, arguments.split())
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    split = "--val-fraction .2 --test-fraction .2 --steps 2 --hidden-size 8 --seq-len 12"
    charrnn(f"train text --run small --cell jordan {split}")
    data = json.loads(charrnn("inspect gradients small --json --svg fading.svg").stdout)
    assert [part["kind"] for part in data["gradients"]] == ["h", "s"] and len(data["lags"]) == 13
    assert "<svg" in (tmp_path / "fading.svg").read_text(encoding="utf-8")
    assert "L1.s" in charrnn("inspect gradients small --lags 5").stdout
    assert "error: `--lags` is `0`" in charrnn("inspect gradients small --lags 0", code=1).stderr
