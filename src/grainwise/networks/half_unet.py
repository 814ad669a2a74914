"""The default network: a residual U-Net at half resolution, conditioned on a level, of plain dense 3x3 convolutions.

Why this and nothing newer: it gives the most PSNR per CPU second (LOG.md, block bake-off). A dense 3x3 convolution runs near
the peak rate of a CPU; depthwise convolutions and norms do not. Half resolution saves three quarters of the memory traffic.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.half_resolution import (
    FULL_EFFECT,
    FULL_EFFECT_OF_LEVEL,
    SMALLEST_STREAM,
    least_tile,
    to_half_resolution,
    without_residual,
)
from grainwise.networks.network import Facts, Network, check_picture, level_map, noise_map, refuse_sigma
from grainwise.networks.tasks import DENOISE, level_range_of
from grainwise.primitives.channels import ChannelDim, ChannelPlan, ChannelSpace
from grainwise.primitives.conv_sets import conv_set, name_of_convs
from grainwise.primitives.fused_conv import conv_add, conv_relu
from grainwise.primitives.slim_conv import ConvSet


class MakesBlock(Protocol):
    """Makes the block of a level: a module called as ``block(x, *at)`` that keeps the shape."""

    def __call__(self, convs: ConvSet, dim: ChannelDim, *, reduction: int) -> nn.Module:
        """Build the block of ``dim`` channels."""


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), both 3x3."""

    def __init__(self, convs: ConvSet, dim: ChannelDim, *, reduction: int) -> None:
        """Build both convolutions."""
        super().__init__()
        self.conv1 = convs.conv(dim, dim, 3, reduction=reduction)
        self.conv2 = convs.conv(dim, dim, 3, reduction=reduction)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        return conv_add(self.conv2, conv_relu(self.conv1, x, *at), x, *at)


