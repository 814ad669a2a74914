"""How much memory there is, how much a tile takes, and how large tiles may therefore be."""

import math
import sys
from pathlib import Path

from grainwise.core.errors import InputError

LARGEST_TILE = 2048
"""Side of the largest tile, in pixels. Larger ones are no faster, and a cancelled run would end later."""
_BYTES_FIXED_PER_PIXEL = 48
_LIVE_STREAMS = 7
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


def available_bytes() -> int:
    """Memory that the machine can still give, in the limits of its container; a guess of 4 GiB where unknown."""
    found = []
    if sys.platform.startswith("linux"):
        try:
            for line in Path("/proc/meminfo").read_text().splitlines():
                if line.startswith("MemAvailable:"):
                    found.append(int(line.split()[1]) * 1024)
            limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            if limit != "max":
                found.append(int(limit) - used)
        except (OSError, ValueError):
            pass
    return max(min(found, default=4 << 30), 64 * _MEBIBYTE)


def tile_bytes_per_pixel(stream_width: int, itemsize: int) -> float:
    """Memory of a running tile per pixel that it reads.

    Fixed: the picture in float32, its residual, the noise level, the result. Then the stream of the finest level, at half
    resolution: the greatest number of copies of it that live at once, convolution workspace included.
    """
    return _BYTES_FIXED_PER_PIXEL + _LIVE_STREAMS * stream_width * itemsize / 4


def tile_side(
    height: int, width: int, *, free: int, bytes_per_pixel: float, halo: int, multiple: int, least: int = 64
) -> int:
    """Side of the written square of the largest tile whose read region fits into ``free`` bytes.

    Raises:
        InputError: not even a tile of ``least`` pixels fits; the message says what does.
    """
    whole = max(height, width)
    fits = math.isqrt(max(0, int(free / bytes_per_pixel)))
    side = fits - 2 * halo
    if whole <= LARGEST_TILE and height * width * bytes_per_pixel <= free:
        return whole + -whole % multiple
    if side < least:
        short = (least + 2 * halo) ** 2 * bytes_per_pixel - free
        raise InputError(
            f"a tile does not fit into the memory allowed; allow at least {math.ceil(short / _MEBIBYTE)} MB more"
        )
    return min(side, LARGEST_TILE) // multiple * multiple
