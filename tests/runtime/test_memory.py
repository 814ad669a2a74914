"""How much memory there is, in a container too, and what is said when it is used up."""

from pathlib import Path

import pytest

from grainwise.core.errors import InputError
from grainwise.runtime import memory

MB = 1 << 20


@pytest.mark.parametrize(("limit", "left"), [("max", 8000), (str(4096 * MB), 4096 - 3900 + 3000), (str(10**15), 8000)])
def test_cached_files_of_a_container_are_no_memory_in_use(
    monkeypatch: pytest.MonkeyPatch, limit: str, left: int
) -> None:
    files = {
        "/proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {8000 * 1024} kB\n",
        "/sys/fs/cgroup/memory.max": limit + "\n",
        "/sys/fs/cgroup/memory.current": f"{3900 * MB}\n",
        "/sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {3000 * MB}\nactive_file 7\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.available_bytes() == left * MB


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes")])
def test_memory_that_is_used_up_is_told_in_words(error: Exception) -> None:
    with pytest.raises(InputError, match=r"not enough memory.*--max-memory"), memory.told_when_short():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory.told_when_short():
        raise RuntimeError("shape")
