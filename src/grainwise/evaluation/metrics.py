"""How close one picture is to another: PSNR and SSIM on NumPy arrays, HW or HWC."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.optional import optional_module

SSIM_WINDOW = 11
"""Side of the SSIM window in pixels: a Gaussian of standard deviation 1.5."""

_STRIP_PIXELS = 1 << 20


def psnr(restored: npt.NDArray[Any], clean: npt.NDArray[Any], *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, the squared error averaged over pixels and channels jointly.

    Args:
        restored: float array of any shape, in image units.
        clean: array of the same shape.
        peak: the largest value a pixel can have, above 0.

    Returns:
        ``10 log10(peak^2 / mse)``; ``math.inf`` where the two are identical (reports write that as ``null``).

    Raises:
        InputError: the shapes differ or are empty, or ``peak`` is not positive.
    """
    _check_pair(restored, clean)
    if not peak > 0:
        raise InputError(f"the peak of a PSNR must be above 0, got {peak}. For pictures in [0, 1] it is 1.0.")
    difference = np.subtract(restored, clean, dtype=np.float64)
    error = float(np.mean(np.square(difference, out=difference)))
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)


def ssim(restored: npt.NDArray[Any], clean: npt.NDArray[Any]) -> float:
    """Structural similarity (Wang et al., 2004) of two pictures, HW or HWC floats in [0, 1]; at most 1.

    Gaussian window of 11x11 pixels and standard deviation 1.5, k1 = 0.01, k2 = 0.03, data range 1; channels are treated
    alike and averaged; only windows that lie wholly inside the picture count, as in the reference implementation.

    Raises:
        InputError: the shapes differ, are not HW or HWC, or a side is shorter than 11 pixels.
        GrainwiseError: torchmetrics is not installed.
    """
    _check_pair(restored, clean)
    if clean.ndim not in (2, 3):
        raise InputError(f"SSIM takes HW or HWC pictures, got shape {clean.shape}. Measure one picture at a time.")
    height, width = clean.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {height}x{width}. "
            "Use a larger picture, a smaller border, or measure without SSIM."
        )
    margin = SSIM_WINDOW - 1
    rows = max(1, _STRIP_PIXELS // width)
    total = 0.0
    for top in range(0, height - margin, rows):
        strip = slice(top, min(height, top + rows + margin))
        total += _ssim_sum(restored[strip], clean[strip])
    channels = clean.shape[2] if clean.ndim == 3 else 1
    return total / int((height - margin) * (width - margin) * channels)


def _ssim_sum(restored: npt.NDArray[Any], clean: npt.NDArray[Any]) -> float:
    """The SSIM map summed over all windows inside the strip, and over channels."""
    image = optional_module("torchmetrics.functional.image", needed_for="SSIM", install="pip install torchmetrics")
    import torch

    def batch(picture: npt.NDArray[Any]) -> torch.Tensor:
        planes = picture[None] if picture.ndim == 2 else np.moveaxis(picture, 2, 0)
        return torch.from_numpy(np.array(planes[None], dtype=np.float32, order="C"))

    with torch.inference_mode():
        _, similarity = image.structural_similarity_index_measure(
            batch(restored),
            batch(clean),
            gaussian_kernel=True,
            sigma=1.5,
            kernel_size=SSIM_WINDOW,
            data_range=1.0,
            k1=0.01,
            k2=0.03,
            return_full_image=True,
        )
    edge = SSIM_WINDOW // 2
    return float(similarity[..., edge:-edge, edge:-edge].double().sum())


def _check_pair(restored: npt.NDArray[Any], clean: npt.NDArray[Any]) -> None:
    if restored.shape != clean.shape:
        raise InputError(
            f"two pictures are compared pixel by pixel, got shapes {restored.shape} and {clean.shape}. "
            "Crop or restore to the size of the clean picture first."
        )
    if clean.size == 0:
        raise InputError(f"there is nothing to compare in pictures of shape {clean.shape}. Give at least one pixel.")