class HalfUNet(Network):
    """Three or more levels at 1/2, 1/4, 1/8 ... resolution; skip connections are added.

    Args:
        widths: for each level, the allowed channel counts, ascending; level 0 from 16.
        blocks: for each level, the number of blocks on each side of the U (the coarsest level has one side only).
        channels: channels of the picture.
        task: what it restores, see `grainwise.networks.tasks`. A network for ``denoise`` is told sigma; one for another task
            is told the level of that task behind the plan, and its convolutions take it.
        sigma_max: the greatest noise level of its training, in image units; None for 75/255, or another task.
        convs: the kinds of convolution: a set, or its name. Level-conditioned ones take the level of sigma, sigma / sigma_max,
            unless another is given.
        block: the block.
    """

    def __init__(
        self,
        *,
        widths: Sequence[Sequence[int]] = ((16, 32, 48, 64), (32, 40, 48, 64, 80), (48, 64, 80, 96, 112)),
        blocks: Sequence[int] = (2, 2, 2),
        channels: int = 3,
        task: str = DENOISE,
        sigma_max: float | None = None,
        convs: ConvSet | str = "slim",
        block: MakesBlock = ResidualBlock,
    ) -> None:
        """Build every level at its greatest width."""
        super().__init__()
        convs = conv_set(convs)
        if len(widths) != len(blocks) or len(widths) < 2 or min(blocks, default=0) < 1:
            raise InputError(f"each of at least 2 levels needs widths and blocks, got {len(widths)} and {list(blocks)}")
        if min(widths[0]) < SMALLEST_STREAM:
            raise InputError(f"level 0 needs at least {SMALLEST_STREAM} channels, got {list(widths[0])}")
        levels = level_range_of(task, None if task != DENOISE or sigma_max is None else (0.0, sigma_max))
        if task != DENOISE and (sigma_max is not None or not convs.takes_level):
            raise InputError(
                f"a network for {task} has no sigma_max, and convolutions that take its level such as hyper, got "
                f"sigma_max={sigma_max} and {name_of_convs(convs)}"
            )
        dims = [ChannelDim(f"level{i}", tuple(level)) for i, level in enumerate(widths)]
        reductions = [2 ** (i + 1) for i in range(len(dims))]
        self._convs = convs
        self._config = {
            "widths": [list(level) for level in widths],
            "blocks": list(blocks),
            "channels": channels,
            "task": task,
            "sigma_max": levels[1] if task == DENOISE else None,
        }
        self.space = ChannelSpace(tuple(dims))
        self.facts = Facts(
            channels=channels,
            scale=1,
            size_multiple=reductions[-1],
            halo=_halo(reductions, blocks),
            needs_sigma=task == DENOISE,
            sigma_max=levels[1] if task == DENOISE else 0.0,
            exact_tiles=True,
            least_tile=least_tile(reductions, widths),
            task=task,
            level_range=levels if convs.takes_level else None,
        )
        self._fixed: tuple[float | Tensor, ...] = ()

        def side(level: int) -> nn.ModuleList:
            return nn.ModuleList(block(convs, dims[level], reduction=reductions[level]) for _ in range(blocks[level]))

        last = len(dims) - 1
        self.head = convs.conv(4 * channels + 1, dims[0], 3, reduction=2)
        self.encoder = nn.ModuleList(side(level) for level in range(last))
        self.down = nn.ModuleList(
            convs.conv(fine, coarse, 2, stride=2, bias=False, reduction=reduction)
            for (fine, coarse), reduction in zip(pairwise(dims), reductions[1:], strict=True)
        )
        self.middle = side(last)
        self.up = nn.ModuleList(
            convs.transposed(coarse, fine, 2, bias=False, reduction=reduction)
            for (fine, coarse), reduction in zip(pairwise(dims), reductions, strict=False)
        )
        self.decoder = nn.ModuleList(side(level) for level in range(last))
        self.tail = convs.conv(dims[0], 4 * channels, 3, reduction=2)
        self.facts = self.facts.with_context(self)

    @property
    def config(self) -> dict[str, Any]:
        """Widths, blocks, channels, task, the greatest noise level and the name of the convolutions."""
        return {**self._config, "convs": name_of_convs(self._convs)}

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Fixed: picture, residual, level and result. Then ten copies of the finest stream, convolution workspace included."""
        return 96 + 10 * plan["level0"] * itemsize / 4

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`. The stream is channels_last, in the dtype of the weights; the last sum is in that of ``x``."""
        check_picture(x, self.facts.channels)
        level, at = self._told_level(x, at, sigma)
        dtype = next(self.parameters()).dtype
        stream = to_half_resolution(x, level, multiple=self.facts.size_multiple, dtype=dtype)
        stream = self.head(stream, *at)
        for block in self._sides(self.encoder)[0]:
            stream = block(stream, *at)
        coarse = self.coarse(self.down[0](stream, *at), *at)
        stream = self.up[0](coarse, *at) + stream
        for block in self._sides(self.decoder)[0]:
            stream = block(stream, *at)
        full_effect = FULL_EFFECT if self.facts.task == DENOISE else FULL_EFFECT_OF_LEVEL
        return without_residual(x, self.tail(stream, *at), level, full_effect)

    def extract(self, plan: ChannelPlan, *level: float | Tensor) -> nn.Module:
        """See `Network.extract`; with its kernels merged, a network for another task than noise needs to be told nothing."""
        plain = super().extract(plan, *level)
        if self.facts.task != DENOISE:
            plain._fixed = level  # type: ignore[assignment]
        return plain

    def merged_anew(self, level: float) -> None:
        """Tell a network that was extracted at a level that its kernels were overwritten by those of another ``level``."""
        if self._fixed:
            self._fixed = (level,)

    def _told_level(self, x: Tensor, at: tuple[Any, ...], sigma: Tensor | None) -> tuple[Tensor, tuple[Any, ...]]:
        """What enters beside the picture, [B, 1, 1 or H, 1 or W], and what the layers take."""
        if self.facts.task == DENOISE:
            return noise_map(sigma, x), self.conditioned(x, at, sigma)
        refuse_sigma(sigma)
        if self._fixed:
            return level_map(self._fixed[0], x), at
        at = self.conditioned(x, at, None)
        return level_map(at[-1], x), at

    def coarse(self, stream: Tensor, *at: Any) -> Tensor:
        """All levels but the finest: the stream of level 1, before and after, [B, C1, H / 4, W / 4]."""
        skips = []
        for blocks, down in zip(self._sides(self.encoder)[1:], self.down[1:], strict=True):
            for block in blocks:
                stream = block(stream, *at)
            skips.append(stream)
            stream = down(stream, *at)
        for block in self.middle:
            stream = block(stream, *at)
        for blocks, up, skip in zip(
            reversed(self._sides(self.decoder)[1:]), reversed(self.up[1:]), reversed(skips), strict=True
        ):
            stream = up(stream, *at) + skip
            for block in blocks:
                stream = block(stream, *at)
        return stream

    @staticmethod
    def _sides(levels: nn.ModuleList) -> list[list[nn.Module]]:
        return [list(level.children()) for level in levels]


def _halo(reductions: Sequence[int], blocks: Sequence[int]) -> int:
    """The receptive-field radius: head and tail, two 3x3 convolutions a block, and the alignment of the coarsest grid."""
    sides = [2] * (len(blocks) - 1) + [1]
    convolutions = sum(2 * r * n * side for r, n, side in zip(reductions, blocks, sides, strict=True))
    return 2 * reductions[0] + convolutions + reductions[-1]
