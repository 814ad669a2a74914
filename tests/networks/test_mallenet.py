"""What is special to MalleNet."""

import pytest
import torch
from tests.primitives.malle import awake
from torch import nn

from grainwise.core.errors import InputError, PlanError
from grainwise.networks.mallenet import MalleNet
from grainwise.primitives import malleable_conv, malleable_native

TINY = {"widths": [8], "blocks": 1, "predictor_blocks": 1, "pools": 1, "pre_pool": 2}

SIZES = [
    # C, thousand MACs/px with pre_pool 4, large, pre_pool 2 and 1; million parameters plain and large
    (16, (28.2, 30.8, 31.8, 46.1), (0.66, 1.38)),
    (24, (58.0, 63.7, 65.6, 95.7), (1.30, 2.88)),
    (32, (98.2, 108.2, 111.2, 163.1), (2.16, 4.92)),
    (48, (210, 232, 238, 351), (4.51, 10.63)),
    (64, (363.5, 402.7, 412.7, 609.6), (7.70, 18.50)),
]


@pytest.mark.parametrize(("width", "macs", "parameters"), SIZES, ids=[str(row[0]) for row in SIZES])
def test_the_cost_is_that_of_the_released_code(
    width: int, macs: tuple[float, ...], parameters: tuple[float, float]
) -> None:
    """MACs to the last digit that is known; parameters within one of it: which convolutions have a bias is not known."""
    with torch.device("meta"):
        kinds = [MalleNet.paper(width, **kind) for kind in ({}, {"large": True}, {"pre_pool": 2}, {"pre_pool": 1})]
    for net, expected in zip(kinds, macs, strict=True):
        digits = 1 if width not in (48,) else 0
        assert round(net.macs_per_pixel(net.space.widest) / 1e3, digits) == expected
    for net, expected in zip(kinds, parameters, strict=False):
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(expected, abs=0.01)


def test_the_smallest_has_these_very_numbers() -> None:
    net = MalleNet.paper(16)
    assert sum(p.numel() for p in net.parameters()) == 655_735
    assert net.macs_per_pixel(net.space.widest) == 28_229.46875
    assert (net.facts.halo, net.facts.size_multiple) == (713, 32)


def test_a_new_network_is_a_plain_one_with_closed_gates() -> None:
    torch.manual_seed(0)
    net = MalleNet(**TINY)
    x = torch.rand(1, 3, 24, 40)
    before = net(x, net.space.widest)
    for name, parameter in net.named_parameters():
        if ".predictor." in name:
            nn.init.normal_(parameter)
    assert torch.equal(net(x, net.space.widest), before)
    assert sum(name.endswith("gate.weight") for name in net.state_dict()) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_the_noise_level_conditions_it_and_level_0_gives_back_the_picture(channels: int) -> None:
    torch.manual_seed(0)
    net = MalleNet(**TINY, condition="sigma", channels=channels)
    x = torch.rand(1, channels, 24, 40)
    at = net.space.widest
    assert torch.equal(net(x, at, sigma=torch.zeros(1)), x)
    assert not torch.equal(net(x, at, sigma=torch.tensor([0.1])), net(x, at, sigma=torch.tensor([0.2])))
    with pytest.raises(InputError, match="must be told"):
        net(x, at)
    ramp = torch.linspace(0.1, 0.2, 40).expand(1, 1, 24, 40)
    assert torch.isfinite(net.extract(at)(x, sigma=ramp)).all()


def test_batch_norm_folds_away_in_the_extracted_network() -> None:
    torch.manual_seed(0)
    net = MalleNet(**TINY, norm="batch", kernel=3)
    x = torch.rand(2, 3, 40, 24)
    net.train()(x, net.space.widest)
    awake(net)
    plain = net.extract(net.space.widest)
    assert not any("BatchNorm" in type(part).__name__ for part in plain.modules())
    assert not any("running" in name for name in plain.state_dict())
    assert torch.equal(plain(x), net(x, net.space.widest))


def test_every_sub_network_is_a_prefix_of_the_widest() -> None:
    net = MalleNet(widths=[8, 16], blocks=1, predictor_blocks=1, pools=1)
    plan = net.space.plan({"level0": 8, "level1": 16, "level2": 16, "level3": 64, "predictor": 8})
    narrow = net.extract(plan)
    assert narrow.levels[2].enter.weight.shape == (16, 48, 3, 3)
    assert torch.equal(narrow.levels[2].enter.weight, net.levels[2].enter.weight[:16])
    joined = net.levels[1].join.weight
    expected = torch.cat([joined[:16, :16], joined[:16, 32:48]], 1)
    assert torch.equal(narrow.levels[1].join.weight, expected)


