"""Degradations that networks are taught to undo, and batches that show the same crops at several levels of one.

HyperRes (section 3.2) degrades every crop at k levels at once. Everything random is a function of the seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.resampling import matlab_resize, opencv_resize
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, CropSampler
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_LUMA = np.array([65.481, 128.553, 24.966]) / 255


class Degradation(Protocol):
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
        """See `Degradation`."""
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
        """See `Degradation`; nothing is random."""
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
        """See `Degradation`; nothing is random."""
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


DEGRADATIONS: MappingProxyType[str, Degradation] = MappingProxyType(
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
class LevelCrops:
    """Makes batches that show every crop at every level.

    Args:
        corpus: the pictures.
        degradation: a name of `DEGRADATIONS`.
        levels: in the units of its task; k of them.
        luma: crops of one channel, BT.601 luma, instead of RGB.
        shares, texture: see `grainwise.data.crops.NoisyCrops`.
    """

    corpus: Corpus
    degradation: str
    levels: tuple[float, ...]
    luma: bool = False
    shares: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    texture: float = 1.0
    _samplers: dict[int, CropSampler] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse degradations, levels and shares that do not exist."""
        check_levels(self.degradation, self.levels)
        held = {entry.reduction for entry in self.corpus.entries}
        if not set(self.shares) <= held or min(self.shares.values(), default=0) <= 0 or self.texture < 0:
            raise InputError(
                f"shares are positive, for reductions among {sorted(held)}, and texture is at least 0, "
                f"got {dict(self.shares)} and {self.texture}"
            )

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """``count`` crops at each of the k levels: k * count rows, all crops at the first level first."""
        degrade = DEGRADATIONS[self.degradation]
        sampler = self._sampler(size + degrade.margin)
        generator = np.random.default_rng(seed)
        clean: list[Bytes] = []
        worse: list[list[Floats]] = [[] for _ in self.levels]
        for _ in range(count):
            crop = sampler.draw(generator)
            crop = to_luma(crop) if self.luma else crop
            top, left = generator.integers(0, degrade.margin + 1, 2)
            inside = (slice(top, top + size), slice(left, left + size))
            clean.append(crop[inside])
            for rows, level in zip(worse, self.levels, strict=True):
                rows.append(degrade(crop, level, generator)[inside])
        pixels = torch.from_numpy(np.stack(clean)).permute(0, 3, 1, 2).float().div_(255)
        noisy = torch.from_numpy(np.stack([row for rows in worse for row in rows])).permute(0, 3, 1, 2).contiguous()
        levels = torch.tensor(self.levels, dtype=torch.float32).repeat_interleave(count)
        sigma = levels if degrade.task == DENOISE else torch.zeros_like(levels)
        return Batch(pixels.repeat(len(self.levels), 1, 1, 1), noisy, sigma, levels)

    def _sampler(self, size: int) -> CropSampler:
        if size not in self._samplers:
            self._samplers[size] = CropSampler(self.corpus, size, shares=self.shares, texture=self.texture)
        return self._samplers[size]


def check_levels(degradation: str, levels: tuple[float, ...]) -> None:
    """Raise `InputError` unless ``levels`` are levels of ``degradation``, or `UnknownNameError` if there is no such."""
    if degradation not in DEGRADATIONS:
        raise UnknownNameError("degradation", degradation, DEGRADATIONS)
    kind = DEGRADATIONS[degradation]
    if not levels or not all(kind.low <= level <= kind.high for level in levels):
        raise InputError(f"the levels of {degradation} are numbers from {kind.low:g} to {kind.high:g}, got {levels}")


@dataclass(frozen=True, kw_only=True)
class LevelCropSettings:
    """See `LevelCrops`; ``shares`` belong to the reductions 1, 2, 3 and so on."""

    degradation: str = "gaussian"
    levels: tuple[float, ...] = (15 / 255, 35 / 255, 55 / 255, 75 / 255)
    luma: bool = False
    shares: tuple[float, ...] = (1.0,)
    texture: float = 1.0

    def __post_init__(self) -> None:
        """See `check_levels`."""
        check_levels(self.degradation, self.levels)

    @property
    def label(self) -> str:
        """The degradation and its levels as protocols write them."""
        unit = 255 if DEGRADATIONS[self.degradation].task == DENOISE else 1
        return f"{self.degradation}:{'/'.join(f'{unit * level:g}' for level in self.levels)}"

    @property
    def reductions(self) -> tuple[int, ...]:
        """The reductions of the corpus that it names."""
        return tuple(range(1, len(self.shares) + 1))

    def build(self, corpus: Corpus) -> LevelCrops:
        """The batches of these settings."""
        shares = {reduction: share for reduction, share in enumerate(self.shares, 1) if share > 0}
        return LevelCrops(
            corpus=corpus,
            degradation=self.degradation,
            levels=self.levels,
            luma=self.luma,
            shares=shares,
            texture=self.texture,
        )
