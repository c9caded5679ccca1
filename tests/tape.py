"""A CUDA graph as a processor can have one: operations on fixed arrays, recorded without effect, run again.

What a host does between operations is not on the tape: numbers that Python computed stay as they were when it
was recorded, and whatever needs to look at a value is refused. That is what makes it a stand-in.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import blind, check, tensors


class Tape(TorchDispatchMode):
    """Records operations; everything that was there before is put back as it was."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self._made, self._before = set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        check(func, args, kwargs)
        for tensor in tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._made and storage.data_ptr() not in self._before:
                self._before[storage.data_ptr()] = (storage, storage.clone())
        out = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, out))
        known = self._before.keys()
        self._made |= {t.untyped_storage().data_ptr() for t in tensors(out)} - known
        return out

    def undo(self):
        for storage, content in self._before.values():
            storage.copy_(content)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tensors(out), tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor in place
                    old.copy_(new)


class Tapes:
    """A ``Recorder`` that records tapes."""

    def __init__(self, device=None):
        self.recorded = self.replayed = 0

    def aside(self):
        return nullcontext()

    def record(self, work, noises):
        tape = Tape()
        with blind(), tape:
            work()
        tape.undo()
        self.recorded += 1

        def replay():
            self.replayed += 1
            tape.replay()

        return replay


def fuse(step):
    """Let a step's optimizer be torch's fused one, as on CUDA; the others ask for the number of steps."""
    for group in step.optimizer.param_groups:
        group["fused"] = True
