"""MixUp (Zhang et al. 2018): the pictures of a batch are mixed in pairs, noisy and clean ones alike; MPRNet trains so."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from grainwise.core.errors import InputError
from grainwise.data.crops import Batch
from grainwise.training.seeds import MIXUP, seed_of


@dataclass(frozen=True, slots=True)
class MixUp:
    """Mixes each picture with another one of the batch, by a share that is drawn for each.

    Args:
        alpha: both parameters of the beta distribution of the shares.
        start: the first step that mixes.

    Raises:
        InputError: alpha is not above 0, or the start is negative.
    """

    alpha: float
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if not self.alpha > 0 or self.start < 0:
            raise InputError(f"MixUp takes an alpha above 0 and a first step of at least 0, got {self}")

    def __call__(self, batch: Batch, seed: tuple[int, int]) -> Batch:
        """The batch mixed, the same for the same seed and step; levels mix as those of independent noises do.

        Raises:
            InputError: the batch says a degradation, of which a mixture has none.
        """
        if batch.degradation is not None:
            raise InputError("pictures of several degradations are not mixed; leave mixup out")
        if seed[1] < self.start:
            return batch
        generator = np.random.default_rng(seed_of(*seed, MIXUP))
        other = torch.from_numpy(generator.permutation(len(batch.clean))).to(batch.clean.device)
        share = torch.from_numpy(generator.beta(self.alpha, self.alpha, len(batch.clean)).astype(np.float32))
        share = share.to(batch.clean.device)
        wide = share.view(-1, 1, 1, 1)
        clean, noisy = (wide * x + (1 - wide) * x[other] for x in (batch.clean, batch.noisy))
        sigma = ((share * batch.sigma).square() + ((1 - share) * batch.sigma[other]).square()).sqrt()
        itself = other == torch.arange(len(other), device=other.device)  # a picture mixed with itself keeps its noise
        sigma = torch.where(itself, batch.sigma, sigma)
        return replace(batch, clean=clean, noisy=noisy, sigma=sigma)
