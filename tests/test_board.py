"""The leader board and the card as a terminal shows them, compared with files that were looked at.

After a change that is meant, ``UPDATE_GOLDEN=1 pytest tests/test_board.py`` writes them anew: look at them.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from charrnn.inspection.figures import Cause, Closing, Effect, Forgetting, Measures, Setting, Steering
from charrnn.inspection.findings import VERDICTS, Card, Excerpt, Findings, Row
from charrnn.rendering.neurons import MARKS, MEANING, print_findings

GOLDEN = Path(__file__).parent / "golden"
MODES = {"truecolor": "truecolor", "256": "256", "16": "standard", "plain": None}
TEXT = 'say("你好", é)\n\tok  # (no)\n'

MEASURES = Measures(
    r=0.81, r_low=0.74, r_high=0.86, prevalence=0.2, ap=0.9, f1=0.83, mcc=0.79, auc=0.97, threshold=0.1,
    mutual_information=0.43, num_effective=8_940.0, r_within_char=0.8, r_within_bigram=0.78, eta2=None,
    eta2_on_off=None, shape=None, r_shape=None, slope_per_char=None, latency_on=0, latency_off=1,
    r_switch_on=0.66, r_switch_off=0.4,
)  # fmt: skip
COUNTS = replace(
    MEASURES, ap=None, f1=None, mcc=None, auc=None, threshold=None, eta2=0.4, eta2_on_off=0.1, shape="log",
    r_shape=-0.7, slope_per_char=-0.017, latency_on=None, latency_off=None, r_low=None, r_high=None,
)  # fmt: skip
ALONE = Effect(("L1.c314",), -0.54, 0.258, 0.012, 0.2, 0.33, tuple(np.linspace(-0.004, 0.04, 20)), True)
GROUP = replace(ALONE, held=("L1.c314", "L1.c98"), value=None, on=0.27, off=None)
OTHERWISE = replace(ALONE, value=None, on=0.31, on_low=-0.01, on_high=0.4, controls_on=())
STEERING = Steering(
    free=Setting(None, 0.18, 30.2, 2.5, "free\n"),
    high=Setting(0.96, 0.36, None, 2.53, "high(((\n"),
    low=Setting(-0.99, 0.01, 27.3, 2.63, "low)))\n"),
    controls=tuple(np.linspace(0, 0.13, 20)),
    damage=0.03,
    beats=True,
    by="high",
)


def row(hypothesis, verdict, r=0.81, **changes):
    values = {"type": "binary", "r_untrained": 0.2, "neuron": "L1.c314", "r": r, "r_chosen": r, "ap": 0.9}
    values |= {"prevalence": 0.2, "r_within_char": 0.8, "p": 0.001, "q": 0.002, "measures": MEASURES}
    return Row(hypothesis, verdict=verdict, **(values | changes))


ROWS = (
    row(
        "in_paren",
        "drives",
        cause=Cause(ALONE, GROUP, OTHERWISE),
        steering=STEERING,
        same_as=(("paren_depth", 0.95),),
        r_partial=0.62,
        given=("bracket_depth", "in_if_condition"),
        forgetting=Forgetting(37.2, 0.1),
        r_chosen=0.88,
        r_position=0.77,
    ),
    row(
        "in_string",
        "used",
        -0.66,
        r_chosen=-0.73,
        cause=Cause(ALONE),
        runners_up=(("L2.c7", -0.5), ("L1.c1", 0.31)),
    ),
    row(
        "column",
        "tracks",
        -0.6,
        type="count",
        ap=None,
        measures=COUNTS,
        cause=Cause(replace(ALONE, off=None)),
    ),
    row("in_comment", "redundant", 0.5, cause=Cause(replace(ALONE, on=-0.004, off=-0.1), GROUP)),
    row("closing_paren_ends_line", "found", 0.41),
    row("in_url", "no valid null", q=None, p=None),
    row("is_space", "char detector", r_within_char=0.0),
    row("word_position", "untrained too", type="count", ap=None, measures=COUNTS, r_untrained=-0.8),
    row("brace_depth", "not found", -0.06, q=0.41),
    Row("in_math", "binary", 0.0, prevalence=0.01),
    row("in_if_condition", "not found", 0.2, r_chosen=-0.2, neuron="L2.c14"),
    row("newline_run", "not found", 0.31, q=0.07, type="count"),
)


def excerpt(why, shift):
    values = np.sin(np.arange(len(TEXT)) / 3 + shift).astype(np.float32)
    labels = np.array([char in "(你好, é" for char in TEXT], np.float32)
    return Excerpt("document 3, character 1,234", TEXT, values, labels, why, 8, True)


CARD = Card(
    neuron="L1.c314",
    row=ROWS[0],
    others=(("bracket_depth", 0.73), ("column", -0.43)),
    mean_on=0.53,
    mean_off=-0.76,
    quantiles=(-1.0, -0.9, -0.7, 0.9, 0.98),
    excerpts=tuple(excerpt(why, i) for i, why in enumerate(("fails on", "fails off", "works", "random"))),
    histogram=(tuple(np.linspace(0, 0.1, 20)), tuple(np.linspace(0.1, 0, 20))),
    next_characters=((")", 2.23), (",", 1.06), ("\t", 0.2), (" ", -0.3), ("好", -0.64), ("\n", -0.96)),
    alike=(("L1.c98", -0.7),),
    direct_characters=((")", 1.9), (",", 0.3), ("a", -0.1), ("\n", -1.2)),
    closing=Closing(")", 0.97, -1.31, 0.02, 0.61, 0.22),
)
FINDINGS = Findings(
    run="runs/demo", model="lstm 1×320", kind="c", text_kind="python", chars=374_519, documents=41,
    pieces=128, split_by="documents", neurons_tested=320, hypotheses_tested=12, null_units=20,
    null_by="documents",
    float_error=1.2e-6, ablation="mean", from_training=0, rows=ROWS, cards=(CARD,),
    twins=3, gate_error=6.7e-6, state_error=2.4e-7,
)  # fmt: skip
VIEWS = {
    "board": FINDINGS,
    "card": replace(
        FINDINGS, asked="L1.c314", steer=True, from_training=81_000, null_by="blocks", split_by="blocks"
    ),
}


def shown(findings, width, mode):
    out = io.StringIO()
    system = MODES[mode]
    console = Console(
        file=out, width=width, color_system=system, force_terminal=system is not None, legacy_windows=False
    )
    print_findings(findings, console)
    return out.getvalue()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", VIEWS)
def test_looks_as_it_was_looked_at(name, width, mode):
    path = GOLDEN / f"{name}-{width}-{mode}.txt"
    text = shown(VIEWS[name], width, mode)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [60, 80, 98, 120])
def test_no_line_is_wider_than_the_terminal_and_colour_changes_no_cell(name, width):
    plain = shown(VIEWS[name], width, "plain")
    assert max(map(cell_len, plain.splitlines())) <= width
    assert "…" not in plain.partition("fails first")[0].replace(" … ", "")
    coloured = [Text.from_ansi(shown(VIEWS[name], width, mode)).plain for mode in ("truecolor", "256", "16")]
    assert coloured[0] == coloured[1]
    widths = [list(map(cell_len, text.rstrip().splitlines())) for text in coloured]
    assert len(widths[1]) == len(widths[2])


def test_what_is_never_forgotten_is_said_otherwise():
    kept = replace(ROWS[0], forgetting=Forgetting(None, 0.83))
    text = shown(replace(VIEWS["card"], cards=(replace(CARD, row=kept),)), 98, "plain")
    assert "keeps .83 of a wrong past for 200 characters" in " ".join(text.split())


def test_what_drives_nothing_says_so_and_what_has_no_likes():
    row = replace(
        ROWS[0],
        steering=replace(STEERING, beats=False, by=None),
        cause=Cause(replace(ALONE, controls_on=()), otherwise=replace(ALONE, value=-0.2, off=None)),
    )
    text = shown(replace(VIEWS["card"], cards=(replace(CARD, row=row),)), 98, "plain")
    joined = " ".join(text.split())
    assert "by 0.00 … 0.13; neither setting moves it its own way by more" in joined
    assert "drives it" not in joined and "no neurons to compare with" in joined
    assert "held at its mean, −.20: on +.26 (+.20 … +.33) bpc · agrees" in joined


def test_every_verdict_has_a_mark_and_a_meaning():
    assert set(MARKS) == set(MEANING) == set(VERDICTS) == {row.verdict for row in ROWS}


def test_without_colour_the_sign_and_the_value_are_still_there():
    text = shown(FINDINGS, 98, "plain")
    assert "\x1b" not in text
    assert "−.66" in text and "+.26 / +.01" in text and "▇" in text
