"""The contracts of every level-conditioned layer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.primitives.channels import ChannelDim, Channels, ChannelSpace
from grainwise.primitives.conv_sets import CONV_SETS, conv_set, name_of_convs
from grainwise.primitives.hyper_conv import (
    HYPER,
    ConditionedKernel,
    HyperConv2d,
    HyperConvTranspose2d,
    HyperDepthwiseConv2d,
    LevelConv,
    Terms,
    conditioned_conv,
    level_at,
)
from grainwise.primitives.modulated_conv import (
    AdaFMConv2d,
    AdaFMConvTranspose2d,
    AdaFMDepthwiseConv2d,
    ScaledConv2d,
    ScaledConvTranspose2d,
    ScaledDepthwiseConv2d,
)
from grainwise.primitives.slim_conv import SLIMMABLE, ConvForm, ConvSet, SlimConv2d, extract

A = ChannelDim("a", (2, 4, 6))
B = ChannelDim("b", (3, 5))
SPACE = ChannelSpace((A, B))
PLANS = [SPACE.plan({"a": a, "b": b}) for a in A.widths for b in B.widths]
JOINED = Channels.of(A) + Channels.of(B)

LAYERS: dict[str, Callable[[], ConditionedKernel]] = {
    "hyper 3x3": lambda: HyperConv2d(A, B, 3),
    "hyper 3x3 of a concatenation, no bias": lambda: HyperConv2d(JOINED, B, 3, bias=False),
    "hyper 3x3 quadratic": lambda: HyperConv2d(A, B, 3, order=2),
    "hyper 3x3 stride 2": lambda: HyperConv2d(A, B, 3, stride=2, reduction=2),
    "hyper 2x2 stride 2": lambda: HyperConv2d(A, B, 2, stride=2, reduction=2),
    "hyper 1x1 before a shuffle": lambda: HyperConv2d(A, Channels.of(B).unshuffled(2), 1),
    "hyper depthwise": lambda: HyperDepthwiseConv2d(JOINED, 3),
    "hyper depthwise quadratic": lambda: HyperDepthwiseConv2d(A, 5, order=2),
    "hyper transposed": lambda: HyperConvTranspose2d(A, B, 2),
    "adafm 3x3": lambda: AdaFMConv2d(A, B, 3),
    "adafm 3x3, no bias": lambda: AdaFMConv2d(A, B, 3, bias=False),
    "adafm depthwise": lambda: AdaFMDepthwiseConv2d(A, 3),
    "adafm transposed": lambda: AdaFMConvTranspose2d(A, B, 2),
    "scaled 3x3": lambda: ScaledConv2d(A, B, 3),
    "scaled depthwise": lambda: ScaledDepthwiseConv2d(A, 3, bias=False),
    "scaled transposed": lambda: ScaledConvTranspose2d(A, B, 2),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def made(name: str, *, moved: bool = True) -> ConditionedKernel:
    torch.manual_seed(len(name))
    layer = LAYERS[name]()
    if moved:
        for parameter in layer.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return layer


def example(layer: ConditionedKernel, plan: object, size: tuple[int, int] = (8, 10), **kind: object) -> torch.Tensor:
    return torch.randn(2, layer.inputs.width(plan), *size, **kind)


@every_layer
def test_fresh_layers_are_plain_at_every_level(name: str) -> None:
    layer = made(name, moved=False)
    x = example(layer, SPACE.widest)
    plain = layer.form.layer(layer.weight, layer.bias)
    assert type(plain) in (nn.Conv2d, nn.ConvTranspose2d)
    for level in (0.0, 0.4, 2.0):
        assert torch.equal(layer(x, SPACE.widest, level), plain(x))


@every_layer
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_each_width_and_level_is_its_extract(name: str, data: st.DataObject) -> None:
    plan = data.draw(st.sampled_from(PLANS))
    level = data.draw(st.floats(-0.5, 1.5, width=32))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    size = tuple(2 * data.draw(st.integers(1, 6)) for _ in range(2))
    layer = made(name).to(dtype)
    x = example(layer, plan, size, dtype=dtype)
    out = layer(x, plan, level)
    plain, cut = layer.extract(plan, level), layer.extract(plan)
    assert out.shape[1] == layer.outputs.width(plan)
    assert torch.equal(out, plain(x))
    assert torch.equal(out, layer(x, plan, torch.tensor(level, dtype=dtype)))
    assert type(plain) in (nn.Conv2d, nn.ConvTranspose2d)
    assert all(w.is_contiguous() and w.untyped_storage().nbytes() == w.nbytes for w in plain.parameters())
    assert isinstance(cut, LevelConv)
    assert torch.equal(out, cut(x, level))
    cut.merge_into(plain, 0.25)
    assert torch.equal(plain(x), layer.extract(plan, 0.25)(x))


@every_layer
def test_levels_by_sample_and_by_pixel_agree_with_one_level(name: str) -> None:
    layer = made(name).double()
    plan = PLANS[3]
    x = example(layer, plan, dtype=torch.float64)
    levels = torch.tensor([0.2, 0.9])
    single = torch.cat([layer(x[i : i + 1], plan, float(levels[i])) for i in range(2)])
    torch.testing.assert_close(layer(x, plan, levels), single, rtol=1e-6, atol=1e-6)
    assert torch.equal(layer(x, plan, levels), layer.extract(plan)(x, levels))
    scale = layer.reduction
    pixels = levels.view(2, 1, 1, 1).expand(2, 1, single.shape[2] * scale, single.shape[3] * scale)
    torch.testing.assert_close(layer(x, plan, pixels), single, rtol=1e-6, atol=1e-6)
    assert torch.equal(layer(x, plan, pixels), layer.extract(plan)(x, pixels))
    assert torch.equal(layer(x[:1], plan, levels[:1]), layer(x[:1], plan, levels[0]))


@every_layer
def test_a_map_acts_at_each_output_pixel(name: str) -> None:
    layer = made(name).double()
    plan = PLANS[1]
    x = example(layer, plan, dtype=torch.float64)[:1]
    low, high = layer(x, plan, 0.1), layer(x, plan, 0.8)
    scale = layer.reduction
    pixels = torch.full((1, 1, low.shape[2] * scale, low.shape[3] * scale), 0.1, dtype=torch.float64)
    middle = low.shape[3] // 2
    pixels[..., middle * scale :] = 0.8
    mixed = layer(x, plan, pixels)
    torch.testing.assert_close(mixed[..., :middle], low[..., :middle])
    torch.testing.assert_close(mixed[..., middle:], high[..., middle:])


def test_the_kernel_is_the_polynomial_of_the_paper() -> None:
    layer, plan = made("hyper 3x3 quadratic"), SPACE.widest
    plain = layer.extract(plan, 0.5)
    torch.testing.assert_close(plain.weight, layer.weight + 0.5 * layer.weight_slope + 0.25 * layer.weight_curvature)
    torch.testing.assert_close(plain.bias, layer.bias + 0.5 * layer.bias_slope + 0.25 * layer.bias_curvature)


def test_adafm_is_a_filter_behind_the_convolution() -> None:
    layer = made("adafm 3x3").double()
    x = example(layer, SPACE.widest, dtype=torch.float64)
    y = F.conv2d(x, layer.weight, layer.bias, padding=1)
    filtered = F.conv2d(y, layer.gain.view(-1, 1, 1, 1), layer.offset, groups=5)
    torch.testing.assert_close(layer(x, SPACE.widest, 0.3), y + 0.3 * filtered)


def test_a_scale_is_linear_in_the_level() -> None:
    layer = made("scaled 3x3").double()
    x = example(layer, SPACE.widest, dtype=torch.float64)
    scale = (layer.scale + 0.3 * layer.scale_slope).view(1, -1, 1, 1)
    torch.testing.assert_close(layer(x, SPACE.widest, 0.3), scale * F.conv2d(x, layer.weight, layer.bias, padding=1))


@every_layer
def test_gradients_of_weights_and_level(name: str) -> None:
    layer = made(name).double()
    plan = PLANS[2]
    x = example(layer, plan, (4, 6), dtype=torch.float64).requires_grad_()
    rows = layer(x, plan, 0.5).shape[2:]
    pixels = torch.rand(2, 1, rows[0] * layer.reduction, rows[1] * layer.reduction, dtype=torch.float64)
    for level in (torch.tensor(0.3, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64), pixels):
        inputs = (x, level.requires_grad_(), *layer.parameters())
        assert torch.autograd.gradcheck(lambda x, c, *w: layer(x, plan, c), inputs, fast_mode=True)


@every_layer
def test_closed_form_macs_are_those_of_the_merged_layer(name: str) -> None:
    layer = made(name)
    for plan in (SPACE.narrowest, SPACE.widest):
        plain = layer.extract(plan, 0.5)
        x = example(layer, plan, (16, 16))
        with FlopCounterMode(display=False) as counter:
            y = plain(x)
        assert counter.get_total_flops() / 2 == layer.macs_per_pixel(plan) * 2 * y[0, 0].numel() * layer.reduction**2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (2, 5)])
def test_odd_sizes(height: int, width: int) -> None:
    layer = made("hyper 3x3")
    x = torch.randn(2, 2, height, width)
    for level in (0.5, torch.rand(2), torch.rand(2, 1, height, width)):
        assert layer(x, SPACE.narrowest, level).shape == (2, 3, height, width)


def test_a_map_is_averaged_and_continued() -> None:
    level = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[[[(0 + 1 + 3 + 4) / 4, (2 + 2 + 5 + 5) / 4]]]])
    assert torch.equal(level_at(level, 1, 2, 2), expected)
    assert torch.equal(level_at(level, 2, 3, 1), level)
    with pytest.raises(InputError, match="size of the network's input"):
        level_at(level, 1, 1, 2)


@every_layer
def test_wrong_calls_are_refused(name: str) -> None:
    layer = made(name)
    x = example(layer, SPACE.narrowest)
    with pytest.raises(InputError, match="takes"):
        layer(torch.zeros(1, 99, 4, 4), SPACE.narrowest, 0.5)
    for level in (float("nan"), "0.5", torch.zeros(3), torch.zeros(2, 1), torch.zeros(2, 2, 8, 10)):
        with pytest.raises(InputError, match="level is"):
            layer(x, SPACE.narrowest, level)
    with pytest.raises(InputError, match="merged for one level"):
        layer.extract(SPACE.narrowest, torch.zeros(2))


def test_wrong_construction_is_refused() -> None:
    with pytest.raises(InputError, match="order"):
        HyperConv2d(A, B, 3, order=3)
    with pytest.raises(InputError, match="even kernel"):
        HyperConv2d(A, B, 2)


def test_weights_of_a_plain_layer_load_as_the_base() -> None:
    plain, layer = nn.Conv2d(6, 5, 3, padding=1), HyperConv2d(A, B, 3)
    keys = layer.load_state_dict(plain.state_dict(), strict=False)
    assert keys.missing_keys == ["weight_slope", "bias_slope"]
    x = torch.randn(1, 6, 5, 5)
    assert torch.equal(layer(x, SPACE.widest, 0.7), plain(x))


def test_the_papers_start_is_proportional_to_the_level() -> None:
    torch.manual_seed(0)
    layer = HyperConv2d(32, 32, 3)
    layer.reset_as_published()
    assert float(layer.weight_slope.detach().std()) == pytest.approx(0.1414, rel=0.03)
    plan = ChannelSpace(()).plan({})
    assert not layer.extract(plan, 0.0).weight.any()
    assert not layer.extract(plan, 0.0).bias.any()
    assert float(layer.extract(plan, 75 / 255).weight.detach().std()) == pytest.approx(0.042, rel=0.03)


def test_two_threads_at_two_levels_agree_with_one() -> None:
    layer = made("hyper 3x3")
    x = example(layer, SPACE.widest, (32, 32))
    alone = {level: layer(x, SPACE.widest, level) for level in (0.1, 0.9)}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            results = {level: pool.submit(layer, x, SPACE.widest, level) for level in alone}
            assert all(torch.equal(results[level].result(), alone[level]) for level in alone)


def test_at_most_two_graphs_over_all_widths_and_levels() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    graphs = CompileCounter()
    weights, form = (torch.randn(24, 24, 3, 3), torch.randn(24, 24, 3, 3)), ConvForm("dense", 1, 1)

    @torch.compile(backend=graphs)
    def conv(x: torch.Tensor, width: int, level: torch.Tensor) -> torch.Tensor:
        terms = Terms(tuple(w[:width, : x.shape[1]] for w in weights), ())
        return conditioned_conv(x, terms, level, form)

    for index, width in enumerate((4, 8, 12, 16, 20)):
        x, level = torch.randn(1, width, 6, 6), torch.tensor(0.2 * index)
        kernel = weights[0][:width, :width] + level * weights[1][:width, :width]
        torch.testing.assert_close(conv(x, width, level), F.conv2d(x, kernel, padding=1))
    assert graphs.frame_count <= 2


def test_extracted_layers_export() -> None:
    layer = made("hyper 3x3 of a concatenation, no bias")
    x, plan = example(layer, SPACE.narrowest), SPACE.narrowest
    program = torch.export.export(layer.extract(plan, 0.5).eval(), (x,))
    assert torch.equal(program.module()(x), layer(x, plan, 0.5))
    level = torch.tensor(0.5)
    program = torch.export.export(layer.extract(plan).eval(), (x, level))
    assert torch.equal(program.module()(x, torch.tensor(0.25)), layer(x, plan, 0.25))


def test_kinds_can_be_mixed_in_one_module() -> None:
    module = nn.ModuleList([SlimConv2d(A, A), HyperConv2d(A, A)])
    plain = extract(module, SPACE.narrowest, 0.5)
    assert [type(layer) for layer in plain] == [nn.Conv2d, nn.Conv2d]
    assert [isinstance(layer, LevelConv) for layer in extract(module, SPACE.narrowest)] == [False, True]


def test_sets_have_names() -> None:
    assert hash(HYPER) == hash(CONV_SETS["hyper"])
    assert {name: name_of_convs(convs) for name, convs in CONV_SETS.items()} == {name: name for name in CONV_SETS}
    assert conv_set("slim") is SLIMMABLE
    assert conv_set(HYPER) is HYPER
    assert [name for name, convs in CONV_SETS.items() if not convs.takes_level] == ["slim", "malleable"]
    with pytest.raises(UnknownNameError, match="Did you mean hyper"):
        conv_set("hiper")
    with pytest.raises(InputError, match="only named sets"):
        name_of_convs(ConvSet(conv=SlimConv2d, depthwise=HYPER.depthwise, transposed=HYPER.transposed))
