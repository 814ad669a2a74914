"""MalleConv in each of its settings, and in a network that knows nothing of it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.primitives.malle import awake
from torch import Tensor

from grainwise.core.errors import InputError, PlanError
from grainwise.networks.half_unet import HalfUNet
from grainwise.primitives.channels import ChannelDim, ChannelSpace
from grainwise.primitives.malle_conv import MalleConv, MalleSettings, Places, malleable_convs
from grainwise.primitives.malleable_conv import malleable_conv2d
from grainwise.primitives.slim_conv import SLIMMABLE, extract, slim_layers

A, P = ChannelDim("a", (4, 8)), ChannelDim("p", (3, 6))
SPACE = ChannelSpace((A, P))
FIXED, FIXED_SPACE = ChannelDim("a", (6,)), ChannelSpace((ChannelDim("a", (6,)),))
SMALL = MalleSettings(blocks=1, pools=1)
VARIANTS = {
    "released": SMALL,
    "3x3": replace(SMALL, kernel=3),
    "3x3 without offset": replace(SMALL, kernel=3, offset=False),
    "shared kernels": replace(SMALL, kernel=3, group=2),
    "pooled before": replace(SMALL, pre_pool=4),
    "large": replace(SMALL, pools=2, large=True),
    "no pooling": replace(SMALL, pools=0),
    "no gate": replace(SMALL, gate=False),
}
each_variant = pytest.mark.parametrize("how", VARIANTS.values(), ids=VARIANTS)


@each_variant
def test_extract_agrees_exactly_at_every_plan_and_odd_sizes(how: MalleSettings) -> None:
    torch.manual_seed(0)
    layer = awake(MalleConv(SLIMMABLE, A, how, width=P))
    for widths in ({"a": 4, "p": 6}, {"a": 8, "p": 3}):
        plan = SPACE.plan(widths)
        plain = extract(layer, plan)
        for size in ((1, 1), (13, 18), (16, 32)):
            x = torch.randn(2, widths["a"], *size)
            assert torch.equal(plain(x), layer(x, plan))
            assert not torch.equal(plain(x), x)


@each_variant
def test_it_starts_as_nothing_and_learns_from_the_first_step(how: MalleSettings) -> None:
    torch.manual_seed(0)
    layer = MalleConv(SLIMMABLE, A, how, width=P)
    x = torch.randn(1, 8, 16, 16)
    y = layer(x, SPACE.widest)
    assert torch.equal(y, x) == how.gate
    y.square().sum().backward()
    if how.gate:
        assert "gate.weight" in layer.state_dict()
        assert layer.gate.weight.grad is not None
        assert float(layer.gate.weight.grad.abs()) > 0
    else:
        assert all(p.grad is not None and p.grad.any() for p in layer.predictor.expander.parameters())


def test_small_first_kernels_start_it_as_almost_nothing_and_reach_the_predictor_at_once() -> None:
    x, moved, slopes = torch.randn(1, 8, 16, 16), [], []
    for start in (1.0, 0.01):
        torch.manual_seed(0)
        layer = MalleConv(SLIMMABLE, A, replace(SMALL, gate=False, start=start), width=P)
        y = layer(x, SPACE.widest)
        y.square().sum().backward()
        moved.append(float((y - x).detach().abs().max()))
        slopes.append(float(layer.predictor.head.weight.grad.abs().sum()))
    assert moved[1] < 0.05 * moved[0]
    assert slopes[1] > 0


def test_an_extracted_one_shares_no_weight() -> None:
    layer = MalleConv(SLIMMABLE, FIXED, replace(SMALL, norm="batch"))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    plain = extract(layer, FIXED_SPACE.widest).eval()
    assert layer.norm is not None
    assert layer.norm.training
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_norm_after_slicing_is_folded_into_the_predictor(kernel: int) -> None:
    torch.manual_seed(0)
    layer = awake(MalleConv(SLIMMABLE, FIXED, replace(SMALL, norm="batch", kernel=kernel)))
    plan, x = FIXED_SPACE.widest, torch.randn(2, 6, 16, 12)
    result = layer(x, plan)
    assert torch.equal(extract(layer, plan)(x), result)
    norm, layer.norm.training = layer.norm, True  # now the predictor leaves the norm alone
    grid = layer.predictor(x, plan)
    norm.training = False
    y = malleable_conv2d(x, grid, stride=2, kernel=kernel, offset=True)
    statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
    y = layer.act(torch.nn.functional.batch_norm(y, *statistics), plan).clamp(-1, 1)
    torch.testing.assert_close(result, x + 0.7 * y, atol=1e-5, rtol=1e-5)


def test_statistics_are_those_of_the_sliced_feature() -> None:
    torch.manual_seed(0)
    layer = MalleConv(SLIMMABLE, FIXED, replace(SMALL, norm="batch"))
    x = torch.randn(2, 6, 16, 12)
    grid = layer.predictor(x, FIXED_SPACE.widest)
    y = malleable_conv2d(x, grid, stride=2, kernel=1, offset=True)
    layer(x, FIXED_SPACE.widest)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * y.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)


@settings(max_examples=8)
@given(how=st.sampled_from(list(VARIANTS.values())), where=st.integers(0, 7))
def test_the_context_is_how_far_it_sees(how: MalleSettings, where: int) -> None:
    torch.manual_seed(0)
    layer = awake(MalleConv(SLIMMABLE, A, how, width=P)).double()
    side = 2 * layer.context + 4 * how.stride
    x = torch.randn(1, 8, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2 + where % how.stride
    (slope,) = torch.autograd.grad(layer(x, SPACE.widest)[0, :, middle, middle].sum(), x)
    rows = slope.abs().amax((0, 1, 3)).nonzero()[:, 0]
    assert max(middle - int(rows.min()), int(rows.max()) - middle) <= layer.context


def test_the_cost_is_that_of_the_predictor_and_of_the_slicing() -> None:
    layer = MalleConv(SLIMMABLE, A, replace(SMALL, kernel=3), width=P, reduction=2)
    plan = SPACE.widest
    block = 10 * 36 + 9 * 30
    predictor = 9 * 8 * 6 + block + block / 4 + 6 * 80 / 4
    assert sum(part.macs_per_pixel(plan) for part in slim_layers(layer)) == pytest.approx(predictor / 4)
    assert layer.slicing_macs_per_pixel(plan) == 2 * 10 * 8 / 4


def host() -> HalfUNet:
    convs = malleable_convs(Places(kernel=2, stride=2, reductions=(4,)), replace(SMALL, kernel=3))
    return HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), convs=convs)


def test_a_network_that_knows_nothing_of_it_takes_it_through_its_convolutions() -> None:
    torch.manual_seed(0)
    net, bare = host(), HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))
    parts = [part for part in net.modules() if isinstance(part, MalleConv)]
    assert len(parts) == 1
    assert net.facts.size_multiple == 8
    assert net.facts.halo == bare.facts.halo + 4 * parts[0].context
    assert net.macs_per_pixel(net.space.widest) > bare.macs_per_pixel(net.space.widest)
    awake(net)
    x, sigma = torch.rand(1, 3, 37, 50), torch.tensor([0.1])
    for plan in (net.space.narrowest, net.space.widest):
        assert torch.equal(net(x, plan, sigma=sigma), net.extract(plan)(x, sigma=sigma))


def test_the_named_set_goes_into_a_weights_file() -> None:
    net = HalfUNet(widths=((16,), (16,), (24,)), blocks=(1, 1, 1), convs="malleable")
    assert sum(isinstance(part, MalleConv) for part in net.modules()) == 2
    again = HalfUNet(**net.config)
    again.load_state_dict(net.state_dict())
    assert again.facts == net.facts


def test_its_tiles_equal_the_whole() -> None:
    torch.manual_seed(0)
    net = awake(host())
    plain = net.extract(net.space.widest)
    x, sigma = torch.rand(1, 3, 460, 420), torch.tensor([0.1])
    whole = plain(x, sigma=sigma)
    halo = net.facts.halo
    assert net.facts.least_tile <= 460 * 240
    assert torch.equal(plain(x[..., :240], sigma=sigma)[..., : 240 - halo], whole[..., : 240 - halo])
    assert torch.equal(plain(x[..., 176:], sigma=sigma)[..., halo:], whole[..., 176 + halo :])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 5}, "kernel 1 or 3"),
        ({"group": 0}, "at least 1"),
        ({"pools": -1}, "at least 0"),
        ({"norm": "batch", "offset": False}, "folded into the offset"),
        ({"norm": "batch", "group": 2}, "take group=1"),
        ({"start": 0.0}, "start lies in"),
        ({"start": 0.5, "norm": "batch"}, "start lies in"),
        ({"norm": "layer"}, "norm is none or batch"),
        ({"group": 4}, "divisible by 4"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, PlanError), match=message):
        MalleConv(SLIMMABLE, FIXED, replace(SMALL, **options))  # type: ignore[arg-type]


def test_places_hold_where_all_that_is_given_holds() -> None:
    assert Places().hold(3, 1, 2)
    assert Places(kernel=3, reductions=(2, 4)).hold(3, 1, 4)
    assert not Places(kernel=3, reductions=(2, 4)).hold(3, 1, 8)
    assert not Places(stride=2).hold(2, 1, 4)


def test_it_trains_under_autocast_in_bfloat16() -> None:
    torch.manual_seed(0)
    layer = MalleConv(SLIMMABLE, FIXED, replace(SMALL, norm="batch", kernel=3))
    with torch.no_grad():
        layer.gate.weight.fill_(0.5)
    x: Tensor = torch.randn(2, 6, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, FIXED_SPACE.widest)
    y.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
