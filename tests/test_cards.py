"""Cards: failures come first, and are failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from charrnn.inspection import passages as module
from charrnn.inspection.cards import make_card
from charrnn.inspection.findings import Row
from charrnn.inspection.measures import Series, Setting
from charrnn.inspection.passages import Passages
from charrnn.inspection.pieces import Piece

GOOD = Row(hypothesis="x", type="binary", r_untrained=0.1, neuron="L1.c0", r=0.6, verdict="tracks")


class FixedReport:
    """One neuron's activations, written by hand, over pieces with one hypothesis."""

    def __init__(self, values, labels):
        self.values = [np.asarray(v, np.float32) for v in values]
        self.pieces = [
            Piece(
                "x" * len(y), np.zeros(len(y), np.uint8), np.asarray(y, np.float32)[:, None], 0, n, 0, False
            )
            for n, y in enumerate(labels)
        ]

    def passages(self, r=0.9, order=None):
        """What stays of it once it was read, piece after piece."""
        labels = [piece.labels[:, 0] for piece in self.pieces]
        setting = Setting.of(Series(self.values, labels, range(len(labels))), "binary", r)
        joined = np.concatenate(labels)
        passages = Passages(0, True, setting, int((joined > 0).sum()), int((joined <= 0).sum()), (1, 77))
        for number in order or range(len(labels)):
            passages.add(number, self.pieces[number], self.values[number])
        return passages

    def joined(self):
        a, y = np.concatenate(self.values), np.concatenate([piece.labels[:, 0] for piece in self.pieces])
        return a[~np.isnan(y)], y[~np.isnan(y)]


def card_of(report, r):
    return make_card(replace(GOOD, r=r, r_chosen=r), report.passages(r), [("column", 0.2)])


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
    a, y = flag_report().joined()
    assert card.mean_on == pytest.approx(a[y > 0].mean(), abs=1e-6)
    assert card.mean_off == pytest.approx(a[y == 0].mean(), abs=1e-6)
    assert card.quantiles == pytest.approx(np.quantile(a, (0.005, 0.05, 0.5, 0.95, 0.995)), abs=1e-6)


def test_shares_of_activations():
    on, off = card_of(flag_report(), 0.9).histogram
    a, y = flag_report().joined()
    for shares, own in ((on, a[y > 0]), (off, a[y <= 0])):
        expected, _ = np.histogram(np.clip(own, -1, 1), 20, (-1, 1))
        np.testing.assert_allclose(shares, expected / len(own))


def same(one, other):
    return (one.source, one.why, one.middle) == (other.source, other.why, other.middle) and np.array_equal(
        one.values, other.values
    )


def test_the_order_in_which_pieces_end_does_not_matter():
    ordered, other = flag_report().passages(), flag_report().passages(order=[2, 0, 3, 1])
    assert all(same(*pair) for pair in zip(ordered.excerpts(), other.excerpts(), strict=True))
    assert ordered.excerpts()[3].middle + int(ordered.excerpts()[3].source.split()[-1]) == 77 + 1


def test_the_worst_failures_come_from_two_pieces():
    report = flag_report()
    report.values[2][250] = -5.0  # off where it should be ... but it is off there: label 0
    report.pieces[2].labels[250] = 1.0
    on, off, *_ = card_of(report, 0.9).excerpts
    assert on.source.startswith("document 3, ")
    assert off.source.startswith("document 2, ")


def test_a_long_text_leaves_a_sample_of_even_density(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 50)
    passages = flag_report().passages()
    a, y, weight = passages.sample()
    assert len(a) <= 2 * 51 and weight.sum() == pytest.approx(1600, abs=40)
    assert (y > 0).sum() * weight[y > 0][0] == pytest.approx(400, abs=20)
    whole = flag_report().joined()[0]
    np.testing.assert_allclose(passages.quantiles((0.05, 0.5)), np.quantile(whole, (0.05, 0.5)), atol=0.03)


def test_cutting_an_excerpt_keeps_its_middle():
    excerpt = card_of(flag_report(), 0.9).excerpts[0]
    short = excerpt.cut(7, 3)
    assert (len(short.text), len(short.values), len(short.labels)) == (10, 10, 10)
    assert short.values[short.middle] == excerpt.values[excerpt.middle]
    assert excerpt.cut(10_000, 10_000).text == excerpt.text
