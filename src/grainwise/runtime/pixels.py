"""Between pictures and tensors, and telling the caller how far the work is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from grainwise.core.errors import Cancelled

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.floating]
ProgressCallback = Callable[[float], object]
"""Called with the finished share of the work, 0 to 1; returning False cancels."""


def tell(progress: ProgressCallback | None, share: float) -> None:
    """Call ``progress`` with the finished ``share`` of the work.

    Raises:
        Cancelled: it returned False.
    """
    answer = None if progress is None else progress(share)
    if answer is not None and not answer:
        raise Cancelled(f"cancelled after {100 * share:.0f} % of the picture")


def to_tensor(tile: Image, device: torch.device) -> Tensor:
    """HWC pixels as [1, 3, H, W] float32 in [0, 1]; grey in all three channels."""
    x = torch.from_numpy(np.array(tile, order="C")).to(device).permute(2, 0, 1)[None].float()
    if tile.dtype.kind == "u":
        x = x / white_of(tile.dtype)
    return x.expand(-1, 3, -1, -1)


def to_pixels(y: Tensor, like: Image) -> Image:
    """[3, H, W] as HWC of the dtype and channels of ``like``: integers clipped and rounded."""
    if like.shape[2] == 1:
        y = y.mean(0, keepdim=True)
    if like.dtype.kind == "u":
        y = (y.clamp(0, 1) * white_of(like.dtype)).round_()
        y = y.to(torch.uint8 if like.dtype == np.uint8 else torch.int32)
    pixels: Image = np.asarray(y.permute(1, 2, 0).cpu().numpy(), dtype=like.dtype)  # type: ignore[assignment]
    return pixels


def to_depth(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """``values``, white at 1, as integers of ``dtype``: clipped and rounded."""
    out: npt.NDArray[Any] = np.rint(values.clip(0, 1) * np.float32(white_of(dtype))).astype(dtype)
    return out


def white_of(dtype: npt.DTypeLike) -> float:
    """The value of white in pictures of this dtype: 255, 65535, or 1 for floats."""
    return {"u1": 255.0, "u2": 65535.0}.get(np.dtype(dtype).str[1:], 1.0)
