"""What a user means by ``L2.c117=0.9``: which neuron to keep at which value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from charrnn.errors import InspectionError
from charrnn.inspection.names import Neuron, parse_neuron
from charrnn.model.holds import Held
from charrnn.model.network import Network

WORDS = {"p05": lambda a: np.quantile(a, 0.05), "p95": lambda a: np.quantile(a, 0.95), "mean": np.mean}
RANGES = {
    "c": (-1, 1),
    "raw": (-1e6, 1e6),
    "i": (0, 1),
    "f": (0, 1),
    "o": (0, 1),
    "g": (-1, 1),
    "r": (0, 1),
    "z": (0, 1),
    "n": (-1, 1),
}
"""What a c neuron (as painted, ``tanh(c)``) and the gates can be; h of an LSTM or GRU lies in -1 … 1 too."""

Activations = Callable[[Neuron], np.ndarray]


def neuron_kinds(network: Network) -> tuple[str, ...]:
    """Return the kinds of neurons of a network: parts of the state, gates, and c without its tanh."""
    layer = network.layers[0]
    raw = ("raw",) if "c" in layer.state_names else ()
    return tuple(dict.fromkeys((*layer.state_names, *layer.gate_names, *raw)))


def check_kind(network: Network, kind: str | None) -> None:
    """Raise ``InspectionError`` if a network has no neurons of a kind."""
    if kind is not None and kind not in neuron_kinds(network):
        raise InspectionError(f"there are no `{kind}` neurons", f"known: {', '.join(neuron_kinds(network))}")


def named_neuron(network: Network, name: str) -> Neuron:
    """Return the neuron of a network that a user named.

    Raises:
        InspectionError: The spelling is wrong, or the network has no such neuron.
    """
    return parse_neuron(name, neuron_kinds(network), len(network.layers), network.config.hidden_size)


def parse_holds(network: Network, holds: Sequence[str], activations: Activations) -> list[Held]:
    """Return the neurons to hold.

    Args:
        network: Whose neurons they are.
        holds: Each ``NEURON=VALUE``; a value is a number as painted, or ``p05``, ``p95`` or ``mean`` of
            the neuron's own activations.
        activations: Returns a neuron's activations over some text; asked only for a value in words.

    Raises:
        InspectionError: A neuron or a value is not one.
    """
    return [_parse(network, hold, activations) for hold in holds]


def _parse(network: Network, hold: str, activations: Activations) -> Held:
    name, equals, value = hold.partition("=")
    if not equals:
        raise InspectionError(f"`{hold}` does not say what to hold", "write it as L1.c5=0.9")
    neuron = named_neuron(network, name.strip())
    word = value.strip()
    number = float(WORDS[word](activations(neuron))) if word in WORDS else _number(word)
    low, high = _range(network, neuron.kind)
    if not low <= number <= high:
        hint = f"a number from {low} to {high}, or {', '.join(WORDS)}"
        raise InspectionError(f"`{neuron}` cannot be held at `{word}`", hint)
    return Held(neuron.layer, neuron.kind, neuron.index, number)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _range(network: Network, kind: str) -> tuple[float, float]:
    return network.layers[0].ranges.get(kind) or RANGES.get(kind, (-1, 1))
