"""Labels that come from a user's files: functions, and arrays."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np

from charrnn.errors import InspectionError, suggest
from charrnn.inspection.hypotheses.arrays import Floats
from charrnn.untrusted import map_array

_WANTED = "it must give one bool, int or float per character; NaN is not scored"


def load_function(spec: str) -> Callable[[str], Any]:
    """Run a Python file and return one of its functions.

    Args:
        spec: ``file.py:function``.

    Raises:
        InspectionError: The file cannot be read or fails, or has no such function.
    """
    path, colon, name = spec.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise InspectionError(f"`{spec}` names no function", "write file.py:function")
    if not Path(path).is_file():
        raise InspectionError(f"there is no file `{path}`", "write file.py:function")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    # Whatever the user's own code raises is theirs to mend; a file may even call exit.
    except (Exception, SystemExit) as error:
        raise InspectionError(f"`{path}` failed: {type(error).__name__}: {error}") from error
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if not callable(getattr(module, name, None)):
        raise InspectionError(f"`{path}` has no function `{name}`", suggest(name, functions))
    return getattr(module, name)


def load_labels(path: str) -> Floats:
    """Return the labels in a ``.npy`` file.

    Raises:
        InspectionError: The file cannot be read, or holds something else.
    """
    try:
        values = map_array(Path(path))
    except FileNotFoundError:
        raise InspectionError(f"there is no file `{path}`", "numpy.save writes one") from None
    except (OSError, ValueError) as error:
        if Path(path).is_file() and is_zipfile(path):
            raise InspectionError(f"`{path}` holds several arrays", "numpy.save writes one alone") from None
        raise InspectionError(f"cannot read `{path}`: {error}", "numpy.save writes such a file") from None
    return checked_labels(values, path, None)


def checked_labels(values: Any, source: str, length: int | None) -> Floats:
    """Return labels as float32 if they are one finite number, or NaN, per character.

    Args:
        values: What was given.
        source: What it came from, for the message.
        length: Characters of the text; None does not check.

    Raises:
        InspectionError: They are something else.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise InspectionError(f"`{source}` gave rows of different lengths", _WANTED) from None
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise InspectionError(f"`{source}` gave values of type {array.dtype}, shape {array.shape}", _WANTED)
    if length is not None and len(array) != length:
        raise InspectionError(f"`{source}` gave {len(array):,} values for {length:,} characters", _WANTED)
    with np.errstate(over="ignore"):
        labels = array.astype(np.float32)
    if np.isinf(labels).any():
        raise InspectionError(f"`{source}` gave an infinite value", _WANTED)
    return labels
