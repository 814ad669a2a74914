"""MDRN, the Multiple Degradation and Reconstruction Network (Li et al., CVPRW NTIRE 2022, arXiv 2204.13873): a reconstruction.

Only the paper's abstract is public to us: no code, no figure, no table. The abstract gives the name, "light-weight", and
that the network uses "the degradation mechanism of the noisy image" to "progressively remove noise". Everything below that is
our reading of these words, and no number of the paper can be claimed for it.

The idea: halving a noisy feature halves the sigma of independent noise, while structure stays. So a block *degrades* its
stream (goes down by 4, then by 2), finds there what is noise, *reconstructs* it at full size and subtracts it from the running
estimate; what is left is found at full size; several blocks in a row remove the noise progressively. Without the corrections at
full size it loses 3 dB where there is little noise (sigma 10): fine structure never meets a 3x3 convolution.

Unlike a literal reading, the stream runs at half resolution, as in `grainwise.networks.half_unet` and for the same measured
reasons; and channel attention, whose global mean would make tiles wrong, is an option that is off.
"""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.half_resolution import SMALLEST_STREAM, least_tile, to_half_resolution, without_residual
from grainwise.networks.network import Facts, Network, check_picture, noise_map
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, ChannelSpace
from grainwise.primitives.fused_conv import conv_add, conv_relu
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet, slim_layers

Attention = Literal["none", "global"]

STREAM = 2
"""Input pixels along a side of one pixel of the stream."""
SCALES = (4, 2, 1)
"""How far a block degrades the stream, in turn; 1 not at all."""
COARSEST = STREAM * max(SCALES)
"""Input pixels along a side of one pixel of the coarsest stream."""
SQUEEZE = 8
"""Channels of the stream for each hidden channel of the attention."""

SIZES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "tiny": {"widths": [[16], [64], [32], [16]], "blocks": 3},
        "small": {"widths": [[32], [128], [64], [32]], "blocks": 3},
        "base": {"widths": [[48], [160], [80], [48]], "blocks": 4},
    }
)
"""Configurations of one width each: name -> arguments of `MDRN`. In colour:

| size | MACs/px | parameters |
|---|---:|---:|
| tiny | 15,108 | 411,708 |
| small | 58,632 | 1,637,484 |
| base | 141,516 | 3,657,036 |

They are chosen for MACs/px. Most parameters lie at the coarse scales, where they cost few: "fewer parameters", as the abstract
says, is true of tiny alone.
"""


