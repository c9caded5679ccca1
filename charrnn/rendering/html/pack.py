"""Arrays small enough for a page: deflated, as base64, gates rounded or left out where room is short."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from charrnn.inspection.page import DELTA_STEPS_PER_BIT, NONE, STEPS, SURPRISAL_STEPS_PER_BIT, Page
from charrnn.rendering.html.palette import palettes
from charrnn.rendering.neurons import MARKS, MEANING

VALUE_STEPS = (STEPS, 63, 31)
"""Steps on each side of zero that activations are rounded to: the first that leaves room for the rest."""
GATE_STEPS = (31, 15)
"""The same for gates: the first that lets those of all neurons fit."""

LEVEL = 7
"""Of deflate; 9 takes three times as long for one per cent."""

Packed = dict[str, str]


def packed(page: Page, room: int) -> dict[str, Any]:
    """Return a page as plain values for JSON.

    Args:
        page: What to show.
        room: Bytes that the result may take as JSON. To stay below it, activations and gates are rounded,
            then gates left out, and in the end whole neurons.
    """
    data = {
        "findings": _finite(page.findings),
        "hypotheses": page.hypotheses,
        "stretches": [asdict(stretch) for stretch in page.stretches],
        "symbols": page.symbols,
        "text": pack(page.text),
        "next": pack(page.next_symbols),
        "probs": pack(page.next_probs),
        "surprisal": pack(page.surprisal),
        "labels": [pack(row) for row in page.labels],
        "delta": {name: pack(row) for name, row in page.delta_loss.items()},
        "palettes": palettes(),
        "verdicts": {name: [mark, tone, MEANING[name]] for name, (mark, tone) in MARKS.items()},
        "gates": page.gates,
    }
    room -= len(json_text(data))
    value_steps, values = _fitting(page.values, VALUE_STEPS, room)
    room -= sum(map(_size, values))
    own_gates = [gates for gates in page.gate_values[: len(values)] if gates.size]
    gate_steps, gates = _fitting(own_gates, GATE_STEPS, room)
    steps = {"value": value_steps, "gate": gate_steps, "surprisal": SURPRISAL_STEPS_PER_BIT}
    steps |= {"delta": DELTA_STEPS_PER_BIT, "deltaZero": STEPS}
    data |= {"neurons": page.neurons[: len(values)], "values": values}
    return data | {"gateValues": gates, "steps": steps}


def pack(array: np.ndarray) -> Packed:
    """Return an array of unsigned integers, deflated, as base64; ``type`` is numpy's."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little.tobytes(), LEVEL)).decode("ascii")
    return {"type": f"{array.dtype.kind}{array.dtype.itemsize}", "data": data}


def json_text(data: Any) -> str:
    """Return JSON that can stand in a page: nothing in it ends a script or a line, all of it is ASCII."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(data: Any) -> Any:
    """Return plain values with null for NaN and infinity, which JSON lacks."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _fitting(arrays: Sequence[np.ndarray], ladder: Sequence[int], room: int) -> tuple[int, list[Packed]]:
    """Return arrays in the first number of steps that lets all fit, else as many as fit in the last."""
    for steps in ladder:
        kept, left = [], room
        for array in arrays:
            kept.append(pack(_coarser(array, steps)))
            left -= _size(kept[-1])
            if left < 0:
                break
        else:
            return steps, kept
    return steps, kept[:-1]


def _size(packed_array: Packed) -> int:
    return len(json_text(packed_array)) + 1


def _coarser(values: np.ndarray, steps: int) -> np.ndarray:
    rounded = np.rint((values.astype(np.float32) - STEPS) * steps / STEPS) + steps
    return np.where(values == NONE, NONE, rounded).astype(np.uint8)
