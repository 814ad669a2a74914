"""The tiles that one picture may be cut into: as large as memory allows, or smaller ones, so that a run can be steered."""

from dataclasses import dataclass

from grainwise.networks.network import Facts
from grainwise.runtime import memory
from grainwise.runtime.seams import REACH
from grainwise.runtime.tiles import Extent, Tile, plan_tiles, tile_extent

_SIDES = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072)


@dataclass(frozen=True, slots=True)
class Tiling:
    """One picture, the network's needs, and the memory that a running tile may take.

    Attributes:
        height, width: of the picture.
        facts: of the network.
        free: bytes.
    """

    height: int
    width: int
    facts: Facts
    free: int

    def side(self, bytes_per_pixel: float, *, reach: int = 0) -> int:
        """Side of the largest tile that fits into memory, if it may read ``reach`` pixels more than its halo.

        Raises:
            InputError: not even the smallest tile fits; the message says what is missing.
        """
        return memory.tile_side(
            self.height,
            self.width,
            free=self.free,
            bytes_per_pixel=bytes_per_pixel,
            halo=self.facts.halo + reach,
            multiple=self.facts.size_multiple,
            least_pixels=self.facts.least_tile,
        )

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
