"""The figures in findings: statistics, the cost of holding a neuron, and what that does to text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measures:
    """Figures of one neuron for one hypothesis; those that do not apply to its type are None.

    Args:
        r: Pearson's correlation.
        r_low: Lower end of its 95 % interval, from a bootstrap over documents; None with fewer than five.
        r_high: Upper end.
        prevalence: Share of characters with a value above 0.
        ap: Average precision of the neuron times its sign; by chance ``prevalence``.
        f1: At the threshold that the choosing half sets.
        mcc: Matthews' correlation at the same threshold.
        auc: Area under the ROC curve; shown, never ranked by.
        threshold: Activation from which on the neuron counts as on (below which, for a negative r).
        mutual_information: Bits, corrected for the size of the sample.
        num_effective: Characters that count as independent.
        r_within_char: Correlation at equal current characters.
        r_within_bigram: Correlation at equal current and previous characters.
        eta2: Share of the neuron's variance between the levels of the hypothesis.
        eta2_on_off: The same if it is only known whether the level is above 0: a detector, not a counter.
        shape: How it counts, the best of five on the choosing half.
        r_shape: Correlation with the hypothesis in that shape.
        slope_per_char: Change of the activation per unit of the hypothesis.
        latency_on: Characters from a switch-on to the neuron's largest answer.
        latency_off: The same of a switch-off.
        r_switch_on: Correlation of the size of a change, at that lag, with whether there was a switch-on.
        r_switch_off: The same of a switch-off.
    """

    r: float
    r_low: float | None
    r_high: float | None
    prevalence: float
    ap: float | None
    f1: float | None
    mcc: float | None
    auc: float | None
    threshold: float | None
    mutual_information: float
    num_effective: float
    r_within_char: float
    r_within_bigram: float
    eta2: float | None
    eta2_on_off: float | None
    shape: str | None
    r_shape: float | None
    slope_per_char: float | None
    latency_on: int | None
    latency_off: int | None
    r_switch_on: float | None = None
    r_switch_off: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Effect:
    """What holding a neuron, or a group of them, costs; bits per character more than when nothing is held.

    Args:
        held: The neurons.
        value: What the first of them is held at, as painted; None where it is resampled.
        on: Change of bpc where the hypothesis is on.
        off: Change of bpc where it is off; None where it hardly ever is.
        on_low: Lower end of the 95 % interval of ``on``, from a bootstrap over rows.
        on_high: Upper end.
        controls_on: The same for matched controls, ascending; none where ``on_low`` is 0 or less.
        beats: Whether ``on`` is surely above 0 and above every control, and so is ``on - off``.
    """

    held: tuple[str, ...]
    value: float | None
    on: float
    off: float | None
    on_low: float
    on_high: float
    controls_on: tuple[float, ...]
    beats: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Cause:
    """What holding a neuron does to the prediction of the next character.

    Args:
        alone: The neuron by itself.
        group: With all neurons that correlate with it; None where there are none.
        otherwise: By itself, resampled, or at its mean where ``alone`` is resampled; without controls.
    """

    alone: Effect
    group: Effect | None = None
    otherwise: Effect | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether both ways of holding it surely cost something where the hypothesis is on, or neither."""
        return None if self.otherwise is None else (self.alone.on_low > 0) == (self.otherwise.on_low > 0)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        effects = {name: getattr(self, name) for name in ("alone", "group", "otherwise")}
        return {name: e.to_json() if e else None for name, e in effects.items()} | {"agrees": self.agrees}


@dataclass(frozen=True)
class Closing:
    """What holding a neuron does to the character by which what its hypothesis marks mostly ends.

    Args:
        char: The character.
        share: Share of the ends that are by it.
        inside: Mean change of the log2 odds that it comes next, where the hypothesis is on.
        outside: The same where it is off; None where it hardly ever is.
        free: Mean probability of it where it does come next and ends, nothing held.
        held: The same with the neuron held.
    """

    char: str
    share: float
    inside: float
    outside: float | None
    free: float
    held: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """Text that was written while a neuron was held.

    Args:
        value: What it was held at, as painted; None where nothing was.
        score: Mean of the hypothesis over the text.
        line_length: Mean number of characters of a line, its end included; None where there is none.
        bpc: Bits per character of the text under the network with nothing held.
        sample: Some of the text.
    """

    value: float | None
    score: float
    line_length: float | None
    bpc: float
    sample: str


@dataclass(frozen=True)
class Steering:
    """What holding a neuron does to what is written; all streams see the same random numbers.

    Args:
        free: Nothing held.
        high: Held at what it is where the hypothesis is on.
        low: Held at what it is where the hypothesis is off.
        controls: Largest change of the score by either setting, for matched controls, ascending; none where
            no setting changes it the neuron's own way at little damage, unless steering was asked for.
        damage: Bits per character that the setting in ``by`` costs under the clean network; without one, that
            with the larger change.
        beats: Whether a setting changes the score its own way, by more than every control, at a damage of at
            most .5.
        by: That setting, ``high`` or ``low``; None without one.
        held_controls: Each control with its own high and low.
    """

    free: Setting
    high: Setting
    low: Setting
    controls: tuple[float, ...]
    damage: float
    beats: bool
    by: str | None = None
    held_controls: tuple[tuple[str, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Forgetting:
    """How a neuron forgets a wrong past.

    Args:
        after: Characters until half of the difference is gone; None where that takes more than 200.
        left: Share of the difference that is left after 200.
    """

    after: float | None
    left: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
