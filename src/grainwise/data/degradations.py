"""Degradations that networks are taught to undo, and batches that show the same crops at several levels of one.

HyperRes (section 3.2) degrades every crop at k levels at once. Everything random is a function of the seed.

These are told their level, and the crop stays the clean picture. What draws its own strength and renders the clean picture
too, as a camera does, has no level to be told: see `grainwise.data.degraded_crops`.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.image import BT601_LIMITED
from grainwise.core.jpeg import through_jpeg
from grainwise.core.resampling import matlab_resize, opencv_resize
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, CropSettings, CropSource, stacked
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class LevelDegradation(Protocol):
    """Makes a picture worse.

    Attributes:
        task: of the network that undoes it.
        low, high: the levels that it knows, in the units of the task.
        margin: pixels to degrade around a crop, so that the crop lies anywhere on the grid of the degradation.
    """

    task: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    margin: ClassVar[int]

    def __call__(self, clean: Bytes, level: float, generator: np.random.Generator) -> Floats:
        """``clean`` [H, W, 1 or 3] at ``level``, of the same size, in image units."""

    def between(self, low: float, high: float, share: float) -> float:
        """The level at a share of the way from ``low`` to ``high``, in steps that mean about the same everywhere."""


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """White Gaussian noise; the level is its standard deviation in image units.

    Args:
        as_file: clip the result and truncate it to 8 bits, as HyperRes keeps its noisy pictures; numbers that are
            measured so are not those of the usual, unclipped protocol.
    """

    as_file: bool = False
    task: ClassVar[str] = DENOISE
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    margin: ClassVar[int] = 0

    def __call__(self, clean: Bytes, level: float, generator: np.random.Generator) -> Floats:
        """See `LevelDegradation`."""
        noise = generator.standard_normal(clean.shape, np.float32)
        noisy: Floats = clean.astype(np.float32) / np.float32(255) + np.float32(level) * noise
        if self.as_file:
            noisy = (np.floor(noisy.clip(0, 1) * np.float32(255)) / np.float32(255)).astype(np.float32)
        return noisy

    def between(self, low: float, high: float, share: float) -> float:
        """See `LevelDegradation`: linear."""
        return low + share * (high - low)


@dataclass(frozen=True, kw_only=True)
class JpegArtifacts:
    """Compression; the level is the quality.

    Args:
        subsample: keep colour at half resolution; luma pictures have none. None draws it, three times in four.
    """

    subsample: bool | None = True
    task: ClassVar[str] = DEJPEG
    low: ClassVar[float] = 5.0
    high: ClassVar[float] = 95.0
    margin: ClassVar[int] = 16

    def __call__(self, clean: Bytes, level: float, generator: np.random.Generator) -> Floats:
        """See `LevelDegradation`; nothing is random where ``subsample`` is given."""
        subsample = self.subsample if self.subsample is not None else bool(generator.random() < 0.75)
        return through_jpeg(clean, round(level), subsample=subsample).astype(np.float32) / np.float32(255)

    def between(self, low: float, high: float, share: float) -> float:
        """See `LevelDegradation`: linear, in whole numbers."""
        return float(round(low + share * (high - low)))


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """Reduced and enlarged again to the same size; the level is the scale.

    Args:
        antialias: reduce as MATLAB's ``imresize`` does, round to 8 bits, enlarge with the same kernel; otherwise as HyperRes
            does: with OpenCV's kernel, which aliases, both ways, rounding to 8 bits each time.
    """

    antialias: bool = True
    task: ClassVar[str] = UPSCALE
    low: ClassVar[float] = 1.0
    high: ClassVar[float] = 6.0
    margin: ClassVar[int] = 12

    def __call__(self, clean: Bytes, level: float, generator: np.random.Generator) -> Floats:
        """See `LevelDegradation`; nothing is random."""
        picture = clean.astype(np.float32)
        height, width = clean.shape[:2]
        if self.antialias:
            small: Floats = np.rint(matlab_resize(picture, 1 / level).clip(0, 255))
            large: Floats = matlab_resize(small, level)[:height, :width].clip(0, 255)
        else:
            rows, columns = max(1, round(height / level)), max(1, round(width / level))
            small = np.rint(opencv_resize(picture, rows, columns).clip(0, 255))
            large = np.rint(opencv_resize(small, height, width).clip(0, 255))
        out: Floats = large / np.float32(255)
        return out

    def between(self, low: float, high: float, share: float) -> float:
        """See `LevelDegradation`: linear in the logarithm."""
        return float(low * (high / low) ** share)


DEGRADATIONS: MappingProxyType[str, LevelDegradation] = MappingProxyType(
    {
        "gaussian": GaussianNoise(),
        "gaussian-as-file": GaussianNoise(as_file=True),
        "jpeg": JpegArtifacts(),
        "jpeg-444": JpegArtifacts(subsample=False),
        "jpeg-any": JpegArtifacts(subsample=None),
        "bicubic": LowResolution(),
        "bicubic-opencv": LowResolution(antialias=False),
    }
)


def to_luma(pixels: Bytes) -> Bytes:
    """BT.601 luma in [16, 235] of RGB pixels [H, W, 3], rounded: [H, W, 1]."""
    luma: Bytes = np.rint(pixels @ BT601_LIMITED + 16).astype(np.uint8)[..., None]
    return luma


@dataclass(frozen=True, kw_only=True)
class LevelCrops(CropSource):
    """Makes batches that show every crop at every level.

    Args:
        degradation: a name of `DEGRADATIONS`.
        levels: in the units of its task; k of them.
        drawn: show each crop once, at a level drawn between the least and the greatest of ``levels``
            (`LevelDegradation.between`).
        parts: with ``drawn``, draw so many levels for a batch, one from each of as many equal parts of the range, and show
            an equal share of the crops at each; 0 draws a level for each crop. Few levels make a step cheaper to learn from.
        every: with ``drawn``, show each crop at so many levels, one drawn from each of as many equal parts of the range: what
            differs is then the level and not the picture, for networks that tell the level.
        luma: crops of one channel, BT.601 luma, instead of RGB.
        grey: the share of RGB crops that are luma in all three channels, degraded as luma.
    """

    degradation: str
    levels: tuple[float, ...]
    drawn: bool = False
    parts: int = 0
    every: int = 0
    luma: bool = False
    grey: float = 0.0

    def __post_init__(self) -> None:
        """Refuse degradations and levels that do not exist."""
        super().__post_init__()
        check_levels(self.degradation, self.levels)
        if self.parts < 0 or (self.parts and not self.drawn) or not 0 <= self.grey <= 1:
            raise InputError(
                f"parts is at least 0, and 0 unless levels are drawn; grey lies in [0, 1]; got {self.parts} and {self.grey}"
            )
        if self.every < 0 or (self.every and (not self.drawn or self.parts)):
            raise InputError(
                f"every is at least 0, and 0 unless levels are drawn and parts is 0; got {self.every}, with drawn={self.drawn} "
                f"and parts={self.parts}"
            )

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """``count`` crops at each of the k levels: k * count rows, all crops at the first level first.

        Where the levels are drawn, ``count`` rows, each at its own level, or at that of its part; k * count with ``every``.
        """
        degrade = DEGRADATIONS[self.degradation]
        generator = np.random.default_rng(seed)
        levels = self._levels(count, generator)
        clean: list[Bytes] = []
        worse: list[list[Floats]] = []
        for drawn, row in zip(self.draw(size + degrade.margin, count, generator), levels, strict=True):
            grey = not self.luma and self.grey > 0 and generator.random() < self.grey
            crop = to_luma(drawn) if self.luma or grey else drawn
            top, left = generator.integers(0, degrade.margin + 1, 2)
            inside = (slice(top, top + size), slice(left, left + size))
            bands = (1, 1, 3 if grey else 1)
            clean.append(np.tile(crop[inside], bands))
            worse.append([np.tile(degrade(crop, level, generator)[inside], bands) for level in row])
        pixels = torch.from_numpy(np.stack(clean)).permute(0, 3, 1, 2).float().div_(255)
        noisy = stacked([row for rows in zip(*worse, strict=True) for row in rows])
        level = torch.tensor(levels, dtype=torch.float32).T.flatten()
        sigma = level if degrade.task == DENOISE else torch.zeros_like(level)
        return Batch(pixels.repeat(len(levels[0]), 1, 1, 1), noisy, sigma, level)

    def _levels(self, count: int, generator: np.random.Generator) -> list[list[float]]:
        """The levels of each of ``count`` crops."""
        if not self.drawn:
            return [list(self.levels)] * count
        degrade, low, high = DEGRADATIONS[self.degradation], min(self.levels), max(self.levels)
        if self.every:
            shares = (np.arange(self.every) + generator.random((count, self.every))) / self.every
            return [[degrade.between(low, high, float(share)) for share in row] for row in shares]
        parts = min(self.parts or count, count)
        shares = (np.arange(parts) + generator.random(parts)) / parts if self.parts else generator.random(count)
        return [[degrade.between(low, high, float(shares[index * parts // count]))] for index in range(count)]


def check_levels(degradation: str, levels: tuple[float, ...]) -> None:
    """Raise `InputError` unless ``levels`` are levels of ``degradation``, or `UnknownNameError` if there is no such."""
    if degradation not in DEGRADATIONS:
        raise UnknownNameError("degradation", degradation, DEGRADATIONS)
    kind = DEGRADATIONS[degradation]
    if not levels or not all(kind.low <= level <= kind.high for level in levels):
        raise InputError(f"the levels of {degradation} are numbers from {kind.low:g} to {kind.high:g}, got {levels}")


@dataclass(frozen=True, kw_only=True)
class LevelCropSettings(CropSettings):
    """See `LevelCrops`."""

    degradation: str = "gaussian"
    levels: tuple[float, ...] = (15 / 255, 35 / 255, 55 / 255, 75 / 255)
    drawn: bool = False
    parts: int = 0
    every: int = 0
    luma: bool = False
    grey: float = 0.0
    shares: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """See `check_levels`."""
        check_levels(self.degradation, self.levels)

    @property
    def label(self) -> str:
        """The degradation and its levels as protocols write them."""
        unit = 255 if DEGRADATIONS[self.degradation].task == DENOISE else 1
        shown = (min(self.levels), max(self.levels)) if self.drawn else self.levels
        return f"{self.degradation}:{('-' if self.drawn else '/').join(f'{unit * level:g}' for level in shown)}"

    def build(self, corpus: Corpus) -> LevelCrops:
        """The batches of these settings."""
        return LevelCrops(
            corpus=corpus,
            degradation=self.degradation,
            levels=self.levels,
            drawn=self.drawn,
            parts=self.parts,
            every=self.every,
            luma=self.luma,
            grey=self.grey,
            shares=self.share_of_reduction,
            texture=self.texture,
        )
