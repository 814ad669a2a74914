"""A model of one plan."""

import pytest
import torch

from grainwise.core.errors import BudgetError
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.mdrn import MDRN
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(0)
    network = MDRN(widths=((16,), (16,), (16,), (16,)), blocks=1).eval().requires_grad_(False)
    plan = network.space.widest
    measured = MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, "best")
    card = Card(licence="CC0", data=(), recipe="", commit="0", steps=1, seconds=1.0, device="cpu", plans=(measured,))
    return Weights("one", network, card)


def test_it_answers_to_every_name_but_not_to_too_small_a_number(weights: Weights) -> None:
    chosen = {choose_plan(weights, budget).plan for budget in ("fast", "balanced", "best", 1e9)}
    assert chosen == {weights.network.space.widest}
    with pytest.raises(BudgetError, match="the cheapest plan"):
        choose_plan(weights, 10)


def test_it_denoises_at_every_name(weights: Weights) -> None:
    image = torch.rand(1, 3, 180, 260)
    denoiser = Denoiser(weights, device="cpu", dtype="float32")
    whole = denoiser.restore(image, sigma=0.1)
    assert torch.equal(denoiser.restore(image, "fast", sigma=0.1).image, whole.image)
    assert not torch.equal(whole.image, image)