def test_it_exports_without_a_grid_sample() -> None:
    torch.manual_seed(0)
    net = awake(MalleNet(**TINY, kernel=3, norm="batch", malle_levels=[0, 3]))
    plain = net.extract(net.space.widest)
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        program = torch.export.export(plain, (x,))
        exported = program.module()(x)
        expected = plain(x)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("grid_sample" in name or "unfold" in name or "im2col" in name for name in names)
    assert "aten.upsample_bilinear2d.vec" in names
    torch.testing.assert_close(exported, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("native", [True, False])
def test_tiles_equal_the_whole_exactly_beyond_the_least_tile(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger pictures than the contract tests use: the coarsest predictor is small only in these."""
    if native and not malleable_native.status().available:
        pytest.skip(malleable_native.status().detail)
    if not native:
        monkeypatch.setattr(malleable_native, "suits", lambda x: False)
    assert malleable_conv.form_in_use(torch.rand(1, 1, 8, 8)) == ("native" if native else "per_tap")
    torch.manual_seed(0)
    net = awake(MalleNet(widths=[16], blocks=1, predictor_blocks=1, pools=1, pre_pool=2, kernel=3))
    facts = net.facts
    assert facts.least_tile < 330_000
    plain = net.extract(net.space.widest)
    x = torch.rand(1, 3, 704, 656)
    assert facts.least_tile <= 704 * 480
    with torch.inference_mode():
        whole = plain(x)
        assert torch.equal(plain(x[..., :480])[..., : 480 - facts.halo], whole[..., : 480 - facts.halo])
        assert torch.equal(plain(x[..., 176:])[..., facts.halo :], whole[..., 176 + facts.halo :])


@pytest.mark.parametrize("condition", ["none", "sigma"])
def test_level_conditioned_convolutions_make_it_take_a_level(condition: str) -> None:
    torch.manual_seed(0)
    net = MalleNet(widths=[8, 16], blocks=1, predictor_blocks=1, pools=1, kernel=3, convs="hyper", condition=condition)
    awake(net)
    for parameter in net.parameters():
        if not parameter.any():  # the slopes of the kernels
            parameter.normal_(std=0.02)
    plan, sigma = net.space.narrowest, torch.tensor([0.1])
    x = torch.rand(1, 3, 24, 40)
    level = net.facts.level(sigma)
    out = net(x, plan, sigma=sigma)
    assert torch.equal(net(x, plan, level, sigma=sigma), out)
    assert torch.equal(net.extract(plan)(x, sigma=sigma), out)
    assert torch.equal(net.extract(plan, float(level))(x, sigma=sigma), out)
    assert not torch.equal(net(x, plan, level + 0.2, sigma=sigma), out)
    as_map = net(x, plan, sigma=sigma.expand(1, 1, 24, 40))
    torch.testing.assert_close(as_map, out, atol=1e-5, rtol=1e-4)
    assert net.config["convs"] == "hyper"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [8, 16], "norm": "batch"}, "batch statistics belong to one width"),
        ({"convs": "hyper", "norm": "batch"}, "slimmable convolutions alone"),
        ({"convs": "hypper"}, "Did you mean hyper"),
        ({"condition": "blind"}, "condition is none or sigma"),
        ({"blocks": 0}, "blocks is at least 1"),
        ({"malle_levels": [4]}, "among 0 to 3"),
        ({"pre_pool": 3}, "pre_pool is 1, 2 or 4"),
        ({"kernel": 2}, "kernel 1 or 3"),
        ({"widths": []}, "widths"),
        ({"widths": [6], "group": 4}, "divisible by 4"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, PlanError), match=message):
        MalleNet(**{**TINY, **options})


def test_without_any_malleable_convolution_it_is_a_plain_network() -> None:
    net = MalleNet(widths=[8, 16], malle_levels=[])
    assert [dim.name for dim in net.space.dims] == ["level0", "level1", "level2", "level3"]
    assert net.facts.size_multiple == 8
    x = torch.rand(1, 3, 19, 33)
    assert torch.equal(net(x, net.space.narrowest), net.extract(net.space.narrowest)(x))
