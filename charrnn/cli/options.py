"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from charrnn.errors import ConfigError


def number(flag: str, kind: type[int] | type[float]) -> Callable[[Any], Any]:
    """Return a parser whose complaint is an ``error:`` line, not a usage message."""

    def parse(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            words = "a whole number" if kind is int else "a number"
            raise ConfigError(f"`{flag}` is `{value}`, but must be {words}") from None

    return parse


def whole(flag: str, help: str, **more: Any) -> Any:
    """Return an option that takes a whole number."""
    return typer.Option(flag, parser=number(flag, int), metavar="N", help=help, **more)


def real(flag: str, help: str, **more: Any) -> Any:
    """Return an option that takes a number."""
    return typer.Option(flag, parser=number(flag, float), metavar="F", help=help, **more)


def only(flag: str, allowed: tuple[str, ...], why: str, **more: Any) -> Any:
    """Return an option that has one meaning, for the sake of scripts that give it to every command."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ConfigError(f"`{flag}` is `{value}`, but {why}", f"leave it out, or `{flag} {allowed[-1]}`")
        return value

    return typer.Option(flag, parser=parse, help=f"{' or '.join(allowed)}: {why}.", **more)


RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run directory, a checkpoint, a name under runs/; the newest run if left out.",
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="TEXT", help="Text to read; the run's held-out text if left out. Repeatable."
    ),
]
EncodingOption = Annotated[
    str | None, typer.Option("--encoding", metavar="E", help="That of the texts, if not the run's own.")
]
SvgOption = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Save the picture as SVG too.")]
LastOption = Annotated[bool, typer.Option("--last", help="Use the run's last checkpoint, not its best.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda or mps.")]
StoredOption = Annotated[
    str, typer.Option("--precision", metavar="P", help="How weights are stored: fp32, bf16 or int8.")
]
FullPrecisionOption = Annotated[
    str, only("--precision", ("auto", "fp32"), "this is computed in fp32 alone", metavar="P")
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", metavar="P", help="auto or fp32; on CUDA tf32, fp16 or bf16 too.")
]
