"""What a neuron does to the next character: through the readout alone, and to the end of what it marks."""

from __future__ import annotations

from math import log

import numpy as np
import torch

from charrnn.inspection.cause import Interventions, split
from charrnn.inspection.figures import Closing
from charrnn.inspection.names import Neuron
from charrnn.inspection.record import readout_neurons, readout_of
from charrnn.model.holds import held_log_odds
from charrnn.text.vocabulary import Vocabulary

MIN_ENDS = 5


def direct_logits(interventions: Interventions, neuron: int, column: int) -> np.ndarray | None:
    """Return what the readout alone makes of a neuron's h where a hypothesis is on, above where it is off.

    The readout's weights times the difference of the two means of h. What goes through the recurrence is
    left out, so it may differ from what holding the neuron does.

    Args:
        interventions: What is read.
        neuron: Its number.
        column: The hypothesis's column in the labels.

    Returns:
        Nats, (V,); None where the readout does not read the neuron, or the hypothesis is never on or off.
    """
    network, name = interventions.network, interventions.neurons[neuron]
    read, own = readout_neurons(network), Neuron(name.layer, "h", name.index)
    labels = interventions.excerpts.labels[..., column]
    on, off = labels > 0, labels <= 0
    if name.kind not in ("h", "c", "raw") or own not in read or not (on.any() and off.any()):
        return None
    h = interventions.activations([own])[:, :-1, 0]
    values = torch.zeros(2, len(read), device=network.readout.weight.device)
    values[1, read.index(own)] = float(h[on].mean() - h[off].mean())
    with torch.inference_mode():
        without, with_it = readout_of(network, values)
    return (with_it - without).cpu().numpy()


def closing(interventions: Interventions, neuron: int, column: int, vocabulary: Vocabulary) -> Closing | None:
    """Return what holding a neuron does to the character by which what a hypothesis marks mostly ends.

    Args:
        interventions: What is read.
        neuron: Its number.
        column: The hypothesis's column in the labels.
        vocabulary: Of the ids.

    Returns:
        None with fewer than five ends in the text that is read.
    """
    ids, labels = interventions.excerpts.ids, interventions.excerpts.labels[..., column]
    following = ids[:, 1:].cpu().numpy()
    ends = np.zeros(labels.shape, bool)
    ends[:, :-1] = (labels[:, :-1] > 0) & (labels[:, 1:] <= 0)
    if ends.sum() < MIN_ENDS:
        return None
    symbol = int(np.bincount(following[ends]).argmax())
    there = ends & (following == symbol)
    copies = [[], [interventions.held(neuron)]]
    free, held = held_log_odds(interventions.network, ids, copies, symbol).cpu().numpy()
    change = split((held - free) / log(2), labels)
    return Closing(
        char=vocabulary.symbol_bytes(symbol).decode("utf-8", "replace"),
        share=float(there.sum() / ends.sum()),
        inside=change.on,
        outside=change.off,
        free=float((1 / (1 + np.exp(-free[there]))).mean()),
        held=float((1 / (1 + np.exp(-held[there]))).mean()),
    )
