"""Hostile texts, in short: ``python -m tests.torture texts`` is the long form."""

from __future__ import annotations

import pytest
from hostile_texts import REFUSED, TEXTS, do_everything

INSPECTED = ("one symbol", "control characters")
"""Looked into here, as that takes longest."""


AS_BYTES = (
    "halves of surrogate pairs",
    "NUL",
    "every character once",
    "emoji",
    "noise",
    "a picture",
    "a few letters",
)
"""Bytes are all alike to a model: these are tried as such here, all in the long form."""


@pytest.mark.parametrize(
    ("name", "symbols"), [*((name, "chars") for name in TEXTS), *((name, "bytes") for name in AS_BYTES)]
)
def test_a_hostile_text_is_a_text_or_is_refused(tmp_path, name, symbols):
    wanted = name in INSPECTED and symbols == "chars"
    done = list(do_everything(tmp_path, name, 5_000 if wanted else 700, symbols, inspect=wanted))
    if name in REFUSED[symbols]:
        assert [one.what for one in done] == ["train"] and done[0].refused
    else:
        assert len(done) == 5 + wanted and not any(one.refused for one in done[:5])
