"""``charrnn inspect hypotheses``."""

from __future__ import annotations

from charrnn.cli.console import print_json
from charrnn.cli.options import JsonOption


def hypotheses(
    as_json: JsonOption = False,
) -> None:
    """List the properties of text that neurons are tested for."""
    from charrnn.inspection.hypotheses import get, names
    from charrnn.rendering.tables import print_stdout, table

    known = [get(name) for name in names()]
    rows = [(h.name, h.type, " ".join(sorted(h.kinds)), h.definition) for h in known]
    if as_json:
        keys = ("name", "type", "kinds", "definition")
        print_json({"hypotheses": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        print_stdout(table(["hypothesis", "type", "text", "definition"], rows))
