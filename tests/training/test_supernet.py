"""The sandwich rule with in-place synergy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grainwise.core.errors import InputError
from grainwise.data.crops import NoisyCrops
from grainwise.networks.half_unet import HalfUNet
from grainwise.training.distances import DISTANCES
from grainwise.training.samplers import PlanSampler
from grainwise.training.seeds import PLANS, seed_of
from grainwise.training.supernet import SupernetMethod, SupernetSettings


def test_every_stratum_of_cost_is_drawn_alike() -> None:
    net = HalfUNet()
    sampler = PlanSampler(net, jitter=1)
    generator = np.random.default_rng(0)
    costs = [[math.log(net.macs_per_pixel(plan)) for plan in sampler.draw(2, generator)] for _ in range(400)]
    middle = (sampler.costs[0] + sampler.costs[-1]) / 2
    slack = (sampler.costs[-1] - sampler.costs[0]) / 16
    assert all(low <= middle + slack and high >= middle - slack for low, high in costs)
    shares, _ = np.histogram(np.concatenate(costs), bins=4, range=(sampler.costs[0], sampler.costs[-1]))
    assert shares.min() > 0.15 * shares.sum()


def test_jitter_bounds_how_unlike_the_levels_are() -> None:
    net = HalfUNet(widths=((16, 24, 32, 48, 64), (32, 40, 48, 64, 80), (48, 64, 80, 96, 112)))
    steps = {dim.name: {width: i for i, width in enumerate(dim.widths)} for dim in net.space.dims}
    for jitter in (0, 1, 2):
        spreads = [[steps[name][width] for name, width in plan.items()] for plan in PlanSampler(net, jitter).plans]
        assert max(max(s) - min(s) for s in spreads) <= 2 * jitter
    assert len(PlanSampler(net, 0).plans) == 3


@pytest.mark.parametrize("subnets", [2, 3, 4, 5])
def test_each_learns_from_the_right_teacher(network: HalfUNet, data: NoisyCrops, subnets: int) -> None:
    batch = data.batch(32, 2, (0, 0))
    method = SupernetMethod(network, subnets=subnets, jitter=1, seed=3)
    losses = method(batch, step=7)
    plans = method.sampler.draw(subnets - 2, np.random.default_rng(seed_of(3, 7, PLANS)))
    space = network.space
    outputs = [network(batch.noisy, plan, sigma=batch.sigma) for plan in (space.widest, *plans)]
    smallest = network(batch.noisy, space.narrowest, sigma=batch.sigma)
    expected = {"largest": F.l1_loss(outputs[0], batch.clean)}
    expected |= {f"random{i}": F.l1_loss(out, outputs[0]) for i, out in enumerate(outputs[1:])}
    expected["smallest"] = F.l1_loss(smallest, torch.stack(outputs).mean(0))
    assert set(losses) == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    torch.testing.assert_close(losses["loss"], torch.stack(list(expected.values())).sum())


def test_teachers_are_detached(network: HalfUNet, data: NoisyCrops) -> None:
    batch = data.batch(32, 2, (0, 0))
    method = SupernetMethod(network, subnets=2)
    method(batch, 0)["smallest"].backward()
    narrow = network.space.narrowest["level0"]
    assert network.tail.weight.grad[:, :narrow].abs().sum() > 0
    assert network.tail.weight.grad[:, narrow:].abs().sum() == 0


def test_synergy_can_start_later_or_not_at_all(network: HalfUNet, data: NoisyCrops) -> None:
    batch = data.batch(32, 2, (0, 0))
    clean = F.l1_loss(network(batch.noisy, network.space.narrowest, sigma=batch.sigma), batch.clean)
    torch.testing.assert_close(SupernetMethod(network, synergy=False)(batch, 5)["smallest"], clean)
    late = SupernetMethod(network, synergy_from=5)
    torch.testing.assert_close(late(batch, 4)["smallest"], clean)
    assert late(batch, 5)["smallest"] < clean


def test_distances_have_their_zero_and_closed_form() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert DISTANCES["l1"](x, x) == 0
    assert DISTANCES["charbonnier"](x, x) == pytest.approx(1e-3)
    assert DISTANCES["log_mse"](x, x + 0.1) == pytest.approx(math.log(0.01 + 1e-5), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"subnets": 0}, {"distance": "l3"}, {"clean_share": 2}, {"sampler": "even"}])
def test_wrong_settings_are_refused(network: HalfUNet, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SupernetSettings(**wrong).build(network, seed=0)


def test_in_place_distillation_has_one_teacher(network: HalfUNet, data: NoisyCrops) -> None:
    batch = data.batch(32, 2, (0, 0))
    losses = SupernetMethod(network, subnets=4, ensemble=False)(batch, 0)
    space = network.space
    largest, smallest = (network(batch.noisy, plan, sigma=batch.sigma) for plan in (space.widest, space.narrowest))
    torch.testing.assert_close(losses["smallest"], F.l1_loss(smallest, largest))
    together = SupernetMethod(network, subnets=4)(batch, 0)
    assert not torch.isclose(together["smallest"], losses["smallest"])
    torch.testing.assert_close(together["random0"], losses["random0"])


def test_the_clean_picture_may_have_a_share(network: HalfUNet, data: NoisyCrops) -> None:
    batch = data.batch(32, 2, (0, 0))
    taught, own, mixed = (
        SupernetMethod(network, synergy=synergy, clean_share=share)(batch, 0)
        for synergy, share in ((True, 0.0), (False, 0.0), (True, 0.25))
    )
    for name in ("random0", "random1", "smallest"):
        torch.testing.assert_close(mixed[name], 0.75 * taught[name] + 0.25 * own[name])
    torch.testing.assert_close(mixed["largest"], own["largest"])


def test_a_network_of_one_width_has_nothing_to_sample() -> None:
    with pytest.raises(InputError, match="nothing to sample"):
        PlanSampler(HalfUNet(widths=((16,), (16,)), blocks=(1, 1)))


def test_one_sub_network_is_a_static_training(network: HalfUNet, data: NoisyCrops) -> None:
    batch = data.batch(32, 2, (0, 0))
    losses = SupernetMethod(network, subnets=1)(batch, 0)
    assert set(losses) == {"loss", "largest"}
    expected = F.l1_loss(network(batch.noisy, network.space.widest, sigma=batch.sigma), batch.clean)
    torch.testing.assert_close(losses["loss"], expected)
    static = HalfUNet(widths=((16,), (16,)), blocks=(1, 1))
    assert set(SupernetMethod(static, subnets=1)(batch, 0)) == {"loss", "largest"}
