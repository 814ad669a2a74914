"""Samplers of sub-networks, for spaces of a few layers and of many."""

import math

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.danet import DANet
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.network import Network
from grainwise.networks.vdnet import VDNet
from grainwise.training.samplers import (
    POOL,
    IidSampler,
    MixedSampler,
    PlanSampler,
    PositionSampler,
    SamplerName,
    sampler_of,
)

NAMES: tuple[SamplerName, ...] = ("stratified", "global", "iid", "mixed")


def large(kind: type[Network]) -> Network:
    with torch.device("meta"):
        return kind()


NETWORKS = {
    "half_unet": HalfUNet(),
    **{kind.__name__.lower(): large(kind) for kind in (VDNet, DANet, MPRNet)},
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_draws_plans_of_the_space_but_its_ends(name: SamplerName, network: Network) -> None:
    sampler = sampler_of(name, network, jitter=4)
    for count in (0, 1, 2, 3):
        plans = sampler.draw(count, np.random.default_rng(0))
        assert len(plans) == count
        assert plans == sampler.draw(count, np.random.default_rng(0))
        for plan in plans:
            network.space.check(plan)
            assert plan not in (network.space.narrowest, network.space.widest)


def log_costs(name: SamplerName, network: Network, draws: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    plans = sampler_of(name, network, jitter=8).draw(draws, generator) if name != "stratified" else []
    if name == "stratified":
        sampler = sampler_of(name, network, jitter=8)
        plans = [plan for _ in range(draws // 2) for plan in sampler.draw(2, generator)]
    return np.log([network.macs_per_pixel(plan) for plan in plans])


def test_the_papers_draws_stay_in_the_middle_and_the_others_do_not() -> None:
    network = NETWORKS["danet"]
    ends = [math.log(network.macs_per_pixel(plan)) for plan in (network.space.narrowest, network.space.widest)]
    reach = {name: np.ptp(log_costs(name, network, 300)) / (ends[1] - ends[0]) for name in NAMES}
    assert reach["iid"] < 0.45
    assert min(reach["stratified"], reach["global"]) > 0.75
    costs = np.exp(log_costs("iid", network, 2000))
    assert 55e3 < costs.min() < 100e3
    assert 200e3 < costs.max() < 295e3


def test_strata_are_even_in_a_space_of_many_layers() -> None:
    network = NETWORKS["vdnet"]
    sampler = PlanSampler(network, jitter=8)
    assert len(sampler.plans) <= POOL
    assert np.all(np.diff(sampler.costs) >= 0)
    costs = log_costs("stratified", network, 800)
    shares, _ = np.histogram(costs, bins=4, range=(sampler.costs[0], sampler.costs[-1]))
    assert shares.min() > 0.12 * shares.sum()


def test_layers_with_fewer_widths_keep_pace() -> None:
    network = NETWORKS["vdnet"]
    for plan in PlanSampler(network, jitter=0).plans:
        places = [(plan[dim.name] - dim.narrowest) / (dim.widest - dim.narrowest) for dim in network.space.dims]
        assert max(places) - min(places) < 0.25


def test_spread_bounds_how_unlike_the_layers_are() -> None:
    space = NETWORKS["mprnet"].space
    for spread in (0.0, 0.2):
        for plan in PositionSampler(space, spread).draw(50, np.random.default_rng(0)):
            steps = [8 / (dim.widest - dim.narrowest) for dim in space.dims]
            places = [(plan[d.name] - d.narrowest) / (d.widest - d.narrowest) for d in space.dims]
            assert max(places) - min(places) <= 2 * spread + max(steps) + 1e-9


def test_the_mixed_sampler_is_half_of_each() -> None:
    network = NETWORKS["vdnet"]
    mixed = MixedSampler(network, 8)
    plans = mixed.draw(3, np.random.default_rng(5))
    generator = np.random.default_rng(5)
    assert plans == mixed.stratified.draw(2, generator) + mixed.iid.draw(1, generator)


def test_a_network_of_one_width_has_nothing_to_sample() -> None:
    single = HalfUNet(widths=((16,), (16,)), blocks=(1, 1))
    for name in NAMES:
        with pytest.raises(InputError, match="nothing to sample"):
            sampler_of(name, single, jitter=1)
    with pytest.raises(InputError, match="nothing to sample"):
        IidSampler(HalfUNet(widths=((16, 24), (16,)), blocks=(1, 1)).space)
    with pytest.raises(UnknownNameError, match="sampler"):
        sampler_of("even", single, jitter=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="spread"):
        PositionSampler(NETWORKS["vdnet"].space, 2)
