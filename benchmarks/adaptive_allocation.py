"""Which plan each cell of a picture takes, so that the least is left for what the budget allows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import BudgetError

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
