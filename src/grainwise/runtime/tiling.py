"""The tiles that one picture may be cut into: as large as memory allows, or smaller ones, so that a run can be steered."""

import math
from dataclasses import dataclass

from grainwise.networks.network import Facts
from grainwise.runtime import memory
from grainwise.runtime.seams import REACH
from grainwise.runtime.strips import rows_in_transit, strip_rows
from grainwise.runtime.tiles import Extent, Tile, plan_tiles, tile_extent

_STEP = 64
_SIDES = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072)


@dataclass(frozen=True, slots=True)
class Tiling:
    """One picture, the network's needs, and the memory that a running tile may take.

    Attributes:
        height, width: of the picture.
        facts: of the network.
        free: bytes.
        row_bytes: of a row of the picture, where it is restored in strips; its rows share ``free`` with the tiles. 0 where
            the whole picture is held beside it.
        transit_bytes: of a row on its way from and to files, 0 where there are none; None is ``row_bytes``.
    """

    height: int
    width: int
    facts: Facts
    free: int
    row_bytes: int = 0
    transit_bytes: int | None = None

    def side(self, bytes_per_pixel: float, *, reach: int = 0) -> int:
        """Side of the largest tile that fits into memory, if it may read ``reach`` pixels more than its halo.

        Raises:
            InputError: not even the smallest tile fits; the message says what is missing.
        """
        least = memory.least_written(self.height, self.width, self.facts.size_multiple, self.facts.least_tile)
        side = self._side(bytes_per_pixel, reach, self._rows(least) if self.row_bytes else 0)
        if self.row_bytes:
            grid = range(side - side % _STEP, least, -_STEP)
            side = next((s for s in (side, *grid) if self.bytes(s, bytes_per_pixel, reach=reach) <= self.free), least)
        return side

    def _side(self, bytes_per_pixel: float, reach: int, held: int) -> int:
        return memory.tile_side(
            self.height,
            self.width,
            free=self.free - held,
            bytes_per_pixel=bytes_per_pixel,
            halo=self.facts.halo + reach,
            multiple=self.facts.size_multiple,
            least_pixels=self.facts.least_tile,
        )

    def bytes(self, side: int, bytes_per_pixel: float, *, reach: int = 0) -> int:
        """Memory of a tile of this side and of the rows that are held with it."""
        read = memory.most_read(self.height, self.width, side, self.facts.halo + reach, self.facts.least_tile)
        return math.ceil(read * bytes_per_pixel) + (self._rows(side) if self.row_bytes else 0)

    def _rows(self, side: int) -> int:
        """Bytes of the rows that are held where tiles of this side are restored in strips."""
        transit = self.row_bytes if self.transit_bytes is None else self.transit_bytes
        return self.row_bytes * strip_rows(side, self.height, self.facts) + transit * rows_in_transit(self.height)

    def sides(self, bytes_per_pixel: float) -> tuple[int, ...]:
        """Sides to choose from where plans may change between tiles, ascending; the last is the largest that fits.

        Raises:
            InputError: see `side`.
        """
        largest = self.side(bytes_per_pixel, reach=REACH)
        least = memory.least_written(self.height, self.width, self.facts.size_multiple, self.facts.least_tile)
        return (*(side for side in sorted({least, *_SIDES}) if least <= side < largest), largest)

    def tiles(self, side: int) -> tuple[Tile, ...]:
        """The tiles of this side, row by row."""
        return plan_tiles(self.height, self.width, size=side, **self._grid)

    def extent(self, side: int) -> Extent:
        """How much the tiles of this side read."""
        return tile_extent(self.height, self.width, size=side, **self._grid)

    @property
    def _grid(self) -> dict[str, int]:
        facts = self.facts
        return {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
