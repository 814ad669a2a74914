"""A camera's noise, as a stand-in for SIDD: unprocess a clean picture to raw, add sensor noise, process it back.

After Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019 (section 3): sRGB -> inverse tone curve ->
inverse gamma -> inverse colour matrix -> inverse white balance and exposure, with highlights kept -> Bayer mosaic -> shot
and read noise -> white balance and exposure -> demosaicing -> colour matrix -> gamma -> tone curve. Taken from there: the
smoothstep tone curve, gamma 2.2, the four cameras' colour matrices and their random mixtures, the ranges of the gains,
the handling of highlights, and Gaussian noise of variance ``shot * signal + read``.

Noise levels. For DND that paper draws log shot uniformly from 1e-4 to 1.2e-2. For SIDD, CycleISP (Zamir et al., CVPR
2020) publishes shot from 6.9e-4 to 2.2e-2 and log10 read = 1.85 log10 shot + 0.30, with a deviation of 0.20. The
default is both ranges together, with SIDD's line. Shot noise grows in proportion to the sensor's gain, so the ends are
a factor of 220 apart: ISO 50 to ISO 11,000, if one takes the upper end for a phone near its limit.

Three choices are ours, made so that the noise is like that of real pairs (`benchmarks/camera_noise.py`). Of the four
cameras one is a phone, and its matrix gets half the weight; and the mixture goes some way to the identity, as in cameras
that lower the saturation where there is noise. Pictures are demosaiced by the filters of Malvar, He, Cutler
(ICASSP 2004), which SIDD's own processing uses too; bilinear interpolation is there, but correlates red and green
negatively, as no real pair does. And half the pictures are developed in the camera: what is left of the noise is
smoothed, colour more than brightness and grain more than blotches, and the picture goes through JPEG. That smoothing
acts on the noise alone, so it never blurs an edge: a stand-in for a camera's own denoiser, which is secret and adaptive.

Where it is unlike the real pairs (`docs/results/camera-noise.md`): the noise of the developed ones is less correlated three
pixels away in green and blue (0.09 and 0.20 against 0.17 and 0.31), and it falls with brightness from black on, where the
real one rises to the middle tones; SIDD's red and blue agree a little more (0.53 against 0.38 to 0.46).

Not modelled: fixed patterns, dead pixels, row noise, sharpening, lens shading, the skewness of Poisson noise in the dark.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.data.demosaic import DEMOSAICING, Demosaicing, bayer_mosaic, demosaic
from grainwise.data.jpeg_model import FROM_YCC, TO_YCC, jpeg_model

FloatPicture = npt.NDArray[np.float32]

GAMMA = 2.2
COARSE = 3.0
"""Noise is coarse for a camera's denoiser from so many radii on."""
HIGHLIGHT = 0.9
"""From this mean of the channels on, inverse gains fade out, so that white stays white."""

_XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.613, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.838, -0.263, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.097, 0.1581, 0.5181]],
    ]
)
"""XYZ to the colours of the four cameras of DND, as their raw files state them; the first is a phone, the Nexus 6P."""
_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """One exposure of one camera: everything that decides a picture but its noise's random numbers.

    Attributes:
        to_camera: [3, 3], linear sRGB to the camera's colours; rows sum to 1.
        gains: of red, green and blue, white balance times exposure.
        shot: variance of the noise for each unit of raw signal.
        read: variance of the noise without signal.
        tone: whether the smoothstep tone curve belongs to the processing.
        demosaicing: the kind of interpolation.
        phase: row and column, 0 or 1, of the first red pixel.
        smoothing: radii in pixels (standard deviations) of the camera's denoiser for brightness and colour; 0 for none.
        fine: what the camera's denoiser leaves of the brightness noise's grain, besides the smoothing; of what is coarser
            than ``COARSE`` radii it leaves all. 1 for all.
        colour: what it leaves of the colour noise's amplitude, besides the smoothing; 1 for all.
        quality: of the JPEG that the camera writes; None for none.
        grid: rows and columns by which the JPEG's grid lies outside the first pixel, 0 to 15.
    """

    to_camera: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    shot: float
    read: float
    tone: bool = False
    demosaicing: Demosaicing = "malvar"
    phase: tuple[int, int] = (0, 0)
    smoothing: tuple[float, float] = (0.0, 0.0)
    fine: float = 1.0
    colour: float = 1.0
    quality: int | None = None
    grid: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Cameras and exposures at random.

    Args:
        shot: the least and the greatest variance of shot noise per unit of raw signal; drawn uniformly in the logarithm.
        read: slope, offset and deviation of log10 read variance over log10 shot variance.
        red: the least and the greatest gain of red against green.
        blue: the least and the greatest gain of blue against green.
        desaturation: the least and the greatest way, from 0 to 1, that the colour matrix goes to the identity.
        exposure: mean and deviation of the inverse of the exposure's gain, held within [0.5, 1.1].
        tone: the share of pictures with a tone curve.
        bilinear: the share of pictures with bilinear interpolation; the others have Malvar's.
        developed: the share of pictures that the camera denoises and writes as JPEG.
        luma_smoothing: the least and the greatest radius for brightness, in pixels.
        chroma_smoothing: the same for colour.
        fine: the least and the greatest share of the brightness noise's grain that the camera's denoiser leaves.
        colour: the least and the greatest share of the colour noise's amplitude that the camera's denoiser leaves.
        quality: the least and the greatest quality of the JPEG.
    """

    shot: tuple[float, float] = (1e-4, 2.2e-2)
    read: tuple[float, float, float] = (1.85, 0.30, 0.20)
    red: tuple[float, float] = (1.9, 2.4)
    blue: tuple[float, float] = (1.5, 1.9)
    desaturation: tuple[float, float] = (0.0, 0.6)
    exposure: tuple[float, float] = (0.8, 0.1)
    tone: float = 0.5
    bilinear: float = 0.0
    developed: float = 0.5
    luma_smoothing: tuple[float, float] = (0.45, 0.85)
    chroma_smoothing: tuple[float, float] = (0.7, 1.7)
    fine: tuple[float, float] = (0.3, 0.9)
    colour: tuple[float, float] = (0.2, 0.7)
    quality: tuple[int, int] = (70, 98)

    def __post_init__(self) -> None:
        """Refuse ranges that make no sense."""
        ranges = {name: getattr(self, name) for name in ("shot", "red", "blue", "luma_smoothing", "chroma_smoothing")}
        for name, (low, high) in ranges.items():
            if not 0 <= low <= high < 100 or (low == 0 and name in ("shot", "red", "blue")):
                raise InputError(f"{name} runs from low to high, both positive, got {(low, high)}")
        for name, (low, high) in {n: getattr(self, n) for n in ("desaturation", "fine", "colour")}.items():
            if not 0 <= low <= high <= 1:
                raise InputError(f"{name} runs from low to high within [0, 1], got {(low, high)}")
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise InputError(f"the quality of a JPEG runs from low to high within 1 to 100, got {self.quality}")
        shares = {name: getattr(self, name) for name in ("tone", "bilinear", "developed")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} is a share of the pictures, from 0 to 1, got {share}")
        if self.exposure[1] < 0 or self.read[2] < 0:
            raise InputError(f"deviations are 0 or more, got exposure {self.exposure} and read {self.read}")

    def draw(self, generator: np.random.Generator) -> Shot:
        """One camera and exposure."""
        mixture, phone = generator.random(4), generator.random()
        mixture *= (1 - phone) / mixture.sum()
        mixture[0] += phone
        camera = np.tensordot(mixture, _XYZ_TO_CAMERA, 1) @ _RGB_TO_XYZ
        camera /= camera.sum(1, keepdims=True)
        camera += generator.uniform(*self.desaturation) * (np.eye(3) - camera)
        exposure = 1 / np.clip(generator.normal(*self.exposure), 0.5, 1.1)
        red, blue = generator.uniform(*self.red), generator.uniform(*self.blue)
        log_shot = generator.uniform(*np.log10(self.shot))
        slope, offset, deviation = self.read
        log_read = slope * log_shot + offset + generator.normal(0, deviation)
        tone, bilinear, developed = generator.random(3) < (self.tone, self.bilinear, self.developed)
        phase, grid = generator.integers(0, 2, 2), generator.integers(0, 16, 2)
        smoothing = (generator.uniform(*self.luma_smoothing), generator.uniform(*self.chroma_smoothing))
        fine, colour = generator.uniform(*self.fine), generator.uniform(*self.colour)
        quality = int(generator.integers(self.quality[0], self.quality[1], endpoint=True))
        return Shot(
            to_camera=camera,
            gains=np.array([red, 1, blue]) * exposure,
            shot=10**log_shot,
            read=10**log_read,
            tone=bool(tone),
            demosaicing="bilinear" if bilinear else "malvar",
            phase=(int(phase[0]), int(phase[1])),
            smoothing=smoothing if developed else (0.0, 0.0),
            fine=fine if developed else 1.0,
            colour=colour if developed else 1.0,
            quality=quality if developed else None,
            grid=(int(grid[0]), int(grid[1])),
        )


def photograph(picture: FloatPicture, shot: Shot, generator: np.random.Generator) -> tuple[FloatPicture, FloatPicture]:
    """(clean, noisy): a picture as a camera would give it without noise, and with.

    Args:
        picture: [H, W, 3] float32 sRGB in [0, 1], at least 3x3 pixels; its own noise is taken for detail.
        shot: the camera.
        generator: of the noise.

    Returns:
        Both [H, W, 3] float32 in [0, 1]; the noisy one is rounded to 8 bits, and may have gone through JPEG.

    Raises:
        InputError: the picture is of another shape, or its camera's demosaicing is unknown.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 3:
        raise InputError(f"a camera takes pictures [H, W, 3] of at least 3x3 pixels, got {list(picture.shape)}")
    if shot.demosaicing not in DEMOSAICING:
        raise InputError(f"demosaicing is one of {', '.join(DEMOSAICING)}, got {shot.demosaicing!r}")
    raw = bayer_mosaic(unprocess(picture.transpose(2, 0, 1), shot), shot.phase)
    noise = generator.standard_normal(raw.shape, np.float32)
    noise *= np.sqrt(np.float32(shot.shot) * raw + np.float32(shot.read))
    clean, noisy = process(np.stack([raw, raw + noise]), shot)
    if max(shot.smoothing) > 0 or shot.colour != 1 or shot.fine != 1:
        noisy = clean + _denoised(noisy - clean, shot)
    if shot.quality is None:
        noisy = np.rint(np.clip(noisy, 0, 1) * np.float32(255)) / np.float32(255)
    else:
        noisy = jpeg_model(noisy, shot.quality, shift=shot.grid)
    return np.ascontiguousarray(clean.transpose(1, 2, 0)), np.ascontiguousarray(noisy.transpose(1, 2, 0))


