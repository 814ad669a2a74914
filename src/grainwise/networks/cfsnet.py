"""CFSNet (Wang et al., ICCV 2019) for denoising and deblocking: two branches at full resolution, mixed by a level.

Every residual block of the main branch has a tuning block beside it. A level alpha becomes one gain for each channel and block,
and the next features are (1 - gain) * block(x) + gain * tuning(x). The main branch is taught at one end of the levels (gain
0), the tuning branch at the other. All layers are without biases; the network from alpha to the gains is linear.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.level_network import LevelNetwork
from grainwise.networks.network import Facts, check_picture
from grainwise.networks.tasks import DENOISE, level_range_of
from grainwise.primitives.channels import ChannelDim, ChannelPlan, ChannelSpace
from grainwise.primitives.hyper_conv import Level, checked_level, single_level
from grainwise.primitives.slim_conv import SLIMMABLE, SlimLayer

COPIES = 512
"""The level enters the network of the gains as a vector of so many copies."""


class Gains(SlimLayer):
    """A gain for each block and channel: ``gains(x, plan, level)``.

    Args:
        dim: the channels; of one width.
        blocks: the number of blocks.
    """

    def __init__(self, dim: ChannelDim, blocks: int) -> None:
        """Build the layers that all blocks share, and two for each block."""
        super().__init__(dim, dim, reduction=1)
        width = dim.widest
        self.shared = nn.Sequential(
            *(nn.Linear(a, b, bias=False) for a, b in ((COPIES, 256), (256, 128), (128, width)))
        )
        self.each = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, plan: ChannelPlan, level: Level) -> Tensor:
        """[blocks, 1 or B, C, 1 or H, 1 or W] for ``x`` [B, C, H, W] and a level in one of its three forms."""
        return gains_of(self.slopes(), level, x.shape[0])

    def slopes(self) -> Tensor:
        """The gains at level 1, [blocks, C]: they are linear in the level."""
        vector = self.shared(torch.ones_like(next(self.shared.parameters())[0]))
        return torch.stack([layers(vector) for layers in self.each])

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """With a level, the gains of that level; without, what still takes it."""
        slopes = self.slopes().detach()
        return FixedGains(slopes * single_level(rest[0])) if rest else LevelGains(slopes)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """None: the gains are made once for each level."""
        return 0.0

    def extra_repr(self) -> str:
        """The number of blocks."""
        return f"blocks={len(self.each)}"


def gains_of(slopes: Tensor, level: Level, samples: int) -> Tensor:
    """``slopes`` [blocks, C] times a level (a number, [], [B] or [B, 1, H, W]): [blocks, 1 or B, C, 1 or H, 1 or W]."""
    level = checked_level(level, samples)
    shaped = slopes[:, None, :, None, None]
    if isinstance(level, Tensor):
        level = level.to(slopes.dtype)
        level = level.view(-1, 1, 1, 1) if level.ndim < 2 else level
    return shaped * level


class LevelGains(nn.Module):
    """Gains of an extracted network that still takes the level."""

    def __init__(self, slopes: Tensor) -> None:
        """Keep the gains of level 1, [blocks, C]."""
        super().__init__()
        self.slopes = nn.Parameter(slopes.clone())

    def forward(self, x: Tensor, level: Level) -> Tensor:
        """See `Gains.forward`."""
        return gains_of(self.slopes, level, x.shape[0])


class FixedGains(nn.Module):
    """Gains of an extracted network at one level."""

    def __init__(self, gains: Tensor) -> None:
        """Keep them, [blocks, C]."""
        super().__init__()
        self.gains = nn.Parameter(gains.clone())

    def forward(self, x: Tensor) -> Tensor:
        """The same for every picture, [blocks, 1, C, 1, 1]."""
        return self.gains[:, None, :, None, None]


class CoupledBlock(nn.Module):
    """A residual block and the tuning block beside it."""

    def __init__(self, dim: ChannelDim) -> None:
        """Build four convolutions."""
        super().__init__()
        self.main1, self.main2, self.tuning1, self.tuning2 = (SLIMMABLE.conv(dim, dim, 3, bias=False) for _ in range(4))

    def forward(self, x: Tensor, gain: Tensor, *shared: Any) -> Tensor:
        """[B, C, H, W] -> the same; ``gain`` [1 or B, C, 1 or H, 1 or W]."""
        main: Tensor = x + self.main2(F.relu(self.main1(x, *shared)), *shared)
        tuning: Tensor = self.tuning2(F.relu(self.tuning1(x, *shared)), *shared)
        return main * (1 - gain) + tuning * gain


class CFSNet(LevelNetwork):
    """The network; its one width and its sizes are the paper's by default.

    Args:
        task, level_range: see `HyperRes`; level 0 is what the main branch is taught, level 1 the tuning branch.
        blocks: of each branch.
        width: channels of both branches.
        channels: channels of the picture.
    """

    def __init__(
        self,
        *,
        task: str = DENOISE,
        level_range: Sequence[float] | None = None,
        blocks: int = 10,
        width: int = 64,
        channels: int = 3,
    ) -> None:
        """Build both branches."""
        super().__init__()
        if blocks < 1 or width < 1 or channels not in (1, 3):
            raise InputError(
                f"CFSNet needs blocks, a width, and pictures of 1 or 3 channels, got {blocks}, {width} and {channels}"
            )
        levels = level_range_of(task, level_range)
        self._config = {
            "task": task, "level_range": list(levels), "blocks": blocks, "width": width, "channels": channels,
        }  # fmt: skip
        dim = ChannelDim("stream", (width,))
        self.space = ChannelSpace((dim,))
        self.facts = Facts(
            channels=channels,
            scale=1,
            size_multiple=1,
            halo=2 * blocks + 2,
            needs_sigma=task == DENOISE,
            sigma_max=max(levels) if task == DENOISE else 0.0,
            exact_tiles=True,
            least_tile=1 + 20_480 // min(width, channels),
            task=task,
            level_range=levels,
        )
        self.head = SLIMMABLE.conv(channels, dim, 3, bias=False)
        self.gains = Gains(dim, blocks)
        self.blocks = nn.ModuleList(CoupledBlock(dim) for _ in range(blocks))
        self.tail = SLIMMABLE.conv(dim, channels, 3, bias=False)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return self._config

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Picture and result, and twelve copies of the stream at full resolution, those of a level map included."""
        return 64 + 12 * plan["stream"] * itemsize

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `HyperRes.forward`."""
        check_picture(x, self.facts.channels)
        shared, conditioned = self.arguments(x, at, sigma)
        dtype = next(self.parameters()).dtype
        first = self.head(x.to(dtype).contiguous(memory_format=torch.channels_last), *shared)
        stream = first
        for block, gain in zip(self.blocks, self.gains(x, *conditioned), strict=True):
            stream = block(stream, gain, *shared)
        out: Tensor = self.tail(stream + first, *shared)
        return out.to(x.dtype)
