"""MPRNet (Zamir et al., CVPR 2021), denoising configuration: three stages on quarters, halves and the whole picture.

Stages 1 and 2 are encoder-decoders, stage 3 keeps full resolution; each hands features and a restored picture to the next.
No biases; one PReLU for the whole network. Channel attention pools over what a stage is given, so tiles are not exact.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.networks.network import Facts, check_picture, pad_to_multiple
from grainwise.networks.ratios import RATIOS, RatioDims, RatioNetwork, reduced_width, refuse_levels
from grainwise.primitives.attention import SigmoidAttention, TanhAttention
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels
from grainwise.primitives.fused_conv import conv_add
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet, Layout, SlimLayer, slim_layers

SQUEEZE = 4
"""How many times narrower the bottleneck of the channel attention is."""

BLOCKS = 8
"""Channel-attention blocks in each of the three blocks of stage 3."""

MULTIPLE = 8
"""Halves, then two halvings of the resolution."""

HALO = 199
"""Radius of all convolutions and resamplings together; channel attention sees further, whatever the halo: stage 1: 59 + 10,
stage 2: 57 + 10, stage 3: 53 + 6, and 4 for the grid of the quarters."""

Features = list[Tensor]
"""Of the levels, finest first."""


class _Parts:
    """Makes the layers and dims that the stages share."""

    def __init__(self, convs: ConvSet, dims: RatioDims, activation: nn.Module) -> None:
        self.convs, self.dims, self.activation = convs, dims, activation

    def dim(self, name: str, base: int) -> ChannelDim:
        return self.dims(name, f"width{base}", base)

    def conv(self, inputs: Layout, outputs: Layout, kernel: int, reduction: int = 1) -> nn.Module:
        return self.convs.conv(inputs, outputs, kernel, bias=False, reduction=reduction)

    def block(self, name: str, stream: ChannelDim, reduction: int = 1) -> "AttentionBlock":
        return AttentionBlock(self, stream, self.dim(name, self.dims.base[stream.name]), reduction=reduction)

    def blocks(self, name: str, stream: ChannelDim, count: int, reduction: int = 1) -> nn.ModuleList:
        return nn.ModuleList(self.block(f"{name}_{index}", stream, reduction) for index in range(count))


class AttentionBlock(nn.Module):
    """CAB: x + attention(conv(prelu(conv(x)))), both 3x3; the width between the two is free."""

    def __init__(self, parts: _Parts, stream: ChannelDim, inner: ChannelDim, *, reduction: int) -> None:
        """Build the layers; the PReLU is shared."""
        super().__init__()
        self.conv1 = parts.conv(stream, inner, 3, reduction)
        self.conv2 = parts.conv(inner, stream, 3, reduction)
        self.activation = parts.activation
        self.attention = SigmoidAttention(stream, squeeze=SQUEEZE, bias=False)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, C, H, W] -> the same."""
        inner = self.activation(self.conv1(x, *at))
        y: Tensor = x + self.attention(self.conv2(inner, *at), *at)
        return y


class Shallow(nn.Module):
    """The first features of a stage: a 3x3 convolution of the picture and an attention block."""

    def __init__(self, parts: _Parts, name: str, stream: ChannelDim, first: Layout) -> None:
        """Build both; ``first`` is the width of the convolution."""
        super().__init__()
        self.conv = parts.conv(3, first, 3)
        self.block = parts.block(name, stream)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        """[B, 3, H, W] -> [B, C, H, W]."""
        y: Tensor = self.block(self.conv(x, *at), *at)
        return y


