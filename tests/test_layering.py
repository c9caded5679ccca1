"""A module imports only from floors below it, and only the command line talks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "charrnn"

FLOORS = [
    ["errors"],
    ["events", "registry", "devices", "files", "native", "presets", "untrusted"],
    ["config"],
    ["text"],
    ["baselines"],
    ["model"],
    ["runs"],
    ["sampling", "compression"],
    ["evaluation", "contexts", "surprisal", "memorisation"],
    ["training", "inspection"],
    ["bench"],
    ["api"],
    ["rendering"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_imported(path: Path) -> set[str]:
    modules = imported_modules(ast.parse(path.read_text(encoding="utf-8")))
    rooms = {m.split(".")[1] for m in modules if m.startswith("charrnn.")}
    return {room for room in rooms if room in FLOOR}


def test_every_room_has_a_floor():
    assert {room_of(p) for p in FILES} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path):
    own = room_of(path)
    if own == "__init__":
        return
    above = {room for room in rooms_imported(path) if room != own and FLOOR[room] >= FLOOR[own]}
    assert not above


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_the_command_line_prints_or_exits(path):
    if room_of(path) in ("cli", "rendering"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not names & {"print", "exit", "quit", "input"}
    assert not imported_modules(tree) & {"logging", "warnings", "pickle", "typer"}


def test_files_are_small_and_say_what_they_are():
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(source)), path
        assert source.count("\n") < 450, path
