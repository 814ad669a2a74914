"""HyperRes, and what the paper compares it with: sizes as published, and the level's contract."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.network import Network
from grainwise.networks.registry import create_network, name_of
from grainwise.networks.tasks import LEVEL_RANGES

SMALL = {"blocks": 2, "stream": (16, 24), "inner": (8, 16)}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def trained(net: Network) -> Network:
    """Every weight moved from its start, slopes too."""
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.03)
    return net.eval().requires_grad_(False)


def test_the_published_network_is_built_exactly() -> None:
    net = HyperRes()
    plan = net.space.widest
    assert parameters(net) == 2_588_483
    plain = net.extract(plan, 0.5)
    assert parameters(plain) == 1_406_787
    assert net.macs_per_pixel(plan) == 380_016
    with FlopCounterMode(display=False) as counter:
        plain(torch.rand(1, 3, 16, 16))
    assert counter.get_total_flops() / 2 == 380_016 * 256
    leaves = {type(m) for m in plain.modules() if not list(m.children())}
    assert leaves == {nn.Conv2d}


@pytest.mark.parametrize(
    ("blocks", "merged", "stored"), [(1, 0.299, 0.373), (2, 0.373, 0.521), (4, 0.521, 0.816), (8, 0.816, 1.407)]
)
def test_small_networks_have_the_published_sizes(blocks: int, merged: float, stored: float) -> None:
    net = HyperRes(blocks=blocks)
    assert round(parameters(net) / 1e6, 3) == stored
    assert round(parameters(net.extract(net.space.widest, 0.0)) / 1e6, 3) == merged


def test_one_block_costs_what_the_sheet_says() -> None:
    net = HyperRes(blocks=1)
    assert net.macs_per_pixel(net.space.widest) == pytest.approx(103_500, abs=50)


def test_the_competitors_have_their_published_sizes() -> None:
    adafm = HyperRes(convs="adafm", conditioned="body", level_range=(15 / 255, 75 / 255))
    assert parameters(adafm) - 1_406_787 == 33 * 128
    assert round(parameters(adafm) / 1e6, 2) == 1.41
    assert parameters(adafm.extract(adafm.space.widest, 1.0)) == 1_406_787
    cfsnet = create_network("cfsnet")
    assert parameters(cfsnet) == 1_731_968
    assert cfsnet.macs_per_pixel(cfsnet.space.widest) == pytest.approx(1.48e6, rel=0.01)


def test_the_output_is_the_picture_not_a_residual() -> None:
    net = HyperRes(**SMALL).requires_grad_(False)
    net.tail.weight.zero_()
    net.tail.bias.fill_(0.25)
    out = net(torch.rand(1, 3, 7, 9), net.space.widest, 0.5)
    assert torch.equal(out, torch.full((1, 3, 7, 9), 0.25))


def test_a_residual_trunk_adds_the_picture_to_the_same_output() -> None:
    net, sum_of_both = trained(HyperRes(**SMALL)), HyperRes(**SMALL, residual=True).requires_grad_(False)
    sum_of_both.load_state_dict(net.state_dict())
    x, plan = torch.rand(2, 3, 7, 9), net.space.narrowest
    torch.testing.assert_close(sum_of_both(x, plan, 0.5), x + net(x, plan, 0.5))
    assert torch.equal(sum_of_both.extract(plan, 0.5)(x), sum_of_both(x, plan, 0.5))
    assert create_network("hyperres", sum_of_both.config).config == sum_of_both.config


def test_the_formula_of_the_trunk() -> None:
    net = trained(HyperRes(blocks=1, stream=(16,)))
    plain, x = net.extract(net.space.widest, 0.7), torch.rand(1, 3, 12, 10)

    def conv(name: str, y: torch.Tensor, stride: int = 1) -> torch.Tensor:
        layer = plain.get_submodule(name)
        return F.conv2d(y, layer.weight, layer.bias, stride, padding=1)

    first = conv("head", x, 2)
    block = first + conv("blocks.0.conv2", F.relu(conv("blocks.0.conv1", first)))
    up = F.relu(F.pixel_shuffle(conv("up", first + conv("body", block)), 2))
    torch.testing.assert_close(plain(x), conv("tail", F.relu(conv("smooth", up))))


@settings(max_examples=12)
@given(data=st.data())
def test_the_level_is_that_of_sigma(data: st.DataObject) -> None:
    net = trained(HyperRes(**SMALL))
    plan = data.draw(st.sampled_from([net.space.widest, net.space.narrowest]))
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    x, sigma = torch.rand(1, 3, height, width), torch.tensor([30 / 255])
    level = net.facts.level(sigma)
    assert float(level) == pytest.approx(30 / 75)
    out = net(x, plan, sigma=sigma)
    assert torch.equal(out, net(x, plan, level))
    assert torch.equal(out, net(x, plan, float(level)))
    assert torch.equal(out, net.extract(plan)(x, sigma=sigma))
    assert torch.equal(out, net.extract(plan)(x, level))
    assert torch.equal(out, net.extract(plan, float(level))(x))
    assert not torch.equal(out, net(x, plan, 0.9))


@pytest.mark.parametrize("name", ["hyperres", "cfsnet", "half_unet"])
def test_levels_by_sample_and_pixel_agree_with_single_ones(name: str) -> None:
    config = {
        "hyperres": {**SMALL, "task": "dejpeg"},
        "cfsnet": {"blocks": 2, "width": 16, "task": "upscale"},
        "half_unet": {"widths": ((16,), (24,)), "blocks": (1, 1), "convs": "hyper-quadratic"},
    }[name]
    net = trained(create_network(name, config)).double()
    plan = net.space.narrowest
    x, levels = torch.rand(2, 3, 20, 28, dtype=torch.float64), torch.tensor([0.2, 0.9], dtype=torch.float64)
    told = net.facts.given(torch.tensor([0.1, 0.1]))
    alone = torch.cat(
        [net(x[i : i + 1], plan, float(levels[i]), **net.facts.given(torch.tensor([0.1]))) for i in (0, 1)]
    )
    torch.testing.assert_close(net(x, plan, levels, **told), alone)
    pixels = levels.view(2, 1, 1, 1).expand(2, 1, 20, 28)
    torch.testing.assert_close(net(x, plan, pixels, **told), alone)
    assert torch.equal(net.extract(plan)(x, pixels, **told), net(x, plan, pixels, **told))
    merged = net.extract(plan, 0.9).to(memory_format=torch.channels_last)
    torch.testing.assert_close(merged(x, **told)[1:], alone[1:])


def test_a_level_conditioned_half_unet_starts_as_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))
    net = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), convs="hyper")
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.endswith("_slope") for name in missing)
    x, sigma, plan = torch.rand(1, 3, 14, 18), torch.tensor([0.1]), net.space.narrowest
    assert torch.equal(net(x, plan, sigma=sigma), plain(x, plan, sigma=sigma))
    net = trained(net)
    level = float(net.facts.level(sigma))
    assert torch.equal(net(x, plan, sigma=sigma), net(x, plan, level, sigma=sigma))
    merged = net.extract(plan, level)
    assert torch.equal(merged(x, sigma=sigma), net(x, plan, sigma=sigma))
    assert {type(m) for m in merged.modules() if not list(m.children())} == {nn.Conv2d, nn.ConvTranspose2d}


@pytest.mark.parametrize("convs", ["hyper", "hyper-quadratic", "adafm", "scaled", "slim"])
@pytest.mark.parametrize("conditioned", ["blocks", "body", "residual"])
def test_every_kind_extracts_exactly_and_says_what_it_takes(convs: str, conditioned: str) -> None:
    net = trained(HyperRes(**SMALL, convs=convs, conditioned=conditioned))
    plan, x = net.space.narrowest, torch.rand(1, 3, 9, 12)
    at = (0.4,) if convs != "slim" else ()
    assert net.facts.needs_sigma == bool(at) == (net.facts.level_range is not None)
    out = net(x, plan, *at)
    assert torch.equal(out, net.extract(plan, *at)(x))
    assert torch.equal(out, net.extract(plan)(x, *at))
    takes = sum(1 for module in net.modules() if hasattr(module, "terms"))
    assert takes == {"blocks": 4, "body": 5, "residual": 3}[conditioned] * bool(at)


def test_a_weights_file_says_which_convolutions_and_levels(tmp_path: object) -> None:
    net = create_network("half_unet", {"widths": [[16], [16]], "blocks": [1, 1], "convs": "hyper"})
    other = HyperRes(**SMALL, task="dejpeg", channels=1, convs="adafm", conditioned="body")
    for network, plan in ((net, "level0=16,level1=16"), (other, "stream=16,inner=8")):
        card = Card(
            licence="CC0", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=(MeasuredPlan(plan, 1),)
        )
        path = tmp_path / f"{name_of(network)}.safetensors"
        save_weights(path, network, card)
        again = load_weights(path).network
        assert again.config == network.config
        assert again.facts == network.facts


def test_the_published_start_is_reproduced() -> None:
    torch.manual_seed(0)
    net = HyperRes(start="published").requires_grad_(False)
    kernel = net.extract(net.space.widest, 0.0).get_submodule("blocks.3.conv1").weight
    assert not kernel.any()
    assert float(net.blocks[3].conv1.weight_slope.std()) == pytest.approx(0.1414, rel=0.01)
    assert float(net.body.weight.std()) == pytest.approx(0.1 * (2 / 576) ** 0.5, rel=0.02)
    assert not net.tail.bias.any()


def test_levels_of_the_tasks() -> None:
    for task, mildest, strongest in (("denoise", 0, 75 / 255), ("dejpeg", 100, 0), ("upscale", 1, 6)):
        facts = HyperRes(**SMALL, task=task).facts
        assert (facts.task, facts.level_range) == (task, LEVEL_RANGES[task])
        assert facts.level(float(mildest)) == 0
        assert facts.level(float(strongest)) == 1
        assert facts.needs_sigma == (task == "denoise")
    with pytest.raises(InputError, match="takes no level"):
        HalfUNet().facts.level(0.5)


def test_what_a_network_is_told() -> None:
    sigma, each, one = torch.tensor([0.1, 0.2]), torch.tensor([20.0, 40.0]), torch.tensor(30.0)
    dejpeg = HyperRes(**SMALL, task="dejpeg")
    assert [level.tolist() for level in dejpeg.told(sigma, each)[0]] == [pytest.approx([0.8, 0.6])]
    assert [float(level) for level in dejpeg.told(sigma, one)[0]] == [pytest.approx(0.7)]
    assert dejpeg.told(sigma, one)[1] == {}
    with pytest.raises(InputError, match="say it"):
        dejpeg.told(sigma)
    for net in (HyperRes(**SMALL), HalfUNet(convs="hyper")):
        assert net.told(sigma, sigma) == ((), {"sigma": sigma})
        (level,), named = net.told(sigma, torch.tensor(30 / 255))
        assert float(level) == pytest.approx(0.4)
        assert set(named) == ({"sigma"} if isinstance(net, HalfUNet) else set())
    assert HalfUNet().told(sigma, one) == ((), {"sigma": sigma})
    assert HyperRes(**SMALL, convs="slim").told(sigma, one) == ((), {})


def test_wrong_calls_are_refused() -> None:
    denoiser, dejpeg, plain = (HyperRes(**SMALL, **o) for o in ({}, {"task": "dejpeg"}, {"convs": "slim"}))
    plan, x, sigma = denoiser.space.widest, torch.rand(1, 3, 8, 8), torch.tensor([0.1])
    with pytest.raises(InputError, match="not both"):
        denoiser(x, plan, 0.5, sigma=sigma)
    with pytest.raises(InputError, match="must be told the level of its task, dejpeg"):
        dejpeg(x, plan)
    with pytest.raises(InputError, match="leave sigma out"):
        dejpeg(x, plan, 0.5, sigma=sigma)
    with pytest.raises(InputError, match="size of the picture"):
        dejpeg(x, plan, torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="merged for one level"):
        dejpeg.extract(plan, torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="at a plan only"):
        plain.extract(plan, 0.5)
    with pytest.raises(InputError, match="at a plan and a level only"):
        dejpeg.extract(plan, 0.5, 0.5)
    with pytest.raises(InputError, match="leave sigma out"):
        denoiser.extract(plan, 0.5)(x, sigma=sigma)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"blocks": 0}, InputError, "at least 1 block"),
        ({"stream": (8,)}, InputError, "at least 1 block"),
        ({"channels": 2}, InputError, "1 or 3 channels"),
        ({"task": "dejpg"}, UnknownNameError, "Did you mean dejpeg"),
        ({"level_range": (1, 1)}, InputError, "different degradations"),
        ({"level_range": (15, 75)}, InputError, "image units"),
        ({"convs": "film"}, UnknownNameError, "unknown kind of convolutions"),
        ({"conditioned": "tail"}, InputError, "conditioned is one of"),
        ({"start": "zero"}, InputError, "start torch or published"),
    ],
)
def test_wrong_construction_is_refused(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        HyperRes(**options)
    with pytest.raises(InputError, match="CFSNet needs"):
        create_network("cfsnet", {"blocks": 0})
