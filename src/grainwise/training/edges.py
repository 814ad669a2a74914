"""The edge loss of MPRNet (Zamir et al., CVPR 2021, eq. 2): a Charbonnier distance of Laplacians."""

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
"""The window of the pyramid."""


def laplacian(x: Tensor) -> Tensor:
    """``x`` [B, C, H, W] less what one level of a Gaussian pyramid keeps of it; borders are repeated."""
    kept = torch.zeros_like(x)
    kept[:, :, ::2, ::2] = 4 * _smoothed(x)[:, :, ::2, ::2]
    return x - _smoothed(kept)


def edge_distance(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference of the Laplacians^2 + epsilon^2); [B, C, H, W] twice -> a scalar."""
    return (laplacian(output) - laplacian(target)).square().add(epsilon**2).sqrt().mean()


def _smoothed(x: Tensor) -> Tensor:
    channels = x.shape[1]
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps).expand(channels, 1, len(TAPS), len(TAPS))
    return F.conv2d(F.pad(x, (len(TAPS) // 2,) * 4, mode="replicate"), kernel, groups=channels)
