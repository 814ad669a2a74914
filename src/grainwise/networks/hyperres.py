"""HyperRes (arXiv 2206.05970, section 3.2): a residual network at half resolution whose block kernels depend on the level.

A convolution of stride 2, residual blocks without norms around a long skip connection, a pixel shuffle back, two more
convolutions. Only the kernels of the blocks are generated; head and tail are shared by all levels. The output is the
picture itself, not a residual, unless that is asked for. With other kinds of convolution the same trunk is what the paper
compares itself with: AdaFM-Net (``convs="adafm", conditioned="body"``), CResMD (``"scaled"``, ``"residual"``, 32 blocks), one
network for one level (``"slim"``).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.level_network import LevelNetwork
from grainwise.networks.network import Facts, check_picture, pad_to_multiple
from grainwise.networks.tasks import DENOISE, level_range_of
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, ChannelSpace
from grainwise.primitives.conv_sets import conv_set, name_of_convs
from grainwise.primitives.fused_conv import conv_add, conv_relu
from grainwise.primitives.hyper_conv import HyperKernel
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet

Conditioned = Literal["blocks", "body", "residual"]
CONDITIONED: tuple[Conditioned, ...] = ("blocks", "body", "residual")

SMALLEST_STREAM = 12
"""A narrower stream cannot carry a 2x2 block of RGB pixels."""


class Block(nn.Module):
    """x + conv2(relu(conv1(x))), both 3x3; the two may be of different kinds.

    Args:
        first, second: the kinds of the two convolutions.
        stream: channels of x.
        inner: channels between the two.
        reduction: network-input pixels along a side of one pixel of x.
    """

    def __init__(
        self, first: ConvSet, second: ConvSet, stream: ChannelDim, inner: ChannelDim, *, reduction: int
    ) -> None:
        """Build both convolutions."""
        super().__init__()
        self.conv1 = first.conv(stream, inner, 3, reduction=reduction)
        self.conv2 = second.conv(inner, stream, 3, reduction=reduction)
        self.first_takes_level = first.takes_level

    def forward(self, x: Tensor, shared: tuple[Any, ...], conditioned: tuple[Any, ...]) -> Tensor:
        """[B, C, H, W] -> the same; ``shared`` is ``conditioned`` without its level."""
        hidden = conv_relu(self.conv1, x, *(conditioned if self.first_takes_level else shared))
        return conv_add(self.conv2, hidden, x, *conditioned)


class HyperRes(LevelNetwork):
    """The trunk that HyperRes shares with AdaFM-Net, its level-conditioned layers of any kind.

    Args:
        task: what it restores, see `grainwise.networks.tasks`. A conditioned network for ``denoise`` is told ``sigma`` and
            takes its level from it; the others take the level behind the plan.
        level_range: what level 0 and 1 stand for, in the units of the task; None takes those of the task.
        blocks: residual blocks; 16 in the paper's tables, 1 to 8 in its small networks.
        stream: allowed widths of the trunk, ascending; 64 is the paper's only one.
        inner: allowed widths inside the blocks; None takes those of the stream.
        channels: channels of the picture: 3, or 1 for luma.
        convs: the conditioned layers: a set of convolutions, or its name.
        conditioned: which layers those are: ``blocks``, all of the blocks (HyperRes); ``body``, also the one behind the
            blocks (AdaFM-Net); ``residual``, the last of each block and the one behind them (CResMD's scales).
        start: the first weights: ``torch``, its own initialisation with zero slopes; ``published``, as the paper's code
            has it: Kaiming normal times 0.1, biases zero, and `HyperKernel.reset_as_published`.
        residual: whether the picture is added to what the trunk gives. Not the paper's, but learned far faster: up to 1 dB
            better after 600 steps.
    """

    def __init__(
        self,
        *,
        task: str = DENOISE,
        level_range: Sequence[float] | None = None,
        blocks: int = 16,
        stream: Sequence[int] = (64,),
        inner: Sequence[int] | None = None,
        channels: int = 3,
        convs: ConvSet | str = "hyper",
        conditioned: Conditioned = "blocks",
        start: Literal["torch", "published"] = "torch",
        residual: bool = False,
    ) -> None:
        """Build it at its greatest width."""
        super().__init__()
        if blocks < 1 or min(stream, default=0) < SMALLEST_STREAM or channels not in (1, 3):
            raise InputError(
                f"the trunk needs at least 1 block, {SMALLEST_STREAM} channels, and pictures of 1 or 3 channels, got "
                f"{blocks}, {list(stream)} and {channels}"
            )
        if conditioned not in CONDITIONED or start not in ("torch", "published"):
            raise InputError(
                f"conditioned is one of {', '.join(CONDITIONED)} and start torch or published, "
                f"got {conditioned!r} and {start!r}"
            )
        self._convs = convs = conv_set(convs)
        levels = level_range_of(task, level_range)
        self._config = {
            "task": task, "level_range": list(levels), "blocks": blocks, "stream": list(stream),
            "inner": list(inner or stream), "channels": channels, "conditioned": conditioned, "start": start,
            "residual": residual,
        }  # fmt: skip
        wide, narrow = ChannelDim("stream", tuple(stream)), ChannelDim("inner", tuple(inner or stream))
        self.residual = residual
        self.space = ChannelSpace((wide, narrow))
        self.facts = Facts(
            channels=channels,
            scale=1,
            size_multiple=2,
            halo=2 * (2 * blocks + 2) + 4,
            needs_sigma=task == DENOISE and convs.takes_level,
            sigma_max=max(levels) if task == DENOISE else 0.0,
            exact_tiles=True,
            least_tile=1 + 20_480 * 4 // min(*stream, *(inner or stream), 4 * channels),
            task=task,
            level_range=levels if convs.takes_level else None,
        )
        first = convs if conditioned != "residual" else SLIMMABLE
        body = convs if conditioned != "blocks" else SLIMMABLE
        self.head = SLIMMABLE.conv(channels, wide, 3, stride=2, reduction=2)
        self.blocks = nn.ModuleList(Block(first, convs, wide, narrow, reduction=2) for _ in range(blocks))
        self.body = body.conv(wide, wide, 3, reduction=2)
        self.body_takes_level = body.takes_level
        self.up = SLIMMABLE.conv(wide, Channels.of(wide).unshuffled(2), 3, reduction=2)
        self.smooth = SLIMMABLE.conv(wide, wide, 3)
        self.tail = SLIMMABLE.conv(wide, channels, 3)
        if start == "published":
            start_as_published(self)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**self._config, "convs": name_of_convs(self._convs)}

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Picture and result, and five copies of the stream at full resolution, convolution workspace included."""
        return 64 + 5 * plan["stream"] * itemsize

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`; a network for noise takes sigma or a level behind the plan, not both."""
        check_picture(x, self.facts.channels)
        shared, conditioned = self.arguments(x, at, sigma)
        return self.decode(self.features(x, *shared), x, shared, conditioned)

    def features(self, x: Tensor, *shared: Any) -> Tensor:
        """The head, which knows no level: [B, channels, H, W] -> [B, C, H / 2, W / 2], rounded up."""
        padded = pad_to_multiple(x, self.facts.size_multiple).to(next(self.parameters()).dtype)
        stream: Tensor = self.head(padded.contiguous(memory_format=torch.channels_last), *shared)
        return stream

    def decode(self, first: Tensor, x: Tensor, shared: tuple[Any, ...], conditioned: tuple[Any, ...]) -> Tensor:
        """Everything behind the head: ``first`` from `features` -> the picture, of the size and dtype of ``x``."""
        stream = first
        for block in self.blocks:
            stream = block(stream, shared, conditioned)
        stream = conv_add(self.body, stream, first, *(conditioned if self.body_takes_level else shared))
        stream = F.pixel_shuffle(conv_relu(self.up, stream, *shared), 2)
        out: Tensor = self.tail(conv_relu(self.smooth, stream, *shared), *shared)
        out = out[:, :, : x.shape[2], : x.shape[3]].to(x.dtype)
        return x + out if self.residual else out


@torch.no_grad()
def start_as_published(network: nn.Module) -> None:
    """Draw the first weights of ``network`` as the paper's code does: see ``start`` of `HyperRes`."""
    for layer in network.modules():
        if isinstance(layer, HyperKernel):
            layer.reset_as_published()
        elif isinstance(weight := getattr(layer, "weight", None), Tensor):
            nn.init.kaiming_normal_(weight)
            weight.mul_(0.1)
            if isinstance(bias := getattr(layer, "bias", None), Tensor):
                bias.zero_()
