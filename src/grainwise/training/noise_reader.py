"""Fitting a `NoiseReader`: what a denoiser makes of degraded crops, told one level after the other, is what it learns from.

The regret of a level is how many dB the restored crop lies behind the one at the best level. It is known at a grid of levels,
and between them on straight lines over the logarithm, so that the mean regret can be lessened directly: no formula says what
the "true" level of smoothed noise is. A clean crop counts as one at 54 dB, where 8 bits hardly tell a difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.core.resampling import matlab_resize
from grainwise.data.camera import Camera, FloatPicture, photograph
from grainwise.data.corpus import Corpus
from grainwise.data.jpeg_model import jpeg_model
from grainwise.networks.noise_reader import LEAST, Array, NoiseReader

KINDS: Final = {
    "clean": 0.15,
    "clean, JPEG": 0.08,
    "clean, resized": 0.1,
    "white": 0.14,
    "white, JPEG": 0.08,
    "camera": 0.29,
    "camera, resized": 0.16,
}
"""Kind of crop -> its share; half of the resized ones are JPEGs besides."""
GREY: Final = 0.12
"""Share of crops without colour."""
LEVELS: Final = (0.0, 0.5, 1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 16.0, 24.0, 36.0, 55.0)
"""Levels that the denoiser is told, steps of 255."""
CAMERA: Final = Camera(luma_smoothing=(0.45, 1.2), chroma_smoothing=(0.7, 2.4), developed=0.6, quality=(60, 98))
"""Wider than the default, and developed more often: the reader must know cameras that nobody has measured."""
_SIDES: Final = (128, 192, 256, 384)
_SCORED: Final = 160
_FLOOR: Final = (0.5 / 255) ** 2

See = Callable[[np.ndarray], Array]
"""A picture [H, W, 1 or 3] uint8 -> what the reader sees of it."""
Restore = Callable[[Tensor, Tensor], Tensor]
"""A noisy picture [B, 3, H, W] and its levels [B], image units -> the restored picture."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Degraded crops.

    Attributes:
        kinds: the kind of each.
        seen: features, [n, FEATURES].
        regrets: dB behind the best level, at each of `LEVELS`, [n, levels].
        held_out: which crops are of pictures that the reader is not fitted to, [n]; the denoiser may have learned from them.
    """

    kinds: tuple[str, ...]
    seen: Array
    regrets: Array
    held_out: np.ndarray


def degraded(
    corpus: Corpus, generator: np.random.Generator, camera: Camera = CAMERA
) -> tuple[str, FloatPicture, FloatPicture]:
    """One crop: its kind, the clean crop and the degraded one, [H, W, 3] in [0, 1], the latter rounded to 8 bits.

    Raises:
        InputError: no picture of the corpus holds a crop.
    """
    fits = [i for i, entry in enumerate(corpus.entries) if min(entry.height, entry.width) >= _SIDES[0]]
    if not fits:
        raise InputError(f"no picture of the corpus has {_SIDES[0]} pixels a side")
    picture = corpus.picture(fits[generator.integers(len(fits))])
    side = int(generator.choice([s for s in _SIDES if s <= min(picture.shape[:2])]))
    top, left = (int(generator.integers(length - side + 1)) for length in picture.shape[:2])
    clean: FloatPicture = picture[top : top + side, left : left + side].astype(np.float32) / np.float32(255)
    kind = str(generator.choice(list(KINDS), p=list(KINDS.values())))
    grey = generator.random() < GREY
    if grey:
        clean = np.repeat(clean.mean(2, keepdims=True), 3, 2)
    noisy = clean
    if kind.startswith("camera"):
        clean, noisy = photograph(clean, camera.draw(generator), generator)
        if grey:
            clean, noisy = (np.repeat(part[:, :, 1:2], 3, 2) for part in (clean, noisy))
    elif kind.startswith("white"):
        noise = generator.standard_normal((*clean.shape[:2], 1 if grey else 3), np.float32)
        noisy = clean + np.float32(np.exp(generator.uniform(0, np.log(60))) / 255) * noise
    if kind.endswith("resized"):
        scale = float(np.exp(generator.uniform(np.log(0.5), np.log(2.5 if side <= _SIDES[1] else 1.0))))
        clean, noisy = (np.clip(matlab_resize(part, scale), 0, 1) for part in (clean, noisy))
    if kind.endswith("JPEG") or (kind.endswith("resized") and generator.random() < 0.5):
        grid = (int(generator.integers(16)), int(generator.integers(16)))
        quality = int(generator.integers(60, 99))
        planes = np.ascontiguousarray(np.clip(noisy, 0, 1).transpose(2, 0, 1))
        noisy = jpeg_model(planes, quality, shift=grid).transpose(1, 2, 0)
    return kind, clean, np.rint(np.clip(noisy, 0, 1) * np.float32(255)) / np.float32(255)


def read(
    corpus: Corpus,
    restore: Restore,
    see: See,
    *,
    crops: int,
    seed: int = 0,
    every: int = 10,
    progress: Callable[[int, int], object] | None = None,
) -> Readings:
    """Degrade crops, and measure what every level makes of them.

    Args:
        corpus: of the clean pictures.
        restore: the denoiser.
        see: features of a picture.
        crops: how many; every eighth is of a held-out picture.
        seed: of all that is random; crop i depends on it and on i alone.
        every: every so many pictures are held out.
        progress: called with the crops done, and all.

    Raises:
        InputError: see `degraded`.
    """
    parts = corpus.split(every)
    kinds, seen, regrets = [], [], []
    for index in range(crops):
        generator = np.random.default_rng((seed, index))
        kind, clean, noisy = degraded(parts[index % 8 == 0], generator)
        kinds.append(kind)
        seen.append(see(np.rint(noisy * 255).astype(np.uint8)))
        side = min(_SCORED, *noisy.shape[:2]) // 4 * 4
        top, left = (int(generator.integers(length - side + 1)) for length in noisy.shape[:2])
        window = np.s_[top : top + side, left : left + side]
        regrets.append(_regrets(restore, clean[window], noisy[window]))
        if progress is not None:
            progress(index + 1, crops)
    return Readings(tuple(kinds), np.stack(seen), np.stack(regrets), np.arange(crops) % 8 == 0)


def _regrets(restore: Restore, clean: FloatPicture, noisy: FloatPicture) -> Array:
    x, y = (torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)))[None] for part in (noisy, clean))
    levels = torch.tensor(LEVELS[1:]) / 255
    with torch.inference_mode():
        restored = restore(x.expand(len(levels), -1, -1, -1), levels).float()
    restored = torch.cat([x, (restored.clamp(0, 1) * 255).round() / 255])
    decibels = 10 * torch.log10((restored - y).square().mean((1, 2, 3)) + _FLOOR)
    return (decibels - decibels.min()).numpy()


def regret(log_level: Tensor, regrets: Tensor) -> Tensor:
    """dB behind the best level, of levels whose log2 in steps of 255 is ``log_level`` [n], for crops with ``regrets``."""
    knots = torch.tensor([max(level, LEAST) for level in LEVELS]).log2()
    place = log_level.clamp(knots[0], knots[-1])
    right = torch.bucketize(place, knots).clamp(1, len(knots) - 1)
    share = (place - knots[right - 1]) / (knots[right] - knots[right - 1])
    rows = torch.arange(len(place))
    return torch.lerp(regrets[rows, right - 1], regrets[rows, right], share)


def fit(readings: Readings, *, hidden: int = 48, members: int = 4, steps: int = 3000, seed: int = 0) -> NoiseReader:
    """A reader for the denoiser that ``readings`` were made with: the least mean regret, by AdamW.

    Args:
        readings: see `read`; the held-out ones are left alone.
        hidden, members: see `NoiseReader`; every member sees other crops first.
        steps: of each member, 256 crops each.
        seed: of weights and order.
    """
    kept = ~readings.held_out
    seen, regrets = torch.from_numpy(readings.seen[kept]), torch.from_numpy(readings.regrets[kept])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = NoiseReader(hidden, members)
        reader.mean.copy_(seen.mean(0))
        reader.spread.copy_(seen.std(0).clamp(min=1e-3))
        scaled = (seen - reader.mean) / reader.spread
        for member in reader.members:
            _fit_member(member, scaled, regrets, steps)
    return reader.eval().requires_grad_(False)


def _fit_member(member: nn.Module, scaled: Tensor, regrets: Tensor, steps: int) -> None:
    best = torch.tensor([max(level, LEAST) for level in LEVELS]).log2()[regrets.argmin(1)]
    optimizer = torch.optim.AdamW(member.parameters(), lr=4e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        drawn = torch.randint(len(scaled), (256,))
        log_level = member(scaled[drawn] + 0.05 * torch.randn(256, scaled.shape[1]))[:, 0]
        # the second term leads back levels that lie where the regret is level, or beyond the grid
        loss = regret(log_level, regrets[drawn]).mean() + 0.02 * (log_level - best[drawn]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def mean_regrets(readings: Readings, log_levels: Array) -> dict[str, tuple[int, float]]:
    """Kind -> how many held-out crops, and their mean regret in dB, at ``log_levels`` [n], log2 of steps of 255."""
    found = regret(torch.from_numpy(log_levels.astype(np.float32)), torch.from_numpy(readings.regrets)).numpy()
    kinds = np.array(readings.kinds)
    chosen: Sequence[tuple[str, np.ndarray]] = [(kind, readings.held_out & (kinds == kind)) for kind in KINDS]
    return {kind: (int(mine.sum()), float(found[mine].mean())) for kind, mine in chosen if mine.any()}
