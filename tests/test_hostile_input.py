"""Input that once hung, crashed or filled the memory: long texts, numbers, pipes, names, the environment."""

from __future__ import annotations

import os
import random
import re

import numpy as np
import pytest
from fuzzing.guard import little_time
from small_runs import SMALL, write_words

import charrnn
from charrnn.compression import archive
from charrnn.config import build_config, read_toml
from charrnn.errors import ConfigError, InspectionError, TextError
from charrnn.inspection import store
from charrnn.inspection.hypotheses import code, get, lexers, syntax
from charrnn.inspection.hypotheses.base import TextProfile
from charrnn.inspection.hypotheses.custom import resolve
from charrnn.model import scoring
from charrnn.model.scoring import TextView, total_nats
from charrnn.surprisal import surprisal
from charrnn.text.cache_dir import cache_dir
from charrnn.untrusted import map_array

# -- labels: a second for texts as long as a book, however dull ------------------------------------

DULL = [("in_arguments", "a"), ("in_arguments", "0x"), ("in_struct", "struct "), ("indent_level", " ")]
DULL += [("in_if_condition", "if("), ("in_if_condition", "#if("), ("indent_level", "\t")]


@pytest.mark.parametrize(("name", "piece"), DULL)
def test_labels_of_a_dull_text_do_not_take_the_square_of_its_length(name, piece):
    with little_time():
        get(name).label(piece * (150_000 // len(piece)), TextProfile("c", 70, 4))


def test_every_string_of_one_line_is_looked_at_without_that_line():
    text = '"a" ' * 500_000
    with little_time():
        assert not any(lexers.starts_statement(text, at) for at in range(4, len(text), 40))


def test_what_is_called_opened_and_indented_is_as_a_plain_pattern_has_it():
    picker = random.Random(0)
    called = re.compile(r"([A-Za-z_]\w*)\(")
    struct = re.compile(r"\b(?:struct|union|enum)\b[^;(){}=,]*(?=\{)")
    pieces = ["a", "0", "_", "é", "日", "٣", "(", "struct", "enum", " ", "{", "}", "=", "B ", "\n"]
    for _ in range(2_000):
        text = "".join(picker.choices(pieces, k=picker.randrange(25)))
        spans = [(match.end(), match[1]) for match in called.finditer(text)]
        assert [(match.end(), match[1]) for match in syntax._CALLED.finditer(text)] == spans, text
        heads = [match.span() for match in syntax._STRUCT.finditer(text) if text[match.end() :][:1] == "{"]
        assert heads == [match.span() for match in struct.finditer(text)], text
        run, unit = "".join(picker.choices(" \t", k=picker.randrange(12))), picker.randrange(1, 9)
        slow = [run.count("\t", 0, n) + run.count(" ", 0, n) // unit for n in range(1, len(run) + 1)]
        assert list(code._levels(run, unit)) == slow


def test_what_stands_before_a_word_on_its_line_is_as_a_plain_pattern_has_it():
    picker = random.Random(1)
    start, directive = re.compile(r"[ \t]*[rRuU]?\Z"), re.compile(r"#[ \t]*\Z")
    pieces = ["a", "r", "U", " ", "\t", "\n", "\\\n", "\r\n", "\\\r\n", "#"]
    for _ in range(2_000):
        text = "".join(picker.choices(pieces, k=picker.randrange(9)))
        everywhere = np.ones(len(text) + 1, bool)
        for at in range(len(text) + 1):
            line = text.rfind("\n", 0, at) + 1
            begins = bool(start.match(text[line:at])) and not lexers.continues(text, line)
            assert lexers.starts_statement(text, at) == begins, (text, at)
            wanted = not directive.search(text, line, at)
            assert code._is_c_keyword(text, everywhere, at) == wanted, (text, at)


@pytest.mark.parametrize("spec", ["|".join(["in_quote"] * 500), "~" * 700 + "in_quote"])
def test_a_combination_without_an_end_is_refused(spec):
    with pytest.raises(InspectionError, match="no combination of hypotheses"):
        resolve(spec)
    assert resolve("|".join(["in_quote"] * 40)).type == "binary"


# -- numbers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text, and a run whose name is no UTF-8."""
    folder = tmp_path_factory.mktemp("hostile")
    run = folder / os.fsdecode(b"a\xff\xfe")
    settings = SMALL | {"training.steps": 2, "training.num_evals": 1, "model.num_layers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder / "cache"))
        for _ in charrnn.train(write_words(folder), run=str(run), settings=settings, device="cpu"):
            pass
    return folder, run


def test_a_run_whose_name_is_no_utf8_can_be_used(place):
    _, run = place
    assert len(charrnn.load(str(run), device="cpu").sample(5, seed=1)) == 5
    assert archive.load_model(str(run)).name == run.name


@pytest.mark.parametrize("top_k", [2**31, 2**32 + 1, 10**400])
def test_more_symbols_than_an_int_holds_are_all_symbols(place, top_k):
    loaded = charrnn.load(str(place[1]), device="cpu")
    assert loaded.sample(40, seed=3, top_k=top_k) == loaded.sample(40, seed=3)


@pytest.mark.parametrize(
    "name", ["model.hidden_size", "training.learning_rate", "model.cell", "model.dropout"]
)
def test_a_number_too_long_to_be_written_out_is_refused(tmp_path, name):
    section, key = name.split(".")
    (tmp_path / "x.toml").write_text(f"[{section}]\n{key} = 0x{'f' * 5000}\n")
    for how in ({"file": tmp_path / "x.toml"}, {"values": {name: 10**5000}}, {"values": {name: [10**5000]}}):
        with pytest.raises(ConfigError, match=rf"`{name}` is `a number of thousands of digits`, but must be"):
            build_config(**how)


def test_settings_nested_without_an_end_are_refused_at_once(tmp_path):
    (tmp_path / "x.toml").write_text("a." * 100_000 + "b=1")
    with little_time(), pytest.raises(ConfigError, match="these are no settings"):
        read_toml(tmp_path / "x.toml")


# -- pipes ----------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    return tmp_path / "pipe.npy"


def test_a_pipe_is_not_waited_for_where_a_file_is_needed(place, pipe, monkeypatch):
    model = archive.load_model(str(place[1]))
    with little_time():
        for what in (archive.compress, archive.decompress):
            with pytest.raises(TextError, match=r"pipe.npy` is no file"):
                what(model, pipe, pipe.with_name("out"))
        with pytest.raises(InspectionError, match="it is a pipe"):
            resolve(str(pipe))
        with pytest.raises(ValueError, match="it is a pipe"):
            map_array(pipe)
        monkeypatch.setattr(store, "_path", lambda key: pipe)
        assert store.load_findings("key", "run") is None
    assert not pipe.with_name("out").exists()


# -- the environment ------------------------------------------------------------------------------


def test_a_user_without_a_home_is_told_so(monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(ConfigError, match="cannot tell where the cache is") as caught:
        cache_dir()
    assert "CHARRNN_CACHE" in caught.value.hint


# -- as many symbols as there are characters ------------------------------------------------------


def test_a_few_distributions_are_held_together_however_many_symbols_there_are(place, monkeypatch):
    loaded = charrnn.load(str(place[1]), device="cpu")
    corpus, part = loaded.text_to_score([str(place[0] / "words.txt")])
    part = (part[0], part[0] + 600)
    view = TextView(corpus.places, corpus.id_table(loaded.vocabulary), *part)
    everything = (loaded.network, loaded.vocabulary, corpus, part)
    whole, told = total_nats(loaded.network, view, np.zeros(99)), surprisal(*everything)
    sizes = []
    hook = loaded.network.readout.register_forward_hook(lambda *given: sizes.append(given[2].numel()))
    monkeypatch.setattr(scoring, "MOST_LOGITS", 7 * len(loaded.vocabulary))
    assert total_nats(loaded.network, view, np.zeros(99)) == pytest.approx(whole, rel=1e-6)
    np.testing.assert_allclose(surprisal(*everything).bits, told.bits, rtol=1e-5)
    hook.remove()
    assert len(sizes) > 100 and max(sizes) <= scoring.MOST_LOGITS
