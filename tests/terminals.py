"""A command as somebody at a terminal sees it: every byte that reaches the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import traceback
import warnings
from pathlib import Path

from charrnn.cli.main import main

OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\d*[A-HJK]|\x1b\[\?25[lh]|\r(?=\n|\x1b\[)")
"""The program's own escapes: colours, movements of the cursor and lines cleared for what is live."""
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What a terminal obeys or hides instead of showing it."""


def at_terminal(folder: Path, *arguments: str, columns: int = 100) -> tuple[int, str]:
    """Run a command in a process of its own with a terminal for all its streams.

    Returns:
        Its exit code, and everything that was written to the terminal.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, none of which is needed in the child
        child, master = pty.fork()
    if child == 0:
        _run(folder, arguments, columns)
    written = bytearray()
    while piece := _read(master):
        written += piece
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode("utf-8", "replace")


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # Linux, when the child has gone
        return b""


def _run(folder: Path, arguments: tuple[str, ...], columns: int) -> None:
    """Run the command in this process and end it."""
    status = 1
    try:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.chdir(folder)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
        os.environ.pop("NO_COLOR", None)
        streams = [open(number, mode, closefd=False) for number, mode in enumerate("rww")]  # noqa: SIM115
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.argv = ["charrnn", *arguments]
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def obeyed(shown: str) -> list[str]:
    """Return what a terminal would obey of what was written to it, the program's own escapes apart."""
    return OBEYED.findall(OWN.sub("", shown))
