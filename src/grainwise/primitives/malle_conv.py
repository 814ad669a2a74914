"""MalleConv: a small network predicts, at low resolution, the kernels of a malleable convolution; a residual branch.

    MalleConv(x) = x + gate * clip(prelu(norm(malleable_conv2d(x, predictor(x)))), -1, 1)

The gate is a learned number that starts at 0, so that the branch starts as nothing.

Source: "Fast and High-Quality Image Denoising via Malleable Convolutions" (ECCV 2022, arXiv 2201.00392) and its released
code; 3x3 kernels are the paper's general form, the released operator has 1x1 kernels and an offset.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan, Channels, Part
from grainwise.primitives.fused_conv import conv_alone
from grainwise.primitives.malleable_conv import malleable_conv2d
from grainwise.primitives.norm_conv import BatchNorm, NormedConvs, NormKind, folded, normed
from grainwise.primitives.reach import Span, radius
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet, Layout, SlimConv2d
from grainwise.primitives.slim_pointwise import SlimFactor, SlimPReLU


@dataclass(frozen=True, kw_only=True)
class MalleSettings:
    """What one MalleConv is like; the defaults are the released code's.

    Args:
        kernel: of the malleable convolution, 1 or 3.
        offset: whether an offset is predicted with the kernels.
        group: how many neighbouring channels share a kernel.
        pre_pool: average pooling before the predictor: 1 for none.
        pools: poolings by 2 inside the predictor; a cell of the grid is ``pre_pool * 2**pools`` pixels a side.
        blocks: blocks of the predictor at each of its ``pools + 1`` resolutions.
        large: whether the predictor doubles its width after each pooling.
        gate: whether the branch is multiplied by a learned number that starts at 0.
        start: a factor of the first weights of the layer that gives the grid. A gate opens slowly, because the predictor learns
            only as far as it is open; without one, a small factor starts the branch as almost nothing, and learns at once.
        norm: "batch" for batch norms in the predictor and after slicing, or "none".
    """

    kernel: int = 1
    offset: bool = True
    group: int = 1
    pre_pool: int = 1
    pools: int = 2
    blocks: int = 3
    large: bool = False
    gate: bool = True
    start: float = 1.0
    norm: NormKind = "none"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.kernel not in (1, 3):
            raise InputError(f"a MalleConv has kernel 1 or 3, got {self.kernel}")
        if min(self.group, self.pre_pool, self.blocks) < 1 or self.pools < 0:
            raise InputError(f"group, pre_pool and blocks are at least 1, pools at least 0; got {self}")
        if not 0 < self.start <= 1 or (self.norm == "batch" and self.start != 1):
            raise InputError(f"start lies in (0, 1], and is 1 with norm='batch', which undoes it; got {self.start}")
        if self.norm == "batch" and not self.offset:
            raise InputError("the norm after slicing is folded into the offset; take offset=True, or norm='none'")

    @property
    def stride(self) -> int:
        """Pixels of the feature along a side of a cell."""
        return int(self.pre_pool * 2**self.pools)

    @property
    def planes(self) -> int:
        """Predicted values for each kernel."""
        return self.kernel**2 + self.offset


def times(layout: Layout, factor: int) -> Channels:
    """The layout with ``factor`` channels in place of each."""
    return Channels(tuple(Part(part.dim, part.times * factor, part.per) for part in Channels.of(layout).parts))


class InverseBottleneck(nn.Module):
    """x + prelu(1x1(prelu(depthwise 3x3(prelu(1x1(x)))))), five times wider inside, a norm before each PReLU."""

    EXPANSION = 5

    def __init__(self, convs: NormedConvs, channels: Layout, *, reduction: int) -> None:
        """Build the three convolutions and their activations."""
        super().__init__()
        wide = times(channels, self.EXPANSION)
        self.widen = convs.conv(channels, wide, 1, reduction=reduction)
        self.mix = convs.depthwise(wide, 3, reduction=reduction)
        self.narrow = convs.conv(wide, channels, 1, reduction=reduction)
        self.act1, self.act2, self.act3 = SlimPReLU(wide), SlimPReLU(wide), SlimPReLU(channels)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        y: Tensor = conv_alone(self.widen, x, *at)  # one step a line: no wide feature outlives its use
        y = self.act1(y, *at)
        y = self.mix(y, *at)
        y = self.act2(y, *at)
        y = conv_alone(self.narrow, y, *at)
        y = self.act3(y, *at)
        return x + y


class Expander(SlimConv2d):
    """The 1x1 convolution that gives the grid, where a norm follows the slicing: the norm is folded into it.

    Blending keeps a factor and an offset that are the same everywhere, so gamma and beta may be applied to the grid:
    gamma to every plane, beta to the offset alone.
    """

    def __init__(self, inputs: Layout, outputs: Layout, *, planes: int, reduction: int, norm: BatchNorm) -> None:
        """Make the weight; ``outputs`` are ``planes`` times the channels of ``norm``, which belongs to the caller."""
        super().__init__(inputs, outputs, 1, reduction=reduction)
        self.planes = planes
        self._norm = (norm,)  # in a tuple, so that its weights are registered once, with the caller

    def _folded(self, norm: BatchNorm) -> tuple[Tensor, Tensor]:
        scale, shift = norm.affine()
        weight, bias = folded(self.weight, self.bias, scale.repeat(self.planes), scale.new_zeros(()))
        return weight, bias + F.pad(shift, (bias.shape[0] - shift.shape[0], 0))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """[B, C, gh, gw] -> [B, planes * K, gh, gw]."""
        (norm,) = self._norm
        if norm.training:
            return super().forward(x, plan)
        self._check(x, plan)
        return F.conv2d(x, *self._folded(norm))

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """The `torch.nn.Conv2d` with the norm folded in."""
        (norm,) = self._norm
        return self.form.layer(*self._folded(norm))


class Predictor(nn.Module):
    """Maps a feature to a grid of kernels: convolution, then blocks at ever lower resolution, then `Expander`.

    Args:
        convs: the kinds of convolution.
        inputs: channels of the feature.
        width: channels inside, at the first resolution.
        kernels: kernels in a cell.
        settings: see `MalleSettings`.
        reduction: input pixels along a side of one pixel of the feature.
        norm: the norm after slicing, if there is one.
    """

    def __init__(
        self,
        convs: ConvSet,
        inputs: Layout,
        width: Layout,
        kernels: Layout,
        settings: MalleSettings,
        *,
        reduction: int,
        norm: BatchNorm | None,
    ) -> None:
        """Build every resolution."""
        super().__init__()
        self.settings = settings
        reduction *= settings.pre_pool
        kinds = normed(convs, settings.norm)
        self.head, self.act = convs.conv(inputs, width, 3, reduction=reduction), SlimPReLU(width)
        self.growth, self.growth_acts, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in range(settings.pools + 1):
            if stage > 0:
                reduction *= 2
                if settings.large:
                    wider = times(width, 2)
                    self.growth.append(kinds.conv(width, wider, 3, reduction=reduction))
                    self.growth_acts.append(SlimPReLU(wider))
                    width = wider
            self.stages.append(
                nn.ModuleList(InverseBottleneck(kinds, width, reduction=reduction) for _ in range(settings.blocks))
            )
        planes = settings.planes
        grid = sum((Channels.of(kernels) for _ in range(planes - 1)), Channels.of(kernels))
        self.expander = (
            convs.conv(width, grid, 1, reduction=reduction)
            if norm is None
            else Expander(width, grid, planes=planes, reduction=reduction, norm=norm)
        )
        with torch.no_grad():
            for parameter in self.expander.parameters():
                parameter.mul_(settings.start)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> [B, planes * K, ceil(H / stride), ceil(W / stride)]."""
        if self.settings.pre_pool > 1:
            x = F.avg_pool2d(x, self.settings.pre_pool, ceil_mode=True)
        x = self.act(self.head(x, *at), *at)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.max_pool2d(x, 2, ceil_mode=True)
                if self.settings.large:
                    x = self.growth_acts[index - 1](self.growth[index - 1](x, *at), *at)
            for block in stage.children():
                x = block(x, *at)
        grid: Tensor = self.expander(x, *at)
        return grid

    def reads(self, cells: Span) -> Span:
        """The pixels of the feature that these cells depend on."""
        for stage in range(self.settings.pools, -1, -1):
            cells = cells.conv(3, self.settings.blocks)
            if stage > 0:
                cells = (cells.conv(3) if self.settings.large else cells).pool(2)
        return cells.conv(3).pool(self.settings.pre_pool)


