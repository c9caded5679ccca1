"""``charrnn inspect hypotheses``."""

from __future__ import annotations

from typing import Annotated

import typer

from charrnn.cli.console import print_json
from charrnn.cli.options import JsonOption


def hypotheses(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Files, folders, globs, corpus names or `-` to try them on; none lists them.",
            show_default=False,
        ),
    ] = None,
    hypothesis: Annotated[
        list[str] | None,
        typer.Option(
            "--hypothesis",
            metavar="SPEC",
            help="Only this: a name, 'name=/regex/', file.py:function, labels.npy, or names with & | ~. "
            "Repeatable.",
        ),
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", metavar="E", help="That of the texts.")] = "utf-8",
    as_json: JsonOption = False,
) -> None:
    """List the properties of text that neurons are tested for, or try them on a text.

    No model is needed. With one hypothesis, some of the text is shown with its labels.

    [dim]charrnn inspect hypotheses book.txt · charrnn inspect hypotheses book.txt --hypothesis in_quote[/dim]
    """
    if texts:
        _try(texts, encoding, hypothesis or [], as_json)
    else:
        _list(hypothesis or [], as_json)


def _list(specs: list[str], as_json: bool) -> None:
    from charrnn.inspection.hypotheses import names
    from charrnn.inspection.hypotheses.custom import resolve
    from charrnn.rendering.hypotheses import print_list

    known = [resolve(spec) for spec in dict.fromkeys(specs or names())]
    if as_json:
        keys = ("name", "type", "definition", "lookahead")
        rows = [{key: getattr(h, key) for key in keys} | {"kinds": " ".join(sorted(h.kinds))} for h in known]
        print_json({"hypotheses": rows})
    else:
        print_list(known)


def _try(texts: list[str], encoding: str, specs: list[str], as_json: bool) -> None:
    from charrnn.config import TextConfig
    from charrnn.inspection.hypotheses import PROFILE_CHARS, for_kind, profile_text
    from charrnn.inspection.hypotheses.custom import resolve_all
    from charrnn.inspection.hypotheses.trial import try_hypotheses
    from charrnn.rendering.hypotheses import print_trials
    from charrnn.text.corpus import open_corpus
    from charrnn.text.reading import find_sources

    corpus = open_corpus(find_sources(texts), TextConfig(encoding=encoding))
    sample = corpus.text(0, PROFILE_CHARS)
    profile = profile_text(sample)
    trials = try_hypotheses(corpus, resolve_all(specs, sample, profile) or for_kind(profile.kind), profile)
    if as_json:
        print_json(trials.to_json())
    else:
        print_trials(trials, " ".join(texts))
