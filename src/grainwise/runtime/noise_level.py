"""Blind noise level: how strong the noise of a picture is, told from the picture alone, in less than 0.1 seconds.

White noise puts the same variance into every coefficient of an orthonormal transform; a picture puts little of itself
into the highest frequencies of its smoothest patches, and less still into its colour differences. So: cut 8x8 patches,
transform them (DCT over rows, columns and channels), keep the tenth of the patches with the least energy at *low*
frequencies, and average the variance of their *high* frequencies over the half of the coefficients where it is least.
The coefficients that choose the patches are never the ones that are measured, and the ones that rank the coefficients
come from other patches than the ones that are averaged; in white noise both choices are blind, so neither biases the
figure. Clipping at black and white takes variance away; patches with few clipped pixels are preferred, and the loss in
those that are used is undone with the moments of a clipped Gaussian.

Sources: N. Ponomarenko, V. Lukin, M. Zriakhov, A. Kaarna, J. Astola, "An automatic approach to lossy compression of
AVIRIS images", IGARSS 2007 (low frequencies choose, high frequencies measure); G. Chen, F. Zhu, P. A. Heng, "An
efficient statistical method for image noise level estimation", ICCV 2015 (the smallest variances of colour patches
are the noise); A. Foi, "Clipped noisy images: heteroskedastic modeling and practical denoising", Signal Processing
2009 (clipping).

What it cannot see: noise that was smoothed after it was made, by a camera's demosaicking, its own denoising or JPEG.
Such noise has little left at high frequencies, and the figure comes out far too low. That is read by a small regression on
many statistics instead (`grainwise.runtime.noise_reading`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import dct_matrix
from grainwise.runtime.noise_reading import read_level
from grainwise.runtime.noise_sample import PATCH, NoiseSample, sample_of

Array: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

MAP_HALO: Final = 7
"""Pixels around a tile that ``NoiseEstimate.map`` reads: a tile cut with this halo gets the whole picture's values."""

_FIRST_HIGH: Final = 10  # a coefficient (u, v) is "high" from u + v = 10 on: 15 of 64
_WEAK: Final = 0.1  # the share of patches that is measured
_FEWEST: Final = 300  # never measure fewer patches than this, where there are as many
_BIN_WIDTH: Final = 1 / 16
_BIN_FEWEST: Final = 250  # patches that a brightness bin must hold
_BIN_WEAK: Final = 0.2
_BIN_MEASURED: Final = 60
_FROZEN: Final = 0.4  # share of equal neighbours from which a patch is flat, or saturated, rather than noisy
_DRAWN: Final = 3.0  # low over high frequency energy above which patches hold edges rather than noise
_TONED_FROM: Final = 0.03  # grey noise weaker than this (sigma 4.4 / 255) may be texture
_FLAT_SPREAD: Final = 0.06  # rms of log(sigma of a bin) up to which the noise is called even,
_FLAT_SPREAD_GREY: Final = 5e-5  # and this / sigma^2 more for texture: in grey pictures,
_FLAT_SPREAD_COLOUR: Final = 5e-6  # in colour pictures
_CURVE_FROM: Final = 2 / 255  # below it the bins show the picture, not the noise
_FEW_TONES: Final = 16
_TONES_LOOKED_AT: Final = 100_000
_TRUSTED: Final = 3.0  # smoothed noise shows how it depends on brightness up to this ratio of what it asks for


