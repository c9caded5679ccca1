"""What inspection found, as plain data: everything that is printed, painted or written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from charrnn.inspection.curves import CounterCurve
from charrnn.inspection.figures import Cause, Closing, Forgetting, Measures, Steering

VERDICTS = ("drives", "used", "tracks", "redundant", "found", "no valid null", "char detector")
VERDICTS += ("untrained too", "not found")
"""From the strongest to none at all."""
NAMED = VERDICTS[:6]
"""Verdicts under which a neuron is shown by name."""
SHRINKAGE = 0.05


@dataclass(frozen=True)
class Row:
    """The best neuron for one hypothesis.

    All figures but ``r_chosen`` come from text that had no part in the choice.

    Args:
        hypothesis: Its name.
        type: ``binary``, ``count`` or ``level``.
        r_untrained: Correlation of the untrained twins' own best neuron, of the twin where it is largest.
        neuron: The neuron; None where nothing correlates at all.
        r: Pearson's correlation.
        r_chosen: The same on the half that chose the neuron.
        ap: Average precision for a binary hypothesis, of the neuron times the sign of r.
        prevalence: Share of characters with a value above 0: what ``ap`` is by chance.
        r_within_char: Correlation at equal current characters.
        p: Share of label swaps that correlate at least as much; None without a valid null.
        q: ``p`` corrected for the number of hypotheses.
        verdict: What all this allows to be said.
        runners_up: Further neurons with their r, the best first.
        measures: Everything else that is measured of the neuron.
        cause: What holding it costs; None where that was not measured.
        steering: What holding it does to generated text; None where that was not measured.
        same_as: Hypotheses whose labels can hardly be told from this one's, with their correlation.
        r_partial: Correlation at equal values of up to three other hypotheses; None where none is related.
        given: Those others.
        forgetting: How the neuron forgets a wrong past; None where that was not measured.
        r_position: What is left of r without what the position in the document says of both, at the places
            whose labels are swapped; None unless these are blocks.
    """

    hypothesis: str
    type: str
    r_untrained: float
    neuron: str | None = None
    r: float | None = None
    r_chosen: float | None = None
    ap: float | None = None
    prevalence: float | None = None
    r_within_char: float | None = None
    p: float | None = None
    q: float | None = None
    verdict: str = "not found"
    runners_up: tuple[tuple[str, float], ...] = ()
    measures: Measures | None = None
    cause: Cause | None = None
    steering: Steering | None = None
    same_as: tuple[tuple[str, float], ...] = ()
    r_partial: float | None = None
    given: tuple[str, ...] = ()
    forgetting: Forgetting | None = None
    r_position: float | None = None

    @property
    def shrinks(self) -> bool:
        """Whether r differs by more than .05 from what the half that chose said."""
        return self.r is not None and abs(self.r - self.r_chosen) > SHRINKAGE

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what was not measured is null."""
        keys = ("hypothesis", "type", "neuron", "r", "r_chosen", "ap", "prevalence", "r_within_char")
        keys += ("r_untrained", "p", "q", "verdict", "r_partial", "r_position")
        data = {key: getattr(self, key) for key in keys} | {"given": list(self.given)}
        data["runners_up"] = [{"neuron": name, "r": r} for name, r in self.runners_up]
        data["same_as"] = [{"hypothesis": name, "r": r} for name, r in self.same_as]
        alone = self.cause.alone if self.cause else None
        data |= {"delta_on_bpc": alone.on if alone else None, "delta_off_bpc": alone.off if alone else None}
        for key in ("measures", "cause", "steering", "forgetting"):
            part = getattr(self, key)
            data[key] = part.to_json() if part else None
        return data


