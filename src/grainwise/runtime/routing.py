"""Which plan each cell of a picture, or each of many pictures, takes, so that the least is left for what the budget allows.

Pictures are routed in two passes: `PictureRoutes.glance` at each, then `PictureRoutes.choose` for all; nothing of a picture
needs to be kept between them but its glance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import BudgetError, InputError
from grainwise.networks.checkpoint import Weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.picture_router import DB, PictureReader, PictureRouter
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.pixels import Image, to_tensor

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Allocation:
    """A route and what it should cost and leave.

    Attributes:
        route: [rows, columns], the index of each cell's plan.
        cost: the mean over the picture, in the unit of the costs.
        error: the mean over the picture, as predicted.
    """

    route: npt.NDArray[np.int64]
    cost: float
    error: float


def allocate(errors: Floats, costs: Floats, budget: float, weights: Floats) -> Allocation:
    """The route with the least summed error whose mean cost is within ``budget``.

    A Lagrangian: each cell takes the plan with the least error + price * cost, and the price is raised until the budget is
    kept; what is left of the budget then goes to the cells that gain most from it.

    Args:
        errors: [plans, rows, columns], mean squared error that each plan leaves in each cell.
        costs: [plans], ascending.
        budget: greatest mean cost.
        weights: [rows, columns], area of each cell.

    Raises:
        BudgetError: the budget is less than the cheapest plan everywhere.
    """
    if budget < costs[0]:
        raise BudgetError(f"the cheapest plan costs {costs[0]:g} MACs/px, got a budget of {budget:g}")
    shares = (weights / weights.sum()).astype(np.float64)
    price = costs.astype(np.float64)[:, None, None]

    def at(multiplier: float) -> npt.NDArray[np.int64]:
        chosen: npt.NDArray[np.int64] = (errors + multiplier * price).argmin(0)
        return chosen

    def cost(route: npt.NDArray[np.int64]) -> float:
        return float((costs[route] * shares).sum())

    low, high = 0.0, 2 * float(np.ptp(errors)) / float(np.diff(costs).min(initial=np.inf)) + 1e-30
    route = at(low)
    if cost(route) > budget:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if cost(at(middle)) > budget else (low, middle)
        route = _filled(at(high), errors, costs, shares, budget)
    left = np.take_along_axis(errors, route[None], 0)[0]
    return Allocation(route, cost(route), float((left * shares).sum()))


def _filled(
    route: npt.NDArray[np.int64], errors: Floats, costs: Floats, shares: Floats, budget: float
) -> npt.NDArray[np.int64]:
    """``route`` with cells upgraded, the best gain per cost first, while the budget lasts."""
    left = budget - float((costs[route] * shares).sum())
    now = np.take_along_axis(errors, route[None], 0)
    gain = (now - errors) * shares
    extra = (costs[:, None, None] - costs[route]) * shares
    worth = np.where((extra > 0) & (gain > 0), gain / np.where(extra > 0, extra, 1), 0)
    route = route.copy()
    done = np.zeros(route.shape, bool)
    for flat in np.argsort(worth, axis=None)[::-1]:
        plan, row, column = np.unravel_index(flat, worth.shape)
        if worth[plan, row, column] <= 0:
            break
        if not done[row, column] and extra[plan, row, column] <= left:
            route[row, column], done[row, column] = plan, True
            left -= float(extra[plan, row, column])
    return route


Objective = Literal["error", "psnr"]


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known of a picture, or of a tile, before it is restored.

    Attributes:
        losses: [plans], see `PictureRouter`.
        pixels: how many it has.
    """

    losses: Floats
    pixels: int


@dataclass(frozen=True, slots=True)
class PictureChoice:
    """The plans of many pictures.

    Attributes:
        plans: of each picture, in their order.
        macs_per_pixel: the mean over all pixels, at most the budget.
    """

    plans: tuple[ChannelPlan, ...]
    macs_per_pixel: float


class PictureRoutes:
    """Chooses a plan for each of many pictures or tiles, so that their mean cost keeps a budget.

    Args:
        weights: whose plans they are.
        router: fitted to these weights.

    Raises:
        InputError: a network that cannot be read.
        PlanError: a router of another network.
    """

    def __init__(self, weights: Weights, router: PictureRouter) -> None:
        """Look up the router's plans."""
        if not isinstance(weights.network, HalfUNet):
            raise InputError(
                f"the pictures of {weights.name} are not routed: its network has no first convolution to read"
            )
        self.router = router
        self.plans = tuple(weights.network.space.parse(plan) for plan in router.plans)
        self.costs = np.array([weights.network.macs_per_pixel(plan) for plan in self.plans])
        self.reader = PictureReader(weights.network, router.channels)

    def glance(self, pixels: Image, sigma: float) -> Glance:
        """Read one picture.

        Args:
            pixels: HWC with 1 or 3 channels, uint8, uint16, or floats in [0, 1].
            sigma: noise level in image units, above 0: a picture of level 0 is not restored at all.

        Raises:
            InputError: a level that is not above 0.
        """
        if not sigma > 0:
            raise InputError(f"a picture is routed by its noise level, above 0, got {sigma!r}")
        with torch.inference_mode():
            reading = self.reader.of_rows(
                (pixels.shape[0], pixels.shape[1]),
                lambda top, bottom: to_tensor(pixels[top:bottom], torch.device("cpu")),
                torch.full((1, 1, 1, 1), sigma),
            )
            losses = self.router(reading)[0]
        return Glance(losses.double().numpy(), pixels.shape[0] * pixels.shape[1])

    def choose(self, glances: Sequence[Glance], budget: float, objective: Objective = "error") -> PictureChoice:
        """The plans with the least loss over all pixels whose mean cost is within ``budget``.

        Args:
            glances: of pictures that are restored together.
            budget: mean MACs/px over all pixels of all pictures.
            objective: "error": the total squared error, to which noisy pictures matter most. "psnr": the mean PSNR; a gate
                tells no errors, and takes this one alone.

        Raises:
            InputError: no picture, or an objective that there is not.
            BudgetError: the budget is less than the cheapest plan.
        """
        if not glances:
            raise InputError("plans are chosen for at least one picture, got none")
        if objective not in get_args(Objective) or (objective == "error" and not self.router.in_decibels):
            known = ", ".join(get_args(Objective)) if self.router.in_decibels else "psnr"
            raise InputError(f"the objective of this router is one of {known}, got {objective!r}")
        losses = np.stack([glance.losses for glance in glances], 1)
        weights = np.array([[glance.pixels for glance in glances]], np.float64)
        errors = np.exp(losses / DB) if objective == "error" else losses
        found = allocate(errors[:, None], self.costs, budget, weights)
        return PictureChoice(tuple(self.plans[index] for index in found.route[0]), found.cost)
