"""A picture as its enlargement, read in rows: what a network for super-resolution sees."""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.resampling import Enlargement
from grainwise.runtime.pixels import Image, to_depth, white_of
from grainwise.runtime.strips import ReadRows, Rows, WriteRows

AT_ONCE = 64
"""Rows of the result that are made at once."""


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
    """`Rows` enlarged by bicubic interpolation: float32, all bands; those of integers are clipped to [0, 1].

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
        white, whole = np.float32(white_of(self._rows.dtype)), np.dtype(self._rows.dtype).kind == "u"
        with self._rows.open() as read:
            held, first = np.zeros((0, self.width, self.bands), np.float32), 0

            def rows(top: int, bottom: int) -> Image:
                nonlocal held, first
                parts = []
                for start in range(top, bottom, AT_ONCE):
                    end = min(bottom, start + AT_ONCE)
                    low, high = self._form.needs(start, end)
                    held, first = held[max(0, low - first) :], max(low, first)
                    below = first + len(held)
                    if high > below:
                        new = self._form.across(read(below, high).astype(np.float32) / white)
                        held = np.concatenate([held, new])
                    large = self._form.down(held, first, start, end)
                    parts.append(large.clip(0, 1) if whole else large)
                return np.concatenate(parts)

            yield rows


def writing_as(dtype: npt.DTypeLike, write: WriteRows) -> WriteRows:
    """``write``, handed rows of floats that shall be of ``dtype``: integers are clipped and rounded."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return lambda rows: write(rows.astype(kind, copy=False))
    return lambda rows: write(to_depth(rows, kind))


class Gathered:
    """Rows that are written from top to bottom, kept as one picture, for which memory is taken at the first of them.

    Args:
        shape: [H, W, bands].
        dtype: of the rows.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> None:
        """Keep nothing yet."""
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._top = 0
        self.nbytes = math.prod(shape) * self._dtype.itemsize

    def write(self, rows: Image) -> None:
        """Take the next rows, [N, W, bands]."""
        self.pixels[self._top : self._top + len(rows)] = rows
        self._top += len(rows)

    @functools.cached_property
    def pixels(self) -> Image:
        """The picture."""
        out: Image = np.empty(self._shape, self._dtype)
        return out