class MalleConv(nn.Module):
    """The residual branch; see the head of this file.

    Tiles equal the whole where a tile starts at a multiple of ``reduction * settings.stride`` input pixels and reads
    `context` * reduction pixels more on each side.

    Args:
        convs: the kinds of convolution.
        channels: of the feature.
        settings: see `MalleSettings`.
        width: channels inside the predictor; those of the feature if it is None.
        reduction: input pixels along a side of one pixel of the feature.

    Raises:
        InputError: settings that cannot be built of these convolutions.
        PlanError: ``settings.group`` does not divide the channels at every width.
    """

    def __init__(
        self,
        convs: ConvSet,
        channels: Layout,
        settings: MalleSettings,
        *,
        width: Layout | None = None,
        reduction: int = 1,
    ) -> None:
        """Build the predictor, the norm, the activation and the gate."""
        super().__init__()
        self.settings, self.reduction = settings, reduction
        norm = BatchNorm(channels) if settings.norm == "batch" else None
        kernels = Channels.of(channels).divided(settings.group)
        if norm is not None and settings.group > 1:
            raise InputError("the norm after slicing is one of every channel; take group=1, or norm='none'")
        inner = channels if width is None else width
        self.predictor = Predictor(convs, channels, inner, kernels, settings, reduction=reduction, norm=norm)
        self.norm = norm
        self.act = SlimPReLU(channels)
        self.gate = SlimFactor(channels, initial=0.0) if settings.gate else None

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        how = self.settings
        grid = self.predictor(x, *at)
        y = malleable_conv2d(x, grid, stride=how.stride, kernel=how.kernel, offset=how.offset)
        if self.norm is not None:
            y = self.norm(y, *at)
        y = self.act(y, *at).clamp(-1, 1)
        total: Tensor = x + (y if self.gate is None else self.gate(y, *at))
        return total

    def reads(self, pixels: Span) -> Span:
        """The pixels of the feature that these pixels of the result depend on."""
        return pixels.conv(self.settings.kernel) | self.predictor.reads(pixels.resize(self.settings.stride))

    @property
    def context(self) -> int:
        """How far a pixel of the result sees, in pixels of the feature."""
        return radius(self.reads, self.settings.stride)

    def slicing_macs_per_pixel(self, plan: ChannelPlan) -> float:
        """Multiply-adds of the malleable convolution itself per input pixel, in the cell form: two for each tap and channel.

        They are not part of `Network.macs_per_pixel`, which counts convolutions with stored weights.
        """
        planes = self.settings.planes
        return 2 * planes * self.act.inputs.width(plan) / self.reduction**2


