"""Painted samples: the same text as unpainted ones, the right number for every character, closed colours."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.config import CELLS, ModelConfig
from charrnn.inspection.names import Neuron
from charrnn.inspection.watching import watched
from charrnn.model.holds import Held, hold_all
from charrnn.model.network import new_network, no_hold
from charrnn.rendering.card import View
from charrnn.rendering.colour import Painter, colour_legend
from charrnn.sampling import SamplingConfig, Speaker, until
from charrnn.text.vocabulary import BOUNDARY, Vocabulary

LETTERS = Vocabulary.of_chars(map(ord, "abcde \n"))
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"
SGR = re.compile(r"\x1b\[[0-9;]*m")
VARYING = [name for name in CELLS if name != "elman_relu"]  # which begins with almost no input, and is silent
KINDS = [(name, kind) for name in VARYING for kind in (*CELLS[name].state_names, *CELLS[name].gate_names)]


def make_speaker(cell="lstm", vocabulary=LETTERS, hold=no_hold, **how):
    config = ModelConfig(cell, 6, 2, embedding_size=0, dropout=0.0)
    network = new_network(config, len(vocabulary), seed=2).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
        network.readout.bias[BOUNDARY] = -100.0  # one document, so that it can be read again
    keep = hold_all(hold, network) if hold is not no_hold else no_hold
    return Speaker(network, vocabulary, SamplingConfig(**how), keep)


def said(speaker, length=60, prompt="ab", stops=(), neuron=None):
    pieces = list(watched(speaker, prompt, length, 3, 0, stops, neuron))
    return "".join(text for text, _ in pieces), [v for _, values in pieces for v in values]


def read_again(speaker, text):
    """Read a text step by step; return logits before each character, and the states after each."""
    network = speaker.network
    state, logits, states = network.initial_state(1), [], []
    with torch.no_grad():
        row, state = network.step(torch.tensor([BOUNDARY]), state, speaker.hold)
        for symbol in speaker.vocabulary.encode(text):
            logits.append(row[0].double().numpy().copy())
            row, state = network.step(torch.tensor([symbol]), state, speaker.hold)
            states.append(state)
    return logits, states


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.3])
def test_surprisal_is_the_models_own_at_every_temperature(temperature):
    speaker = make_speaker(temperature=temperature)
    symbols = list(islice(speaker.ids("ab", 3), 60))
    text, bits = said(speaker, 60)
    logits, _ = read_again(speaker, "ab" + text)
    for row, symbol, value in zip(logits[2:], symbols, bits, strict=True):
        p = np.exp(row - row.max())
        p[1] = 0  # the escape is never drawn
        assert value == pytest.approx(-math.log2(p[symbol] / p.sum()), abs=1e-4)


@pytest.mark.parametrize(("cell", "kind"), KINDS)
def test_a_neurons_value_is_that_after_reading_the_character(cell, kind):
    speaker = make_speaker(cell)
    text, values = said(speaker, 12, neuron=Neuron(2, kind, 4))
    _, states = read_again(speaker, "ab" + text)
    assert len(values) == len(text) == 12 and len(set(values)) > 3
    if kind in CELLS[cell].state_names:
        part = CELLS[cell].state_names.index(kind)
        seen = [float(state[1][part][0, 4]) for state in states[2:]]
        np.testing.assert_allclose(values, np.tanh(seen) if kind == "c" else seen, atol=1e-5)


def test_raw_is_what_a_c_neuron_is_the_tanh_of():
    c, raw = (said(make_speaker(), 30, neuron=Neuron(2, kind, 4))[1] for kind in ("c", "raw"))
    np.testing.assert_allclose(np.tanh(raw), c, atol=1e-6)
    assert np.ptp(raw) > 0


@pytest.mark.parametrize("neuron", [None, Neuron(1, "h", 0)])
@pytest.mark.parametrize("stops", [(), ("a",), ("ab", "e"), ("a\n" * 9, "b" * 9)])
def test_watching_changes_nothing_that_is_said(neuron, stops):
    speaker = make_speaker()
    plain = "".join(until(speaker.characters("ab", 200, 3), stops))
    text, values = said(speaker, 200, stops=stops, neuron=neuron)
    assert text == plain and len(values) == len(text)
    assert values == said(speaker, 200, neuron=neuron)[1][: len(text)]


def test_a_held_neuron_shows_the_value_it_is_held_at():
    speaker = make_speaker(hold=[Held(1, "c", 2, 0.9)])
    _, values = said(speaker, neuron=Neuron(1, "c", 2))
    np.testing.assert_allclose(values, 0.9, atol=1e-5)


def test_characters_of_several_bytes_have_the_sum_of_their_bits():
    speaker = make_speaker(vocabulary=Vocabulary.of_bytes())
    with torch.no_grad():
        speaker.network.readout.weight.zero_()
        speaker.network.readout.bias.fill_(-100.0)
        speaker.network.readout.bias[[1 + 0xC3, 1 + 0xA9]] = 0.0
    text, bits = said(speaker, 60, prompt="")
    assert "é" in text
    # a lone half costs one bit, both halves of a letter two
    assert {(char == "é", round(b, 6)) for char, b in zip(text, bits, strict=True)} <= {
        (True, 2.0),
        (False, 1.0),
    }
    assert len(bits) == len(text)


# painting


def painted(pieces, colour, color_system="truecolor", width=20):
    painter = Painter(View(width, color_system is None, color_system), colour)
    return "".join(painter.add(text, values) for text, values in pieces) + painter.end()


def test_plain_golden():
    pieces = [("ab", [math.nan] * 2), ("c\n", [0.0, 8.0]), ("x", [4.1]), ("y", [99.0])]
    assert painted(pieces, "surprisal", None) == "abc⏎\n  ▁█\nxy\n▅█\n"
    pieces = [("ab\n", [math.nan, -1.0, 0.2]), ("c" * 21, [1.0] * 21)]
    assert painted(pieces, "L1.c5", None) == f"ab⏎\n ▁▅\n{'c' * 20}\n{'█' * 20}\nc\n█\n"


@pytest.mark.parametrize(
    ("color_system", "expected"),
    [
        ("truecolor", "ab\x1b[38;2;255;255;255;48;2;5;48;97mc⏎\x1b[0m\nd"),
        ("256", "ab\x1b[38;5;231;48;5;17mc⏎\x1b[0m\nd"),
        ("standard", "ab\x1b[97;44mc⏎\x1b[0m\nd"),
    ],
)
def test_colour_golden(color_system, expected):
    pieces = [("ab", [math.nan] * 2), ("c\n", [1.0, 1.0]), ("d", [0.0])]
    assert painted(pieces, "L1.c5", color_system) == expected


def test_surprise_is_red_and_grows_darker():
    codes = [painted([("x", [bits])], "surprisal") for bits in (0.0, 2.0, 5.0, 8.0, 30.0)]
    assert codes[0] == "x" and codes[3] == codes[4] == "\x1b[38;2;255;255;255;48;2;103;0;31mx\x1b[0m"
    assert len(set(codes)) == 4


@pytest.mark.parametrize("color_system", ["truecolor", "256", "standard", None])
def test_what_a_terminal_would_obey_is_made_visible(color_system):
    text = "\x1b[31m\x07\x9b\t\ud800\udc80e\u0301"
    out = SGR.sub("", painted([(char, [0.7]) for char in text], "L1.c5", color_system))
    assert "␛[31m␇\\u009b→\\ud800\\x80e\u0301" in out.replace("\n", "").replace("▇", "")
    assert "\x1b" not in out and "\x07" not in out


def test_legend_names_scale_and_unit():
    plain, colour = View(80, True, None), View(80, False, "truecolor")
    assert colour_legend("surprisal", plain).plain == "surprisal 0 ▁▂▃▄▅▆▇█ 8 bits or more"
    assert colour_legend("surprisal", colour).plain.startswith("surprisal 0 ")
    assert colour_legend("L1.c5", plain).plain == "−1 ▁▂▃▄▅▆▇█ +1   L1.c5 after reading the character"
    assert len([span for span in colour_legend("surprisal", colour).spans if span.style]) == 4


# the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("colour")
    (path / "text").write_text(HARBOUR.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("CHARRNN_CACHE", str(path / "cache"))
        CliRunner().invoke(app, ["train", "text", "--run", "small", "--steps", "3", "--hidden-size", "8"])
    return path


def sample(folder, monkeypatch, arguments, code=0):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["sample", "small", "--seed", "5", "--length", "40", *arguments.split()])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def text_rows(out):
    return "".join(out.splitlines()[0::2]).replace("⏎", "\n")


def test_a_pipe_gets_blocks_and_the_legend_goes_to_stderr(folder, monkeypatch):
    plain = sample(folder, monkeypatch, "--prompt Th").stdout
    result = sample(folder, monkeypatch, "--prompt Th --colour surprisal")
    assert text_rows(result.stdout) == plain
    assert result.stdout.splitlines()[1].startswith("  ") and "\x1b" not in result.stdout
    assert "surprisal 0 ▁▂▃▄▅▆▇█ 8 bits or more" in result.stderr
    sample(folder, monkeypatch, "--prompt Th --color L1.c3 -o out")
    assert text_rows((folder / "out").read_text(encoding="utf-8")) == plain


def test_json_has_a_value_for_every_character(folder, monkeypatch):
    data = json.loads(sample(folder, monkeypatch, "--colour L1.f3 --json --count 2").stdout)
    plain = json.loads(sample(folder, monkeypatch, "--json --count 2").stdout)
    assert data["texts"] == plain["texts"] and "values" not in plain
    assert data["colour"] == "L1.f3" and len(data["values"]) == len(data["text"]) == 40
    assert [len(values) for values in data["all_values"]] == [40, 40]
    assert all(0 < value < 1 for value in data["values"])


@pytest.mark.parametrize("name", ["suprisal", "L9.c0", "L1.c8", "L1.z0"])
def test_a_neuron_that_is_not_there_is_one_error_line(folder, monkeypatch, name):
    result = sample(folder, monkeypatch, f"--colour {name}", code=1)
    assert f"`{name}`" in result.stderr and "hint: neurons here are L1.h0 … L1.raw7" in result.stderr
    assert not result.stdout
