"""The contracts of every slimmable layer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, PlanError
from grainwise.primitives.channels import ChannelDim, Channels, ChannelSpace
from grainwise.primitives.slim_conv import (
    SLIMMABLE,
    SlimConv2d,
    SlimConvTranspose2d,
    SlimDepthwiseConv2d,
    SlimLayer,
    extract,
    slim_conv2d,
    slim_layers,
)

A = ChannelDim("a", (2, 4, 6))
B = ChannelDim("b", (3, 5))
E = ChannelDim("e", (8, 16))
SPACE = ChannelSpace((A, B, E))
PLANS = [SPACE.plan({"a": a, "b": b, "e": 8 + 8 * (a > b)}) for a in A.widths for b in B.widths]
JOINED = Channels.of(A) + Channels.of(B)

LAYERS: dict[str, Callable[[], SlimLayer]] = {
    "conv 3x3": lambda: SlimConv2d(A, B, 3),
    "conv 3x3 of a concatenation": lambda: SlimConv2d(JOINED, B, 3, bias=False),
    "conv 1x1": lambda: SlimConv2d(A, B, 1),
    "conv 1x1 into two halves": lambda: SlimConv2d(A, Channels.of(B) + Channels.of(B), 1),
    "conv 5x5": lambda: SlimConv2d(3, A, 5),
    "conv 2x2 stride 2": lambda: SlimConv2d(A, B, 2, stride=2, reduction=2),
    "conv 4x4 stride 2": lambda: SlimConv2d(A, B, 4, stride=2, bias=False, reduction=2),
    "conv 1x1 to a fourth": lambda: SlimConv2d(A, Channels.of(E).divided(4), 1),
    "conv 3x3 stride 2": lambda: SlimConv2d(A, B, 3, stride=2, reduction=2),
    "conv after a pixel shuffle": lambda: SlimConv2d(Channels.of(B).unshuffled(2).shuffled(2), A, 3),
    "conv before a pixel shuffle": lambda: SlimConv2d(A, Channels.of(B).unshuffled(2), 3),
    "depthwise 3x3": lambda: SlimDepthwiseConv2d(A, 3),
    "depthwise 5x5 of a concatenation": lambda: SlimDepthwiseConv2d(JOINED, 5, bias=False),
    "transposed 2x2": lambda: SlimConvTranspose2d(A, B, 2),
    "transposed 4x4 of a concatenation": lambda: SlimConvTranspose2d(JOINED, B, 4, bias=False),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def example(layer: SlimLayer, plan: object, size: tuple[int, int] = (7, 9), **kind: object) -> torch.Tensor:
    return torch.randn(2, layer.inputs.width(plan), *size, **kind)


@every_layer
def test_full_width_is_the_torch_layer(make: Callable[[], SlimLayer]) -> None:
    layer = make()
    plain = layer.extract(SPACE.widest)
    assert type(plain) in (nn.Conv2d, nn.ConvTranspose2d)
    plain.load_state_dict(layer.state_dict())
    x = example(layer, SPACE.widest)
    assert torch.equal(layer(x, SPACE.widest), plain(x))


@every_layer
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_each_width_is_its_extract(make: Callable[[], SlimLayer], data: st.DataObject) -> None:
    layer = make()
    plan = data.draw(st.sampled_from(PLANS))
    size = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    size = tuple(max(s, getattr(layer, "stride", 1)) for s in size)
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    layer.to(dtype)
    x = example(layer, plan, size, dtype=dtype)
    plain = layer.extract(plan)
    sliced, extracted = layer(x, plan), plain(x)
    assert sliced.shape == extracted.shape
    assert sliced.shape[1] == layer.outputs.width(plan)
    assert torch.equal(sliced, extracted)
    assert all(weight.is_contiguous() for weight in plain.parameters())
    assert all(w.untyped_storage().nbytes() == w.nbytes for w in plain.parameters())


@every_layer
def test_closed_form_macs_equal_a_counted_pass(make: Callable[[], SlimLayer]) -> None:
    layer = make()
    for plan in PLANS:
        plain = layer.extract(plan)
        x = example(layer, plan, (16, 16))
        with FlopCounterMode(display=False) as counter:
            y = plain(x)
        pixels = 2 * y.shape[2] * y.shape[3] * layer.reduction**2
        assert counter.get_total_flops() / 2 == layer.macs_per_pixel(plan) * pixels


@every_layer
def test_gradients(make: Callable[[], SlimLayer]) -> None:
    layer = make().double()
    plan = PLANS[2]
    x = example(layer, plan, (4, 6), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *w: layer(x, plan), (x, *layer.parameters()), fast_mode=True)


@every_layer
def test_only_the_kept_channels_learn(make: Callable[[], SlimLayer]) -> None:
    layer = make()
    plan = SPACE.narrowest
    layer(example(layer, plan), plan).square().sum().backward()
    kept = layer.extract(plan).weight.numel()
    assert 0 < int((layer.weight.grad != 0).sum()) <= kept < layer.weight.numel()


@every_layer
def test_wrong_input_is_refused(make: Callable[[], SlimLayer]) -> None:
    layer = make()
    with pytest.raises(InputError, match="takes"):
        layer(torch.zeros(1, 99, 4, 4), SPACE.narrowest)
    with pytest.raises(InputError, match="takes"):
        layer(torch.zeros(3, 4, 4), SPACE.narrowest)


def test_wrong_construction_is_refused() -> None:
    with pytest.raises(InputError, match="even kernel"):
        SlimConv2d(A, B, 2)
    with pytest.raises(InputError, match="reduction"):
        SlimConv2d(A, B, 3, reduction=0)
    with pytest.raises(PlanError):
        SlimConv2d(A, B, 3)(torch.zeros(1, 2, 4, 4), ChannelSpace((A,)).narrowest)


def test_two_threads_at_two_widths_agree_with_one() -> None:
    layer = SlimConv2d(A, B, 3)
    inputs = {plan: example(layer, plan, (32, 32)) for plan in (SPACE.narrowest, SPACE.widest)}
    alone = {plan: layer(x, plan) for plan, x in inputs.items()}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            results = {plan: pool.submit(layer, x, plan) for plan, x in inputs.items()}
            assert all(torch.equal(results[plan].result(), alone[plan]) for plan in inputs)


def test_at_most_two_graphs_over_all_widths() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    graphs = CompileCounter()
    weight, bias = torch.randn(24, 24, 3, 3), torch.randn(24)

    @torch.compile(backend=graphs)
    def conv(x: torch.Tensor, width: int) -> torch.Tensor:
        return slim_conv2d(x, weight, bias, inputs=((0, x.shape[1]),), outputs=((0, width),), padding=1)

    for width in (4, 8, 12, 16, 20):
        x = torch.randn(1, width, 6, 6)
        expected = F.conv2d(x, weight[:width, :width], bias[:width], padding=1)
        torch.testing.assert_close(conv(x, width), expected)
    assert graphs.frame_count <= 2


def test_an_extracted_layer_exports() -> None:
    layer = SlimConv2d(JOINED, B, 3)
    plan = SPACE.narrowest
    plain = layer.extract(plan).eval()
    x = example(layer, plan)
    program = torch.export.export(plain, (x,))
    assert torch.equal(program.module()(x), plain(x))


class Level(SlimLayer):
    """A level-conditioned convolution, k = c * w + b: the kind of layer that is added without touching the networks."""

    def __init__(self, inputs: object, outputs: object, kernel: int = 3, *, reduction: int = 1, **_: object) -> None:
        super().__init__(inputs, outputs, reduction=reduction)
        self.base = SlimConv2d(inputs, outputs, kernel, reduction=reduction)
        self.slope = SlimConv2d(inputs, outputs, kernel, reduction=reduction)

    def forward(self, x: torch.Tensor, plan: object, level: torch.Tensor) -> torch.Tensor:
        return self.base(x, plan) + level * self.slope(x, plan)

    def extract(self, plan: object) -> nn.Module:
        return self.base.extract(plan)

    def macs_per_pixel(self, plan: object) -> float:
        return self.base.macs_per_pixel(plan)


def test_another_kind_of_convolution_goes_through_the_same_network() -> None:
    from dataclasses import replace

    from grainwise.networks.half_unet import HalfUNet

    class Up(Level):
        def __init__(self, inputs: object, outputs: object, stride: int = 2, **options: object) -> None:
            super().__init__(inputs, Channels.of(outputs).unshuffled(stride), 1, **options)

        def forward(self, x: torch.Tensor, plan: object, level: torch.Tensor) -> torch.Tensor:
            return F.pixel_shuffle(super().forward(x, plan, level), 2)

    class Strided(Level):
        def __init__(
            self, inputs: object, outputs: object, kernel: int = 3, *, stride: int = 1, **options: object
        ) -> None:
            super().__init__(inputs, outputs, 3, **options)
            self.step = stride

        def forward(self, x: torch.Tensor, plan: object, level: torch.Tensor) -> torch.Tensor:
            return super().forward(x, plan, level)[:, :, :: self.step, :: self.step]

    kinds = replace(SLIMMABLE, conv=Strided, transposed=Up)
    net = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), convs=kinds)
    x, sigma = torch.rand(1, 3, 20, 28), torch.tensor([0.1])
    low, high = (net(x, net.space.narrowest, torch.tensor(level), sigma=sigma) for level in (0.0, 1.0))
    assert low.shape == x.shape
    assert not torch.allclose(low, high)


def test_extract_replaces_layers_at_any_depth() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([SlimConv2d(A, A, 3), SlimConv2d(A, A, 3)])
            self.scale = 2.0

        def forward(self, x: torch.Tensor, *at: object) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x, *at) * self.scale
            return x

    module = nn.Sequential(Inner())
    plan = SPACE.narrowest
    plain = extract(module, plan)
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(plain(x), module[0](x, plan))
    assert not slim_layers(plain)
    assert len(slim_layers(module)) == 2
