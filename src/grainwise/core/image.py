"""The image contract at the faces: NumPy HWC or torch BCHW in, checked once, and the same kind out."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

BT601_LIMITED = np.array([65.481, 128.553, 24.966], dtype=np.float64) / 255
"""Weights of RGB in [0, 255] for BT.601 luma in [16, 235], without the 16 of black."""


def as_hwc(image: "npt.NDArray[Any] | Tensor") -> npt.NDArray[Any]:
    """A picture as a NumPy array [H, W, C], C = 1 or 3, uint8, uint16 or floats; a view where that is possible.

    Args:
        image: NumPy [H, W, C] (or [H, W], grey), or torch [1, C, H, W].

    Raises:
        InputError: another rank, channel count or dtype, no pixels, values that are not finite, or floats that are far
            from [0, 1] (noise may leave that range a little).
    """
    if isinstance(image, np.ndarray):
        pixels = image[:, :, None] if image.ndim == 2 else image
        shape = "[H, W, C]"
    elif hasattr(image, "detach"):
        if image.ndim != 4 or image.shape[0] != 1:
            raise InputError(f"a torch picture is [1, C, H, W], got {list(image.shape)}; call once for each picture")
        tensor = image.detach()[0].permute(1, 2, 0).cpu()
        pixels = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        shape = "[1, C, H, W]"
    else:
        raise InputError(f"a picture is a NumPy array or a torch tensor, got {type(image).__name__}")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
        raise InputError(
            f"a picture is {shape} with C = 1 or 3 and at least one pixel, got {list(image.shape)}; "
            "split off an alpha channel before the call"
        )
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -8 and high <= 9):
            raise InputError(
                f"a picture of floats lies in [0, 1] but for its noise, got values from {low:g} to {high:g}"
            )
        return pixels if pixels.dtype in (np.float32, np.float64) else pixels.astype(np.float32)
    if pixels.dtype not in (np.uint8, np.uint16) or isinstance(pixels, np.matrix):
        raise InputError(f"a picture is uint8, uint16 or floats in [0, 1], got {pixels.dtype}")
    return pixels


def like_input(pixels: npt.NDArray[Any], image: "npt.NDArray[Any] | Tensor") -> "npt.NDArray[Any] | Tensor":
    """``pixels`` [H, W, C] as the kind, shape and dtype of ``image``, the picture that `as_hwc` was given."""
    if isinstance(image, np.ndarray):
        return pixels.reshape(image.shape).astype(image.dtype, copy=False)
    import torch

    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return tensor.contiguous().to(device=image.device, dtype=image.dtype)
