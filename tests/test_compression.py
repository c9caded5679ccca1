"""Compression: exact round trips, the cost that ``evaluate`` reports, numbers that no machine can change."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

import charrnn
from charrnn.cli.main import app
from charrnn.compression import archive, block, fixed_point
from charrnn.compression import network as fixed_network
from charrnn.compression.archive import compress, decompress, load_model
from charrnn.compression.coder import RangeDecoder, RangeEncoder
from charrnn.compression.header import MAGIC, Header
from charrnn.compression.network import FixedPointNetwork
from charrnn.compression.symbols import Alphabet
from charrnn.compression.view import View
from charrnn.config import Config
from charrnn.errors import CheckpointError, RunError, TextError
from charrnn.model.network import Network
from charrnn.runs import DEMO, save_model
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import find_sources
from charrnn.text.vocabulary import Vocabulary

CELLS = sorted(fixed_network.CELLS)
KNOWN = "abcdefgh \n"


def make_model(path: Path, *, cell="lstm", kind="chars", embedding=4, documents="files", scale=3.0, **text):
    """Write a model file with weights that reach into the bends of every function."""
    config = Config().updated(
        {
            "model.cell": cell,
            "model.hidden_size": 11,
            "model.num_layers": 2,
            "model.embedding_size": embedding,
        }
        | {"model.dropout": 0.0, "text.documents": documents, "text.symbols": kind}
        | {f"text.{name}": value for name, value in text.items()}
    )
    vocabulary = Vocabulary.of_bytes() if kind == "bytes" else Vocabulary.of_chars(map(ord, KNOWN))
    network = Network(config.model, len(vocabulary), seed=5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    save_model(path, network, config, vocabulary, {}, {})
    return load_model(path)


def round_trip(model, data: bytes, folder: Path) -> int:
    """Compress and decompress; return the compressed size."""
    (folder / "in").write_bytes(data)
    result = compress(model, folder / "in", folder / "out")
    assert decompress(model, folder / "out", folder / "back") == len(data)
    assert (folder / "back").read_bytes() == data
    assert result.bytes_in == len(data) and result.bytes_out == (folder / "out").stat().st_size
    return result.bytes_out


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "mine.safetensors")


# --- numbers


def test_tables_are_the_functions_to_the_nearest_step():
    x = np.linspace(-20, 20, 4001)
    total = np.rint(x * 2.0**36)
    for name, function, slope in (("sigmoid", lambda x: 1 / (1 + np.exp(-x)), 0.25), ("tanh", np.tanh, 1.0)):
        found = getattr(fixed_point, name)(total) / fixed_point.ONE
        assert np.abs(found - function(x)).max() < slope * 2.0**-12 + 2.0**-19
    logits = np.array([0.0, -1.0, -5.5, -12.0, -300.0])
    found = fixed_point.weights(np.rint(logits * 2.0**36)) - 1
    np.testing.assert_allclose(found, 2.0**26 * np.exp(logits), rtol=2.0**-13, atol=0.5)


def decimal_exp(x: Fraction) -> Fraction:
    with localcontext() as context:
        context.prec = 40
        return Fraction((Decimal(x.numerator) / Decimal(x.denominator)).exp())


def nearest(x: Fraction) -> int:
    """Return the nearest whole number, halves to even: what ``rint`` does."""
    return round(x)


class SlowNetwork:
    """The network once more: Python's whole numbers and fractions, and ``decimal``, one unit at a time."""

    def __init__(self, cell: str, tensors: dict[str, np.ndarray], layers: int, hidden: int) -> None:
        self.cell, self.layers, self.hidden = cell, layers, hidden
        self.whole = {
            name: [[nearest(Fraction(float(v)) * 2**18) for v in row] for row in np.atleast_2d(tensor)]
            for name, tensor in tensors.items()
        }

    def sums(self, name: str, inputs: list[int]) -> list[int]:
        matrix = self.whole[name]
        bias = self.whole[name.replace("weight", "bias")][0]
        order = random.Random(str(inputs)).sample(range(len(inputs)), len(inputs))
        return [
            sum(row[i] * inputs[i] for i in order) + (b << 18) for row, b in zip(matrix, bias, strict=True)
        ]

    def sigmoid(self, total: int) -> int:
        k = max(-13 << 11, min(13 << 11, nearest(Fraction(total, 2**25))))
        e = decimal_exp(Fraction(-abs(k), 2**11))
        right = int(2**18 / (1 + e) + Fraction(1, 2))
        return right if k >= 0 else 2**18 - right

    def tanh(self, total: int) -> int:
        k = max(-7 << 11, min(7 << 11, nearest(Fraction(total, 2**25))))
        e = decimal_exp(Fraction(-2 * abs(k), 2**11))
        right = int(2**18 * (1 - e) / (1 + e) + Fraction(1, 2))
        return right if k >= 0 else -right

    def unit(self, inputs: list[int], recurrent: list[int], state: list[list[int]], j: int) -> list[int]:
        """Return the new state of one neuron."""
        a, u = inputs[j :: self.hidden], recurrent[j :: self.hidden]
        both = [x + y for x, y in zip(a, u, strict=True)]
        if self.cell == "lstm":
            i, f, o = (self.sigmoid(both[k]) for k in (0, 1, 3))
            c = nearest(Fraction(f * state[1][j] + i * self.tanh(both[2]), 2**18))
            return [nearest(Fraction(o * self.tanh(c << 18), 2**18)), c]
        if self.cell == "gru":
            r, z = self.sigmoid(both[0]), self.sigmoid(both[1])
            n = self.tanh(a[2] + r * nearest(Fraction(u[2], 2**18)))
            return [n + nearest(Fraction(z * (state[0][j] - n), 2**18))]
        return [self.tanh(both[0]) if self.cell == "elman" else max(0, nearest(Fraction(both[0], 2**18)))]

    def frequencies(self, ids: list[int]) -> list[list[int]]:
        parts = 2 if self.cell == "lstm" else 1
        state = [[[0] * self.hidden for _ in range(parts)] for _ in range(self.layers)]
        return [self.step(index, state) for index in ids]

    def step(self, index: int, state: list[list[list[int]]]) -> list[int]:
        embedding = self.whole.get("embedding.weight")
        size = len(self.whole["readout.weight"])
        if index == 0:
            state[:] = [[[0] * self.hidden for _ in layer] for layer in state]
        below = embedding[index] if embedding else [2**18 * (k == index) for k in range(size)]
        for n in range(self.layers):
            inputs = self.sums(f"layers.{n}.weight_ih_l0", below)
            recurrent = self.sums(f"layers.{n}.weight_hh_l0", state[n][0])
            units = [self.unit(inputs, recurrent, state[n], j) for j in range(self.hidden)]
            state[n] = [list(part) for part in zip(*units, strict=True)]
            below = state[n][0]
        logits = self.sums("readout.weight", below)
        return [self.weight(max(logits) - logit) for logit in logits]

    def weight(self, below: int) -> int:
        k = min(19 << 12, nearest(Fraction(below, 2**24)))
        return 1 + int(2**26 * decimal_exp(Fraction(-k, 2**12)) + Fraction(1, 2))