LEAST_LEVEL: Final = 0.5
"""An estimate under this many steps of 255 is reported as no noise."""


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """The noise of one picture.

    Attributes:
        sigma: standard deviation, in image units ([0, 1] from black to white), one figure for the picture. Where the
            noise depends on brightness it is the root mean square over the picture.
        brightness: knots of the noise curve, increasing, in image units (mean of the channels). Empty where the noise
            does not depend on brightness.
        sigmas: standard deviation at each knot, image units. As long as ``brightness``.
        smoothed: whether the noise was smoothed after it was made, by a camera, JPEG or resizing. Then the levels are those
            of the white noise that a denoiser should be told instead, above the standard deviation.
    """

    sigma: float
    brightness: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()
    smoothed: bool = False

    def __post_init__(self) -> None:
        """Check the curve.

        Raises:
            InputError: sigma is negative or not finite, or the knots are not increasing, or not as many as the sigmas.
        """
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"sigma must be finite and not negative, but {self.sigma} was given. Give e.g. 25 / 255.")
        if len(self.brightness) != len(self.sigmas):
            raise InputError(
                f"a noise curve needs one sigma per knot, but {len(self.brightness)} knots and {len(self.sigmas)} "
                "sigmas were given. Give as many of one as of the other."
            )
        if any(b <= a for a, b in zip(self.brightness, self.brightness[1:], strict=False)):
            raise InputError(f"the knots of a noise curve must increase, but {self.brightness} was given. Sort them.")

    @property
    def found(self) -> bool:
        """Whether there is noise that can be told from the picture: at least half a step of 8 bits."""
        return 255 * self.sigma >= LEAST_LEVEL

    @property
    def depends_on_brightness(self) -> bool:
        """Whether the noise is stronger at some brightnesses than at others (shot noise) rather than even."""
        return len(self.brightness) > 1

    def map(self, image: Tensor) -> Tensor:
        """Give the noise level at every pixel.

        The brightness that the curve is read at is the mean of the channels over a box of ``2 * MAP_HALO + 1`` pixels
        a side (what of it lies inside the picture), so that the noise does not drive its own estimate.

        Args:
            image: float BCHW, in [0, 1]; any number of channels.

        Returns:
            float B1HW, same dtype and device: standard deviation in image units. Constant where the noise is even.

        Raises:
            InputError: ``image`` is not a floating-point BCHW tensor.
        """
        if image.ndim != 4 or not image.is_floating_point():
            raise InputError(
                f"a noise map needs a float tensor BCHW, but {image.dtype} of shape {tuple(image.shape)} was given. "
                "Convert the picture to float in [0, 1], with a batch dimension."
            )
        batch, _, height, width = image.shape
        if not self.depends_on_brightness:
            return image.new_full((batch, 1, height, width), self.sigma)
        mean = image.float().mean(1, keepdim=True)
        side = 2 * MAP_HALO + 1
        # two thin boxes, each dividing by how many pixels it saw, give the mean of the square box inside the picture
        rows = F.avg_pool2d(mean, (side, 1), stride=1, padding=(MAP_HALO, 0), count_include_pad=False)
        smooth = F.avg_pool2d(rows, (1, side), stride=1, padding=(0, MAP_HALO), count_include_pad=False)
        knots = torch.tensor(self.brightness, device=image.device)
        values = torch.tensor(self.sigmas, device=image.device)
        right = torch.bucketize(smooth, knots).clamp_(1, len(self.brightness) - 1)
        left = right - 1
        share = ((smooth - knots[left]) / (knots[right] - knots[left])).clamp_(0, 1)
        return torch.lerp(values[left], values[right], share).to(image.dtype)


def estimate_noise(image: NDArray[np.generic]) -> NoiseEstimate:
    """Estimate the noise of a picture, blind.

    White noise is measured, even or depending on brightness; of noise that a camera, JPEG or resizing smoothed, the level
    that a denoiser should be told is read (see `NoiseEstimate.smoothed`). Pictures above 1.6 megapixels are sampled: 400
    crops, evenly spread, so that time and memory do not grow with the picture. The same picture always gives the same
    answer. Areas that are clipped, or exactly flat like a frame, are left out; a picture that is exactly flat but for edges (a
    drawing, a page of text) has no noise. Pictures smaller than 8 pixels a side get a rough figure from 2x2
    differences, and pictures one pixel wide or high get 0.

    Args:
        image: HWC with 1 or 3 channels; uint8, uint16, or float with black at 0 and white at 1 (noise may overshoot).

    Returns:
        The estimate, in image units. About 1 % off for colour pictures with noise from 5/255 on.

    Raises:
        InputError: not an array of that rank, channel count and type; or empty, not finite, or not in [0, 1].
    """
    _check(image)
    return estimate_from(sample_of(image))


