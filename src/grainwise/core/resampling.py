"""Cubic resampling, in the two ways that papers on super-resolution use. Pixels have their centres at half coordinates.

- `matlab_resize`: what ``imresize`` of MATLAB does: Keys' kernel with a = -1/2, widened when it reduces (antialiased), the
  picture continued by its mirror image. The usual way to make low-resolution pictures.
- `opencv_resize`: what ``cv2.resize`` with ``INTER_CUBIC`` does: a = -3/4, never widened, the picture continued by its border
  pixels. Reducing with it aliases; HyperRes was trained and measured with it.

Source of the kernel: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

import functools
import math

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError

Floats = npt.NDArray[np.float32]


def matlab_resize(picture: Floats, scale: float) -> Floats:
    """``picture`` [H, W, C] at ``scale`` > 0, [ceil(scale H), ceil(scale W), C] float32; nothing is clipped or rounded.

    Raises:
        InputError: a scale that is not positive, or an empty picture.
    """
    _check(picture, scale)
    sizes = resized(picture.shape[0], picture.shape[1], scale)
    tables = [
        _weights(side, out, scale, -0.5, scale < 1, True) for side, out in zip(picture.shape, sizes, strict=False)
    ]
    return _apply(picture, *tables)


def resized(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of a picture of ``height`` x ``width`` at ``scale``, rounded up."""
    high, wide = (math.ceil(round(scale * side, 9)) for side in (height, width))
    return high, wide


def opencv_resize(picture: Floats, height: int, width: int) -> Floats:
    """``picture`` [H, W, C] at ``height`` x ``width``, float32; nothing is clipped or rounded.

    Raises:
        InputError: a size under 1, or an empty picture.
    """
    _check(picture, min(height, width))
    tables = [
        _weights(side, out, out / side, -0.75, False, False)
        for side, out in zip(picture.shape, (height, width), strict=False)
    ]
    return _apply(picture, *tables)


def _check(picture: Floats, scale: float) -> None:
    if picture.ndim != 3 or picture.size == 0 or not scale > 0:
        raise InputError(
            f"a picture [H, W, C] with pixels is resized to a size above 0, got {list(picture.shape)} and {scale}"
        )


def _apply(picture: Floats, rows: Floats, columns: Floats) -> Floats:
    tall = np.tensordot(rows, picture.astype(np.float32, copy=False), (1, 0))
    out: Floats = np.ascontiguousarray(np.moveaxis(np.tensordot(columns, tall, (1, 1)), 0, 1), dtype=np.float32)
    return out


@functools.lru_cache(maxsize=64)
def _weights(length: int, out: int, scale: float, a: float, antialias: bool, mirror: bool) -> Floats:
    """[out, length]: the weight of each input pixel in each output pixel; rows add up to 1."""
    taps, weights = _taps(length, out, scale, a, antialias, mirror)
    table = np.zeros((out, length))
    np.add.at(table, (np.arange(out)[:, None], taps), weights)
    return table.astype(np.float32)


def _taps(
    length: int, out: int, scale: float, a: float, antialias: bool, mirror: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(input pixels, their weights) of each output pixel, [out, taps] twice; weights add up to 1."""
    stretch = scale if antialias else 1.0
    centres = (np.arange(out) + 0.5) / scale - 0.5
    reach = math.ceil(2 / stretch)
    taps = np.floor(centres)[:, None].astype(np.int64) + np.arange(-reach, reach + 2)[None]
    weights = cubic((centres[:, None] - taps) * stretch, a)
    weights /= weights.sum(1, keepdims=True)
    if mirror:
        period = taps % (2 * length)
        index = np.where(period < length, period, 2 * length - 1 - period)
    else:
        index = taps.clip(0, length - 1)
    return index, weights


class Enlargement:
    """`matlab_resize` at a scale of 1 or more, in parts: any rows of the result. They are to the last bit the same however the
    result is cut; `matlab_resize` sums in another order, and differs in the last bits of float32.

    Args:
        height, width: of the picture.
        scale: 1 or more.

    Attributes:
        height, width: of the result, ``scale`` times as large, rounded up.

    Raises:
        InputError: a scale under 1, or an empty picture.
    """

    def __init__(self, height: int, width: int, scale: float) -> None:
        """Prepare the weights of both directions."""
        if not (scale >= 1 and min(height, width) > 0):
            raise InputError(f"a picture with pixels is enlarged by 1 or more, got {height}x{width} and {scale}")
        self.height, self.width = resized(height, width, scale)
        self._rows, self._row_weights = _taps(height, self.height, scale, -0.5, False, True)
        self._columns, self._column_weights = _taps(width, self.width, scale, -0.5, False, True)

    def needs(self, top: int, bottom: int) -> tuple[int, int]:
        """The first and the last row, excluded, of the picture that the rows [top, bottom) of the result are made of."""
        rows = self._rows[top:bottom]
        return int(rows.min()), int(rows.max()) + 1

    def across(self, rows: Floats) -> Floats:
        """Whole rows [N, W, C] enlarged across, [N, width, C]."""
        return _summed(rows.swapaxes(0, 1), self._columns, self._column_weights).swapaxes(0, 1)

    def down(self, rows: Floats, first: int, top: int, bottom: int) -> Floats:
        """The rows [top, bottom) of the result, of ``rows`` that `across` gave, the first of which is row ``first``."""
        return _summed(rows, self._rows[top:bottom] - first, self._row_weights[top:bottom])


def _summed(rows: Floats, taps: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Floats:
    """[N, ...] -> [out, ...]: sums over the taps, in order."""
    shape = (-1, *[1] * (rows.ndim - 1))
    total: Floats | None = None
    for tap, weight in zip(taps.T, weights.T.astype(np.float32), strict=True):
        if weight.any():
            part = rows[tap] * weight.reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def cubic(x: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    """Keys' kernel with the parameter ``a`` at ``x``, in pixels."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
