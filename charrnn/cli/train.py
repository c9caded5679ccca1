"""``charrnn train``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli.console import print_json, report_error, share_done, stderr_console, write_out
from charrnn.cli.interrupts import HANGUP, STOPPING, heard
from charrnn.cli.options import DeviceOption, JsonOption, PrecisionOption, whole
from charrnn.cli.processes import LOST, end_with_launcher, run_in_processes, wants_processes
from charrnn.errors import CharrnnError, ConfigError
from charrnn.training.ranks import Rank, own_rank

if TYPE_CHECKING:
    from charrnn.events import EndEvent
    from charrnn.training.trainer import Trainer

STARTED = time.monotonic()
"""As near as can be to the command's start, for ``--minutes``."""


def _flag(flag: str, help: str, metavar: str, panel: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=help, show_default=False, rich_help_panel=panel)


def train(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Files, folders, globs, - for stdin, or corpus names; none means stdlib.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[str | None, _flag("--run", "Name under runs/, or a directory.", "NAME", "Run")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run.", rich_help_panel="Run")
    ] = False,
    resume: Annotated[str | None, _flag("--resume", "Continue a run where it stopped.", "RUN", "Run")] = None,
    init_from: Annotated[
        str | None, _flag("--init-from", "Begin with a run's weights.", "RUN", "Run")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan only.", rich_help_panel="Run")
    ] = False,
    processes: Annotated[
        int | None,
        whole("--processes", "Processes that share every batch.", show_default=False, rich_help_panel="Run"),
    ] = None,
    preset: Annotated[str | None, _flag("--preset", "tiny, laptop, gpu or awd.", "P", "Settings")] = None,
    config: Annotated[str | None, _flag("--config", "TOML with settings.", "FILE", "Settings")] = None,
    set_: Annotated[
        list[str] | None, _flag("--set", "Any setting, as section.name=value.", "K=V", "Settings")
    ] = None,
    minutes: Annotated[
        str | None, _flag("--minutes", "Wall time; 10 if no budget is given.", "F", "Budget")
    ] = None,
    epochs: Annotated[str | None, _flag("--epochs", "Passes over the training text.", "F", "Budget")] = None,
    steps: Annotated[str | None, _flag("--steps", "Optimizer steps.", "N", "Budget")] = None,
    cell: Annotated[
        str | None,
        _flag(
            "--cell",
            "lstm, gru, elman, elman_relu, jordan, mingru, minlstm, esn or compressor.",
            "C",
            "Model",
        ),
    ] = None,
    hidden_size: Annotated[str | None, _flag("--hidden-size", "Neurons per layer.", "N", "Model")] = None,
    num_layers: Annotated[str | None, _flag("--num-layers", "Recurrent layers.", "N", "Model")] = None,
    dropout: Annotated[str | None, _flag("--dropout", "Share of outputs set to zero.", "F", "Model")] = None,
    seq_len: Annotated[str | None, _flag("--seq-len", "Timesteps per window.", "T", "Optimization")] = None,
    batch_size: Annotated[str | None, _flag("--batch-size", "Parallel streams.", "B", "Optimization")] = None,
    optimizer: Annotated[
        str | None,
        _flag("--optimizer", "adamw, adam, muon, sgd …; see docs/commands.md.", "O", "Optimization"),
    ] = None,
    learning_rate: Annotated[
        str | None, _flag("--learning-rate", "Peak learning rate.", "F", "Optimization")
    ] = None,
    grad_clip: Annotated[
        str | None, _flag("--grad-clip", "Largest gradient norm.", "F", "Optimization")
    ] = None,
    seed: Annotated[str | None, _flag("--seed", "Fixes weights and dropout.", "N", "Optimization")] = None,
    documents: Annotated[
        str | None, _flag("--documents", "files, lines, blank, or a regular expression.", "D", "Text")
    ] = None,
    symbols: Annotated[str | None, _flag("--symbols", "chars or bytes.", "S", "Text")] = None,
    encoding: Annotated[str | None, _flag("--encoding", "The text's encoding.", "E", "Text")] = None,
    newlines: Annotated[str | None, _flag("--newlines", "keep, or fold CRLF to lf.", "N", "Text")] = None,
    val_fraction: Annotated[
        str | None, _flag("--val-fraction", "Share kept to choose the best.", "F", "Text")
    ] = None,
    test_fraction: Annotated[
        str | None, _flag("--test-fraction", "Share never looked at.", "F", "Text")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on text.

    Sizes and rates that are not given are planned from the amount of text and the budget. Ctrl-C saves
    the run; --resume continues it, with another budget or rate if one is given.

    [dim]charrnn train corpus.txt --minutes 5 · charrnn train src/ --run a · charrnn train --resume a[/dim]
    """
    settings = _settings(
        {
            "training.minutes": minutes,
            "training.epochs": epochs,
            "training.steps": steps,
            "training.seq_len": seq_len,
            "training.batch_size": batch_size,
            "training.optimizer": optimizer,
            "training.learning_rate": learning_rate,
            "training.grad_clip": grad_clip,
            "training.seed": seed,
            "model.cell": cell,
            "model.hidden_size": hidden_size,
            "model.num_layers": num_layers,
            "model.dropout": dropout,
            "text.documents": documents,
            "text.symbols": symbols,
            "text.encoding": encoding,
            "text.newlines": newlines,
            "text.val_fraction": val_fraction,
            "text.test_fraction": test_fraction,
        },
        set_ or [],
    )
    if resume is not None:
        named = {"--run": run, "--overwrite": overwrite, "--init-from": init_from}
        named |= {"--preset": preset, "--config": config}
        _refuse_beside_resume(resume, [*(texts or []), *(flag for flag, value in named.items() if value)])
    if wants_processes(processes) and not dry_run:
        raise typer.Exit(run_in_processes(processes))
    from charrnn.training import start

    where = {"device": device, "precision": precision, "started": STARTED}

    def begin(folder: str | None = None, **more: Any) -> Trainer:
        """Return a trainer, in the run directory that an earlier attempt has chosen if there was one."""
        if resume is not None:
            return start.resume(resume, settings=settings, **where, **more)
        with share_done("reading the text", quiet) as progress:
            return start.start(
                texts or [],
                run=folder or run,
                overwrite=overwrite or folder is not None,
                settings=settings,
                preset=preset,
                config_file=config,
                init_from=init_from,
                progress=progress,
                **where,
                **more,
            )

    place = own_rank()
    if dry_run:
        if place is None or place.rank == 0:
            _show_plan(begin(), as_json, processes or 1)
    elif place is None:
        _report(begin(), quiet, as_json)
    else:
        _join(place, begin, where, quiet, as_json)


def _refuse_beside_resume(run: str, words: list[str]) -> None:
    if words:
        raise ConfigError(
            f"`--resume` takes text and network from the run: `{words[0]}` has no place beside it",
            f"`charrnn train --resume {quote(run)}`; another budget or learning rate may be given",
        )


def _settings(flags: dict[str, str | None], assignments: list[str]) -> dict[str, str]:
    settings = {name: value for name, value in flags.items() if value is not None}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(
                f"`--set {assignment}` has no `=`", "for example --set training.weight_decay=0.1"
            )
        settings[name.strip()] = value.strip()
    return settings


def _join(
    place: Rank, begin: Callable[..., Trainer], where: dict[str, Any], quiet: bool, as_json: bool
) -> None:
    """Train as one of several processes; the first alone speaks, and takes signals."""
    from charrnn.training.distributed import joined
    from charrnn.training.together import start_together

    end_with_launcher()
    with _one_voice(place), joined(place, where["device"]) as crew:
        if not crew.first:
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
        trainer = start_together(crew, lambda folder: begin(folder, team=crew), **where)
        interrupted = _finish(trainer, quiet or not crew.first, as_json)
    if interrupted:
        raise typer.Exit(130)


@contextmanager
def _one_voice(place: Rank) -> Iterator[None]:
    """Have the first process say what is wrong, and all leave at once: connections may be half open."""
    from charrnn.training.distributed import LostPeerError

    try:
        yield
    except CharrnnError as error:
        launched = place.store is not None
        lost = launched and isinstance(error, LostPeerError)  # our launcher knows better who ended, and why
        if not lost and (launched or place.rank == 0):  # it keeps what the others say until it matters
            report_error(error)
            sys.stderr.flush()
        os._exit(LOST if lost else 1)


def _report(trainer: Trainer, quiet: bool, as_json: bool) -> None:
    if _finish(trainer, quiet, as_json):
        raise typer.Exit(130)


def _finish(trainer: Trainer, quiet: bool, as_json: bool) -> bool:
    """Train, tell what happens, print the result, and return whether a signal has ended it."""
    from charrnn.events import EndEvent
    from charrnn.rendering.live import make_reporter

    end: EndEvent | None = None
    with make_reporter(stderr_console(), quiet=quiet) as show, _stop_on_signal(trainer):
        for event in trainer.events():
            show(event)
            end = event if isinstance(event, EndEvent) else end
    if trainer.team.first and as_json:
        print_json(_result(end))
    elif trainer.team.first:
        write_out(f"{end.run}\n")
    return end.stopped_by == "interrupted"


def _result(end: EndEvent) -> dict[str, Any]:
    data = end.to_json()
    keys = (
        "run",
        "epochs",
        "seconds",
        "chars_per_second",
        "params",
        "best_val_loss",
        "best_val_bpc",
        "stopped_by",
    )
    return {"steps": data["step"], **{key: data[key] for key in keys}}


def _show_plan(trainer: Trainer, as_json: bool, processes: int) -> None:
    from charrnn.rendering.plan import plan_table
    from charrnn.training.plan import estimate
    from charrnn.training.together import check_shareable

    job = trainer.job
    if processes > 1:
        check_shareable(job.config, processes)
    figures = estimate(
        job.config, trainer.plan_event().train_chars, trainer.network.num_params, trainer.device.type
    )
    if as_json:
        print_json({"run": str(job.folder), "config": job.config.to_json(), **figures})
    else:
        stdout = stderr_console()
        stdout.file = sys.stdout
        stdout.print(plan_table(trainer.plan_event(), figures))


@contextmanager
def _stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, SIGHUP) stops after a step and saves; the second one at once."""

    if not trainer.team.first:
        yield
        return

    def handle(number: int, _: Any) -> None:
        trainer.request_stop("interrupted")
        if number != HANGUP:
            signal.signal(number, signal.default_int_handler)

    with heard(handle):
        yield
