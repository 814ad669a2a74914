"""The noise level that a network is told, for any part of a picture."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.runtime.noise_level import MAP_HALO, NoiseEstimate
from grainwise.runtime.pixels import Image, to_tensor
from grainwise.runtime.tiles import Box


class Level:
    """The noise level that the network is told: one figure, the caller's map, or the estimate's curve; times strength.

    Args:
        sigma: what the caller gave, in image units: a figure, a map HW, or None.
        estimate: the blind estimate, where the caller gave nothing.
        strength: multiplies the level.
        greatest: the greatest level that the network takes.
        size: height and width of the picture.

    Raises:
        InputError: a level of another type, size or range.
    """

    def __init__(
        self,
        sigma: float | npt.NDArray[np.floating] | None,
        estimate: NoiseEstimate | None,
        strength: float,
        greatest: float,
        size: tuple[int, int],
    ) -> None:
        """Check what the caller gave."""
        self.strength, self.greatest = strength, greatest
        self.curve = estimate if estimate is not None and estimate.depends_on_brightness else None
        self.map = np.array(sigma, np.float32) if isinstance(sigma, np.ndarray) and sigma.ndim else None
        if not (sigma is None or self.map is not None or is_number(sigma)):
            raise InputError(f"sigma is a number, a NumPy array [H, W] or None, got {type(sigma).__name__}")
        values = self.map if self.map is not None else np.float32(0.0 if sigma is None else sigma)
        if values.size == 0 or not (
            np.isfinite(values).all() and values.min() >= 0 and values.max() <= np.float32(greatest)
        ):
            limit = f"0 to {greatest:.3f} ({255 * greatest:.0f}/255)"
            raise InputError(f"sigma is a noise level in image units, {limit}, got {sigma!r}")
        if self.map is not None and self.map.shape != size:
            raise InputError(f"a sigma map has the size of the picture, {size}, got {self.map.shape}")
        mean = estimate.sigma if estimate is not None else float(values.mean())
        self.mean = min(strength * mean, greatest)

    @property
    def uniform(self) -> bool:
        """Whether it is the same everywhere."""
        return self.map is None and self.curve is None

    def of(self, box: Box, pixels: Image, device: torch.device) -> Tensor:
        """The level of a tile that reads ``box`` of ``pixels``: [1], or a map [1, 1, H, W]."""
        if self.map is not None:
            level = torch.from_numpy(self.map[box.slices]).to(device)[None, None]
        elif self.curve is not None:
            height, width = pixels.shape[:2]
            outer = Box(
                max(0, box.top - MAP_HALO),
                min(height, box.bottom + MAP_HALO),
                max(0, box.left - MAP_HALO),
                min(width, box.right + MAP_HALO),
            )
            inner = box.within(outer)
            level = self.curve.map(to_tensor(pixels[outer.slices], device))[:, :, *inner.slices]
        else:
            return torch.full((1,), self.mean, device=device)
        return (level * self.strength).clamp(max=self.greatest)


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or float, of Python or NumPy, and no bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
