"""How the figures of the page were computed, in sentences."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from charrnn import __version__
from charrnn.inspection.page import DELTA_STEPS_PER_BIT, STEPS, SURPRISAL_STEPS_PER_BIT, Page

_SPLIT = {
    "documents": "Whole documents were dealt to two halves.",
    "blocks": "Blocks of at most 10,000 characters were dealt in turn to two halves.",
}


def method(page: Page, data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return terms with what they mean here.

    Args:
        page: What is shown.
        data: The same as it is packed, which says what was rounded and left out.
    """
    found = page.findings
    lines = [
        ("command", page.facts["command"]),
        ("model", f"{found['run']}: {found['model']}"),
        ("text", _text(page)),
        ("split", f"{_SPLIT[found['split_by']]} One chose the neurons, the other gives every figure."),
        ("null", _null(found)),
        ("untrained", _untrained(found.get("twins", 1))),
        ("activation", _activation(page, data["steps"]["value"])),
        ("gates", _gates(page, data)),
        ("surprisal", f"−log2 of the probability of the character, to 1/{SURPRISAL_STEPS_PER_BIT} bit."),
        (
            "on this page",
            "Histograms, excerpts, matching spans and figures marked so are of the text on this page only.",
        ),
        ("ablation", _ablation(page)),
        ("data", f"sha256 {page.facts['sha256']} of all inspected characters, both halves, as UTF-8"),
        ("versions", _versions()),
    ]
    return lines


def _text(page: Page) -> str:
    found = page.findings
    return (
        f"{found['chars']:,} characters were scored ({found['text_kind']}, {found['documents']} documents). "
        f"Here stand {len(page.text):,} of the {page.chars_reporting:,} characters of the half that reports, "
        f"in {len(page.stretches)} whole pieces. The first characters of a piece are read but not scored."
    )


def _null(found: dict[str, Any]) -> str:
    if found["null_units"] is None:
        return "None: fewer than 20 blocks of 1,000 characters report."
    few = ", approximate as documents are few; what the position in the text says was taken out first"
    rough = few if found["null_by"] == "blocks" else ""
    return (
        f"999 swaps of the labels of {found['null_units']} {found['null_by']}{rough}; "
        "q is p corrected for the number of hypotheses (Benjamini–Hochberg)."
    )


def _untrained(twins: int) -> str:
    first = "The best neuron of the same network with the weights it had before training"
    return f"{first}{f' or of {twins - 1} others like it' if twins > 1 else ''}, chosen alike."


def _activation(page: Page, steps: int) -> str:
    what = "tanh(c)" if page.findings["kind"] == "c" else page.findings["kind"]
    beyond = (
        f" The largest is {page.clipped:.3g}; what lies beyond ±1 is shown as ±1." if page.clipped else ""
    )
    error, step = page.findings["float_error"], page.findings.get("state_error")
    gates = "" if step is None else f"The recorded gates reproduce c and h to {step:.0e}. "
    return (
        f"{what} after reading the character, rounded to 1/{steps}.{beyond} "
        f"{gates}The outputs equal those of the definition, read on for 50 characters, to {error:.0e}."
    )


def _gates(page: Page, data: dict[str, Any]) -> str:
    fit, all_of_them = len(data["gateValues"]), len(data["neurons"])
    if not page.gates:
        return "This cell has none."
    if not fit:
        return "They had no room on this page."
    which = "all neurons here" if fit == all_of_them else f"the first {fit} neurons; more had no room"
    keep = " z near 1 keeps the state." if "z" in page.gates else ""
    return f"{' '.join(page.gates)} of {which}, rounded to 1/{data['steps']['gate']}.{keep}"


def _ablation(page: Page) -> str:
    if not page.delta_loss:
        return "Not computed."
    what = page.facts["ablation"] or "The neuron is held while the network reads."
    reach = STEPS / DELTA_STEPS_PER_BIT
    return (
        f"{what} Δ loss is what a character costs more then, in bits, rounded to 1/{DELTA_STEPS_PER_BIT} "
        f"and cut at ±{reach:.1f}; for {len(page.delta_loss)} of {len(page.neurons)} neurons."
    )


def _versions() -> str:
    return (
        f"charrnn {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}"
    )
