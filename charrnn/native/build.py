"""Compiling the native library; it runs when the package is built, never when it is imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
LIBRARY = Path(__file__).parent / "libcharrnn.so"
FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math")
VARIANTS = {
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "avx2": ("-march=x86-64-v3",),
    "baseline": (),
}
"""Instruction sets and how to ask for them; other processors than x86 have the baseline alone."""


def build(target: Path = LIBRARY) -> str:
    """Compile the library and return nothing, or why that was not possible."""
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        return "there is no C compiler"
    try:
        with tempfile.TemporaryDirectory() as folder:
            problem = _compile(compiler, Path(folder))
            if not problem:
                target.unlink(missing_ok=True)  # an open library keeps its old file
                shutil.move(Path(folder) / "library.so", target)
    except OSError as error:
        problem = f"{error.filename or compiler}: {error.strerror}"
    return problem


def _compile(compiler: str, folder: Path) -> str:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    variants = VARIANTS if x86 else {"baseline": ()}
    jobs = {
        folder / f"{name}.o": (SOURCE / "kernels.c", *flags, f"-DVARIANT={name}")
        for name, flags in variants.items()
    }
    jobs[folder / "library.o"] = (SOURCE / "library.c",)
    for openmp in (("-fopenmp",), ("-Wno-unknown-pragmas",)):  # some compilers come without it
        processes = [
            subprocess.Popen(
                [compiler, *FLAGS, *openmp, "-c", *map(str, job), "-o", str(out)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for out, job in jobs.items()
        ]
        errors = [process.communicate()[1] for process in processes]
        if all(process.returncode == 0 for process in processes):
            link = [compiler, "-shared", *openmp, *map(str, jobs), "-lm", "-o", str(folder / "library.so")]
            linked = subprocess.run(link, capture_output=True, text=True)
            return linked.stderr if linked.returncode else ""
    return next(error for error in errors if error)
