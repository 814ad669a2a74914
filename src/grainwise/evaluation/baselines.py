"""Classical denoisers to compare with, as restorers: no learning, given sigma, one call per picture.

Their free settings were chosen on eight pictures of the free training set (crops of 192x192 to 384x384, unclipped
noise, output rounded to 8 bits), never on a test set, for the best mean PSNR at 255*sigma from 10 to 75.
"""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import UnknownNameError
from grainwise.core.optional import BENCH_EXTRA, optional_module
from grainwise.evaluation.measure import Restorer
from grainwise.evaluation.protocol import FloatPicture

_NLM_LEVELS = (10 / 255, 15 / 255, 25 / 255, 50 / 255)
_NLM_FACTORS = (0.65, 0.8, 0.8, 0.6)

_WAVELET = "sym8"
_WAVELET_TAPS = 16
_WAVELET_LEVELS = 5


def opencv_nlm() -> Restorer:
    """Non-local means of OpenCV, which works on 8-bit pictures, in CIELAB where they are RGB.

    Both strengths are ``h = k(sigma) * 255 * sigma``, k going linearly through 0.65, 0.8, 0.8 and 0.6 at 255*sigma of
    10, 15, 25 and 50: each within 0.01 dB of the best of 0.6 to 0.9 on training pictures.

    Raises:
        GrainwiseError: OpenCV is not installed.
    """
    cv2 = optional_module("cv2", needed_for="the baseline 'opencv-nlm'", install=BENCH_EXTRA)

    def restore(noisy: FloatPicture, sigma: float) -> npt.NDArray[Any]:
        strength = float(np.interp(sigma, _NLM_LEVELS, _NLM_FACTORS)) * 255 * sigma
        levels = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
        if noisy.shape[2] == 1:
            grey = cv2.fastNlMeansDenoising(levels[..., 0], None, strength, 7, 21)
            return np.asarray(grey[..., None], dtype=np.float32) / 255
        # The order of R and B changes the result, and OpenCV takes BGR.
        restored = cv2.fastNlMeansDenoisingColored(
            np.ascontiguousarray(levels[..., ::-1]), None, strength, strength, 7, 21
        )
        return np.asarray(restored[..., ::-1], dtype=np.float32) / 255

    return _unless_clean(restore)


def wavelet() -> Restorer:
    """Soft wavelet shrinkage of scikit-image with BayesShrink thresholds (Chang et al., 2000), in YCbCr where RGB.

    Symlets of 16 taps in up to 5 levels: at every noise level tried within 0.01 dB of the best of db1, db2, db4, sym4,
    sym8 and bior4.4 in 3 to 5 levels. VisuShrink at its best scale was 0.9 to 1.4 dB worse (db2). Sides shorter than 30
    pixels, which the transform cannot take, are mirrored to 30 and cut again.

    Raises:
        GrainwiseError: scikit-image or PyWavelets is not installed.
    """
    for module in ("pywt", "skimage.restoration"):
        restoration = optional_module(module, needed_for="the baseline 'wavelet'", install=BENCH_EXTRA)

    def restore(noisy: FloatPicture, sigma: float) -> npt.NDArray[Any]:
        height, width, channels = noisy.shape
        shortest = 2 * (_WAVELET_TAPS - 1)
        missing = ((0, max(0, shortest - height)), (0, max(0, shortest - width)), (0, 0))
        deepest = int(math.log2(max(shortest, min(height, width)) / (_WAVELET_TAPS - 1)))
        result: npt.NDArray[Any] = restoration.denoise_wavelet(
            np.pad(noisy.astype(np.float64), missing, mode="symmetric"),
            sigma=sigma,
            wavelet=_WAVELET,
            mode="soft",
            wavelet_levels=min(_WAVELET_LEVELS, deepest),
            convert2ycbcr=channels == 3,
            method="BayesShrink",
            rescale_sigma=True,
            channel_axis=-1,
        )
        return result[:height, :width]

    return _unless_clean(restore)


def tv() -> Restorer:
    """Total variation by Chambolle's algorithm (2004), scikit-image, the channels coupled.

    The weight is ``sigma * (0.8 + sigma)``: on training pictures the best factor was 0.8, 0.9, 1.0 and 1.0 at
    255*sigma of 10, 25, 50 and 75. It stops at a relative change of 2e-5; the default of 2e-4
    stops too early and costs 0.5 dB at 50.

    Raises:
        GrainwiseError: scikit-image is not installed.
    """
    restoration = optional_module("skimage.restoration", needed_for="the baseline 'tv'", install=BENCH_EXTRA)

    def restore(noisy: FloatPicture, sigma: float) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = restoration.denoise_tv_chambolle(
            noisy, weight=sigma * (0.8 + sigma), eps=2e-5, max_num_iter=200, channel_axis=-1
        )
        return result

    return _unless_clean(restore)


def bm3d() -> Restorer:
    """BM3D of its authors (Mäkinen et al., 2020), default profile, in the opponent colour space where RGB.

    Its package is no part of any extra of grainwise, for its licence allows non-commercial use only.

    Raises:
        GrainwiseError: the package ``bm3d`` is not installed.
    """
    package = optional_module(
        "bm3d", needed_for="the baseline 'bm3d'", install="pip install bm3d (its licence: non-commercial use only)"
    )

    def restore(noisy: FloatPicture, sigma: float) -> npt.NDArray[Any]:
        if noisy.shape[2] == 1:
            return np.asarray(package.bm3d(noisy[..., 0].astype(np.float64), sigma))[..., None]
        return np.asarray(package.bm3d_rgb(noisy.astype(np.float64), sigma))

    return _unless_clean(restore)


BASELINES: MappingProxyType[str, Callable[[], Restorer]] = MappingProxyType(
    {"bm3d": bm3d, "opencv-nlm": opencv_nlm, "tv": tv, "wavelet": wavelet}
)
"""What builds each baseline, by name; building one imports its library."""


def get_baseline(name: str) -> Restorer:
    """The classical denoiser of that name: (noisy HWC float32, sigma in image units) -> HWC float.

    Raises:
        UnknownNameError: no baseline has that name.
        GrainwiseError: the library behind it is not installed; the message says what to run.
    """
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES)
    return BASELINES[name]()


def _unless_clean(restore: Restorer) -> Restorer:
    """At sigma 0 there is nothing to remove, and most of these divide by sigma: the picture is given back."""

    def guarded(noisy: FloatPicture, sigma: float) -> npt.NDArray[Any]:
        return restore(noisy, sigma) if sigma > 0 else noisy

    return guarded
