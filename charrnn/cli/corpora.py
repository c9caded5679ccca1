"""``charrnn corpora``: list, show, get."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from charrnn.cli.console import notice, print_json, stderr_console, write_out
from charrnn.cli.options import JsonOption
from charrnn.errors import CorpusError

app = typer.Typer(no_args_is_help=True, help="Texts that are known by name.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `charrnn corpora list` shows it.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the known corpora and whether they are on this machine."""
    from charrnn.rendering.tables import print_stdout, table
    from charrnn.text import corpora

    entries = corpora.catalogue().values()
    if as_json:
        print_json({"corpora": [{**asdict(entry), "here": bool(_where(entry))} for entry in entries]})
        return
    rows = [
        (e.name, e.title, f"{e.size_bytes:,}" if e.size_bytes else "", e.licence, _where(e)) for e in entries
    ]
    print_stdout(table(["name", "title", ">bytes", "licence", "here"], rows))


@app.command()
def show(name: Name, as_json: JsonOption = False) -> None:
    """Show everything that is known of a corpus."""
    from charrnn.rendering.tables import print_stdout, table
    from charrnn.text import corpora

    entry = {key: value for key, value in asdict(corpora.find(name)).items() if value not in (None, "")}
    if as_json:
        print_json(entry)
    else:
        print_stdout(table(["", ""], [(key, str(value)) for key, value in entry.items()]))


@app.command()
def get(name: Name) -> None:
    """Download a corpus, verify it, and say where it is. Running it again continues a broken download."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from charrnn.text import corpora
    from charrnn.text.download import download

    entry = corpora.find(name)
    console = stderr_console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(entry.name, total=entry.size_bytes)
        path = download(entry, progress=lambda done, total: bar.update(task, completed=done, total=total))
    if entry.sha256 is None:
        notice(f"no hash of `{name}` is known, so its content is not verified")
    write_out(f"{path}\n")


def _where(entry: object) -> str:
    from charrnn.text import corpora

    try:
        corpora.locate(entry)
    except CorpusError:
        return ""
    return "yes"
