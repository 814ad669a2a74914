"""Training batches by a degradation that draws all of itself: handed a crop, it gives the pair that is learned from.

Such a one decides what clean is too (a camera renders both pictures), knows no level before it has drawn, and may give a
smaller picture. A degradation that is told its level, keeps the crop, and teaches networks that take that level is another
thing: see `grainwise.data.degradations`, whose batches show one crop at several levels.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import InputError
from grainwise.data.camera import Camera, photograph
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, CropSettings, CropSource, stacked

FloatPicture = npt.NDArray[np.float32]


class Degraded(NamedTuple):
    """A pair to learn from.

    Attributes:
        clean: what the network shall give, [H, W, 3] float32 in [0, 1].
        noisy: what it is given, [h, w, 3] float32; smaller than ``clean`` where it shall be enlarged.
        level: of the degradation: the standard deviation of the noise in image units, or what else the degradation counts.
    """

    clean: FloatPicture
    noisy: FloatPicture
    level: float


class Degradation(Protocol):
    """Makes a pair of a clean crop."""

    def __call__(self, crop: FloatPicture, generator: np.random.Generator) -> Degraded:
        """Degrade [H, W, 3] float32 in [0, 1]; everything random comes from ``generator``."""


@dataclass(frozen=True, kw_only=True)
class DegradedCrops(CropSource):
    """Makes batches of degraded crops.

    Args:
        degradation: what becomes of each crop, drawn for each anew; ``sigma`` of the batch is its level.
    """

    degradation: Degradation

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `grainwise.data.crops.Batches.batch`."""
        generator = np.random.default_rng(seed)
        crops = self.draw(size, count, generator).astype(np.float32) / np.float32(255)
        parts = [self.degradation(crop, generator) for crop in crops]
        levels = torch.tensor([part.level for part in parts], dtype=torch.float32)
        return Batch(stacked([part.clean for part in parts]), stacked([part.noisy for part in parts]), levels)


@dataclass(frozen=True, kw_only=True)
class CameraNoise:
    """The degradation of a camera at random, at an ISO at random (`grainwise.data.camera`).

    The level is the measured standard deviation of the crop's noise: that of a camera grows and falls with brightness, and
    has no single one. Blind networks do not read it; one that reads it is told what a perfect blind estimate would say, or what
    one would that is wrong by a random amount.

    Args:
        camera: the ranges.
        asked: the least and the greatest factor by which the level lies above the standard deviation, drawn uniformly: smoothed
            noise asks for more than white noise of its deviation (docs/decisions/0010).
        error: the greatest excess of the level besides, image units, drawn uniformly: texture that was taken for noise.

    Raises:
        InputError: factors that are no range, or a negative error.
    """

    camera: Camera = field(default_factory=Camera)
    asked: tuple[float, float] = (1.0, 1.0)
    error: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that make no sense."""
        if not 0 < self.asked[0] <= self.asked[1] or self.error < 0:
            raise InputError(
                f"asked runs from low to high, both above 0, and error is at least 0, got {self.asked} and {self.error}"
            )

    def __call__(self, crop: FloatPicture, generator: np.random.Generator) -> Degraded:
        """See `Degradation`."""
        clean, noisy = photograph(crop, self.camera.draw(generator), generator)
        level = float((noisy - clean).std())
        if self.asked != (1.0, 1.0) or self.error > 0:
            level = level * generator.uniform(*self.asked) + generator.uniform(0, self.error)
        return Degraded(clean, noisy, level)


@dataclass(frozen=True, kw_only=True)
class CameraCropSettings(CropSettings):
    """Crops as a camera at random would give them; see `CameraNoise` and `DegradedCrops`."""

    camera: Camera = field(default_factory=Camera)
    asked: tuple[float, float] = (1.0, 1.0)
    error: float = 0.0

    @property
    def label(self) -> str:
        """The noise as protocols write it: the least and the greatest shot noise."""
        low, high = self.camera.shot
        return f"camera:{low:g}-{high:g}"

    def build(self, corpus: Corpus) -> DegradedCrops:
        """The batches of these settings."""
        degradation = CameraNoise(camera=self.camera, asked=self.asked, error=self.error)
        return DegradedCrops(
            corpus=corpus, shares=self.share_of_reduction, texture=self.texture, degradation=degradation
        )
