"""The C++ form of the malleable convolution: built at its first use where a compiler is present, never at import.

The library is kept in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`, below `grainwise/native`) under a name that holds
the hash of its source, its flags, its compiler and the CPU's features, so that it is built once for each of them.
Without a compiler, or with ``GRAINWISE_NATIVE=0`` in the environment, the other forms serve; `status` says which and why.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("malleable_native.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
STORAGE = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
WORK_PER_THREAD = 1 << 16
"""Results under which another thread costs more than it saves."""


@dataclass(frozen=True, slots=True)
class NativeStatus:
    """Whether the library is in use, and where it lies, or why it is not."""

    available: bool
    detail: str


_lock = Lock()


def status() -> NativeStatus:
    """Build or load the library if that was not done yet, and say how it went."""
    found = _library()
    return found if isinstance(found, NativeStatus) else NativeStatus(True, found._name)


def suits(x: Tensor) -> bool:
    """Whether the library can take ``x``: on the CPU, float32 or bfloat16, plain memory, and not being traced."""
    return (
        x.device.type == "cpu"
        and x.dtype in STORAGE
        and type(x) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._functorch.peek_interpreter_stack()
    )


def forward(x: Tensor, grid: Tensor, *, stride: int, taps: int, offset: bool) -> Tensor:
    """See `grainwise.primitives.malleable_conv.malleable_conv2d`; the result is channels_last.

    Args:
        x: [B, C, H, W], one for which `suits` holds.
        grid: [B, P * K, ceil(H / stride), ceil(W / stride)] of the same dtype.
    """
    x, grid = _last(x), _last(grid)
    out = torch.empty_like(x)
    sizes = _sizes(x, grid, stride, taps, offset)
    _call("forward", x.dtype)(sizes, taps, x.data_ptr(), grid.data_ptr(), out.data_ptr(), _threads(x))
    return out


def backward(dy: Tensor, x: Tensor, grid: Tensor, *, stride: int, taps: int, offset: bool) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``grid``, in their dtypes; ``dy`` [B, C, H, W]."""
    x, grid, dy = _last(x), _last(grid), _last(dy.to(x.dtype))
    dx = torch.empty_like(x)
    dgrid = torch.zeros_like(grid, dtype=torch.float32)
    sizes = _sizes(x, grid, stride, taps, offset)
    pointers = (x.data_ptr(), grid.data_ptr(), dy.data_ptr(), dx.data_ptr(), dgrid.data_ptr())
    _call("backward", x.dtype)(sizes, taps, *pointers, _threads(x))
    return dx, dgrid.to(grid.dtype)


def _last(tensor: Tensor) -> Tensor:
    """``tensor`` [B, C, H, W] with memory of [B, H, W, C], without gaps."""
    rows = tensor.permute(0, 2, 3, 1)
    return tensor if rows.is_contiguous() else rows.contiguous().permute(0, 3, 1, 2)


def _sizes(x: Tensor, grid: Tensor, stride: int, taps: int, offset: bool) -> ctypes.Array[ctypes.c_int64]:
    kernels = grid.shape[1] // (taps + offset)
    numbers = (*x.shape[:2], kernels, *x.shape[2:], *grid.shape[2:], stride, int(offset))
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _threads(x: Tensor) -> int:
    return max(1, min(torch.get_num_threads(), x.numel() // WORK_PER_THREAD))


def _call(direction: str, dtype: torch.dtype) -> "ctypes._NamedFuncPointer":
    library = _library()
    assert isinstance(library, ctypes.CDLL)
    function: ctypes._NamedFuncPointer = getattr(library, f"malleable_{direction}_{STORAGE[dtype]}")
    return function


def _library() -> ctypes.CDLL | NativeStatus:
    with _lock:
        return _loaded()


@functools.cache
def _loaded() -> ctypes.CDLL | NativeStatus:
    """The library, or why there is none."""
    if os.environ.get("GRAINWISE_NATIVE", "1") == "0":
        return NativeStatus(False, "switched off by GRAINWISE_NATIVE=0")
    compiler = _compiler()
    if compiler is None:
        return NativeStatus(False, "no C++ compiler was found; install g++ or clang++, or name one in CXX")
    try:
        library = ctypes.CDLL(str(_built(compiler)))
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or [f"exit code {error.returncode}"]
        return NativeStatus(False, f"{compiler} could not build it: {lines[0]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return NativeStatus(False, f"it could not be built or loaded: {error}")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name in STORAGE.values():
        forward, backward = (getattr(library, f"malleable_{way}_{name}") for way in ("forward", "backward"))
        forward.argtypes, forward.restype = (pointer, number, *[pointer] * 3, number), None
        backward.argtypes, backward.restype = (pointer, number, *[pointer] * 5, number), None
    return library


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["g++", "clang++", "c++"])), None)


def _built(compiler: str) -> Path:
    """The library's path; it is built first if it is not there. Written whole: two processes may build at once."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = "\n".join([SOURCE.read_text(), *FLAGS, version, platform.machine(), _cpu_features()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grainwise" / "native"
    path = folder / f"malleable-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            made = Path(place) / path.name
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            made.replace(path)
    return path


def _cpu_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
