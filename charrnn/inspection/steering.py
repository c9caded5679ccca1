"""Does a neuron drive what is written? It is held while the network speaks, and the text is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from charrnn.inspection.figures import Setting, Steering
from charrnn.inspection.hypotheses import Hypothesis, TextProfile
from charrnn.inspection.names import Neuron
from charrnn.model.holds import Held, hold_copies
from charrnn.model.network import Network
from charrnn.text.vocabulary import BOUNDARY, ESCAPE, Vocabulary

STREAMS = 16
LENGTH = 360
WARM_UP = 60
"""Characters of every stream that are written but not judged, or half of a shorter one: all begin alike."""
SEED = 7
AT_ONCE = 20
"""Settings that write at the same time."""
MAX_DAMAGE = 0.5
"""Bits per character that steering may cost and still count."""
CONTROLS = 20
BELOW_ONE = 1 - 2**-23

Values = tuple[float, float]
"""What a neuron is held at, high and low."""
Key = tuple[Neuron, float] | None
"""A held neuron and its value; None where nothing is held."""


@dataclass(frozen=True)
class Written:
    """Text of several streams.

    Args:
        text: Of each stream.
        bpc: Bits per character under the network with nothing held.
    """

    text: tuple[str, ...]
    bpc: float


class Steerer:
    """Lets a network speak with neurons held, many streams at a time, each text once.

    Args:
        network: In evaluation mode.
        vocabulary: Symbols to ids.
        profile: Facts about the corpus, for the hypotheses.
        streams: Texts per setting.
        length: Characters of each.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        profile: TextProfile,
        streams: int = STREAMS,
        length: int = LENGTH,
    ) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.profile = profile
        self.uniform = np.random.Generator(np.random.Philox(SEED)).random((length, streams))
        self.begin = warm_up(length)
        self._written: dict[Key, torch.Tensor] = {}

    def steer(
        self,
        neuron: Neuron,
        values: Values,
        controls: Sequence[tuple[Neuron, Values]],
        hypothesis: Hypothesis,
        progress: Callable[[str], None] = lambda _: None,
        always: bool = True,
    ) -> Steering:
        """Return what holding a neuron high and low does.

        Args:
            neuron: The neuron.
            values: High and low.
            controls: Matched neurons, with their own high and low.
            hypothesis: Judges the text.
            progress: Called with what begins.
            always: Let the controls write even if neither setting moves the score as it should.
        """
        wanted = [None, *((neuron, value) for value in values)]
        self._write(wanted, progress)
        free, high, low = (self._setting(key, hypothesis) for key in wanted)
        if not always and mover(free, high, low, 0.0, hypothesis.type) is None:
            controls = ()
        self._write([(n, v) for n, both in controls for v in both], progress)
        others = sorted(
            max(abs(self._score((n, v), hypothesis) - free.score) for v in both) for n, both in controls
        )
        by = mover(free, high, low, others[-1], hypothesis.type) if len(others) >= CONTROLS else None
        most = max((low, high), key=lambda setting: abs(setting.score - free.score))
        return Steering(
            free,
            high,
            low,
            tuple(others),
            {"high": high, "low": low}.get(by, most).bpc - free.bpc,
            by is not None,
            by,
            tuple((str(n), *both) for n, both in controls),
        )

    def _write(self, keys: Sequence[Key], progress: Callable[[str], None]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in self._written]
        for first in range(0, len(new), AT_ONCE):
            progress(f"writing with held neurons ({first} of {len(new)})")
            batch = new[first : first + AT_ONCE]
            copies = [_held(key) for key in batch]
            written = _drawn(self.network, self.vocabulary, copies, self.uniform)
            self._written |= dict(zip(batch, written, strict=True))

    def _texts(self, key: Key) -> tuple[str, ...]:
        return _texts(self.vocabulary, self._written[key])

    def _score(self, key: Key, hypothesis: Hypothesis) -> float:
        labels = [hypothesis.label(text, self.profile)[self.begin :] for text in self._texts(key)]
        joined = np.concatenate(labels) if labels else np.empty(0)
        return float(np.nanmean(joined)) if len(joined) and not np.isnan(joined).all() else 0.0

    def _readable(self, text: str) -> str:
        return text.encode("latin-1").decode("utf-8", "replace") if self.vocabulary.kind == "bytes" else text

    def _setting(self, key: Key, hypothesis: Hypothesis) -> Setting:
        texts = self._texts(key)
        lines = sum(text[self.begin :].count("\n") for text in texts)
        chars = sum(len(text[self.begin :]) for text in texts)
        return Setting(
            value=None if key is None else key[1],
            score=self._score(key, hypothesis),
            line_length=chars / lines if lines else None,
            bpc=_bpc(self.network, self._written[key]),
            sample=self._readable(texts[0]),
        )


