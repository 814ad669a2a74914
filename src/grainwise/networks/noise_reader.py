"""Which noise level a denoiser should be told, read from the statistics of a picture; made for noise that is not white.

A camera's demosaicking, its own denoising, JPEG and resizing smooth the noise: little of it is left at high frequencies, where
white noise is measured. Lower down, texture looks like noise, and no single statistic tells the two apart; many together do.
So the energies of DCT bands of 8x8 patches, in brightness and colour, at three scales and several quantiles over the picture,
go into a small regression. It learns what the denoiser needs rather than what the noise measures: the level at which the
restored picture comes closest to the clean one (`grainwise.training.noise_reader`), which for smoothed noise lies above its
standard deviation, and for a clean picture, however textured, at 0.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import dct_matrix

Array: TypeAlias = NDArray[np.float32]

PATCH: Final = 8
SCALES: Final = 3
"""Every scale halves the picture once more."""
QUANTILES: Final = (0.05, 0.1, 0.5)
"""Over the patches, of the energy of each band."""
BANDS: Final = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 14))
"""Of u + v, for the coefficient at (u, v)."""
FEATURES: Final = SCALES * len(QUANTILES) * 3 * len(BANDS) + 1
LEAST, MOST = 0.25, 64.0
"""Levels that are told apart, steps of 255."""
_PATCHES: Final = 4096
_LEAST_ENERGY: Final = 0.01
_BLACK, _WHITE = 0.002, 0.998


def _bands() -> Array:
    """[64, bands]: averages squared coefficients over each band."""
    u, v = np.mgrid[:PATCH, :PATCH]
    member = np.stack([((u + v >= low) & (u + v <= high)).ravel() for low, high in BANDS], 1)
    weights: Array = (member / member.sum(0)).astype(np.float32)
    return weights


_PLANE: Final = np.kron(dct_matrix(), dct_matrix()).T
_TONE: Final = dct_matrix(3)
_MEMBER: Final = _bands()


def features(crops: Sequence[Array], stride: int, white: float) -> Array:
    """What the regression sees of a picture.

    Args:
        crops: parts of the picture, [H, W, 1 or 3] in image units, at least 8 pixels a side.
        stride: pixels from one patch to the next, both ways; about 4,096 patches are looked at, however many there are.
        white: an estimate for white noise, image units.

    Returns:
        [FEATURES]: logarithms of energies in steps of 255, and of ``white``.

    Raises:
        InputError: no crops, or crops of another shape.
    """
    if not crops or any(crop.ndim != 3 or crop.shape[2] not in (1, 3) or min(crop.shape[:2]) < PATCH for crop in crops):
        raise InputError(f"noise is read from crops [H, W, 1 or 3] of at least {PATCH} pixels a side")
    found, scaled = [], list(crops)
    for scale in range(SCALES):
        held = [crop for crop in scaled if min(crop.shape[:2]) >= PATCH]
        if held:
            energies = _energies(_patches(held, max(2, stride >> scale)))
            found.append(np.quantile(energies, QUANTILES, axis=0).ravel())
        else:
            found.append(found[-1])  # too small a picture to be halved again
        scaled = [_halved(crop) for crop in held]
    return np.log2(np.concatenate([*found, [255 * white]]) + _LEAST_ENERGY).astype(np.float32)


def _patches(crops: Sequence[Array], stride: int) -> Array:
    """[n, 3, 64], clipped and still ones left out as far as there are others."""
    views = [np.lib.stride_tricks.sliding_window_view(crop, (PATCH, PATCH), axis=(0, 1)) for crop in crops]
    views = [view[::stride, ::stride] for view in views]
    every = max(1, math.ceil(sum(view.shape[0] * view.shape[1] for view in views) / _PATCHES))
    patches = np.concatenate([view.reshape(-1, view.shape[2], PATCH**2)[::every] for view in views])
    clipped = ((patches <= _BLACK) | (patches >= _WHITE)).mean((1, 2))
    patches = patches[clipped <= max(0.05, float(np.quantile(clipped, 0.2)))]
    still = np.ptp(patches.reshape(len(patches), -1, PATCH**2), axis=2).max(1) < 1e-4
    if (~still).sum() >= max(1, len(patches) // 100):
        patches = patches[~still]
    return np.repeat(patches, 3, 1) if patches.shape[1] == 1 else patches


def _energies(patches: Array) -> Array:
    """[n, 3, bands]: mean squared coefficients, steps of 255 squared; brightness first, then two colour differences."""
    toned = 255 * np.einsum("kc,ncp->nkp", _TONE, patches).reshape(-1, PATCH**2)
    energies: Array = np.square(toned @ _PLANE) @ _MEMBER
    return energies.reshape(len(patches), 3, -1)


def _halved(crop: Array) -> Array:
    height, width = (length // 2 * 2 for length in crop.shape[:2])
    crop = crop[:height, :width]
    halved: Array = (crop[::2, ::2] + crop[1::2, ::2] + crop[::2, 1::2] + crop[1::2, 1::2]) / np.float32(4)
    return halved


class NoiseReader(nn.Module):
    """A few small regressions from `features` to a level, whose logarithms are averaged.

    Args:
        hidden: width of each.
        members: how many.

    Raises:
        InputError: none, or of no width.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, hidden: int = 48, members: int = 4) -> None:
        """Make them with fresh weights."""
        super().__init__()
        if hidden < 1 or members < 1:
            raise InputError(f"a noise reader has members of some width, got {members} of {hidden}")
        self.hidden = hidden
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(FEATURES, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
            )
            for _ in range(members)
        )
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {"hidden": self.hidden, "members": len(self.members)}

    def forward(self, seen: Tensor) -> Tensor:
        """[n, FEATURES] -> [n, members]: log2 of the level in steps of 255, not bounded."""
        scaled = (seen - self.mean) / self.spread
        return torch.cat([member(scaled) for member in self.members], 1)

    @torch.inference_mode()
    def level(self, seen: Array) -> float:
        """The level that a picture with these features asks for, image units: `LEAST` to `MOST` steps of 255."""
        log = float(self(torch.from_numpy(seen)[None]).double().mean())
        return min(max(2**log, LEAST), MOST) / 255
