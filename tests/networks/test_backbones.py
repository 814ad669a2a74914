"""VDNet, DANet and MPRNet against the exact integers of their papers' code, and the routing spaces of DDS-Net."""

import pytest
import torch
from torch import nn

from grainwise.core.errors import InputError
from grainwise.networks.danet import Critic, DANet, NoiseGenerator
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.ratios import RatioDims, RatioNetwork, on_grid
from grainwise.networks.vdnet import NoiseVarianceNet, VDNet
from grainwise.primitives.hyper_conv import HYPER


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("network", "config", "count", "macs"),
    [
        (VDNet, {"base": 64}, 7_700_742, 564_288),
        (DANet, {"base": 32}, 9_153_571, 201_408),
        (MPRNet, {}, 15_741_025, 8_741_632),
    ],
)
def test_ratio_1_is_the_published_network(
    network: type[RatioNetwork], config: dict[str, int], count: int, macs: int
) -> None:
    net = network(**config, ratios=(1, 1))
    plan = net.plan_at(1)
    assert net.space.narrowest == net.space.widest == plan
    assert parameters(net.extract(plan)) == parameters(net) == count
    assert net.macs_per_pixel(plan) == macs


def test_the_parts_that_only_train_have_their_published_size() -> None:
    assert parameters(NoiseVarianceNet()) == 116_038
    assert parameters(NoiseGenerator()) == 9_153_859
    with torch.device("meta"):
        assert parameters(Critic()) == 44_703_745


@pytest.mark.parametrize(
    ("network", "config", "free", "steps", "narrowest", "widest"),
    [
        (VDNet, {"base": 32}, 17, 137, 7.8e3, 318e3),
        (VDNet, {"base": 64}, 17, 269, 25.6e3, 1.27e6),
        (VDNet, {"base": 32, "tied": True}, 4, 40, 7.8e3, 318e3),
        (DANet, {"base": 32}, 26, 324, 10.0e3, 452e3),
        (DANet, {"base": 32, "tied": True}, 5, 82, 10.0e3, 452e3),
        (MPRNet, {}, 70, 676, 0.38e6, 19.7e6),
    ],
)
def test_the_routing_space_is_that_of_the_paper(
    network: type[RatioNetwork], config: dict[str, object], free: int, steps: int, narrowest: float, widest: float
) -> None:
    with torch.device("meta"):
        net = network(**config)
    assert len(net.space.dims) == free
    assert sum(-(-(dim.widest - dim.narrowest) // 16) for dim in net.space.dims) == steps
    assert net.macs_per_pixel(net.space.narrowest) == pytest.approx(narrowest, rel=6e-3)
    assert net.macs_per_pixel(net.space.widest) == pytest.approx(widest, rel=6e-3)


def test_the_widths_that_tables_of_the_paper_hit() -> None:
    with torch.device("meta"):
        vdnet, mprnet = VDNet(base=32, tied=True), MPRNet()
    assert vdnet.macs_per_pixel(
        vdnet.space.plan({"level0": 8, "level1": 24, "level2": 48, "level3": 88})
    ) == pytest.approx(16_830, abs=10)
    assert mprnet.macs_per_pixel(mprnet.plan_at(0.75)) == pytest.approx(5.389e6, rel=1e-4)
    assert mprnet.macs_per_pixel(mprnet.plan_at(0.338)) == pytest.approx(1.018e6, rel=0.02)


@pytest.mark.parametrize(
    ("width", "expected"), [(0.2, 8), (6.4, 8), (9.6, 8), (12, 16), (12.8, 16), (60, 64), (132, 136), (20.1, 24)]
)
def test_widths_round_to_the_nearest_8(width: float, expected: int) -> None:
    assert on_grid(width) == expected


@pytest.mark.parametrize("network", [VDNet(base=16), DANet(base=8), MPRNet(base=8, step=8, step_full=8)])
def test_an_untrained_attention_head_is_the_identity(network: RatioNetwork) -> None:
    config = {**network.config, "attention": True}
    attended = type(network)(**config)
    missing, unexpected = attended.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert attended.attention is not None
    plan = network.plan_at(0.5)
    x = torch.rand(2, 3, 21, 34)
    torch.testing.assert_close(attended(x, plan), network(x, plan))
    extra = 27 * (attended.tap_channels - network.tap_width(plan))
    assert attended.macs_per_pixel(plan) == network.macs_per_pixel(plan) + extra
    assert not attended.facts.exact_tiles
    nn.init.ones_(attended.attention.expand.weight)
    moved = attended(x, plan)
    assert not torch.allclose(moved, network(x, plan))
    assert torch.equal(moved, attended.extract(plan)(x))


@pytest.mark.parametrize("network", [VDNet(base=16), DANet(base=8), MPRNet(base=8, step=8, step_full=8)])
def test_a_wide_tap_serves_a_narrow_plan(network: RatioNetwork) -> None:
    plan, x = network.plan_at(0.5), torch.rand(2, 3, 24, 17)
    tap = network.tap(x, network.space.widest)
    assert tap.shape[:2] == (2, network.tap_channels)
    narrow = tap[:, : network.tap_width(plan)]
    torch.testing.assert_close(network.from_tap(narrow, x, plan), network(x, plan))


def test_vdnet_tells_mean_and_variance() -> None:
    net = VDNet(base=8)
    plan, x = net.plan_at(1), torch.rand(1, 3, 19, 22)
    mean, log_variance = net.moments(x, plan)
    assert mean.shape == log_variance.shape == x.shape
    assert torch.equal(torch.cat([mean, log_variance], 1), net.predict(x, plan))
    assert torch.equal(net(x, plan), x - mean)


def test_vdnet_starts_as_its_paper_does() -> None:
    net = VDNet(base=64)
    conv = net.unet.encoder[1].conv2
    assert conv.bias.abs().max() == 0
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 192)) ** 0.5, rel=0.02)
    assert net.unet.up[0].bias.abs().max() > 0


