"""What refuses every operation for which the host has to wait for the device."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.item.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.unique_dim.default,
    aten._unique2.default,
}


class NoWaiting(TorchDispatchMode):
    """Raises where a value is asked for, where a shape depends on values, and at copies between devices."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if func in WAITS:
            raise AssertionError(f"{func} waits for the device")
        if func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise AssertionError("an index of bools waits for the device")
        if func is aten._to_copy.default and kwargs.get("device") not in (None, tensors[0].device):
            raise AssertionError("a copy across waits for the device")
        if func is aten.copy_.default and tensors[0].device != tensors[1].device:
            raise AssertionError("a copy across waits for the device")
        return func(*args, **kwargs)
