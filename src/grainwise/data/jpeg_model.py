"""What JPEG does to a picture, in NumPy: as writing and reading a file but for rounding, and faster on small crops.

ITU-T T.81: RGB to YCbCr (JFIF), chroma as 2x2 means (4:2:0), 8x8 DCT, division by the tables of Annex K scaled by the
quality of the Independent JPEG Group, rounding, and back; chroma is enlarged by the triangle filter that decoders use.

Beside `grainwise.core.jpeg`, which is the real encoder: a camera's pictures are crops of larger ones, so their blocks begin
anywhere outside them, and they are drawn where no encoder need be installed. What training or measuring shows of JPEG itself
(`grainwise.data.degradations`) goes through the encoder, so that it is what files hold, to the last bit.
"""

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import dct_matrix, standard_table

Planes = npt.NDArray[np.float32]

TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    dtype=np.float32,
)
"""RGB to Y, Cb, Cr, the latter two around 0."""
FROM_YCC = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], dtype=np.float32)
"""Y, Cb, Cr around 0 to RGB."""


def jpeg_model(picture: Planes, quality: int, *, shift: tuple[int, int] = (0, 0), subsample: bool = True) -> Planes:
    """A picture after a round through JPEG, rounded to 8 bits.

    Args:
        picture: [3, H, W] float32, RGB in [0, 1].
        quality: 1 to 100, as the Independent JPEG Group counts.
        shift: rows and columns by which the grid of 8x8 blocks (16x16 with ``subsample``) lies outside the picture's
            first pixel, as in a crop of a larger picture; 0 to 15.
        subsample: 4:2:0, halved chroma; else 4:4:4.

    Raises:
        InputError: the quality or the shift is out of range.
    """
    luma, chroma = (standard_table(quality, chroma=kind).astype(np.float32) for kind in (False, True))
    if not all(0 <= s <= 15 for s in shift):
        raise InputError(f"the blocks of a JPEG begin 0 to 15 pixels outside a crop, got a shift of {shift}")
    _, height, width = picture.shape
    unit = 16 if subsample else 8
    bottom, right = (-(size + s) % unit for size, s in zip((height, width), shift, strict=True))
    padded = np.pad(picture, ((0, 0), (shift[0], bottom), (shift[1], right)), "edge")
    levels = np.rint(np.clip(padded, 0, 1) * np.float32(255))
    ycc = np.rint(np.tensordot(TO_YCC, levels, 1))
    ycc[0] -= 128
    y = _quantised(ycc[:1], luma)
    if subsample:
        pairs = ycc[1:, ::2] + ycc[1:, 1::2]
        halves = (pairs[..., ::2] + pairs[..., 1::2]) * np.float32(0.25)
        wide = _doubled(_quantised(halves, chroma))
        colour = _doubled(wide.transpose(0, 2, 1)).transpose(0, 2, 1)
    else:
        colour = _quantised(ycc[1:], chroma)
    rgb = np.tensordot(FROM_YCC, np.concatenate([y + 128, colour]), 1)
    inside = rgb[:, shift[0] : shift[0] + height, shift[1] : shift[1] + width]
    out: Planes = np.rint(np.clip(inside, 0, 255)) / np.float32(255)
    return out


def _quantised(planes: Planes, table: Planes) -> Planes:
    """[C, H, W], both sides multiples of 8, after quantising its blocks' coefficients."""
    shape, matrix = planes.shape, dct_matrix()
    rows = (-1, 8, shape[2])
    tiled = (-1, 8, shape[2] // 8, 8)
    across = (planes.reshape(-1, 8) @ matrix.T).reshape(rows)
    coefficients: Planes = np.reshape(matrix @ across, tiled)
    down = matrix.T @ (np.rint(coefficients / table[:, None]) * table[:, None]).reshape(rows)
    out: Planes = (down.reshape(-1, 8) @ matrix).reshape(shape)
    return out


def _doubled(planes: Planes) -> Planes:
    """[C, H, W] enlarged twofold along the last axis: a new sample is 3/4 its nearest old one and 1/4 the next."""
    out = np.empty((*planes.shape[:2], 2 * planes.shape[2]), np.float32)
    near, far = planes * np.float32(0.75), planes * np.float32(0.25)
    out[..., 2::2] = near[..., 1:] + far[..., :-1]
    out[..., 1:-1:2] = near[..., :-1] + far[..., 1:]
    out[..., [0, -1]] = planes[..., [0, -1]]
    return out
