"""The plain U-Net that VDNet and DANet share: pairs of 3x3 convolutions, LeakyReLU, no normalisation, joined skips.

Every convolution has a width of its own; a joined tensor keeps one prefix of the upsampled part and one of the skip.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.networks.network import Facts, check_picture, least_exact_tile, pad_to_multiple
from grainwise.networks.ratios import RATIOS, RatioDims, RatioNetwork, balanced, reduced_width, refuse_levels
from grainwise.primitives.attention import TanhAttention
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels
from grainwise.primitives.fused_conv import conv_leaky_relu
from grainwise.primitives.slim_conv import (
    SLIMMABLE,
    ConvSet,
    Layout,
    SlimConvTranspose2d,
    SlimLayer,
    slim_layers,
)

SLOPE = 0.2


class ConvPair(nn.Module):
    """Two 3x3 convolutions, each with its LeakyReLU."""

    def __init__(self, convs: ConvSet, inputs: Layout, middle: Layout, outputs: Layout, *, reduction: int) -> None:
        """Build both."""
        super().__init__()
        self.conv1 = convs.conv(inputs, middle, 3, reduction=reduction)
        self.conv2 = convs.conv(middle, outputs, 3, reduction=reduction)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> [B, D, H, W]."""
        return conv_leaky_relu(self.conv2, conv_leaky_relu(self.conv1, x, SLOPE, *at), SLOPE, *at)


