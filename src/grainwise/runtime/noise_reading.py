"""Reading the level that a picture's noise asks for, by the reader that ships; see `grainwise.networks.noise_reader`."""

import functools
import math
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grainwise.networks.checkpoint import load_noise_reader
from grainwise.networks.noise_reader import Array, NoiseReader, features
from grainwise.runtime.noise_sample import NoiseSample
from grainwise.runtime.pixels import white_of

SHIPPED: Final = "noise-reader"
LEAST_SIDE: Final = 48
"""Smaller pictures have too few patches to be read."""
_MOST_CROPS: Final = 100
_APART: Final = 1.3
"""Levels that differ by less are the same."""
_LEAST_READ: Final = 1 / 255
"""Smoothed noise that asks for less is none."""
_ROUNDING: Final = 1 / 255 / math.sqrt(12)
"""Standard deviation of what rounding to 8 bits adds."""


@functools.cache
def shipped_reader() -> NoiseReader:
    """The reader inside the package."""
    return load_noise_reader(Path(str(resources.files("grainwise") / "weights" / f"{SHIPPED}.safetensors")))[0]


def seen_in(sample: NoiseSample, white: float) -> Array:
    """What a reader sees of a picture whose noise, were it white, would be of level ``white``, image units.

    Readers learn from pictures of 8 bits, whose rounding is the least noise that there is; so deeper ones are rounded too.
    """
    crops = sample.crops[:: math.ceil(len(sample.crops) / _MOST_CROPS)]
    if crops[0].dtype != np.uint8:
        white = math.hypot(white, _ROUNDING)
    return features([_of_8_bits(crop) for crop in crops], sample.stride, white)


def _of_8_bits(crop: NDArray[np.generic]) -> Array:
    """[H, W, C] in image units, rounded to 255ths."""
    unit = crop.astype(np.float32) / np.float32(white_of(crop.dtype))
    if crop.dtype != np.uint8:
        unit = np.rint(unit.clip(0, 1) * np.float32(255)) / np.float32(255)
    return unit.astype(np.float32, copy=False)


def read_level(sample: NoiseSample, white: float, reader: NoiseReader | None = None) -> float:
    """The level that the noise of a picture asks for, image units; see `level_that_counts`.

    Args:
        sample: of the picture.
        white: the measurement, image units.
        reader: None takes the one that ships.
    """
    if min(sample.crops[0].shape[:2]) < LEAST_SIDE:
        return white
    return level_that_counts((reader or shipped_reader()).level(seen_in(sample, white)), white)


def level_that_counts(read: float, white: float) -> float:
    """The level that was read, or ``white``, the one that was measured; image units.

    White noise is measured better than it is read, and a measurement that is too low says that the noise was smoothed: so the
    reading counts where it is higher by more than can be an error.
    """
    return read if read > max(_APART * white, _LEAST_READ) else white