class Encoder(nn.Module):
    """Two blocks a level; on the way down half the resolution, then 1x1. Adds the features of an earlier stage."""

    def __init__(self, parts: _Parts, name: str, levels: Sequence[ChannelDim], fused: Sequence[ChannelDim]) -> None:
        """Build three levels; ``fused`` are the levels of the earlier stage, none for stage 1."""
        super().__init__()
        self.levels = nn.ModuleList(parts.blocks(f"{name}_{i}", dim, 2, 2**i) for i, dim in enumerate(levels))
        self.down = nn.ModuleList(parts.conv(levels[i], levels[i + 1], 1, 2 ** (i + 1)) for i in range(2))
        pairs = list(zip(fused, levels[: len(fused)], strict=True))
        self.from_encoder = nn.ModuleList(parts.conv(old, new, 1, 2**i) for i, (old, new) in enumerate(pairs))
        self.from_decoder = nn.ModuleList(parts.conv(old, new, 1, 2**i) for i, (old, new) in enumerate(pairs))

    def forward(self, x: Tensor, encoded: Features, decoded: Features, *at: Any) -> Features:
        """[B, C, H, W] -> three levels; ``encoded`` and ``decoded`` are empty in stage 1."""
        features: Features = []
        for level, blocks in enumerate(self.levels):
            if level > 0:
                x = self.down[level - 1](_half(x), *at)
            x = _through(blocks, x, *at)
            if encoded:
                x = conv_add(self.from_encoder[level], encoded[level], x, *at)
                x = conv_add(self.from_decoder[level], decoded[level], x, *at)
            features.append(x)
        return features


class Decoder(nn.Module):
    """Two blocks a level; on the way up twice the resolution, then 1x1; skips pass a block and are added."""

    def __init__(self, parts: _Parts, name: str, levels: Sequence[ChannelDim]) -> None:
        """Build three levels and two skips."""
        super().__init__()
        self.levels = nn.ModuleList(parts.blocks(f"{name}_{i}", dim, 2, 2**i) for i, dim in enumerate(levels))
        self.skips = nn.ModuleList(parts.block(f"{name}_skip{i}", levels[i], 2**i) for i in range(2))
        self.up = nn.ModuleList(parts.conv(levels[i + 1], levels[i], 1, 2**i) for i in range(2))

    def forward(self, features: Features, *at: Any) -> Features:
        """Three levels -> three levels, finest first."""
        x = _through(self.levels[2], features[2], *at)
        decoded = [x]
        for level in (1, 0):
            x = conv_add(self.up[level], _double(x), self.skips[level](features[level], *at), *at)
            x = _through(self.levels[level], x, *at)
            decoded.insert(0, x)
        return decoded


class SupervisedAttention(nn.Module):
    """SAM: restores a picture from features, and keeps those features that it finds of use. All convolutions 1x1."""

    def __init__(self, parts: _Parts, stream: ChannelDim) -> None:
        """Build three convolutions."""
        super().__init__()
        self.features = parts.conv(stream, stream, 1)
        self.picture = parts.conv(stream, 3, 1)
        self.mask = parts.conv(3, stream, 1)

    def forward(self, x: Tensor, noisy: Tensor, *at: Any) -> tuple[Tensor, Tensor]:
        """Features [B, C, H, W] and the picture [B, 3, H, W] -> features and a restored picture of the same shapes."""
        restored = conv_add(self.picture, x, noisy, *at)
        kept = self.features(x, *at) * torch.sigmoid(self.mask(restored, *at))
        return kept + x, restored


class FullResolution(nn.Module):
    """ORSNet: three groups of blocks at full resolution; behind group i come the features of level i of stage 2."""

    def __init__(self, parts: _Parts, stream: ChannelDim, levels: Sequence[ChannelDim]) -> None:
        """Build the groups and, for each level and side, the 1x1 convolutions that bring it up and in."""
        super().__init__()
        self.groups = nn.ModuleList(parts.blocks(f"s3_{i}", stream, BLOCKS) for i in range(3))
        self.ends = nn.ModuleList(parts.conv(stream, stream, 3) for _ in range(3))
        self.up, self.merge = nn.ModuleDict(), nn.ModuleDict()
        for side in ("enc", "dec"):
            for level in range(3):
                ups, inputs = nn.ModuleList(), levels[level]
                for finer in reversed(range(level)):
                    outputs = parts.dim(f"s3_{side}{level}_up{finer}", parts.dims.base[levels[finer].name])
                    ups.append(parts.conv(inputs, outputs, 1, 2**finer))
                    inputs = outputs
                self.up[f"{side}{level}"] = ups
                self.merge[f"{side}{level}"] = parts.conv(inputs, stream, 1)

    def forward(self, x: Tensor, encoded: Features, decoded: Features, *at: Any) -> Tensor:
        """[B, C, H, W] and the features of stage 2 -> [B, C, H, W]."""
        for level, (blocks, end) in enumerate(zip(self.groups, self.ends, strict=True)):
            x = conv_add(end, _through(blocks, x, *at), x, *at)
            for side, features in (("enc", encoded), ("dec", decoded)):
                brought = features[level]
                for up in self.up[f"{side}{level}"].children():
                    brought = up(_double(brought), *at)
                x = conv_add(self.merge[f"{side}{level}"], brought, x, *at)
        return x


