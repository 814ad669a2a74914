"""Networks whose widths are ratios of base widths: the routing space of DDS-Net (section IV-A).

Every layer has a base width. A ratio times it, rounded to the nearest multiple of 8 and at least 8, is a width that the
layer may have; the ratios run from 0.2 to 1.5. Base 64 for VDNet gives widths 16 to 96 on the first level, for example.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.networks.network import Network, check_picture, refuse_sigma
from grainwise.primitives.attention import TanhAttention
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, ChannelSpace
from grainwise.primitives.slim_conv import ConvSet

GRID = 8
"""Widths are multiples of this."""

RATIOS = (0.2, 1.5)
"""The least and the greatest ratio of the paper."""

TAP_SQUEEZE = 4
"""The r of eq. 9: the reduced feature has this many times fewer channels than the tap, but at least `GRID`."""


def on_grid(width: float) -> int:
    """The nearest multiple of 8, of two equally near the greater, and at least 8."""
    return max(GRID, math.floor(width / GRID + 0.5) * GRID)


def balanced(inputs: Channels) -> Tensor:
    """What the variance of each input channel's fresh weights is to be multiplied by: [channels at full width].

    All of a part's variance moves to the channels of its narrowest sub-network; the weights of the others become zero, and
    learn from there. A part of fixed width stays as it is.
    """
    factors = []
    for part in inputs.parts:
        wide = part.widest
        least = wide if part.dim is None else part.times * part.dim.narrowest // part.per
        factors.append(torch.zeros(wide))
        factors[-1][:least] = wide / least
    return torch.cat(factors)


class RatioDims:
    """Makes the dims of one network, and remembers their base widths.

    Args:
        ratios: the least and the greatest ratio; twice the same gives a static network.
        tied: whether all dims of a group are one.
    """

    def __init__(self, ratios: Sequence[float] = RATIOS, *, tied: bool = False) -> None:
        """Refuse ratios that are no range.

        Raises:
            InputError: not two positive, ascending ratios.
        """
        if len(ratios) != 2 or not 0 < ratios[0] <= ratios[1]:
            raise InputError(f"ratios are the least and the greatest, both above 0, got {list(ratios)}")
        self.ratios, self.tied = (float(ratios[0]), float(ratios[1])), tied
        self.base: dict[str, int] = {}
        self.made: dict[str, ChannelDim] = {}

    def __call__(self, name: str, group: str, base: int) -> ChannelDim:
        """The dim ``name``, or that of its ``group`` where dims are tied.

        Raises:
            InputError: a base that is no positive multiple of 8, or two bases in one dim.
        """
        if base < GRID or base % GRID:
            raise InputError(f"a base width is a positive multiple of {GRID}, got {base} for {name}")
        key = group if self.tied else name
        if self.base.setdefault(key, base) != base:
            raise InputError(f"the dim {key} has the base widths {self.base[key]} and {base}")
        if key not in self.made:
            low, high = (on_grid(ratio * base) for ratio in self.ratios)
            self.made[key] = ChannelDim(key, tuple(range(low, high + 1, GRID)))
        return self.made[key]

    @property
    def space(self) -> ChannelSpace:
        """Every dim made so far, in order."""
        return ChannelSpace(tuple(self.made.values()))

    def plan_at(self, ratio: float) -> ChannelPlan:
        """Every dim at ``ratio`` times its base; 1 is the network as its paper has it.

        Raises:
            InputError: the ratio is out of range.
        """
        if not self.ratios[0] <= ratio <= self.ratios[1]:
            raise InputError(f"the ratio lies in {list(self.ratios)}, got {ratio!r}")
        return self.space.plan({name: on_grid(ratio * base) for name, base in self.base.items()})


class RatioNetwork(Network):
    """A blind network whose widths are ratios of base widths, with a tap behind its first convolution.

    The tap is what a gate reads (DDS-Net, section III-C): the first convolution with its activation, at full width. With
    ``attention`` the network itself always computes the tap at full width, and its attention head scales it.
    """

    dims: RatioDims

    @abstractmethod
    def tap(self, x: Tensor, *at: object) -> Tensor:
        """The first convolution of ``x`` [B, 3, H, W], padded to the size multiple, with its activation: [B, C, ...].

        Without attention C is the width at the plan; the channels of a narrower plan are the first ones of a wider plan.
        """

    @abstractmethod
    def from_tap(self, tap: Tensor, x: Tensor, *at: object) -> Tensor:
        """The restored picture, from ``tap`` with `tap_width` channels; ``forward`` is this after `tap`."""

    @abstractmethod
    def tap_width(self, plan: ChannelPlan) -> int:
        """Channels of the tap that `from_tap` takes at ``plan``."""

    @property
    @abstractmethod
    def attention(self) -> TanhAttention | None:
        """The attention head, or None where the network was built without."""

    @property
    def tap_channels(self) -> int:
        """Channels of the tap at full width."""
        return self.tap_width(self.space.widest)

    def tap_macs_per_pixel(self, plan: ChannelPlan) -> float:
        """What the tap costs at ``plan``, in multiply-adds per pixel: 3x3 of three channels."""
        return 27.0 * self.tap_width(plan)

    def plan_at(self, ratio: float) -> ChannelPlan:
        """Every layer at ``ratio`` times its base width; 1 is the network as its paper has it.

        Raises:
            InputError: the ratio is out of range.
        """
        return self.dims.plan_at(ratio)

    def forward(self, x: Tensor, *at: object, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`; the network is blind."""
        check_picture(x, self.facts.channels)
        refuse_sigma(sigma)
        return self.from_tap(self.tap(x, *at), x, *at)

    def _stream(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the weights, channels_last."""
        return x.to(next(self.parameters()).dtype, memory_format=torch.channels_last)


def reduced_width(tap: int) -> int:
    """Channels of the reduced feature of a tap: a fourth, but at least 8."""
    return max(GRID, tap // TAP_SQUEEZE)


def refuse_levels(convs: ConvSet) -> None:
    """Raise `InputError` for convolutions that take a level: the networks of this kind are blind."""
    if convs.takes_level:
        raise InputError("this network is blind and has no level to give its convolutions; build it of slimmable ones")
