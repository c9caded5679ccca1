"""A warm start: nothing that the old network knew is moved, and where it comes from is recorded."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

import charrnn
from charrnn.runs import find_checkpoint, load_checkpoint
from charrnn.training import start

SETTINGS = {
    "model.hidden_size": 12,
    "model.num_layers": 2,
    "model.dropout": 0.0,
    "training.batch_size": 4,
    "training.seq_len": 8,
    "training.steps": 30,
    "training.num_evals": 1,
}


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "old.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    (tmp_path / "new.txt").write_text("ÄÖÜ the fox! " * 120, encoding="utf-8")
    return tmp_path


def train(folder, name, **how):
    list(charrnn.train(str(folder / how.pop("text")), run=str(folder / name), device="cpu", **how))
    return load_checkpoint(find_checkpoint(folder / name, last=True))


def begun_with_the_old(texts):
    return start.start(
        [str(texts / "new.txt")],
        run=str(texts / "new"),
        init_from=str(texts / "old"),
        settings={"training.steps": 1, "training.seq_len": 8},
        device="cpu",
    )


@pytest.mark.parametrize("embedding", [0, 5])
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman", "elman_relu", "compressor"])
def test_the_old_network_is_still_there(cell, embedding, texts):
    settings = SETTINGS | {"model.cell": cell, "model.embedding_size": embedding}
    base = train(texts, "old", text="old.txt", settings=settings)
    trainer = begun_with_the_old(texts)
    old, new = base.vocabulary, trainer.job.vocabulary
    text = "the lazy dog jumps over the fox"
    assert len(new) == len(old) + 4 and new.encode(text).tolist() == old.encode(text).tolist()
    assert trainer.job.config.model == base.config.model  # no flag was needed for the shape
    ids = torch.tensor([[0, *old.encode(text)]])
    before, _ = base.network.reference(ids, base.network.initial_state(1))
    after, _ = trainer.network.reference(ids, trainer.network.initial_state(1))
    torch.testing.assert_close(after[..., : len(old)], before, rtol=1e-5, atol=1e-5)
    mass = after.softmax(-1)[..., len(old) :].sum(-1)
    change = before.log_softmax(-1) - after.log_softmax(-1)[..., : len(old)]
    torch.testing.assert_close(change[..., 0], -torch.log1p(-mass), rtol=1e-3, atol=1e-5)
    # four symbols of the mean logit have less than the share of four among all (Jensen's inequality)
    assert 0 < mass.max() < 4 / len(new)
    mean = before.mean(-1, keepdim=True).expand(-1, -1, 4)
    torch.testing.assert_close(after[..., len(old) :], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "names"),
    [("compressor", {"readout", "predictor"}), ("jordan", {"readout", "layers.0.outputs"})],
)
def test_whatever_predicts_symbols_predicts_new_ones_with_the_mean(cell, names, texts):
    base = train(texts, "old", text="old.txt", settings=SETTINGS | {"model.cell": cell, "training.steps": 2})
    trainer = begun_with_the_old(texts)
    found = {name: part for name, part in trainer.network.named_modules() if isinstance(part, nn.Linear)}
    assert found.keys() == names
    for name, readout in found.items():
        values = torch.randn(3, readout.in_features)
        logits, before = readout(values), base.network.get_submodule(name)(values)
        torch.testing.assert_close(logits[:, :-4], before)
        torch.testing.assert_close(logits[:, -4:], before.mean(1, keepdim=True).expand(-1, 4))


def test_new_symbols_can_be_told_apart_when_they_are_read(texts):
    base = train(texts, "old", text="old.txt", settings=SETTINGS | {"model.embedding_size": 0})
    trainer = begun_with_the_old(texts)
    count = len(base.vocabulary)
    found = trainer.network.layers[0].weight_ih_l0
    torch.testing.assert_close(found[:, :count], base.network.layers[0].weight_ih_l0, rtol=0, atol=0)
    assert torch.linalg.matrix_rank(found[:, count:]) == 4


def test_a_run_says_what_it_began_with_and_keeps_it_when_resumed(texts):
    train(texts, "first", text="old.txt", settings=SETTINGS)
    short = {"training.steps": 6, "training.seq_len": 8, "training.batch_size": 4}
    train(texts, "second", text="new.txt", settings=short, init_from=str(texts / "first"))
    third = train(texts, "third", text="old.txt", settings=short, init_from=str(texts / "second"))
    origins = third.corpus["init_from"]
    assert [origin["run"] for origin in origins] == ["second", "first"]
    for origin in origins:
        path = find_checkpoint(texts / origin["run"])
        assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert origin["step"] == load_checkpoint(path).progress["step"]
    resumed = start.resume(str(texts / "third"), device="cpu")
    assert resumed.job.record["init_from"] == origins
    first = load_checkpoint(find_checkpoint(texts / "first"))
    assert "init_from" not in first.corpus
