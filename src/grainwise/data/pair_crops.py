"""Training batches of real noise: crops of pairs of a noisy picture and its clean reference, turned and mirrored alike."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from grainwise.core.errors import InputError
from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch, CropSettings, CropSource


@dataclass(frozen=True, kw_only=True)
class PairCrops(CropSource):
    """Makes batches of a corpus of pairs. A crop's ``sigma`` is the measured standard deviation of its noise.

    Raises:
        InputError: a corpus of single pictures.
    """

    def __post_init__(self) -> None:
        """Refuse a corpus without references."""
        super().__post_init__()
        if self.corpus.channels != 6:
            raise InputError("crops of real noise are cut of pairs, and this corpus holds single pictures")

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `grainwise.data.crops.Batches.batch`."""
        crops = self.draw(size, count, np.random.default_rng(seed))
        noisy, clean = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255).chunk(2, 1)
        sigma = (noisy - clean).flatten(1).std(1, correction=0)
        return Batch(clean.contiguous(), noisy.contiguous(), sigma)


@dataclass(frozen=True, kw_only=True)
class PairCropSettings(CropSettings):
    """See `PairCrops`; all crops alike, as the papers that train on SIDD have it."""

    paired: ClassVar[bool] = True

    shares: tuple[float, ...] = (1.0,)
    texture: float = 0.0

    @property
    def label(self) -> str:
        """The noise as protocols write it."""
        return "real"

    def build(self, corpus: Corpus) -> PairCrops:
        """The batches of these settings."""
        return PairCrops(corpus=corpus, shares=self.share_of_reduction, texture=self.texture)
