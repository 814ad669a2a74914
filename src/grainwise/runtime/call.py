"""One call of a restorer: what it says of the degradation, and the picture that it is about, held or in rows.

`Restorer` knows the way from one to the other; each task says here what it is told, and how the rest is estimated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from grainwise.core.image import as_hwc, like_input
from grainwise.networks.network import Facts
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.jpeg_quality import JpegEstimate
from grainwise.runtime.level import Level
from grainwise.runtime.noise_level import NoiseEstimate
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.strips import Rows, WriteRows, copy_rows, restore_rows
from grainwise.runtime.tile_run import TileRun
from grainwise.runtime.tiles import Tile

Estimate = NoiseEstimate | JpegEstimate
Started = Callable[[float | None], set[ChannelPlan]]
"""Gives the plans that have run before with the kernels of a level, 0 to 1, or with kernels that depend on none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of the degradation of a picture, and what the network is told of it.

    Attributes:
        level: in the units of the task, see `Account`.
        estimate: where the level is that of an estimate.
        idle: whether nothing is to be restored.
        kernels: the level that kernels are merged at, 0 to 1; None keeps them as they are.
        noise: of networks that are told it.
    """

    level: float
    estimate: Estimate | None = None
    idle: bool = False
    kernels: float | None = None
    noise: Level | None = None


class Call(ABC):
    """What a caller says of the degradation, checked; of each task its own.

    Attributes:
        foreseen: whether the cost model knows what an estimate takes; a short one is not part of it.
        blind: whether the picture is asked for the degradation.
        idle: whether nothing is to be restored, as far as this is known beforehand.
    """

    foreseen: ClassVar[bool] = False
    blind: bool = False
    idle: bool = False

    @abstractmethod
    def ready(self, started: Started) -> set[ChannelPlan]:
        """Plans that need not be made first; none where the level of their kernels has yet to be found."""

    @abstractmethod
    def told(self, estimate: Estimate | None, size: tuple[int, int]) -> Told:
        """What the network is told; the estimate is there where the call is blind.

        Args:
            estimate: of the picture.
            size: its height and width.

        Raises:
            InputError: the caller's level does not fit the picture.
        """

    def estimate(self, pixels: Image) -> Estimate:
        """Ask the picture HWC, where the call is blind."""
        raise NotImplementedError

    def estimate_rows(self, rows: Rows, progress: ProgressCallback | None) -> Estimate:
        """The same in one pass over its rows.

        Raises:
            Cancelled: ``progress``, which is told 0 now and then, returned False.
        """
        raise NotImplementedError


class Source(ABC):
    """The picture of a call, and where its result goes.

    Attributes:
        held: bytes of the result, where it is held whole.
        row_bytes, transit_bytes: see `Tiling`.
    """

    held: int = 0
    row_bytes: int = 0
    transit_bytes: int | None = None

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""

    @abstractmethod
    def estimate(self, call: Call, progress: ProgressCallback | None) -> Estimate:
        """Ask the picture for its degradation."""

    @abstractmethod
    def copy(self, progress: ProgressCallback | None) -> None:
        """The result is the picture."""

    @abstractmethod
    def restore(self, run: TileRun, tiles: tuple[Tile, ...], facts: Facts) -> None:
        """The result is that of these tiles, which are those of the picture."""


class Held(Source):
    """A picture in memory, HWC or BCHW; it is looked at when its size is asked for, and never changed."""

    def __init__(self, image: Image | Tensor) -> None:
        """Keep the picture."""
        self._image = image
        self._out: Image | None = None

    @cached_property
    def _pixels(self) -> Image:
        return as_hwc(self._image)

    @property
    def size(self) -> tuple[int, int]:
        """See `Source.size`."""
        return self._pixels.shape[0], self._pixels.shape[1]

    @property
    def held(self) -> int:  # type: ignore[override]
        """See `Source`."""
        return self._pixels.nbytes

    @property
    def result(self) -> Image | Tensor:
        """What was restored or copied, of the type, depth and shape of the picture."""
        assert self._out is not None
        return like_input(self._out, self._image)

    def estimate(self, call: Call, progress: ProgressCallback | None) -> Estimate:
        """See `Source.estimate`; the progress is not told of it."""
        return call.estimate(self._pixels)

    def copy(self, progress: ProgressCallback | None) -> None:
        """See `Source.copy`."""
        self._out = self._pixels.copy()
        tell(progress, 1.0)

    def restore(self, run: TileRun, tiles: tuple[Tile, ...], facts: Facts) -> None:
        """See `Source.restore`."""
        self._out = np.empty_like(self._pixels, order="C")
        run.run(tiles, self._pixels, self._out)


class InRows(Source):
    """A picture that is read and written in rows.

    Args:
        rows: the picture.
        write: takes the rows of the result, all bands, from top to bottom.
    """

    def __init__(self, rows: Rows, write: WriteRows) -> None:
        """Keep both."""
        self._rows, self._write = rows, write
        self.row_bytes = rows.row_bytes

    @property
    def size(self) -> tuple[int, int]:
        """See `Source.size`."""
        return self._rows.height, self._rows.width

    def estimate(self, call: Call, progress: ProgressCallback | None) -> Estimate:
        """See `Source.estimate`."""
        return call.estimate_rows(self._rows, progress)

    def copy(self, progress: ProgressCallback | None) -> None:
        """See `Source.copy`."""
        copy_rows(self._rows, self._write, progress)

    def restore(self, run: TileRun, tiles: tuple[Tile, ...], facts: Facts) -> None:
        """See `Source.restore`."""
        restore_rows(self._rows, self._write, run, tiles, facts)