class Unet(nn.Module):
    """Levels at 1/1, 1/2, 1/4 ... resolution, the base width doubling from each to the next.

    Args:
        convs: the kinds of convolution.
        dims: makes the width of every layer.
        base: the base width of level 0.
        levels: at least 2.
        inputs, outputs: channels.
        strided: whether a 4x4 convolution of stride 2 without bias goes down, or a 2x2 mean.
        attention: whether an attention head stands behind the first convolution, which then has always full width.
    """

    def __init__(
        self,
        convs: ConvSet,
        dims: RatioDims,
        *,
        base: int,
        levels: int,
        inputs: int,
        outputs: int,
        strided: bool,
        attention: bool,
    ) -> None:
        """Build every layer at its greatest width."""
        super().__init__()
        self.levels, self.strided = levels, strided
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()

        def dim(level: int, role: str) -> ChannelDim:
            return dims(f"level{level}_{role}", f"level{level}", base * 2**level)

        self.first_dim = dim(0, "enc1")
        self.attention: TanhAttention | None = None
        tap: Layout = self.first_dim
        if attention:
            tap = self.first_dim.widest
            self.attention = TanhAttention(self.first_dim.widest, self.first_dim, reduced_width(tap))
        skips: list[ChannelDim] = []
        stream: Layout = inputs
        for level in range(levels):
            middle, end = dim(level, "enc1"), dim(level, "enc2")
            pair = ConvPair(convs, stream, middle, end, reduction=2**level)
            if level == 0:
                pair.conv1 = convs.conv(inputs, tap, 3)
            self.encoder.append(pair)
            skips.append(end)
            stream = end
            if strided and level < levels - 1:
                stream = dim(level, "down")
                self.down.append(convs.conv(end, stream, 4, stride=2, bias=False, reduction=2 ** (level + 1)))
        for level in reversed(range(levels - 1)):
            up, middle, end = dim(level, "up"), dim(level, "dec1"), dim(level, "dec2")
            self.up.append(convs.transposed(stream, up, 2, reduction=2**level))
            joined = Channels.of(up) + Channels.of(skips[level])
            self.decoder.append(ConvPair(convs, joined, middle, end, reduction=2**level))
            stream = end
        self.last = convs.conv(stream, outputs, 3)

    def tap(self, x: Tensor, *at: Any) -> Tensor:
        """The first convolution with its activation; ``x`` [B, inputs, H, W] with sizes divisible by 2^(levels - 1)."""
        return conv_leaky_relu(self.encoder[0].conv1, x, SLOPE, *at)  # type: ignore[arg-type]

    def from_tap(self, tap: Tensor, *at: Any) -> Tensor:
        """What follows the tap: [B, outputs, H, W]."""
        if self.attention is not None:
            tap = self.attention(tap, *at)
        x = conv_leaky_relu(self.encoder[0].conv2, tap, SLOPE, *at)  # type: ignore[arg-type]
        skips = [x]
        for level in range(1, self.levels):
            x = self.down[level - 1](x, *at) if self.strided else F.avg_pool2d(x, 2)
            x = self.encoder[level](x, *at)
            skips.append(x)
        for up, pair, skip in zip(self.up, self.decoder, reversed(skips[:-1]), strict=True):
            x = pair(torch.cat([up(x, *at), skip], 1), *at)
        y: Tensor = self.last(x, *at)
        return y

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]; sizes divisible by 2^(levels - 1)."""
        return self.from_tap(self.tap(x, *at), *at)

    def tap_width(self, plan: ChannelPlan) -> int:
        """Channels of the tap that `from_tap` takes at ``plan``."""
        return plan[self.first_dim.name] if self.attention is None else self.first_dim.widest

    @property
    def halo(self) -> int:
        """The receptive-field radius: four 3x3 convolutions a level (two on the coarsest), the last one, what the 4x4
        convolutions see beyond their block, and the alignment of the coarsest grid."""
        coarsest = 1 << (self.levels - 1)
        convolutions = sum(4 << level for level in range(self.levels - 1)) + 2 * coarsest + 1
        return convolutions + (coarsest - 1 if self.strided else 0) + coarsest


class UnetNetwork(RatioNetwork):
    """A U-Net whose first output channels are the noise: picture - noise is the restored picture.

    A subclass says how many levels and output channels it has, and how it goes down (see `Unet`).

    Args:
        base: base width of level 0, a multiple of 8; it doubles from level to level.
        ratios: the least and the greatest width, relative to the base.
        tied: one width per level instead of one per layer.
        attention: whether DDS-Net's attention head stands behind the first convolution.
        sigma_max: the greatest noise level of its training, in image units.
        convs: the kinds of convolution.
    """

    levels: ClassVar[int]
    outputs: ClassVar[int]
    strided: ClassVar[bool]

    def __init__(
        self,
        *,
        base: int = 32,
        ratios: Sequence[float] = RATIOS,
        tied: bool = False,
        attention: bool = False,
        sigma_max: float = 75 / 255,
        convs: ConvSet = SLIMMABLE,
    ) -> None:
        """Build the U-Net for RGB pictures at its greatest width, initialise it and state its facts."""
        super().__init__()
        self._config = {
            "base": base,
            "ratios": list(ratios),
            "tied": tied,
            "attention": attention,
            "sigma_max": sigma_max,
        }
        refuse_levels(convs)
        self.dims = RatioDims(ratios, tied=tied)
        shape = {"base": base, "levels": self.levels, "inputs": 3, "outputs": self.outputs}
        self.unet = Unet(convs, self.dims, strided=self.strided, attention=attention, **shape)
        self.initialise()
        self.space = self.dims.space
        self.facts = Facts(
            channels=3,
            scale=1,
            size_multiple=2 ** (self.levels - 1),
            halo=self.unet.halo,
            needs_sigma=False,
            sigma_max=sigma_max,
            exact_tiles=not attention,
            least_tile=least_exact_tile(slim_layers(self.unet), self.space.narrowest),
        )

    def initialise(self) -> None:
        """Give the weights their first values: torch's own, unless a paper's code does otherwise."""

    def balance(self) -> None:
        """Change fresh weights so that a signal has the same size in narrow and in wide sub-networks.

        First values are made for one fan in. A narrow sub-network has a prefix of it, without normalisation its signal shrinks
        at every layer, and for hundreds of steps it does not learn at all. See `balanced`: every sub-network starts with the
        same features in its first channels.
        """
        with torch.no_grad():
            for layer in self._inner():
                axis = 0 if isinstance(layer, SlimConvTranspose2d) else 1
                shape = [-1 if i == axis else 1 for i in range(4)]
                layer.weight.mul_(balanced(layer.inputs).sqrt().view(shape))

    def start_at_input(self) -> None:
        """Let every sub-network of a fresh network start at the noisy picture, with layers that keep the size of a signal.

        For short trainings of networks with torch's own first values: those shrink a signal 2.4 times at every convolution
        (their variance is 1 / (3 fan in), where a LeakyReLU wants 2 / ((1 + slope^2) fan in)), so that the last layer alone
        learns for thousands of steps. Here they grow by as much and are balanced (`balance`), biases are zero, and so is the
        last layer.
        """
        with torch.no_grad():
            for layer in self._inner():
                layer.weight.mul_(math.sqrt(6 / (1 + SLOPE**2)))
                if layer.bias is not None:
                    layer.bias.zero_()
            for parameter in self.unet.last.parameters():
                parameter.zero_()
        self.balance()

    def _inner(self) -> list[SlimLayer]:
        """All layers but the last one and the attention head."""
        parts = (self.unet.encoder, self.unet.down, self.unet.up, self.unet.decoder)
        return [layer for part in parts for layer in slim_layers(part)]

    @property
    def config(self) -> dict[str, Any]:
        """Base width, ratios, ties, attention and the greatest noise level."""
        return self._config

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Fixed: picture, residual and result. Then copies of the finest stream (skip, upsampled part, both joined, result,
        workspace) and of the tap."""
        level0 = [width for name, width in plan.items() if name.startswith("level0")]
        return 96 + (10 * max(level0) + 2 * self.tap_width(plan)) * itemsize

    def predict(self, x: Tensor, *at: Any) -> Tensor:
        """Every output channel of the U-Net, what the losses need: [B, outputs, H, W]."""
        check_picture(x, self.facts.channels)
        return self._predict(self.tap(x, *at), x, *at)

    def tap(self, x: Tensor, *at: Any) -> Tensor:
        """See `RatioNetwork.tap`: [B, C, padded H, padded W]."""
        return self.unet.tap(self._stream(pad_to_multiple(x, self.facts.size_multiple)), *at)

    def from_tap(self, tap: Tensor, x: Tensor, *at: Any) -> Tensor:
        """See `RatioNetwork.from_tap`."""
        return x - self._predict(tap, x, *at)[:, :3].to(x.dtype)

    def tap_width(self, plan: ChannelPlan) -> int:
        """See `RatioNetwork.tap_width`."""
        return self.unet.tap_width(plan)

    @property
    def attention(self) -> TanhAttention | None:
        """See `RatioNetwork.attention`."""
        return self.unet.attention

    def _predict(self, tap: Tensor, x: Tensor, *at: Any) -> Tensor:
        return self.unet.from_tap(tap, *at)[:, :, : x.shape[2], : x.shape[3]]
