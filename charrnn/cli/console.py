"""Where a command's words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from charrnn.errors import CharrnnError
from charrnn.rendering.console import SafeConsole
from charrnn.rendering.text import one_line, visible


def stderr_console() -> Console:
    """Return a console for progress, notices and errors."""
    return SafeConsole(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def report_error(error: CharrnnError) -> None:
    """Print ``error: …`` and ``hint: …``, each on one line of its own."""
    console = stderr_console()
    lines = [("error", "bold red", error.message)] + ([("hint", "cyan", error.hint)] if error.hint else [])
    for word, style, message in lines:
        text = " ".join(visible(message).split())
        console.print(Text.assemble((f"{word}: ", style), text), soft_wrap=True)


@contextmanager
def share_done(what: str, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Yield what shows the share done, on a terminal only."""
    console = stderr_console()
    if quiet or not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} {task.percentage:3.0f} %"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)


def notice(message: str) -> None:
    """Print something the user should know to stderr."""
    stderr_console().print(Text.assemble(("note: ", "yellow"), one_line(message)), soft_wrap=True)


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object to stdout."""
    write_out(json_line(data))


def json_line(data: dict[str, Any]) -> str:
    """Return one JSON object and a line end; numbers are not rounded."""
    return json.dumps(_finite(data), allow_nan=False, ensure_ascii=True) + "\n"


def _finite(value: Any) -> Any:
    """Return plain values with null for numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_out(text: str, painted: bool = False) -> None:
    """Write a result to stdout: made safe for the eye on a terminal, raw into pipes and files.

    Args:
        text: The result.
        painted: It is safe already, and its escapes are meant.
    """
    try:
        if sys.stdout.isatty():
            encoding = sys.stdout.encoding or "utf-8"
            text = text if painted else visible(text)
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # the reader has gone: the program ends quietly
    except OSError as error:
        raise CharrnnError(f"cannot write to standard output: {error.strerror}") from None


def silence_stdout() -> None:
    """Send what may still be on its way to stdout nowhere, after its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def unfailing(stream: TextIO) -> TextIO:
    """Return a stream to the same place that drops what cannot be written there.

    Notices and progress go to stderr: a full disk or a closed terminal behind it shall not end a training.
    """
    if sys.platform == "win32" and stream.isatty():  # a console there takes text, not bytes
        return stream
    raw = io.BufferedWriter(_Unfailing(stream.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True)


class _Unfailing(io.FileIO):
    """A file that takes everything and fails at nothing."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written