class ChannelAttention(nn.Module):
    """x * sigmoid(expand(relu(squeeze(the mean of x over the picture)))): one factor for each channel of each picture."""

    def __init__(self, convs: ConvSet, dim: ChannelDim) -> None:
        """Build both 1x1 layers."""
        super().__init__()
        hidden = max(1, dim.widest // SQUEEZE)
        self.squeeze = convs.conv(dim, hidden, 1)
        self.expand = convs.conv(hidden, dim, 1)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        mean = x.mean((2, 3), keepdim=True)
        factors: Tensor = self.expand(torch.relu(self.squeeze(mean, *at)), *at)
        return x * factors.sigmoid()


class Correction(nn.Module):
    """u - R(body(D(u))) at one scale: degrade, find the noise, reconstruct it, subtract it."""

    def __init__(self, convs: ConvSet, stream: ChannelDim, inner: ChannelDim, *, scale: int) -> None:
        """Build D (a convolution that tiles), the body (two 3x3) and R (a 1x1 with a pixel shuffle, as one layer)."""
        super().__init__()
        coarse = STREAM * scale
        self.degrade = convs.conv(stream, inner, scale, stride=scale, reduction=coarse)
        self.conv1 = convs.conv(inner, inner, 3, reduction=coarse)
        self.conv2 = convs.conv(inner, inner, 3, reduction=coarse)
        self.reconstruct = convs.transposed(inner, stream, scale, bias=False, reduction=STREAM)

    def forward(self, u: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W], H and W multiples of the scale -> the same."""
        noise: Tensor = self.degrade(u, *at)
        noise = conv_relu(self.conv2, conv_relu(self.conv1, noise, *at), *at)
        noise = self.reconstruct(noise, *at)
        return u - noise


class FineCorrection(nn.Module):
    """u - body(u): nothing is degraded, so that nothing needs to be reconstructed."""

    def __init__(self, convs: ConvSet, stream: ChannelDim, inner: ChannelDim) -> None:
        """Build the body (two 3x3)."""
        super().__init__()
        self.conv1 = convs.conv(stream, inner, 3, reduction=STREAM)
        self.conv2 = convs.conv(inner, stream, 3, reduction=STREAM)

    def forward(self, u: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        noise: Tensor = self.conv2(conv_relu(self.conv1, u, *at), *at)
        return u - noise


class MDRBlock(nn.Module):
    """u1 + attention(1x1(x, u4, u2, u1)), where u_s is the running estimate after the correction at scale s.

    The weights of the 1x1 start at zero: at first a block is its corrections and an offset.
    """

    def __init__(
        self, convs: ConvSet, stream: ChannelDim, inner: Sequence[ChannelDim], *, attention: Attention
    ) -> None:
        """Build a correction for each scale, and the fusion."""
        super().__init__()
        self.corrections = nn.ModuleList(
            FineCorrection(convs, stream, dim) if scale == 1 else Correction(convs, stream, dim, scale=scale)
            for scale, dim in zip(SCALES, inner, strict=True)
        )
        estimates = sum((Channels.of(stream) for _ in SCALES), Channels.of(stream))
        self.fuse = convs.conv(estimates, stream, 1, reduction=STREAM)
        nn.init.zeros_(self.fuse.get_parameter("weight"))
        self.attention = ChannelAttention(convs, stream) if attention == "global" else None

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W], H and W multiples of 4 -> the same."""
        estimates = [x]
        for correction in self.corrections:
            estimates.append(correction(estimates[-1], *at))
        together = torch.cat(estimates, 1)
        if self.attention is None:
            return conv_add(self.fuse, together, estimates[-1], *at)
        attended: Tensor = self.attention(self.fuse(together, *at), *at)
        return estimates[-1] + attended


class MDRN(Network):
    """Head, blocks, fusion of all blocks' outputs, tail; the output is the input minus the noise that was found.

    The default is slimmable from "tiny" to "small" of `SIZES`. ``blocks.0``, ``blocks.1`` and so on name the ends of the
    blocks, where distillation taps features ([B, stream, H / 2, W / 2], padded up to multiples of 8 input pixels).

    Args:
        widths: allowed channel counts, ascending, of the stream (from 16) and inside the corrections at scale 4, 2 and 1.
        blocks: number of blocks.
        attention: "none", or "global": channel attention over the whole picture at the end of each block. Its two tiny
            layers work once a picture and are not counted in MACs/px. With it tiles are not exact, and the facts say so;
            the halo is then that of the convolutions alone.
        channels: channels of the picture: 3, or 1 for grey.
        sigma_max: the greatest noise level of its training, in image units.
        convs: the kinds of convolution.

    Raises:
        InputError: a stream that is too narrow, other than three lists of widths, no block, or an unknown attention.
    """

    def __init__(
        self,
        *,
        widths: Sequence[Sequence[int]] = ((16, 24, 32), (64, 96, 128), (32, 48, 64), (16, 24, 32)),
        blocks: int = 3,
        attention: Attention = "none",
        channels: int = 3,
        sigma_max: float = 75 / 255,
        convs: ConvSet = SLIMMABLE,
    ) -> None:
        """Build every layer at its greatest width."""
        super().__init__()
        if len(widths) != 1 + len(SCALES) or blocks < 1:
            raise InputError(
                f"MDRN takes widths of the stream and of {len(SCALES)} scales, and at least one block; "
                f"got {len(widths)} lists of widths and blocks={blocks}"
            )
        if attention not in get_args(Attention):
            raise InputError(f"attention is one of {', '.join(get_args(Attention))}, got {attention!r}")
        if min(widths[0]) < SMALLEST_STREAM:
            raise InputError(f"the stream needs at least {SMALLEST_STREAM} channels, got {list(widths[0])}")
        names = ("stream", *(f"scale{scale}" for scale in SCALES))
        dims = [ChannelDim(name, tuple(level)) for name, level in zip(names, widths, strict=True)]
        stream = dims[0]
        reductions = [STREAM, *(STREAM * scale for scale in SCALES)]
        self._config = {
            "widths": [list(level) for level in widths],
            "blocks": blocks,
            "attention": attention,
            "channels": channels,
            "sigma_max": sigma_max,
        }
        self.space = ChannelSpace(tuple(dims))
        self.facts = Facts(
            channels=channels,
            scale=1,
            size_multiple=COARSEST,
            halo=_halo(blocks),
            needs_sigma=True,
            sigma_max=sigma_max,
            exact_tiles=attention == "none",
            least_tile=least_tile(reductions, widths),
        )
        self.head = convs.conv(4 * channels + 1, stream, 3, reduction=STREAM)
        self.blocks = nn.ModuleList(MDRBlock(convs, stream, dims[1:], attention=attention) for _ in range(blocks))
        outputs = sum((Channels.of(stream) for _ in range(blocks - 1)), Channels.of(stream))
        self.gather = convs.conv(outputs, stream, 1, reduction=STREAM)
        self.fuse = convs.conv(stream, stream, 3, reduction=STREAM)
        self.tail = convs.conv(stream, 4 * channels, 3, reduction=STREAM)

    @property
    def config(self) -> dict[str, Any]:
        """Widths, blocks, attention, channels and the greatest noise level."""
        return self._config

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Fixed: picture, residual, level and result. Then copies of the stream: the blocks' outputs twice, ten more."""
        return 96 + (2 * len(self.blocks) + 10) * plan["stream"] * itemsize / 4

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """See `Network.macs_per_pixel`; attention, which works once a picture, is not counted."""
        attentions = [part for part in self.modules() if isinstance(part, ChannelAttention)]
        once = sum(layer.macs_per_pixel(plan) for part in attentions for layer in slim_layers(part))
        return super().macs_per_pixel(plan) - once

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`. The stream is channels_last, in the dtype of the weights; the last sum is in that of ``x``."""
        check_picture(x, self.facts.channels)
        level = noise_map(sigma, x)
        dtype = next(self.parameters()).dtype
        head = self.head(to_half_resolution(x, level, multiple=self.facts.size_multiple, dtype=dtype), *at)
        outputs = []
        stream = head
        for block in self.blocks:
            stream = block(stream, *at)
            outputs.append(stream)
        gathered = self.gather(torch.cat(outputs, 1), *at)
        del outputs
        return without_residual(x, self.tail(conv_add(self.fuse, gathered, head, *at), *at), level)


def _halo(blocks: int) -> int:
    """The receptive-field radius: head, fusion and tail, two 3x3 convolutions a scale, all in steps of the coarsest grid."""
    block = sum(2 * STREAM * scale for scale in SCALES)
    return 3 * STREAM + blocks * math.ceil(block / COARSEST) * COARSEST + COARSEST