@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_frequencies_are_those_of_a_slow_loop_over_whole_numbers(cell, embedding, tmp_path):
    model = make_model(tmp_path / "m.safetensors", cell=cell, embedding=embedding)
    ids = [0, 3, 4, 3, 9, 0, 1, 7, 7, 2, 11]
    state, found = model.network.start(1), []
    for index in ids:
        weights, state = model.network.step(np.array([index]), state)
        found.append(weights[0].tolist())
    slow = SlowNetwork(cell, load_file(tmp_path / "m.safetensors"), 2, 11)
    assert found == slow.frequencies(ids)


@pytest.mark.parametrize("cell", CELLS)
def test_neither_the_order_of_units_nor_neighbours_change_a_frequency(cell, tmp_path):
    model = make_model(tmp_path / "m.safetensors", cell=cell)
    tensors = load_file(tmp_path / "m.safetensors")
    order = np.random.default_rng(1).permutation(11)
    rows = np.concatenate([order + 11 * gate for gate in range(fixed_network.CELLS[cell].gates)])
    mixed = {}
    for name, tensor in tensors.items():
        tensor = tensor[rows] if name.startswith("layers") else tensor
        inner = name in ("readout.weight", "layers.1.weight_ih_l0") or name.endswith("weight_hh_l0")
        mixed[name] = np.ascontiguousarray(tensor[:, order] if inner else tensor)
    other = FixedPointNetwork(model.config.model, model.vocabulary, mixed)
    assert other.digest != model.network.digest
    ids = np.random.default_rng(2).integers(0, 12, (40, 5))
    one, two, many = model.network.start(1), other.start(1), model.network.start(5)
    for row in ids:
        first, one = model.network.step(row[:1], one)
        second, two = other.step(row[:1], two)
        beside, many = model.network.step(row, many)
        assert first.tolist() == second.tolist() == beside[:1].tolist()


