"""What refuses every operation for which the host has to wait for the device."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount")
"""Operations whose result, or its size, the host must wait for; those named unique… too."""


def check(func, args, kwargs):
    """Raise where a value is asked for, where a shape depends on values, and at copies between devices."""
    name = func.overloadpacket.__name__
    if name in WAITS or name.lstrip("_").startswith("unique"):
        raise AssertionError(f"{func} waits for the device")
    if name.startswith("index") and any(t.dtype in (torch.bool, torch.uint8) for t in tensors(args[1:2])):
        raise AssertionError("an index of bools waits for the device")
    other = kwargs.get("device") if name == "_to_copy" else args[1].device if name == "copy_" else None
    if other is not None and other != args[0].device:
        raise AssertionError("a copy across waits for the device")


class NoWaiting(TorchDispatchMode):
    """Runs what a device can do by itself, and nothing else."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        check(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextmanager
def blind():
    """Refuse the ways to a value that are no operations of torch."""

    def refuse(*_, **__):
        raise AssertionError("a list or an array waits for the device")

    with patch.multiple(torch.Tensor, tolist=refuse, numpy=refuse, cpu=refuse):
        yield


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
