"""Routers that benchmarks/adaptive.py taught tell which pictures need a dear plan."""

from typing import Any

import pytest
import torch
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError

training, routing = benchmark("adaptive_training"), benchmark("adaptive_networks")
fit_gain_router, fit_gate_router = training.fit_gain_router, training.fit_gate_router

PLANS = ("cheap", "middle", "dear")
COSTS = torch.tensor([1e4, 3e4, 9e4])


def lessons(count: int = 200, seed: int = 0) -> tuple[Any, torch.Tensor]:
    """The first channel and the first texture feature say what a dear plan gains."""
    generator = torch.Generator().manual_seed(seed)
    need = torch.rand(count, generator=generator)
    sigma = 0.02 + 0.2 * torch.rand(count, generator=generator)
    texture, tap, energy = (torch.rand(count, size, generator=generator) for size in (routing.TEXTURE, 8, 8))
    texture[:, 0] = tap[:, 0] = need
    energy += tap.square()
    above = 8 + torch.rand(count, generator=generator)
    psnr = torch.stack([above, above + 0.5 * need, above + need], 1) - 20 * sigma.log10()[:, None]
    return routing.Reading(sigma, texture, tap, energy), psnr


@pytest.mark.parametrize("reads", [("texture",), ("tap",), ("texture", "tap")])
def test_a_gain_router_foretells_gains_and_errors(reads: tuple[str, ...]) -> None:
    router = fit_gain_router(*lessons(), PLANS, reads=reads, hidden=16, members=2, steps=300)
    seen, psnr = lessons(100, seed=1)
    losses = router(seen)
    gains, wanted = losses[:, :1] - losses, psnr - psnr[:, :1]
    assert float((gains - wanted).abs().mean()) < 0.5 * float((wanted - wanted.mean(0)).abs().mean())
    assert float((losses + psnr).abs().mean()) < 0.6


def test_one_that_reads_the_level_alone_tells_the_mean_gain() -> None:
    seen, psnr = lessons()
    router = fit_gain_router(seen, psnr, PLANS, reads=(), hidden=4, members=1, steps=300)
    losses = router(seen)
    assert float((losses[:, 0] - losses[:, 2]).mean()) == pytest.approx(
        float((psnr[:, 2] - psnr[:, 0]).mean()), abs=0.05
    )


def test_a_gate_sends_those_that_need_it_to_the_dear_plan() -> None:
    router = fit_gate_router(*lessons(), PLANS, COSTS, 4e4, steps=300)
    seen, _ = lessons(100, seed=1)
    losses = router(seen)
    needy = seen.tap[:, 0] > 0.6
    dear = losses[:, 0] - losses[:, 2]
    assert float(dear[needy].mean()) > float(dear[~needy].mean()) + 1


def test_the_same_seed_gives_the_same_router_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, other = (fit_gate_router(*lessons(), PLANS, COSTS, 4e4, steps=5) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_psnrs_that_do_not_fit_are_refused() -> None:
    seen, psnr = lessons()
    with pytest.raises(InputError, match="every plan"):
        fit_gain_router(seen, psnr[:, :2], PLANS)
    with pytest.raises(InputError, match="at least 1, got 0"):
        fit_gain_router(seen, psnr, PLANS, channels=0)
    with pytest.raises(InputError, match="at least 2 pictures"):
        fit_gate_router(*(lessons(1)), PLANS, COSTS, 4e4)
