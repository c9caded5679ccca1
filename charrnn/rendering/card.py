"""The card of one neuron: its failures before its successes, its figures, and what holding it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from charrnn.inspection.figures import Cause, Closing, Effect, Forgetting, Measures, Setting
from charrnn.inspection.findings import Card, Excerpt, Row
from charrnn.rendering.counter import counter_lines
from charrnn.rendering.figures import change, signed, unsigned
from charrnn.rendering.paint import is_plain, paint
from charrnn.rendering.text import BLOCKS, one_line, visible

MAX_WIDTH = 98
SHORT_BEFORE, SHORT_AFTER = 70, 30
WHY = {
    "fails on": "fails first: on where the text gives no reason",
    "fails off": "fails: off where it should be on",
    "works": "works",
    "random": "a random place",
}
SHOWN = 6
"""Next characters to each side."""
DIRECT = 3
"""The same of what the readout says alone."""
LABEL = 12
"""Cells before the figures of a line."""


@dataclass(frozen=True)
class View:
    """How wide, and with which colours, something is drawn."""

    width: int
    plain: bool
    color_system: str | None

    @classmethod
    def of(cls, console: Console) -> View:
        """Return the view that suits a console."""
        return cls(min(console.width, MAX_WIDTH), is_plain(console), console.color_system)


def card_parts(card: Card, view: View, *, whole: bool) -> Iterator[RenderableType]:
    """Yield the lines of a card; if it is not to be whole, a short one."""
    yield Text("─" * view.width, style="dim")
    yield _head(card, view)
    others = ", ".join(f"{name} {signed(r)}" for name, r in card.others)
    low, high = card.quantiles[0], card.quantiles[-1]
    yield Text(f"also {others} · 99 % of values in {signed(low)} … {signed(high)}", style="dim")
    if card.row.same_as:
        same = ", ".join(f"{name} (r {signed(r)})" for name, r in card.row.same_as[:3])
        yield Text(f"this text hardly tells it from {same}", style="dim")
    if card.row.r_partial is not None:
        given = ", ".join(card.row.given)
        yield Text(f"at equal values of {given}: r {signed(card.row.r_partial)}", style="dim")
    if card.row.r_position is not None:
        rest = f"without what the position in the document says of both: r {signed(card.row.r_position)}"
        yield Text(rest, style="dim")
    for excerpt in card.excerpts if whole else _short(card):
        bold = "bold" if excerpt.why.startswith("fails") else ""
        yield Text.assemble((WHY[excerpt.why], bold), (f"   {one_line(excerpt.source)}", "dim"))
        yield painted(excerpt, view)
    if card.counter is not None:
        yield from counter_lines(card.counter, view)
    if whole:
        yield from _figures(card)
    yield from _holding(card)


def _head(card: Card, view: View) -> Text:
    row = card.row
    head = Text.assemble((card.neuron, "bold"), f"   {row.hypothesis}   r {signed(row.r)}")
    if row.measures is not None and row.measures.r_low is not None:
        head.append(f" ({signed(row.measures.r_low)} … {signed(row.measures.r_high)})", style="dim")
    if row.shrinks:
        head.append(f" · {signed(row.r_chosen)} on the half that chose")
    head.append(f" · untrained {signed(row.r_untrained)}")
    head.append(f" · on {signed(card.mean_on)}, off {signed(card.mean_off)} on average")
    return head


def _short(card: Card) -> tuple[Excerpt, ...]:
    """Return one failure and one success, shortened around their middle."""
    kept = [excerpt for excerpt in card.excerpts if excerpt.why in ("fails on", "works")]
    return tuple(excerpt.cut(SHORT_BEFORE, SHORT_AFTER) for excerpt in kept)


def painted(excerpt: Excerpt, view: View) -> RenderableType:
    """Return an excerpt's text painted by its values, with a binary hypothesis marked beneath."""
    labels = np.nan_to_num(excerpt.labels)
    rows = paint(
        excerpt.text,
        excerpt.values,
        width=view.width - 2,
        plain=view.plain,
        marks=labels > 0 if excerpt.binary else None,
        color_system=view.color_system,
    )
    return Padding(Group(*rows), (0, 0, 0, 2))


def _figures(card: Card) -> Iterator[RenderableType]:
    """Yield the distribution on and off, and everything that was measured."""
    on, off = card.histogram
    for name, shares in (("on", on), ("off", off)):
        if any(shares):
            yield _line(name, f"−1 {_bars(shares)} +1")
    if card.row.measures is not None:
        yield _line("figures", " · ".join(_measured(card.row, card.row.measures)))


def _measured(row: Row, measures: Measures) -> Iterator[str]:
    if measures.ap is not None:
        yield f"AP {unsigned(measures.ap)} (base {unsigned(measures.prevalence)})"
        yield f"F1 {unsigned(measures.f1)}"
        yield f"MCC {signed(measures.mcc)}"
        yield f"AUC {unsigned(measures.auc)}"
    if measures.eta2 is not None:
        yield f"η² {unsigned(measures.eta2)} (on/off alone {unsigned(measures.eta2_on_off)})"
        yield f"counts {measures.shape} (r {signed(measures.r_shape)})"
        yield f"{measures.slope_per_char:+.3f} per unit".replace("-", "−")
    yield f"{measures.mutual_information:.2f} bits"
    yield f"within char {signed(measures.r_within_char)}, bigram {signed(measures.r_within_bigram)}"
    if row.q is not None:
        yield f"q {unsigned(row.q, 3)}"
    switches = [
        ("on", measures.latency_on, measures.r_switch_on),
        ("off", measures.latency_off, measures.r_switch_off),
    ]
    known = [
        f"{lag} after {name}{'' if r is None else f' (r {signed(r)})'}"
        for name, lag, r in switches
        if lag is not None
    ]
    if known:
        yield f"answers {', '.join(known)} (characters)"
    if row.forgetting is not None:
        yield _forgets(row.forgetting)
    yield f"{measures.num_effective:,.0f} independent characters"


