"""Measuring what undoes JPEG compression and low resolution, as papers on them do.

- JPEG: the 8-bit BT.601 luma of each picture through the encoder at one quality; PSNR and SSIM of luma.
- Low resolution: the sides cut to multiples of the scale, all channels reduced by ``imresize`` with antialiasing, rounded to 8
  bits, enlarged by the same kernel for a restorer that keeps the size; PSNR and SSIM of luma without ``scale`` pixels a side.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.jpeg_tables import check_quality
from grainwise.core.resampling import matlab_resize, opencv_resize
from grainwise.evaluation.measure import Evaluation, evaluate_pairs, unit_picture
from grainwise.evaluation.protocol import RGB_U8, Y_BT601, FloatPicture, Protocol, get_protocol, round_to_8_bits

Pictures = Iterable[tuple[str, npt.NDArray[Any]]]
Triple = tuple[str, FloatPicture, FloatPicture]
ValueRestorer = Callable[[FloatPicture, float], npt.NDArray[Any]]
"""A method under test: (degraded HWC float32, JPEG quality or scale) -> restored HWC float, values about [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """Compression at one quality.

    Args:
        quality: 1 to 100.
        luma: compress and compare the luma of the pictures; otherwise RGB, and colour at half resolution.
    """

    quality: int
    luma: bool = True

    def __post_init__(self) -> None:
        """Refuse qualities that do not exist."""
        check_quality(self.quality)

    def __str__(self) -> str:
        """As tables name it: ``jpeg-y:10`` or ``jpeg-rgb:10``."""
        return f"jpeg-{'y' if self.luma else 'rgb'}:{self.quality}"

    @property
    def value(self) -> float:
        """What the restorer is told."""
        return float(self.quality)

    @property
    def protocol(self) -> Protocol:
        """Rounded to 8 bits; every channel that the picture has."""
        return RGB_U8

    def pair(self, name: str, picture: FloatPicture) -> Triple:
        """(name, degraded, clean) of an RGB picture, or of a grey one (saved as RGB or not), which is its own luma."""
        if self.luma:
            grey = bool((picture == picture[:, :, :1]).all())
            clean = picture[:, :, :1] if grey else Y_BT601.compared(picture)
        else:
            clean = picture
        pixels = np.rint(clean * 255).astype(np.uint8)
        degraded = through_jpeg(pixels, self.quality)
        return name, degraded.astype(np.float32) / np.float32(255), pixels.astype(np.float32) / np.float32(255)


@dataclass(frozen=True, kw_only=True)
class Bicubic:
    """Low resolution at one scale.

    Args:
        scale: 2 or more, a whole number.
        antialias: reduce as papers on super-resolution do; otherwise as HyperRes does, with OpenCV's kernel that aliases.
        enlarged: whether the restorer is given the picture enlarged again; otherwise it enlarges the small one itself.
    """

    scale: int
    antialias: bool = True
    enlarged: bool = True

    def __post_init__(self) -> None:
        """Refuse scales that do not exist."""
        if self.scale < 2:
            raise InputError(f"the scale is a whole number from 2, got {self.scale}")

    def __str__(self) -> str:
        """As tables name it: ``bicubic:4`` or ``bicubic-opencv:4``."""
        return f"bicubic{'' if self.antialias else '-opencv'}:{self.scale}"

    @property
    def value(self) -> float:
        """What the restorer is told."""
        return float(self.scale)

    @property
    def protocol(self) -> Protocol:
        """Luma, without ``scale`` pixels on each side."""
        return get_protocol(f"y-bt601:{self.scale}")

    def pair(self, name: str, picture: FloatPicture) -> Triple:
        """(name, degraded, clean) of an RGB picture.

        Raises:
            InputError: a side is under ``scale`` pixels.
        """
        height, width = (side - side % self.scale for side in picture.shape[:2])
        if min(height, width) < 1:
            raise InputError(f"picture {name!r} of {picture.shape[:2]} is too small for the scale {self.scale}")
        clean = picture[:height, :width]
        if self.antialias:
            small = round_to_8_bits(matlab_resize(clean, 1 / self.scale))
            return name, matlab_resize(small, self.scale).clip(0, 1) if self.enlarged else small, clean
        small = round_to_8_bits(opencv_resize(clean, height // self.scale, width // self.scale))
        return name, round_to_8_bits(opencv_resize(small, height, width)) if self.enlarged else small, clean


def evaluate_degraded(
    restorer: ValueRestorer, pictures: Pictures, degradation: Jpeg | Bicubic, *, data: str = "", with_ssim: bool = True
) -> Evaluation:
    """Degrade clean pictures, restore them, and compare.

    Args:
        restorer: the method under test; it is told the quality or the scale.
        pictures: (name, clean picture) pairs as `grainwise.evaluation.measure.evaluate` takes them.
        degradation: what is undone; it brings its protocol.
        data: the name of the data set, for the record.
        with_ssim: measure SSIM too.

    Raises:
        InputError: as `evaluate_pairs` does, or a picture that is too small.
        GrainwiseError: SSIM is asked for and torchmetrics is not installed.
    """

    def pairs() -> Iterator[Triple]:
        for name, picture in pictures:
            yield degradation.pair(name, unit_picture(picture, name))

    def told(picture: FloatPicture, _: float) -> npt.NDArray[Any]:
        return restorer(picture, degradation.value)

    return evaluate_pairs(
        told, pairs(), 0.0, degradation.protocol, noise=str(degradation), data=data, with_ssim=with_ssim
    )
