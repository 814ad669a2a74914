"""A folded batch norm is torch's, and costs nothing once trained."""

import pytest
import torch
from torch import nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelDim, ChannelSpace
from grainwise.primitives.norm_conv import NormConv2d, NormDepthwiseConv2d, normed
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet, SlimConv2d, SlimDepthwiseConv2d, SlimLayer

A, B = ChannelDim("a", (6,)), ChannelDim("b", (4,))
PLAN = ChannelSpace((A, B)).widest


def dense() -> NormConv2d:
    return NormConv2d(A, B, 3)


def depthwise() -> NormDepthwiseConv2d:
    return NormDepthwiseConv2d(A, 3)


def without_bias() -> NormConv2d:
    return NormConv2d(A, B, 1, bias=False)


each_layer = pytest.mark.parametrize("make", [dense, depthwise, without_bias])


def trained(make: object) -> tuple[SlimLayer, nn.Sequential]:
    """A layer after three training steps, and torch's two layers after the same."""
    torch.manual_seed(0)
    layer = make()  # type: ignore[operator]
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2)
        layer.norm.bias.normal_()
    groups = layer.inputs.widest if isinstance(layer, NormDepthwiseConv2d) else 1
    plain = nn.Sequential(
        nn.Conv2d(
            layer.inputs.widest,
            layer.outputs.widest,
            layer.kernel,
            padding=layer.padding,
            groups=groups,
            bias=layer.bias is not None,
        ),
        nn.BatchNorm2d(layer.outputs.widest),
    )
    own = layer.state_dict()
    plain[0].load_state_dict({k: v for k, v in own.items() if not k.startswith("norm.")})
    plain[1].load_state_dict({k[5:]: v for k, v in own.items() if k.startswith("norm.")}, strict=False)
    for _ in range(3):
        x = torch.randn(2, layer.inputs.widest, 7, 9) * 2 + 1
        torch.testing.assert_close(layer(x, PLAN), plain(x))
    return layer, plain


@each_layer
def test_training_and_evaluation_are_those_of_torch(make: object) -> None:
    layer, plain = trained(make)
    torch.testing.assert_close(layer.norm.running_var, plain[1].running_var)
    x = torch.randn(2, layer.inputs.widest, 7, 9)
    torch.testing.assert_close(layer.eval()(x, PLAN), plain.eval()(x), atol=1e-5, rtol=1e-5)


@each_layer
def test_the_extracted_layer_is_one_convolution_and_agrees_exactly(make: object) -> None:
    layer, _ = trained(make)
    x = torch.randn(2, layer.inputs.widest, 7, 9)
    plain = layer.extract(PLAN)
    assert type(plain) is nn.Conv2d
    assert torch.equal(plain(x), layer.eval()(x, PLAN))
    before = layer.weight.clone()
    with torch.no_grad():
        plain.weight.zero_()
    assert torch.equal(layer.weight, before)


def test_what_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(InputError, match="batch statistics belong to one width"):
        NormConv2d(A, ChannelDim("c", (2, 4)))
    with pytest.raises(InputError, match="norm is none or batch"):
        normed(SLIMMABLE, "layer")  # type: ignore[arg-type]
    other = ConvSet(conv=dense, depthwise=SlimDepthwiseConv2d, transposed=SLIMMABLE.transposed)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="slimmable convolutions alone"):
        normed(other, "batch")
    assert normed(SLIMMABLE, "none").conv is SlimConv2d