def _forgets(forgetting: Forgetting) -> str:
    if forgetting.after is None:
        return f"keeps {unsigned(forgetting.left)} of a wrong past for 200 characters"
    return f"forgets half of a wrong past in {max(1, round(forgetting.after))} characters"


def _bars(shares: Sequence[float]) -> str:
    """Return shares as a row of blocks, the largest of them full."""
    top = max(shares)
    return "".join(BLOCKS[min(7, int(8 * s / top))] if s > 0.002 else " " for s in shares)


def _holding(card: Card) -> Iterator[RenderableType]:
    """Yield what holding the neuron does to predictions and to what is written."""
    row = card.row
    if card.next_characters:
        yield _line("promotes", _characters(card.next_characters, 1))
        yield _line("suppresses", _characters(card.next_characters[::-1], -1))
    if card.direct_characters:
        up, down = card.direct_characters[:DIRECT], card.direct_characters[: -DIRECT - 1 : -1]
        yield _line("directly", f"{_characters(up, 1)} · {_characters(down, -1)}".strip(" ·"))
    if card.closing is not None:
        yield _line("its end", _closing(card.closing))
    if row.cause is not None:
        yield _line("remove it", _effect(row.cause.alone))
        if row.cause.otherwise is not None:
            yield _line("otherwise", _otherwise(row.cause))
        if row.cause.group is not None:
            others = ", ".join(f"{name} ({signed(r)})" for name, r in card.alike)
            yield _line("as a group", f"{_effect(row.cause.group)} · with {others}")
    if row.steering is not None:
        yield from _steering(row)


def _characters(changes: Sequence[tuple[str, float]], sign: int) -> str:
    """Return the characters whose log probability moves most to one side, with the nats."""
    own = [(char, nats) for char, nats in changes[:SHOWN] if nats * sign > 0]
    return "  ".join(f"{_quoted(char)} {change(nats)}" for char, nats in own)


def _closing(closing: Closing) -> str:
    outside = "" if closing.outside is None else f", outside {change(closing.outside)}"
    odds = f"held, log₂ odds inside {change(closing.inside)}{outside}"
    there = f"P there {unsigned(closing.free)} → {unsigned(closing.held)}"
    return f"{_quoted(closing.char)} ({closing.share:.0%} of ends): {odds} · {there}"


def _otherwise(cause: Cause) -> str:
    other, off = cause.otherwise, ""
    how = "resampled" if other.value is None else f"held at its mean, {signed(other.value)}"
    if other.off is not None:
        off = f", off {change(other.off)}"
    said = "agrees" if cause.agrees else "disagrees whether that costs anything"
    return (
        f"{how}: on {change(other.on)} ({change(other.on_low)} … {change(other.on_high)}) bpc{off} · {said}"
    )


def _effect(effect: Effect) -> str:
    controls = "no neurons to compare with" if effect.on_low > 0 else "no sure cost, so no controls"
    if effect.controls_on:
        low, high = effect.controls_on[0], effect.controls_on[-1]
        controls = f"{len(effect.controls_on)} controls {change(low)} … {change(high)}"
    value = "its values elsewhere" if effect.value is None else signed(effect.value)
    off = "" if effect.off is None else f", off {change(effect.off)}"
    interval = f"({change(effect.on_low)} … {change(effect.on_high)})"
    return f"on {change(effect.on)} {interval} bpc{off} · {controls} · held at {value}"


def _steering(row: Row) -> Iterator[RenderableType]:
    steering = row.steering
    for name, setting in (("free", steering.free), ("high", steering.high), ("low", steering.low)):
        head = "hold it" if name == "free" else ""
        counts = " · drives it" if name == steering.by else ""
        yield _line(head, f"{_setting(name, setting)}{_price(setting, steering.free)}{counts}")
    moved = "neither setting moves it its own way, at ≤ .5 bpc"
    if steering.controls:
        moved = f"{len(steering.controls)} controls move {row.hypothesis} by {steering.controls[0]:.2f}"
        moved += f" … {steering.controls[-1]:.2f}"
        moved += "" if steering.beats else "; neither setting moves it its own way by more, at ≤ .5 bpc"
    yield _line("", moved)


def _setting(name: str, setting: Setting) -> str:
    at = "" if setting.value is None else f" {signed(setting.value)}"
    lines = "no line ends" if setting.line_length is None else f"lines of {setting.line_length:.1f}"
    return f"{name + at:<10} mean {setting.score:.2f} · {lines}"


def _price(setting: Setting, free: Setting) -> str:
    return "" if setting is free else f" · costs {change(setting.bpc - free.bpc)} bpc"


def samples(row: Row) -> Iterator[Text]:
    """Yield a text of each setting of a steered neuron."""
    steering = row.steering
    for name, setting in (("free", steering.free), ("high", steering.high), ("low", steering.low)):
        yield Text(f"\n{_setting(name, setting)}", style="bold")
        yield Text(visible(setting.sample))


def _line(label: str, text: str) -> RenderableType:
    line = Table.grid(padding=0)
    line.add_column(width=LABEL)
    line.add_column()
    line.add_row(Text(label, style="dim"), Text(text))
    return line


def _quoted(char: str) -> str:
    return "␣" if char == " " else one_line(char)
