"""The quality at which a picture was once saved as JPEG, told from its pixels alone.

JPEG rounds the DCT coefficients of 8x8 blocks to multiples of a step, and decoding rounds pixels, which blurs the multiples by
a fraction of a step of 8 bits. So in the right grid the coefficients of a saved picture crowd at the multiples of the steps of
its quality. The likelihood of each quality's steps says which; where none is likelier than no steps at all, the picture was
not saved as JPEG, or was changed since (resized, sharpened), and then nothing is claimed.

A pixel's rounding is the only noise assumed. The idea is that of Fan and de Queiroz, "Identification of bitmap compression
history" (IEEE TIP 2003); the mixture and the search for the grid are ours.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grainwise.core.image import as_hwc
from grainwise.core.jpeg_tables import ZIGZAG, dct_matrix, standard_table
from grainwise.runtime.pixels import Image, white_of

Floats = npt.NDArray[np.float32]

QUALITIES = range(1, 100)
BANDS, BAND_ROWS = 8, 64
"""Large pictures are looked at in so many bands of so many rows, spread evenly."""

_FREQUENCIES = ZIGZAG[:21]
_FEW = 8
"""Frequencies that tell which of all 64 grids may be the right one."""
_BLOCKS = 2500
_SPREAD = 0.45
"""Standard deviation of a coefficient around its multiple, in steps of 8 bits: rounding of pixels, and of colours."""
_ASTRAY = 0.05
"""Share of the coefficients that lie anywhere."""
_LEAST = 2.0
"""Coefficients below are zeros of any step, and say nothing."""
_ENOUGH, _MEAN = 40, 0.06
"""Coefficients, and mean log-likelihood of each above that of no steps, from which a quality is claimed."""
_PART_ROWS, _PART_COLUMNS = 64, 384
_PIECES, _PIECE = 4, 512
"""Of wide pictures, so many pieces of so many columns each, spread evenly."""


@dataclass(frozen=True, slots=True)
class JpegEstimate:
    """What a picture's pixels say of its time as a JPEG.

    Attributes:
        quality: as the Independent JPEG Group counts, 1 to 100; 100 where nothing was found.
        found: whether the traces of a JPEG were found.
        grid: row and column of the first corner of an 8x8 block, 0 to 7.
    """

    quality: float
    found: bool
    grid: tuple[int, int] = (0, 0)


def estimate_jpeg(image: Image) -> JpegEstimate:
    """Tell at which quality a picture was saved as JPEG. The grid of its blocks may lie anywhere.

    Args:
        image: NumPy HWC (C = 1 or 3), or HW; uint8, uint16, or floats in [0, 1].

    Raises:
        InputError: no such picture.
    """
    pixels = as_hwc(image)
    return estimate_jpeg_from([part for top, bottom in bands(pixels.shape[0]) for part in pieces(pixels[top:bottom])])


def bands(height: int) -> list[tuple[int, int]]:
    """First and last row of what is looked at in a picture of this height; the first rows are multiples of 8."""
    if height <= BANDS * BAND_ROWS:
        return [(0, height)]
    tops = np.linspace(0, (height - BAND_ROWS) // 8, BANDS).astype(int) * 8
    return [(int(top), int(top) + BAND_ROWS) for top in tops]


def pieces(band: Image) -> list[Image]:
    """What is looked at of a band of rows, HWC: pieces of one width; their first columns are multiples of 8."""
    width = band.shape[1]
    if width <= _PIECES * _PIECE:
        return [band]
    starts = np.linspace(0, (width - _PIECE) // 8, _PIECES).astype(int) * 8
    return [band[:, start : start + _PIECE] for start in starts]


def estimate_jpeg_from(parts: list[Image]) -> JpegEstimate:
    """`estimate_jpeg` of the `pieces` of the `bands` of a picture, HWC."""
    luma = [_luma(part) for part in parts]
    best = max(_scored(luma, grid) for grid in _grids(luma))
    if best[0] <= 0:  # fine steps leave no jumps between blocks: try every grid, on a part
        part = [luma[len(luma) // 2][:, :_PART_ROWS, :_PART_COLUMNS]]
        grids = [(row, column) for row in range(8) for column in range(8)]
        found = max(_scored(part, grid, _FEW) for grid in grids)
        best = _scored(luma, found[2]) if found[0] > 0 else best
    return JpegEstimate(best[1], True, best[2]) if best[0] > 0 else JpegEstimate(100.0, False)


def _scored(
    luma: list[Floats], grid: tuple[int, int], count: int | None = None
) -> tuple[float, float, tuple[int, int]]:
    return (*_likeliest(_coefficients(luma, grid)[:, :count]), grid)


def _luma(part: Image) -> Floats:
    """[2, H, W]: brightness, 0 to 255; and 1 where no colour is at the end of its range, where values may have been cut off."""
    values = part.astype(np.float32) * np.float32(255 / white_of(part.dtype))
    inside = ((values > 0.5) & (values < 254.5)).all(2)
    luma = values[..., 0] if part.shape[2] == 1 else values @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.stack([luma, inside.astype(np.float32)])


def _grids(luma: list[Floats]) -> list[tuple[int, int]]:
    """Where the blocks may begin: the picture's corner, and the two likeliest rows and columns by the jumps between blocks."""
    rows = _phases([np.abs(np.diff(part[0], axis=0)).sum(1) for part in luma])
    columns = _phases([sum(np.abs(np.diff(part[0], axis=1)).sum(0) for part in luma)])
    return list(dict.fromkeys([(0, 0), *((row, column) for row in rows for column in columns)]))


