"""Settings: where they come from, what they may be, and what the plan makes of those left open."""

from __future__ import annotations

import ast
import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from charrnn import config as settings_file
from charrnn.config import (
    AVERAGINGS,
    CELLS,
    OPTIMIZERS,
    SCHEDULES,
    Config,
    build_config,
    read_toml,
    setting_names,
)
from charrnn.errors import ConfigError, TextError, suggest
from charrnn.model.network import Network
from charrnn.presets import PRESETS
from charrnn.training import lengths, schedules, updates
from charrnn.training.plan import DEFAULT_MINUTES, HIDDEN_SIZES, estimate, make_plan, num_params

SIZE = "model.hidden_size"


def toml(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parsed(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        build_config(values={name.replace("__", "."): value for name, value in values.items()})
    return caught.value


# -- precedence ---------------------------------------------------------------------------------


def test_each_source_wins_over_those_before_it(tmp_path):
    file = toml(tmp_path, "[model]\nhidden_size = 3\n")
    assert build_config().model.hidden_size is None
    assert build_config(suggested={SIZE: 1}).model.hidden_size == 1
    assert (
        build_config(suggested={SIZE: 1}, preset="tiny").model.hidden_size == PRESETS["tiny"].settings[SIZE]
    )
    assert build_config(suggested={SIZE: 1}, preset="tiny", file=file).model.hidden_size == 3
    last = build_config(suggested={SIZE: 1}, preset="tiny", file=file, values={SIZE: 4})
    assert last.model.hidden_size == 4


def test_source_replaces_only_what_it_names(tmp_path):
    config = build_config(
        preset="awd", file=toml(tmp_path, "[training]\nseq_len = 7\n"), values={"model.cell": "gru"}
    )
    assert (config.model.hidden_size, config.model.num_layers, config.model.cell) == (1840, 3, "gru")
    assert (config.training.batch_size, config.training.seq_len) == (128, 7)
    assert config.text == Config().text


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_valid_settings_only(preset):
    config = build_config(preset=preset)
    assert {
        n: getattr(getattr(config, n.split(".")[0]), n.split(".")[1]) for n in PRESETS[preset].settings
    } == PRESETS[preset].settings


def test_awd_is_the_published_command():
    """That for enwik8 in the README of github.com/salesforce/awd-lstm-lm, with its ``main.py``'s clipping."""
    config = build_config(preset="awd")
    model, training = config.model, config.training
    falls = [
        epoch
        for epoch in range(1, 50)
        if schedules.multistep(epoch / 50) < schedules.multistep((epoch - 0.5) / 50)
    ]
    found = (
        f"--epochs {training.epochs:g} --nlayers {model.num_layers} --emsize {model.embedding_size} "
        f"--nhid {model.hidden_size} --alpha {training.activation_l2:g} --beta {training.temporal_l2:g} "
        f"--dropoute 0 --dropouth {model.dropout} --dropouti {model.input_dropout} "
        f"--dropout {model.output_dropout} --wdrop {model.weight_drop} --wdecay {training.l2:g} "
        f"--bptt {training.seq_len} --batch_size {training.batch_size} --optimizer {training.optimizer} "
        f"--lr {training.learning_rate:g} --when {' '.join(map(str, falls))} --clip {training.grad_clip}"
    )
    assert found == (
        "--epochs 50 --nlayers 3 --emsize 400 --nhid 1840 --alpha 0 --beta 0 --dropoute 0 --dropouth 0.1 "
        "--dropouti 0.1 --dropout 0.4 --wdrop 0.2 --wdecay 1.2e-06 --bptt 200 --batch_size 128 "
        "--optimizer adam --lr 0.001 --when 25 35 --clip 0.25"
    )
    assert (model.dropout_kind, training.random_seq_len) == ("variational", True)
    assert (training.schedule, training.warmup_fraction) == ("multistep", 0)


def test_configs_do_not_share_anything_that_can_change():
    first = build_config(values={SIZE: 8})
    assert Config().model.hidden_size is None
    with pytest.raises(AttributeError):
        first.model.hidden_size = 9
    first.to_json()["model"]["hidden_size"] = 10
    assert first.model.hidden_size == 8


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        (SIZE, "8", 8),
        (SIZE, 8.0, 8),
        (SIZE, "none", None),
        (SIZE, None, None),
        ("model.dropout", "0", 0.0),
        ("model.dropout", 0, 0.0),
        ("model.dropout", ".5", 0.5),
        ("training.learning_rate", "1e-3", 0.001),
        ("training.epochs", "0.5", 0.5),
        ("training.seed", str(2**63 - 1), 2**63 - 1),
        ("text.documents", "a=b", "a=b"),
        ("model.embedding_size", "0", 0),
        ("model.skip_connections", "true", True),
        ("model.skip_connections", "False", False),
        ("model.skip_connections", True, True),
    ],
)
def test_text_becomes_the_declared_type(name, given, expected):
    section, _, key = name.partition(".")
    value = getattr(getattr(build_config(values={name: given}), section), key)
    assert value == expected and type(value) is type(expected)


NOT_NUMBERS = ["", "abc", "1,5", "0x10", True, False, [1], {"a": 1}, b"1", "1e", "--"]
NOT_BOOLEANS = ["", "yes", "1", 1, 0.0, None, "none", [True]]
NOT_FINITE = ["nan", "inf", "-inf", math.nan, math.inf, -math.inf, "1e999"]
NUMBERS = {
    SIZE: ["0", "-3", "65537", "1.5", 1.5, "1e3"],
    "model.num_layers": ["0", "-1", "65"],
    "model.embedding_size": ["-1", "65537"],
    "model.dropout": ["1", "1.5", "-0.1", "1e300"],
    "model.input_dropout": ["1", "-0.1"],
    "model.output_dropout": ["1", "-0.1"],
    "model.weight_drop": ["1", "-0.1"],
    "model.zoneout": ["1", "-0.1"],
    "training.batch_size": ["0", "-1", "65537"],
    "training.seq_len": ["0", "-1", "65537"],
    "training.seq_len_start": ["0", "-1", "65537"],
    "training.epochs": ["0", "-1"],
    "training.steps": ["0", "-1", "2.5"],
    "training.minutes": ["0", "-1"],
    "training.learning_rate": ["0", "-0.001"],
    "training.grad_clip": ["0", "-1"],
    "training.warmup_fraction": ["1", "-0.1"],
    "training.weight_decay": ["-0.1"],
    "training.l2": ["-0.1"],
    "training.activation_l2": ["-0.1"],
    "training.temporal_l2": ["-0.1"],
    "training.ema_decay": ["1", "-0.1"],
    "training.grad_clip_value": ["0", "-1"],
    "training.num_evals": ["0", "100001"],
    "training.patience": ["-1", "0.5"],
    "training.seed": ["-1", str(2**63)],
    "text.val_fraction": ["1", "-0.1", "2"],
    "text.test_fraction": ["1", "-0.1"],
    "model.forget_bias": ["101", "-101"],
}
INTEGERS = (
    "hidden_size",
    "num_layers",
    "embedding_size",
    "batch_size",
    "seq_len",
    "steps",
    "num_evals",
    "patience",
    "seed",
)
HUGE = ["9" * 400, 10**400, "-" + "9" * 400]


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, own in NUMBERS.items() for v in [*own, *NOT_FINITE, *NOT_NUMBERS]],
    ids=lambda v: str(v)[:20],
)
def test_number_out_of_range_is_refused_by_name(name, value):
    message = refused(**{name: value}).message
    shown = {str(value), str(parsed(value))}
    assert any(f"`{name}` is `{text}`, but must be " in message for text in shown)


@pytest.mark.parametrize("value", NOT_BOOLEANS, ids=str)
def test_switch_must_be_true_or_false(value):
    assert "must be true or false" in refused(model__skip_connections=value).message


@pytest.mark.parametrize(
    "name",
    [pytest.param(name) if name.endswith(INTEGERS) else name for name in NUMBERS],
)
@pytest.mark.parametrize("value", HUGE, ids=["text", "number", "negative"])
def test_number_too_large_for_the_machine_is_refused(name, value):
    assert f"`{name}`" in refused(**{name: value}).message


@pytest.mark.parametrize(
    ("name", "word", "expected"),
    [
        ("model.cell", "lstn", "did you mean `lstm`?"),
        ("training.optimizer", "adamx", "did you mean `adam"),
        ("training.schedule", "cosin", "did you mean `cosine`?"),
        ("text.symbols", "char", "did you mean `chars`?"),
        ("text.newlines", "crlf", "lf"),
        ("model.cell", "zzz", "known: lstm, gru, elman, elman_relu"),
        ("model.cell", "", "known: "),
        ("model.cell", "LSTM", "known: "),
    ],
)
def test_unknown_word_is_refused_with_what_is_known(name, word, expected):
    error = refused(**{name: word})
    assert f"`{word}`" in error.message
    assert expected in error.hint


@pytest.mark.parametrize("name", ["text.symbols", "model.cell"])
@pytest.mark.parametrize("value", [True, 5, ["files"], {"a": "b"}, None], ids=str)
def test_name_must_be_a_known_word(name, value):
    refused(**{name: value})


@pytest.mark.parametrize("name", ["text.encoding", "text.documents"])
@pytest.mark.parametrize("value", [5, ["files"], {"a": "b"}, None], ids=str)
def test_word_must_be_a_word(name, value):
    refused(**{name: value})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.hiden_size", "model.hidden_size"),
        ("training.lerning_rate", "training.learning_rate"),
        ("hidden_size", "model.hidden_size"),
        ("text.encodin", "text.encoding"),
    ],
)
def test_unknown_setting_gets_the_nearest_name(name, expected):
    error = refused(**{name: 1})
    assert error.message == f"unknown setting `{name}`"
    assert error.hint == f"did you mean `{expected}`?"


@pytest.mark.parametrize(
    "name", ["", "model", "model.", ".hidden_size", "model.hidden_size.x", "model.to_json"]
)
def test_name_that_is_no_setting_is_refused(name):
    assert f"unknown setting `{name}`" in refused(**{name: 1}).message


def test_all_problems_are_reported_at_once(tmp_path):
    file = toml(tmp_path, "[model]\nhiden_size = 3\n[training]\nsteps = 0\n")
    with pytest.raises(ConfigError) as caught:
        build_config(file=file, values={"model.cell": "lstn", "model.dropout": "2"})
    message, hint = caught.value.message, caught.value.hint
    assert all(
        word in message for word in ("`model.hiden_size`", "`training.steps`", "`lstn`", "`model.dropout`")
    )
    assert "`model.hidden_size`" in hint and "`lstm`" in hint
    assert "\n" not in message + hint


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.7, 0.5), ("0.999", "0.001")])
def test_fractions_must_leave_something(val, test):
    error = refused(text__val_fraction=val, text__test_fraction=test)
    assert "leave nothing to train on" in error.message


def test_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="unknown preset `tyny`") as caught:
        build_config(preset="tyny")
    assert caught.value.hint == "did you mean `tiny`?"


def test_suggestion_lists_everything_where_nothing_is_near():
    assert suggest("zzz", ["lstm", "gru"]) == "known: lstm, gru"
    assert suggest("lstn", iter(["lstm", "gru"])) == "did you mean `lstm`?"


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[model\n", "is not valid TOML"),
        ("model = \n", "is not valid TOML"),
        ("[model]\nhidden_size = 1\nhidden_size = 2\n", "is not valid TOML"),
        (b"[model]\ncell = '\xff'\n", "is not valid TOML"),
        ("hidden_size = 8\n", "stands outside a section"),
        ("[[model]]\nhidden_size = 8\n", "stands outside a section"),
    ],
)
def test_broken_file_is_refused_by_name(tmp_path, content, expected):
    path = toml(tmp_path, content)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_toml(path)
    assert f"`{path}`" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "content", ["[modell]\nhidden_size=1", "[model.sub]\nx=1", "[model]\nhidden_size=2020-01-01"]
)
def test_file_with_a_wrong_setting_is_refused(tmp_path, content):
    with pytest.raises(ConfigError):
        build_config(file=toml(tmp_path, content))


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        build_config(file=path)


@pytest.mark.parametrize("content", ["[model]\nhidden_size = " + "9" * 5000, "[model]\ncell = " + "[" * 5000])
def test_monstrous_file_is_refused_like_any_other(tmp_path, content):
    with pytest.raises(ConfigError):
        build_config(file=toml(tmp_path, content))


