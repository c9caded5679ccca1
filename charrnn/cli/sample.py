"""``charrnn sample``."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from charrnn.cli.colour import noting, speak_painted
from charrnn.cli.console import json_line, notice, write_out
from charrnn.cli.options import DeviceOption, JsonOption, LastOption, RunArgument, StoredOption, real, whole
from charrnn.errors import ConfigError, TextError

MAX_PROMPT_BYTES = 16 << 20


def sample(
    run: RunArgument = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="Text to continue.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option("--prompt-file", metavar="F", help="The same from a file.")
    ] = None,
    length: Annotated[int, whole("--length", "Characters to generate.")] = 500,
    temperature: Annotated[
        float, real("--temperature", "Below 1 bolder, above 1 wilder; 0 takes the best.")
    ] = 0.8,
    top_k: Annotated[int, whole("--top-k", "Draw from the k most probable; 0 from all.")] = 0,
    top_p: Annotated[float, real("--top-p", "Draw from the fewest that reach this probability.")] = 1.0,
    min_p: Annotated[
        float, real("--min-p", "Leave out what is less probable than this share of the best.")
    ] = 0.0,
    seed: Annotated[
        int | None, whole("--seed", "The same seed gives the same text.", show_default=False)
    ] = None,
    count: Annotated[int, whole("--count", "How many texts.")] = 1,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End before this text appears; repeatable."),
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option(
            "--hold", metavar="L2.c117=0.9", help="Keep a neuron at a value, p05, p95 or mean; repeatable."
        ),
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option("--colour", "--color", metavar="WHAT", help="Paint by surprisal, or by a neuron."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file.")
    ] = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    precision: StoredOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let a model speak.

    The text appears character by character, after the prompt.

    [dim]charrnn sample --prompt "def " --temperature 0.6 · charrnn sample names --count 10[/dim]
    """
    if count < 1:
        raise ConfigError(f"`--count` is `{count}`, but must be at least 1")
    from charrnn.api import load

    prompt = _prompt(prompt, prompt_file)
    seed = secrets.randbelow(2**31) if seed is None else seed
    loaded = load(run, last=last, device=device, precision=precision)
    unknown = loaded.vocabulary.unknown(prompt)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    options |= {"prompt": prompt, "seed": seed, "stop": tuple(stop or ()), "hold": tuple(hold or ())}
    speak = loaded.stream if colour is None else partial(loaded.watch, colour=colour)
    first = speak(length, stream=0, **options)  # wrong options show before anything is written
    streams = chain([first], (speak(length, stream=index, **options) for index in range(1, count)))
    if unknown:
        notice(f"the model does not know {' '.join(f'`{c}`' for c in unknown[:20])}: left out of the prompt")
    with _writer(output) as write:
        if as_json and count > 1 and colour is None:
            begun = time.perf_counter()
            texts = loaded.samples(count, length, **options)
            rate = sum(map(len, texts)) / (time.perf_counter() - begun)
            data = {"text": texts[0], "prompt": prompt, "seed": seed}
            write(json_line(data | {"chars_per_second": rate, "texts": texts}))
            return
        if as_json:
            write(json_line(_result(list(streams), prompt, seed, colour)))
            return
        if colour is not None:
            speak_painted(streams, prompt, colour, write, to_file=output is not None)
            return
        for index, stream in enumerate(streams):
            write(("\n---\n" if index else "") + prompt)
            for piece in stream:
                write(piece)


def _prompt(prompt: str | None, file: str | None) -> str:
    if prompt is not None and file is not None:
        raise ConfigError("`--prompt` and `--prompt-file` exclude each other")
    if file is None:
        return prompt or ""
    try:
        with Path(file).open("rb") as stream:
            text = stream.read(MAX_PROMPT_BYTES + 1)
        if len(text) > MAX_PROMPT_BYTES:
            raise TextError(
                f"`{file}` has more than {MAX_PROMPT_BYTES:,} bytes", "a prompt is read whole: give its end"
            )
        return text.decode("utf-8-sig")
    except OSError as error:
        raise TextError(f"cannot read `{file}`: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TextError(f"`{file}` is not UTF-8", "convert it, for example with iconv") from None


def _result(streams: list[Iterator[Any]], prompt: str, seed: int, colour: str | None) -> dict[str, Any]:
    values: list[list[float]] = [[] for _ in streams]
    if colour is not None:
        streams = [noting(stream, own) for stream, own in zip(streams, values, strict=True)]
    texts, rates = zip(*(_timed(stream) for stream in streams), strict=True)
    data: dict[str, Any] = {"text": texts[0], "prompt": prompt, "seed": seed}
    data["chars_per_second"] = sum(rates) / len(rates)
    if len(texts) > 1:
        data["texts"] = list(texts)
    if colour is not None:
        data |= {"colour": colour, "values": values[0]} | ({"all_values": values} if len(texts) > 1 else {})
    return data


def _timed(stream: Iterator[str]) -> tuple[str, float]:
    """Return a text and its characters per second, from the first character to the last."""
    text = [next(stream, "")]
    begun = time.perf_counter()
    text += stream
    seconds = time.perf_counter() - begun
    characters = sum(map(len, text[1:]))
    return "".join(text), characters / seconds if seconds and characters else 0.0


@contextmanager
def _writer(output: str | None) -> Iterator[Callable[[str], None]]:
    """Yield what writes text: to stdout, where a terminal gets a line end after it, or raw to a file."""
    if output is None:
        yield write_out
        if sys.stdout.isatty():
            write_out("\n")
        return
    try:
        with Path(output).open("wb") as file:
            yield lambda text: file.write(text.encode("utf-8", "surrogateescape")) and None
    except OSError as error:
        raise TextError(f"cannot write `{output}`: {error.strerror}") from None
