"""By how much a picture was enlarged, told from its pixels alone.

Interpolated pixels are smoother the further they lie from the pixels that they are made of, so the second differences of an
enlarged picture rise and fall with a period of the scale (Gallagher, "Detection of linear and cubic interpolation in JPEG
compressed images", CRV 2005). Scales under 2 have the same period as one above; at exactly 2 all pixels lie alike, and there is
none. Both are told apart by what else enlarging leaves: nearly nothing above the frequency 1 / (2 scale).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc
from grainwise.runtime.pixels import Image, white_of

Floats = npt.NDArray[np.float64]

LEAST_SIDE = 48
"""Pixels along a side that an estimate needs."""
_MOST = 768
"""Large pictures are looked at in so many pixels of their middle."""
_FREQUENCIES = np.arange(1 / 6.5, 0.5001, 0.0004)
_PEAK = 40.0
"""How far the period's frequency stands out; those of pictures that were never enlarged reach 27."""
_EMPTY = 10 ** (-17 / 10)
"""Power above the limit of a scale against that below, up to which the picture is taken to be enlarged so much."""

_LEAST_SCALE = 1.45
"""Below, nothing is claimed."""
_BENT, _LEAST_BENT = 1.5, 0.004
"""Second differences from here on, in steps of 8 bits, are more than rounding a ramp leaves; and the least share of them in
each direction, without which a picture is too smooth to show what was done to it."""


@dataclass(frozen=True, slots=True)
class ScaleEstimate:
    """What a picture's pixels say of its enlargement.

    Attributes:
        scale: how many times as large along a side; 1 where nothing was found.
        found: whether the traces of an enlargement were found. A picture that is merely blurred may look like one of 2; one
            that is flat, or a mere ramp, shows none.
    """

    scale: float
    found: bool


def estimate_scale(image: Image) -> ScaleEstimate:
    """Tell by how much a picture was enlarged by bicubic interpolation, 1.5 to 6.

    Less is not told: the blocks of a JPEG look like an enlargement by 4/3.

    Args:
        image: NumPy HWC (C = 1 or 3), or HW; uint8, uint16, or floats in [0, 1]; at least 48 pixels a side.

    Raises:
        InputError: no such picture.
    """
    pixels = as_hwc(image)
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST_SIDE:
        raise InputError(f"the scale is told from at least {LEAST_SIDE} pixels a side, got {width}x{height}")
    top, left = max(0, height - _MOST) // 2, max(0, width - _MOST) // 2
    part = pixels[top : top + _MOST, left : left + _MOST].astype(np.float64)
    luma = part.mean(2) * (255 / white_of(pixels.dtype))
    if min(float((_bends(way) >= _BENT).mean()) for way in (luma, luma.T)) < _LEAST_BENT:
        return ScaleEstimate(1.0, False)
    power = [_power(way) for way in (luma, luma.T)]
    strength = _periods(luma) * _periods(luma.T)
    best = int(strength.argmax())
    frequency = float(_FREQUENCIES[best])
    if strength[best] > _PEAK * float(np.median(strength)):
        long = _emptiness(power, 1 / frequency) < _EMPTY
        scale = round(1 / frequency if long else 1 / (1 - frequency), 2)
        if scale >= _LEAST_SCALE:
            return ScaleEstimate(scale, True)
    return ScaleEstimate(2.0, True) if _emptiness(power, 2.0) < _EMPTY else ScaleEstimate(1.0, False)


def _bends(luma: Floats) -> Floats:
    """The second differences along the rows of ``luma`` [H, W], without their signs."""
    return np.abs(2 * luma[:, 1:-1] - luma[:, :-2] - luma[:, 2:])


def _periods(luma: Floats) -> Floats:
    """How strongly the second differences along the rows of ``luma`` [H, W] rise and fall at each of `_FREQUENCIES`."""
    size = _bends(luma).mean(0)
    level = np.log(size + 0.05)
    around = 31
    level -= np.convolve(np.pad(level, around // 2, "reflect"), np.full(around, 1 / around), "valid")
    waves = np.exp(-2j * np.pi * _FREQUENCIES[:, None] * np.arange(len(level)))
    out: Floats = np.abs(waves @ (level * np.hanning(len(level))))
    return out


def _power(luma: Floats) -> Floats:
    """The mean power spectrum along the rows, from 0 to 1/2."""
    out: Floats = (np.abs(np.fft.rfft((luma - luma.mean()) * np.hanning(luma.shape[1]), axis=1)) ** 2).mean(0)
    return out


def _emptiness(power: list[Floats], scale: float) -> float:
    """Power above the limit of ``scale`` against that just below."""
    high = low = 0.0
    for each in power:
        frequency = np.linspace(0, 0.5, len(each))
        high += float(each[(frequency > 0.7 / scale) & (frequency < min(0.5, 1 / scale))].mean())
        low += float(each[(frequency > 0.25 / scale) & (frequency < 0.5 / scale)].mean())
    return high / max(low, 1e-12)