class MPRNet(RatioNetwork):
    """MPRNet, static or slimmable.

    With the default widths and ratio 1 it is the published denoiser: 15,741,025 parameters, 8,741,632 MACs/px.

    Args:
        base: base width of the first level, a multiple of 8.
        step: how much wider each level of an encoder is than the one before.
        step_full: how much wider stage 3 is than the first level.
        ratios: the least and the greatest width, relative to the base.
        tied: one width for all layers of the same base width instead of one per layer (streams are always one).
        attention: whether DDS-Net's attention head stands behind the first convolution.
        sigma_max: the greatest noise level of its training, in image units.
        convs: the kinds of convolution.
    """

    def __init__(
        self,
        *,
        base: int = 80,
        step: int = 48,
        step_full: int = 32,
        ratios: Sequence[float] = RATIOS,
        tied: bool = False,
        attention: bool = False,
        sigma_max: float = 75 / 255,
        convs: ConvSet = SLIMMABLE,
    ) -> None:
        """Build the three stages at their greatest widths, with torch's own initialisation, as its paper's code does."""
        super().__init__()
        self._config = {
            "base": base,
            "step": step,
            "step_full": step_full,
            "ratios": list(ratios),
            "tied": tied,
            "attention": attention,
            "sigma_max": sigma_max,
        }
        refuse_levels(convs)
        self.dims = RatioDims(ratios, tied=tied)
        self.activation = nn.PReLU()
        parts = _Parts(convs, self.dims, self.activation)
        one, two = ([parts.dim(f"s{s}_level{i}", base + i * step) for i in range(3)] for s in (1, 2))
        full = parts.dim("s3", base + step_full)
        side2, side3 = parts.dim("shallow2", base), parts.dim("shallow3", base)
        self.head = TanhAttention(one[0].widest, one[0], reduced_width(one[0].widest)) if attention else None
        self.first_dim = one[0]
        self.shallow1 = Shallow(parts, "s1_shallow", one[0], one[0].widest if attention else one[0])
        self.encoder1 = Encoder(parts, "s1_enc", one, ())
        self.decoder1 = Decoder(parts, "s1_dec", one)
        self.sam1 = SupervisedAttention(parts, one[0])
        self.shallow2 = Shallow(parts, "s2_shallow", side2, side2)
        self.join2 = parts.conv(Channels.of(side2) + Channels.of(one[0]), two[0], 3)
        self.encoder2 = Encoder(parts, "s2_enc", two, one)
        self.decoder2 = Decoder(parts, "s2_dec", two)
        self.sam2 = SupervisedAttention(parts, two[0])
        self.shallow3 = Shallow(parts, "s3_shallow", side3, side3)
        self.join3 = parts.conv(Channels.of(side3) + Channels.of(two[0]), full, 3)
        self.full = FullResolution(parts, full, two)
        self.tail = parts.conv(full, 3, 3)
        self.space = self.dims.space
        self.facts = Facts(
            channels=3,
            scale=1,
            size_multiple=MULTIPLE,
            halo=HALO,
            needs_sigma=False,
            sigma_max=sigma_max,
            exact_tiles=False,
            least_tile=1,
        )

    def start_at_input(self) -> None:
        """Let every stage of every sub-network start at the noisy picture, for short trainings: its last layer becomes zero."""
        with torch.no_grad():
            for layer in (self.sam1.picture, self.sam2.picture, self.tail):
                for parameter in layer.parameters():
                    parameter.zero_()

    @property
    def config(self) -> dict[str, Any]:
        """Base widths, ratios, ties, attention and the greatest noise level."""
        return self._config

    @property
    def attention(self) -> TanhAttention | None:
        """See `RatioNetwork.attention`."""
        return self.head

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Fixed: pictures and results. Then copies of the widest full-resolution stream: features of two stages, and those
        of the block at work."""
        streams = ("s1_level0", "s2_level0", "s3", "shallow2", "shallow3")
        widths = [width for name, width in plan.items() if name in streams or name.startswith(("s3_", "width"))]
        return 192 + (32 * max(widths) + 2 * self.tap_width(plan)) * itemsize

    def macs_per_picture(self, plan: ChannelPlan) -> float:
        """Channel attention runs four times for each picture in stage 1, then twice, then once."""
        self.space.check(plan)
        twice = (self.decoder1, self.shallow2, self.encoder2)
        calls = {id(layer): 4 for part in (self.shallow1, self.encoder1) for layer in slim_layers(part)}
        calls |= {id(layer): 2 for part in twice for layer in slim_layers(part)}

        def cost(layer: SlimLayer) -> float:
            return calls.get(id(layer), 1) * layer.macs_per_picture(plan)

        return sum(cost(layer) for layer in slim_layers(self))

    def tap_width(self, plan: ChannelPlan) -> int:
        """See `RatioNetwork.tap_width`."""
        return plan[self.first_dim.name] if self.head is None else self.first_dim.widest

    def tap(self, x: Tensor, *at: Any) -> Tensor:
        """See `RatioNetwork.tap`: [B, C, 4, H / 2, W / 2], the quarters of the picture."""
        quarters = _quarters(self._stream(pad_to_multiple(x, MULTIPLE)))
        tap: Tensor = self.shallow1.conv(quarters, *at)
        return tap.view(4, x.shape[0], *tap.shape[1:]).permute(1, 2, 0, 3, 4)

    def from_tap(self, tap: Tensor, x: Tensor, *at: Any) -> Tensor:
        """See `RatioNetwork.from_tap`."""
        return self._stages(tap, x, *at)[0]

    def stages(self, x: Tensor, *at: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The restored pictures of stage 3, 2 and 1, all of the shape of ``x``; the losses need all three."""
        check_picture(x, self.facts.channels)
        return self._stages(self.tap(x, *at), x, *at)

    def _stages(self, tap: Tensor, x: Tensor, *at: Any) -> tuple[Tensor, Tensor, Tensor]:
        if self.head is not None:
            tap = self.head(tap, *at)
        picture = self._stream(pad_to_multiple(x, MULTIPLE))
        halves = torch.cat(_parts(picture, 2, 2))
        quarters = tap.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        encoded = self.encoder1(self.shallow1.block(quarters, *at), [], [], *at)
        encoded = [_beside(level) for level in encoded]
        decoded = self.decoder1(encoded, *at)
        kept, stage1 = self.sam1(decoded[0], halves, *at)
        features = self.join2(torch.cat([self.shallow2(halves, *at), kept], 1), *at)
        encoded = [_below(level) for level in self.encoder2(features, encoded, decoded, *at)]
        decoded = self.decoder2(encoded, *at)
        kept, stage2 = self.sam2(decoded[0], picture, *at)
        features = self.join3(torch.cat([self.shallow3(picture, *at), kept], 1), *at)
        noise = self.tail(self.full(features, encoded, decoded, *at), *at)
        height, width = x.shape[2:]
        stage1, stage2, noise = (y[:, :, :height, :width].to(x.dtype) for y in (_below(stage1), stage2, noise))
        return x + noise, stage2, stage1


def _through(blocks: Any, x: Tensor, *at: Any) -> Tensor:  # noqa: ANN401 -- a ModuleList, untyped once indexed
    for block in blocks:
        x = block(x, *at)
    return x


def _half(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _parts(x: Tensor, count: int, dim: int) -> tuple[Tensor, ...]:
    """``x`` cut along ``dim``, whose size is a multiple of ``count``; what a captured graph says for every size."""
    return torch.unbind(x.view(*x.shape[:dim], count, -1, *x.shape[dim + 1 :]), dim)


def _quarters(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [4B, C, H / 2, W / 2]: all top left quarters, then top right, bottom left, bottom right."""
    return torch.cat([quarter for half in _parts(x, 2, 2) for quarter in _parts(half, 2, 3)])


def _beside(x: Tensor) -> Tensor:
    """Quarters [4B, C, h, w] -> halves [2B, C, h, 2w], top ones first."""
    quarters = _parts(x, 4, 0)
    return torch.cat([torch.cat(quarters[:2], 3), torch.cat(quarters[2:], 3)])


def _below(x: Tensor) -> Tensor:
    """Halves [2B, C, h, w] -> [B, C, 2h, w]."""
    return torch.cat(_parts(x, 2, 0), 2)