def test_mprnet_gives_three_pictures() -> None:
    net = MPRNet(base=8, step=8, step_full=8)
    plan, x = net.plan_at(1), torch.rand(2, 3, 18, 23)
    stages = net.stages(x, plan)
    assert all(stage.shape == x.shape for stage in stages)
    assert torch.equal(net(x, plan), stages[0])


def test_an_extracted_mprnet_has_an_activation_of_its_own() -> None:
    net = MPRNet(base=8, step=8, step_full=8)
    plan, x = net.plan_at(1), torch.rand(1, 3, 16, 16)
    plain = net.extract(plan)
    before = plain(x)
    assert plain.activation is plain.shallow1.block.activation
    nn.init.zeros_(net.activation.weight)
    assert torch.equal(plain(x), before)
    plain.double()
    assert net.activation.weight.dtype is torch.float32


def test_the_generator_and_the_critic() -> None:
    clean = torch.rand(2, 3, 32, 48)
    noisy = NoiseGenerator(base=8)(clean, torch.randn(2, 1, 32, 48))
    assert noisy.shape == clean.shape
    critic = Critic(base=8)
    pair = torch.rand(2, 3, 128, 128)
    assert critic(pair, pair).shape == (2,)
    with pytest.raises(InputError, match="crops of 128"):
        critic(clean, noisy)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base": 12}, "multiple of 8"),
        ({"ratios": (1.5, 0.2)}, "least and the greatest"),
        ({"ratios": (0, 1)}, "least and the greatest"),
    ],
)
def test_wrong_widths_are_refused(config: dict[str, object], message: str) -> None:
    for network in (VDNet, DANet, MPRNet):
        with pytest.raises(InputError, match=message):
            network(**config)


def test_ratios_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="ratio lies in"):
        VDNet(base=8).plan_at(2)
    dims = RatioDims(tied=True)
    dims("a", "group", 8)
    with pytest.raises(InputError, match="base widths 8 and 16"):
        dims("b", "group", 16)


def test_convolutions_that_take_a_level_are_refused() -> None:
    for network in (VDNet, DANet, MPRNet):
        with pytest.raises(InputError, match="is blind"):
            network(convs=HYPER)
