"""Teaching a supernet: the sandwich rule with in-place synergy (DDS-Net, section III-A, eq. 6 and 7).

Each step runs the largest sub-network, n - 2 random ones and the smallest. The largest learns from the clean picture, the
random ones from the largest, the smallest from the mean of all the others; teachers are detached. Plans are drawn
stratified by cost: over a step and over a run, every order of magnitude of cost is taught alike.
"""

import math
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.data.crops import Batch
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan
from grainwise.training.distances import get_distance
from grainwise.training.distillation import Distiller, Teaching, TeachingSettings
from grainwise.training.teachers import Answer, Ensemble, Largest, answer_of

Pupils = Literal["narrowest", "smaller", "all"]


def plans_within(network: Network, jitter: int = 1) -> set[ChannelPlan]:
    """Every plan of which no dim lies more than ``jitter`` steps of its widths from a uniform one; ends included."""
    space = network.space
    steps = range(max(len(dim.widths) for dim in space.dims))
    return {
        space.plan(
            {
                dim.name: dim.widths[min(max(step + move, 0), len(dim.widths) - 1)]
                for dim, move in zip(space.dims, moves, strict=True)
            }
        )
        for step, moves in product(steps, product(range(-jitter, jitter + 1), repeat=len(space.dims)))
    }


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
        plans = plans_within(network, jitter) - {network.space.narrowest, network.space.widest}
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


class SupernetMethod(nn.Module):
    """Maps a batch to the summed loss of n sub-networks.

    Args:
        network: the supernet.
        subnets: n of the sandwich rule, largest and smallest included; at least 2.
        distance: a name of `grainwise.training.distances.DISTANCES`, for the clean target and for all teachers alike.
        jitter: see `PlanSampler`.
        synergy: whether the smaller ones learn from the larger ones (in-place synergy), or all from the clean picture.
        synergy_from: the first step with synergy; before it all learn from the clean picture, because a teacher that
            has learned nothing yet holds the others back.
        teaching: teachers from outside, who pull beside the clean picture (or the synergy).
        pupils: which sub-networks they teach: the "narrowest", all but the largest ("smaller"), or "all".
        seed: decides the random plans, together with the step.

    Raises:
        InputError: fewer than 2 sub-networks, or unknown pupils.
        UnknownNameError: no such distance.
    """

    def __init__(
        self,
        network: Network,
        *,
        subnets: int = 4,
        distance: str = "l1",
        jitter: int = 1,
        synergy: bool = True,
        synergy_from: int = 0,
        teaching: Teaching | None = None,
        pupils: Pupils = "narrowest",
        seed: int = 0,
    ) -> None:
        """Prepare the sampler."""
        super().__init__()
        if subnets < 2:
            raise InputError(f"the sandwich rule needs the largest and the smallest sub-network, got subnets={subnets}")
        if pupils not in get_args(Pupils):
            raise InputError(f"pupils is one of {', '.join(get_args(Pupils))}, got {pupils!r}")
        self.network, self.subnets, self.seed = network, subnets, seed
        self.synergy, self.synergy_from = synergy, synergy_from
        self.distance = get_distance(distance)
        self.sampler = PlanSampler(network, jitter)
        self.teaching, self.pupils = Teaching() if teaching is None else teaching, pupils
        self._seniors = [
            Distiller(t, distance=self.distance, output=1.0, masked=False) for t in (Largest(), Ensemble())
        ]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one step: ``loss`` is their sum; the others are for the log."""
        space = self.network.space
        random = self.sampler.draw(self.subnets - 2, np.random.default_rng((self.seed, step)))
        plans = {"largest": space.widest} | {f"random{index}": plan for index, plan in enumerate(random)}
        plans["smallest"] = space.narrowest
        lessons = self.teaching.lessons(batch, step)
        at, told = self.network.told(batch.sigma, batch.degradation)
        losses: dict[str, Tensor] = {}
        seniors: list[Answer] = []
        for name, plan in plans.items():
            taught = self._taught(name)
            taps = self.teaching.taps if taught else ()
            answer = answer_of(self.network, taps, batch.noisy, plan, *at, **told)
            senior = self._senior(name, step)
            if senior is None:
                losses[name] = self.distance(answer.output, batch.clean)
            else:
                losses[name] = senior(Answer(answer.output), batch.clean, senior.lesson(batch, seniors))
            if taught:
                losses[name] = torch.stack([losses[name], *lessons.pulls(answer, batch.clean)]).sum()
            seniors.append(answer)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def _taught(self, name: str) -> bool:
        """Whether the teachers from outside teach the sub-network of that name."""
        if not len(self.teaching.distillers):
            return False
        return self.pupils == "all" or name == "smallest" or (self.pupils == "smaller" and name != "largest")

    def _senior(self, name: str, step: int) -> Distiller | None:
        """Who teaches the sub-network of that name in place of the clean picture."""
        if not self.synergy or step < self.synergy_from or name == "largest":
            return None
        return self._seniors[name == "smallest"]


@dataclass(frozen=True, kw_only=True)
class SupernetSettings(TeachingSettings):
    """See `SupernetMethod` and `TeachingSettings`."""

    subnets: int = 4
    distance: str = "l1"
    jitter: int = 1
    synergy: bool = True
    synergy_from: int = 0
    pupils: Pupils = "narrowest"

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings."""
        return SupernetMethod(
            network,
            subnets=self.subnets,
            distance=self.distance,
            jitter=self.jitter,
            synergy=self.synergy,
            synergy_from=self.synergy_from,
            teaching=self.teaching(network, distance=self.distance, seed=seed),
            pupils=self.pupils,
            seed=seed,
        )
