"""Search by example: the matches equal a slow search's, and what they have in common is counted right."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.config import CELLS, ModelConfig
from charrnn.errors import InspectionError
from charrnn.inspection import examples as module
from charrnn.inspection.examples import Examples, Match, Overlap, _best_of, all_on, find_examples, switched
from charrnn.inspection.hypotheses import TextProfile, get
from charrnn.inspection.pieces import Piece
from charrnn.inspection.record import Recorder, all_neurons, raw_values
from charrnn.inspection.subject import Subject
from charrnn.model.network import new_network
from charrnn.rendering.examples import print_examples
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, "\nabcdefg"))
TABLE = np.array([0, *range(2, 10)])
SPACE, COLUMN = get("is_space"), get("column")
SGR = re.compile(r"\x1b\[[0-9;]*m")
HIDDEN = 13
HARBOUR = Path(__file__).resolve().parents[1] / "corpora" / "harbour.txt"


def make_piece(number, length=300, skip=20):
    random = np.random.default_rng(number)
    text = "".join(random.choice(list("\nabcdefg"), length))
    places = np.array(["\nabcdefg".index(char) + 1 for char in text], np.uint8)
    labels = np.stack([[char in "ab" for char in text], np.arange(length)], 1).astype(np.float32)
    return Piece(text, places, labels, skip, number // 2, 0, number % 2 == 0)


PIECES = [make_piece(number) for number in range(5)]


def subject(pieces=PIECES, cell="lstm", scale=2.5):
    network = new_network(ModelConfig(cell, HIDDEN, 2, embedding_size=0, dropout=0.0), 10, 2).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    profile = TextProfile("prose", 60, 1)
    return Subject("mine", network, network, VOCABULARY, TABLE, pieces, [SPACE, COLUMN], profile)


def signed_on(whole, pieces):
    """Which signed neurons are on at each character, (T, 2 N) bool, without those that nearly always are."""
    neurons = all_neurons(whole.network, whole.network.layers[0].neuron_kind)
    values = raw_values(Recorder(whole.network, whole.table, neurons), pieces)
    on = [np.concatenate([v >= 0.3, v <= -0.3], axis=1) for v in values]
    telling = np.concatenate(on).mean(0) <= 0.9
    return [each & telling for each in on], neurons


def slow_search(whole, example):
    """Every window of every piece: its rank, by shared, union and length."""
    on, _ = signed_on(whole, whole.pieces)
    n = len(example)
    place = next(
        (i, p.text.find(example, p.skip))
        for i, p in enumerate(whole.pieces)
        if p.text.find(example, p.skip) >= 0
    )
    wanted = on[place[0]][place[1] : place[1] + n].all(0)
    found = []
    for i, (piece, each) in enumerate(zip(whole.pieces, on, strict=True)):
        for at in range(piece.skip, len(piece) - n + 1):
            if i == place[0] and abs(at - place[1]) < n:
                continue
            window = each[at : at + n].all(0)
            common = window & wanted
            if not common.any():
                continue
            begin, end = at, at + n
            taken = range(place[1], place[1] + n) if i == place[0] else ()
            while begin > piece.skip and begin - 1 not in taken and each[begin - 1][common].all():
                begin -= 1
            while end < len(piece) and end not in taken and each[end][common].all():
                end += 1
            found.append((-common.sum(), (window | wanted).sum(), begin - end, i, begin, end))
    return wanted, sorted(found)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8])
def test_a_window_is_on_where_all_of_it_is(length):
    random = np.random.default_rng(length)
    bits = random.integers(0, 256, (40, 3), dtype=np.uint8) | random.integers(0, 256, (40, 3), dtype=np.uint8)
    slow = np.stack([np.bitwise_and.reduce(bits[at : at + length]) for at in range(40 - length + 1)])
    np.testing.assert_array_equal(all_on(bits, length), slow)
    assert len(all_on(bits[:2], 5)) == 0


@pytest.mark.parametrize("cell", list(CELLS))
def test_bits_say_which_neurons_are_on(cell):
    whole = subject(cell=cell)
    neurons = all_neurons(whole.network, whole.network.layers[0].neuron_kind)
    recorder = Recorder(whole.network, TABLE, neurons)
    for bits, values in zip(switched(recorder, PIECES), raw_values(recorder, PIECES), strict=True):
        halves = np.unpackbits(bits.reshape(len(bits), 2, -1), axis=2)[:, :, : len(neurons)]
        np.testing.assert_array_equal(halves[:, 0], values >= 0.3)
        np.testing.assert_array_equal(halves[:, 1], values <= -0.3)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_matches_equal_a_slow_search(cell, length):
    whole = subject(cell=cell)
    example = PIECES[1].text[100 : 100 + length]
    found = find_examples(whole, example)
    wanted, slow = slow_search(whole, example)
    _, neurons = signed_on(whole, PIECES)
    names = [(str(n), sign) for sign in (1, -1) for n in neurons]
    assert sorted(found.neurons) == sorted(name for name, on in zip(names, wanted, strict=True) if on)
    best = found.matches[0]
    assert (-best.shared, best.union, -best.length) == slow[0][:3]
    assert len(found.matches) == 10  # two of each of five pieces
    ranks = [(-m.shared, m.union) for m in found.matches]
    assert ranks == sorted(ranks)
    per_document = Counter(match.source.split(",")[0] for match in found.matches)
    assert per_document == {"document 1": 4, "document 2": 4, "document 3": 2}


@pytest.mark.parametrize(("documents", "most"), [(1, 50), (4, 13), (30, 2)])
def test_of_few_documents_so_many_are_taken_that_there_are_fifty(documents, most):
    pieces = [replace(make_piece(n, 120), document=n % documents) for n in range(30)]
    found = find_examples(subject(pieces), pieces[0].text[50])
    assert len(found.matches) == 50
    assert max(Counter(match.source.split(",")[0] for match in found.matches).values()) <= most


def test_matches_are_drawn_from_the_text_with_their_share():
    whole = subject()
    example = PIECES[0].text[150:152]
    found = find_examples(whole, example)
    on, _ = signed_on(whole, PIECES)
    wanted, _ = slow_search(whole, example)
    for match in found.matches:
        document, character = (int(n) for n in re.findall(r"\d+", match.source))
        pieces = [i for i, p in enumerate(PIECES) if p.document == document - 1]
        span = match.text[match.start : match.stop]
        (i,) = [
            i for i in pieces if PIECES[i].text[character - 1 :].startswith(span + match.text[match.stop :])
        ]
        begin = character - 1 - match.start
        assert PIECES[i].text[begin : begin + len(match.text)] == match.text and len(span) == match.length
        share = on[i][begin : begin + len(match.text)][:, wanted].mean(1)
        np.testing.assert_allclose(match.values, share)


def test_the_example_itself_is_no_match_and_spans_do_not_overlap():
    whole = subject([make_piece(0, 400)])
    example = whole.pieces[0].text[200:204]
    found = find_examples(whole, example)
    own = whole.pieces[0].text.find(example, 20)
    assert found.source == f"document 1, character {own + 1:,}"
    spans = [(int(re.findall(r"\d+", m.source)[1]) - 1, m.length) for m in found.matches]
    ends = [(begin, begin + length) for begin, length in [*spans, (own, 4)]]
    ends = sorted(ends)
    assert len(spans) == 2 and all(left[1] <= right[0] for left, right in pairwise(ends))


def test_of_equal_spans_the_longest_is_taken():
    bits = np.zeros((40, 1), np.uint8)
    bits[5:8], bits[20:26] = 128, 128
    spans = list(_best_of(0, make_piece(0, 40, skip=0), bits, np.array([128], np.uint8), 2, None))
    assert [(span.begin, span.end) for span in spans] == [(20, 26), (5, 8)]


def test_a_text_that_is_not_there_is_read_by_itself():
    whole = subject()
    example = "abababab"
    assert not any(example in piece.text for piece in PIECES)
    found = find_examples(whole, example)
    alone = make_piece(0)
    places = np.array(["\nabcdefg".index(char) + 1 for char in example], np.uint8)
    on, neurons = signed_on(whole, [*PIECES, replace(alone, text=example, places=places, skip=0)])
    assert found.source is None and found.neurons
    assert {name for name, _ in found.neurons} <= {
        str(n) for n, a, b in zip(neurons, *np.split(on[-1].all(0), 2), strict=True) if a or b
    }


@pytest.mark.parametrize(("example", "said"), [("", "empty"), ("ax€", "does not know `x` `€`")])
def test_an_example_that_cannot_be_read_is_refused(example, said):
    with pytest.raises(InspectionError, match=said):
        find_examples(subject(), example)


def test_neurons_that_are_always_on_are_no_example():
    whole = subject(scale=1.0)
    with torch.no_grad():
        for parameter in whole.network.parameters():
            parameter.zero_()
        for layer in whole.network.layers:
            layer.bias_ih_l0[:] = 5.0
    with pytest.raises(InspectionError, match="no neuron is on over the whole"):
        find_examples(whole, "ab")


def test_what_matches_have_in_common_is_told_beside_the_base(monkeypatch):
    monkeypatch.setattr(module, "MIN_LIFT", -99.0)
    whole = subject()
    found = find_examples(whole, PIECES[0].text[150:152])
    (overlap,) = found.overlaps  # a count is on or off nowhere
    labels = np.concatenate([piece.labels[20:, 0] for piece in PIECES])
    ends = [match.text[match.stop - 1] in "ab" for match in found.matches]
    assert overlap == Overlap("is_space", sum(ends), 10, pytest.approx(labels.mean()))
    assert Overlap("x", 46, 50, 0.15).lift == pytest.approx((46 - 7.5) / np.sqrt(50 * 0.15 * 0.85))


def test_what_chance_gives_is_not_told():
    found = find_examples(subject(), PIECES[0].text[150:152])
    assert all(overlap.lift >= 3 for overlap in found.overlaps)


# the picture


def example(count=2):
    text = "a line\n    # a comment here\n"
    values = np.where(np.arange(len(text)) < 11, 0.0, 1.0)
    match = Match("document 4, character 1,234", 2, 3, 12, text, values, 11, 23)
    overlaps = (Overlap("in_comment", 46, 50, 0.15),)
    neurons = (("L1.c2", 1), ("L1.c7", -1))
    return Examples(
        "mine", "lstm 1×9", "# a\n", "document 1, character 7", neurons, 9, 90_000, (match,) * count, overlaps
    )


def drawn(width, color_system=None, found=None):
    console = Console(
        width=width,
        file=io.StringIO(),
        color_system=color_system,
        force_terminal=True,
        _environ={},
        legacy_windows=False,
    )
    print_examples(found or example(), console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


GOLDEN_80 = """\
mine · lstm 1×9
like `# a⏎`   document 1, character 7
2 of 9 neurons are on over all of it (≥ .3 or ≤ −.3), not nearly everywhere:
+L1.c2 −L1.c7
of 2 matches in 90,000 characters, 46 end in in_comment (base 15 %)

