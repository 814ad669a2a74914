"""Training batches of two kinds of noise: each crop has white noise, or that of a camera.

White noise is what papers score and what a picture's noise is measured by; a camera's is what photographs have. A network that
is to remove both learns from both at once, and is told a level of the same meaning for both: what the noise asks for.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from grainwise.core.errors import InputError
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, Batches, NoisyCropSettings
from grainwise.data.degraded_crops import CameraCropSettings

SHARE_SEED, SECOND_SEED = 2**31 + 5, 2**31 + 6
"""Put before a seed: the number of crops of each source, and the crops of the second, come from streams of their own."""


@dataclass(frozen=True, kw_only=True)
class MixedCrops:
    """Draws each crop from one of two sources.

    Args:
        first, second: make the crops; neither may say a degradation besides the noise level.
        share: of the second, in [0, 1].
    """

    first: Batches
    second: Batches
    share: float

    def check(self, size: int) -> None:
        """See `Batches.check`."""
        for source in (self.first, self.second):
            source.check(size)

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `Batches.batch`; the crops of the first source come first."""
        of_second = int((np.random.default_rng((SHARE_SEED, *seed)).random(count) < self.share).sum())
        drawn = ((self.first, count - of_second, seed), (self.second, of_second, (SECOND_SEED, *seed)))
        parts = [source.batch(size, n, its_seed) for source, n, its_seed in drawn if n]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("clean", "noisy", "sigma")))


@dataclass(frozen=True, kw_only=True)
class MixedCropSettings:
    """See `MixedCrops`.

    Args:
        white: crops with white noise.
        camera: crops with a camera's noise.
        camera_share: of the latter.

    Raises:
        InputError: a share outside [0, 1].
    """

    paired: ClassVar[bool] = False

    white: NoisyCropSettings = field(default_factory=NoisyCropSettings)
    camera: CameraCropSettings = field(default_factory=CameraCropSettings)
    camera_share: float = 0.4

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 <= self.camera_share <= 1:
            raise InputError(f"camera_share lies in [0, 1], got {self.camera_share}")

    @property
    def label(self) -> str:
        """Both noises, as protocols write them, and their shares."""
        return f"{1 - self.camera_share:g} {self.white.label}, {self.camera_share:g} {self.camera.label}"

    @property
    def reductions(self) -> tuple[int, ...]:
        """The reductions of the corpus that either draws from."""
        return tuple(sorted({*self.white.reductions, *self.camera.reductions}))

    def build(self, corpus: Corpus) -> MixedCrops:
        """The batches of these settings."""
        return MixedCrops(first=self.white.build(corpus), second=self.camera.build(corpus), share=self.camera_share)
