"""A restored picture, and the account of how it was made."""

from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor

from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.jpeg_quality import JpegEstimate
from grainwise.runtime.noise_level import NoiseEstimate
from grainwise.runtime.pixels import Image
from grainwise.runtime.tiles import Box


@dataclass(frozen=True, slots=True)
class Route:
    """A part of a picture, and the plan that wrote it.

    Attributes:
        x, y: of its first column and row.
        width, height: in pixels.
        plan: the channel plan.
        macs_per_pixel: its cost.
    """

    x: int
    y: int
    width: int
    height: int
    plan: ChannelPlan
    macs_per_pixel: float

    @classmethod
    def of(cls, box: Box, plan: ChannelPlan, macs_per_pixel: float) -> Self:
        """That of a box."""
        return cls(box.left, box.top, box.width, box.height, plan, float(macs_per_pixel))

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height

    def to_json(self) -> dict[str, Any]:
        """The same as plain values, the plan as text."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"plan": str(self.plan)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How a picture was restored.

    Attributes:
        task: what was restored, see `grainwise.networks.tasks`.
        level: the degradation that the network was told, in the units of the task: noise level in image units (the estimate
            or the caller's, times the strength; the mean of the map where it varies), JPEG quality, or scale. None where the
            network is told nothing.
        estimate: the blind estimate, or None where the caller gave the level, or a JPEG file's tables did.
        plan: the channel plan; the first one, where a time limit made the run go on with cheaper ones.
        plans: tiles by plan, in the order in which the plans were used; empty where no tile had to be run.
        macs_per_pixel: the cost: of the plan, or the mean over the pixels where there were several.
        tiles: number of tiles.
        routes: which plan wrote which part of the result, tile by tile; together they cover it. Empty where no tile had to
            be run.
        seconds: of the whole call.
        seconds_estimate: of these, the blind estimate.
    """

    task: str
    level: float | None
    estimate: NoiseEstimate | JpegEstimate | None
    plan: ChannelPlan
    plans: dict[ChannelPlan, int]
    macs_per_pixel: float
    tiles: int
    routes: tuple[Route, ...]
    seconds: float
    seconds_estimate: float

    @property
    def sigma(self) -> float:
        """The noise level that a denoiser was told, in image units; 0 where it was told none, and for other tasks."""
        return self.level or 0.0 if self.task == DENOISE else 0.0

    @property
    def found(self) -> bool:
        """Whether there was a degradation: the caller or the file said so, or the estimate saw it."""
        return self.estimate is None or self.estimate.found

    def fields(self) -> dict[str, Any]:
        """Everything by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration(Account):
    """A restored picture and how it was made.

    Attributes:
        image: of the type, depth and shape of the input.
    """

    image: Image | Tensor
