"""Nothing that is loaded runs: no module uses what can run code from a file, a few named places apart."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "charrnn"
FILES = sorted(PACKAGE.rglob("*.py"))

MODULES = {"pickle", "_pickle", "pickletools", "cPickle", "marshal", "shelve", "dbm", "copyreg", "xmlrpc"}
MODULES |= {"dill", "cloudpickle", "joblib", "jsonpickle", "yaml", "ruamel", "h5py", "pandas", "runpy", "imp"}
MODULES |= {"code", "codeop", "pty", "multiprocessing", "concurrent.futures.process", "torch.package"}
MODULES |= {"torch.jit", "torch.hub", "torch.multiprocessing", "torch.distributed.rpc", "asyncio"}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
METHODS = {
    "load": {"torch", "numpy", "np", "marshal", "pickle", "joblib", "yaml", "hub", "jit", "cpp_extension"},
    "load_state_dict_from_url": {"hub"},
    "literal_eval": {"ast"},
    "fromregex": {"np"},
}
"""Functions by name, and what they are called on where they can run code or take what is no plain data."""
RUNNING = {"exec_module", "import_module", "spec_from_file_location", "Popen", "CDLL", "PyDLL", "dlopen"}
RUNNING |= {
    "ProcessPoolExecutor",
    "check_call",
    "check_output",
    "getoutput",
    "getstatusoutput",
    "popen",
    "system",
}
RUNNING |= {f"exec{end}" for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")}
RUNNING |= {f"spawn{end}" for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")}
RUNNING |= {"posix_spawn", "posix_spawnp", "startfile", "fork", "forkpty"}
"""What runs code of a place that it is given."""
STARTING = {"run", "call"}
"""What does so called on ``subprocess``, or imported from there."""
PICKLING = re.compile(r"_object(_list)?s?$")
"""Collectives of torch.distributed that send what Python can pickle."""
WHERE = {
    "__init__.py": {"import_module"},  # the names of the package, looked up in its own table
    "registry.py": {"import_module"},  # the parts that are in the tables of config.py
    "baselines/compressors.py": {"import_module"},  # pyppmd
    "text/unpacking.py": {"import_module"},  # zstandard
    "inspection/hypotheses/foreign.py": {
        "exec_module",
        "spec_from_file_location",
    },  # `--hypothesis file.py:f`
    "native/__init__.py": {"CDLL"},  # the library that was compiled with the package
    "native/build.py": {"Popen", "run"},  # the compiler
    "bench/machine.py": {"run"},  # git, in the checkout that charrnn runs from
    "cli/processes.py": {"Popen"},  # this same program, once for each process that trains
}


def tree_of(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def calls(tree: ast.AST) -> list[tuple[str, str]]:
    """Return what is called on what: ``("np", "load")``, or ``("", "eval")`` for a bare name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.append(("", node.func.id))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            found.append((getattr(of, "id", getattr(of, "attr", "…")), node.func.attr))
    return found


def running(tree: ast.AST) -> set[str]:
    """Return the names of what runs something, called here or imported from where it is."""
    found = {name for of, name in calls(tree) if name in RUNNING or (of == "subprocess" and name in STARTING)}
    places = {f"{of}.{name}": name for of in ("os", "subprocess") for name in RUNNING | STARTING}
    return found | {places[name] for name in imports(tree) & set(places)}


def violations(tree: ast.AST, allowed: set[str] = frozenset()) -> list[str]:
    found = [
        f"imports {name}"
        for name in imports(tree)
        if any(name == module or name.startswith(f"{module}.") for module in MODULES)
    ]
    for of, name in calls(tree):
        bare = not of and name in BUILTINS | set(METHODS) - {"load"}
        on = of in METHODS.get(name, ()) or (of == "builtins" and name in BUILTINS)
        if bare or on or PICKLING.search(name):
            found.append(f"calls {of}.{name}")
    found += [f"runs {name}" for name in running(tree) - allowed]
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found += [
        f"uses {name}" for name in names & {"__reduce__", "__globals__", "__subclasses__", "weights_only"}
    ]
    return found + [f"says {node.arg}" for node in ast.walk(tree) if _is_pickling(node)]


def _is_pickling(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and getattr(node.value, "value", 1) is not False
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_module_can_run_what_it_loads(path):
    assert violations(tree_of(path), WHERE.get(path.relative_to(PACKAGE).as_posix(), set())) == []


def test_the_named_places_are_those_that_there_are():
    found = {path.relative_to(PACKAGE).as_posix(): running(tree_of(path)) for path in FILES}
    assert {name: some for name, some in found.items() if some} == WHERE


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from torch import hub",
        "import numpy as np\nnp.load(path)",
        "numpy.load(path, allow_pickle=False)",
        "open_array(path, allow_pickle=True)",
        "torch.load(path, weights_only=True)",
        "eval('1')",
        "builtins.exec(code)",
        "from importlib import import_module\nimport_module(name)",
        "os.system('x')",
        "yaml.load(x)",
        "ctypes.CDLL(path)",
        "().__class__.__subclasses__()",
        "dist.broadcast_object_list(data, 0)",
        "dist.all_gather_object(found, data)",
        "store.send_object_list(data)",
        "import multiprocessing",
        "from multiprocessing import Pool",
        "import torch.multiprocessing as mp",
        "ProcessPoolExecutor()",
        "subprocess.run(command)",
        "from subprocess import call",
        "from os import execv",
        "os.execvp(file, arguments)",
        "os.spawnl(0, path)",
        "os.posix_spawn(path, [], {})",
        "subprocess.check_output(command)",
    ],
)
def test_what_is_looked_for_is_found(source):
    assert violations(ast.parse(source))