def unprocess(picture: FloatPicture, shot: Shot) -> FloatPicture:
    """sRGB [3, H, W] in [0, 1] to the camera's linear colours [3, H, W] in [0, 1] (Brooks et al., section 3.2 to 3.4)."""
    linear = np.clip(picture, 0, 1)
    if shot.tone:
        linear = np.float32(0.5) - np.sin(np.arcsin(1 - 2 * linear) / 3)
    linear = np.maximum(linear, np.float32(1e-8)) ** np.float32(GAMMA)
    camera = _matrix(shot.to_camera, linear)
    inverse = (1 / shot.gains).astype(np.float32)[:, None, None]
    bright = np.maximum(camera.mean(0) - np.float32(HIGHLIGHT), 0) / np.float32(1 - HIGHLIGHT)
    mask = bright * bright
    safe = np.maximum(mask + (1 - mask) * inverse, inverse)
    raw: FloatPicture = np.clip(camera * safe, 0, 1)
    return raw


def process(raw: FloatPicture, shot: Shot) -> FloatPicture:
    """Mosaics [N, H, W] to sRGB [N, 3, H, W] in [0, 1]. White clips where a channel's gain takes it over 1."""
    height, width = raw.shape[1:]
    gains = np.broadcast_to(shot.gains.astype(np.float32)[:, None, None], (3, height, width))
    balanced = np.minimum(raw * bayer_mosaic(gains, shot.phase), 1)
    colours = demosaic(balanced, shot.phase, shot.demosaicing)
    linear = np.clip(_matrix(np.linalg.inv(shot.to_camera), colours), 0, 1)
    encoded: FloatPicture = linear ** np.float32(1 / GAMMA)
    return encoded * encoded * (3 - 2 * encoded) if shot.tone else encoded


def _matrix(matrix: npt.NDArray[np.floating], planes: FloatPicture) -> FloatPicture:
    """A colour matrix on [..., 3, H, W]."""
    flat = planes.reshape(*planes.shape[:-2], -1)
    out: FloatPicture = (matrix.astype(np.float32) @ flat).reshape(planes.shape)
    return out


def _denoised(noise: FloatPicture, shot: Shot) -> FloatPicture:
    """What the camera's denoiser leaves of noise [3, H, W]."""
    ycc = np.tensordot(TO_YCC, noise, 1)
    luma, chroma = shot.smoothing
    grain = _blurred(ycc[:1], luma)
    if shot.fine < 1:
        ycc[:1] = np.float32(shot.fine) * grain + np.float32(1 - shot.fine) * _blurred(ycc[:1], COARSE * luma)
    else:
        ycc[:1] = grain
    ycc[1:] = np.float32(shot.colour) * _blurred(ycc[1:], chroma)
    out: FloatPicture = np.tensordot(FROM_YCC, ycc, 1)
    return out


def _blurred(planes: FloatPicture, radius: float) -> FloatPicture:
    """[C, H, W] after a Gaussian of standard deviation ``radius`` in pixels, 0 for none, mirrored at the border."""
    if radius <= 0:
        return planes
    return _blurred_across(_blurred_across(planes, radius).transpose(0, 2, 1), radius).transpose(0, 2, 1)


def _blurred_across(planes: FloatPicture, radius: float) -> FloatPicture:
    """The same along the last axis only."""
    reach = min(max(1, round(3 * radius)), planes.shape[2] - 1)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / radius) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    size = planes.shape[2]
    padded = np.pad(planes, ((0, 0), (0, 0), (reach, reach)), "reflect")
    out: FloatPicture = weights[0] * padded[..., reach : reach + size]
    for distance in range(1, reach + 1):
        left, right = reach - distance, reach + distance
        out += weights[distance] * (padded[..., left : left + size] + padded[..., right : right + size])
    return out
