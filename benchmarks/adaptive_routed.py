"""The default network with a finest level whose width differs from place to place.

A picture is divided into cells. Each takes the level-0 width that a route gives it; the coarser levels, a third of the cost,
have one width everywhere. Nothing is computed twice: a cell reads its neighbours' features, with zeros for the channels that
they do not have, so that cells of one width join as in the whole picture, up to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from adaptive_canvas import Canvas, Group
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.gain_predictor import CELL
from grainwise.networks.half_resolution import to_half_resolution, without_residual
from grainwise.networks.half_unet import HalfUNet, ResidualBlock
from grainwise.networks.network import check_picture, noise_map
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.fused_conv import conv_add, conv_relu

_SIDE = CELL // 2
_MARGIN = 2


class RoutedHalfUNet(nn.Module):
    """``net(x, route, sigma=sigma)``: a `HalfUNet` at several plans at once.

    Args:
        network: the supernet.
        plans: plans that differ in level 0 alone.

    Raises:
        InputError: plans that differ elsewhere, or a block that cannot be routed.
    """

    def __init__(self, network: HalfUNet, plans: Sequence[ChannelPlan]) -> None:
        """Extract every plan; the coarse levels are kept once."""
        super().__init__()
        finest, *coarser = network.space.dims
        if not plans or len({tuple(plan[dim.name] for dim in coarser) for plan in plans}) != 1:
            raise InputError(f"routed plans differ in {finest.name} alone, got {', '.join(map(str, plans))}")
        if network.facts.level_range is not None:
            raise InputError("a network whose kernels depend on a level is not routed; give one of plain convolutions")
        extracted = [network.extract(plan) for plan in plans]
        if not all(isinstance(block, ResidualBlock) for net in extracted for block in _fine_blocks(net)):
            raise InputError("only a network of residual blocks can be routed")
        self.plans = tuple(plans)
        self.widths = tuple(plan[finest.name] for plan in plans)
        self.facts = network.facts
        self.coarse: Any = extracted[0]
        self.fine = nn.ModuleList(_FineLevel(net) for net in extracted)

    def forward(self, x: Tensor, route: Tensor, *, sigma: Tensor) -> Tensor:
        """Restore ``x``.

        Args:
            x: [1, C, H, W], RGB in [0, 1].
            route: [ceil(H / CELL), ceil(W / CELL)], integers: the index of each cell's plan.
            sigma: noise level in image units: [1], or a map [1, 1, H, W].

        Raises:
            InputError: shapes or plan indices that do not fit.
        """
        check_picture(x, self.facts.channels)
        height, width = x.shape[2:]
        wanted = (-(-height // CELL), -(-width // CELL))
        if x.shape[0] != 1 or tuple(route.shape) != wanted:
            raise InputError(f"one picture of {height}x{width} needs a route of {wanted}, got {tuple(route.shape)}")
        present = sorted(set(route.flatten().tolist()))
        if not 0 <= present[0] <= present[-1] < len(self.plans):
            raise InputError(f"a route holds plan indices from 0 to {len(self.plans) - 1}, got {present}")
        level = noise_map(sigma, x)
        groups = [(self.fine[index], Group.where(route == index)) for index in present]
        dtype = next(self.parameters()).dtype
        stream = to_half_resolution(x, level, multiple=self.facts.size_multiple, dtype=dtype)
        residual = self._residual(stream, groups, max(self.widths[index] for index in present))
        return without_residual(x, residual, level)

    def _residual(self, stream: Tensor, groups: list[tuple[Any, Group]], channels: int) -> Tensor:
        size = (stream.shape[2], stream.shape[3])
        one, two, three = (Canvas.empty(stream, size, channels, side=_SIDE, margin=_MARGIN) for _ in range(3))

        def each(out: Canvas, step: Callable[[Any, Group], Tensor]) -> Canvas:
            """Every channel of ``out`` that a cell has is written, and no other: a canvas can be used again."""
            for fine, group in groups:
                out.put(group, step(fine, group))
            out.clear_outside()
            return out

        def blocks(side: str, features: Canvas, spare: Canvas, count: int) -> Canvas:
            for number in range(count):
                source = features
                each(spare, lambda fine, group, n=number, s=source: getattr(fine, side)[n](s, group))  # type: ignore[misc]
                features, spare = spare, features
            return features

        first = groups[0][0]
        start = Canvas.of(stream, side=_SIDE, margin=1)
        head = each(one, lambda fine, group: fine.head(start.take(group, stream.shape[1], 1)))
        skip = blocks("encoder", head, two, len(first.encoder))
        spare = two if skip is one else one
        small = (size[0] // 2, size[1] // 2)
        down = each(
            Canvas.empty(stream, small, first.down.out_channels, side=_SIDE // 2, margin=0),
            lambda fine, group: fine.down(skip.take(group, fine.width, 0)),
        )
        coarse = self.coarse.coarse(down.inside().contiguous(memory_format=torch.channels_last))
        below = Canvas.of(coarse, side=_SIDE // 2, margin=0)
        features = each(
            three,
            lambda fine, group: fine.up(below.take(group, coarse.shape[1], 0)).add_(skip.take(group, fine.width, 0)),
        )
        decoded = blocks("decoder", features, spare, len(first.decoder))
        out = Canvas.empty(stream, size, first.tail.out_channels, side=_SIDE, margin=0)
        return each(out, lambda fine, group: fine.tail(decoded.take(group, fine.width, 1))).inside()


class _FineLevel(nn.Module):
    """The finest level of one plan, its 3x3 convolutions without padding."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        parts: Any = net
        self.width: int = parts.head.out_channels
        self.head, self.tail = _unpadded(parts.head), _unpadded(parts.tail)
        self.down, self.up = parts.down[0], parts.up[0]
        self.encoder = nn.ModuleList(_UnpaddedBlock(block) for block in parts.encoder[0])
        self.decoder = nn.ModuleList(_UnpaddedBlock(block) for block in parts.decoder[0])


class _UnpaddedBlock(nn.Module):
    """A residual block on cells."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts: Any = block
        self.conv1, self.conv2 = _unpadded(parts.conv1), _unpadded(parts.conv2)

    def forward(self, features: Canvas, group: Group) -> Tensor:
        """The block on the cells of ``group``, [n, C, k, k]."""
        x = features.take(group, self.conv1.in_channels, 2)
        inner = conv_relu(self.conv1, x)
        features.clear_ring(group, inner, 1)
        return conv_add(self.conv2, inner, x[:, :, 2:-2, 2:-2].contiguous(memory_format=torch.channels_last))


def _fine_blocks(net: nn.Module) -> list[nn.Module]:
    parts: Any = net
    return [*parts.encoder[0], *parts.decoder[0]]


def _unpadded(conv: nn.Conv2d) -> nn.Conv2d:
    """``conv`` without padding, its weights shared."""
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size[0], bias=conv.bias is not None, device="meta"
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain
