"""Bad input at the command line: one error line, a hint where one helps, exit code 1, no traceback."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from charrnn.cli.main import app
from charrnn.errors import ran_out_of_memory
from charrnn.runs import tensor_bytes

TEXT = 'The cat said "no" (twice), and the dog ran away.\nThen it rained.\n\n' * 60
SMALL = ["--hidden-size", "8", "--num-layers", "1", "--batch-size", "2", "--seq-len", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts, broken files, and one tiny run called ``mine``."""
    folder = tmp_path_factory.mktemp("bad-input")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARRNN_CACHE", str(folder / ".cache"))
        patch.setenv("COLUMNS", "100")
        write_files(folder)
        done = call("train", "text.txt", "--run", "mine", "--steps", "3", *SMALL, "--quiet")
        assert done.exit_code == 0, done.stderr
    break_checkpoints(folder)
    return folder


@pytest.fixture(autouse=True)
def there(place, own_cache, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("CHARRNN_CACHE", str(place / ".cache"))


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def write_files(folder):
    data = {
        "text.txt": TEXT.encode(),
        "empty.txt": b"",
        "one.txt": b"x",
        "short.txt": b"just a few words, no more",
        "latin.txt": "Das Mädchen aß Äpfel.\n".encode("cp1252") * 50,
        "cut.gz": gzip.compress(os.urandom(3000))[:1500],
        "no-text/.hidden": b"text",
        "no-text/picture": b"\0\1\2",
        "broken.toml": b"[model\n",
        "loose.toml": b"hidden_size = 8\n",
        "wrong.toml": b"[model]\nhiden_size = 8\n",
        "pattern.toml": b"[text]\ndocuments = '('\n",
        "a-file": b"not a folder",
        "noise.safetensors": bytes(range(256)) * 20,
    }
    for name, content in data.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def break_checkpoints(folder):
    whole = (folder / "runs/mine/best/model.safetensors").read_bytes()
    cut = folder / "cut-run/best/model.safetensors"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole[: len(whole) // 2])
    (folder / "no-checkpoint").mkdir()


def everything_below(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refused(result, words, hint=None):
    """Check the promise: nothing on stdout, ``error:`` and perhaps ``hint:`` on stderr, exit code 1."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(" ")[0] for line in lines] in (["error:"], ["error:", "hint:"]), result.stderr
    assert "Traceback" not in result.stderr
    for word in [words] if isinstance(words, str) else words:
        assert word in lines[0]
    if hint is not None:
        assert len(lines) == 2 and hint in lines[1], result.stderr


def cases(*rows):
    return [pytest.param(*row, id=" ".join(row[0])[:70] or "nothing") for row in rows]


TRAIN = cases(
    (["missing.txt"], "`missing.txt` is no file, folder, glob or corpus name", "charrnn corpora list"),
    (["no*such"], "`no*such`", "charrnn corpora list"),
    (["nosuchcorpus"], "`nosuchcorpus`", "charrnn corpora list"),
    (["enwik8"], "corpus `enwik8` is not on this machine yet", "charrnn corpora get enwik8"),
    (["text.txt", "missing.txt"], "`missing.txt`", "charrnn corpora list"),
    (["empty.txt"], "there is no text in `empty.txt`", "empty"),
    (["one.txt"], "too few to train on", "longer text"),
    (["short.txt"], "fewer than one window", "--seq-len"),
    (["text.txt", "--batch-size", "64", "--seq-len", "512"], "64 × 512", "--batch-size"),
    (["no-text"], "`no-text` has no text in it", "hidden and binary"),
    (["latin.txt"], ["`latin.txt` is not utf-8", "byte 0xe4 at offset 5"], "--symbols bytes"),
    (["latin.txt"], "cannot be decoded", "--encoding"),
    (["cut.gz"], "cannot read `cut.gz`", None),
    (["-", "-"], "named twice", None),
    (["text.txt", "--run", "mine"], "`runs/mine` already holds a run", "--overwrite"),
    (["text.txt", "--run", "runs/mine"], "already holds a run", "--resume runs/mine"),
    (["text.txt", "--preset", "tyny"], "unknown preset `tyny`", "did you mean `tiny`?"),
    (["text.txt", "--device", "cudo"], "unknown device `cudo`", "did you mean `cuda`?"),
    (["text.txt", "--device", "cpu", "--precision", "fp17"], "unknown precision `fp17`", "fp"),
    (["text.txt", "--init-from", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["text.txt", "--init-from", "noise.safetensors"], "`noise.safetensors` is damaged", "copied whole"),
    (["text.txt", "--init-from", "mine", "--hidden-size", "9"], "model.hidden_size", "shape"),
    (["text.txt", "--init-from", "mine", "--symbols", "bytes"], "trained on chars", None),
    (["text.txt", "--documents", "("], "`(` is no valid regular expression", "files, lines or blank"),
    (["text.txt", "--documents", "nosuch"], "no document matches `nosuch`", "--documents"),
    (["text.txt", "--documents", "line"], "`text.documents` is `line`", "did you mean `lines`?"),
    (["text.txt", "--documents", "Blank"], "`text.documents` is `Blank`", "did you mean `blank`?"),
    (["text.txt", "--encoding", "utf-9"], "unknown encoding `utf-9`", "cp1252"),
    (["text.txt", "--encoding", "base64"], "unknown encoding `base64`", "cp1252"),
    (["text.txt", "--encoding", "cp1252", "--symbols", "bytes"], "--encoding", None),
    (["text.txt", "--val-fraction", ".7", "--test-fraction", ".5"], "leave nothing to train on", None),
    (["text.txt", "--config", "missing.toml"], "cannot read `missing.toml`", None),
    (["text.txt", "--config", "."], "cannot read `.`", None),
    (["text.txt", "--config", "broken.toml"], "`broken.toml` is not valid TOML", None),
    (["text.txt", "--config", "loose.toml"], "`hidden_size` in `loose.toml`", "[model]"),
    (["text.txt", "--config", "wrong.toml"], "unknown setting `model.hiden_size`", "model.hidden_size"),
    (["text.txt", "--config", "pattern.toml"], "no valid regular expression", "files, lines or blank"),
    (["text.txt", "--set", "model.dropout"], "`--set model.dropout` has no `=`", "--set training."),
    (["text.txt", "--set", "model.droput=0"], "`model.droput`", "did you mean `model.dropout`?"),
    (["text.txt", "--set", "training.l2=1e308"], "`training.l2` is `1e+308`", None),
    (["text.txt", "--set", "=1"], "unknown setting ``", "known:"),
    (["text.txt", "--set", "training.schedule=cosin"], "unknown schedule `cosin`", "cosine"),
    (["text.txt", "--set", "model.cell=lstn", "--dropout", "2"], ["`lstn`", "`model.dropout`"], "lstm"),
    (["--resume", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["--resume", "no-checkpoint"], "`no-checkpoint` has no checkpoint", "run directory"),
    (["--resume", "cut-run"], "`cut-run` has no checkpoint", "run directory"),
    (["--resume", "runs/mine/best"], "is not a run directory", "single file"),
    (["--resume", "mine", "--hidden-size", "9"], "`model.hidden_size` is `8` in this run", "what can change"),
    (["--resume", "mine", "--set", "model.dropout=.9"], "`model.dropout` is", "epochs, steps, minutes"),
    (["--resume", "mine", "--optimizer", "sgd"], "`muon` in this run and cannot become `sgd`", "what can"),
    (["--resume", "mine", "--symbols", "bytes"], "`text.symbols` is `chars` in this run", "what can change"),
    (["--resume", "mine", "--steps", "none"], "the run would have no end", "--epochs"),
    (["--resume", "mine", "--steps", "0"], "`training.steps` is `0`", None),
    (["--resume", "mine", "--learning-rate", "nan"], "`training.learning_rate` is `nan`", None),
    (["text.txt", "--resume", "mine"], "`text.txt` has no place beside it", "charrnn train --resume mine"),
    (["--resume", "mine", "--overwrite"], "`--overwrite` has no place", "charrnn train --resume mine"),
    (["--resume", "mine", "--run", "x"], "`--run` has no place", "charrnn train --resume mine"),
    (["--resume", "mine", "--preset", "tiny"], "`--preset` has no place", "charrnn train --resume mine"),
    (["--resume", "mine", "--device", "cudo"], "unknown device `cudo`", "cuda"),
)


@pytest.mark.parametrize(("arguments", "words", "hint"), TRAIN)
def test_train_refuses(arguments, words, hint):
    before = everything_below(Path("runs"))
    assert_refused(call("train", *arguments, "--dry-run"), words, hint)
    assert everything_below(Path("runs")) == before


SETTINGS = [
    ("--hidden-size", "model.hidden_size", ["0", "-3", "abc", "1.5", "nan", "", "65537"]),
    ("--num-layers", "model.num_layers", ["0", "-1", "x", "65"]),
    ("--dropout", "model.dropout", ["1.5", "1", "-0.1", "nan", "inf", "x"]),
    ("--minutes", "training.minutes", ["-1", "0", "nan", "inf", "ten"]),
    ("--epochs", "training.epochs", ["-1", "0", "nan", "inf", "x"]),
    ("--steps", "training.steps", ["-1", "0", "1.5", "x"]),
    ("--learning-rate", "training.learning_rate", ["inf", "nan", "0", "-1", "x", "1e+38"]),
    ("--grad-clip", "training.grad_clip", ["0", "-1", "nan", "inf"]),
    ("--batch-size", "training.batch_size", ["0", "-1", "x", "65537"]),
    ("--seq-len", "training.seq_len", ["0", "-1", "x", "65537"]),
    ("--seed", "training.seed", ["-1", "x", "1.5", str(2**63)]),
    ("--val-fraction", "text.val_fraction", ["1", "-0.1", "nan", "x"]),
    ("--test-fraction", "text.test_fraction", ["1", "-0.1", "inf", "x"]),
    ("--symbols", "text.symbols", ["char", "words", ""]),
    ("--newlines", "text.newlines", ["crlf", "LF", ""]),
]


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [(flag, name, value) for flag, name, values in SETTINGS for value in values],
)
def test_setting_out_of_range_is_refused_by_name(flag, name, value):
    result = call("train", "text.txt", f"{flag}={value}", "--dry-run")
    shown = result.stderr.replace(".0`", "`")
    assert_refused(result, "but must be ")
    assert f"`{name}` is `{value}`" in shown


HUGE = [pytest.param(flag) for flag in ("--hidden-size", "--steps", "--seed")]


@pytest.mark.parametrize("flag", [*HUGE, "--epochs", "--minutes"])
def test_number_beyond_any_float_is_refused(flag):
    assert_refused(call("train", "text.txt", flag, "9" * 400, "--dry-run"), "but must be")


@pytest.mark.parametrize("steps", [["--epochs", "1e308"], ["--steps", "1" + "0" * 307]])
def test_endless_budget_is_refused_or_planned(steps):
    result = call("train", "text.txt", *steps, *SMALL, "--dry-run", "--json")
    if result.exit_code == 0:
        assert result.stdout.startswith("{")
    else:
        assert_refused(result, "error:")


@pytest.mark.parametrize(
    ("flag", "value", "hint"),
    [
        ("--cell", "lstn", "did you mean `lstm`?"),
        ("--cell", "transformer-9", "known: "),
        ("--optimizer", "adamx", "did you mean `adam"),
    ],
)
def test_unknown_part_is_refused_with_the_nearest_name(flag, value, hint):
    assert_refused(call("train", "text.txt", flag, value, "--dry-run"), f"unknown {flag[2:]} `{value}`", hint)


MODELS = cases(
    (["sample", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["sample", "no-checkpoint"], "`no-checkpoint` has no checkpoint", "best/model.safetensors"),
    (["sample", "cut-run"], "is damaged or no checkpoint", "copied whole"),
    (["sample", "noise.safetensors"], "`noise.safetensors` is damaged or no checkpoint", "copied whole"),
    (["sample", "text.txt"], "is damaged or no checkpoint", "a RUN comes first"),
    (["sample", "empty.txt"], "`empty.txt`", None),
    (["sample", "mine", "--prompt", "日本"], "knows no character of the prompt `日本`", "it knows: "),
    (["sample", "mine", "--prompt", "a", "--prompt-file", "text.txt"], "exclude each other", None),
    (["sample", "mine", "--prompt-file", "missing.txt"], "cannot read `missing.txt`", None),
    (["sample", "mine", "--prompt-file", "latin.txt"], "`latin.txt` is not UTF-8", "iconv"),
    (["sample", "mine", "--prompt-file", "."], "cannot read `.`", None),
    (["sample", "mine", "--length", "-1"], "length` is `-1`", None),
    (["sample", "mine", "--length", "many"], "`--length` is `many`, but must be a whole number", None),
    (["sample", "mine", "--length", "1.5"], "`--length` is `1.5`", None),
    (["sample", "mine", "--temperature", "-0.1"], "temperature` is `-0.1`", None),
    (["sample", "mine", "--temperature", "nan"], "temperature` is `nan`", None),
    (["sample", "mine", "--temperature", "inf"], "temperature` is `inf`", None),
    (["sample", "mine", "--temperature", "hot"], "`--temperature` is `hot`, but must be a number", None),
    (["sample", "mine", "--top-p", "0"], "top_p` is `0.0`", None),
    (["sample", "mine", "--top-p", "1.1"], "top_p` is `1.1`", None),
    (["sample", "mine", "--top-p", "nan"], "top_p` is `nan`", None),
    (["sample", "mine", "--top-k", "-1"], "top_k` is `-1`", None),
    (["sample", "mine", "--min-p", "2"], "min_p` is `2.0`", None),
    (["sample", "mine", "--min-p", "nan"], "min_p` is `nan`", None),
    (["sample", "mine", "--temperature", "1e30"], "temperature` is `1e+30`, but must be 0, or", None),
    (["sample", "mine", "--temperature", "1e-30"], "at least 1e-6 and at most 1e6", None),
    (["sample", "mine", "--top-k", "-1", "--top-p", "0"], ["top_k", "top_p"], None),
    (["sample", "mine", "--seed", "-1"], "seed` is `-1`", None),
    (["sample", "mine", "--seed", str(2**64)], f"seed` is `{2**64}`", None),
    (["sample", "mine", "--count", "0"], "`--count` is `0`", None),
    (["sample", "mine", "--count", "-2"], "`--count` is `-2`", None),
    (["sample", "mine", "--stop", ""], "stop` is empty", None),
    (["sample", "mine", "--hold", "L1.c3"], "`L1.c3` does not say what to hold", "L1.c5=0.9"),
    (["sample", "mine", "--hold", "17=0.5"], "`17` is no neuron", "L1.h0"),
    (["sample", "mine", "--hold", "L1.c8=0.5"], "has no neuron `L1.c8`", "7"),
    (["sample", "mine", "--hold", "L1.c0=0", "--hold", "L1.f0=2"], "`L1.f0` cannot be held at `2`", "0 to 1"),
    (["sample", "mine", "--hold", "L1.c0=nan"], "`L1.c0` cannot be held at `nan`", "-1 to 1"),
    (["sample", "mine", "--hold", "L1.c0=high"], "cannot be held at `high`", "p05, p95, mean"),
    (["sample", "mine", "-o", "no/such/folder/out.txt"], "cannot write `no/such/folder/out.txt`", None),
    (["sample", "mine", "--device", "tpu"], "unknown device `tpu`", "cpu"),
    (["evaluate", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["evaluate", "cut-run"], "is damaged or no checkpoint", "copied whole"),
    (["evaluate", "noise.safetensors"], "is damaged or no checkpoint", "copied whole"),
    (["evaluate", "mine", "--split", "dev"], "unknown split `dev`", "`val` and a `test`"),
    (["evaluate", "mine", "--split", "train"], "unknown split `train`", "`val` and a `test`"),
    (["evaluate", "mine", "missing.txt"], "`missing.txt`", "charrnn corpora list"),
    (["evaluate", "mine", "empty.txt"], "there is no text in `empty.txt`", None),
    (["evaluate", "mine", "latin.txt"], "`latin.txt` is not utf-8", "--symbols bytes"),
    (["evaluate", "mine", "--encoding", "cp1252"], "none was named", None),
    (["evaluate", "mine", "text.txt", "--encoding", "klingon"], "unknown encoding `klingon`", "cp1252"),
    (["evaluate", "mine", "--against", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["evaluate", "mine", "--dynamic-rate", "0.1"], "no meaning without `--dynamic`", None),
    (["evaluate", "mine", "--dynamic", "--dynamic-rate", "nan"], "`dynamic_rate` is `nan`", None),
    (["evaluate", "mine", "--dynamic", "--dynamic-rate", "x"], "`--dynamic-rate` is `x`", None),
    (["evaluate", "mine", "--cold-window", "0"], "cold_window` is `0`", None),
    (["evaluate", "mine", "--cold-window", "-5"], "cold_window` is `-5`", None),
    (["evaluate", "mine", "--cold-window", "x"], "`--cold-window` is `x`", None),
    (["evaluate", "mine", "--device", "tpu"], "unknown device `tpu`", "cpu"),
    (["inspect", "neurons", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["inspect", "neurons", "cut-run"], "is damaged or no checkpoint", "copied whole"),
    (["inspect", "neurons", "noise.safetensors"], "is damaged or no checkpoint", "copied whole"),
    (["inspect", "neurons", "mine", "--neuron", "17"], "`17` is no neuron", "L1.h0"),
    (["inspect", "neurons", "mine", "--neuron", "l1.c0"], "`l1.c0` is no neuron", "L1.h0"),
    (["inspect", "neurons", "mine", "--neuron", "L1.c 0"], "is no neuron", "L1.h0"),
    (["inspect", "neurons", "mine", "--neuron", ""], "`` is no neuron", "L1.h0"),
    (["inspect", "neurons", "mine", "--neuron", "L1.c8"], "has no neuron `L1.c8`", "7"),
    (["inspect", "neurons", "mine", "--neuron", "L2.c0"], "has no neuron `L2.c0`", "L1"),
    (["inspect", "neurons", "mine", "--neuron", "L0.c0"], "has no neuron `L0.c0`", "L1"),
    (["inspect", "neurons", "mine", "--neuron", "L1.q0"], "has no neuron `L1.q0`", "of kind"),
    (["inspect", "neurons", "mine", "--hypothesis", "nosuch"], "unknown hypothesis `nosuch`", "known: "),
    (["inspect", "neurons", "mine", "--text", "missing.txt"], "`missing.txt`", "charrnn corpora list"),
    (["inspect", "neurons", "mine", "--text", "short.txt"], "too short to inspect", "--text"),
    (["inspect", "neurons", "mine", "--kind", "z"], "there are no `z` neurons", "known: h, c, i, f, g, o"),
    (["inspect", "neurons", "mine", "--ablation", "median"], "unknown ablation `median`", "known: mean"),
    (["inspect", "neurons", "mine", "--steer", "L1.c8"], "has no neuron `L1.c8`", "7"),
    (["inspect", "neurons", "mine", "--neuron", "L1.c1", "--steer", "L1.c2"], "different neurons", None),
    (["inspect", "neurons", "mine", "--steer", "L1.c1", "--ablation", "none"], "holds none", "leave out"),
    (["inspect", "neurons", "mine", "--top", "0"], "`--top` is `0`", None),
    (["inspect", "neurons", "mine", "--top", "all"], "`--top` is `all`", None),
    (["inspect", "neurons", "mine", "--precision", "int8"], "`--precision` is `int8`", "leave it out"),
    (["inspect", "gates", "mine", "--precision", "fp16"], "computed in fp32 alone", "--precision fp32"),
    (["inspect", "gradients", "mine", "--precision", "bf16"], "computed in fp32 alone", "leave it out"),
    (["compress", "mine", "text.txt", "-o", "x", "--device", "cuda"], "on the processor", "--device cpu"),
    (["decompress", "mine", "x", "-o", "y", "--precision", "int8"], "whole numbers from fp32", "leave it"),
    (["inspect", "neurons", "mine", "--max-chars", "0"], "`--max-chars` is `0`", None),
    (["inspect", "neurons", "mine", "--max-chars", "much"], "`--max-chars` is `much`", None),
    (["runs", "show", "nosuch"], "there is no run `nosuch`", "charrnn runs list"),
    (["runs", "show", "cut-run"], "is damaged or no checkpoint", "copied whole"),
    (["corpora", "show", "nosuch"], "unknown corpus `nosuch`", "known: "),
    (["corpora", "show", "stdlip"], "unknown corpus `stdlip`", "did you mean `stdlib`?"),
    (["corpora", "get", "nosuch"], "unknown corpus `nosuch`", "known: "),
    (["corpora", "get", "stdlib"], "`stdlib` needs no download", "charrnn train stdlib"),
)


@pytest.mark.parametrize(("arguments", "words", "hint"), MODELS)
def test_commands_on_models_and_corpora_refuse(arguments, words, hint):
    assert_refused(call(*arguments), words, hint)


@pytest.mark.parametrize("command", [["sample"], ["evaluate"], ["inspect", "neurons"], ["runs", "show"]])
def test_without_any_run_the_hint_says_how_to_make_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(call(*command), "there is no run below `runs/` yet", "charrnn train")


@pytest.mark.parametrize(
    "command", [["sample", "runs/mine"], ["evaluate", "runs/mine"], ["train", "--resume", "runs/mine"]]
)
@pytest.mark.parametrize("options", [["--json"], []])
def test_error_looks_the_same_with_json(command, options):
    assert_refused(call(*command, *options, "--device", "tpu"), "unknown device `tpu`")


@pytest.mark.parametrize(
    "which", ["best/model.safetensors", "last/model.safetensors", "last/trainer.safetensors"]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_checkpoint_is_refused_by_every_command(tmp_path, monkeypatch, place, which, share):
    for path, content in everything_below(place / "runs/mine").items():
        copy = tmp_path / "copy" / path.relative_to(place / "runs/mine")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    broken = tmp_path / "copy" / which
    broken.write_bytes(broken.read_bytes()[: int(share * broken.stat().st_size)])
    commands = [["train", "--resume", str(tmp_path / "copy")]]
    if which.startswith("best"):
        commands = [["sample"], ["evaluate"], ["inspect", "neurons"], ["runs", "show"]]
        commands = [[*command, str(tmp_path / "copy")] for command in commands]
    for command in commands:
        assert_refused(call(*command), which)


@pytest.mark.parametrize("run", ["a-file/run", "./a-file", "text.txt/deep/er"])
def test_run_below_a_file_is_refused(run):
    result = call("train", "text.txt", "--run", run, "--steps", "1", *SMALL, "--quiet")
    assert_refused(result, "error:")
    assert Path("a-file").read_bytes() == b"not a folder"


def test_cache_that_cannot_be_written_is_refused(monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", "a-file")
    assert_refused(
        call("train", "short.txt", "--run", "new"), "cannot write the encoded text", "CHARRNN_CACHE"
    )


@pytest.mark.parametrize(
    "command", [["train", "a" * 5000], ["sample", "a" * 5000], ["train", "text.txt", "--run", "a" * 5000]]
)
def test_overlong_name_is_refused(command):
    assert_refused(call(*command), "aaa")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_that_cannot_be_written_is_refused():
    assert_refused(call("sample", "mine", "--length", "9", "-o", "/dev/full"), "cannot write `/dev/full`")


def test_cold_window_longer_than_the_text_is_one_window():
    wide = call("evaluate", "mine", "--cold-window", "1" + "0" * 13, "--json")
    assert wide.exit_code == 0 and isinstance(wide.exception, SystemExit | None), repr(wide.exception)


@pytest.mark.parametrize("command", [["train", "", "--dry-run"], ["evaluate", "mine", ""]], ids=" ".join)
def test_empty_name_is_no_text(command):
    assert_refused(call(*command), "``")


def test_unknown_split_is_refused_beside_texts_too():
    assert_refused(call("evaluate", "mine", "text.txt", "--split", "dev"), "unknown split `dev`")


def test_unknown_characters_of_a_prompt_are_reported_and_skipped():
    result = call("sample", "mine", "--prompt", "The 日", "--length", "3", "--seed", "1")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: ") and "`日`" in result.stderr
    assert "error" not in result.stderr


def test_message_with_control_characters_stays_on_one_harmless_line():
    result = call("train", "no\nsuch\x1b[31m\r\tfile")
    assert_refused(result, "no such")
    assert "\x1b" not in result.stderr and "\r" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--hiden-size", "8"],
        ["sample", "--nosuch"],
        ["evaluate", "-x"],
        ["nosuch"],
        ["inspect", "nosuch"],
        ["corpora", "show"],
        ["corpora", "get"],
        ["train", "--hidden-size"],
        ["sample", "mine", "extra"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_two(arguments):
    result = call(*arguments)
    assert isinstance(result.exception, SystemExit) and result.exit_code == 2
    assert result.stdout == "" and result.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "-h"], ["inspect", "--help"]], ids=" ".join
)
def test_help_and_version_go_to_stdout(arguments):
    result = call(*arguments)
    assert result.exit_code == 0 and result.stdout and result.stderr == ""


def test_good_commands_succeed_where_the_bad_ones_fail():
    sampled = call("sample", "mine", "--length", "5", "--seed", "1", "--prompt", "The ")
    assert sampled.exit_code == 0 and len(sampled.stdout) == 9 and sampled.stderr == ""
    dry = call("train", "latin.txt", "--encoding", "cp1252", "--steps", "1", *SMALL, "--dry-run")
    assert dry.exit_code == 0 and "hidden_size" in dry.stdout


NO_MEMORY = {
    "on Linux": RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    "on Windows": RuntimeError(
        "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    "on CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "in Python": MemoryError(),
    "mapped": OSError(12, "Cannot allocate memory"),
}


TRAINING = ["train", "text.txt", "--steps", "1", *SMALL]


@pytest.mark.parametrize("error", list(NO_MEMORY.values()), ids=list(NO_MEMORY))
@pytest.mark.parametrize(
    ("function", "arguments", "advice"),
    [
        ("training.job.new_network", TRAINING, "--batch-size"),
        ("evaluation.score", ["evaluate"], "larger machine"),
    ],
)
def test_too_little_memory_is_one_error(monkeypatch, function, arguments, advice, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(f"charrnn.{function}", full)
    assert_refused(call(*arguments), "there is not enough memory for this", advice)


def test_a_checkpoint_that_memory_does_not_hold_twice_is_an_error_that_can_be_told(monkeypatch):
    """There safetensors would panic, which prints a traceback, or end the process."""
    monkeypatch.setattr("charrnn.runs.COPIES", 1 << 54)
    with pytest.raises(RuntimeError) as told:
        tensor_bytes({"weight": torch.zeros(4, 4)}, {})
    assert ran_out_of_memory(told.value)
