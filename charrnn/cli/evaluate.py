"""``charrnn evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli.console import notice, print_json, share_done
from charrnn.cli.options import (
    DeviceOption,
    EncodingOption,
    JsonOption,
    LastOption,
    StoredOption,
    real,
    whole,
)

if TYPE_CHECKING:
    from charrnn.evaluation import Evaluation


def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [TEXT]...",
            help="A run (the newest if left out), then texts to score whole; none: its held-out text.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="S", help="val or test, of the run's own text.")
    ] = "val",
    cold_window: Annotated[
        int | None,
        whole("--cold-window", "Score windows of N characters from zero state.", show_default=False),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Score once more with a copy that learns while it reads.")
    ] = False,
    dynamic_rate: Annotated[
        float | None,
        real(
            "--dynamic-rate", "Learning rate of the copy; chosen on val, never on test.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="RUN", help="Another run on the same text.")
    ] = None,
    context_lengths: Annotated[
        bool,
        typer.Option("--context-lengths", help="How far back it looks, and its cost by place in a document."),
    ] = False,
    per_character: Annotated[
        bool, typer.Option("--per-character", help="Paint what every character costs; without baselines.")
    ] = False,
    memorisation: Annotated[
        bool,
        typer.Option("--memorisation", "--memorization", help="How much of what it says is copied."),
    ] = False,
    encoding: EncodingOption = None,
    last: LastOption = False,
    device: DeviceOption = "auto",
    precision: StoredOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model predicts text, beside what simpler methods reach.

    Every character is scored once, with the context carried from the text's beginning.

    [dim]charrnn evaluate · charrnn evaluate mine --split test · charrnn evaluate mine other.txt
    charrnn evaluate mine --against other · echo "To be" | charrnn evaluate mine - --per-character[/dim]
    """
    from charrnn.api import load
    from charrnn.cli import evaluate_more as more
    from charrnn.rendering.evaluation import evaluation_table

    run, texts = (arguments[0], arguments[1:]) if arguments else (None, [])
    loaded = load(run, last=last, device=device, precision=precision)
    other = load(against, last=last, device=device) if against is not None else None
    with share_done("reading") as progress:
        text = loaded.text_to_score(texts, split=split, encoding=encoding, progress=progress)
    with share_done("scoring") as progress:
        result = loaded.evaluate(
            texts,
            split=split,
            encoding=encoding,
            cold_window=cold_window,
            dynamic=dynamic,
            dynamic_rate=dynamic_rate,
            baselines=not per_character,
            text=text,
            progress=progress,
        )
    _tell(result, loaded.name)
    title = texts[0] if texts else f"{split} split"
    parts = [evaluation_table(result, loaded.name, title)]
    data = _json(result, str(loaded.checkpoint.location))
    wanted = [
        ("against", other is not None, lambda p: more.compare(loaded, other, text, result, cold_window, p)),
        ("context_lengths", context_lengths, lambda p: more.contexts(loaded, text, p)),
        ("memorisation", memorisation, lambda p: more.memorisation(loaded, p)),
        ("characters", per_character, lambda p: more.characters(loaded, other, text)),
    ]
    for key, asked, measure in wanted:
        if asked:
            with share_done(key.replace("_", " ")) as progress:
                data[key], part = measure(progress)
            parts.append(part)
    if as_json:
        print_json(data)
    else:
        from charrnn.rendering.tables import print_stdout

        print_stdout(*parts)


def _tell(result: Evaluation, name: str) -> None:
    if result.unseen_chars:
        notice(f"`{name}` does not know {result.unseen_chars:,} of the characters: escape + 8 bits a byte")
    absent = [baseline for baseline, bpc in result.baselines.items() if bpc is None]
    if absent == ["ppmd"]:
        notice("the baseline `ppmd` needs one more package: pip install 'charrnn[ppmd]'")
    elif absent:
        notice(f"the training text of `{name}` cannot be found any more, so there are no baselines")
    if result.trained_on:
        notice(f"`{name}` was trained on this text: without it, its held-out part is scored")
    if result.dynamic is not None and not result.dynamic.scaled:
        notice(f"the training text of `{name}` cannot be found any more: plain gradient descent for its copy")
    if result.beaten_by:
        better = result.dynamic and result.dynamic.bpc < min(result.baselines[b] for b in result.beaten_by)
        learning = "; learning while it reads, it does not" if better else ""
        notice(f"`{name}` loses to {', '.join(result.beaten_by)} on this text{learning}")


def _json(result: Evaluation, run: str) -> dict[str, Any]:
    keys = ("chars", "loss", "bpc", "bpb", "context")
    data: dict[str, Any] = {"run": run, **{key: getattr(result, key) for key in keys}}
    return data | {
        "dynamic": result.dynamic.to_json() if result.dynamic is not None else None,
        "baselines": result.baselines,
        "baselines_saw": result.baselines_saw or None,
        "beaten_by": result.beaten_by,
        "stderr_bpc": result.stderr_bpc,
        "unseen_chars": result.unseen_chars,
        "trained_on": result.trained_on,
    }
