"""What a number means: how the noisy picture is made, and how the restored one is compared with the clean one.

Pictures are HWC float32 in image units, sRGB-encoded, of one (grey) or three (RGB) channels.
"""

import dataclasses
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.image import BT601_LIMITED

FloatPicture = npt.NDArray[np.float32]
"""An HWC float32 picture in image units, [0, 1] unless it is noisy."""

NoiseKind = Literal["gaussian"]
ColourSpace = Literal["rgb", "y-bt601-limited"]

NOISE_KINDS: tuple[NoiseKind, ...] = ("gaussian",)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A synthetic noise: its kind, and its standard deviation ``sigma`` in image units, [0, 1]."""

    kind: NoiseKind = "gaussian"
    sigma: float

    def __post_init__(self) -> None:
        """Refuse kinds and levels that do not exist.

        Raises:
            UnknownNameError: the kind is not known.
            InputError: ``sigma`` is outside [0, 1] or not a number.
        """
        if self.kind not in NOISE_KINDS:
            raise UnknownNameError("noise kind", self.kind, NOISE_KINDS)
        _check_sigma(self.sigma)

    def __str__(self) -> str:
        """The text that ``parse_noise`` reads, with the level as 255*sigma: ``gaussian:25``."""
        return f"{self.kind}:{255 * self.sigma:.10g}"


def parse_noise(text: str) -> Noise:
    """Read a noise as the command line writes it: ``gaussian:25`` is Gaussian noise of 255*sigma = 25.

    Raises:
        InputError: the text has another form, or the level is not a number in [0, 255].
        UnknownNameError: the kind of noise is not known.
    """
    kind, colon, level = text.strip().partition(":")
    if not colon or not kind or not level:
        raise InputError(f"a noise is written KIND:LEVEL, got {text!r}. Write for example gaussian:25 (255*sigma).")
    if kind not in NOISE_KINDS:
        raise UnknownNameError("noise kind", kind, NOISE_KINDS)
    try:
        value = float(level)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 255:
        raise InputError(f"the level of a noise is 255*sigma, a number from 0 to 255, got {level!r}. Try {kind}:25.")
    return Noise(kind="gaussian", sigma=value / 255)


def gaussian_noisy(clean: FloatPicture, sigma: float, seed: int = 0) -> FloatPicture:
    """Add white Gaussian noise of standard deviation ``sigma`` to an HWC picture; nothing is clipped.

    The noise is ``numpy.random.default_rng(seed).standard_normal`` in float32, of the shape of ``clean``: pictures of
    one shape and seed get the same noise.

    Raises:
        InputError: ``sigma`` is outside [0, 1] or not a number.
    """
    _check_sigma(sigma)
    unit = np.random.default_rng(seed).standard_normal(clean.shape, dtype=np.float32)
    noisy: FloatPicture = clean.astype(np.float32, copy=False) + np.float32(sigma) * unit
    return noisy


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a test makes its noise and takes its PSNR and SSIM.

    Attributes:
        name: what a table calls it.
        clip_noisy: the noisy input is clipped to [0, 1] and rounded to 8 bits, as a saved file would be.
        truncate_noisy: with ``clip_noisy``: cut to 8 bits instead of rounding, half a step darker on average.
        seed: the seed of the noise, used afresh for each picture.
        round_output: the restored picture is clipped to [0, 1] and rounded to 8 bits before it is compared.
        colour: ``rgb`` compares all channels jointly; ``y-bt601-limited`` compares BT.601 luma in [16, 235] / 255.
        border: pixels removed from every side before comparing.
    """

    name: str
    clip_noisy: bool = False
    truncate_noisy: bool = False
    seed: int = 0
    round_output: bool = True
    colour: ColourSpace = "rgb"
    border: int = 0

    def __post_init__(self) -> None:
        """Refuse a border that is negative, and truncation without clipping.

        Raises:
            InputError: ``border`` is below 0, or ``truncate_noisy`` is set without ``clip_noisy``.
        """
        if self.truncate_noisy and not self.clip_noisy:
            raise InputError("truncate_noisy says how clip_noisy makes 8 bits; set both")
        if self.border < 0:
            raise InputError(f"a border is 0 pixels or more, got {self.border}. Use 0 to keep the whole picture.")

    def noisy(self, clean: FloatPicture, noise: Noise | float) -> FloatPicture:
        """The noisy input made from an HWC picture in [0, 1].

        Args:
            clean: the picture, HWC float32.
            noise: a noise, or the standard deviation of Gaussian noise in image units.

        Raises:
            InputError: the noise level is outside [0, 1].
        """
        sigma = noise.sigma if isinstance(noise, Noise) else noise
        picture = gaussian_noisy(clean, sigma, self.seed)
        if self.truncate_noisy:
            levels: FloatPicture = np.floor(np.clip(picture, 0, 1) * np.float32(255)).astype(np.float32)
            return levels / np.float32(255)
        return round_to_8_bits(picture) if self.clip_noisy else picture

    def compared(self, clean: FloatPicture, *, restored: bool = False) -> FloatPicture:
        """The part of an HWC picture that is compared: HWC, or HW1 for luma, without the border.

        Args:
            clean: the picture, clean or restored, HWC float32.
            restored: it is the output of a restorer, so ``round_output`` applies to it.

        Raises:
            InputError: the picture has no pixel left without its border, or luma is asked of a grey picture.
        """
        picture = round_to_8_bits(clean) if restored and self.round_output else clean
        height, width, channels = picture.shape
        edge = self.border
        if min(height, width) <= 2 * edge:
            raise InputError(
                f"protocol {self.name!r} removes {edge} pixels from every side, and a picture of {height}x{width} has "
                "none left. Use larger pictures or a smaller border."
            )
        picture = picture[edge : height - edge, edge : width - edge]
        if self.colour == "rgb":
            return picture
        if channels != 3:
            raise InputError(
                f"protocol {self.name!r} takes the luma of RGB pictures, got {channels} channel(s). "
                "Measure grey pictures with 'rgb-u8'."
            )
        luma = picture @ BT601_LIMITED + 16 / 255
        return luma[..., None].astype(np.float32)


