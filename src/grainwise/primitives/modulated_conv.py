"""Other published ways to condition a convolution, as terms of the same polynomial of the level.

All keep one kernel and change it by a few numbers for each output channel; `HyperKernel` changes every number of it.

- AdaFM (He et al., CVPR 2019): after the convolution y comes y + level * (g * y + h), a depthwise 1x1 filter whose effect is
  interpolated. Merged, the kernel is w + level * g w.
- CResMD (He et al., ECCV 2020): the output of a residual branch is scaled by a linear function of the condition,
  (a + level * s) * y. Merged, the kernel is a w + level * s w.
"""

from typing import Any

import torch
from torch import Tensor, nn

from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.hyper_conv import ConditionedKernel, Terms
from grainwise.primitives.slim_conv import ConvSet, SlimConv2d, SlimConvTranspose2d, SlimDepthwiseConv2d


class ChannelwiseKernel(ConditionedKernel):
    """A kernel that the level scales by a number for each output channel."""

    def _scaled(self, gain: Tensor, weight: Tensor) -> Tensor:
        """``weight`` at a plan, times ``gain`` [D] along its output channels."""
        shape = [1] * weight.ndim
        shape[self.form.output_axis] = -1
        return weight * gain.view(shape)

    def _cut(self, plan: ChannelPlan, *vectors: nn.Parameter) -> tuple[Tensor, ...]:
        return tuple(self.kept_outputs(vector, plan) for vector in vectors)


class AdaFMKernel(ChannelwiseKernel):
    """AdaFM: a convolution, and a depthwise 1x1 filter with bias behind it that enters with the level.

    The filter starts at zero. AdaFM trains everything else at level 0, then the filters alone at level 1, and
    interpolates.

    Args:
        shape, options: the arguments of the slimmable layer of the same form.
    """

    modulation = ("gain", "offset")

    def __init__(self, *shape: Any, **options: Any) -> None:
        """Add the filter."""
        super().__init__(*shape, **options)
        width = self.outputs.widest
        self.gain = nn.Parameter(torch.zeros(width))
        self.offset = nn.Parameter(torch.zeros(width))

    def terms(self, plan: ChannelPlan) -> Terms:
        """w + level * g w, and b + level * (g b + h)."""
        weight = self.kept(self.weight, plan)
        gain, offset = self._cut(plan, self.gain, self.offset)
        bias = torch.zeros_like(offset) if self.bias is None else self.kept_outputs(self.bias, plan)
        return Terms((weight, self._scaled(gain, weight)), (bias, gain * bias + offset))


class ScaledKernel(ChannelwiseKernel):
    """CResMD: a convolution whose output is scaled by a linear function of the level; it starts at a scale of 1.

    Args:
        shape, options: the arguments of the slimmable layer of the same form.
    """

    modulation = ("scale_slope",)

    def __init__(self, *shape: Any, **options: Any) -> None:
        """Add the linear function."""
        super().__init__(*shape, **options)
        width = self.outputs.widest
        self.scale = nn.Parameter(torch.ones(width))
        self.scale_slope = nn.Parameter(torch.zeros(width))

    def terms(self, plan: ChannelPlan) -> Terms:
        """(a + level * s) times the kernel and the bias."""
        weight = self.kept(self.weight, plan)
        scales = self._cut(plan, self.scale, self.scale_slope)
        biases: tuple[Tensor, ...] = ()
        if self.bias is not None:
            bias = self.kept_outputs(self.bias, plan)
            biases = tuple(scale * bias for scale in scales)
        return Terms(tuple(self._scaled(scale, weight) for scale in scales), biases)


class AdaFMConv2d(AdaFMKernel, SlimConv2d):  # type: ignore[misc]
    """See `AdaFMKernel` and `SlimConv2d`."""


class AdaFMDepthwiseConv2d(AdaFMKernel, SlimDepthwiseConv2d):  # type: ignore[misc]
    """See `AdaFMKernel` and `SlimDepthwiseConv2d`."""


class AdaFMConvTranspose2d(AdaFMKernel, SlimConvTranspose2d):  # type: ignore[misc]
    """See `AdaFMKernel` and `SlimConvTranspose2d`."""


class ScaledConv2d(ScaledKernel, SlimConv2d):  # type: ignore[misc]
    """See `ScaledKernel` and `SlimConv2d`."""


class ScaledDepthwiseConv2d(ScaledKernel, SlimDepthwiseConv2d):  # type: ignore[misc]
    """See `ScaledKernel` and `SlimDepthwiseConv2d`."""


class ScaledConvTranspose2d(ScaledKernel, SlimConvTranspose2d):  # type: ignore[misc]
    """See `ScaledKernel` and `SlimConvTranspose2d`."""


ADAFM = ConvSet(conv=AdaFMConv2d, depthwise=AdaFMDepthwiseConv2d, transposed=AdaFMConvTranspose2d, takes_level=True)
"""AdaFM's filters behind every convolution."""

SCALED = ConvSet(conv=ScaledConv2d, depthwise=ScaledDepthwiseConv2d, transposed=ScaledConvTranspose2d, takes_level=True)
"""CResMD's scale behind every convolution."""
