"""What the command line does, as functions: run, check, compare, compile, buckets.

Each returns data; printing belongs to :mod:`tenzing.cli`, words and pictures to
:mod:`tenzing.report`.
"""

from __future__ import annotations

from tenzing.commands.comparison import compare
from tenzing.commands.execution import (
    analyse_launch,
    analyse_program,
    check,
    run,
    run_on,
)
from tenzing.commands.measuring import DTYPES, LENGTH, TASKS, measure
from tenzing.commands.opening import is_python, load_model, open_model, split_path
from tenzing.commands.profiling import profile
from tenzing.commands.programs import (
    Buckets,
    Progress,
    buckets,
    compile,
    compile_buckets,
    compile_file,
    compile_path,
    load,
)
from tenzing.commands.results import (
    KernelResult,
    ModelChange,
    ModelProfile,
    RunResult,
    TimeOnly,
)
from tenzing.fleet.economics import Economics, economics

__all__ = [
    "Buckets", "DTYPES", "Economics", "KernelResult", "LENGTH", "ModelChange", "ModelProfile",
    "Progress", "RunResult", "TASKS", "TimeOnly", "analyse_launch", "analyse_program", "buckets",
    "check", "compare", "compile", "compile_buckets", "compile_file", "compile_path", "economics",
    "is_python", "load", "load_model", "measure", "open_model", "profile", "run", "run_on",
    "split_path",
]  # fmt: skip
