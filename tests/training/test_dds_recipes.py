"""DDS-Net's recipes: the settings of the papers, and all three stages in a row on a small network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.data.crops import NoisyCrops, NoisyCropSettings
from grainwise.networks.danet import DANet
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.vdnet import VDNet
from grainwise.training.dds_stages import OfItsOwn
from grainwise.training.gating import GateSettings, calibrate, gate_loop, score, train_gate
from grainwise.training.held_out import HeldOut
from grainwise.training.loop import train
from grainwise.training.recipes import get_recipe, network_of
from grainwise.training.slimming import SlimmingConfig, slim


@pytest.mark.parametrize(
    ("name", "batch", "steps", "rates"),
    [
        ("dds-vdnet", 64, 250_000, {0: 1, 49_999: 1, 50_000: 0.5, 249_999: 0.5**7}),
        ("dds-danet", 32, 700_000, {0: 1, 199_999: 1, 200_000: 0.5, 699_999: 0.5**7}),
        ("dds-mprnet", 16, 480_000, {17_999: 1, 18_000: 1, 479_999: 0.266}),
    ],
)
def test_the_schedules_are_those_of_the_papers(name: str, batch: int, steps: int, rates: dict[int, float]) -> None:
    recipe = get_recipe(name)
    loop = recipe.loop
    assert (loop.batch, loop.steps, loop.crops, loop.learning_rate) == (batch, steps, ((0, 128),), 2e-4)
    assert recipe.method.subnets == 4
    assert recipe.method.synergy
    assert recipe.config["attention"]
    for step, rate in rates.items():
        assert loop.rate(step) == pytest.approx(rate, rel=1e-2)


STARTS = ("steps", "start_at_prior", "start_at_input", "mixup_from")
"""What a short run may have of its own."""


@pytest.mark.parametrize("name", ["dds-vdnet-small", "dds-danet-small", "dds-mprnet-small"])
def test_small_recipes_keep_the_method_and_are_small(name: str) -> None:
    recipe, full = get_recipe(name), get_recipe(name.removesuffix("-small"))
    settings = [{k: v for k, v in vars(one.method).items() if k not in {*STARTS, "rounding"}} for one in (recipe, full)]
    assert settings[0] == settings[1]
    assert type(recipe.method) is type(full.method)
    if name == "dds-mprnet-small":
        assert recipe.method.mixup_from / recipe.loop.steps == full.method.mixup_from / full.loop.steps == 30 / 480
    if name != "dds-vdnet-small":
        assert (recipe.method.rounding, full.method.rounding) == (0.04, 0)
    assert recipe.crops == full.crops
    network = network_of(recipe)
    assert isinstance(network, RatioNetwork)
    assert network.attention is not None
    assert network.macs_per_pixel(network.space.widest) < 1.1e6
    changed = get_recipe(name, ["method.sampler=iid", "method.synergy=false"])
    assert (changed.method.sampler, changed.method.synergy) == ("iid", False)


def test_the_small_vdnet_starts_at_the_noisy_picture() -> None:
    recipe = get_recipe("dds-vdnet-small", ['config={"base":8,"ratios":[1,2],"attention":true}'])
    network = network_of(recipe)
    assert isinstance(network, VDNet)
    recipe.method.build(network, seed=0)
    x = torch.rand(1, 3, 16, 16)
    for plan in (network.space.narrowest, network.space.widest):
        mean, log_variance = network.moments(x, plan)
        assert mean.abs().max() == 0
        torch.testing.assert_close(log_variance.exp(), torch.full_like(mean, 1e-6))
    assert not get_recipe("dds-vdnet").method.start_at_prior
    with pytest.raises(InputError, match="a VDNet starts at the prior"):
        recipe.method.build(network_of(get_recipe("default")), seed=0)


def test_every_sub_network_of_the_small_danet_starts_at_its_input_with_the_same_features() -> None:
    torch.manual_seed(0)
    recipe = get_recipe("dds-danet-small", ['config={"base":8,"ratios":[1,3],"attention":true}'])
    network = network_of(recipe)
    assert isinstance(network, DANet)
    assert recipe.method.build(network, seed=0).network is network
    x = torch.rand(1, 3, 32, 32)
    ends = (network.space.narrowest, network.space.widest)
    for plan in ends:
        assert torch.equal(network(x, plan), x)
    first = network.space.narrowest["level0_dec2"]
    with torch.no_grad():
        network.unet.last.weight[:, :first].normal_()
        narrow, wide = (network(x, plan) - x for plan in ends)
    assert 0.05 < narrow.std() < 20
    torch.testing.assert_close(narrow, wide, atol=1e-4, rtol=1e-4)
    assert not get_recipe("dds-danet").method.start_at_input


def test_every_stage_of_the_small_mprnet_starts_at_its_input() -> None:
    recipe = get_recipe("dds-mprnet-small")
    network = network_of(recipe)
    assert isinstance(network, MPRNet)
    recipe.method.build(network, seed=0)
    x = torch.rand(1, 3, 16, 16)
    for plan in (network.space.narrowest, network.space.widest):
        for stage in network.stages(x, plan):
            assert torch.equal(stage, x)
    with pytest.raises(InputError, match="of danet and mprnet"):
        recipe.method.build(network_of(get_recipe("default")), seed=0)


def test_a_balanced_vdnet_starts_with_the_same_features() -> None:
    changes = ['config={"base":8,"ratios":[1,3],"attention":true}', "method.balanced=true"]
    recipe = get_recipe("dds-vdnet-small", changes)
    network = network_of(recipe)
    assert isinstance(network, VDNet)
    recipe.method.build(network, seed=0)
    first = network.space.narrowest["level0_dec2"]
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        network.unet.last.weight[:, :first].normal_()
        narrow, wide = (network(x, plan) for plan in (network.space.narrowest, network.space.widest))
    torch.testing.assert_close(narrow, wide)


@pytest.mark.parametrize("name", ["start_at_input", "balanced"])
def test_first_values_are_refused_where_they_do_not_fit(name: str) -> None:
    recipe = get_recipe("dds-danet-small" if name == "start_at_input" else "dds-vdnet-small", [f"method.{name}=true"])
    method = recipe.method if name == "start_at_input" else replace(recipe.method, start_at_prior=False)
    with pytest.raises(InputError, match="of danet and mprnet|starts balanced"):
        method.build(network_of(get_recipe("default")), seed=0)
    with pytest.raises(InputError, match="both give first weights"):
        get_recipe(recipe.name, [f"method.{name}=true", "init=weights.safetensors"])


def test_a_gate_learns_from_pictures_of_its_own(data: NoisyCrops) -> None:
    first, again = (OfItsOwn(data).batch(32, 2, (0, 7, 0)) for _ in range(2))
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.clean, data.batch(32, 2, (0, 7, 0)).clean)
    recipe = get_recipe("dds-vdnet")
    assert recipe.stages[2].loop.seed == recipe.loop.seed


def test_the_three_stages_in_a_row(tmp_path: Path, data: NoisyCrops) -> None:
    small = {"base": 8, "ratios": [1, 2], "tied": True, "attention": True}
    recipe = get_recipe("dds-vdnet-small", ["method.variance=known", "method.eps2=1e-4", "loop.learning_rate=1e-3"])
    recipe = replace(recipe, config=small, crops=NoisyCropSettings(sigma=(0.1, 0.1), shares=(1.0,), grey=0.0))
    loop = replace(
        recipe.loop, steps=40, batch=4, crops=((0, 32),), warmup=5, ema=0.0, device="cpu", checkpoint_every=40
    )
    network = network_of(recipe)
    assert isinstance(network, RatioNetwork)
    judge = HeldOut(data, "gaussian", size=32, count=8)
    before = judge.psnr(network, network.space.widest)
    result = train(loop, recipe.method.build(network, seed=0), data, tmp_path / "supernet")
    network.load_state_dict(result.weights)
    space = slim(network, judge, SlimmingConfig(), tmp_path / "slim")
    assert space.routes[0].psnr > before
    gated = GatedNetwork(network, [route.plan for route in space.thinned(3)])
    costs = gated.costs(32 * 32)
    budget = float(costs[0] + costs[-1]) / 2
    config = replace(
        gate_loop(epochs=2, epoch=4), batch=8, crops=((0, 32),), device="cpu", learning_rate=1e-2, checkpoint_every=8
    )
    train_gate(gated, GateSettings(budget=budget), config, data, tmp_path / "gate")
    found = calibrate(gated, judge.parts, budget)
    reached = score(gated, judge.parts)
    assert found.macs_per_pixel <= budget
    assert reached.macs_per_pixel == pytest.approx(found.macs_per_pixel, rel=1e-5)
    plain = gated.extract()
    with torch.no_grad():
        picture = judge.parts[0].noisy
        assert torch.equal(plain(picture), gated(picture))
