"""The dispatcher: which path for which sizes and device, against torch's own conditions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from charrnn.cli.doctor import _training_on_cuda
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.errors import ConfigError
from charrnn.model.paths import Gpu, choose_path, up
from charrnn.training.distributed import ALONE
from charrnn.training.telling import where

H200, A100, A10, RTX3090, L40, T4, V100 = (
    Gpu(capability, processors)
    for capability, processors in (
        ((9, 0), 132),
        ((8, 0), 108),
        ((8, 6), 72),
        ((8, 6), 82),
        ((8, 9), 142),
        ((7, 5), 40),
        ((7, 0), 80),
    )
)


def chosen(cell, hidden, batch, precision="auto", gpu=H200, **levers):
    return choose_path(ModelConfig(cell, hidden, 3, 32, 0.1, **levers), batch, precision, gpu)


@pytest.mark.parametrize(
    ("asked", "name", "precision", "multiples"),
    [
        (("lstm", 512, 128), "stack", "fp16", (128, 8, 128)),
        (("lstm", 500, 100), "stack", "fp16", (128, 8, 128)),
        (("lstm", 1024, 121), "stack", "fp16", (128, 8, 128)),
        (("lstm", 129, 1), "stack", "fp16", (128, 8, 128)),
        (("lstm", 512, 128, "fp16"), "stack", "fp16", (128, 8, 128)),
        (("lstm", 512, 128, "auto", A100), "stack", "fp16", (128, 8, 128)),
        (("lstm", 512, 128, "auto", L40), "stack", "fp16", (128, 8, 128)),
        (("elman", 896, 88), "stack", "fp16", (128, 8, 128)),
        (("lstm", 512, 128, "auto", A10), "stock", "tf32", None),
        (("lstm", 512, 128, "auto", RTX3090), "stock", "tf32", None),
        (("lstm", 512, 128, "auto", T4), "stock", "tf32", None),
        (("lstm", 512, 128, "auto", V100), "stock", "tf32", None),
        (("lstm", 128, 128), "stock", "tf32", None),
        (("lstm", 1025, 128), "stock", "tf32", None),
        (("lstm", 512, 129), "stock", "tf32", None),
        (("lstm", 512, 128, "fp32"), "stock", "fp32", None),
        (("lstm", 512, 128, "tf32"), "stock", "tf32", None),
        (("lstm", 512, 128, "bf16"), "stock", "bf16", (8, 8, 8)),
        (("lstm", 1840, 128, "fp16"), "stock", "fp16", (8, 8, 8)),
        (("lstm", 128, 128, "fp16"), "stock", "fp16", (8, 8, 8)),
        (("elman", 896, 96), "stock", "tf32", None),
        (("elman_relu", 512, 64), "stock", "tf32", None),
        (("gru", 512, 128), "stock", "tf32", None),
        (("gru", 512, 128, "fp16"), "stock", "fp16", (8, 8, 8)),
        (("gru", 160, 64), "stock", "tf32", (128, 1, 1)),
        (("gru", 160, 64, "fp32"), "stock", "fp32", (128, 1, 1)),
        (("gru", 160, 64, "bf16"), "stock", "bf16", (128, 8, 8)),
        (("gru", 122, 64, "bf16"), "stock", "bf16", (8, 8, 8)),
        (("gru", 192, 44), "stock", "tf32", None),
        (("gru", 193, 64), "stock", "tf32", None),
        (("lstm", 185, 64, "bf16", A10), "stock", "bf16", (128, 8, 8)),
        (("mingru", 512, 64), "plain", "tf32", None),
        (("compressor", 512, 64, "fp32"), "plain", "fp32", None),
        (("lstm", 512, 64, "auto", None), "own", "fp32", None),
    ],
)
def test_the_table(asked, name, precision, multiples):
    path = chosen(*asked)
    assert (path.name, path.precision, path.rebuilt) == (name, precision, multiples is not None)
    assert (path.hidden_multiple, path.rows_multiple, path.inputs_multiple) == (multiples or (1, 1, 1))
    assert path.why


def test_levers():
    assert chosen("lstm", 512, 128, zoneout=0.1).name == "plain"
    assert chosen("lstm", 512, 128, weight_drop=0.5).name == "stack"
    path = chosen("gru", 512, 128, weight_drop=0.5)
    assert (path.name, path.rebuilt, path.hidden_multiple) == ("stock", True, 1)


@pytest.mark.parametrize(("cell", "levers"), [("mingru", {}), ("lstm", {"zoneout": 0.1})])
def test_16_bits_are_refused_where_nothing_computes_with_them(cell, levers):
    with pytest.raises(ConfigError, match="--precision fp16"):
        chosen(cell, 512, 64, "fp16", **levers)


def test_the_words_say_what_is_padded():
    words = chosen("lstm", 500, 100).words(500, 100)
    assert words == "stack, 500 neurons as 512, 100 rows as 104: cuDNN keeps the weights on the chip"
    assert chosen("gru", 512, 128).words(512, 128) == "stock: torch asks for no persistent kernel for GRU"


def test_doctor_and_the_plans_line_say_what_runs(monkeypatch):
    monkeypatch.setattr("charrnn.model.paths.find_gpu", lambda _: H200)
    rows = _training_on_cuda(True)
    assert rows["training lstm 512 × 128 on cuda"] == "fp16 stack: cuDNN keeps the weights on the chip"
    assert rows["training lstm 2048 × 128 on cuda"].startswith(
        "tf32 stock: the persistent kernel ends at 1024"
    )
    assert _training_on_cuda(False) == {"training on cuda": "not available"}
    model, training = ModelConfig("lstm", 500, 2, 32, 0.0), TrainingConfig(batch_size=128)
    trainer = SimpleNamespace(
        device=torch.device("cuda"),
        precision="fp16",
        team=ALONE,
        job=SimpleNamespace(config=Config(model=model, training=training)),
        step=SimpleNamespace(path=chosen("lstm", 500, 128)),
    )
    assert where(trainer) == "cuda fp16 (stack, 500 neurons as 512: cuDNN keeps the weights on the chip)"


def algorithms(cell, precision, hidden, inputs, rows, gpu):
    """cuDNN's algorithm forward and backward: ``get_algo`` of ATen/native/cudnn/RNN.cpp, in Python."""
    gated = cell in ("lstm", "gru")
    major, minor = gpu.capability

    def persistent():
        if not (hidden <= 1024 and hidden % 128 == 0 and inputs % 128 == 0 and precision == "fp16"):
            return False
        if major < 8 or gpu.processors < 98 or minor == 6 or cell == "gru":
            return False
        return rows % 8 == 0 and rows <= 128 and (cell == "lstm" or rows < 96 or hidden < 896)

    def algorithm(small):
        return "small" if hidden <= small else "persistent" if persistent() else "standard"

    return algorithm(192 if gated else 384), algorithm(128 if gated else 256)


