"""Tiles as plain records: what to read, what to write. With the halo of the receptive field, tiling changes no pixel."""

import math
from dataclasses import dataclass

from grainwise.core.errors import InputError

Shape = tuple[int, int]
"""Height and width of what a tile reads."""

_ALIKE = 32
"""Pixels that a tile at one edge of a picture may read more, to have the size of the tile at the other edge."""


@dataclass(frozen=True, slots=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a picture, ends excluded, in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    @property
    def shape(self) -> Shape:
        """Height and width."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the box in an array [H, W, ...]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def moved(self, rows: int) -> "Box":
        """This box, so many rows further down (or up, where negative)."""
        return Box(self.top + rows, self.bottom + rows, self.left, self.right)

    def pieces(self, side: int) -> "tuple[Box, ...]":
        """This box, cut where multiples of ``side`` rows and columns of the picture begin."""
        rows, columns = (
            [(max(first, start), min(end, start + side)) for start in range(first // side * side, end, side)]
            for first, end in ((self.top, self.bottom), (self.left, self.right))
        )
        return tuple(Box(*row, *column) for row in rows for column in columns)

    def within(self, outer: "Box") -> "Box":
        """This box in the coordinates of ``outer``."""
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)


@dataclass(frozen=True, slots=True)
class Tile:
    """Run the network on ``read``; keep ``write``, which lies in it."""

    read: Box
    write: Box


def least_side(height: int, width: int, least_pixels: int) -> int:
    """How many pixels a tile must read along each side, as far as the picture has them, to read ``least_pixels`` in all."""
    return max(math.isqrt(least_pixels - 1) + 1, -(-least_pixels // min(height, width)))


def plan_tiles(
    height: int, width: int, *, size: int, halo: int, multiple: int, least_pixels: int = 1
) -> tuple[Tile, ...]:
    """Cover a picture with tiles that write up to ``size`` x ``size`` pixels and read at least ``halo`` more on each side.

    Args:
        height, width: of the picture, from 1.
        size: side of the written square; at least ``multiple``, rounded down to it.
        halo: receptive-field radius of the network.
        multiple: size multiple of the network; every tile is read from a multiple of it.
        least_pixels: a tile reads at least this many pixels, or the whole picture; see `Facts.least_tile`.

    Raises:
        InputError: a size that cannot be covered.
    """
    if height < 1 or width < 1 or size < multiple:
        raise InputError(f"cannot cover {height}x{width} pixels with tiles of {size}; they need at least {multiple}")
    least = least_side(height, width, least_pixels)
    rows = _spans(height, size // multiple * multiple, halo, multiple, least)
    columns = _spans(width, size // multiple * multiple, halo, multiple, least)
    return tuple(
        Tile(Box(r0, r1, c0, c1), Box(top, bottom, left, right))
        for r0, r1, top, bottom in rows
        for c0, c1, left, right in columns
    )


def tile_of(box: Box, height: int, width: int, *, halo: int, multiple: int, least_pixels: int = 1) -> Tile:
    """The one tile that writes ``box`` of a picture; the arguments are those of `plan_tiles`.

    Raises:
        InputError: the box is empty or not inside the picture.
    """
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise InputError(f"a part of a picture of {height}x{width} pixels lies inside it, got {box}")
    least = least_side(height, width, least_pixels)
    top, bottom = _reach(box.top, box.bottom, height, halo, multiple, least)
    left, right = _reach(box.left, box.right, width, halo, multiple, least)
    return Tile(Box(top, bottom, left, right), box)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much tiles read: their ``count``, all their ``pixels``, those of the ``largest``, and their ``shapes``."""

    count: int
    pixels: int
    largest: int
    shapes: frozenset[Shape] = frozenset()


def tile_extent(height: int, width: int, *, size: int, halo: int, multiple: int, least_pixels: int = 1) -> Extent:
    """The extent of the tiles that `plan_tiles` gives for the same arguments, which it must accept."""
    least = least_side(height, width, least_pixels)
    rows, columns = (
        [end - first for first, end, _, _ in _spans(length, size // multiple * multiple, halo, multiple, least)]
        for length in (height, width)
    )
    shapes = frozenset((tall, wide) for tall in set(rows) for wide in set(columns))
    return Extent(len(rows) * len(columns), sum(rows) * sum(columns), max(rows) * max(columns), shapes)


def _spans(length: int, size: int, halo: int, multiple: int, least: int) -> list[tuple[int, int, int, int]]:
    """(read start, read end, write start, write end) along one side; the tiles are made alike in size."""
    count = -(-length // size)
    step = -(-length // count)
    step += -step % multiple
    ends = [(start, min(start + step, length)) for start in range(0, length, step)]
    reads = [_reach(start, end, length, halo, multiple, least) for start, end in ends]
    if halo >= multiple:
        reads[0], reads[-1] = _alike(reads, length, multiple)
    return [(*read, *written) for read, written in zip(reads, ends, strict=True)]


def _alike(reads: list[tuple[int, int]], length: int, multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and the last read along a side, made alike in length where few pixels do it, as each length has its price.

    A tile may read more than its halo. The first one ends later, and the last one begins earlier, at a multiple.
    """
    first, last = reads[0], reads[-1]
    longer = max(first[1] - first[0], last[1] - last[0])
    longer += (length - longer) % multiple
    grown = longer - (first[1] - first[0]), longer - (last[1] - last[0])
    if len(reads) == 1 or max(grown) > _ALIKE or longer > reads[1][1] or length - longer < reads[-2][0]:
        return first, last
    return (0, longer), (length - longer, length)


def _reach(start: int, end: int, length: int, halo: int, multiple: int, least: int) -> tuple[int, int]:
    """What to read for ``start`` to ``end`` along a side of ``length``: the halo too, and at least ``least`` pixels."""
    last = min(length, end + halo)
    first = max(0, min(start - halo, last - least))
    first -= first % multiple
    return first, min(length, max(last, first + least))
