"""Texts that nobody trains on by intention, and everything that can be done with a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import charrnn
from charrnn.compression import archive
from charrnn.errors import CharrnnError, InspectionError
from charrnn.surprisal import surprisal

BASELINES_UP_TO = 1_000_000
"""Characters; beyond, simpler methods take minutes."""
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
EMOJI = (
    FAMILY,
    "\U0001f1e9\U0001f1ea",
    "\U0001f44d\U0001f3fd",
    "1\ufe0f\u20e3",
    "\u2764\ufe0f\u200d\U0001f525",
    "\u200d",
)
SETTINGS = {
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "training.batch_size": 2,
    "training.seq_len": 8,
    "training.steps": 3,
    "training.num_evals": 1,
}


def _repeated(piece: str) -> Callable[[int], bytes]:
    return lambda size: (piece * (size // len(piece) + 1))[:size].encode()


def _shuffled(*pieces: str) -> Callable[[int], bytes]:
    return lambda size: "".join(Random(1).choices(pieces, k=size))[:size].encode()


def _distinct(size: int) -> bytes:
    points = [p for p in range(0x20, 0x20000) if not 0xD800 <= p < 0xE000]
    return "".join(map(chr, Random(1).sample(points, min(size, 60_000)))).encode()


TEXTS: dict[str, Callable[[int], bytes]] = {
    "halves of surrogate pairs": lambda size: b"ab\xed\xa0\x80c\xed\xb0\x80 " * (size // 10),
    "NUL": _shuffled("a", "\0", "b\0\0", "\n"),
    "byte-order marks in the middle": _shuffled("a b", "\ufeff", "c\n", "\ufffe"),
    "one line": _shuffled("word ", "a ", "bc "),
    "one symbol": _repeated("a"),
    "line ends alone": _repeated("\n"),
    "spaces alone": _repeated(" \t"),
    "every character once": _distinct,
    "right to left": _shuffled("שלום ", "مرحبا ", "\u202eabc\u202c", "\u2067x\u2069", "12 ", "\n"),
    "combining marks": _shuffled("e\u0301", "a" + "\u0334\u0316\u033f" * 20, "\u0301", " ", "\n"),
    "emoji": _shuffled(*EMOJI, " ", "ok", "\n"),
    "mixed line ends": _shuffled("ab", "\r\n", "\n", "\r", "\x85", "\u2028", "\x0b", "\x0c"),
    "control characters": _shuffled(*map(chr, [*range(0x20), *range(0x7F, 0xA0)]), "x"),
    "escapes": _shuffled("\x1b[31m", "\x1b]0;x\x07", "\x9b2J", "plain ", "\n"),
    "characters that are none": _shuffled("\ufffe", "\uffff", "\U0010ffff", "\ue000", "\ufdd0", "a", "\n"),
    "noise": lambda size: Random(1).randbytes(size),
    "a picture": lambda size: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + Random(2).randbytes(size),
    "UTF-16 without a mark": lambda size: ("some words\n" * (size // 22)).encode("utf-16-le"),
    "quotes": _repeated('"'),
    "brackets": _shuffled("([{<", "[[", "{{", "((", "/*", "<!--"),
    "tags": _repeated("<a b='"),
    "backslashes": _shuffled("\\", '\\"', "\\\\", "'''", '"""', "$", "`"),
    "a few letters": lambda size: b"xyz",
}
REFUSED = {
    "chars": {"halves of surrogate pairs", "noise", "a picture", "a few letters"},
    "bytes": {"a few letters"},
}
"""What cannot be trained on."""


@dataclass(frozen=True)
class Done:
    """What became of one thing that was done with a text; ``refused`` is the sentence that says why not."""

    what: str
    refused: str = ""


def do_everything(
    folder: Path, name: str, size: int, symbols: str, *, inspect: bool = True
) -> Iterator[Done]:
    """Train on a text, speak, score, compress and inspect; yield what was done and what was refused.

    Args:
        folder: Where the text and the run are written.
        name: Of the text.
        size: Characters of it, or about so many.
        symbols: ``chars`` or ``bytes``.
        inspect: Whether to look inside, which takes longest.

    Raises:
        Exception: A defect: all that may be refused is yielded.
    """
    text, run = folder / "text.txt", folder / "run"
    text.write_bytes(TEXTS[name](size))
    settings = SETTINGS | {"text.symbols": symbols}
    try:
        for _ in charrnn.train(str(text), run=str(run), settings=settings, device="cpu"):
            pass
    except CharrnnError as error:
        yield Done("train", error.message)
        return
    yield Done("train")
    loaded = charrnn.load(str(run), device="cpu")
    assert len(loaded.sample(40, temperature=1.5)) >= 40 or symbols == "bytes"
    yield Done("sample")
    scored = loaded.evaluate([str(text)], baselines=size <= BASELINES_UP_TO)
    assert 0 < scored.bpc < 100 and scored.chars > 0
    yield Done("score")
    corpus, part = loaded.text_to_score([str(text)])
    shown = surprisal(loaded.network, loaded.vocabulary, corpus, part)
    assert len(shown.text) == len(shown.bits) == min(scored.chars, len(shown.text))
    yield Done("tell what every character costs")
    _compress(folder, run, text)
    yield Done("compress")
    if inspect:
        yield Done("inspect", _inspected(loaded, text))


def _compress(folder: Path, run: Path, text: Path) -> None:
    model = archive.load_model(str(run))
    archive.compress(model, text, folder / "small")
    archive.decompress(model, folder / "small", folder / "back", max_bytes=text.stat().st_size)
    assert (folder / "back").read_bytes() == text.read_bytes()


def _inspected(loaded: charrnn.Run, text: Path) -> str:
    try:
        found = loaded.inspect_neurons(texts=[str(text)], ablation=None)
    except InspectionError as error:
        return error.message
    assert len(found.rows) == found.hypotheses_tested > 0
    return ""