def estimate_from(sample: NoiseSample) -> NoiseEstimate:
    """Estimate the noise of a picture from the sample of it; the same figure as `estimate_noise` gives for the picture.

    Raises:
        InputError: float values that are not finite or not in [0, 1].
    """
    white = measure_white(sample)
    if white is None:
        return NoiseEstimate(0.0)
    level = read_level(sample, white.sigma)
    if level == white.sigma:
        return white
    factor = level / max(white.sigma, 1e-6)
    if not white.depends_on_brightness or factor > _TRUSTED:
        return NoiseEstimate(level, smoothed=True)
    return NoiseEstimate(level, white.brightness, tuple(factor * sigma for sigma in white.sigmas), smoothed=True)


def measure_white(sample: NoiseSample) -> NoiseEstimate | None:
    """Measure the noise of a picture as if it were white; None where there is none to measure, as in a drawing.

    Raises:
        InputError: see `estimate_from`.
    """
    crops = sample.crops
    height, width, channels = crops[0].shape
    if channels == 3 and all(bool((crop == crop[:, :, :1]).all()) for crop in crops):
        crops, channels = tuple(crop[:, :, :1] for crop in crops), 1
    if min(height, width) < PATCH:
        return NoiseEstimate(_of_tiny(_to_unit(crops[0])))
    if _few_tones(crops):
        return None
    patches = _Patches.of(np.concatenate([_cut(crop, sample.stride) for crop in crops]), channels)
    alive = patches.frozen < _FROZEN
    if not alive.any():
        return None
    index = np.flatnonzero(alive & (patches.clipped <= max(0.05, float(np.quantile(patches.clipped[alive], 0.2)))))
    still = int((~alive & (patches.clipped < 1)).sum())
    if still > alive.sum() and patches.texture(index) > _DRAWN:
        return None  # flat areas, and edges between them
    toned = patches.share_noise(index)
    sigma = patches.sigma(index, _WEAK, _FEWEST, toned)
    if sigma < _CURVE_FROM:
        return NoiseEstimate(sigma)
    return _with_curve(patches, alive & (patches.clipped <= 0.3), sigma, toned)