def test_file_saved_with_a_byte_order_mark_is_read(tmp_path):
    assert read_toml(toml(tmp_path, b"\xef\xbb\xbf[model]\nhidden_size = 8\n")) == {SIZE: 8}


def test_empty_file_changes_nothing(tmp_path):
    assert build_config(file=toml(tmp_path, "# nothing\n")) == Config()


# -- round trip ---------------------------------------------------------------------------------


def full_config():
    return make_plan(build_config(preset="awd", values={"training.steps": 5}), 100_000, 5_000, 60, "cpu")


@pytest.mark.parametrize("config", [Config(), full_config()], ids=["open", "planned"])
def test_config_survives_json(config):
    assert Config.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config


def test_json_has_every_setting():
    flat = {f"{section}.{name}" for section, part in Config().to_json().items() for name in part}
    assert flat == set(setting_names())


def test_json_of_an_older_version_gets_the_defaults():
    assert Config.from_json({"model": {"cell": "gru"}}) == Config(model=replace(Config().model, cell="gru"))


LEVERS = "dropout input_dropout dropout_kind weight_drop zoneout skip_connections init forget_init "
LEVERS += "seq_len_start random_seq_len warmup_fraction weight_decay l2 activation_l2 temporal_l2 grad_clip "
LEVERS += "grad_clip_value"
YEAR = re.compile(r"\b(19|20)\d\d\b|\(ibid\.\)")