@pytest.mark.parametrize(
    "name", ["layers.0.weight_ih_l0", "layers.1.bias_ih_l0", "layers.1.weight_ih_l0", "readout.weight"]
)
def test_weights_whose_sums_would_not_be_exact_are_refused(name, model, tmp_path):
    tensors = load_file(tmp_path / "mine.safetensors")
    tensors[name] = tensors[name] * np.float32(1e7)
    with pytest.raises(RunError, match="too large for exact arithmetic"):
        FixedPointNetwork(model.config.model, model.vocabulary, tensors)


def test_a_rectified_network_that_explodes_stays_exact(tmp_path):
    model = make_model(tmp_path / "m.safetensors", cell="elman_relu", scale=40.0)
    state, largest = model.network.start(3), 0.0
    for _ in range(60):
        _, state = model.network.step(np.array([2, 3, 4]), state)
        largest = max(largest, state[1][0].max())
        assert all((part == np.rint(part)).all() for layer in state for part in layer)
    assert largest == model.network._limit


# --- coder


@pytest.mark.parametrize("seed", range(4))
def test_intervals_come_back_at_the_cost_of_their_entropy(seed):
    chooser = random.Random(seed)
    symbols = []
    for _ in range(3000):
        total = chooser.choice([2, 256, 2**26 + 3, 2**40])
        begin, size = chooser.choice([(0, 1), (total - 1, 1), (0, total - 1), (1, total - 1)])
        symbols.append((begin, size, total))
    encoder = RangeEncoder()
    for symbol in symbols:
        encoder.encode(*symbol)
    data = encoder.finish()
    decoder = RangeDecoder(data)
    for begin, size, total in symbols:
        assert begin <= decoder.target(total) < begin + size
        decoder.consume(begin, size)
    bits = sum(np.log2(total / size) for _, size, total in symbols)
    assert bits / 8 - 1 <= len(data) <= bits / 8 * 1.0001 + 2


def test_carries_run_through_many_bytes():
    encoder = RangeEncoder()
    encoder._out, encoder._low = bytearray([7, 255, 255]), (1 << 64) + 5
    encoder._range = 1
    assert encoder.finish() == bytes([8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5])


# --- round trips


SPECIAL = [
    b"",
    b"a",
    b"\n",
    b"\xef\xbb\xbfabc",
    b"ab\r\ncd\r\n" * 5,
    b"ab\r\ncd\n\r\r\n",
    b"a\0b\0",
    "aéß漢😀b\u2028\u0800".encode(),
    "\ud800\udfff".encode("utf-8", "surrogatepass"),
    b"\xff\xfe\x80abc\xc3(",
    b"abc\xe2\x82",
    bytes(range(256)),
    b"\n\n\r\nabc\n\n\nab\n",
]


