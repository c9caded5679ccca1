"""What a compiler makes of the persistent kernels for a GPU that need not be here; whether they are right.

    python benchmarks/persistent.py [--capability 90] [--hidden-size 512 1024] [--layers 1 3] [--cell gru]
    python benchmarks/persistent.py --check cuda

One JSON object a kernel: the registers of a thread, the bytes that it spills, the shared memory of a program,
the bytes of weights that are meant to stay in it, and the waits and arrivals that the compiler left standing.
With --check, one per comparison with torch.nn there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import product

from charrnn.model.persistent.check import self_check
from charrnn.model.persistent.tiling import Tiling, choose
from charrnn.model.persistent.window import options

SHARED_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
"""What a program can have, by compute capability (CUDA C++ Programming Guide, technical specifications)."""
POINTERS = dict.fromkeys(("x", "w", "w_in", "drop", "gates", "h", "passed", "d_output"), "*bf16")
POINTERS |= {"bias": "*fp32", "state": "*fp32", "carry": "*fp32", "counter": "*i32", "reset": "*u8"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="DEVICE", help="compare with torch.nn there, and compile nothing")
    parser.add_argument("--capability", nargs="+", type=int, default=[90], choices=sorted(SHARED_BYTES))
    parser.add_argument("--processors", type=int, default=132, help="streaming multiprocessors")
    parser.add_argument("--cell", nargs="+", default=["lstm", "gru"], choices=["lstm", "gru"])
    parser.add_argument("--hidden-size", nargs="+", type=int, default=[512, 1024, 1840])
    parser.add_argument("--layers", nargs="+", type=int, default=[1])
    parser.add_argument("--batch-size", type=int, default=128)
    chosen = parser.parse_args()
    if chosen.check:
        rows = self_check(chosen.check)
        print("\n".join(map(json.dumps, rows)))
        raise SystemExit(not all(row["right"] for row in rows))
    for row in compiled(chosen):
        print(json.dumps(row), flush=True)


def compiled(chosen: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield what every kernel takes that was asked for."""
    asked = product(chosen.capability, chosen.cell, chosen.hidden_size, chosen.layers)
    for capability, cell, hidden_size, layers in asked:
        shared_bytes = SHARED_BYTES[capability]
        tiling = choose(hidden_size, chosen.batch_size, chosen.processors, shared_bytes, 2, layers)
        for direction in ("forward", "backward"):
            found = resources(cell, hidden_size, tiling, direction, capability)
            yield {"capability": capability, "cell": cell, "kernel": direction, **found}


def resources(
    cell: str, hidden_size: int, tiling: Tiling, direction: str, capability: int
) -> dict[str, object]:
    """Compile a kernel for bf16 and return what it takes of a multiprocessor."""
    constants = tiling.constants(hidden_size, 3 if cell == "gru" else 4, 2, backward=direction == "backward")
    compiled = compile_kernel(direction, constants, hidden_size, tiling, capability)
    width = tiling.units * (4 if direction == "forward" else 1)
    found = usage(compiled.asm["cubin"])
    barrier = sorted(re.findall(r"\.(acquire|release)\.", compiled.asm["ptx"]))
    return {
        "programs": [tiling.slices(hidden_size), tiling.groups, tiling.layers],
        **constants,
        "weight_bytes": constants["RESIDENT"] * constants["DEPTH"] * width * 2,
        "shared_bytes": compiled.metadata.shared,
        "registers": found["REG"],
        "spilled_bytes": found["STACK"],
        "barrier": barrier,
    }


def compile_kernel(
    direction: str, constants: dict, hidden_size: int, tiling: Tiling, capability: int
) -> object:
    """Compile a kernel as a launch would, with arrays aligned as torch's are."""
    from triton import compile, language
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from charrnn.model.persistent import kernels

    kernel = getattr(kernels, direction)
    fixed = {**constants, "TYPE": language.bfloat16, "reset": None, "drop": None}
    if tiling.layers == 1:
        fixed |= {"w_in": None} if constants["GRU"] else {"w_in": None, "bias": None}
    fixed = {name: value for name, value in fixed.items() if name in kernel.arg_names}
    signature = {name: POINTERS.get(name, "i32") for name in kernel.arg_names}
    signature |= dict.fromkeys(fixed, "constexpr")
    aligned = [name for name in POINTERS if signature.get(name, "constexpr") != "constexpr"]
    aligned.append("B")
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(kernel, signature, fixed, attributes)
    return compile(source, target=GPUTarget("cuda", capability, 32), options=options(tiling))


def usage(cubin: bytes) -> dict[str, int]:
    """Return what cuobjdump, which comes with Triton, says of a kernel: REG, STACK, …"""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", said)}


if __name__ == "__main__":
    main()
