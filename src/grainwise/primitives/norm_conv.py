"""Convolutions followed by a batch norm, which costs nothing once trained: it is folded into the convolution's weight.

In training mode the statistics of the batch normalise; in evaluation mode, and in the extracted layer, the weight is
w * gamma / sqrt(var + eps) and the bias beta + (b - mean) * gamma / sqrt(var + eps), and the two agree exactly.

The statistics of a narrow sub-network are not those of a wide one, so these layers have one width.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.slim_conv import (
    SLIMMABLE,
    ConvSet,
    Layout,
    MakesConv,
    MakesDepthwise,
    SlimConv2d,
    SlimDepthwiseConv2d,
    SlimKernel,
    SlimLayer,
)

NormKind = Literal["none", "batch"]
MOMENTUM, EPSILON = 0.1, 1e-5


class BatchNorm(SlimLayer):
    """Batch norm over [B, C, H, W], whose evaluation mode is left to the layer that it is folded into.

    Args:
        channels: C, of one width.

    Raises:
        InputError: the layout has more than one width.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: Layout) -> None:
        """Start as the identity."""
        super().__init__(channels, channels, reduction=1)
        if any(part.dim is not None and len(part.dim.widths) > 1 for part in self.inputs.parts):
            raise InputError(
                "batch statistics belong to one width, and a slimmable layer has several; take norm='none', or one width"
            )
        width = self.inputs.widest
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """Normalise in training mode; in evaluation mode ``x``, which a folded layer has normalised already."""
        self._check(x, plan)
        if not self.training:
            return x
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, MOMENTUM, EPSILON)

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """Nothing: it is folded into another layer."""
        return nn.Identity()

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """None: it is folded into another layer."""
        return 0.0

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [C] of the evaluation mode."""
        scale = self.weight * torch.rsqrt(self.running_var + EPSILON)
        assert self.bias is not None
        return scale, self.bias - self.running_mean * scale


def folded(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [D, C, k, k] and bias [D] of a convolution whose result is multiplied by ``scale`` [D] and shifted."""
    return weight * scale.view(-1, 1, 1, 1), shift if bias is None else bias * scale + shift


class NormKernel(SlimKernel):
    """A convolution, then batch norm; every dim has one width.

    Args:
        shape, options: the arguments of the slimmable layer of the same form.
    """

    def __init__(self, *shape: Any, **options: Any) -> None:
        """Make the weight and the norm."""
        super().__init__(*shape, **options)
        self.norm = BatchNorm(self.outputs)

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """What the layer of that form gives, normalised."""
        if self.training:
            return self.norm.forward(super().forward(x, plan), plan)
        self._check(x, plan)
        return self.form(x, *folded(self.weight, self.bias, *self.norm.affine()))

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """The `torch.nn.Conv2d` with the norm folded in."""
        return self.form.layer(*folded(self.weight, self.bias, *self.norm.affine()))


class NormConv2d(NormKernel, SlimConv2d):
    """A dense convolution, then batch norm; see `SlimConv2d` for its arguments."""


class NormDepthwiseConv2d(NormKernel, SlimDepthwiseConv2d):
    """A depthwise convolution, then batch norm; see `SlimDepthwiseConv2d` for its arguments."""


@dataclass(frozen=True, kw_only=True)
class NormedConvs:
    """Convolutions, each followed by the norm of a network."""

    conv: MakesConv
    depthwise: MakesDepthwise


def normed(convs: ConvSet, norm: NormKind) -> NormedConvs:
    """The convolutions of a network that come with a norm.

    Raises:
        InputError: an unknown norm, or batch norm for convolutions other than the slimmable ones.
    """
    if norm == "none":
        return NormedConvs(conv=convs.conv, depthwise=convs.depthwise)
    if norm != "batch":
        raise InputError(f"norm is none or batch, got {norm!r}")
    if convs != SLIMMABLE:
        raise InputError("batch norm is there for slimmable convolutions alone; take norm='none' for other kinds")
    return NormedConvs(conv=NormConv2d, depthwise=NormDepthwiseConv2d)
