"""What each character costs, against a slow loop; comparison of two runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console
from test_evaluation import (
    ALPHABET,
    ids_of,
    make_network,
    random_text,
    slow_nats,
    view_of,
    whole,
    write_corpus,
)

from charrnn import surprisal as module
from charrnn.evaluation import Difference, evaluate
from charrnn.rendering.surprisal import difference_painted, surprisal_painted
from charrnn.surprisal import surprisal
from charrnn.text.corpus import open_corpus
from charrnn.text.reading import Source
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of_chars(map(ord, ALPHABET))
LN2 = np.log(2)


def test_bits_are_those_of_a_slow_loop_and_add_up_to_the_loss(tmp_path):
    texts = [random_text(300, 1), "abü\x1bd", random_text(270, 2)]
    corpus = write_corpus(tmp_path, texts)
    network = make_network(VOCABULARY)
    found = surprisal(network, VOCABULARY, corpus, whole(corpus))
    ids = ids_of(view_of(corpus, VOCABULARY))
    nats = slow_nats(network, ids)[ids[1:] != 0]
    extra = np.array([{"ü": 16, "\x1b": 8}.get(char, 0) for char in "".join(texts)])
    assert found.text == "".join(texts)
    np.testing.assert_allclose(found.bits, nats / LN2 + extra, atol=1e-4)
    loss = evaluate(network, VOCABULARY, corpus, whole(corpus)).loss
    assert found.bits.mean() * LN2 == pytest.approx(loss, abs=1e-5)


def test_what_was_expected_is_what_was_most_probable(tmp_path):
    corpus = write_corpus(tmp_path, ["abc"])
    network = make_network(VOCABULARY)
    found = surprisal(network, VOCABULARY, corpus, whole(corpus))
    ids = torch.tensor([[0, *VOCABULARY.encode("ab")]])
    share = network.reference(ids, network.initial_state(1))[0][0].softmax(-1).detach().numpy()
    names = ["end of document", "unseen character", *(chr(symbol) for symbol in VOCABULARY.symbols)]
    for row, expected in zip(share, found.expected, strict=True):
        best = np.argsort(-row)[:3]
        assert [name for name, _ in expected] == [names[index] for index in best]
        assert [p for _, p in expected] == pytest.approx(row[best], abs=1e-6)


def test_bytes_are_told_as_characters(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes("é€".encode() + b"\xff" + b"x")
    corpus = open_corpus([Source("raw", path)], write_config())
    vocabulary = Vocabulary.of_bytes()
    network = make_network(vocabulary)
    found = surprisal(network, vocabulary, corpus, whole(corpus))
    nats = slow_nats(network, ids_of(view_of(corpus, vocabulary)))
    assert found.text == "é€\udcffx"
    expected = [nats[:2].sum(), nats[2:5].sum(), nats[5], nats[6]]
    np.testing.assert_allclose(found.bits, np.array(expected) / LN2, atol=1e-4)
    assert len(found.expected) == 4
    json.dumps(found.to_json())


def write_config():
    from charrnn.config import TextConfig

    return TextConfig(symbols="bytes")


def test_only_the_begin_of_a_long_text_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 30)
    text = random_text(500)
    corpus = write_corpus(tmp_path, [text])
    found = surprisal(make_network(VOCABULARY), VOCABULARY, corpus, whole(corpus))
    assert found.text == text[:29] and len(found.bits) == 29


def shown(part, **how):
    console = Console(width=100, **how)
    with console.capture() as capture:
        console.print(part)
    return capture.get()


def test_paint_shows_control_characters_and_the_most_surprising_first(tmp_path):
    corpus = write_corpus(tmp_path, ["ab\x1b[31mc\nd"])
    found = surprisal(make_network(VOCABULARY), VOCABULARY, corpus, whole(corpus))
    plain = shown(surprisal_painted(found), force_terminal=False)
    assert "\x1b" not in plain and "ab␛[31mc⏎" in plain
    worst = found.text[int(np.argmax(found.bits))]
    first = plain.split("expected instead")[1].split("\n")[2]
    assert f"[{worst.replace(chr(27), '␛')}]" in first and f"{found.bits.max():.2f}" in first
    painted = shown(surprisal_painted(found), force_terminal=True, color_system="truecolor")
    assert "\x1b[31m" not in painted and "\x1b[" in painted


def test_the_difference_of_two_runs_is_painted_and_counted(tmp_path):
    corpus = write_corpus(tmp_path, [random_text(6_000)])
    one, two = make_network(VOCABULARY), make_network(VOCABULARY, "gru")
    results = [evaluate(n, VOCABULARY, corpus, whole(corpus)) for n in (one, two)]
    costs = [surprisal(n, VOCABULARY, corpus, whole(corpus)) for n in (one, two)]
    apart = costs[0].bits - costs[1].bits
    difference = Difference.of(*results)
    assert difference.bpc == pytest.approx(apart.mean(), abs=1e-4)
    # index 1 in the view is the first character, so the first block has 999
    blocks = [block.mean() for block in np.split(apart, [999, 1999, 2999, 3999, 4999, 5999])[:6]]
    assert difference.stderr_bpc == pytest.approx(np.std(blocks, ddof=1) / np.sqrt(6), rel=1e-2)
    assert difference.stderr_bpc < results[0].stderr_bpc + results[1].stderr_bpc
    text = shown(difference_painted(*costs, "one", "two"), force_terminal=False)
    assert f"{costs[0].bits[int(np.abs(apart).argmax())]:.2f}" in text and "2,000 characters more" in text
