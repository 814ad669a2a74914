"""A restored picture, and the account of how it was made."""

from dataclasses import dataclass

from torch import Tensor

from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.noise_level import NoiseEstimate
from grainwise.runtime.pixels import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How a picture was restored.

    Attributes:
        sigma: noise level that the network was told, in image units: the estimate or the caller's, times the strength;
            the mean of the map where it varies.
        estimate: the blind estimate, or None where the caller gave the level.
        plan: the channel plan; the first one, where a time limit made the run go on with cheaper ones.
        plans: tiles by plan, in the order in which the plans were used; empty where no tile had to be run.
        macs_per_pixel: the cost: of the plan, or the mean over the pixels where there were several.
        tiles: number of tiles.
        seconds: of the whole call.
        seconds_estimate: of these, the noise estimate.
    """

    sigma: float
    estimate: NoiseEstimate | None
    plan: ChannelPlan
    plans: dict[ChannelPlan, int]
    macs_per_pixel: float
    tiles: int
    seconds: float
    seconds_estimate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration(Account):
    """A restored picture and how it was made.

    Attributes:
        image: of the type, depth and shape of the input.
    """

    image: Image | Tensor
