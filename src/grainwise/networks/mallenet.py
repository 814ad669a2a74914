"""MalleNet (ECCV 2022, arXiv 2201.00392): a coarse-to-fine denoiser of inverse bottlenecks with a MalleConv at each level.

A pyramid of pixel unshuffles (3, 12, 48 and 192 channels at 1, 1/2, 1/4 and 1/8 resolution) enters four levels of C, C, 2C and
4C channels. The coarsest level goes first; each finer one joins its own feature with the upsampled result of the coarser one.
The output is the picture minus the residual of the finest level.

Sources: the abstract and the released code, as restated facts; the supplement, the widths of the published models and their
numbers are not public to us, so no number of the paper can be claimed. Of the released predictors, the plain and the large
one are here; the one that is a small U-Net is not, because its layers were not found.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.half_resolution import FULL_EFFECT
from grainwise.networks.network import (
    Facts,
    Network,
    check_picture,
    least_exact_tile,
    noise_map,
    pad_to_multiple,
    refuse_sigma,
)
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, ChannelSpace
from grainwise.primitives.conv_sets import conv_set, name_of_convs
from grainwise.primitives.malle_conv import InverseBottleneck, MalleConv, MalleSettings
from grainwise.primitives.norm_conv import NormedConvs, NormKind, normed
from grainwise.primitives.reach import Span, radius
from grainwise.primitives.slim_conv import ConvSet, slim_layers

Condition = Literal["none", "sigma"]

MULTIPLES = (1, 1, 2, 4)
"""Channels of the levels 1, 1/2, 1/4 and 1/8, in units of C."""
LEVELS = len(MULTIPLES)


class Level(nn.Module):
    """One level: its part of the pyramid, the coarser level's result, blocks around a MalleConv.

    The finest level joins by a 1x1 convolution and has no blocks around its MalleConv; the coarsest joins nothing.
    """

    def __init__(
        self,
        convs: ConvSet,
        kinds: NormedConvs,
        index: int,
        dims: Sequence[ChannelDim],
        *,
        inputs: int,
        blocks: int,
        malle: MalleConv | None,
    ) -> None:
        """Build the layers of level ``index``; ``inputs`` channels come from the pyramid."""
        super().__init__()
        dim, reduction = dims[index], 2**index
        self.index = index
        self.blocks_a_side = blocks if index > 0 else 0

        def side() -> nn.ModuleList:
            return nn.ModuleList(InverseBottleneck(kinds, dim, reduction=reduction) for _ in range(self.blocks_a_side))

        self.enter = convs.conv(inputs, dim, 3, reduction=reduction)
        self.first = InverseBottleneck(kinds, dim, reduction=reduction)
        self.join: nn.Module | None = None
        if index + 1 < LEVELS:
            both = Channels.of(dims[index + 1]) + Channels.of(dim)
            self.join = kinds.conv(both, dim, 3 if index > 0 else 1, reduction=reduction)
        self.before, self.malle, self.after = side(), malle, side()

    def forward(self, x: Tensor, coarser: Tensor | None, *at: Any) -> Tensor:
        """[B, inputs, H, W] and, but for the coarsest level, [B, C of the coarser level, H / 2, W / 2] -> [B, C, H, W]."""
        y: Tensor = self.first(self.enter(x, *at), *at)
        if self.join is not None:
            assert coarser is not None
            up = F.interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=False)
            y = self.join(torch.cat([up, y], 1), *at)
        for block in self.before.children():
            y = block(y, *at)
        if self.malle is not None:
            y = self.malle(y, *at)
        for block in self.after.children():
            y = block(y, *at)
        return y

    def reads(self, pixels: Span) -> tuple[Span, Span]:
        """What these pixels of the result depend on: of the level's part of the pyramid, and of the coarser result."""
        pixels = pixels.conv(3, self.blocks_a_side)
        if self.malle is not None:
            pixels = self.malle.reads(pixels)
        pixels = pixels.conv(3, self.blocks_a_side)
        joined = pixels.conv(3) if self.join is not None and self.index > 0 else pixels
        return joined.conv(3, 2), joined.resize(2)


