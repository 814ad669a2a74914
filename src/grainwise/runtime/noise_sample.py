"""The parts of a picture that the noise estimate looks at: all of it where it is small, else a bounded number of crops.

Where they lie depends on the size of the picture alone, so that they can be gathered while its rows pass by once.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grainwise.core.errors import InputError
from grainwise.runtime.tiles import Box

PATCH: Final = 8
"""Side of the patches that are cut of the crops."""

_PATCHES: Final = 32768  # about as many are looked at, however large the picture is
_WIDEST_STRIDE: Final = 7  # not 8: patches must not lie on the block grid of a JPEG file
_CROP: Final = 64


@dataclass(frozen=True, slots=True)
class NoiseSample:
    """What the noise is estimated from.

    Attributes:
        crops: parts of the picture, HWC, all of one dtype.
        stride: pixels from one patch to the next, both ways.
    """

    crops: tuple[NDArray[np.generic], ...]
    stride: int


def sample_boxes(height: int, width: int) -> tuple[tuple[Box, ...], int]:
    """Where the crops of a picture of this size lie, row by row, and the stride of the patches."""
    stride = max(3, math.ceil(math.sqrt(height * width / _PATCHES)))
    if stride <= _WIDEST_STRIDE or min(height, width) < PATCH:
        return (Box(0, height, 0, width),), stride
    across = (_CROP - PATCH) // _WIDEST_STRIDE + 1
    count = _PATCHES // across**2
    high, wide = min(_CROP, height), min(_CROP, width)
    rows = min(max(1, round(math.sqrt(count * height / width))), count, math.ceil(height / high))
    columns = min(count // rows, math.ceil(width / wide))
    boxes = [
        Box(top, top + high, left, left + wide)
        for top in np.linspace(0, height - high, rows).astype(int).tolist()
        for left in np.linspace(0, width - wide, columns).astype(int).tolist()
    ]
    return tuple(boxes), _WIDEST_STRIDE


def sample_of(image: NDArray[np.generic]) -> NoiseSample:
    """The sample of a picture HWC; views, not copies."""
    boxes, stride = sample_boxes(*image.shape[:2])
    return NoiseSample(tuple(image[box.slices] for box in boxes), stride)


class SampleGatherer:
    """Gathers the sample of a picture whose rows come from top to bottom.

    Args:
        height, width, channels: of the picture.
        dtype: of its pixels.
    """

    def __init__(self, height: int, width: int, channels: int, dtype: type[np.generic]) -> None:
        """Make room for the crops: at most about 1.7 megapixels, however large the picture is."""
        self._boxes, self._stride = sample_boxes(height, width)
        self._crops = [np.empty((box.height, box.width, channels), dtype) for box in self._boxes]
        self._next = 0
        self._height = height

    def add(self, rows: NDArray[np.generic]) -> None:
        """Take the next rows [N, W, C]."""
        top, bottom = self._next, self._next + len(rows)
        self._next = bottom
        for box, crop in zip(self._boxes, self._crops, strict=True):
            first, last = max(top, box.top), min(bottom, box.bottom)
            if first < last:
                crop[first - box.top : last - box.top] = rows[first - top : last - top, box.left : box.right]

    def sample(self) -> NoiseSample:
        """The sample.

        Raises:
            InputError: rows are missing.
        """
        if self._next < self._height:
            raise InputError(f"the picture has {self._height} rows, only {self._next} were given")
        return NoiseSample(tuple(self._crops), self._stride)
