"""The one spelling of a neuron: ``L2.c117``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from charrnn.errors import InspectionError

_SPELLING = re.compile(r"L(\d{1,4})\.([a-z]+)(\d{1,7})")


@dataclass(frozen=True, order=True)
class Neuron:
    """One recorded quantity: layer (from 1), kind (``h``, ``c``, a gate or ``raw``), index (from 0).

    A c neuron is seen through its tanh, as the cell's output is; ``raw`` is c itself, which has no bound.
    """

    layer: int
    kind: str
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}.{self.kind}{self.index}"

    @property
    def traced(self) -> str:
        """Return what the cell calls it."""
        return "c" if self.kind == "raw" else self.kind


def parse_neuron(text: str, kinds: tuple[str, ...], num_layers: int, hidden_size: int) -> Neuron:
    """Return the neuron that a user named.

    Args:
        text: Such as ``L2.c117``.
        kinds: What the cell records.
        num_layers: Layers of the network.
        hidden_size: Neurons per layer.

    Raises:
        InspectionError: The spelling is wrong, or the network has no such neuron.
    """
    match = _SPELLING.fullmatch(text)
    last = f"L{num_layers}.{kinds[-1]}{hidden_size - 1}"
    hint = f"neurons here are L1.{kinds[0]}0 … {last}, of kind {', '.join(kinds)}"
    if match is None:
        raise InspectionError(f"`{text}` is no neuron", hint)
    neuron = Neuron(int(match[1]), match[2], int(match[3]))
    if not 1 <= neuron.layer <= num_layers or neuron.kind not in kinds or neuron.index >= hidden_size:
        raise InspectionError(f"the network has no neuron `{text}`", hint)
    return neuron
