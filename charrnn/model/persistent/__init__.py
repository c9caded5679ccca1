"""A recurrence of our own for CUDA: one launch a window, one barrier a timestep, weights that stay.

Several layers go through a launch as a wavefront, if the device has room for the programs of more than one.
Nothing selects it. Triton's interpreter runs it, with one program, and compilers accept it; no GPU has run
it yet, so no figure says that it is right there, nor that it is fast (docs/cuda.md).
"""

from __future__ import annotations

from charrnn.model.persistent.check import self_check
from charrnn.model.persistent.window import run_layers, why_not

__all__ = ["run_layers", "self_check", "why_not"]
