"""A picture as it comes back from a JPEG file: the real encoder and decoder, in memory.

`grainwise.data.jpeg_model` is its arithmetic in NumPy: for crops whose blocks begin outside them, and where no encoder is.
"""

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import check_quality
from grainwise.core.vips import load_vips

Bytes = npt.NDArray[np.uint8]


def encode_jpeg(picture: Bytes, quality: int, *, subsample: bool = True) -> bytes:
    """``picture`` [H, W, 1 or 3] as a baseline JPEG file with the standard tables scaled to ``quality``, 1 to 100.

    Args:
        picture: grey or RGB.
        quality: as libjpeg counts it.
        subsample: whether colour is kept at half resolution (4:2:0), as most programs do.

    Raises:
        InputError: another shape, type or quality.
    """
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.dtype != np.uint8 or picture.size == 0:
        raise InputError(f"JPEG takes uint8 pictures [H, W, 1 or 3], got {picture.dtype} {list(picture.shape)}")
    check_quality(quality)
    image = load_vips().Image.new_from_array(np.ascontiguousarray(picture))
    image = image.copy(interpretation="b-w" if picture.shape[2] == 1 else "srgb")
    data: bytes = image.jpegsave_buffer(Q=quality, subsample_mode="on" if subsample else "off", keep="none")
    return data


def through_jpeg(picture: Bytes, quality: int, *, subsample: bool = True) -> Bytes:
    """``picture`` after encoding and decoding, of the same shape; see `encode_jpeg`."""
    decoded = load_vips().Image.new_from_buffer(encode_jpeg(picture, quality, subsample=subsample), "").numpy()
    out: Bytes = decoded.reshape(picture.shape)
    return out
