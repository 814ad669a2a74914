"""`max_seconds` of the denoiser: on a clock that the test turns."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tests.runtime.small import small_weights

import grainwise
from grainwise.core.errors import BudgetError
from grainwise.runtime.cost import CostModel, Curve, PlanCost
from grainwise.runtime.restorer import MOST_SHAPES

SECONDS = {"fast": 1.0, "balanced": 2.0, "best": 4.0}
"""Per megapixel that a tile reads."""


@pytest.fixture
def denoiser() -> grainwise.Denoiser:
    """A small network whose costs are made up."""
    weights = small_weights()
    denoiser = grainwise.Denoiser(weights, device="cpu", dtype="float32")
    plans = {
        measured.plan: PlanCost(measured.macs_per_pixel, 0.0, 0.001, SECONDS[measured.name] / 1e6)
        for measured in weights.card.plans
    }
    denoiser.costs = CostModel({}, "2026-01-01", plans, Curve((1,), (0.01,)), {})
    return denoiser


def names(denoiser: grainwise.Denoiser, result: grainwise.Restoration) -> list[str]:
    known = {measured.plan: measured.name for measured in denoiser.weights.card.plans}
    return [known[str(plan)] for plan in result.plans]


def noisy(height: int = 600, width: int = 800) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 20, (height, width, 3))
    return (np.linspace(60, 190, width)[None, :, None] + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("limit", "budget", "plan"),
    [
        (0.9, None, "fast"),
        (1.9, None, "balanced"),
        (9.0, None, "best"),
        (9.0, "balanced", "balanced"),
        (0.9, "best", "fast"),
    ],
)
def test_the_cheaper_of_budget_and_time_wins(
    denoiser: grainwise.Denoiser, limit: float, budget: str | None, plan: str
) -> None:
    result = denoiser.restore(noisy(), budget, sigma=0.1, max_seconds=limit)
    assert names(denoiser, result)[0] == plan


def test_without_a_time_limit_the_budget_is_balanced(denoiser: grainwise.Denoiser) -> None:
    result = denoiser.restore(noisy(64, 64), sigma=0.1)
    assert names(denoiser, result) == ["balanced"]
    assert result.plans == {result.plan: result.tiles}


def test_where_the_plan_holds_the_picture_is_that_of_the_plan(
    denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = noisy()
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)  # so that no other process can be in the way
    result = denoiser.restore(picture, sigma=0.1, max_seconds=4.0)
    monkeypatch.undo()
    assert result.tiles > 4
    assert names(denoiser, result) == ["best"]
    assert np.array_equal(result.image, denoiser(picture, "best", sigma=0.1))


def test_a_machine_that_is_slower_than_measured_goes_on_with_cheaper_plans(
    denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.15  # whatever is timed takes so long
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    picture = noisy()
    result = denoiser.restore(picture, sigma=0.1, max_seconds=3.4)
    monkeypatch.undo()
    used = names(denoiser, result)
    assert len(used) > 1
    assert used == sorted(used, key=lambda name: -SECONDS[name])
    assert str(result.plan) == denoiser.weights.card.plans[("fast", "balanced", "best").index(used[0])].plan
    assert sum(result.plans.values()) == result.tiles
    assert Counter(route.plan for route in result.routes) == result.plans
    covered = np.zeros(picture.shape[:2], int)
    for route in result.routes:
        covered[route.y : route.y + route.height, route.x : route.x + route.width] += 1
    assert (covered == 1).all()
    spent = sum(route.area * route.macs_per_pixel for route in result.routes)
    assert spent / covered.size == pytest.approx(result.macs_per_pixel)
    costs = {m.name: m.macs_per_pixel for m in denoiser.weights.card.plans}
    assert costs[used[-1]] < result.macs_per_pixel < costs[used[0]]
    first, last = (denoiser(picture, name, sigma=0.1) for name in (used[0], used[-1]))
    assert np.array_equal(result.image[:40, :40], first[:40, :40])
    assert np.array_equal(result.image[-40:, -40:], last[-40:, -40:])


def test_shapes_that_ran_before_cost_no_more(denoiser: grainwise.Denoiser) -> None:
    assert denoiser.costs is not None
    plans = {plan: replace(cost, start=0.2, per_shape=0.05) for plan, cost in denoiser.costs.plans.items()}
    denoiser.costs = replace(denoiser.costs, plans=plans)

    def seconds(height: int, width: int) -> float:
        told = denoiser.forecast((height, width), 0, "fast", sigma=0.1).seconds_network
        assert told is not None
        return told

    cold = seconds(120, 160)
    denoiser(noisy(120, 160), "fast", sigma=0.1)
    assert cold - seconds(120, 160) == pytest.approx(0.25)
    tiles = seconds(120, 168) - seconds(120, 160)
    assert tiles == pytest.approx(0.05, abs=0.01)
    for width in range(MOST_SHAPES):
        denoiser(noisy(8, 8 + width), "fast", sigma=0.1)
    assert cold - seconds(120, 160) == pytest.approx(0.2)


def test_what_cannot_be_met_is_refused_before_any_work(denoiser: grainwise.Denoiser) -> None:
    told: list[float] = []
    with pytest.raises(BudgetError, match=r"800x600 pixels take at least 0\.\d+ s") as caught:
        denoiser(noisy(), max_seconds=0.01, progress=told.append)
    assert told == []
    least = float(str(caught.value).split("at least ")[1].split(" s ")[0])
    assert denoiser.restore(noisy(), max_seconds=least) is not None


def test_without_noise_there_is_nothing_to_limit(denoiser: grainwise.Denoiser) -> None:
    result = denoiser.restore(noisy(), strength=0, max_seconds=5)
    assert result.tiles == 0
    assert result.plans == {}


@pytest.mark.parametrize("wrong", [0, -3, float("inf"), "fast"])
def test_wrong_limits_are_refused(denoiser: grainwise.Denoiser, wrong: object) -> None:
    with pytest.raises(BudgetError, match="max_seconds"):
        denoiser(noisy(8, 8), max_seconds=wrong)  # type: ignore[arg-type]


def test_memory_and_time_together(denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    tight = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32", max_memory=20)
    tight.costs = denoiser.costs
    roomy = denoiser.restore(noisy(), "best", sigma=0.1, max_seconds=100)
    result = tight.restore(noisy(), "best", sigma=0.1, max_seconds=100)
    assert result.tiles > roomy.tiles
    assert np.array_equal(result.image, roomy.image)
