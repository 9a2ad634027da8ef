"""Builds the native core when a C++ compiler is there; without one the package is pure Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
TARGET = ROOT / "src" / "tenzing" / "machine" / f"_core{SUFFIX}"
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC")


class NativeCore(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles native/*.cpp into one shared library with a plain C interface."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless switched off, up to date or impossible; a wheel then names its platform."""
        if self.target_name != "wheel" or not build():
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"src/tenzing/machine/{TARGET.name}")


def build() -> bool:
    """Whether the library is there afterwards."""
    sources = sorted((ROOT / "native").glob("*.cpp"))
    headers = sorted((ROOT / "native").glob("*.h"))
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if os.environ.get("TENZING_NATIVE", "").lower() in ("off", "0", "no") or not sources:
        return False
    newest = max(file.stat().st_mtime for file in (*sources, *headers))
    if TARGET.exists() and TARGET.stat().st_mtime >= newest:
        return True
    if compiler is None:
        note("no C++ compiler found")
        return False
    fresh = TARGET.with_suffix(".new")
    command = [*compiler.split(), *FLAGS, *map(str, sources), "-o", str(fresh)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        note(str(getattr(error, "stderr", "") or error).strip().splitlines()[-1])
        return False
    fresh.replace(TARGET)
    return True


def note(why: str) -> None:
    """Say why the Python twins will do the work."""
    print(f"tenzing: native core not built ({why}); everything works in Python", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(0 if build() else 1)
