"""Which sub-networks a step of the sandwich rule trains beside the largest and the smallest.

A layer's *position* runs from 0, its narrowest width, to 1, its widest. DDS-Net draws a position for every layer by itself
(section IV-A). With many layers that never comes near the ends: 20,000 such draws of DDS-DANet, whose sub-networks cost 10K to
452K MACs/px, cost 60K to 276K. So there are other ways.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Literal, Protocol

import numpy as np

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan, ChannelSpace

SamplerName = Literal["stratified", "global", "iid", "mixed"]

LISTED = 20_000
"""Up to this many combinations of moves are listed; of more, `POOL` are drawn."""

POOL = 2_048

GLOBAL_SPREAD = 0.25
"""How far a layer's position lies from that of the whole plan at most, where the whole plan is drawn first."""


class Sampler(Protocol):
    """Draws plans; the ends of the space, which every step trains anyway, are left out."""

    def draw(self, count: int, generator: np.random.Generator) -> list[ChannelPlan]:
        """``count`` plans."""


def plans_within(network: Network, jitter: int = 1) -> set[ChannelPlan]:
    """Plans near a uniform one: no layer more than ``jitter`` steps from it; the ends of the space may be among them.

    The steps are those of the layer with the most widths. Where the plans are too many to list, they are a pool of `POOL` that
    is the same every time.
    """
    space = network.space
    longest = max(len(dim.widths) for dim in space.dims)
    moves = range(-jitter, jitter + 1)
    steps: Iterator[tuple[int, tuple[int, ...]]]
    if longest * len(moves) ** len(space.dims) <= LISTED:
        steps = product(range(longest), product(moves, repeat=len(space.dims)))
    else:
        generator = np.random.default_rng(0)
        size = len(space.dims)
        steps = (
            (int(generator.integers(longest)), tuple(generator.integers(-jitter, jitter + 1, size).tolist()))
            for _ in range(POOL)
        )
    return {space.plan(_placed(space, longest, step, moved)) for step, moved in steps}


def _placed(space: ChannelSpace, longest: int, step: int, moved: Sequence[int]) -> dict[str, int]:
    """The widths ``moved`` steps from the uniform plan at ``step``, of ``longest`` steps."""
    chosen = {}
    for dim, move in zip(space.dims, moved, strict=True):
        place = min(max(step + move, 0), longest - 1)
        share = place / (longest - 1) if longest > 1 else 0.0
        chosen[dim.name] = dim.widths[math.floor(share * (len(dim.widths) - 1) + 0.5)]
    return chosen


class PlanSampler:
    """Draws plans stratified by the logarithm of their cost.

    Args:
        network: the supernet.
        jitter: see `plans_within`; 0 draws uniform plans alone.

    Raises:
        InputError: the network has no plan between its narrowest and its widest.
    """

    def __init__(self, network: Network, jitter: int = 1) -> None:
        """List the plans, cheapest first, narrowest and widest left out."""
        space = network.space
        plans = plans_within(network, jitter) - {space.narrowest, space.widest}
        if not plans:
            raise InputError("the network has no plan between its narrowest and its widest; there is nothing to sample")
        cost = {plan: math.log(network.macs_per_pixel(plan)) for plan in plans}
        self.plans = sorted(plans, key=lambda plan: (cost[plan], plan))
        self.costs = np.array([cost[plan] for plan in self.plans])

    def draw(self, count: int, generator: np.random.Generator) -> list[ChannelPlan]:
        """``count`` plans, one from each of ``count`` equal strata of log cost."""
        low, high = self.costs[0], self.costs[-1]
        edges = np.linspace(low, high, count + 1)
        drawn = []
        for start, stop in pairwise(edges):
            target = generator.uniform(start, stop)
            nearest = np.flatnonzero(np.abs(self.costs - target) <= (high - low) / 16)
            candidates = nearest if nearest.size else np.array([np.abs(self.costs - target).argmin()])
            drawn.append(self.plans[int(generator.choice(candidates))])
        return drawn