def test_on_every_path_torch_picks_the_algorithm_it_was_chosen_for():
    seen = set()
    for cell in ("lstm", "gru", "elman"):
        for hidden in (1, 64, 127, 128, 129, 160, 192, 193, 256, 300, 640, 897, 1000, 1024, 1025, 2048):
            for rows in (1, 7, 44, 45, 64, 95, 100, 128, 129, 256):
                for gpu in (H200, A100, A10, L40):
                    for precision in ("auto", "fp32", "fp16", "bf16"):
                        path = chosen(cell, hidden, rows, precision, gpu)
                        size, batch = up(hidden, path.hidden_multiple), up(rows, path.rows_multiple)
                        inputs = up(32, path.inputs_multiple)
                        found = algorithms(cell, path.precision, size, inputs, batch, gpu)
                        above = algorithms(cell, path.precision, size, size, batch, gpu)
                        seen.add((path.name, *found))
                        if path.name == "stack":
                            assert "standard" not in (*found, *above)
                            assert cell == "elman" or found == above == ("persistent", "persistent")
                        if cell != "elman" and rows >= 45:
                            assert found != ("small", "standard")
                        if path.name == "stock" and precision == "auto":
                            padded = up(hidden, 128), 128, up(rows, 8)
                            best = algorithms(cell, "fp16", *padded, gpu)
                            assert found == ("small", "small") or "persistent" not in best
    assert {("stack", "persistent", "persistent"), ("stock", "small", "small")} <= seen
