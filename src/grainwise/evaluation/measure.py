"""Measuring one restorer on a set of pictures, under one protocol."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.evaluation import metrics
from grainwise.evaluation.protocol import RGB_U8, FloatPicture, Noise, Protocol

Restorer = Callable[[FloatPicture, float], npt.NDArray[Any]]
"""A method under test: (noisy HWC float32, sigma in image units) -> restored HWC float, values about [0, 1]."""

_RANGE_SLACK = 1e-3


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """One restored picture: PSNR in dB, SSIM (None where it was not asked for), seconds, megapixels of the input."""

    name: str
    psnr: float
    ssim: float | None
    seconds: float
    megapixels: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; an infinite PSNR becomes None."""
        return {
            "name": self.name,
            "psnr": finite_or_none(self.psnr),
            "ssim": finite_or_none(self.ssim),
            "seconds": self.seconds,
            "megapixels": self.megapixels,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of one restorer on a set of pictures, and how they were taken.

    Attributes:
        scores: one per picture, in the order given; at least one.
        noise: the noise as text, ``gaussian:25``, or what else made the input.
        sigma: the noise level in image units that the restorer was told.
        protocol: how noise and metrics were taken.
        data: the name of the data set, as the caller gave it.
    """

    scores: tuple[PictureScore, ...]
    noise: str
    sigma: float
    protocol: Protocol
    data: str = ""

    @property
    def psnr(self) -> float:
        """Mean of the per-picture PSNRs in dB; infinite if one of them is."""
        return mean(score.psnr for score in self.scores)

    @property
    def ssim(self) -> float | None:
        """Mean of the per-picture SSIMs; None if it was not asked for."""
        values = [score.ssim for score in self.scores if score.ssim is not None]
        return mean(values) if len(values) == len(self.scores) else None

    @property
    def seconds(self) -> float:
        """Seconds spent in the restorer, summed over the pictures; the first call is counted as it came."""
        return math.fsum(score.seconds for score in self.scores)

    @property
    def megapixels(self) -> float:
        """Megapixels of all inputs together."""
        return math.fsum(score.megapixels for score in self.scores)

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """The result as plain values that ``json`` writes as strict JSON: what is not finite becomes None.

        Args:
            rows: add the scores of each picture under ``rows``.
        """
        seconds = self.seconds
        result: dict[str, Any] = {
            "psnr": finite_or_none(self.psnr),
            "ssim": finite_or_none(self.ssim),
            "seconds": seconds,
            "megapixels": self.megapixels,
            "megapixels_per_second": finite_or_none(self.megapixels / seconds) if seconds > 0 else None,
            "sigma": 255 * self.sigma,
            "noise": self.noise,
            "protocol": self.protocol.name,
            "data": self.data,
            "pictures": len(self.scores),
        }
        if rows:
            result["rows"] = [score.to_json() for score in self.scores]
        return result


def evaluate(
    restorer: Restorer,
    pictures: Iterable[tuple[str, npt.NDArray[Any]]],
    noise: Noise,
    protocol: Protocol = RGB_U8,
    *,
    data: str = "",
    with_ssim: bool = True,
) -> Evaluation:
    """Add noise to clean pictures, restore them, and compare.

    Args:
        restorer: the method under test.
        pictures: (name, clean picture) pairs, HWC or HW, uint8, uint16 or float in [0, 1], grey or RGB; read one at a
            time, so a generator over files needs memory for one.
        noise: what is added; its sigma is told to the restorer.
        protocol: how noise and metrics are taken.
        data: the name of the data set, for the record.
        with_ssim: measure SSIM too (needs torchmetrics, and pictures of at least 11x11 pixels).

    Raises:
        InputError: there is no picture, a picture cannot be used, or the restorer returns another shape, an integer
            type or values that are not finite; the message names the picture.
        GrainwiseError: SSIM is asked for and torchmetrics is not installed.
    """

    def pairs() -> Iterator[tuple[str, FloatPicture, FloatPicture]]:
        for name, picture in pictures:
            clean = unit_picture(picture, name)
            yield name, protocol.noisy(clean, noise), clean

    scores = tuple(_score(restorer, pair, noise.sigma, protocol, with_ssim) for pair in pairs())
    return _evaluation(scores, str(noise), noise.sigma, protocol, data)


def evaluate_pairs(
    restorer: Restorer,
    pairs: Iterable[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]],
    sigma: float,
    protocol: Protocol = RGB_U8,
    *,
    noise: str = "given",
    data: str = "",
    with_ssim: bool = True,
) -> Evaluation:
    """Restore pictures that come degraded, and compare each with its clean one: real noise, JPEG, super-resolution.

    Args:
        restorer: the method under test.
        pairs: (name, degraded, clean) triples of pictures as ``evaluate`` takes them; the restorer must return the
            shape of the clean one. The protocol's noise is not used.
        sigma: what the restorer is told, in image units.
        protocol: how the metrics are taken.
        noise: what degraded the pictures, for the record.
        data: the name of the data set, for the record.
        with_ssim: measure SSIM too.

    Raises:
        InputError: as ``evaluate`` does.
        GrainwiseError: SSIM is asked for and torchmetrics is not installed.
    """
    scores = tuple(
        _score(restorer, (name, unit_picture(degraded, name), unit_picture(clean, name)), sigma, protocol, with_ssim)
        for name, degraded, clean in pairs
    )
    return _evaluation(scores, noise, sigma, protocol, data)


def evaluate_with_input(
    restorer: Restorer,
    pairs: Iterable[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]],
    protocol: Protocol = RGB_U8,
    *,
    noise: str = "given",
    data: str = "",
) -> tuple[Evaluation, Evaluation]:
    """The scores of a blind restorer on pairs, and those of the degraded pictures as they are; each pair is read once.

    Args:
        restorer: the method under test; the sigma that it is told is 0 and means nothing.
        pairs: as ``evaluate_pairs`` takes them, degraded and clean of one shape.
        protocol: how the metrics are taken.
        noise: what degraded the pictures, for the record.
        data: the name of the data set, for the record.

    Raises:
        InputError: as ``evaluate`` does.
        GrainwiseError: torchmetrics is not installed.
    """
    after: list[PictureScore] = []
    before: list[PictureScore] = []
    for name, degraded, clean in pairs:
        pair = (name, unit_picture(degraded, name), unit_picture(clean, name))
        after.append(_score(restorer, pair, 0.0, protocol, True))
        before.append(_score(lambda picture, _: picture, pair, 0.0, protocol, True))
    scores = (tuple(after), tuple(before))
    first, second = (_evaluation(each, noise, 0.0, protocol, data) for each in scores)
    return first, second


def timed_restore(
    restorer: Restorer, noisy: FloatPicture, sigma: float, *, name: str, shape: tuple[int, ...]
) -> tuple[FloatPicture, float]:
    """Call a restorer on a copy of ``noisy`` and check what it returns.

    Args:
        restorer: the method under test.
        noisy: HWC float32.
        sigma: noise level in image units.
        name: what an error calls the picture.
        shape: the HWC shape that must come back.

    Returns:
        The restored picture as float32, and the seconds that the call took.

    Raises:
        InputError: the result is no NumPy array of floats, of another shape, or not finite.
    """
    own = noisy.copy()
    start = time.perf_counter()
    restored = restorer(own, sigma)
    seconds = time.perf_counter() - start
    if not isinstance(restored, np.ndarray) or restored.dtype.kind != "f":
        given = restored.dtype if isinstance(restored, np.ndarray) else type(restored).__name__
        raise InputError(f"a restorer returns a NumPy array of floats in [0, 1], got {given} for picture {name!r}.")
    if restored.shape != shape:
        raise InputError(
            f"the restorer returned shape {restored.shape} for picture {name!r}, and {shape} is needed. "
            "Return the whole picture, HWC, with the channels that came in."
        )
    bad = int(np.count_nonzero(~np.isfinite(restored)))
    if bad:
        raise InputError(
            f"the restorer returned {bad} of {restored.size} values that are not finite for picture {name!r}. "
            "Look for a division by zero, or an overflow in a half-precision type."
        )
    return restored.astype(np.float32, copy=False), seconds


def compare(
    restored: FloatPicture, clean: FloatPicture, protocol: Protocol, *, with_ssim: bool
) -> tuple[float, float | None]:
    """PSNR in dB and SSIM (None if not asked for) of two HWC pictures under a protocol.

    Raises:
        InputError: the pictures are too small for the border or the SSIM window, or luma is asked of a grey one.
        GrainwiseError: SSIM is asked for and torchmetrics is not installed.
    """
    ours = protocol.compared(restored, restored=True)
    truth = protocol.compared(clean)
    return metrics.psnr(ours, truth), metrics.ssim(ours, truth) if with_ssim else None


def unit_picture(picture: npt.NDArray[Any], name: str) -> FloatPicture:
    """A picture as HWC float32 in image units; HW becomes HW1; uint8 and uint16 are divided by 255 and 65535.

    Raises:
        InputError: another type, another shape, neither one nor three channels, no pixels, or float values that are not
            finite or lie outside [0, 1]; the message names the picture.
    """
    shaped = picture[..., None] if picture.ndim == 2 else picture
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3) or shaped.size == 0:
        raise InputError(
            f"picture {name!r} has shape {picture.shape}; pictures are HW, HW1 or HW3 (grey or RGB). "
            "Drop the alpha channel, or move the channels last."
        )
    if shaped.dtype in (np.uint8, np.uint16):
        return shaped.astype(np.float32) / np.float32(np.iinfo(shaped.dtype).max)
    if shaped.dtype.kind != "f":
        raise InputError(f"picture {name!r} is of type {shaped.dtype}; give uint8, uint16 or float in [0, 1].")
    low, high = float(shaped.min()), float(shaped.max())
    if not (low >= -_RANGE_SLACK and high <= 1 + _RANGE_SLACK):
        raise InputError(
            f"picture {name!r} has float values from {low:g} to {high:g}; they must be finite and lie in [0, 1]. "
            "Divide by the largest value its type can have."
        )
    return shaped.astype(np.float32)


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean of at least one number; infinite if one of them is."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def finite_or_none(value: float | None) -> float | None:
    """The number itself, or None (``null`` in JSON) where it is infinite, not a number or missing."""
    return value if value is not None and math.isfinite(value) else None


def _score(
    restorer: Restorer,
    pair: tuple[str, FloatPicture, FloatPicture],
    sigma: float,
    protocol: Protocol,
    with_ssim: bool,
) -> PictureScore:
    name, noisy, clean = pair
    restored, seconds = timed_restore(restorer, noisy, sigma, name=name, shape=clean.shape)
    try:
        psnr, ssim = compare(restored, clean, protocol, with_ssim=with_ssim)
    except InputError as error:
        raise InputError(f"picture {name!r}: {error}") from error
    megapixels = noisy.shape[0] * noisy.shape[1] / 1e6
    return PictureScore(name=name, psnr=psnr, ssim=ssim, seconds=seconds, megapixels=megapixels)


def _evaluation(
    scores: tuple[PictureScore, ...], noise: str, sigma: float, protocol: Protocol, data: str
) -> Evaluation:
    if not scores:
        raise InputError("there is no picture to evaluate on, got an empty set. Give at least one clean picture.")
    return Evaluation(scores=scores, noise=noise, sigma=sigma, protocol=protocol, data=data)
