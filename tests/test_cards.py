"""Cards: failures come first, and are failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planting import QUOTE

from charrnn.inspection.cards import make_card
from charrnn.inspection.findings import Row
from charrnn.inspection.pieces import Piece

GOOD = Row(hypothesis="x", type="binary", r_untrained=0.1, neuron="L1.c0", r=0.6, verdict="tracks")


class FixedReport:
    """One neuron's activations, written by hand, over pieces with one hypothesis."""

    def __init__(self, values, labels):
        self.column = {0: 0}
        self.values = [np.asarray(v, np.float32)[:, None] for v in values]
        self.pieces = [
            Piece(
                "x" * len(y), np.zeros(len(y), np.uint8), np.asarray(y, np.float32)[:, None], 0, n, 0, False
            )
            for n, y in enumerate(labels)
        ]

    def joined(self, row, hypothesis):
        a = np.concatenate([v[:, 0] for v in self.values])
        y = np.concatenate([part.labels[:, 0] for part in self.pieces])
        scored = ~np.isnan(y)
        return a[scored], y[scored], np.zeros(int(scored.sum()))


def card_of(report, r):
    row = replace(GOOD, r=r, r_chosen=r)
    return make_card(row, 0, 0, [0], np.array([[r]]), report, [QUOTE])


def on_and_off(number, length=400):
    return (np.arange(length) // 40 % 2).astype(np.float32) if number else np.zeros(length, np.float32)


def flag_report(sign=1):
    """A flag that is wrongly on at character 200 of the third piece, wrongly off at 250 of the second."""
    labels = [on_and_off(n % 2) for n in range(4)]
    values = [sign * (0.8 * y + 0.02 * np.sin(np.arange(len(y)))) for y in labels]
    values[2][200] = sign * 0.9
    values[1][290] = 0.0
    return FixedReport(values, labels)


@pytest.mark.parametrize("sign", [1, -1])
def test_failures_come_first_and_are_failures(sign):
    on, off, works, anywhere = card_of(flag_report(sign), sign * 0.9).excerpts
    assert [e.why for e in (on, off, works, anywhere)] == ["fails on", "fails off", "works", "random"]
    assert on.labels[on.middle] == 0
    assert sign * on.values[on.middle] == pytest.approx(0.9)
    assert on.source.startswith("document 3, ")
    assert off.labels[off.middle] == 1
    assert off.values[off.middle] == 0
    assert 0 < np.mean(works.labels) < 1
    assert sign * np.corrcoef(works.values, works.labels)[0, 1] > 0.95


def test_a_place_that_is_not_scored_is_no_failure():
    report = flag_report()
    report.pieces[2].labels[195:210] = np.nan
    report.pieces[0].labels[:50] = np.nan
    on, off, *_ = card_of(report, 0.9).excerpts
    assert not np.isnan(on.labels[on.middle])
    assert on.values[on.middle] != np.float32(0.9)
    assert off.labels[off.middle] == 1


def test_a_neuron_that_is_very_much_on_where_it_should_be_does_not_fail():
    labels = [on_and_off(1) for _ in range(4)]
    values = [y * 0.2 for y in labels]
    values[1][50] = 1.0
    values[2][90] = 0.1
    on = card_of(FixedReport(values, labels), 0.9).excerpts[0]
    assert on.labels[on.middle] == 0


def test_a_neuron_that_is_very_much_off_where_it_should_be_does_not_fail():
    labels = [on_and_off(1) for _ in range(4)]
    values = [y * 0.2 for y in labels]
    values[1][90] = -1.0
    values[2][50] = 0.1
    off = card_of(FixedReport(values, labels), 0.9).excerpts[1]
    assert off.labels[off.middle] == 1


def test_figures_of_a_card():
    card = card_of(flag_report(), 0.9)
    a, y, _ = flag_report().joined(0, 0)
    assert card.mean_on == pytest.approx(a[y > 0].mean(), abs=1e-6)
    assert card.mean_off == pytest.approx(a[y == 0].mean(), abs=1e-6)
    assert card.quantiles == pytest.approx(np.quantile(a, (0.005, 0.05, 0.5, 0.95, 0.995)), abs=1e-6)


def test_cutting_an_excerpt_keeps_its_middle():
    excerpt = card_of(flag_report(), 0.9).excerpts[0]
    short = excerpt.cut(7, 3)
    assert (len(short.text), len(short.values), len(short.labels)) == (10, 10, 10)
    assert short.values[short.middle] == excerpt.values[excerpt.middle]
    assert excerpt.cut(10_000, 10_000).text == excerpt.text
