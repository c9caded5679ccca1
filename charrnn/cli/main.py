"""The program: its commands, and the one boundary where errors become words and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import charrnn
from charrnn.cli import bench, compress, corpora, doctor, evaluate, inspect, runs, sample, train
from charrnn.cli.console import report_error, silence_stdout, unfailing
from charrnn.cli.interrupts import INTERRUPTED, raised_on_interrupt
from charrnn.cli.processes import ended_at_once
from charrnn.errors import CharrnnError, ran_out_of_memory
from charrnn.rendering.text import visible


@contextmanager
def _usage_shown() -> Iterator[None]:
    """Make visible what a message about wrong usage repeats of the command line."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, of which it shows no class
            error.message = visible(error.message)
        raise


class Boundary(TyperGroup):
    """Turns what a user caused into one ``error:`` line and exit code 1; all else keeps its traceback."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _usage_shown():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        try:
            with raised_on_interrupt(), _usage_shown():
                return super().invoke(ctx)
        except CharrnnError as error:
            report_error(error)
            raise typer.Exit(1) from None
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            report_error(_no_memory(ctx.invoked_subcommand))
            raise typer.Exit(1) from None
        except BrokenPipeError:  # the reader has gone: the program ends quietly, as if by SIGPIPE
            silence_stdout()
            raise typer.Exit(141) from None
        except OSError as error:
            where = "write to standard output" if error.filename is None else f"use `{error.filename!s}`"
            told = CharrnnError(f"cannot {where}: {error.strerror or error}")
            report_error(_no_memory(ctx.invoked_subcommand) if ran_out_of_memory(error) else told)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)  # noqa: T201
            raise typer.Exit(INTERRUPTED) from None


def _no_memory(command: str | None) -> CharrnnError:
    smaller = "make the network or the batch smaller: `--hidden-size`, `--num-layers`, `--batch-size`"
    hint = smaller if command == "train" else "end what else holds memory, or do it on a larger machine"
    return CharrnnError("there is not enough memory for this", hint)


app = typer.Typer(
    cls=Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a recurrent character language model, hear it speak, and look inside it.",
    epilog="Start with: charrnn train corpus.txt · charrnn sample · charrnn inspect neurons",
)
app.command()(train.train)
app.command()(sample.sample)
app.command()(evaluate.evaluate)
app.command()(compress.compress)
app.command()(compress.decompress)
app.add_typer(inspect.app, name="inspect")
app.add_typer(bench.app, name="bench")
app.add_typer(corpora.app, name="corpora")
app.add_typer(runs.app, name="runs")
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"charrnn {charrnn.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train a recurrent character language model, hear it speak, and look inside it."""


def main() -> None:
    """Run the program."""
    _prepare_streams()
    with ended_at_once():
        app(prog_name="charrnn")


def _prepare_streams() -> None:
    """Make results UTF-8 in pipes and files, and never an error for a letter that a terminal lacks."""
    if sys.stdin is None:  # its number shall be no pipe of ours
        os.open(os.devnull, os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    else:
        sys.stderr = unfailing(sys.stderr)
    if sys.stdout is None:
        report_error(CharrnnError("standard output is closed", "there is nowhere to write results to"))
        raise SystemExit(1)
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
