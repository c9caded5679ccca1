"""The native library: recurrences, sampling, updates, statistics and reading in C, called through ctypes.

It is compiled when the package is built, where there is a compiler; without it everything runs on
torch and numpy. Nothing here imports torch: pointers go in, and arrays are changed in place.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_double, c_float, c_int, c_long, c_uint32, c_void_p
from pathlib import Path

LIBRARY = Path(__file__).parent / "libcharrnn.so"
VERSION = 3
"""What the library must answer; raised with every change of its functions or structures."""
VARIANTS = {"baseline": 4, "avx2": 8, "avx512": 16}
"""Instruction sets, from least to most, and floats per vector: weights are packed in panels of them."""
SWITCH = "CHARRNN_NATIVE"
"""Environment variable: ``0`` leaves the library unused, a name in ``VARIANTS`` asks for that one."""

CELLS = {"lstm": (0, 4), "gru": (1, 3), "elman": (2, 1), "elman_relu": (3, 1)}
"""Cells that have a kernel: the library's number for it, and gates."""

ARRAYS = ("input", "ids", "reset", "bias", "panels", "gates", "kept", "h", "c", "dh", "carry_h", "carry_c")
ADAM = ("rate", "beta1", "beta2", "epsilon", "decay", "correction1", "correction2")


class Window(ctypes.Structure):
    """One layer's window: ``window`` in ``source/recurrence.c``, which says what the arrays are."""

    _fields_ = [(name, c_int) for name in ("T", "B", "H")] + [(name, c_void_p) for name in ARRAYS]


class Adam(ctypes.Structure):
    """Numbers of one step: ``adam`` in ``source/update.c``."""

    _fields_ = [(name, c_float) for name in ADAM]


class Pairs(ctypes.Structure):
    """Sums over pairs of units, and how they are paired: ``pairs`` in ``source/statistics.c``."""

    _fields_ = [
        *((name, c_int) for name in ("U", "N", "S", "whole")),
        *((name, c_void_p) for name in ("orders", "ay", "a", "aa")),
        *((name, c_double) for name in ("count", "y", "yy", "epsilon")),
    ]


SIGNATURES = {
    "recurrence": (POINTER(Window), c_int, c_int, c_int),
    "pack_forward": (c_void_p, c_void_p, c_int, c_int, c_int),
    "pack_backward": (c_void_p, c_void_p, c_int, c_int, c_int),
    "cross_entropy": (c_void_p, c_void_p, c_void_p, c_int, c_int, c_int),
    "add_rows": (c_void_p, c_void_p, c_void_p, c_long, c_int, c_int),
    "sum_of_squares": (POINTER(c_void_p), POINTER(c_long), c_int, POINTER(c_double), c_int),
    "sample": (c_void_p, c_void_p, c_void_p, c_int),
    "adamw": (c_void_p, c_void_p, c_void_p, c_void_p, c_long, POINTER(Adam), c_int),
    "largest_correlations": (POINTER(Pairs), c_int, c_void_p, c_void_p, c_int),
    "read_memory": (c_void_p, c_long, c_int, POINTER(c_uint32), c_int),
}


class Library:
    """The functions of one variant; their arguments are described where they are defined.

    Args:
        handle: The loaded library.
        variant: A name in ``VARIANTS`` that this processor can run.
    """

    def __init__(self, handle: ctypes.CDLL, variant: str) -> None:
        self.variant = variant
        self.width = VARIANTS[variant]
        for name, types in SIGNATURES.items():
            function = getattr(handle, f"charrnn_{name}_{variant}")
            function.argtypes, function.restype = types, c_int
            setattr(self, name, function)

    def panels_size(self, gates: int, hidden_size: int, *, backward: bool = False) -> int:
        """Return the floats that packed recurrent weights take."""
        step = 2 * self.width if backward or gates == 1 else self.width
        return gates * hidden_size * -(-hidden_size // step) * step


@functools.cache
def find() -> tuple[Library | None, str]:
    """Return the library, or None, and which variant it is, or why there is none."""
    wish = os.environ.get(SWITCH, "")
    if wish == "0":
        return None, f"switched off by {SWITCH}=0"
    if not LIBRARY.exists():
        return None, "it was not compiled when charrnn was installed"
    try:
        handle = ctypes.CDLL(str(LIBRARY))
        if handle.charrnn_version() != VERSION:
            return None, "from another version of charrnn: install it again"
        usable = list(VARIANTS)[: handle.charrnn_best() + 1]
        variant = wish if wish in usable else usable[-1]
        return Library(handle, variant), variant
    except (OSError, AttributeError) as error:
        return None, f"cannot be loaded: {error}"


def library() -> Library | None:
    """Return the library where it can be used."""
    return find()[0]
