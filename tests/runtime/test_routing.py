"""Budgets are kept and spent where they gain most."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from grainwise.core.errors import BudgetError, InputError
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.mdrn import MDRN, SIZES
from grainwise.networks.network import Network
from grainwise.networks.picture_router import GainRouter, GateRouter, PictureRouter
from grainwise.runtime.routing import Glance, PictureRoutes, allocate


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


PLANS = ("level0=16,level1=16", "level0=24,level1=16", "level0=24,level1=24")


def weights(network: Network | None = None) -> Weights:
    torch.manual_seed(0)
    made = HalfUNet(widths=((16, 24), (16, 24)), blocks=(1, 1)).eval() if network is None else network
    card = Card(
        licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=(MeasuredPlan(PLANS[0], 1),)
    )
    return Weights("small", made, card)


def routes(router: PictureRouter | None = None) -> PictureRoutes:
    return PictureRoutes(weights(), router or GainRouter(PLANS, 16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_glance_is_the_routers_word_on_the_picture(dtype: type, channels: int) -> None:
    made = routes()
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    picture = (np.random.default_rng(0).random((300, 90, channels)) * white).astype(dtype)
    before = picture.copy()
    found = made.glance(picture, 0.1)
    unit = torch.from_numpy(picture.astype(np.float32) / white).permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        wanted = made.router(made.reader(unit, torch.tensor([0.1])))[0]
    np.testing.assert_allclose(found.losses, wanted.numpy(), rtol=1e-4)
    assert found.pixels == 300 * 90
    assert np.array_equal(picture, before)


@given(st.integers(0, 999), st.integers(1, 12), st.floats(0, 1.2), st.sampled_from(["error", "psnr"]))
def test_the_mean_over_all_pixels_keeps_the_budget(seed: int, count: int, share: float, objective: str) -> None:
    made, generator = routes(), np.random.default_rng(seed)
    glances = [Glance(-25 - np.sort(generator.random(3)), int(generator.integers(1, 10**7))) for _ in range(count)]
    budget = made.costs[0] + share * (made.costs[-1] - made.costs[0])
    found = made.choose(glances, budget, objective)  # type: ignore[arg-type]
    spent = [made.costs[made.plans.index(plan)] for plan in found.plans]
    assert len(found.plans) == count
    assert found.macs_per_pixel <= budget * (1 + 1e-9)
    assert found.macs_per_pixel == pytest.approx(np.average(spent, weights=[glance.pixels for glance in glances]))


def test_the_objective_says_whether_noisy_pictures_matter_more() -> None:
    made = routes()
    noisy, quiet = Glance(np.array([-20.0, -20.2, -20.3]), 10_000), Glance(np.array([-40.0, -40.3, -40.6]), 10_000)
    budget = float(made.costs[[0, 2]].mean())
    dear, cheap = made.plans[-1], made.plans[0]
    assert made.choose([noisy, quiet], budget, "error").plans == (dear, cheap)
    assert made.choose([noisy, quiet], budget, "psnr").plans == (cheap, dear)


def test_a_gate_serves_by_the_same_contract_but_tells_no_errors() -> None:
    made = routes(GateRouter(PLANS, 16).eval())
    picture = np.random.default_rng(0).random((70, 80, 3), np.float32)
    glances = [made.glance(picture, level) for level in (0.05, 0.2)]
    assert len(made.choose(glances, made.costs[1], "psnr").plans) == 2
    with pytest.raises(InputError, match="one of psnr, got 'error'"):
        made.choose(glances, made.costs[1])


def test_what_cannot_be_routed_is_refused() -> None:
    made = routes()
    with pytest.raises(InputError, match="above 0"):
        made.glance(np.zeros((64, 64, 3), np.float32), 0.0)
    with pytest.raises(InputError, match="got none"):
        made.choose([], 1e5)
    with pytest.raises(InputError, match="got 'ssim'"):
        made.choose([Glance(np.zeros(3), 1)], 1e5, "ssim")  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="cheapest plan costs"):
        made.choose([Glance(np.zeros(3), 1)], 1)
    with pytest.raises(InputError, match="no first convolution"):
        PictureRoutes(weights(MDRN(**SIZES["tiny"])), GainRouter(PLANS, 16))
