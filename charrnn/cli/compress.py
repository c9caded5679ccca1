"""``charrnn compress`` and ``charrnn decompress``."""

from __future__ import annotations

import bz2
import lzma
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli.console import print_json, stderr_console
from charrnn.cli.options import JsonOption, LastOption, only, whole
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.compression.archive import Compressed

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run, as for `charrnn sample`.")]
Output = Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="File to write.")]
WholeNumbers = Annotated[
    str, only("--precision", ("auto", "fp32"), "weights are turned into whole numbers from fp32", metavar="P")
]
Processor = Annotated[
    str, only("--device", ("auto", "cpu"), "whole numbers are computed on the processor", metavar="D")
]


def compress(
    run: RunName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Any file; best one like the run's text.")],
    output: Output,
    last: LastOption = False,
    device: Processor = "auto",
    precision: WholeNumbers = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compress a file by what a model predicts, without loss.

    It is computed in whole numbers, so every machine decompresses it alike, but only with the same model.

    [dim]charrnn compress mine notes.txt -o notes.crnn · charrnn decompress mine notes.crnn -o notes.txt[/dim]
    """
    from charrnn.compression.archive import compress as compress_file
    from charrnn.compression.archive import load_model

    model = load_model(run, last=last)
    begun = time.perf_counter()
    with _bar("compressing") as progress:
        result = compress_file(model, Path(file), Path(output), progress)
    seconds = time.perf_counter() - begun
    data = {"run": model.name, **_figures(result, Path(file))}
    data["chars_per_second"] = result.chars / seconds
    if as_json:
        print_json(data)
    else:
        from charrnn.rendering.compression import compression_table
        from charrnn.rendering.tables import print_stdout

        print_stdout(compression_table(data, file))


def decompress(
    run: RunName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `charrnn compress` wrote.")],
    output: Output,
    max_bytes: Annotated[
        int | None, whole("--max-bytes", "Largest result to believe in.", show_default=False)
    ] = None,
    last: LastOption = False,
    device: Processor = "auto",
    precision: WholeNumbers = "auto",
    as_json: JsonOption = False,
) -> None:
    """Get back, byte for byte, what was compressed with the same model.

    [dim]charrnn decompress mine notes.crnn -o notes.txt[/dim]
    """
    from charrnn.compression.archive import decompress as decompress_file
    from charrnn.compression.archive import load_model

    if max_bytes is not None and max_bytes < 0:
        raise ConfigError(f"`--max-bytes` is `{max_bytes}`, but must be at least 0")
    model = load_model(run, last=last)
    with _bar("decompressing") as progress:
        size = decompress_file(model, Path(file), Path(output), max_bytes=max_bytes, progress=progress)
    if as_json:
        print_json({"run": model.name, "bytes_in": Path(file).stat().st_size, "bytes_out": size})


def _figures(result: Compressed, file: Path) -> dict[str, Any]:
    data = {"bytes_in": result.bytes_in, "bytes_out": result.bytes_out}
    data |= {"chars": result.chars, "bpc": result.bpc, "ratio": result.bytes_in / result.bytes_out}
    # the dictionary of preset 9 has 64 MiB, for which the encoder would take 700 MB
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 32 << 20}]
    compressors = {"xz": lzma.LZMACompressor(filters=filters), "bz2": bz2.BZ2Compressor()}
    for name, compressor in compressors.items():
        data[f"{name}_bytes"] = _compressed_bytes(compressor, file)
    return data


def _compressed_bytes(compressor: Any, file: Path) -> int:
    size = 0
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            size += len(compressor.compress(piece))
    return size + len(compressor.flush())


@contextmanager
def _bar(word: str) -> Iterator[Callable[[float], None]]:
    """Yield what shows a share on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr_console()
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn(word), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done: bar.update(task, completed=done)
