"""What this machine can do: compiler, precision, threads, memory; and what it is called."""

import contextlib
import ctypes
import functools
import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

__version__ = "0.1.0"  # of this package


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a C++ compiler, and on a GPU Triton."""
    from torch._inductor import cpp_builder, exc

    if device.type == "cuda" and not (
        importlib.util.find_spec("triton") and torch.cuda.get_device_capability(device) >= (7, 0)
    ):
        return False
    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return False
    return True


def cores() -> int:
    """Threads that this process may use on the CPU: OMP_NUM_THREADS, else the cores that the system gives it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


PRECISIONS = ("auto", "float32", "tf32", "bfloat16")  # what `precision_of` takes; it returns one of the last three


def precision_of(name: str, device: torch.device) -> str:
    """`auto` resolved: "bfloat16" where the hardware multiplies matrices in it, else "float32"; others as they are.

    Raises:
        ValueError: the device cannot do it, or is a GPU that is not here.
    """
    if name == "tf32" and device.type != "cuda":
        raise ValueError("--precision tf32 needs a CUDA device; give float32 or auto")
    if name != "auto":
        return name
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no GPU here to tell what those of the jobs can do; give --precision bfloat16 or float32")
    if device.type == "cuda":
        # To make the device the current one would hold memory on it, as long as whoever asked lives.
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return "bfloat16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "float32"


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Has CUDA round the factors of float32 products to TF32 for "tf32", and not for anything else.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS[1:]:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS[1:])}; got {precision!r}")
    places, name, values = _products(precision == "tf32")
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, values)
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)


def _products(rounded: bool) -> tuple[tuple[Any, Any], str, bool | str]:
    """Where torch keeps whether factors are rounded, under which name, and what to set there."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        _ = matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:  # the process has used torch's newer names (2.9), beside which it refuses these
        return (matmul, cudnn.conv), "fp32_precision", "tf32" if rounded else "ieee"  # type: ignore[attr-defined]
    return (matmul, cudnn), "allow_tf32", rounded


def synchronise(device: torch.device) -> None:
    """Waits until a GPU has done all that it was told; a clock read before that says nothing. A CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> dict:
    """The hardware and versions that a run was made with."""
    cuda = device.type == "cuda"
    return {
        "name": torch.cuda.get_device_name(device) if cuda else f"CPU ({_cpu()})",
        "threads": None if cuda else torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "depthsearch": code_version(Path(__file__).parents[2]),
    }


@functools.cache
def code_version(clone: Path) -> str:
    """The version of this package and, where it is used from a clone, the commit, and whether code differs from it."""

    def git(*asked: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(clone), *asked]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    try:
        if not (clone / ".git").exists():  # installed; a repository around that is not ours
            return __version__
        commit, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "src", "experiments")
    except (OSError, subprocess.SubprocessError):  # no git here, or it does not trust the folder
        return __version__
    return f"{__version__}, commit {commit}{', changed' if changed else ''}"


def went_on(before: dict | None, now: dict) -> dict:
    """Hardware and versions that a run goes on with, as of `describe`, and in `earlier` all that it had before."""
    if before is None:
        return now
    earlier = before.get("earlier", [])
    last = {name: value for name, value in before.items() if name != "earlier"}
    earlier = earlier if last == now else [*earlier, last]
    return now | ({"earlier": earlier} if earlier else {})


def in_words(hardware: dict) -> str:
    """What `describe` says of a device, without the versions; of a run that went on elsewhere all of them, in order."""
    said = []
    for one in (*hardware.get("earlier", []), hardware):
        plural = "s" if one["threads"] != 1 else ""
        said.append(one["name"] if one["threads"] is None else f"{one['name']}, {one['threads']} thread{plural}")
    return ", then ".join(dict.fromkeys(said))


def benchmark_header(device: torch.device) -> str:
    """A line for the output of a benchmark."""
    hardware = describe(device)
    return f"{in_words(hardware)}, Python {hardware['python']}, torch {hardware['torch']}"


def _cpu() -> str:
    with contextlib.suppress(OSError):  # only Linux has it
        if model := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return f"{model[1].strip()}, {platform.machine()}"
    return platform.machine()


def keep_freed_memory() -> None:
    """Has the C library keep freed memory for the next tensor.

    glibc gives large tensors back to the system when they are freed, and up to half of a pass over images on the CPU
    is then page faults. A C library without these settings is left as it is.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_option is not None:
        set_option(trim_threshold, 2**31 - 1)
        set_option(mmap_max, 0)
