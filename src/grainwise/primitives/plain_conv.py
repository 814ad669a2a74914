"""Plain torch convolutions in place of slimmable ones, for parts of a network that are never slimmed.

They are called as ``layer(x)``, without a plan; each has the greatest width of its layouts.
"""

from torch import nn

from grainwise.primitives.channels import Channels
from grainwise.primitives.slim_conv import ConvSet, Layout, same_padding


def plain_conv(
    inputs: Layout, outputs: Layout, kernel: int = 3, *, stride: int = 1, bias: bool = True, reduction: int = 1
) -> nn.Module:
    """The `torch.nn.Conv2d` of full width; ``reduction`` matters to a cost alone, and a plain layer tells none."""
    c, d = Channels.of(inputs).widest, Channels.of(outputs).widest
    return nn.Conv2d(c, d, kernel, stride, same_padding(kernel, stride), bias=bias)


def plain_depthwise(
    channels: Layout, kernel: int = 3, *, stride: int = 1, bias: bool = True, reduction: int = 1
) -> nn.Module:
    """The grouped `torch.nn.Conv2d` of full width."""
    c = Channels.of(channels).widest
    return nn.Conv2d(c, c, kernel, stride, same_padding(kernel, stride), groups=c, bias=bias)


def plain_transposed(
    inputs: Layout, outputs: Layout, stride: int = 2, *, bias: bool = True, reduction: int = 1
) -> nn.Module:
    """The `torch.nn.ConvTranspose2d` of full width."""
    return nn.ConvTranspose2d(Channels.of(inputs).widest, Channels.of(outputs).widest, stride, stride, bias=bias)


PLAIN = ConvSet(conv=plain_conv, depthwise=plain_depthwise, transposed=plain_transposed)