RGB_U8 = Protocol(name="rgb-u8")
"""The default: unclipped noise, output rounded to 8 bits, all channels jointly, no border removed."""

RGB_U8_CLIPPED = Protocol(name="rgb-u8-clipped", clip_noisy=True)
"""As the default, but the noisy input is clipped and rounded to 8 bits, as a saved file would be."""

RGB_U8_TRUNCATED = Protocol(name="rgb-u8-truncated", clip_noisy=True, truncate_noisy=True)
"""As the default, but the noisy input is clipped and truncated to 8 bits, as HyperRes keeps its noisy pictures."""

Y_BT601 = Protocol(name="y-bt601", colour="y-bt601-limited")
"""For super-resolution: luma in limited range; ``y-bt601:4`` removes a border of 4 pixels."""

PROTOCOLS: MappingProxyType[str, Protocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (RGB_U8, RGB_U8_CLIPPED, RGB_U8_TRUNCATED, Y_BT601)}
)
"""The registered protocols by name."""


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; ``y-bt601:4`` is ``y-bt601`` with 4 pixels removed from every side.

    Raises:
        UnknownNameError: no protocol has that name.
        InputError: the border is not a whole number of 0 or more, or the protocol removes none.
    """
    base, colon, border = name.partition(":")
    if base not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    protocol = PROTOCOLS[base]
    if not colon:
        return protocol
    if protocol.colour == "rgb":
        raise InputError(f"protocol {base!r} removes no border, got {name!r}. Only 'y-bt601:PIXELS' takes one.")
    if not (border.isascii() and border.isdigit()):
        raise InputError(f"the border of a protocol is a whole number of pixels, got {name!r}. Write y-bt601:4.")
    return dataclasses.replace(protocol, name=f"{base}:{int(border)}", border=int(border)) if int(border) else protocol


def round_to_8_bits(picture: FloatPicture) -> FloatPicture:
    """Clip to [0, 1] and round to the nearest multiple of 1/255, as saving to an 8-bit file does; float32 out."""
    levels: FloatPicture = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.float32)
    return levels / np.float32(255)


def _check_sigma(sigma: float) -> None:
    if not 0 <= sigma <= 1:
        raise InputError(f"sigma is in image units, from 0 to 1, got {sigma}. Divide a level of 0-255 by 255.")
