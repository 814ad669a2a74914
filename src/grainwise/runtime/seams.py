"""Where neighbouring tiles have different plans: the later one reaches a little into the earlier one and blends into it.

Two sub-networks give slightly different pixels, and a border between them would show as a line. So the later tile is
computed `REACH` pixels further up or to the left, and there its share of the result grows evenly from 0 to 1: from one
pixel to the next, the share changes by 1 / (REACH + 1); by at most a quarter at the corner where two changes meet.
"""

import numpy as np
import numpy.typing as npt

from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.pixels import Image
from grainwise.runtime.tiles import Box, Tile

REACH = 24
"""Pixels over which two plans are blended."""


class Seams:
    """Remembers the plans of the tiles of one picture, which come row by row from the left; says how far to reach.

    The borders are even where a plan, once left, is not taken up again later.

    Args:
        multiple: size multiple of the network.
    """

    def __init__(self, multiple: int) -> None:
        """Start a picture."""
        self._multiple = multiple
        self._above: dict[tuple[int, int], ChannelPlan] = {}
        self._left: tuple[tuple[int, int], ChannelPlan] | None = None

    def grow(self, tile: Tile, plan: ChannelPlan) -> Tile:
        """Remember the plan of ``tile``; give the tile as it has to be computed: it writes and reads more where it reaches."""
        write = tile.write
        above = self._above.pop((write.top, write.left), plan)
        left = plan if self._left is None or self._left[0] != (write.top, write.left) else self._left[1]
        self._above[write.bottom, write.left] = plan
        self._left = ((write.top, write.right), plan)
        up, aside = REACH * (above != plan), REACH * (left != plan)
        return Tile(
            Box(self._start(tile.read.top, up), tile.read.bottom, self._start(tile.read.left, aside), tile.read.right),
            Box(max(0, write.top - up), write.bottom, max(0, write.left - aside), write.right),
        )

    def _start(self, start: int, reach: int) -> int:
        first = max(0, start - reach)
        return first - first % self._multiple


def blend_into(out: Image, new: Image, *, up: int, aside: int) -> None:
    """Put ``new`` HWC into ``out`` of its shape; its first ``up`` rows and ``aside`` columns blend into what is there.

    Integers are rounded.
    """
    kept = out[:up].copy(), out[up:, :aside].copy()
    out[:] = new
    height, width = new.shape[:2]
    down, across = _ramp(up, height), _ramp(aside, width)
    for part, old in zip((slice(0, up), slice(up, None)), kept, strict=True):
        if old.size == 0:
            continue
        share = (down[part, None] * across[None, : old.shape[1]])[..., None]
        mixed = share * new[part, : old.shape[1]] + (1 - share) * old
        out[part, : old.shape[1]] = np.rint(mixed) if out.dtype.kind == "u" else mixed


def _ramp(reach: int, length: int) -> npt.NDArray[np.float32]:
    share = np.ones(length, np.float32)
    share[:reach] = np.arange(1, reach + 1, dtype=np.float32) / (reach + 1)
    return share