@dataclass(frozen=True)
class Excerpt:
    """Some text with the activations of one neuron and the labels of one hypothesis.

    Args:
        source: Document and character at which it begins.
        text: The characters.
        values: Activations, (N,).
        labels: Hypothesis values, (N,); NaN where they are not scored.
        why: ``fails on``, ``fails off``, ``works`` or ``random``.
        middle: Index of the character it is about.
        binary: Whether the hypothesis is only ever on or off.
    """

    source: str
    text: str
    values: np.ndarray
    labels: np.ndarray
    why: str
    middle: int
    binary: bool

    def cut(self, before: int, after: int) -> Excerpt:
        """Return fewer characters around the middle, from the begin of a line where one is near."""
        window = slice(line_start(self.text, max(0, self.middle - before), self.middle), self.middle + after)
        return replace(
            self,
            text=self.text[window],
            values=self.values[window],
            labels=self.labels[window],
            middle=self.middle - window.start,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        labels = [None if np.isnan(v) else float(v) for v in self.labels]
        values = [float(v) for v in self.values]
        return {"source": self.source, "why": self.why, "text": self.text, "values": values, "labels": labels}


def line_start(text: str, start: int, middle: int) -> int:
    """Return the first begin of a line from ``start`` on, if it leaves half of the way to ``middle``."""
    end = text.find("\n", start, start + (middle - start) // 2)
    return end + 1 if end >= 0 and start > 0 else start


@dataclass(frozen=True)
class Card:
    """One neuron, looked at closely.

    Args:
        neuron: Its name.
        row: Its figures for the hypothesis it goes with best.
        others: Further hypotheses with this neuron's r, the best first.
        mean_on: Mean activation where the hypothesis is above 0.
        mean_off: Mean activation elsewhere.
        quantiles: Activations at 0.5, 5, 50, 95 and 99.5 % of the characters.
        excerpts: Failures before successes.
        histogram: Shares of the characters with the hypothesis on and off in 20 bins from -1 to 1.
        next_characters: What the neuron adds to the log probability of next characters where the hypothesis
            is on, in nats, what it promotes most first and what it suppresses most last.
        direct_characters: What of that the readout alone says: its weights times how much higher h is where
            the hypothesis is on; empty where the readout does not read the neuron.
        closing: What holding it does to the character that ends what the hypothesis marks.
        alike: Other neurons that go with it, with their correlation.
        counter: Its activation by the value of a hypothesis that counts.
    """

    neuron: str
    row: Row
    others: tuple[tuple[str, float], ...]
    mean_on: float
    mean_off: float
    quantiles: tuple[float, ...]
    excerpts: tuple[Excerpt, ...]
    histogram: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    next_characters: tuple[tuple[str, float], ...] = ()
    alike: tuple[tuple[str, float], ...] = ()
    counter: CounterCurve | None = None
    direct_characters: tuple[tuple[str, float], ...] = ()
    closing: Closing | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "neuron": self.neuron,
            "row": self.row.to_json(),
            "others": [{"hypothesis": name, "r": r} for name, r in self.others],
            "mean_on": self.mean_on,
            "mean_off": self.mean_off,
            "quantiles": list(self.quantiles),
            "excerpts": [excerpt.to_json() for excerpt in self.excerpts],
            "histogram": {"on": list(self.histogram[0]), "off": list(self.histogram[1])},
            "next_characters": [{"char": char, "nats": nats} for char, nats in self.next_characters],
            "direct_characters": [{"char": char, "nats": nats} for char, nats in self.direct_characters],
            "closing": None if self.closing is None else self.closing.to_json(),
            "alike": [{"neuron": name, "r": r} for name, r in self.alike],
            "counter": None if self.counter is None else self.counter.to_json(),
        }


@dataclass(frozen=True)
class Findings:
    """The whole result of ``inspect neurons``.

    Args:
        run: What names the run to a command.
        model: Cell and size, as text.
        kind: Recorded quantity, ``c`` or ``h``.
        text_kind: What the text was taken for: ``prose``, ``python`` or ``c``.
        chars: Characters with scores, in both halves.
        documents: Documents they come from.
        pieces: Pieces they were read as.
        split_by: Whether ``documents`` or ``blocks`` were dealt to the halves.
        neurons_tested: Number of neurons.
        hypotheses_tested: Number of hypotheses.
        null_units: Documents or blocks that were swapped; None without a valid null.
        null_by: What was swapped: ``documents``, or ``blocks`` of them, which makes the null approximate.
        float_error: Largest difference between the recorded outputs and those of the cell's definition.
        ablation: What a held neuron is held at: ``mean``, ``zero`` or ``resample``; None where none was.
        from_training: Characters that come from the run's training text, as the held-out text is short.
        rows: One per hypothesis, the best first.
        cards: The neurons that are shown closely.
        asked: The neuron that was asked for; None where the best ones are shown.
        steer: Whether it was asked to be held while the model writes: its texts are shown then.
        twins: Untrained networks that were compared with.
        counters: What named neurons do along what they count.
        gate_error: Largest difference between a recorded gate and what the definition makes of the recorded
            state before.
        state_error: Largest difference between recorded c and h and what the recorded gates make of the state
            before; relative beyond ±1.
        notices: What was asked for or is usual, and was not or not quite done: a sentence each.
    """

    run: str
    model: str
    kind: str
    text_kind: str
    chars: int
    documents: int
    pieces: int
    split_by: str
    neurons_tested: int
    hypotheses_tested: int
    null_units: int | None
    null_by: str
    float_error: float
    ablation: str | None
    from_training: int
    rows: tuple[Row, ...]
    cards: tuple[Card, ...] = ()
    asked: str | None = None
    steer: bool = False
    twins: int = 1
    counters: tuple[CounterCurve, ...] = ()
    gate_error: float | None = None
    state_error: float | None = None
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        lists = ("rows", "cards", "counters")
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in lists}
        data["notices"] = list(self.notices)
        return data | {name: [part.to_json() for part in getattr(self, name)] for name in lists}
