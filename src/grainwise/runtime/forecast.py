"""What restoring a picture will take, told before it is done."""

from dataclasses import dataclass

from grainwise.networks.checkpoint import Weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import memory
from grainwise.runtime.budget import Choice
from grainwise.runtime.cost import CostModel
from grainwise.runtime.tiling import Tiling
from grainwise.runtime.timer import Timer, Warm, candidate_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of one picture.

    Attributes:
        plan: the plan to begin with; None where a gate chooses it when it sees the picture.
        macs_per_pixel: of the plan; of a gate, at most.
        tiles: number of tiles; 0 where nothing is to be restored.
        memory: bytes of the whole process at its peak.
        seconds_estimate: of the noise estimate; None where the machine was not measured.
        seconds_network: of the tiles; None where the machine was not measured.
        least_seconds: of estimate and tiles with the fastest plan, where it happens to be slow; None where there is no time
            limit.
    """

    plan: ChannelPlan | None
    macs_per_pixel: float
    tiles: int
    memory: int
    seconds_estimate: float | None
    seconds_network: float | None
    least_seconds: float | None

    @property
    def seconds(self) -> float | None:
        """Of noise estimate and tiles; None where the machine was not measured."""
        if self.seconds_estimate is None or self.seconds_network is None:
            return None
        return self.seconds_estimate + self.seconds_network


def foretell(
    weights: Weights,
    cap: Choice,
    tiling: Tiling,
    *,
    itemsize: int,
    held: int,
    blind: bool,
    idle: bool,
    costs: CostModel | None,
    warm: Warm,
    timer: Timer | None,
    along: float,
) -> Forecast:
    """Tell what a picture will take.

    Args:
        weights: of the network.
        cap: the dearest plan that the budget allows.
        tiling: how the picture may be cut.
        itemsize: bytes of a number of the arithmetic.
        held: bytes of the picture and its result in memory.
        blind: whether the noise level is estimated.
        idle: whether nothing is to be restored.
        costs: of the machine, if it was measured; with a timer it was.
        warm: what the process has done before.
        timer: the time limit, if there is one.
        along: seconds of the limit that are needed for other work.

    Raises:
        BudgetError: the limit cannot be met.
        InputError: not even the smallest tile fits into memory.
    """
    plan, macs, least = cap.plan, float(cap.measured.macs_per_pixel), None
    estimate = costs.estimate.at(tiling.height * tiling.width) if costs is not None and blind else 0.0
    if timer is None:
        side = tiling.side(weights.network.bytes_per_pixel(plan, itemsize))
    else:
        timer.check(tiling, estimate=blind, along=along)
        least = timer.least(tiling, estimate=blind)
        course = timer.course(tiling, along=along + estimate)
        plan, macs, side = course.candidate.plan, course.candidate.cost.macs_per_pixel, course.side
    bytes_per_pixel, extent = weights.network.bytes_per_pixel(plan, itemsize), tiling.extent(side)
    network = None
    if costs is not None:
        candidate = candidate_of(plan, macs, costs, bytes_per_pixel, warm)
        tiles = candidate.seconds(extent, warm.spare)
        network = 0.0 if idle else tiles + costs.beyond(tiles)
    return Forecast(
        plan=plan,
        macs_per_pixel=macs,
        tiles=0 if idle else extent.count,
        memory=memory.resident_bytes() + held + tiling.bytes(side, bytes_per_pixel),
        seconds_estimate=None if costs is None else estimate,
        seconds_network=network,
        least_seconds=least,
    )
