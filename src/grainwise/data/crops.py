"""Training batches: textured crops, turned and mirrored, with noise. A batch is a function of its seed and step alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.data.corpus import Corpus

BLOCK = 8
"""Texture is measured in blocks of this many pixels a side."""
LUMA = (0.299, 0.587, 0.114)
"""Brightness of RGB, BT.601."""
GRID = 16
"""Crops start at multiples of this many pixels; the texture of every such crop is measured once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Clean crops and what became of them.

    Attributes:
        clean: [B, 3 or 1, H, W], RGB or luma, in [0, 1].
        noisy: the same, degraded; noise may leave [0, 1].
        sigma: [B], the noise level in image units; 0 where the degradation is no noise.
        degradation: its level in the units of its task (noise level, JPEG quality, scale), where the batch says it: [B], or
            [] for all.
    """

    clean: Tensor
    noisy: Tensor
    sigma: Tensor
    degradation: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on ``device``."""
        tensors = (self.clean, self.noisy, self.sigma, self.degradation)
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in tensors))  # type: ignore[arg-type]


class Batches(Protocol):
    """Makes training batches."""

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """``count`` crops of ``size`` pixels a side; the same arguments give the same batch."""

    def check(self, size: int) -> None:
        """Refuse a size of which no crops can be made, before anything is computed.

        Raises:
            InputError: the pictures are too small, or the size is of the wrong kind.
        """


