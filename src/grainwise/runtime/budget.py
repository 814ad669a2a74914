"""Budgets: what the caller allows, and the plan that it buys."""

import re
from dataclasses import dataclass

from grainwise.core.errors import BudgetError
from grainwise.networks.checkpoint import MeasuredPlan, Weights
from grainwise.primitives.channels import ChannelPlan

NAMES = ("fast", "balanced", "best")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6}


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan that a budget buys, and what is known of it."""

    plan: ChannelPlan
    measured: MeasuredPlan


def parse_budget(budget: str | float) -> str | float:
    """One of `NAMES`, or MACs/px as a number: ``"50k"``, ``"0.2M"``, ``28000``.

    Raises:
        BudgetError: anything else.
    """
    if isinstance(budget, str):
        text = budget.strip().lower()
        if text in NAMES:
            return text
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([km]?)", text)
        if match:
            budget = float(match[1]) * _UNITS[match[2]]
    if isinstance(budget, bool) or not (isinstance(budget, int | float) and 0 < budget < float("inf")):
        raise BudgetError(f"a budget is {', '.join(NAMES)}, or MACs/px such as 50k or 0.2M; got {budget!r}")
    return float(budget)


def dearest_plan(weights: Weights) -> Choice:
    """The recommended plan that costs most."""
    choices = [Choice(plan, measured) for plan, measured in weights.plans().items()]
    return max(choices, key=lambda choice: choice.measured.macs_per_pixel)


def choose_plan(weights: Weights, budget: str | float) -> Choice:
    """The plan of a name, or the dearest recommended plan that a number of MACs/px pays for.

    Where no plan has the name, cost decides: the cheapest is ``fast``, the dearest ``best``, the one between them ``balanced``
    (of two the cheaper).

    Raises:
        BudgetError: the budget cannot be read, or is less than the cheapest plan costs.
    """
    budget = parse_budget(budget)
    choices = [Choice(plan, measured) for plan, measured in weights.plans().items()]
    if isinstance(budget, str):
        named = [choice for choice in choices if choice.measured.name == budget]
        if named:
            return named[0]
        by_cost = sorted(choices, key=lambda choice: choice.measured.macs_per_pixel)
        return by_cost[{"fast": 0, "balanced": (len(by_cost) - 1) // 2, "best": -1}[budget]]
    affordable = [choice for choice in choices if choice.measured.macs_per_pixel <= budget]
    if not affordable:
        least = min(choice.measured.macs_per_pixel for choice in choices)
        raise BudgetError(f"the cheapest plan of {weights.name} costs {least} MACs/px, got a budget of {budget:g}")
    return max(affordable, key=lambda choice: choice.measured.macs_per_pixel)
