"""Bayer mosaics, and two linear ways back: bilinear interpolation, and Malvar, He, Cutler (ICASSP 2004).

``phase`` is the row and column, 0 or 1, of the first red pixel: (0, 0) is RGGB, (0, 1) GRBG, (1, 0) GBRG, (1, 1) BGGR.
"""

from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.float32]
Demosaicing = Literal["bilinear", "malvar"]
DEMOSAICING: tuple[Demosaicing, ...] = ("bilinear", "malvar")

# Weights of (centre, N+S, W+E, diagonals, NN+SS, WW+EE); NN is two rows up. Those of Malvar are eighths in the paper.
_Weights = tuple[float, float, float, float, float, float]
_AT_OTHER: MappingProxyType[str, dict[str, _Weights]] = MappingProxyType(
    {
        "bilinear": {
            "green": (0, 1 / 4, 1 / 4, 0, 0, 0),
            "across": (0, 0, 1 / 2, 0, 0, 0),
            "opposite": (0, 0, 0, 1 / 4, 0, 0),
        },
        "malvar": {
            "green": (4 / 8, 2 / 8, 2 / 8, 0, -1 / 8, -1 / 8),
            "across": (5 / 8, 0, 4 / 8, -1 / 8, 1 / 16, -1 / 8),
            "opposite": (6 / 8, 0, 0, 2 / 8, -3 / 16, -3 / 16),
        },
    }
)
"""``green`` at red and blue; ``across``: red (blue) at green with red (blue) to the left and right, and by turning also
above and below; ``opposite``: red at blue, blue at red."""


def bayer_mosaic(picture: Planes, phase: tuple[int, int]) -> Planes:
    """[3, H, W] to its mosaic [H, W]."""
    red_row, red_column = phase
    mosaic: Planes = picture[1].copy()
    mosaic[red_row::2, red_column::2] = picture[0, red_row::2, red_column::2]
    mosaic[1 - red_row :: 2, 1 - red_column :: 2] = picture[2, 1 - red_row :: 2, 1 - red_column :: 2]
    return mosaic


def demosaic(mosaics: Planes, phase: tuple[int, int], kind: Demosaicing) -> Planes:
    """Mosaics [N, H, W], each side at least 3, to [N, 3, H, W]; mirrored at the border, which keeps the pattern."""
    count, height, width = mosaics.shape
    padded = np.pad(mosaics, ((0, 0), (2, 2), (2, 2)), "reflect")
    out = np.empty((count, 3, height, width), np.float32)
    weights = _AT_OTHER[kind]
    for row in (0, 1):
        for column in (0, 1):
            sums = _neighbours(padded, row, column, height, width)
            place = (slice(None), slice(row, None, 2), slice(column, None, 2))
            red_row, red_column = row == phase[0], column == phase[1]
            planes = [out[:, channel][place] for channel in range(3)]
            if red_row == red_column:
                own, other = (0, 2) if red_row else (2, 0)
                planes[own][:] = sums[0]
                planes[1][:] = _weighted(sums, weights["green"])
                planes[other][:] = _weighted(sums, weights["opposite"])
            else:
                turned = [sums[index] for index in (0, 2, 1, 3, 5, 4)]
                planes[1][:] = sums[0]
                planes[0][:] = _weighted(sums if red_row else turned, weights["across"])
                planes[2][:] = _weighted(turned if red_row else sums, weights["across"])
    return out


def _neighbours(padded: Planes, row: int, column: int, height: int, width: int) -> list[Planes]:
    """The six sums that `_Weights` weigh, at the pixels of one phase."""

    def at(down: int, right: int) -> Planes:
        top, left = row + 2 + down, column + 2 + right
        return padded[:, top : height + 2 + down : 2, left : width + 2 + right : 2]

    return [
        at(0, 0),
        at(-1, 0) + at(1, 0),
        at(0, -1) + at(0, 1),
        at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1),
        at(-2, 0) + at(2, 0),
        at(0, -2) + at(0, 2),
    ]


def _weighted(sums: list[Planes], weights: _Weights) -> Planes:
    terms = [np.float32(weight) * part for part, weight in zip(sums, weights, strict=True) if weight]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
