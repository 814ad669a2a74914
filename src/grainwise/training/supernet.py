"""Teaching a supernet: the sandwich rule with in-place synergy (DDS-Net, section III-A, eq. 6 and 7).

Each step runs the largest sub-network, n - 2 random ones and the smallest. The largest learns from the clean picture, the
random ones from the largest, the smallest from the mean of all the others; teachers are detached. Plans are drawn
stratified by cost: over a step and over a run, every order of magnitude of cost is taught alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.data.crops import Batch
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan

Distance = Callable[[Tensor, Tensor], Tensor]


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2), Charbonnier et al. 1994; [B, C, H, W] twice -> a scalar."""
    return (output - target).square().add(epsilon**2).sqrt().mean()


def log_mse(output: Tensor, target: Tensor, floor: float = 1e-5) -> Tensor:
    """Mean over the batch of ln(mean squared error + floor): minus PSNR, in units of 4.34 dB ("PSNR loss")."""
    return (output - target).square().mean((1, 2, 3)).add(floor).log().mean()


DISTANCES: dict[str, Distance] = {"l1": F.l1_loss, "charbonnier": charbonnier, "log_mse": log_mse}


class PlanSampler:
    """Draws plans stratified by the logarithm of their cost.

    Args:
        network: the supernet.
        jitter: how many steps of its widths a dim may lie from the uniform plan; 0 draws uniform plans alone.
    """

    def __init__(self, network: Network, jitter: int = 1) -> None:
        """List every plan within the jitter, cheapest first, narrowest and widest left out."""
        space = network.space
        steps = range(max(len(dim.widths) for dim in space.dims))
        plans = set()
        for step, moves in product(steps, product(range(-jitter, jitter + 1), repeat=len(space.dims))):
            chosen = {
                dim.name: dim.widths[min(max(step + move, 0), len(dim.widths) - 1)]
                for dim, move in zip(space.dims, moves, strict=True)
            }
            plans.add(space.plan(chosen))
        plans -= {space.narrowest, space.widest}
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
        distance: a name of `DISTANCES`, for the clean target and for the teachers alike.
        jitter: see `PlanSampler`.
        synergy: whether the smaller ones learn from the larger ones (in-place synergy), or all from the clean picture.
        synergy_from: the first step with synergy; before it all learn from the clean picture, because a teacher that
            has learned nothing yet holds the others back.
        seed: decides the random plans, together with the step.
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
        seed: int = 0,
    ) -> None:
        """Prepare the sampler."""
        super().__init__()
        if subnets < 2:
            raise InputError(f"the sandwich rule needs the largest and the smallest sub-network, got subnets={subnets}")
        if distance not in DISTANCES:
            raise InputError(f"distance is one of {', '.join(DISTANCES)}, got {distance!r}")
        self.network, self.subnets, self.seed = network, subnets, seed
        self.synergy, self.synergy_from = synergy, synergy_from
        self.distance = DISTANCES[distance]
        self.sampler = PlanSampler(network, jitter)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one step: ``loss`` is their sum; the others are for the log."""
        space = self.network.space
        synergy = self.synergy and step >= self.synergy_from
        told = self.network.facts.given(batch.sigma)
        random = self.sampler.draw(self.subnets - 2, np.random.default_rng((self.seed, step)))
        outputs = [self.network(batch.noisy, space.widest, **told)]
        losses = {"largest": self.distance(outputs[0], batch.clean)}
        for index, plan in enumerate(random):
            outputs.append(self.network(batch.noisy, plan, **told))
            target = outputs[0].detach() if synergy else batch.clean
            losses[f"random{index}"] = self.distance(outputs[-1], target)
        smallest = self.network(batch.noisy, space.narrowest, **told)
        ensemble = torch.stack([output.detach() for output in outputs]).mean(0) if synergy else batch.clean
        losses["smallest"] = self.distance(smallest, ensemble)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}


@dataclass(frozen=True, kw_only=True)
class SupernetSettings:
    """See `SupernetMethod`."""

    subnets: int = 4
    distance: str = "l1"
    jitter: int = 1
    synergy: bool = True
    synergy_from: int = 0

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings."""
        return SupernetMethod(network, seed=seed, **vars(self))