def test_every_lever_names_its_source():
    classes = [
        n for n in ast.parse(Path(settings_file.__file__).read_text()).body if isinstance(n, ast.ClassDef)
    ]
    said = {
        field.target.id: text.value.value
        for kind in classes
        for field, text in pairwise(kind.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    parts = {name: SCHEDULES[name] for name in SCHEDULES if name != "constant"}
    parts |= {name: AVERAGINGS[name] for name in AVERAGINGS if name != "none"}
    parts |= {p.__name__: p for p in (schedules.warmed_up, lengths.longest, lengths.next_length)}
    parts |= {"clipping": updates.clip_gradients, "_drop": Network._drop}
    said = {name: said[name] for name in LEVERS.split()} | {n: part.__doc__ for n, part in parts.items()}
    assert not [name for name, text in said.items() if not YEAR.search(text)]


@pytest.mark.parametrize("table", [CELLS, OPTIMIZERS, SCHEDULES, AVERAGINGS], ids=lambda t: t.kind)
def test_every_name_in_a_table_leads_to_its_part(table):
    assert all(table[name] is not None for name in table)


# -- plan ---------------------------------------------------------------------------------------


def plan(train=1_000_000, val=50_000, vocab=70, device="cpu", **values):
    config = build_config(values={name.replace("__", "."): value for name, value in values.items()})
    return make_plan(config, train, val, vocab, device)


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
@pytest.mark.parametrize("train", [65, 1000, 30_000, 1_000_000, 10**9])
@pytest.mark.parametrize("budget", [{}, {"training__steps": 100}, {"training__epochs": 2}], ids=str)
def test_plan_leaves_nothing_open_and_everything_in_range(device, train, budget):
    if train == 65 and device != "cpu":
        return
    config = plan(train=train, device=device, **budget)
    open_still = [name for name, value in config.to_json()["model"].items() if value is None]
    assert open_still == ["output_dropout"]  # which is then as ``dropout``
    wanted = ("batch_size", "seq_len", "learning_rate", "weight_decay", "num_evals")
    assert all(getattr(config.training, name) is not None for name in wanted)
    assert Config.from_json(config.to_json()) == config
    assert config.training.batch_size * config.training.seq_len < train


def test_plan_is_the_same_for_the_same_input():
    assert len({json.dumps(plan().to_json()) for _ in range(3)}) == 1


def test_plan_does_not_change_what_it_is_given():
    config = Config()
    make_plan(config, 100_000, 5_000, 60, "cpu")
    assert config == Config()


def test_plan_of_a_plan_is_the_same():
    config = plan()
    assert make_plan(config, 1_000_000, 50_000, 70, "cpu") == config


SET = {
    "model__hidden_size": 13,
    "model__num_layers": 3,
    "model__embedding_size": 0,
    "model__dropout": 0.25,
    "training__batch_size": 3,
    "training__seq_len": 11,
    "training__learning_rate": 0.5,
    "training__weight_decay": 0.1,
    "training__num_evals": 7,
    "training__epochs": 1.5,
}


@pytest.mark.parametrize("name", SET)
def test_plan_keeps_what_is_set(name):
    section, _, key = name.partition("__")
    assert getattr(getattr(plan(**{name: SET[name]}), section), key) == SET[name]


def test_plan_keeps_everything_that_is_set():
    config = plan(**SET)
    assert config == build_config(values={name.replace("__", "."): value for name, value in SET.items()})


@pytest.mark.parametrize("budget", ["steps", "epochs", "minutes"])
def test_plan_gives_ten_minutes_only_where_no_budget_is_set(budget):
    assert plan().training.minutes == DEFAULT_MINUTES == 10
    config = plan(**{f"training__{budget}": 3})
    others = {"steps", "epochs", "minutes"} - {budget}
    assert all(getattr(config.training, name) is None for name in others)


def test_more_time_never_plans_fewer_neurons():
    sizes = [plan(training__minutes=m).model.hidden_size for m in (0.01, 0.1, 1, 10, 100, 1000)]
    assert sizes == sorted(sizes) and set(sizes) <= set(HIDDEN_SIZES) and sizes[0] < sizes[-1]


@pytest.mark.parametrize(
    ("train", "settings"),
    [
        (64, {}),
        (1, {}),
        (0, {}),
        (64 * 512, {"training__batch_size": 64, "training__seq_len": 512}),
        (10, {"training__seq_len": 10}),
    ],
)
def test_text_shorter_than_a_window_is_an_error_with_the_figures(train, settings):
    with pytest.raises(TextError, match=f"has {train:,} characters, fewer than one window") as caught:
        plan(train=train, **settings)
    assert "--batch-size" in caught.value.hint and "--seq-len" in caught.value.hint


@pytest.mark.parametrize("settings", [{"training__seq_len": 31}, {}], ids=["set", "planned"])
def test_windows_must_not_shrink(settings):
    with pytest.raises(ConfigError, match="seq_len_start"):
        plan(training__seq_len_start=settings.get("training__seq_len", 128) + 1, **settings)
    assert plan(training__seq_len_start=31, **settings).training.seq_len_start == 31


@pytest.mark.parametrize(
    ("train", "settings", "window"),
    [
        (10**6, {}, (16, 128)),
        (10**6, {"training__seq_len": 64}, (32, 64)),
        (10**6, {"training__seq_len": 1000}, (8, 1000)),
        (16_384, {}, (16, 128)),
        (16_383, {}, (31, 64)),
        (3_000, {}, (5, 64)),
        (10**6, {"training__batch_size": 3}, (3, 128)),
    ],
)
def test_planned_windows_have_as_many_characters_however_long(train, settings, window):
    planned = plan(train=train, **settings).training
    assert (planned.batch_size, planned.seq_len) == window


def test_text_of_one_window_and_one_symbol_is_enough():
    assert plan(train=6 * 7 + 1, training__batch_size=6, training__seq_len=7).training.batch_size == 6


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize(("layers", "embedding"), [(1, 0), (1, 5), (3, 0), (2, 5)])
def test_weights_are_counted_as_the_network_has_them(cell, layers, embedding):
    from charrnn.model.network import new_network

    model = build_config(values={"model.cell": cell, SIZE: 6}).model
    model = replace(model, num_layers=layers, embedding_size=embedding, dropout=0.0)
    network = new_network(model, 9)
    matrices = sum(p.numel() for n, p in network.named_parameters() if p.dim() == 2 and "embedding" not in n)
    assert num_params(model, 9) == matrices


@pytest.mark.parametrize(
    ("budget", "value"),
    [
        ("epochs", 1e100),
        ("minutes", 1e100),
        ("steps", 10**20),
        pytest.param("epochs", 1.7e308),
        pytest.param("minutes", 1.7e308),
        pytest.param("steps", 10**307),
    ],
)
def test_endless_budget_is_refused_or_gives_finite_figures(budget, value):
    try:
        config = plan(**{f"training__{budget}": value})
    except ConfigError:
        return
    figures = estimate(config, 1_000_000, num_params(config.model, 70), "cpu")
    assert all(math.isfinite(figure) for figure in figures.values())
