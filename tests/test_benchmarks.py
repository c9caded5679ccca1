"""What the benchmarks do with what they measured; the measuring itself is not repeated here."""

from __future__ import annotations

import json
import lzma
import sys
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import peers
import quality
import sampling_check
import scaling
import steering
import time_to_quality as timed

from charrnn.config import ModelConfig
from charrnn.model.network import Network

LOG = """\
tokens per iteration will be: 768
found vocab_size = 65 (inside data/shakespeare_char/meta.pkl)
number of parameters: 0.80M
step 0: train loss 4.1676, val loss 4.1649
iter 0: loss 4.1842, time 2630.63ms, mfu -100.00%
iter 1: loss 4.1373, time 37.24ms, mfu -100.00%
step 250: train loss 2.4293, val loss 2.4447
saving checkpoint to out-shakespeare-char
iter 250: loss 2.4032, time 1466.20ms, mfu 0.03%
"""


def stamped(text: str) -> list[tuple[float, str]]:
    return [(10.0 + number, line) for number, line in enumerate(text.splitlines())]


def test_log_of_nanogpt():
    looks = timed.parse_log(stamped(LOG))
    assert looks == [
        {"step": 0, "seconds": 13.0, "train": 4.1676, "val": 4.1649},
        {"step": 250, "seconds": 16.0, "train": 2.4293, "val": 2.4447},
    ]
    assert timed.step_milliseconds(stamped(LOG)) == [2630.63, 37.24, 1466.20]


def test_checkpoints_are_kept_once_they_are_whole(tmp_path):
    """A child that writes as nanoGPT does; what it overwrites was copied before."""
    child = """
import time
from pathlib import Path
Path("out").mkdir()
for step in (2, 4):
    print(f"step {step}: train loss 1.0, val loss {step}.5", flush=True)
    print("saving checkpoint to out", flush=True)
    time.sleep(0.3)
    Path("out/ckpt.pt").write_text(f"weights {step}")
    print(f"iter {step}: loss 1.0, time 1.00ms, mfu 0.00%", flush=True)
    time.sleep(0.3)
"""
    log, ended = timed.follow([sys.executable, "-c", child], tmp_path, limit=60)
    assert ended == "finished"
    assert [look["step"] for look in timed.parse_log(log)] == [2, 4]
    assert [(tmp_path / f"ckpt-{step}.pt").read_text() for step in (2, 4)] == ["weights 2", "weights 4"]


def test_a_training_past_its_limit_is_stopped(tmp_path):
    child = "print('iter 0: loss 1.0, time 5.00ms, mfu 0.00%', flush=True); __import__('time').sleep(60)"
    log, ended = timed.follow([sys.executable, "-c", child], tmp_path, limit=2)
    assert (len(log), ended) == (1, "limit")


def test_a_training_that_fails_is_no_result(tmp_path):
    child = "print('iter 0: loss 1.0, time 5.00ms, mfu 0.00%'); raise SystemExit(3)"
    with pytest.raises(SystemExit, match="failed"):
        timed.follow([sys.executable, "-c", child], tmp_path, limit=60)


@pytest.mark.parametrize(("count", "stride"), [(23, 4), (24, 4), (5, 8), (1, 1)])
def test_whole_loss_scores_every_character_once(count, stride):
    """Beside a slow loop over characters, for a model whose logits need exactly the last three characters."""
    vocab_size, block = 7, 12
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(vocab_size, vocab_size, vocab_size, vocab_size, generator=generator)
    ids = torch.randint(vocab_size, (block + count,), generator=generator)

    def network(read, targets):
        assert read.shape == targets.shape == (len(read), block)
        earlier = [torch.nn.functional.pad(read, (lag, 0))[:, :block] for lag in (2, 1, 0)]
        return table[tuple(earlier)], None

    slow = [
        -table[tuple(ids[place - 3 : place])].log_softmax(0)[ids[place]] for place in range(block, len(ids))
    ]
    assert timed.whole_loss(network, ids, block, stride) == pytest.approx(float(sum(slow)) / count, rel=1e-5)


