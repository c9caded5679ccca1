"""Train a recurrent character language model, hear it speak, and look inside it.

import charrnn

for event in charrnn.train("corpus.txt", run="demo", settings={"training.minutes": 3}):
    print(event)
run = charrnn.load("demo")
print(run.sample(500, prompt="The ", temperature=0.8))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CharrnnError", "Run", "load", "train"]

if TYPE_CHECKING:
    from charrnn.api import Run, load, train
    from charrnn.errors import CharrnnError


def __getattr__(name: str) -> Any:
    # importing torch takes seconds, so it waits until something that needs it is asked for
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("charrnn.errors" if name == "CharrnnError" else "charrnn.api"), name)
