"""A picture as its enlargement, read in rows: what a network for super-resolution sees."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.resampling import Enlargement
from grainwise.runtime.pixels import Image
from grainwise.runtime.strips import ReadRows, Rows, WriteRows

_AT_ONCE = 64
"""Rows of the picture that are enlarged at once, about."""


class ArrayRows:
    """A picture in memory as `Rows`.

    Args:
        pixels: [H, W, bands]; uint8, uint16 or floats in [0, 1].
        channels: 1 or 3; a band more is alpha.
    """

    def __init__(self, pixels: Image, channels: int) -> None:
        """Keep the picture."""
        self._pixels, self.channels = pixels, channels
        self.height, self.width, self.bands = pixels.shape
        self.dtype: Any = pixels.dtype.type
        self.row_bytes = self.width * self.bands * pixels.itemsize

    @contextmanager
    def open(self) -> Iterator[ReadRows]:
        """See `Rows.open`."""
        yield lambda top, bottom: self._pixels[top:bottom]


class EnlargedRows:
    """`Rows` enlarged by bicubic interpolation, clipped to [0, 1]: float32, all bands.

    Args:
        rows: the picture.
        scale: 1 or more.

    Raises:
        InputError: another scale.
    """

    dtype = np.float32

    def __init__(self, rows: Rows, scale: float) -> None:
        """Prepare the weights."""
        self._rows = rows
        self._form = Enlargement(rows.height, rows.width, scale)
        self.height, self.width = self._form.height, self._form.width
        self.channels, self.bands = rows.channels, rows.bands
        self.row_bytes = self.width * self.bands * 4

    @contextmanager
    def open(self) -> Iterator[ReadRows]:
        """See `Rows.open`."""
        white = white_of(self._rows.dtype)
        with self._rows.open() as read:
            held, first = np.zeros((0, self.width, self.bands), np.float32), 0

            def rows(top: int, bottom: int) -> Image:
                nonlocal held, first
                parts = []
                for start in range(top, bottom, _AT_ONCE):
                    end = min(bottom, start + _AT_ONCE)
                    low, high = self._form.needs(start, end)
                    held, first = held[max(0, low - first) :], max(low, first)
                    below = first + len(held)
                    if high > below:
                        new = self._form.across(read(below, high).astype(np.float32) / white)
                        held = np.concatenate([held, new])
                    parts.append(self._form.down(held, first, start, end).clip(0, 1))
                return np.concatenate(parts)

            yield rows


def writing_as(dtype: npt.DTypeLike, write: WriteRows) -> WriteRows:
    """``write``, handed rows of floats that shall be of ``dtype``: integers are clipped and rounded."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return lambda rows: write(rows.astype(kind, copy=False))
    white = white_of(kind)
    return lambda rows: write(np.rint(rows.clip(0, 1) * white).astype(kind))


def white_of(dtype: npt.DTypeLike) -> np.float32:
    """The value of white."""
    return np.float32({"u1": 255, "u2": 65535}.get(np.dtype(dtype).str[1:], 1))


def gathering(out: Image) -> Callable[[Image], None]:
    """A function that writes rows into ``out`` [H, W, bands], from top to bottom."""
    top = 0

    def write(rows: Image) -> None:
        nonlocal top
        out[top : top + len(rows)] = rows
        top += len(rows)

    return write