def test_text_is_prepared_as_nanogpt_reads_it(tmp_path):
    import numpy as np

    text = tmp_path / "text"
    text.write_bytes("ca\r\nba é".encode() * 3)
    timed.prepare(text, tmp_path / "data")
    ids = [np.fromfile(tmp_path / "data" / f"{name}.bin", dtype=np.uint16) for name in ("train", "val")]
    assert [len(part) for part in ids] == [21, 3]
    letters = "\n\r abcé"
    assert "".join(letters[number] for part in ids for number in part) == "ca\r\nba é" * 3


OURS = [{"step": 1, "seconds": 4.0, "loss": 2.5}, {"step": 9, "seconds": 30.0, "loss": 1.7}]
OURS += [{"step": 20, "seconds": 50.0, "loss": 1.6}]
THEIRS = [{"step": 250, "seconds": 40.0, "loss": 2.2}, {"step": 500, "seconds": 80.0, "loss": 1.87}]
REPEAT = {
    "order": ["ours", "nanogpt"],
    "ours": {"curve": OURS},
    "nanogpt": {"curve": THEIRS, "printed": [{"step": 500, "seconds": 80.0, "val": 1.95}]},
}


def test_summary_tells_when_each_came_to_a_loss():
    found = timed.summary(REPEAT)
    assert found["ours"] == {"1.88": 30.0, "1.60": 50.0}
    assert found["nanogpt"] == {"1.88": 80.0, "1.60": None}
    assert found["nanogpt_as_printed"] == {"1.88": None, "1.60": None}
    assert found["ours_to_nanogpt_best"] == {"its best": 30 / 80, "1.88": 30 / 80, "1.60": 50 / 80}


def test_our_curve_begins_when_the_command_does():
    log = ['{"event": "step", "step": 1, "loss": 4.1}']
    log += ['{"event": "eval", "step": 7, "loss": 2.0, "bpc": 2.9, "chars": 5, "best": true, "seconds": 3.5}']
    assert timed.our_curve(log, late=0.5) == [{"step": 7, "seconds": 4.0, "loss": 2.0}]


def test_picture_has_every_point_where_it_belongs():
    machine = {"text": "a & b", "cpu": "c", "cores": 2, "torch": "2", "date": "d"}
    svg = timed.picture(machine | {"repeats": [REPEAT]})
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points").split() for line in root.iter(f"{space}polyline")]
    assert [len(points) for points in lines] == [2, 3]  # nanoGPT's, then ours
    assert len(list(root.iter(f"{space}circle"))) == 5
    x, y = zip(*[map(float, point.split(",")) for points in lines for point in points], strict=True)
    # seconds are linear from the left edge, losses from the top one, where 3.0 nats are
    assert x[0] - timed.LEFT == pytest.approx((x[1] - timed.LEFT) / 2, abs=1)
    seconds, losses = [p["seconds"] for p in THEIRS + OURS], [p["loss"] for p in THEIRS + OURS]
    assert [rank(x), rank(y)] == [rank(seconds), rank([-loss for loss in losses])]
    assert (y[0] - timed.TOP) / (y[1] - timed.TOP) == pytest.approx((3 - 2.2) / (3 - 1.87), rel=0.01)


def rank(values) -> list[int]:
    return sorted(range(len(values)), key=lambda index: values[index])


def test_packed_and_cut_texts_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "TEXTS", tmp_path)
    (tmp_path / "t.txt.xz").write_bytes(lzma.compress(b"0123456789"))
    work = tmp_path / "work"
    work.mkdir()
    whole, cut = quality.Recipe("t.txt.xz", 1), quality.Recipe("t.txt.xz", 1, size=4)
    path = Path(quality.text_of(work, cut))
    assert (path.parent, path.read_bytes()) == (work, b"0123")
    path.unlink()
    assert Path(quality.text_of(work, whole)).read_bytes() == b"0123456789"
    assert quality.text_of(work, quality.RECIPES["stdlib"]) == "stdlib"
    assert quality.text_of(work, quality.Recipe("t.txt", 1)) == str(tmp_path / "t.txt")


