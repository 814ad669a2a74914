"""Degradations that networks are taught to undo, and batches that show the same crops at several levels of one.

HyperRes (section 3.2) degrades every crop at k levels at once. Everything random is a function of the seed.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.resampling import matlab_resize, opencv_resize
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, CropSettings, CropSource
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_LUMA = np.array([65.481, 128.553, 24.966]) / 255


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


@dataclass(frozen=True, kw_only=True)
class JpegArtifacts:
    """Compression; the level is the quality.

    Args:
        subsample: keep colour at half resolution; luma pictures have none.
    """

    subsample: bool = True
    task: ClassVar[str] = DEJPEG
    low: ClassVar[float] = 5.0
    high: ClassVar[float] = 95.0
    margin: ClassVar[int] = 16

    def __call__(self, clean: Bytes, level: float, generator: np.random.Generator) -> Floats:
        """See `LevelDegradation`; nothing is random."""
        return through_jpeg(clean, round(level), subsample=self.subsample).astype(np.float32) / np.float32(255)


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


DEGRADATIONS: MappingProxyType[str, LevelDegradation] = MappingProxyType(
    {
        "gaussian": GaussianNoise(),
        "gaussian-as-file": GaussianNoise(as_file=True),
        "jpeg": JpegArtifacts(),
        "jpeg-444": JpegArtifacts(subsample=False),
        "bicubic": LowResolution(),
        "bicubic-opencv": LowResolution(antialias=False),
    }
)


def to_luma(pixels: Bytes) -> Bytes:
    """BT.601 luma in [16, 235] of RGB pixels [H, W, 3], rounded: [H, W, 1]."""
    luma: Bytes = np.rint(pixels @ _LUMA + 16).astype(np.uint8)[..., None]
    return luma


@dataclass(frozen=True, kw_only=True)
class LevelCrops(CropSource):
    """Makes batches that show every crop at every level.

    Args:
        degradation: a name of `DEGRADATIONS`.
        levels: in the units of its task; k of them.
        drawn: show each crop once, at a level drawn uniformly between the least and the greatest of ``levels``.
        luma: crops of one channel, BT.601 luma, instead of RGB.
    """

    degradation: str
    levels: tuple[float, ...]
    drawn: bool = False
    luma: bool = False

    def __post_init__(self) -> None:
        """Refuse degradations and levels that do not exist."""
        super().__post_init__()
        check_levels(self.degradation, self.levels)

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """``count`` crops at each of the k levels: k * count rows, all crops at the first level first.

        Where the levels are drawn, ``count`` rows, each at its own level.
        """
        degrade = DEGRADATIONS[self.degradation]
        generator = np.random.default_rng(seed)
        clean: list[Bytes] = []
        worse: list[list[Floats]] = []
        levels: list[list[float]] = []
        for drawn in self.draw(size + degrade.margin, count, generator):
            crop = to_luma(drawn) if self.luma else drawn
            top, left = generator.integers(0, degrade.margin + 1, 2)
            inside = (slice(top, top + size), slice(left, left + size))
            clean.append(crop[inside])
            levels.append(
                [float(generator.uniform(min(self.levels), max(self.levels)))] if self.drawn else list(self.levels)
            )
            worse.append([degrade(crop, level, generator)[inside] for level in levels[-1]])
        pixels = torch.from_numpy(np.stack(clean)).permute(0, 3, 1, 2).float().div_(255)
        noisy = torch.from_numpy(np.stack([row for rows in zip(*worse, strict=True) for row in rows]))
        level = torch.tensor(levels, dtype=torch.float32).T.flatten()
        sigma = level if degrade.task == DENOISE else torch.zeros_like(level)
        return Batch(pixels.repeat(len(levels[0]), 1, 1, 1), noisy.permute(0, 3, 1, 2).contiguous(), sigma, level)


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
    luma: bool = False
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
            luma=self.luma,
            shares=self.share_of_reduction,
            texture=self.texture,
        )
