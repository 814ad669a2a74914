"""Where a measurement was taken: processor, threads, versions, and how much memory a call takes."""

import ctypes
import gc
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

_SELF = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a time depends on beside the code.

    Attributes:
        cpu: the model of the processor.
        cores: how many logical cores this process may use.
        threads: how many threads torch uses within an operation.
        load: processes that wanted to run over the last minute, before the measurement; None where unknown.
        allocator: how memory is allocated: what the caller says, else the variables that tune it, else ``default``.
        platform: operating system and architecture.
        python: version of Python.
        torch: version of torch.
        numpy: version of NumPy.
        date: time of the measurement, UTC, ISO 8601.
        commit: version of the code, as the caller gave it.
    """

    cpu: str
    cores: int
    threads: int
    load: float | None
    allocator: str
    platform: str
    python: str
    torch: str
    numpy: str
    date: str
    commit: str

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def environment(*, commit: str = "", allocator: str = "") -> Environment:
    """Describe this machine and process.

    Args:
        commit: version of the code under test.
        allocator: how the process tunes its allocator, where that cannot be seen from its variables.
    """
    import torch

    return Environment(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        allocator=allocator or _allocator_variables() or "default",
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
    )


def peak_extra_memory(call: Callable[[], object]) -> int | None:
    """Run ``call`` once and return by how many bytes the process's resident memory rose at its peak.

    Memory that is free but still held by the allocator is given back first, so that it does not hide the rise. Only
    Linux can tell; elsewhere ``call`` is not run, and None is returned.
    """
    gc.collect()
    _trim_heap()
    try:
        (_SELF / "clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    except OSError:
        return None
    if before is None:
        return None
    call()
    peak = _status_bytes("VmHWM")
    return None if peak is None else max(0, peak - before)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _allocator_variables() -> str:
    tuned = ("MALLOC_", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE", "GLIBC_TUNABLES")
    return " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(tuned))


def _trim_heap() -> None:
    if platform.system() != "Linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status_bytes(field: str) -> int | None:
    for line in (_SELF / "status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
