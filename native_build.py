"""Compiles the native library into the package while it is built, where there is a C compiler."""

import importlib.util
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuild(BuildHookInterface):
    """Puts ``libcharrnn.so`` into the wheel, which then fits one platform but any Python."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile; without a compiler the package is built without the library, and works."""
        if self.target_name != "wheel":
            return
        build = _load(Path(self.root) / "charrnn" / "native" / "build.py")
        problem = build.build()
        if problem:
            self.app.display_warning(f"charrnn is built without its native library: {problem}")
            build.LIBRARY.unlink(missing_ok=True)
            return
        build_data["artifacts"].append("charrnn/native/libcharrnn.so")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _load(path: Path):
    """Load a module by path: importing the package would need what it depends on."""
    spec = importlib.util.spec_from_file_location("native_build_steps", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
