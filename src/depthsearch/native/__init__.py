"""C++ compiled on the machine that it runs on, for steps that are too small, or too many operations, for torch."""

import ctypes
import os
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Sums may not be reordered, and what is not a number stays so: that a network diverges has to be seen.
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")
TYPES = {torch.float32: "float", torch.float64: "double"}
COMPILERS = ("g++", "clang++", "c++")


@cache
def library(name: str, dtype: torch.dtype) -> Any:
    """The functions of `<name>.cpp` for tensors of this type on the CPU.

    None where there is no compiler (that of the environment variable CXX, or one of `COMPILERS`) or no such type; where
    there is one that fails, with a warning.
    """
    source, compiler = Path(__file__).with_name(f"{name}.cpp"), _compiler()
    if compiler is None or dtype not in TYPES:
        return None
    failure: OSError | subprocess.CalledProcessError | None = None
    for more in (["-march=native", "-fopenmp"], ["-march=native"], []):
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder, f"{name}.so"))
                command = [compiler, *FLAGS, *more, f"-DREAL={TYPES[dtype]}", "-o", path, str(source)]
                subprocess.run(command, check=True, capture_output=True, text=True)
                return ctypes.CDLL(path)
        except (OSError, subprocess.CalledProcessError) as problem:
            failure = problem
    said = getattr(failure, "stderr", None) or str(failure)
    warnings.warn(f"training runs uncompiled: {compiler} fails on {source.name}: {said.strip()}", stacklevel=2)
    return None


def call(function: Any, *arguments: ctypes.Structure | Tensor | float) -> None:
    """Calls a function of a library: tensors, which have to be contiguous, and structures go as pointers."""
    function(*map(_converted, arguments))


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))), None)


def _converted(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return ctypes.c_double(argument) if isinstance(argument, float) else argument
