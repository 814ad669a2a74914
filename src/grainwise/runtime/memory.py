"""How much memory there is, and how large tiles may therefore be."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grainwise.core.errors import InputError
from grainwise.runtime.level import is_number
from grainwise.runtime.tiles import least_side

LARGEST_TILE = 3072
"""Side of the largest tile, in pixels. Larger ones are no faster, and a cancelled run would end later."""
_SMALLEST_TILE = 64
_SPARE = 64 << 20
"""Left free of a limit that the user set: file buffers, workspaces of the libraries."""
_MEBIBYTE = 1 << 20


def resident_bytes() -> int:
    """Memory of this process now; where the system does not tell, a guess that holds for torch: 500 MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 500 * _MEBIBYTE


def checked_limit(limit: float | None) -> float | None:
    """A limit of memory in MB, or None for none.

    Raises:
        InputError: it is no number above 0.
    """
    if limit is not None and not (is_number(limit) and 0 < limit < math.inf):
        raise InputError(
            f"the memory limit (--max-memory, in Python max_memory) is a number of MB above 0, got {limit!r}"
        )
    return limit


def bytes_within(limit: float) -> int:
    """What is left of a limit of ``limit`` MB for the whole process; may be negative."""
    return int(limit * _MEBIBYTE) - resident_bytes() - _SPARE


def available_bytes() -> int:
    """Memory that the machine can still give, in the limits of its container; a guess of 4 GiB where unknown."""
    found = []
    if sys.platform.startswith("linux"):
        try:
            for line in Path("/proc/meminfo").read_text().splitlines():
                if line.startswith("MemAvailable:"):
                    found.append(int(line.split()[1]) * 1024)
            limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
            if limit != "max":
                found.append(int(limit) - _used_in_container())
        except (OSError, ValueError):
            pass
    return max(min(found, default=4 << 30), 64 * _MEBIBYTE)


def is_short(error: BaseException) -> bool:
    """Whether an error says that memory is used up; torch has no class of its own for that of a CPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))


@contextmanager
def told_when_short() -> Iterator[None]:
    """Turn what NumPy and torch raise when memory is used up into an error of ours.

    Raises:
        InputError: it is used up.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short(error):
            raise
        raise InputError(
            "there is not enough memory for this picture; allow less of it at a time (--max-memory, in Python max_memory), "
            "take a smaller budget, or close other programs"
        ) from error


def _used_in_container() -> int:
    """Memory of the container, without cached files that the kernel drops as soon as somebody wants their memory."""
    used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines():
        name, _, amount = line.partition(" ")
        if name == "inactive_file":
            used -= int(amount)
    return max(0, used)


def least_written(height: int, width: int, multiple: int, least_pixels: int) -> int:
    """Side of the written square of the smallest tile; see `tile_side` for the arguments."""
    least = max(_SMALLEST_TILE, -(-least_pixels // min(height, width)))
    return least + -least % multiple


def most_read(height: int, width: int, side: int, halo: int, least_pixels: int) -> int:
    """Pixels that a tile of this side reads at most; see `tile_side` for the arguments."""
    reach = max(side + 2 * halo, least_side(height, width, least_pixels))
    return min(height, reach) * min(width, reach)


def tile_side(
    height: int, width: int, *, free: int, bytes_per_pixel: float, halo: int, multiple: int, least_pixels: int
) -> int:
    """Side of the written square of the largest tile whose read region fits into ``free`` bytes.

    Args:
        height, width: of the picture.
        free: bytes that a running tile may take.
        bytes_per_pixel: what it takes per pixel that it reads.
        halo, multiple: see `grainwise.networks.network.Facts`.
        least_pixels: a tile reads at least this many pixels, or the whole picture.

    Raises:
        InputError: not even the smallest tile fits; the message says what is missing.
    """

    def read(side: int) -> int:
        return most_read(height, width, side, halo, least_pixels)

    whole = max(height, width)
    if whole <= LARGEST_TILE and height * width * bytes_per_pixel <= free:
        return whole + -whole % multiple
    least = least_written(height, width, multiple, least_pixels)
    short = read(least) * bytes_per_pixel - free
    if short > 0:
        missing = math.ceil(short / _MEBIBYTE)
        raise InputError(f"a tile does not fit into the memory allowed; allow at least {missing} MB more")
    side = math.isqrt(int(free / bytes_per_pixel)) - 2 * halo
    return max(least, min(side, LARGEST_TILE) // multiple * multiple)