def test_a_record_keeps_every_look_on_one_line(tmp_path):
    place = tmp_path / "runs" / "x"
    place.mkdir(parents=True)
    events = [{"event": "eval", "step": n, "seconds": n / 3, "loss": 2 / n, "bpc": 0} for n in (1, 2)]
    events.insert(1, {"event": "step", "step": 1, "seconds": 9, "loss": 9})
    (place / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = quality.looks(tmp_path)
    assert found == [[1, 0.3, 2.0], [2, 0.7, 1.0]]
    text = quality.as_text({"log": found, "rows": [{"a": [1, 2]}], "words": ["x, y", "z"]})
    assert json.loads(text) == {"log": found, "rows": [{"a": [1, 2]}], "words": ["x, y", "z"]}
    assert "  [ 1, 0.3, 2.0 ],\n" in text


def test_a_record_is_done_if_it_answers_the_same_question(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "commit", lambda: "abc-dirty")
    asked = {"recipe": "linux-15", "seed": 1, "minutes": 15}
    path = tmp_path / "record.json"
    assert not quality.is_done(path, asked)
    for commit in ("abc", "abc-dirty"):
        path.write_text(json.dumps(asked | {"commit": commit}))
        assert quality.is_done(path, asked)
    assert not quality.is_done(path, asked | {"minutes": 3})
    path.write_text(json.dumps(asked | {"commit": "abd"}))
    assert not quality.is_done(path, asked)


def test_an_interrupted_training_is_resumed(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(quality, "run", lambda folder, *words: called.append(words) or {"command": "x"})
    recipe = quality.RECIPES["stdlib"]
    first = quality.train(tmp_path, recipe, "3")
    (tmp_path / "runs" / "stdlib" / "last").mkdir(parents=True)
    second = quality.train(tmp_path, recipe, "3")
    assert called[0] == ("train", "stdlib", "--minutes", "4", "--seed", "3") and "resumed" not in first
    assert called[1] == ("train", "--resume", str(tmp_path / "runs" / "stdlib"))
    assert second == {"command": "charrnn train stdlib --minutes 4 --seed 3", "resumed": True}


@pytest.mark.parametrize(("members", "length"), [(2, 4), (8, 24), (5, 20)])
def test_the_model_of_many_gpus_counts_the_bytes_of_a_ring(members, length):
    """A ring that passes pieces on, first adding to them, then keeping them, until all have the sum."""
    arrays = torch.randint(100, (members, length))
    wanted = arrays.sum(0)
    pieces = [list(array.split(length // members)) for array in arrays.clone()]
    sent = torch.zeros(members)
    for turn in range(2 * (members - 1)):
        passed = [(m, (m - turn) % members) for m in range(members)]
        messages = [(m, place, pieces[m][place].clone()) for m, place in passed]
        for member, place, piece in messages:
            sent[member] += 4 * len(piece)
            target = pieces[(member + 1) % members]
            target[place] = piece + target[place] if turn < members - 1 else piece
    assert all(torch.equal(torch.cat(own), wanted) for own in pieces)
    assert set(sent.tolist()) == {scaling.all_reduce_bytes(members, 4 * length)}


def test_the_model_of_many_gpus_is_the_formula_of_its_document():
    work = scaling.WORKS[1]  # 2 layers of 2048, 256 timesteps
    weights = 4 * 2048 * (32 + 2048) + 4 * 2048 * 4096 + 2048 * 256
    parts = scaling.seconds(work, 64, 16)
    assert parts["compute"] == pytest.approx(6 * weights * 16 * 256 / 1e13)
    near, far = 2 * 7 / 8 * 4 * weights / 300e9, 2 * 7 / 8 * 4 * weights / 8 / 40e9
    assert parts["all_reduce"] == pytest.approx(near + far + 2 * (3 * 5e-6 + 3 * 15e-6))
    assert parts["masks"] == pytest.approx(2 * 256 * 64 * 16 * 2048 * 2 / 1e12)
    assert parts["told"] == pytest.approx(6 * 60e-6)
    assert scaling.seconds(work, 1, 16)["all_reduce"] == 0
    assert scaling.seconds(work, 512, 1)["compute"] == pytest.approx(2 * 256 * 20e-6)


@pytest.mark.parametrize(("cell", "layers", "embedding"), [("lstm", 2, 5), ("gru", 1, 0)])
def test_greedy_choices_are_compared_with_torch(cell, layers, embedding, monkeypatch):
    network, other = (Network(ModelConfig(cell, 20, layers, embedding, 0.0), 15, seed) for seed in (1, 2))
    with torch.no_grad():
        for each in (network, other):
            each.readout.weight.mul_(8)  # else the choice hardly depends on the state
        expected, _ = network.reference(torch.arange(12)[None], network.initial_state(1))
    torch.testing.assert_close(sampling_check.torch_logits(network, torch.arange(12)), expected[0])
    assert sampling_check.greedy(network, 930) == {"compared": 950, "differ": 0}
    weights = sampling_check.network_weights(other)
    monkeypatch.setattr(sampling_check, "network_weights", lambda _: weights)
    assert sampling_check.greedy(network, 930)["differ"] > 100


PEER = """
data = open('input.txt', 'r').read()
print 'data has %d characters.' % (len(data), )

def lossFun(inputs, targets, hprev):
  return len(inputs)

def sample(h, seed_ix, n):
  open('spoken', 'a').write('%d %d %d\\n' % (h, seed_ix, n))
  return [0] * n

n, hprev = 0, 5
while True:
  inputs = [ord(ch) for ch in data[n % 50:n % 50 + 25]]
  if n % 2 == 0:
    print '----\\n %s \\n----' % (len(sample(hprev, inputs[0], 200)), )
  loss = lossFun(inputs, inputs, hprev)
  if n % 2 == 0: print 'iter %d, loss: %f' % (n, loss) # print progress
  for t in xrange(1):
    n += 1
  open('steps', 'w').write(str(n))
"""


def test_a_peers_own_loop_takes_the_steps_that_are_asked_for(tmp_path):
    (tmp_path / "min-char-rnn.py").write_text(PEER)
    (tmp_path / "input.txt").write_text("abc" * 100)
    with peers.Side("its min-char-rnn", tmp_path) as side:
        for what, count, steps in (("train", 3, "3"), ("speak", 2, "3"), ("train", 1, "4")):
            side.ask(what, count)
            assert (tmp_path / "steps").read_text() == steps
    assert (tmp_path / "spoken").read_text() == f"5 {ord('a')} 200\n"  # asked for; its own are left out
    assert side.returncode == 0


def test_a_peer_of_another_version_is_told(tmp_path, capfd):
    (tmp_path / "min-char-rnn.py").write_text("print(1)")
    with peers.Side("its min-char-rnn", tmp_path) as side, pytest.raises(SystemExit, match="ended"):
        side.ask("train")
    assert "has no line that begins with `while True:`" in capfd.readouterr().err


def test_a_peer_stands_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "TURN_SECONDS", 0.01)
    script, text = tmp_path / "theirs.py", tmp_path / "words.txt"
    script.write_text(PEER)
    text.write_text("some words and others, " * 300)
    found = peers.compared("min-char-rnn", script, tmp_path, Namespace(text=text, rounds=1))
    assert found["rounds"] == 1 and found["ours"]["model.cell"] == "elman"
    for what in ("train", "speak"):
        ratio = found[what]["ours"] / found[what]["theirs"]
        assert found[what]["ratio"]["median"] == pytest.approx(ratio)


def test_lengths_of_lines_and_their_intervals():
    """Behind the warm-up each text has lines of its own length; what changes nothing has an interval of 0."""
    lengths = [10, 20, 40, 80]
    texts = ["x" * 60 + ("a" * (n - 1) + "\n") * (800 // n) for n in lengths]
    found = steering.line_lengths(texts)
    assert found[0] == pytest.approx(4 * 800 / sum(800 / n for n in lengths))
    assert found[1:].min() == 10 and found[1:].max() == 80
    value, low, high = steering.spread(found)
    assert low < value == found[0] < high
    assert steering.line_lengths(["x" * 160] * 3)[0] == 300
    same = steering.Written(tuple(texts), 2.0)
    assert steering.lines_of(same, same) | {"line_length": None} == {
        "line_length": None, "change": (0.0, 0.0, 0.0), "damage_bpc": 0.0
    }  # fmt: skip
    twice = steering.Written(tuple("x" * 60 + text[60:].replace("\n", "b\n") for text in texts), 2.25)
    assert steering.lines_of(twice, same)["damage_bpc"] == 0.25
    assert 0 < steering.lines_of(twice, same)["change"][0] < 0.1
