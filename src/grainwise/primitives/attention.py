"""Channel attention: each channel is multiplied by a number that the pooled picture decides.

Shape letters: B batch, C channels, R channels of the bottleneck, H and W size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.primitives.channels import ChannelPlan, Channels
from grainwise.primitives.slim_conv import Layout, SlimConv2d


def pooled(x: Tensor) -> Tensor:
    """The mean of every channel (DDS-Net eq. 8): [B, C, ...], any number of axes behind -> [B, C, 1, 1]."""
    return x.mean(tuple(range(2, x.ndim)))[:, :, None, None]


def tanh_scale(excited: Tensor) -> Tensor:
    """1 + tanh (the delta of DDS-Net eq. 9), in (0, 2); 1 where the input is 0."""
    return 1 + torch.tanh(excited)


class SlimPooled(SlimConv2d):
    """A 1x1 convolution of pooled vectors [B, C, 1, 1]: its cost does not grow with the picture."""

    def __init__(self, inputs: Layout, outputs: Layout, *, bias: bool = True) -> None:
        """Make the full-width weight with torch's own initialisation."""
        super().__init__(inputs, outputs, 1, bias=bias)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """None."""
        return 0.0

    def macs_per_picture(self, plan: ChannelPlan) -> float:
        """C * D."""
        return float(self.inputs.width(plan) * self.outputs.width(plan))


class SigmoidAttention(nn.Module):
    """x * sigmoid(W2 relu(W1 pooled(x))): the channel attention of MPRNet; the bottleneck is a share of the width.

    Args:
        channels: of ``x``; every width is divisible by ``squeeze``.
        squeeze: how many times narrower the bottleneck is.
        bias: whether the two layers have one.
    """

    def __init__(self, channels: Layout, *, squeeze: int, bias: bool) -> None:
        """Build both layers."""
        super().__init__()
        channels = Channels.of(channels)
        self.reduce = SlimPooled(channels, channels.divided(squeeze), bias=bias)
        self.expand = SlimPooled(channels.divided(squeeze), channels, bias=bias)

    def forward(self, x: Tensor, *at: object) -> Tensor:
        """[B, C, H, W] -> the same."""
        excited: Tensor = self.expand(F.relu(self.reduce(pooled(x), *at)), *at)
        return x * torch.sigmoid(excited)


class TanhAttention(nn.Module):
    """The attention head of DDS-Net (eq. 8 and 9) on the tap of a network.

    It pools the tap at its full width whatever the plan, so that the reduced feature, which the gate reads, does not depend
    on the route; the scales are those of the first channels. ``expand`` starts at zero: at first every scale is 1.

    Args:
        tap: channels of the tap.
        outputs: the channels that are kept: a dim of at most ``tap`` channels.
        reduced: channels of the reduced feature, R.
    """

    def __init__(self, tap: int, outputs: Layout, reduced: int) -> None:
        """Build both layers."""
        super().__init__()
        self.reduce = SlimPooled(tap, reduced)
        self.expand = SlimPooled(reduced, outputs)
        for parameter in self.expand.parameters():
            nn.init.zeros_(parameter)

    def reduced(self, tap: Tensor, *at: object) -> Tensor:
        """R = relu(W1 U): ``tap`` [B, tap, ...] -> [B, R, 1, 1]."""
        return F.relu(self.reduce(pooled(tap), *at))

    def forward(self, tap: Tensor, *at: object) -> Tensor:
        """The kept channels of ``tap`` [B, tap, ...], scaled: [B, C, ...]."""
        scale = tanh_scale(self.expand(self.reduced(tap, *at), *at))
        return tap[:, : scale.shape[1]] * scale.view(*scale.shape[:2], *[1] * (tap.ndim - 2))
