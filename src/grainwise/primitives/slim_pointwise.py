"""Slimmable layers that work on each value alone: a PReLU with a slope per channel, and a learned factor.

They are called as ``layer(x, plan)`` and leave alone what other kinds of layers take behind the plan; so do the layers that
are extracted from them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.slim_conv import Layout, SlimLayer, take_channels


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """max(x, 0) + slope * min(x, 0) in the dtype of ``x`` [B, C, H, W]; ``slopes`` [C].

    Where a gradient is wanted it is written as two ReLUs, whose gradient takes a CPU a third of the time of `F.prelu`'s; the
    values are the same.
    """
    slopes = slopes.to(x.dtype)
    if torch.is_grad_enabled() and x.requires_grad:
        return F.relu(x) - slopes.view(1, -1, 1, 1) * F.relu(-x)
    return F.prelu(x, slopes)


class ChannelPReLU(nn.PReLU):
    """`torch.nn.PReLU`, in the dtype of its input, that leaves further arguments alone."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        return prelu(x, self.weight)


class Factor(nn.Module):
    """x times a learned number."""

    def __init__(self, weight: Tensor) -> None:
        """Keep a copy of ``weight``, a scalar."""
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """[...] -> the same."""
        return x * self.weight.to(x.dtype)


class SlimPReLU(SlimLayer):
    """max(x, 0) + slope * min(x, 0), a slope for each channel, which starts at 0.25."""

    def __init__(self, channels: Layout) -> None:
        """Make the slopes of all channels."""
        super().__init__(channels, channels, reduction=1)
        self.weight = nn.Parameter(torch.full((self.inputs.widest,), 0.25))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, plan: ChannelPlan, *_: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        self._check(x, plan)
        return prelu(x, take_channels(self.weight, self.inputs.runs(plan), 0))

    def extract(self, plan: ChannelPlan, *_: Any) -> nn.Module:
        """The `ChannelPReLU` of ``plan``."""
        slopes = take_channels(self.weight, self.inputs.runs(plan), 0)
        plain = ChannelPReLU(slopes.shape[0], device="meta").to_empty(device=slopes.device).to(slopes.dtype)
        with torch.no_grad():
            plain.weight.copy_(slopes)
        return plain

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """None: only convolutions are counted."""
        return 0.0


class SlimFactor(SlimLayer):
    """x times one learned number, the same for all channels and plans.

    Args:
        channels: of ``x``.
        initial: the number at first.
    """

    def __init__(self, channels: Layout, *, initial: float) -> None:
        """Make the number."""
        super().__init__(channels, channels, reduction=1)
        self.weight = nn.Parameter(torch.tensor(initial))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, plan: ChannelPlan, *_: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        self._check(x, plan)
        return x * self.weight.to(x.dtype)

    def extract(self, plan: ChannelPlan, *_: Any) -> nn.Module:
        """The `Factor`."""
        return Factor(self.weight)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """None: only convolutions are counted."""
        return 0.0