def mover(free: Setting, high: Setting, low: Setting, most: float, type: str) -> str | None:
    """Return the setting that changes the score its own way, by more than ``most``, at little damage.

    Held high, where the neuron says that the hypothesis is on, the score must rise; held low it must fall. A
    count may also do the reverse, if it does so at both: a line that the model takes to be long is ended.

    Args:
        free: Nothing held.
        high: Held at what it is where the hypothesis is on.
        low: Held at what it is where the hypothesis is off.
        most: Largest change by a control.
        type: Of the hypothesis.
    """
    moves = {"high": high.score - free.score, "low": free.score - low.score}
    if type == "count" and max(moves.values()) < 0:
        moves = {name: -move for name, move in moves.items()}
    gentle = {"high": high.bpc, "low": low.bpc}
    enough = [name for name in moves if moves[name] > most and gentle[name] - free.bpc <= MAX_DAMAGE]
    return max(enough, key=moves.__getitem__, default=None)


def write(
    network: Network, vocabulary: Vocabulary, copies: Sequence[Sequence[Held]], uniform: np.ndarray
) -> list[Written]:
    """Let a network write from the begin of a document, at temperature 1, without ending it.

    Args:
        network: In evaluation mode.
        vocabulary: Symbols to ids.
        copies: Sets of neurons to keep at values; each writes all streams.
        uniform: Numbers in [0, 1) that decide, the same for every copy, (length, streams).
    """
    drawn = _drawn(network, vocabulary, copies, uniform)
    return [Written(_texts(vocabulary, own), _bpc(network, own)) for own in drawn]


@torch.inference_mode()
def _drawn(
    network: Network, vocabulary: Vocabulary, copies: Sequence[Sequence[Held]], uniform: np.ndarray
) -> torch.Tensor:
    """Return the ids that are written, (K, S, length)."""
    device = network.readout.weight.device
    shape = (len(copies), uniform.shape[1])
    hold = hold_copies(copies, network, shape[1])
    symbol = torch.full(shape, BOUNDARY, device=device)
    bare = network.initial_state(shape[0] * shape[1])
    state = tuple(tuple(part.unflatten(0, shape) for part in layer) for layer in bare)
    never = [BOUNDARY, ESCAPE] if vocabulary.kind == "chars" else [BOUNDARY]
    ids = []
    # in float32 the largest draws would be 1, and take the last symbol however improbable it is
    for draw in torch.from_numpy(uniform).to(device, torch.float32).clamp(max=BELOW_ONE):
        logits, state = network.step(symbol, state, hold)
        logits[..., never] = -torch.inf
        cumulative = logits.softmax(-1).cumsum(-1)
        at = (draw.expand(shape) * cumulative[..., -1]).unsqueeze(-1)
        symbol = torch.searchsorted(cumulative, at, right=True).squeeze(-1).clamp(max=network.vocab_size - 1)
        ids.append(symbol)
    return torch.stack(ids, dim=-1)


def _held(key: Key) -> list[Held]:
    return [Held(key[0].layer, key[0].kind, key[0].index, key[1])] if key else []


def _texts(vocabulary: Vocabulary, ids: torch.Tensor) -> tuple[str, ...]:
    """Return texts with one character per symbol, as hypotheses see them: of bytes, each is one."""
    encoding = "latin-1" if vocabulary.kind == "bytes" else "utf-8"
    return tuple(b"".join(map(vocabulary.symbol_bytes, row)).decode(encoding) for row in ids.tolist())


@torch.inference_mode()
def _bpc(network: Network, ids: torch.Tensor) -> float:
    start = torch.full((len(ids), 1), BOUNDARY, device=ids.device)
    logits, _ = network(torch.cat([start, ids[:, :-1]], dim=1), network.initial_state(len(ids)))
    begin = warm_up(ids.shape[1])
    return float(cross_entropy(logits[:, begin:].flatten(0, 1), ids[:, begin:].flatten())) / log(2)


def warm_up(length: int) -> int:
    """Return the characters of a stream that are not judged."""
    return min(WARM_UP, length // 2)


def settings(a: np.ndarray, y: np.ndarray, sign: float) -> Values:
    """Return the values at which a neuron is held: high where a hypothesis is on, low where it is off.

    They are its own 95th percentile while the hypothesis is on and its 5th while it is off (the other way
    round for a negative correlation); of a count or level, on and off are its highest and lowest tenth.

    Args:
        a: Activations, (N,).
        y: Hypothesis values, (N,), without NaN.
        sign: Of their correlation.
    """
    low, high = np.quantile(y, (0.1, 0.9))
    binary = y.max() <= 1
    on, off = (y > 0, y <= 0) if binary else (y >= high, y <= low)
    return (
        float(sign * np.quantile(sign * a[on], 0.95)) if on.any() else float(sign),
        float(sign * np.quantile(sign * a[off], 0.05)) if off.any() else float(-sign),
    )