@dataclass(frozen=True, kw_only=True)
class CropSource:
    """Draws clean crops.

    Args:
        corpus: the pictures.
        shares: how many of the crops come from each reduction of the corpus; reductions that are not named are not used.
        texture: a crop's chance grows with its texture (`_texture`) to this power; 0 draws all crops alike.
    """

    corpus: Corpus
    shares: Mapping[int, float] = field(default_factory=lambda: {1: 0.45, 2: 0.35, 3: 0.2})
    texture: float = 1.0
    _samplers: dict[int, "CropSampler"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.texture < 0:
            raise InputError(f"texture must be >= 0, got {self.texture}")
        held = {entry.reduction for entry in self.corpus.entries}
        if not set(self.shares) <= held or min(self.shares.values(), default=0) <= 0:
            raise InputError(f"shares are positive, for reductions among {sorted(held)}, got {dict(self.shares)}")

    def check(self, size: int) -> None:
        """See `Batches.check`."""
        for reduction in self.shares:
            sides = [min(e.height, e.width) for e in self.corpus.entries if e.reduction == reduction]
            if max(sides) < size:
                which = "" if reduction == 1 else f", reduced {reduction} times"
                raise InputError(
                    f"crops of {size} pixels a side do not fit into any picture{which}: the largest has {max(sides)}; give "
                    "larger pictures, or smaller crops"
                )

    def draw(self, size: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """``count`` crops [count, size, size, channels of the corpus] uint8, each in one of the 8 orientations."""
        self.check(size)
        if size not in self._samplers:
            self._samplers[size] = CropSampler(self.corpus, size, shares=self.shares, texture=self.texture)
        return np.stack([self._samplers[size].draw(generator) for _ in range(count)])


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """See `CropSource`; ``shares`` belong to the reductions 1, 2, 3 and so on."""

    paired: ClassVar[bool] = False
    """Whether the corpus must hold pairs."""

    shares: tuple[float, ...] = (0.45, 0.35, 0.2)
    texture: float = 1.0

    @property
    def reductions(self) -> tuple[int, ...]:
        """The reductions of the corpus that it names."""
        return tuple(range(1, len(self.shares) + 1))

    @property
    def share_of_reduction(self) -> dict[int, float]:
        """The shares that are not 0, by reduction."""
        return {reduction: share for reduction, share in enumerate(self.shares, 1) if share > 0}


@dataclass(frozen=True, kw_only=True)
class NoisyCrops(CropSource):
    """Makes batches of crops with white Gaussian noise.

    Args:
        sigma: the least and the greatest noise level, in image units; drawn uniformly for each crop.
        grey: the share of crops that are made grey before the noise, which is then the same in all three channels.
        sharpen: each crop is sharpened by a random amount up to this one (see `sharpened`), as cameras and scanners do.
        half_chroma: the share of crops whose colour keeps half the resolution of their brightness, as in most JPEGs and in
            scans of film. Without them a network leaves colour noise in such pictures: it takes it for detail.
    """

    sigma: tuple[float, float] = (0.0, 75 / 255)
    grey: float = 0.0
    sharpen: float = 0.0
    half_chroma: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that make no sense."""
        super().__post_init__()
        low, high = self.sigma
        if not 0 <= low <= high <= 1:
            raise InputError(f"the noise levels run from low to high within [0, 1], got {self.sigma}")
        for name in ("grey", "half_chroma"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.sharpen < 0:
            raise InputError(f"sharpen must be >= 0, got {self.sharpen}")

    def check(self, size: int) -> None:
        """See `Batches.check`."""
        super().check(size)
        if self.half_chroma > 0 and size % 2:
            raise InputError(f"colour at half resolution needs crops with even sides, got {size}")

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `Batches.batch`."""
        generator = np.random.default_rng(seed)
        clean = torch.from_numpy(self.draw(size, count, generator)).permute(0, 3, 1, 2).float().div_(255)
        if self.grey > 0:
            chosen = torch.from_numpy(generator.random(count) < self.grey)
            clean[chosen] = clean[chosen].mean(1, keepdim=True)
        if self.sharpen > 0:
            clean = sharpened(clean, torch.from_numpy(generator.uniform(0, self.sharpen, count).astype(np.float32)))
        if self.half_chroma > 0:
            halved = torch.from_numpy(generator.random(count) < self.half_chroma)
            clean[halved] = halve_chroma(clean[halved])
        sigma = torch.from_numpy(generator.uniform(*self.sigma, count).astype(np.float32))
        noise = torch.from_numpy(generator.standard_normal(clean.shape, np.float32))
        if self.grey > 0:
            noise[chosen] = noise[chosen, :1]
        return Batch(clean, clean + sigma.view(-1, 1, 1, 1) * noise, sigma)


@dataclass(frozen=True, kw_only=True)
class NoisyCropSettings(CropSettings):
    """See `NoisyCrops`."""

    sigma: tuple[float, float] = (0.0, 75 / 255)
    grey: float = 0.05
    sharpen: float = 0.0
    half_chroma: float = 0.0

    @property
    def label(self) -> str:
        """The noise as protocols write it."""
        low, high = (f"{255 * sigma:g}" for sigma in self.sigma)
        return f"gaussian:{low}" if low == high else f"gaussian:{low}-{high}"

    def build(self, corpus: Corpus) -> NoisyCrops:
        """The batches of these settings."""
        shares = self.share_of_reduction
        return NoisyCrops(
            corpus=corpus,
            sigma=self.sigma,
            shares=shares,
            texture=self.texture,
            grey=self.grey,
            sharpen=self.sharpen,
            half_chroma=self.half_chroma,
        )


def stacked(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures [H, W, C] of one size as [B, C, H, W], of their own type."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def sharpened(pictures: Tensor, amount: Tensor) -> Tensor:
    """x + amount * (x - blur(x)), cut off at 0 and 1; the blur is the binomial 3x3.

    [B, C, H, W] in [0, 1] and [B] -> [B, C, H, W].
    """
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    blurred = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    return (pictures + amount.view(-1, 1, 1, 1) * (pictures - blurred)).clamp(0, 1)


def halve_chroma(pictures: Tensor) -> Tensor:
    """Colour at half the resolution, brightness as it is: 4:2:0 of BT.601, 2x2 means and linear interpolation.

    [B, 3, H, W] with even sides, RGB in [0, 1] -> the same.
    """
    luma = (pictures * pictures.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    chroma = F.avg_pool2d(pictures - luma, 2)
    return (luma + F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)).clamp(0, 1)


class CropSampler:
    """Draws [size, size, channels] uint8 crops of a corpus, textured ones more often, in one of the 8 orientations."""

    def __init__(self, corpus: Corpus, size: int, *, shares: Mapping[int, float], texture: float) -> None:
        """Measure the texture of every crop on the grid once; of pairs that of the clean picture."""
        self.corpus, self.size = corpus, size
        pictures = (corpus.picture(index)[:, :, -3:] for index in range(len(corpus)))
        scores = [_texture(picture, size) ** texture if texture else _alike(picture, size) for picture in pictures]
        self.columns = [score.shape[1] for score in scores]
        self.first = np.concatenate([[0], np.cumsum([score.size for score in scores])])
        totals = dict.fromkeys(shares, 0.0)
        for entry, score in zip(corpus.entries, scores, strict=True):
            if entry.reduction in totals:
                totals[entry.reduction] += float(score.sum())
        weights = [
            score.ravel() * (shares.get(entry.reduction, 0.0) / totals.get(entry.reduction, 1.0))
            for entry, score in zip(corpus.entries, scores, strict=True)
        ]
        self.cumulative = np.cumsum(np.concatenate(weights))

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """One crop."""
        cell = int(np.searchsorted(self.cumulative, generator.random() * self.cumulative[-1], "right"))
        cell = min(cell, len(self.cumulative) - 1)
        index = int(np.searchsorted(self.first, cell, "right")) - 1
        row, column = divmod(cell - int(self.first[index]), self.columns[index])
        picture = self.corpus.picture(index)
        shift = generator.integers(0, GRID, 2)
        top = min(row * GRID + int(shift[0]), picture.shape[0] - self.size)
        left = min(column * GRID + int(shift[1]), picture.shape[1] - self.size)
        crop = picture[top : top + self.size, left : left + self.size]
        return turned(crop, int(generator.integers(8)))


def turned(crop: np.ndarray, orientation: int) -> np.ndarray:
    """One of the 8 orientations of [H, W, C]: quarter turns 0 to 3, then the same mirrored."""
    crop = np.rot90(crop, orientation % 4)
    return np.fliplr(crop) if orientation >= 4 else crop


def _alike(picture: np.ndarray, size: int) -> np.ndarray:
    """1 for each crop on the grid, [rows, columns]."""
    rows, columns = (max(0, side - size + GRID) // GRID for side in picture.shape[:2])
    return np.ones((rows, columns))


def _texture(picture: np.ndarray, size: int) -> np.ndarray:
    """How textured each crop on the grid is, in (0, 1]; [rows, columns].

    The geometric mean over blocks of `BLOCK` pixels of their mean absolute gradients, each at least half a step of 8 bits: a
    crop with texture everywhere counts more than one with a single strong edge.
    """
    height, width = picture.shape[:2]
    if min(height, width) < size:
        return np.zeros((0, 0))
    luma = picture.astype(np.float32).mean(2)
    gradient = np.zeros_like(luma)
    gradient[:, 1:] += np.abs(np.diff(luma, axis=1))
    gradient[1:] += np.abs(np.diff(luma, axis=0))
    down, right, side = height // BLOCK, width // BLOCK, max(1, size // BLOCK)
    blocks = gradient[: down * BLOCK, : right * BLOCK].reshape(down, BLOCK, right, BLOCK).mean((1, 3), dtype=np.float64)
    total = np.zeros((down + 1, right + 1))
    total[1:, 1:] = np.log(blocks / 2 + 0.5).cumsum(0).cumsum(1)
    rows = np.arange(0, height - size + 1, GRID)[:, None] // BLOCK
    columns = np.arange(0, width - size + 1, GRID)[None] // BLOCK
    inside = total[rows + side, columns + side] - total[rows, columns + side] - total[rows + side, columns]
    texture: np.ndarray = np.exp((inside + total[rows, columns]) / side**2) / 255
    return texture