def _phases(jumps: list[Floats]) -> list[int]:
    """The two likeliest first indices of a block, by the jumps from each index to the next."""
    sums, counts = np.zeros(8), np.zeros(8)
    for jump in jumps:
        index = (np.arange(len(jump)) + 1) % 8
        np.add.at(sums, index, jump)
        np.add.at(counts, index, 1)
    order = np.argsort(sums / np.maximum(counts, 1))[::-1]
    return [int(order[0]), int(order[1])]


def _coefficients(luma: list[Floats], grid: tuple[int, int]) -> Floats:
    """[blocks, frequencies] of at most `_BLOCKS` different blocks whose values were not cut off, spread evenly."""
    found = []
    for part in luma:
        high, wide = ((size - start) // 8 for size, start in zip(part.shape[1:], grid, strict=True))
        if high > 0 and wide > 0:
            whole = part[:, grid[0] : grid[0] + 8 * high, grid[1] : grid[1] + 8 * wide]
            blocks, inside = whole.reshape(2, high, 8, wide, 8).swapaxes(2, 3).reshape(2, -1, 8, 8)
            found.append(blocks[inside.all((1, 2))])
    blocks = np.concatenate(found) if found else np.zeros((0, 8, 8), np.float32)
    blocks = np.unique(blocks[:: max(1, -(-len(blocks) // _BLOCKS))].reshape(-1, 64), axis=0).reshape(-1, 8, 8)
    blocks -= np.float32(128)
    matrix = dct_matrix()
    transformed = matrix @ blocks @ matrix.T
    return np.stack([transformed[:, row, column] for row, column in _FREQUENCIES], 1)


def _likeliest(coefficients: Floats) -> tuple[float, float]:
    """(mean log-likelihood above that of no steps, quality); (0, 100) where nothing is claimed."""
    scores, count = np.zeros(len(QUALITIES)), 0
    for at, column in zip(_FREQUENCIES, coefficients.T, strict=False):
        values = np.abs(column[np.abs(column) > _LEAST])
        steps, index = _steps(at)
        scores += _log_likelihood(values, steps)[index]
        count += len(values)
    if count < _ENOUGH:
        return 0.0, 100.0
    best = int(np.argmax(scores))
    mean = float(scores[best]) / count
    return (mean, float(QUALITIES[best])) if mean > _MEAN else (0.0, 100.0)


@functools.cache
def _steps(at: tuple[int, int]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(the different steps of a coefficient, which of them is that of each quality)."""
    steps, index = np.unique([standard_table(quality)[at] for quality in QUALITIES], return_inverse=True)
    return steps.astype(np.float32), index


def _log_likelihood(values: Floats, steps: Floats) -> npt.NDArray[np.float64]:
    """How much likelier ``values`` are where they crowd at multiples of each step than where they lie evenly; summed logs."""
    off = values - steps[:, None] * np.rint(values / steps[:, None])
    crowd = np.zeros_like(off)
    for shift in (-1, 0, 1):
        crowd += np.exp(-0.5 * ((off + shift * steps[:, None]) / np.float32(_SPREAD)) ** 2)
    density = crowd * (steps[:, None] / np.float32(_SPREAD * np.sqrt(2 * np.pi)))
    out: npt.NDArray[np.float64] = np.log((1 - _ASTRAY) * density + _ASTRAY).sum(1, dtype=np.float64)
    return out
