"""What the machine can do, and the settings that make torch fast on it."""

import ctypes
import functools
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from grainwise.core.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@functools.cache
def tune_allocator() -> bool:
    """Keep large freed blocks in the process instead of returning them to the system, and say whether that worked.

    glibc returns every large activation at once and has it faulted in again by the next layer, which costs a network three
    to five times its arithmetic. The price is memory that stays with the process. Only glibc has the setting.

    NumPy is told to ask for no huge pages: a page of 2 MB is cleared, and in a virtual machine often moved together, when it
    is first touched, and the first noise estimate then takes two to three times as long.
    """
    ask = getattr(getattr(getattr(np, "_core", None), "multiarray", None), "_set_madvise_hugepage", None)
    if ask is not None:
        ask(False)
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))


def release_memory() -> None:
    """Give freed memory back to the system now, where the C library can (glibc)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class _Mallinfo2(ctypes.Structure):
    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def spare_bytes() -> int:
    """Memory that the process holds unused, which need not be taken from the system; 0 where there is no glibc."""
    if sys.platform.startswith("linux"):
        mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
        if mallinfo2 is not None:
            mallinfo2.restype = _Mallinfo2
            return int(mallinfo2().fordblks)
    return 0


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX), as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return onednn and ("avx512_bf16" in flags or "amx_bf16" in flags)


def find_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is a GPU where there is one.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"the devices are auto, cpu and cuda, got {name!r}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"the device {name!r} is not available here; use auto or cpu") from None
    return device


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the arithmetic; ``"auto"`` is bfloat16 where the device multiplies it in hardware, else float32.

    That is what the system tells; what was measured goes before it, see `grainwise.runtime.dtypes`.

    Raises:
        InputError: an unknown name, or float16 on a CPU.
    """
    if name == "auto":
        fast = cpu_has_bfloat16() if device.type == "cpu" else torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise InputError(f"the dtypes are auto, {', '.join(DTYPES)}; got {name!r}")
    if name == "float16" and device.type == "cpu":
        raise InputError("float16 is for GPUs; on a CPU use bfloat16 or float32")
    return DTYPES[name]
