"""Arrays small enough for a page: deflated, as base64, gates rounded or left out where room is short."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np

from charrnn.inspection.page import DELTA_STEPS_PER_BIT, NONE, STEPS, SURPRISAL_STEPS_PER_BIT, Page
from charrnn.rendering.html.palette import palettes

GATE_STEPS = (31, 15)
"""Steps on each side of zero that gates are rounded to: the first that lets all of them fit."""

Packed = dict[str, str]


def packed(page: Page, room: int) -> dict[str, Any]:
    """Return a page as plain values for JSON.

    Args:
        page: What to show.
        room: Bytes that the result may take as JSON. Gates are left out to stay below it, nothing else.
    """
    data = {
        "findings": _finite(page.findings),
        "neurons": page.neurons,
        "hypotheses": page.hypotheses,
        "stretches": [asdict(stretch) for stretch in page.stretches],
        "symbols": page.symbols,
        "text": pack(page.text),
        "values": [pack(row) for row in page.values],
        "next": pack(page.next_symbols),
        "probs": pack(page.next_probs),
        "surprisal": pack(page.surprisal),
        "labels": [pack(row) for row in page.labels],
        "delta": {name: pack(row) for name, row in page.delta_loss.items()},
        "palettes": palettes(),
        "gates": page.gates,
        "steps": {"value": STEPS, "delta": DELTA_STEPS_PER_BIT, "surprisal": SURPRISAL_STEPS_PER_BIT},
    }
    steps, gates = _fitting(page, room - len(json_text(data)))
    return data | {"gateSteps": steps, "gateValues": gates}


def pack(array: np.ndarray) -> Packed:
    """Return an array of unsigned integers, deflated, as base64; ``type`` is numpy's."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode("ascii")
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


def _fitting(page: Page, room: int) -> tuple[int, list[Packed]]:
    """Return gates of all neurons if they fit in fewer steps, else those of the first neurons."""
    packed_gates: list[Packed] = []
    for steps in GATE_STEPS:
        packed_gates = [pack(_coarser(gates, steps)) for gates in page.gate_values if gates.size]
        if sum(map(_size, packed_gates)) <= room:
            break
    total = np.cumsum([_size(one) for one in packed_gates])
    return steps, packed_gates[: int((total <= room).sum())]


def _size(packed_array: Packed) -> int:
    return len(json_text(packed_array)) + 1


def _coarser(values: np.ndarray, steps: int) -> np.ndarray:
    rounded = np.rint((values.astype(np.float32) - STEPS) * steps / STEPS) + steps
    return np.where(values == NONE, NONE, rounded).astype(np.uint8)
