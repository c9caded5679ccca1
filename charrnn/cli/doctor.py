"""``charrnn doctor``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from charrnn.cli.console import print_json
from charrnn.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, devices, which kernels run here, and where things are kept."""
    from charrnn.rendering.tables import print_stdout, table

    data = _versions() | _devices() | _places()
    if as_json:
        print_json(data)
    else:
        print_stdout(table(["", ""], [(key, str(value)) for key, value in data.items()]))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("charrnn", "torch", "numpy", "safetensors", "typer", "rich", "zstandard", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _devices() -> dict[str, str]:
    import torch

    from charrnn.native import find

    cuda = torch.cuda.is_available()
    native, why = find()
    instead = f"oneDNN for lstm, ATen for others ({why})"
    return {
        "cpu threads": str(torch.get_num_threads()),
        "training on cpu": f"native kernels, {native.variant}" if native else instead,
        "sampling on cpu": f"native sampler, {native.variant}" if native else f"numpy ({why})",
        "other cells on cpu": "PyTorch, step by step or by scan",
        "cuda": torch.cuda.get_device_name() if cuda else "no device that this torch can use",
        "lstm, gru, elman on cuda": "cuDNN"
        if cuda and torch.backends.cudnn.is_available()
        else "not available",
        **_training_on_cuda(cuda),
        "persistent recurrence": f"selected by nothing; {_persistent(cuda)}",
        "mps": "yes" if torch.backends.mps.is_available() else "no",
    }


def _persistent(cuda: bool) -> str:
    """Return whether our own persistent kernels could be tried."""
    import torch

    from charrnn.model.persistent import why_not

    return why_not("lstm", torch.device("cuda" if cuda else "cpu")) or "it could be tried here"


def _training_on_cuda(cuda: bool) -> dict[str, str]:
    """Return how layers of some sizes are run while they train, and why."""
    import torch

    from charrnn.config import ModelConfig
    from charrnn.model.paths import choose_path, find_gpu

    if not cuda:
        return {"training on cuda": "not available"}
    rows, gpu, found = 128, find_gpu(torch.device("cuda")), {}
    for cell in ("lstm", "gru"):
        for size in (128, 512, 2048):
            path = choose_path(ModelConfig(cell, size, 1, 32, 0.0), rows, "auto", gpu)
            found[f"training {cell} {size} × {rows} on cuda"] = f"{path.precision} {path.words(size, rows)}"
    return found


def _places() -> dict[str, str]:
    from charrnn.runs import RUNS
    from charrnn.text.cache_dir import cache_dir

    return {"runs": str(RUNS.absolute()), "cache": str(cache_dir())}