@dataclass(frozen=True, kw_only=True)
class Places:
    """Which convolutions of a network are followed by a MalleConv: those for which all that is given holds.

    Args:
        kernel, stride: of the convolution.
        reductions: resolutions of its result, in input pixels along a side of one of its pixels.
    """

    kernel: int | None = None
    stride: int | None = None
    reductions: tuple[int, ...] | None = None

    def hold(self, kernel: int, stride: int, reduction: int) -> bool:
        """Whether a convolution is among them."""
        return (
            self.kernel in (None, kernel)
            and self.stride in (None, stride)
            and (self.reductions is None or reduction in self.reductions)
        )


def malleable_convs(places: Places, settings: MalleSettings, base: ConvSet = SLIMMABLE) -> ConvSet:
    """The set ``base`` whose dense convolutions at ``places`` are each followed by a MalleConv.

    A network built of it needs nothing else, but for its halo and size multiple, which grow: see
    `grainwise.networks.network.Facts.with_context`.
    """

    def conv(
        inputs: Layout,
        outputs: Layout,
        kernel: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        reduction: int = 1,
    ) -> nn.Module:
        layer = base.conv(inputs, outputs, kernel, stride=stride, bias=bias, reduction=reduction)
        if not places.hold(kernel, stride, reduction):
            return layer
        return MalleableConv2d(layer, MalleConv(base, outputs, settings, reduction=reduction))

    return replace(base, conv=conv)


class MalleableConv2d(nn.Module):
    """A convolution followed by a `MalleConv`."""

    def __init__(self, conv: nn.Module, malle: MalleConv) -> None:
        """Keep both."""
        super().__init__()
        self.conv, self.malle = conv, malle

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> [B, D, H / stride, W / stride]."""
        y: Tensor = self.malle(self.conv(x, *at), *at)
        return y


MALLEABLE = malleable_convs(Places(kernel=2, stride=2), MalleSettings(kernel=3, blocks=1))
"""Slimmable convolutions, and a MalleConv of 3x3 kernels with a small predictor after each that goes down by 2."""
