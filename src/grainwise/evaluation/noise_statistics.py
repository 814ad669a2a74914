"""What the noise between two pictures is like: how it grows with brightness, and how neighbours and channels agree."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.evaluation.protocol import FloatPicture

LAGS = (1, 2, 3)
BINS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseStatistics:
    """Of the noise ``noisy - clean``, its mean taken off; channels are red, green, blue.

    Attributes:
        std: [3], standard deviation in image units.
        mean: [3], mean, in image units.
        curve: [3, 8], standard deviation where the clean channel lies in the first, second ... eighth of [0, 1]; not a
            number where fewer than ``least`` pixels do.
        across: [3, 3], correlation with the neighbour 1, 2, 3 pixels to the right, by channel and lag.
        down: [3, 3], the same with the neighbour below.
        channels: [3], correlation of red and green, green and blue, red and blue.
    """

    std: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    curve: npt.NDArray[np.float64]
    across: npt.NDArray[np.float64]
    down: npt.NDArray[np.float64]
    channels: npt.NDArray[np.float64]

    @property
    def lags(self) -> npt.NDArray[np.float64]:
        """[3, 3], the mean of ``across`` and ``down``."""
        return (self.across + self.down) / 2


def noise_statistics(noisy: FloatPicture, clean: FloatPicture, *, least: int = 200) -> NoiseStatistics:
    """Statistics of the noise between two pictures [H, W, 3] in image units; a bin of brightness needs ``least`` pixels.

    Raises:
        InputError: the pictures are of unlike shape, not RGB, under 8x8 pixels, or equal.
    """
    if noisy.shape != clean.shape or noisy.ndim != 3 or noisy.shape[2] != 3 or min(noisy.shape[:2]) < 8:
        raise InputError(
            f"noise is measured between two pictures [H, W, 3] of one shape, got {noisy.shape}, {clean.shape}"
        )
    noise = noisy.astype(np.float64) - clean
    mean = noise.mean((0, 1))
    noise -= mean
    variance = np.mean(noise**2, (0, 1))
    if not (variance > 0).all():
        raise InputError("there is no noise between the two pictures in at least one channel")
    bins = np.clip((clean * BINS).astype(int), 0, BINS - 1)
    curve = np.full((3, BINS), np.nan)
    for channel in range(3):
        for index in range(BINS):
            inside = noise[..., channel][bins[..., channel] == index]
            if inside.size >= least:
                curve[channel, index] = inside.std()
    across = [np.mean(noise[:, lag:] * noise[:, :-lag], (0, 1)) / variance for lag in LAGS]
    down = [np.mean(noise[lag:] * noise[:-lag], (0, 1)) / variance for lag in LAGS]
    correlation = np.asarray(np.corrcoef(noise.reshape(-1, 3).T))
    return NoiseStatistics(
        std=np.sqrt(variance),
        mean=mean,
        curve=curve,
        across=np.stack(across, 1),
        down=np.stack(down, 1),
        channels=correlation[[0, 1, 0], [1, 2, 2]],
    )