def _few_tones(crops: Sequence[NDArray[np.generic]]) -> bool:
    """Whether a picture has a few tones that lie apart: text, line art, a dither. The tones of noise lie side by side."""
    every = max(1, sum(crop.size for crop in crops) // _TONES_LOOKED_AT)
    tones = np.unique(_to_unit(np.concatenate([crop.ravel()[::every] for crop in crops])))
    return 1 < len(tones) <= _FEW_TONES and 255 * float(tones[-1] - tones[0]) > 4 * len(tones)


def _check(image: NDArray[np.generic]) -> None:
    """Refuse what is no picture array HWC."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"noise is estimated on a NumPy array HWC, but {type(image).__name__} was given. Convert it.")
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise InputError(
            f"noise is estimated on an array HWC with 1 or 3 channels, but the shape {image.shape} was given. "
            "Add the channel axis last; leave alpha out."
        )
    if image.size == 0:
        raise InputError(f"the picture is empty: its shape is {image.shape}. Give at least one pixel.")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"noise is estimated on uint8, uint16 or float, but {image.dtype} was given. Convert it.")


def _cut(crop: NDArray[np.generic], stride: int) -> Array:
    """Cut patches, (n, C * 64) in image units, channel by channel."""
    values = _to_unit(crop)
    windows = np.lib.stride_tricks.sliding_window_view(values, (PATCH, PATCH), axis=(0, 1))
    return np.ascontiguousarray(windows[::stride, ::stride]).reshape(-1, values.shape[2] * PATCH**2)


def _to_unit(values: NDArray[np.generic]) -> Array:
    """Convert uint8, uint16 or float to float32 in image units; refuse values that are no picture's."""
    if np.issubdtype(values.dtype, np.integer):
        whole: Array = values.astype(np.float32)
        whole /= np.iinfo(values.dtype.name).max
        return whole
    unit: Array = values.astype(np.float32)
    least, most = float(unit.min()), float(unit.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise InputError("the picture holds values that are not finite (NaN or infinity). Replace them first.")
    if least < -8 or most > 8:
        raise InputError(
            f"a float picture runs from 0 (black) to 1 (white), but values from {least:.3g} to {most:.3g} were given. "
            "Divide it by its white level."
        )
    return unit


def _of_tiny(values: Array) -> float:
    """Estimate sigma of a picture too small for a patch: median of 2x2 diagonal differences (Donoho 1995)."""
    if min(values.shape[:2]) < 2:
        return 0.0
    diagonal = (values[1:, 1:] - values[1:, :-1] - values[:-1, 1:] + values[:-1, :-1]) / 2
    return float(np.median(np.abs(diagonal))) / 0.6745


def _high_basis(channels: int) -> Array:
    """Give the high-frequency basis vectors as columns, (C * 64, C * 15): grey ones first, then colour differences."""
    u, v = np.mgrid[:PATCH, :PATCH]
    high = (u + v >= _FIRST_HIGH).ravel()
    plane = np.kron(dct_matrix(), dct_matrix())[high]
    return np.ascontiguousarray(np.kron(dct_matrix(channels), plane).T, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Patches:
    """What is known of each of n patches."""

    means: Array  # (n, C), image units
    high: Array  # (n, C, 15): squared high-frequency coefficients
    low: Array  # (n,): energy at low frequencies, the mean left out
    clipped: Array  # (n,): share of values at black or white; 0 where the picture overshoots them
    frozen: Array  # (n,): share of neighbours in a row that are exactly equal

    @classmethod
    def of(cls, cut: Array, channels: int) -> "_Patches":
        """Measure patches (n, C * 64); ``cut`` is overwritten."""
        count = len(cut)
        cut = cut.reshape(count, channels, PATCH**2)
        clipped = np.zeros(count, np.float32)
        if cut.min() >= 0 and cut.max() <= 1:
            clipped = ((cut <= 0) | (cut >= 1)).mean((1, 2), dtype=np.float32)
        rows = cut.reshape(count, channels, PATCH, PATCH)
        same = rows[:, 0, :, 1:] == rows[:, 0, :, :-1]
        for channel in range(1, channels):
            same &= rows[:, channel, :, 1:] == rows[:, channel, :, :-1]
        means = cut.mean(2)
        cut -= means[:, :, None]
        flat = cut.reshape(count, -1)
        high = np.square(flat @ _high_basis(channels))
        low = np.einsum("ij,ij->i", flat, flat) - high.sum(1)
        return cls(means, high.reshape(count, channels, -1), low, clipped, same.mean((1, 2), dtype=np.float32))

    def weakest(self, index: NDArray[np.intp], share: float, fewest: int) -> NDArray[np.intp]:
        """Choose the ``share`` of the patches ``index`` with the least low-frequency energy, in their order."""
        count = min(len(index), max(int(share * len(index)), fewest))
        return np.sort(index[np.argpartition(self.low[index], count - 1)[:count]])

    def texture(self, index: NDArray[np.intp]) -> float:
        """Give low over high frequency energy, per place, in the weakest of ``index``: at most 1 in white noise."""
        weak = self.weakest(index, _WEAK, _FEWEST)
        places = int(self.high.shape[1]) * (PATCH**2 - 1 - int(self.high.shape[2]))
        low = float(np.median(self.low[weak])) / places
        return low / max(float(self.high[weak].mean()), 1e-12)

    def share_noise(self, index: NDArray[np.intp]) -> bool:
        """Whether the channels share their noise (a toned grey picture), so that colour differences do not show it."""
        high = self.high[self.weakest(index, _WEAK, _FEWEST)]
        if high.shape[1] == 1 or self.texture(index) >= _DRAWN:
            return False
        return math.sqrt(_least_half(high[:, :1])) > max(4 * math.sqrt(_least_half(high)), _TONED_FROM)

    def sigma(self, index: NDArray[np.intp], share: float, fewest: int, toned: bool) -> float:
        """Estimate sigma from the weakest of the patches ``index``; ``toned``: noise that the channels share."""
        weak = self.weakest(index, share, fewest)
        high = self.high[weak]
        variance = (_least_half(high[:, :1]) + 2 * _least_half(high[:, 1:])) / 3 if toned else _least_half(high)
        return _unclip(variance, self.means[weak]) if self.clipped[weak].any() else math.sqrt(variance)


def _least_half(high: Array) -> float:
    """Average squared coefficients (n, C, K) over the half of the C * K places where they are least.

    One half of the patches ranks the places, the other is averaged, and the other way round: no bias in white noise.
    """
    table = high.reshape(len(high), -1).astype(np.float64)
    if len(table) < 4:
        return float(table.mean())
    middle, places = len(table) // 2, (table.shape[1] + 1) // 2
    halves = (table[:middle].mean(0), table[middle:].mean(0))
    total = sum(float(b[np.argsort(a, kind="stable")[:places]].mean()) for a, b in (halves, halves[::-1]))
    return total / 2


def _unclip(variance: float, means: Array) -> float:
    """Find the sigma of Gaussian noise whose variance, clipped to [0, 1] around the clipped ``means``, is ``variance``.

    The moments of a clipped Gaussian are those of Foi (2009), section 3.
    """
    clean = np.linspace(0, 1, 65)
    sigma = start = math.sqrt(variance)
    for _ in range(12 if start > 0 else 0):
        mean, spread = _clipped_moments(clean, sigma)
        kept = float(np.interp(means.ravel(), mean, spread / sigma**2).mean())
        sigma = min(start / math.sqrt(max(kept, 0.05)), 1.0)
    return sigma


def _clipped_moments(clean: NDArray[np.float64], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give mean and variance of ``clean`` plus Gaussian noise of ``sigma``, clipped to [0, 1]."""
    low, high = -clean / sigma, (1 - clean) / sigma
    below, above = (np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in bound]) for bound in (low, -high))
    at_low, at_high = (np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (low, high))
    inside = 1 - below - above
    first = clean * inside + sigma * (at_low - at_high)
    second = (clean**2 + sigma**2) * inside + sigma * (clean * at_low - (clean + 1) * at_high)
    mean = first + above
    return mean, second + above - mean**2


def _with_curve(patches: _Patches, chosen: Mask, sigma: float, toned: bool) -> NoiseEstimate:
    """Estimate sigma per brightness, and keep the curve where it is further from even than texture explains."""
    brightness = patches.means.mean(1)
    grey = patches.means.shape[1] == 1  # then a bin of nothing but texture shows texture; colour differences do not
    bins = np.floor(np.clip(brightness, 0, 1) / _BIN_WIDTH).astype(int)
    knots, sigmas, weights = [], [], []
    for number in range(bins.max() + 1):
        index = np.flatnonzero(chosen & (bins == number))
        if len(index) >= _BIN_FEWEST and (not grey or patches.texture(index) < _DRAWN):
            knots.append(float(brightness[index].mean()))
            sigmas.append(patches.sigma(index, _BIN_WEAK, _BIN_MEASURED, toned))
            weights.append(len(index))
    if len(knots) < 2:
        return NoiseEstimate(sigma)
    curve, weight = np.array(sigmas), np.array(weights) / sum(weights)
    logs = np.log(np.maximum(curve, 1e-6))
    spread = math.sqrt(float(weight @ (logs - weight @ logs) ** 2))
    texture = _FLAT_SPREAD_GREY if grey else _FLAT_SPREAD_COLOUR
    if spread <= _FLAT_SPREAD + texture / sigma**2:
        return NoiseEstimate(sigma)
    return NoiseEstimate(math.sqrt(float(weight @ curve**2)), tuple(knots), tuple(curve.tolist()))