class PositionSampler:
    """Draws one position for the whole plan, and one for each layer within ``spread`` of it.

    Args:
        space: the plans.
        spread: 0 draws uniform plans; 1 lets every layer have any width at any position of the plan.

    Raises:
        InputError: a spread outside [0, 1], or a space of one or two plans.
    """

    def __init__(self, space: ChannelSpace, spread: float = GLOBAL_SPREAD) -> None:
        """Keep the space."""
        if not 0 <= spread <= 1:
            raise InputError(f"spread lies in [0, 1], got {spread}")
        self.space, self.spread = _sampled(space), spread

    def draw(self, count: int, generator: np.random.Generator) -> list[ChannelPlan]:
        """See `Sampler.draw`."""

        def positions() -> np.ndarray:
            moves = self.spread * generator.uniform(-1, 1, len(self.space.dims))
            placed: np.ndarray = generator.uniform() + moves
            return placed

        return [_drawn(self.space, positions) for _ in range(count)]


class IidSampler:
    """Draws the position of every layer by itself, as the paper does.

    Args:
        space: the plans.

    Raises:
        InputError: a space of one or two plans.
    """

    def __init__(self, space: ChannelSpace) -> None:
        """Keep the space."""
        self.space = _sampled(space)

    def draw(self, count: int, generator: np.random.Generator) -> list[ChannelPlan]:
        """See `Sampler.draw`."""
        return [_drawn(self.space, lambda: generator.uniform(size=len(self.space.dims))) for _ in range(count)]


class MixedSampler:
    """Draws every other plan stratified by cost, and the ones between as the paper does.

    Args:
        network: the supernet.
        jitter: of the stratified ones.
    """

    def __init__(self, network: Network, jitter: int) -> None:
        """Build both samplers."""
        self.stratified, self.iid = PlanSampler(network, jitter), IidSampler(network.space)

    def draw(self, count: int, generator: np.random.Generator) -> list[ChannelPlan]:
        """See `Sampler.draw`; of an odd number the stratified ones are one more."""
        return self.stratified.draw((count + 1) // 2, generator) + self.iid.draw(count // 2, generator)


def sampler_of(name: SamplerName, network: Network, jitter: int) -> Sampler:
    """The sampler of that name.

    Args:
        name: "stratified" (`PlanSampler`), "global" (`PositionSampler`), "iid" (the paper) or "mixed".
        network: the supernet.
        jitter: for those that stratify, see `PlanSampler`.

    Raises:
        UnknownNameError: no such sampler.
        InputError: the network has nothing to sample.
    """
    if name == "stratified":
        return PlanSampler(network, jitter)
    if name == "mixed":
        return MixedSampler(network, jitter)
    if name == "global":
        return PositionSampler(network.space)
    if name == "iid":
        return IidSampler(network.space)
    raise UnknownNameError("sampler", name, ("stratified", "global", "iid", "mixed"))


def _sampled(space: ChannelSpace) -> ChannelSpace:
    if math.prod(len(dim.widths) for dim in space.dims) < 3:
        raise InputError("the network has no plan between its narrowest and its widest; there is nothing to sample")
    return space


def _drawn(space: ChannelSpace, positions: "Positions") -> ChannelPlan:
    """The plan of the first positions that give none of the ends."""
    ends = (space.narrowest, space.widest)
    while True:
        placed = np.clip(positions(), 0, 1)
        widths = {
            dim.name: dim.nearest(dim.narrowest + float(place) * (dim.widest - dim.narrowest))
            for dim, place in zip(space.dims, placed, strict=True)
        }
        plan = space.plan(widths)
        if plan not in ends:
            return plan


class Positions(Protocol):
    """Draws a position for every layer; those outside [0, 1] are moved to the nearer end."""

    def __call__(self) -> np.ndarray:
        """One for each dim."""
