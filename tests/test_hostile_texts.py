"""Hostile texts, in short: ``python -m tests.torture texts`` is the long form."""

from __future__ import annotations

import pytest
from hostile_texts import REFUSED, TEXTS, do_everything

INSPECTED = ("one symbol", "control characters", "combining marks", "brackets")
"""Looked into here, as that takes longest."""


@pytest.mark.parametrize("symbols", ["chars", "bytes"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_a_text_or_is_refused(tmp_path, name, symbols):
    wanted = name in INSPECTED and symbols == "chars"
    done = list(do_everything(tmp_path, name, 6_000 if wanted else 1_500, symbols, inspect=wanted))
    if name in REFUSED[symbols]:
        assert [one.what for one in done] == ["train"] and done[0].refused
    else:
        assert len(done) == 5 + wanted and not any(one.refused for one in done[:5])
