"""Pictures larger than memory: restored strip by strip, each one row of tiles, with all the rows that its tiles need."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from grainwise.networks.network import Facts
from grainwise.runtime.noise_level import MAP_HALO, NoiseEstimate, estimate_from
from grainwise.runtime.noise_sample import SampleGatherer
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.seams import REACH
from grainwise.runtime.tile_run import TileRun
from grainwise.runtime.tiles import Tile

_PASSED_ON = 32
"""Rows that are read or copied at once."""
_IN_TRANSIT = 2400
"""Rows that reading and writing a TIFF hold besides, in libvips and on the way there; an upper bound of what was measured."""

ReadRows = Callable[[int, int], Image]
WriteRows = Callable[[Image], None]


class Rows(Protocol):
    """A picture that is read in rows. See `grainwise.core.picture_rows.PictureInfo`, which is one.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3.
        bands: the channels, and one more where there is alpha.
        dtype: uint8, uint16 or a float.
        row_bytes: bytes of a row, all bands.
    """

    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def bands(self) -> int: ...  # noqa: D102
    @property
    def row_bytes(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16] | type[np.float32]: ...  # noqa: D102

    def open(self) -> AbstractContextManager[ReadRows]:
        """Give a function that reads rows [top, bottom), [N, W, bands], none before those read already."""


def estimate_rows(rows: Rows, progress: ProgressCallback | None) -> NoiseEstimate:
    """Estimate the noise of a picture in one pass over its rows: the figure that the whole picture would give.

    Raises:
        Cancelled: ``progress``, which is told 0 now and then, returned False.
    """
    gatherer = SampleGatherer(rows.height, rows.width, rows.channels, rows.dtype)
    with rows.open() as read:
        for top in range(0, rows.height, _PASSED_ON):
            gatherer.add(read(top, min(rows.height, top + _PASSED_ON))[..., : rows.channels])
            tell(progress, 0.0)
    return estimate_from(gatherer.sample())


def copy_rows(rows: Rows, write: WriteRows, progress: ProgressCallback | None) -> None:
    """Write the rows as they are.

    Raises:
        Cancelled: ``progress`` returned False.
    """
    with rows.open() as read:
        for top in range(0, rows.height, _PASSED_ON):
            bottom = min(rows.height, top + _PASSED_ON)
            write(read(top, bottom))
            tell(progress, bottom / rows.height)


def restore_rows(rows: Rows, write: WriteRows, run: TileRun, tiles: tuple[Tile, ...], facts: Facts) -> None:
    """Restore the tiles of a picture, and write its rows as soon as nothing can change them any more.

    Args:
        rows: the picture; alpha is passed on.
        write: takes the rows of the result.
        run: of this picture.
        tiles: of this picture, row by row.
        facts: of the network.

    Raises:
        Cancelled: the progress callback of ``run`` returned False.
    """
    strips = [tuple(strip) for _, strip in groupby(tiles, key=lambda tile: tile.write.top)]
    seen = [_seen(strip[0], rows.height, facts) for strip in strips]
    with rows.open() as read:
        window = _Window(rows, read, max(bottom - top for top, bottom in seen))
        held: Image = window.show(0, 0)
        for strip, (first, last) in zip(strips, seen, strict=True):
            top, bottom, above = strip[0].write.top, strip[0].write.bottom, strip[0].write.top - len(held)
            pixels = window.show(first, last)
            out: Image = np.concatenate([held, pixels[top - first : bottom - first]])
            run.run(strip, pixels[..., : rows.channels], out[..., : rows.channels], above=first, above_out=above)
            done = len(out) if bottom == rows.height else max(0, len(out) - REACH)
            if done:
                write(out[:done])
            held = out[done:].copy()


def _seen(tile: Tile, height: int, facts: Facts) -> tuple[int, int]:
    """The rows that the strip of a tile may read: halo, a reach upwards with its alignment, and the noise map's halo."""
    up = REACH + facts.size_multiple + MAP_HALO
    return max(0, tile.read.top - up), min(height, tile.read.bottom + MAP_HALO)


def strip_rows(side: int, height: int, facts: Facts) -> int:
    """How many rows are held at once, at most, where tiles of this side are restored in strips."""
    window = side + 2 * (facts.halo + facts.size_multiple + MAP_HALO) + REACH
    return min(height, window) + min(height, side + 2 * REACH)


def rows_in_transit(height: int) -> int:
    """How many rows are held besides while files are read and written, at most."""
    return min(2 * height, _IN_TRANSIT)


class _Window:
    """The rows of a picture that are held; it moves down, and reads what comes into sight."""

    def __init__(self, rows: Rows, read: ReadRows, capacity: int) -> None:
        self._read = read
        dtype: Any = rows.dtype
        self._buffer: Image = np.empty((capacity, rows.width, rows.bands), dtype)
        self._top = self._bottom = 0

    def show(self, top: int, bottom: int) -> Image:
        """The rows from top to bottom; neither lies above that of the last call."""
        kept = max(0, self._bottom - top)
        self._buffer[:kept] = self._buffer[top - self._top : top - self._top + kept]
        for start in range(top + kept, bottom, _PASSED_ON):
            end = min(bottom, start + _PASSED_ON)
            self._buffer[start - top : end - top] = self._read(start, end)
        self._top, self._bottom = top, bottom
        return self._buffer[: bottom - top]
