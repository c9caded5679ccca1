"""Building the native library: with a compiler a library, without one a reason, never an error."""

from __future__ import annotations

import ctypes
import shutil

import pytest

from charrnn.native import VERSION, build


def test_no_compiler_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "absent"))
    assert "No such file" in build.build(tmp_path / "library.so")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.build(tmp_path / "library.so") == "there is no C compiler"
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_a_reason(monkeypatch, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho unknown flag >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert build.build(tmp_path / "library.so") == "unknown flag\n"
    assert not (tmp_path / "library.so").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_without_openmp_builds_for_one_thread(monkeypatch, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(build, "VARIANTS", {"baseline": ()})
    assert build.build(tmp_path / "library.so") == ""
    assert ctypes.CDLL(str(tmp_path / "library.so")).charrnn_version() == VERSION


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_sources_compile_without_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "VARIANTS", {"baseline": ()})
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Wall", "-Wextra", "-Werror"))
    assert build.build(tmp_path / "library.so") == ""
    assert ctypes.CDLL(str(tmp_path / "library.so")).charrnn_version() == VERSION
