"""What each plan would leave of the noise in each cell of a picture, guessed before any of them runs.

Where the picture is smooth, a narrow network does as well as a wide one; fine texture near the noise level is where width
pays. The guess is a small regression on the energy of gradients at three scales, less that of the noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.network import noise_map
from grainwise.primitives.channels import ChannelPlan, ChannelSpace

CELL = 64
"""Side of a cell in pixels of the picture."""
_SCALES = (1, 2, 4)
_WINDOW = 8
FEATURES = 2 * len(_SCALES) + 2
_LEAST_SIGMA = 1 / 255


class GainPredictor(nn.Module):
    """Predicts the excess error of every plan over the best of them, for every cell.

    Args:
        families: plans that differ in the finest level alone, cheapest first, as text; several such families.
        hidden: width of the regression.

    Raises:
        InputError: no families, or families of unequal length.
    """

    mean: Tensor
    spread: Tensor
    scale: Tensor

    def __init__(self, families: Sequence[Sequence[str]], hidden: int = 32) -> None:
        """Make the regression with fresh weights."""
        super().__init__()
        if not families or len({len(family) for family in families}) != 1 or not families[0]:
            raise InputError(f"a gain predictor needs families of equally many plans, got {families}")
        self.families = tuple(tuple(family) for family in families)
        self.hidden = hidden
        outputs = len(self.families) * len(self.families[0])
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, outputs)
        )
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.register_buffer("scale", torch.ones(outputs))

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {"families": [list(family) for family in self.families], "hidden": self.hidden}

    def plans(self, space: ChannelSpace) -> list[list[ChannelPlan]]:
        """The families as plans of ``space``."""
        return [[space.parse(plan) for plan in family] for family in self.families]

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The mean squared error that each plan leaves beyond the best one.

        Args:
            x: the noisy picture [1, C, H, W], RGB in [0, 1].
            sigma: noise level in image units: [1], or a map [1, 1, H, W].

        Returns:
            [families, plans, ceil(H / CELL), ceil(W / CELL)], image units squared.
        """
        features, variance = cell_features(x, sigma)
        excess = self.relative(features.flatten(1).T)
        return (excess.T * variance.flatten()).view(len(self.families), len(self.families[0]), *features.shape[1:])

    def relative(self, features: Tensor) -> Tensor:
        """[n, FEATURES] -> [n, families * plans]: excess errors in units of the noise's variance."""
        out: Tensor = self.layers((features - self.mean) / self.spread) * self.scale
        return out


def cell_features(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What the regression sees.

    For each scale: the energy of gradients in windows of 8 samples, less the noise's, in units of the noise's variance;
    the mean over the cell of its logarithm, and the logarithm of its mean. Then the logarithm of the level, and brightness.

    Returns:
        Features [FEATURES, rows, columns], and the variance of the noise [rows, columns], for cells of `CELL` pixels.

    Raises:
        InputError: not one picture.
    """
    if x.ndim != 4 or len(x) != 1:
        raise InputError(f"plans are predicted for one picture at a time, [1, C, H, W], got {list(x.shape)}")
    height, width = x.shape[2:]
    level = noise_map(sigma, x).expand(-1, 1, height, width)
    end = (0, -width % CELL, 0, -height % CELL)
    x, level = (F.pad(part, end, mode="replicate") for part in (x, level))
    variance = F.avg_pool2d(level, CELL).square().clamp(min=_LEAST_SIGMA**2)
    grey = x.mean(1, keepdim=True)
    found = []
    for scale in _SCALES:
        coarse = F.avg_pool2d(grey, scale) if scale > 1 else grey
        down, right = torch.zeros_like(coarse), torch.zeros_like(coarse)
        down[:, :, 1:] = coarse.diff(dim=2).square()
        right[:, :, :, 1:] = coarse.diff(dim=3).square()
        energy = F.avg_pool2d(down + right, _WINDOW)
        noise = 4 * F.interpolate(variance, size=energy.shape[2:]) / (x.shape[1] * scale**2)
        signal = ((energy - noise) / noise).clamp(min=0)
        side = CELL // (scale * _WINDOW)
        found += [F.avg_pool2d(signal.log1p(), side), F.avg_pool2d(signal, side).log1p()]
    found += [variance.sqrt().log(), F.avg_pool2d(grey, CELL)]
    return torch.cat(found, 1)[0], variance[0, 0]
