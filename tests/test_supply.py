"""What is installed: versions that were tested, and packages that are the same wherever they are built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

from charrnn.native import build

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = shutil.ignore_patterns("__pycache__", "*.so")
PIN = re.compile(r"([a-z0-9-]+)==([\w.]+)")


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [PIN.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(found), f"{name} holds something besides versions"
    return {match[1]: match[2] for match in found}


def dependencies():
    """Name and lowest version of everything that a user or the tests need, but for torch and its Triton."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    return dict(spec.split(">=") for spec in wanted if not spec.startswith(("torch", "triton")))


def number(version):
    return tuple(map(int, re.findall(r"\d+", version)))


def test_every_dependency_has_a_version_for_the_tests():
    found = pins("constraints.txt")
    for name, lowest in dependencies().items():
        assert number(found[name]) >= number(lowest), name


def test_oldest_versions_are_those_that_are_allowed():
    found = pins("constraints-oldest.txt")
    for name, lowest in dependencies().items():
        assert number(found[name])[: len(number(lowest))] == number(lowest), name


def test_what_packages_are_built_with_is_what_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (builder,) = project["build-system"]["requires"]
    assert builder in project["project"]["optional-dependencies"]["dev"]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_constraints_hold_no_address(name):
    assert "torch" not in pins(name)
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_native_library_is_the_same_wherever_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "VARIANTS", {"baseline": ()})
    built = []
    for name in ("one", "another and longer"):
        source = shutil.copytree(build.SOURCE, tmp_path / name / "source")
        monkeypatch.setattr(build, "SOURCE", source)
        assert build.build(tmp_path / name / "library.so") == ""
        built.append((tmp_path / name / "library.so").read_bytes())
    assert built[0] == built[1]


@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed")
def test_sdist_is_the_same_wherever_and_whenever_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    built = []
    for name in ("one", "another and longer"):
        folder = tmp_path / name
        folder.mkdir()
        for part in ("charrnn", "corpora"):
            shutil.copytree(ROOT / part, folder / part, ignore=OUTPUTS, copy_function=shutil.copyfile)
        for part in ("pyproject.toml", "native_build.py", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / part, folder / part)
        command = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder / "out"))
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (archive,) = (folder / "out").iterdir()
        built.append(archive.read_bytes())
    assert built[0] == built[1]