@pytest.mark.parametrize("documents", ["files", "lines", "blank", "[a-d]+"])
@pytest.mark.parametrize("kind", ["chars", "bytes"])
def test_every_file_comes_back(kind, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "STREAM_SYMBOLS", 16)
    monkeypatch.setattr(archive, "BLOCK_BYTES", 150)
    monkeypatch.setattr(archive, "_packed", never_stored(archive._packed))
    model = make_model(tmp_path / "m.safetensors", kind=kind, documents=documents)
    for data in SPECIAL:
        round_trip(model, data, tmp_path)
    chooser = random.Random(f"{kind} {documents}")
    pieces = [*KNOWN, "\r\n", "\r", "é", "漢", "😀", "\n\n"]
    for length in (1, 7, 33, 149, 150, 151, 700):
        text = "".join(chooser.choice(pieces) for _ in range(length)).encode()
        round_trip(model, text, tmp_path)
        noise = bytes(chooser.randrange(256) for _ in range(length // 4))
        round_trip(model, text[: length // 2] + noise + text[length // 2 :], tmp_path)


def never_stored(packed):
    return lambda data, symbols, streams: packed(b" " * 10**6, symbols, streams)


def test_what_no_model_can_shorten_is_stored(model, tmp_path):
    noise = random.Random(1).randbytes(5000)
    assert round_trip(model, noise, tmp_path) < 5000 + 70


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "koi8-r", "shift_jis"])
def test_a_text_in_the_encoding_of_the_run_costs_what_its_utf8_costs(encoding, tmp_path):
    model = make_model(tmp_path / "m.safetensors", encoding=encoding)
    plain = make_model(tmp_path / "p.safetensors")
    letter = {"koi8-r": "ж", "shift_jis": "語"}.get(encoding, "é")
    text = "abc def\n" * 20 + letter
    expected = round_trip(plain, text.encode(), tmp_path)
    assert round_trip(model, text.encode(encoding), tmp_path) <= expected + len(encoding)
    round_trip(model, text.encode(encoding) + b"\xff\x80\x81", tmp_path)  # not in it, still exact


def test_crlf_is_folded_where_the_model_knows_no_cr(model, tmp_path):
    text = b"abc def\ngab\n" * 30
    folded = round_trip(model, text.replace(b"\n", b"\r\n"), tmp_path)
    assert folded == round_trip(model, text, tmp_path)
    assert round_trip(model, text.replace(b"\n", b"\r\n") + b"\n", tmp_path) > folded + 60


def test_views_do_not_depend_on_how_a_file_is_cut():
    data = "aé漢\r\nb\r\n😀".encode("utf-16")
    for size in range(1, len(data)):
        pieces = [data[place : place + size] for place in range(0, len(data), size)]
        seen = list(View("utf-16", crlf=True).forward(pieces))
        assert b"".join(seen).decode() == "aé漢\nb\n😀"
        assert b"".join(View("utf-16", crlf=True).back(seen)) == data


@pytest.mark.parametrize("kind", ["chars", "bytes"])
@pytest.mark.parametrize("documents", ["files", "lines", "blank", "[a-d]+"])
def test_documents_begin_where_training_lets_them_begin(documents, kind, tmp_path):
    text = "ab\ncd\n\nab\n  ef\n\n\n  a\n"
    (tmp_path / "text").write_text(text, newline="")
    config = replace(Config().text, documents=documents, symbols=kind)
    corpus = open_corpus(find_sources([str(tmp_path / "text")]), config)
    vocabulary = Vocabulary.of_bytes() if kind == "bytes" else Vocabulary.of_chars(map(ord, KNOWN))
    ids, symbols, count = Alphabet(vocabulary, documents).read(text.encode())
    assert count == len(text) and (ids[symbols >= 0] == vocabulary.lookup(symbols[symbols >= 0])).all()
    expected = [corpus.text(*part) for part in corpus.documents(0, len(corpus.places))]
    found = "".join("|" if symbol < 0 else chr(symbol) for symbol in symbols).split("|")
    assert len(found) == len(expected) > (documents != "files")
    assert all(one.startswith(other) for one, other in zip(found, expected, strict=True))


# --- cost


@pytest.mark.parametrize(
    ("cell", "kind", "documents"),
    [(cell, "chars", "files") for cell in CELLS] + [("gru", "bytes", "files"), ("lstm", "chars", "lines")],
)
def test_the_cost_is_what_evaluate_reports(cell, kind, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_packed", never_stored(archive._packed))
    scale = 0.9 if cell == "elman_relu" else 1.5  # it begins with the identity, which must not grow
    model = make_model(tmp_path / "m.safetensors", cell=cell, kind=kind, documents=documents, scale=scale)
    chooser = random.Random(3)
    text = "".join(chooser.choice([*KNOWN, "é"]) for _ in range(3000))
    (tmp_path / "text").write_text(text.replace("\n\n", "\na"), encoding="utf-8", newline="")
    scored = charrnn.load(tmp_path / "m.safetensors", device="cpu").evaluate(
        [str(tmp_path / "text")], baselines=False
    )
    result = compress(model, tmp_path / "text", tmp_path / "out")
    expected = scored.bpc * scored.chars / 8
    if documents == "lines":  # nobody taught this network where documents end: that costs log2 V or so
        expected += 3.6 / 8 * (tmp_path / "text").read_text(encoding="utf-8").count("\n")
    assert result.chars == scored.chars
    assert expected * 0.99 < result.bytes_out < expected * 1.01 + 100


def test_a_trained_model_compresses_as_well_as_it_predicts(tmp_path):
    model, demo = load_model("demo"), charrnn.load("demo", device="cpu")
    source = Path(random.__file__)
    text = tmp_path / "random.py"
    text.write_bytes(source.read_bytes()[:6000])
    scored = demo.evaluate([str(text)], baselines=False)
    result = compress(model, text, tmp_path / "out")
    assert result.bytes_out - 100 < 1.002 * scored.bpc * scored.chars / 8 < result.bytes_out
    assert result.bpc < 3


# --- damage


def test_no_flipped_byte_and_no_missing_end_goes_unnoticed(model, tmp_path):
    text = b"abc \xc3\xa9 deadbeef" * 3
    round_trip(model, text, tmp_path)
    whole = (tmp_path / "out").read_bytes()
    broken, back = tmp_path / "broken", tmp_path / "back"
    back.unlink()
    for place in range(len(whole)):
        for change in (1, 128, 255):
            data = bytearray(whole)
            data[place] ^= change
            broken.write_bytes(data)
            with pytest.raises((TextError, RunError)):
                decompress(model, broken, back)
        broken.write_bytes(whole[:place])
        with pytest.raises(TextError):
            decompress(model, broken, back)
    broken.write_bytes(whole + b"\0")
    with pytest.raises(TextError):
        decompress(model, broken, back)
    assert not back.exists() and not list(tmp_path.glob("*.part"))


def test_a_block_with_a_right_checksum_that_no_encoder_wrote_is_refused(model, tmp_path):
    """Whoever makes checksums right still meets one error, in bounded time and memory."""
    chooser = random.Random(5)
    for _ in range(60):
        size = chooser.choice([0, 1, 50, 3000])
        header = Header(model.digest, bytes(16), size, View("", chooser.choice([True, False])), "x")
        streams = [chooser.randbytes(chooser.choice([0, 9, 60])) for _ in range(chooser.choice([1, 2]))]
        symbols = chooser.choice([0, 1, 100, 2 * size, 10**9, 2**62])
        (tmp_path / "bad").write_bytes(header.to_bytes() + archive._packed(b" " * 999, symbols, streams))
        with pytest.raises(TextError):
            decompress(model, tmp_path / "bad", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_size_that_cannot_be_believed_needs_a_word(model, tmp_path):
    header = Header(model.digest, bytes(16), 1 << 40, View(), "x").to_bytes()
    (tmp_path / "bomb").write_bytes(header)
    with pytest.raises(TextError, match="1,099,511,627,776 bytes") as caught:
        decompress(model, tmp_path / "bomb", tmp_path / "back")
    assert "--max-bytes 1099511627776" in caught.value.hint
    with pytest.raises(TextError, match="damaged"):
        decompress(model, tmp_path / "bomb", tmp_path / "back", max_bytes=1 << 40)


def test_a_largest_size_of_nothing_is_no_default(model, tmp_path):
    round_trip(model, b"abc", tmp_path)
    with pytest.raises(TextError, match="becomes 3 bytes"):
        decompress(model, tmp_path / "out", tmp_path / "zero", max_bytes=0)


def test_a_file_beside_the_target_is_left_alone(model, tmp_path):
    (tmp_path / "out.part").write_bytes(b"mine")
    (tmp_path / "back.part").symlink_to(tmp_path / "out.part")
    round_trip(model, b"abc", tmp_path)
    assert (tmp_path / "out.part").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir() if ".part-" in path.name) == []


def test_another_model_is_refused_by_name(model, tmp_path):
    round_trip(model, b"abc", tmp_path)
    other = make_model(tmp_path / "other.safetensors", scale=2.9)
    with pytest.raises(
        RunError, match=f"needs the model {model.digest.hex()[:12]} of the run `mine`.*`other`"
    ):
        decompress(other, tmp_path / "out", tmp_path / "back")


def test_a_later_format_and_foreign_files_are_refused(model, tmp_path):
    for data, words in ((MAGIC + b"\2" + bytes(60), "format 2"), (b"hello", "not written by")):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(TextError, match=words):
            decompress(model, tmp_path / "x", tmp_path / "back")


def test_a_cell_without_exact_arithmetic_is_refused(tmp_path, monkeypatch):
    monkeypatch.delitem(fixed_network.CELLS, "gru")
    with pytest.raises(RunError, match="cell `gru`"):
        make_model(tmp_path / "m.safetensors", cell="gru")


def test_weights_that_do_not_fit_the_config_are_refused(model):
    tensors = load_file(DEMO)
    with pytest.raises(CheckpointError, match="names and shapes"):
        FixedPointNetwork(model.config.model, model.vocabulary, tensors)
    with pytest.raises(CheckpointError, match="names and shapes"):
        FixedPointNetwork(replace(model.config.model, num_layers=1), model.vocabulary, tensors)


def test_a_source_that_changes_meanwhile_is_an_error(model, tmp_path):
    source = tmp_path / "in"
    source.write_bytes(b"abc" * 100)
    with pytest.raises(TextError, match="has changed"):
        compress(model, source, tmp_path / "out", lambda _: source.write_bytes(b"abd" * 100) and None)
    assert not (tmp_path / "out").exists()


# --- the commands


def test_the_commands(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_bytes(b"abc def\n" * 50)
    runner = CliRunner()
    found = runner.invoke(app, ["compress", "mine.safetensors", "text", "-o", "small", "--json"])
    data = json.loads(found.stdout)
    assert data["bytes_in"] == data["chars"] == 400 and data["bytes_out"] == Path("small").stat().st_size
    assert data["bpc"] == 8 * data["bytes_out"] / 400 and data["xz_bytes"] > 50 < data["bytes_out"]
    found = runner.invoke(app, ["decompress", "mine.safetensors", "small", "-o", "back", "--json"])
    assert json.loads(found.stdout)["bytes_out"] == 400 and Path("back").read_bytes() == b"abc def\n" * 50
    assert "bits per char" in runner.invoke(app, ["compress", "mine.safetensors", "text", "-o", "x"]).stdout
    for arguments, words in (
        (["compress", "mine.safetensors", "nosuch", "-o", "x"], "cannot read `nosuch`"),
        (["compress", "mine.safetensors", "text", "-o", "text"], "is the file to read"),
        (["compress", "mine.safetensors", "text", "-o", "no/such"], "cannot write `no/such`"),
        (["decompress", "mine.safetensors", "text", "-o", "x"], "not written by"),
        (["decompress", "mine.safetensors", "small", "-o", "x", "--max-bytes", "3"], "becomes 400 bytes"),
        (["decompress", "mine.safetensors", "small", "-o", "x", "--max-bytes", "-3"], "at least 0"),
    ):
        found = runner.invoke(app, arguments)
        assert found.exit_code == 1 and words in " ".join(found.stderr.split())
    assert Path("text").read_bytes() == b"abc def\n" * 50


WORKER = """
import sys
from pathlib import Path
from charrnn.compression.archive import compress, load_model
compress(load_model("demo"), Path(sys.argv[1]), Path(sys.argv[2]))
print("torch" in sys.modules)
"""


def test_threads_change_no_byte_and_torch_stays_out(tmp_path):
    (tmp_path / "text").write_bytes(Path(random.__file__).read_bytes()[:1500])
    files = []
    for threads, kernel in (("1", "Haswell"), ("2", "Nehalem")):  # two of OpenBLAS's sets of kernels
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        environment |= {"OPENBLAS_CORETYPE": kernel}
        command = [sys.executable, "-c", WORKER, tmp_path / "text", tmp_path / threads]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        assert output.stdout == "False\n"
        files.append((tmp_path / threads).read_bytes())
    assert files[0] == files[1]