0 ▁▂▃▄▅▆▇█ 2 of them on   └─┘ where the shared ones stay on
2 of 2 on over 12 characters, 3 with others   document 4, character 1,234
    a line⏎    # a comment here⏎
    ▁▁▁▁▁▁▁▁▁▁▁█████████████████
               └──────────┘
2 of 2 on over 12 characters, 3 with others   document 4, character 1,234
    a line⏎    # a comment here⏎
    ▁▁▁▁▁▁▁▁▁▁▁█████████████████
               └──────────┘"""


def test_golden_without_colour():
    assert "\n".join(drawn(80)) == GOLDEN_80


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("color_system", [None, "truecolor", "256", "standard"])
def test_every_match_fits_into_its_rows(width, color_system):
    lines = [SGR.sub("", line) for line in drawn(width, color_system, example(20))]
    assert all(cell_len(line) <= width for line in lines)
    assert sum("└──" in line for line in lines) == 12 and lines[-1] == "8 more with --json"
    assert any("▁▁▁" in line for line in lines) == (color_system is None)


def test_a_long_match_is_shown_at_its_begin():
    match = Match("document 1, character 1", 1, 1, 300, "x" * 370, np.ones(370), 45, 345)
    lines = drawn(80, found=replace(example(), matches=(match,)))
    assert lines[-1].strip().startswith("└─") and len(lines[-1]) == 80


def test_json_is_plain():
    data = json.loads(json.dumps(example().to_json(), allow_nan=False))
    assert data["neurons"] == [{"neuron": "L1.c2", "sign": 1}, {"neuron": "L1.c7", "sign": -1}]
    assert data["overlaps"] == [{"hypothesis": "in_comment", "inside": 46, "matches": 50, "base": 0.15}]
    assert data["matches"][0]["text"][data["matches"][0]["start"]] == "#"


# the command


def test_the_command_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(HARBOUR.read_text(encoding="utf-8") * 3, encoding="utf-8")

    def charrnn(*arguments, code=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    split = "--val-fraction .2 --test-fraction .2 --steps 60 --hidden-size 32"
    charrnn("train", "text", "--run", "small", *split.split())
    command = ("inspect", "neurons", "small", "--like", "th")
    data = json.loads(charrnn(*command, "--json", "--svg", "like.svg", "--hypothesis", "is_space").stdout)
    assert data["example"] == "th" and data["neurons"] and data["neurons_searched"] == 32
    assert all(match["text"] for match in data["matches"]) and len(data["matches"]) > 1
    assert "<svg" in (tmp_path / "like.svg").read_text(encoding="utf-8")
    assert "neurons are on over all of it" in charrnn(*command).stdout
    assert "error: `--like`" in charrnn(*command, "--neuron", "L1.c0", code=1).stderr
    assert "is empty" in charrnn("inspect", "neurons", "small", "--like", "", code=1).stderr
