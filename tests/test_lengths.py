"""Windows of random and of growing length: every symbol once, rates in proportion, exact resume."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from small_runs import assert_resumes_exactly, interrupted, run_events, start, write_words

from charrnn.config import TrainingConfig
from charrnn.events import StepEvent
from charrnn.text.streams import Streams
from charrnn.training.lengths import longest, mean_length, next_length

RANDOM = {"training.random_seq_len": True, "training.seq_len": 20}
GROWING = {"training.seq_len_start": 4, "training.seq_len": 20}


@pytest.fixture
def text(tmp_path):
    return write_words(tmp_path)


@pytest.fixture
def reads(monkeypatch):
    """Where every window begins and how long it was, in the order that training asks for them."""
    found = []
    real = Streams.read

    def read(self, position, length):
        ids, targets = real(self, position, length)
        found.append((position, ids.shape[1]))
        return ids, targets

    monkeypatch.setattr(Streams, "read", read)
    return found


def test_random_lengths_are_those_of_the_paper():
    training = TrainingConfig(seq_len=70, random_seq_len=True)
    lengths = np.array([next_length(training, step, 0.3) for step in range(20_000)])
    half = lengths < 52  # 3.5 standard deviations above 35 and below 70
    assert half.mean() == pytest.approx(0.05, abs=0.006)
    for part, middle in ((lengths[half], 35), (lengths[~half], 70)):
        assert part.mean() == pytest.approx(middle, abs=0.5) and part.std() == pytest.approx(5, abs=0.4)
    assert lengths.mean() == pytest.approx(mean_length(training), abs=0.3)


@pytest.mark.parametrize("seq_len", [1, 2, 5, 9])
def test_short_random_windows_stay_between_bounds(seq_len):
    training = TrainingConfig(seq_len=seq_len, random_seq_len=True)
    lengths = [next_length(training, step, 0.0) for step in range(2000)]
    assert min(lengths) == min(5, seq_len) and max(lengths) == 2 * seq_len


def test_random_lengths_depend_on_seed_and_step_alone():
    training = TrainingConfig(seq_len=70, random_seq_len=True, seed=4)
    other = TrainingConfig(seq_len=70, random_seq_len=True, seed=5)
    lengths = [[next_length(t, step, 0.0) for step in range(9)] for t in (training, training, other)]
    assert lengths[0] == lengths[1] != lengths[2]


def test_seq_len_grows_in_a_straight_line_over_the_first_half():
    training = TrainingConfig(seq_len=100, seq_len_start=20)
    assert [longest(training, p) for p in (0, 0.125, 0.25, 0.4999, 0.5, 1)] == [20, 40, 60, 100, 100, 100]
    steps = np.linspace(0, 1, 10_001)
    found = np.mean([next_length(training, 0, p) for p in steps])
    assert found == pytest.approx(mean_length(training), abs=0.1)


@pytest.mark.parametrize("settings", [RANDOM, GROWING, RANDOM | GROWING], ids=["random", "growing", "both"])
@pytest.mark.parametrize("budget", ["steps", "epochs"])
def test_windows_of_all_lengths_touch_and_an_epoch_reads_every_row_whole(
    text, tmp_path, reads, settings, budget
):
    limit = {"training.steps": 140} if budget == "steps" else {"training.epochs": 1.5, "training.steps": None}
    settings = {**settings, **limit, "training.num_evals": 1}
    end = run_events(text, tmp_path / "run", **settings)[-1]
    row = max(position + length for position, length in reads)
    assert len({length for _, length in reads}) > 4
    for (position, length), (following, _) in pairwise(reads):
        assert following == (position + length) % row
    total = sum(length for _, length in reads)
    assert end.epochs == pytest.approx(total / row) and total > row
    if budget == "epochs":
        assert 1.5 <= end.epochs < 1.5 + 40 / row and end.stopped_by == "epochs"


def test_rates_are_in_proportion_to_random_lengths(text, tmp_path, reads):
    settings = {
        **RANDOM,
        "training.schedule": "constant",
        "training.warmup_fraction": 0,
        "training.steps": 10,
    }
    events = run_events(text, tmp_path / "run", **settings, **{"training.learning_rate": 0.01})
    rates = [e.learning_rate for e in events if isinstance(e, StepEvent)]
    assert rates == pytest.approx([0.01 * length / 20 for _, length in reads])
    assert len(set(rates)) > 4


@pytest.mark.parametrize("settings", [RANDOM, GROWING, RANDOM | GROWING], ids=["random", "growing", "both"])
def test_runs_resume_bit_identically(text, tmp_path, settings):
    assert_resumes_exactly(text, tmp_path, 10, **settings, **{"training.epochs": 0.5, "training.steps": 20})


def test_a_resumed_run_reads_on_where_it_stopped(text, tmp_path, reads):
    settings = {**RANDOM, "training.steps": 30}
    run_events(text, tmp_path / "whole", **settings)
    whole = list(reads)
    reads.clear()
    interrupted(text, tmp_path / "cut", 10, **settings)
    list(start.resume(str(tmp_path / "cut"), device="cpu").events())
    assert reads == whole
