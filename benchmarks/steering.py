"""Hold the neuron of a hypothesis while a model writes, and keep how long lines become and what that costs.

    python benchmarks/steering.py RUN HYPOTHESIS [--neuron L1.c5] [--streams 64] [--length 1060]

The neuron (the best of the hypothesis, unless it is named), the values it is held at and its 20 matched
controls are those of ``charrnn inspect neurons --steer``. What is added here is more text than it writes, and
intervals: a bootstrap over the texts, which see the same random numbers whatever is held.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from quality import RECORDS, machine

from charrnn.api import Run, load
from charrnn.inspection.findings import Row
from charrnn.inspection.holding import named_neuron
from charrnn.inspection.steering import AT_ONCE, SEED, Written, warm_up, write
from charrnn.model.holds import Held

DRAWS = 1_000
Spread = tuple[float, float, float]
"""A figure, and the ends of its 95 % interval."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("hypothesis", metavar="HYPOTHESIS")
    parser.add_argument("--neuron", metavar="L1.c5", help="another than the best one")
    parser.add_argument("--streams", type=int, default=64, help="texts of each setting")
    parser.add_argument("--length", type=int, default=1_060, help="characters of each")
    parser.add_argument("--out", type=Path, help="where the record goes")
    options = parser.parse_args()
    record = machine() | {"run": Path(options.run).name, "hypothesis": options.hypothesis}
    run = load(options.run)
    config = run.network.config
    model = f"{config.cell} {config.num_layers}×{config.hidden_size}"
    row = steered_row(run, options.hypothesis, options.neuron)
    record |= {"streams": options.streams, "length": options.length, "model": model}
    record |= {key: getattr(row, key) for key in ("neuron", "r", "r_untrained", "q", "verdict")}
    record |= measure(run, row, options.streams, options.length)
    record["load_after"] = os.getloadavg()[0]
    path = options.out or RECORDS / f"steering-{record['run']}-{options.hypothesis}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


def steered_row(run: Run, hypothesis: str, neuron: str | None) -> Row:
    """Return what inspection says of a neuron that it held while the model wrote."""
    subject = run.subject(hypotheses=[hypothesis])
    if neuron is None:
        (best,) = run.inspect_neurons(subject=subject, ablation=None).rows
        neuron = best.neuron
    (card,) = run.inspect_neurons(subject=subject, neuron=neuron, steer=True).cards
    return card.row


def measure(run: Run, row: Row, streams: int, length: int) -> dict[str, Any]:
    """Return the length of lines with nothing held, the neuron held, and each control held."""
    names = [(row.neuron, row.steering.high.value, row.steering.low.value), *row.steering.held_controls]
    wanted = [None, *((name, value) for name, *values in names for value in values)]
    uniform = np.random.Generator(np.random.Philox(SEED)).random((length, streams))
    copies = [[] if key is None else [held(run, *key)] for key in wanted]
    written = []
    for first in range(0, len(copies), AT_ONCE):
        print(f"{first} of {len(copies)} settings", flush=True)
        written += write(run.network, run.vocabulary, copies[first : first + AT_ONCE], uniform)
    free, high, low = written[:3]
    controls = [
        {"neuron": name, "high": lines_of(up, free), "low": lines_of(down, free)}
        for (name, *_), up, down in zip(names[1:], written[3::2], written[4::2], strict=True)
    ]
    changes = [abs(own[side]["change"][0]) for own in controls for side in ("high", "low")]
    return {
        "free": lines_of(free, free),
        "high": {"value": names[0][1]} | lines_of(high, free),
        "low": {"value": names[0][2]} | lines_of(low, free),
        "largest_change_by_a_control": max(changes, default=None),
        "controls": controls,
    }


def held(run: Run, name: str, value: float) -> Held:
    neuron = named_neuron(run.network, name)
    return Held(neuron.layer, neuron.kind, neuron.index, value)


def lines_of(written: Written, free: Written) -> dict[str, Any]:
    """Return the mean length of lines, its change from what nothing held gives, and the damage."""
    own, other = line_lengths(written.text), line_lengths(free.text)
    return {
        "line_length": spread(own),
        "change": spread(own / other - 1),
        "damage_bpc": written.bpc - free.bpc,
    }


def line_lengths(texts: Sequence[str]) -> np.ndarray:
    """Return the mean length of lines behind the warm-up: of all texts, then of each draw of them, (1 + D,).

    It is the characters over the line ends; where there is no line end, as if there were one.
    """
    begin, streams = warm_up(len(texts[0])), len(texts)
    chars = np.array([len(text) - begin for text in texts])
    ends = np.array([text.count("\n", begin) for text in texts])
    draws = np.random.default_rng(0).integers(streams, size=(DRAWS, streams))
    drawn = np.concatenate([np.arange(streams)[None], draws])  # the same whatever was held
    return chars[drawn].sum(1) / np.maximum(ends[drawn].sum(1), 1)


def spread(figures: np.ndarray) -> Spread:
    """Return a figure and its interval, from the figure itself and its draws."""
    low, high = np.quantile(figures[1:], (0.025, 0.975))
    return float(figures[0]), float(low), float(high)


if __name__ == "__main__":
    main()
