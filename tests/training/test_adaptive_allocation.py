"""Budgets are kept and spent where they gain most."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.training.benchmarks import benchmark

from grainwise.core.errors import BudgetError

allocate = benchmark("adaptive_allocation").allocate


def problem(seed: int, plans: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    costs = np.cumsum(generator.uniform(1, 10, plans))
    errors = -np.sort(-generator.gamma(1.0, 1.0, (plans, rows, columns)), axis=0)
    return errors, costs, generator.uniform(0.1, 1, (rows, columns))


@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.floats(0, 1.2))
@example(887, 2, 2, 2, 0.0)
def test_the_budget_is_kept_and_every_plan_of_the_picture_at_that_cost_is_beaten(
    seed: int, plans: int, rows: int, columns: int, share: float
) -> None:
    errors, costs, weights = problem(seed, plans, rows, columns)
    budget = costs[0] + share * (costs[-1] - costs[0])
    found = allocate(errors, costs, budget, weights)
    assert found.cost <= budget * (1 + 1e-9)
    shares = weights / weights.sum()
    assert found.cost == pytest.approx(float((costs[found.route] * shares).sum()))
    for plan in range(plans):
        if costs[plan] <= found.cost:
            assert found.error <= float((errors[plan] * shares).sum()) + 1e-9


def test_no_other_route_of_a_small_picture_is_much_better() -> None:
    errors, costs, weights = problem(3, 3, 2, 3)
    shares = weights / weights.sum()
    budget = float(costs.mean())
    every = np.indices((3,) * 6).reshape(6, -1).T.reshape(-1, 2, 3)
    best = min(
        float((np.take_along_axis(errors, route[None], 0)[0] * shares).sum())
        for route in every
        if float((costs[route] * shares).sum()) <= budget
    )
    uniform = float((errors[np.flatnonzero(costs <= budget).max()] * shares).sum())
    assert allocate(errors, costs, budget, weights).error <= best + 0.2 * (uniform - best)


def test_a_budget_above_all_takes_the_best_and_one_below_all_is_refused() -> None:
    errors, costs, weights = problem(0, 3, 2, 2)
    assert (allocate(errors, costs, costs[-1], weights).route == 2).all()
    assert (allocate(errors, costs, costs[0], weights).route == 0).all()
    with pytest.raises(BudgetError, match="cheapest plan costs"):
        allocate(errors, costs, costs[0] * 0.99, weights)