class MalleNet(Network):
    """See the head of this file. The defaults are the released code's, but for batch norm, which has one width.

    The paper's network in the sizes of `paper` has one width, batch norm and no noise level. The slimmable one has a dim for
    each level and one for the predictors (``level0`` to ``level3``, ``predictor``).

    Args:
        widths: the allowed values of C, ascending; a level has 1, 1, 2 or 4 times as many channels, finest first.
        channels: channels of the picture: 3, or 1 for grey.
        condition: "sigma" adds the noise level as one more input channel of each level; "none" is blind.
        norm: "batch" (one width only; it is folded into the convolutions once trained) or "none".
        blocks: blocks on each side of a MalleConv, at all levels but the finest.
        malle_levels: levels with a MalleConv; 0 is the finest.
        kernel, offset, group, gate, start: of the malleable convolutions, see `MalleSettings`.
        pre_pool: average pooling before the predictors of the two finest levels: 1, 2 or 4 ("down", "downavg2", "downavg4").
        pools: poolings by 2 in each predictor.
        predictor_blocks: blocks of the predictors at each resolution.
        large: whether the predictors double their width after each pooling.
        sigma_max: the greatest noise level of its training, in image units.
        convs: the kinds of convolution: a set, or its name. Level-conditioned ones, in the predictors too, take the level of
            sigma, sigma / sigma_max, unless another is given.

    Raises:
        InputError: values that cannot be built, among them batch norm with several widths.
        UnknownNameError: no set of convolutions has that name.
        PlanError: widths that are not positive and ascending, or that ``group`` does not divide.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 24, 32),
        channels: int = 3,
        condition: Condition = "none",
        norm: NormKind = "none",
        blocks: int = 2,
        malle_levels: Sequence[int] = (0, 1, 2, 3),
        kernel: int = 1,
        offset: bool = True,
        group: int = 1,
        gate: bool = True,
        start: float = 1.0,
        pre_pool: int = 4,
        pools: int = 2,
        predictor_blocks: int = 3,
        large: bool = False,
        sigma_max: float = 75 / 255,
        convs: ConvSet | str = "slim",
    ) -> None:
        """Build every level at its greatest width."""
        super().__init__()
        self._convs = convs = conv_set(convs)
        self._config = {
            "widths": list(widths),
            "channels": channels,
            "condition": condition,
            "norm": norm,
            "blocks": blocks,
            "malle_levels": list(malle_levels),
            "kernel": kernel,
            "offset": offset,
            "group": group,
            "gate": gate,
            "start": start,
            "pre_pool": pre_pool,
            "pools": pools,
            "predictor_blocks": predictor_blocks,
            "large": large,
            "sigma_max": sigma_max,
        }
        if condition not in get_args(Condition):
            raise InputError(f"condition is {' or '.join(get_args(Condition))}, got {condition!r}")
        if blocks < 1 or not set(malle_levels) <= set(range(LEVELS)) or pre_pool not in (1, 2, 4):
            raise InputError(
                f"blocks is at least 1, malle_levels are among 0 to {LEVELS - 1}, pre_pool is 1, 2 or 4; "
                f"got {blocks}, {list(malle_levels)} and {pre_pool}"
            )
        fine = MalleSettings(
            kernel=kernel,
            offset=offset,
            group=group,
            pre_pool=pre_pool,
            pools=pools,
            blocks=predictor_blocks,
            large=large,
            gate=gate,
            start=start,
            norm=norm,
        )
        dims = [ChannelDim(f"level{i}", tuple(w * times for w in widths)) for i, times in enumerate(MULTIPLES)]
        inside = ChannelDim("predictor", tuple(widths))
        kinds = normed(convs, norm)

        def level(index: int) -> Level:
            how = fine if index < 2 else replace(fine, pre_pool=1)
            has = index in malle_levels
            malle = MalleConv(convs, dims[index], how, width=inside, reduction=2**index) if has else None
            inputs = channels * 4**index + (condition == "sigma")
            return Level(convs, kinds, index, dims, inputs=inputs, blocks=blocks, malle=malle)

        self.levels = nn.ModuleList(level(index) for index in range(LEVELS))
        self.last = InverseBottleneck(kinds, dims[0], reduction=1)
        self.tail = convs.conv(dims[0], channels, 3)
        self.space = ChannelSpace((*dims, inside) if malle_levels else tuple(dims))
        self.facts = self._facts(channels, condition, sigma_max)

    def _facts(self, channels: int, condition: Condition, sigma_max: float) -> Facts:
        strides = [2**i * part.malle.settings.stride for i, part in enumerate(self._levels()) if part.malle is not None]
        multiple = max([2 ** (LEVELS - 1), *strides])
        takes_level = self._convs.takes_level
        return Facts(
            channels=channels,
            scale=1,
            size_multiple=multiple,
            halo=radius(self._reads, multiple),
            needs_sigma=condition == "sigma" or takes_level,
            sigma_max=sigma_max,
            exact_tiles=True,
            least_tile=least_exact_tile(slim_layers(self), self.space.narrowest),
            level_range=(0.0, sigma_max) if takes_level else None,
        )

    @classmethod
    def paper(cls, width: int, *, pre_pool: int = 4, large: bool = False, channels: int = 3) -> "MalleNet":
        """The released code's network at C = ``width``: one width, batch norms, blind."""
        return cls(widths=(width,), norm="batch", pre_pool=pre_pool, large=large, channels=channels)

    @property
    def config(self) -> dict[str, Any]:
        """All arguments, the convolutions by their name."""
        return {**self._config, "convs": name_of_convs(self._convs)}

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Picture, pyramid and result; 28 to 37 copies of the finest stream were measured, of them 10 in a widened block."""
        return 96 + 40 * plan["level0"] * itemsize

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`. Streams are channels_last, in the dtype of the weights; the last sum is in that of ``x``."""
        check_picture(x, self.facts.channels)
        level: Tensor | None = None
        if self.facts.needs_sigma:
            level = noise_map(sigma, x)
        else:
            refuse_sigma(sigma)
        at = self.conditioned(x, at, sigma)
        dtype = next(self.parameters()).dtype
        picture = (pad_to_multiple(x, self.facts.size_multiple) - 0.5).to(dtype)
        stream: Tensor | None = None
        for part in reversed(self._levels()):
            stream = part(self._entry(picture, level, part.index), stream, *at)
        assert stream is not None
        residual: Tensor = self.tail(self.last(stream, *at), *at)
        residual = residual[:, :, : x.shape[2], : x.shape[3]].to(x.dtype)
        return x - (residual if level is None else residual * (level / FULL_EFFECT).clamp(max=1))

    def _levels(self) -> list[Level]:
        return [part for part in self.levels.children() if isinstance(part, Level)]

    def _entry(self, picture: Tensor, level: Tensor | None, index: int) -> Tensor:
        """The input of a level: the phases of the picture, and the mean noise level of each."""
        factor = 2**index
        phases = F.pixel_unshuffle(picture, factor)
        if level is not None and self._config["condition"] == "sigma":
            plane = level.to(phases.dtype)
            if level.shape[2:] == (1, 1):
                plane = plane.expand(-1, -1, *phases.shape[2:])
            else:
                plane = F.avg_pool2d(pad_to_multiple(plane, self.facts.size_multiple), factor)
            phases = torch.cat([phases, plane], 1)
        return phases.contiguous(memory_format=torch.channels_last)

    def _reads(self, pixels: Span) -> Span:
        """The pixels of the picture that these pixels of the output depend on."""
        pixels = pixels.conv(3).conv(3)
        read = pixels
        for index, part in enumerate(self._levels()):
            own, pixels = part.reads(pixels)
            read = read | own.pool(2**index)
        return read
