"""The published networks once more, as plain functions of a state dict with the published names.

Running one with a fresh `Weights` fills it with random weights of the right names and shapes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class Weights(dict[str, Tensor]):
    """A state dict that makes what is asked of it for the first time."""

    def conv(self, x: Tensor, name: str, outputs: int, kernel: int, stride: int = 1, pad: int = -1, bias: bool = True):
        scale = (2 / (x.shape[1] * kernel**2)) ** 0.5 * (1 if bias else 0.5)
        self.setdefault(f"{name}.weight", torch.randn(outputs, x.shape[1], kernel, kernel) * scale)
        if bias:
            self.setdefault(f"{name}.bias", torch.randn(outputs) * 0.1)
        pad = kernel // 2 if pad < 0 else pad
        return F.conv2d(x, self[f"{name}.weight"], self.get(f"{name}.bias"), stride, pad)

    def up(self, x: Tensor, name: str, outputs: int) -> Tensor:
        self.setdefault(f"{name}.weight", torch.randn(x.shape[1], outputs, 2, 2) * x.shape[1] ** -0.5)
        self.setdefault(f"{name}.bias", torch.randn(outputs) * 0.1)
        return F.conv_transpose2d(x, self[f"{name}.weight"], self[f"{name}.bias"], 2)


def unet(w: Weights, x: Tensor, base: int, levels: int, outputs: int, strided: bool, prefix: str = "") -> Tensor:
    def pair(x: Tensor, name: str, width: int) -> Tensor:
        for index in (0, 2):
            x = F.leaky_relu(w.conv(x, f"{prefix}{name}.{index}", width, 3), 0.2)
        return x

    skips = []
    for i in range(levels):
        x = pair(x, f"down_path.{i}.block", base * 2**i)
        if i < levels - 1:
            skips.append(x)
            down = f"{prefix}down_path.{i}.downsample"
            x = w.conv(x, down, base * 2**i, 4, 2, 1, bias=False) if strided else F.avg_pool2d(x, 2)
    for i, skip in enumerate(reversed(skips)):
        width = skip.shape[1]
        x = torch.cat([w.up(x, f"{prefix}up_path.{i}.up", width), skip], 1)
        x = pair(x, f"up_path.{i}.conv_block.block", width)
    return w.conv(x, f"{prefix}last", outputs, 3)


def vdnet(w: Weights, y: Tensor, base: int) -> Tensor:
    return y - unet(w, y, base, 4, 6, False, "DNet.")[:, :3]


def snet(w: Weights, y: Tensor) -> Tensor:
    x = F.leaky_relu(w.conv(y, "SNet.conv1", 64, 3), 0.2)
    for index in (0, 2, 4):
        x = F.leaky_relu(w.conv(x, f"SNet.mid_layer.{index}", 64, 3), 0.2)
    return w.conv(x, "SNet.conv_last", 6, 3)


def danet(w: Weights, y: Tensor, base: int) -> Tensor:
    return y - unet(w, y, base, 5, 3, True)


def generator(w: Weights, x: Tensor, z: Tensor, base: int) -> Tensor:
    return x + unet(w, torch.cat([x, z], 1), base, 5, 3, True)


class Mpr:
    """MPRNet; widths (80, 128, 176, 112) are the published ones."""

    def __init__(self, w: Weights, widths: tuple[int, int, int, int]) -> None:
        self.w, self.c, self.o = w, widths[:3], widths[3]
        self.slope = torch.tensor([0.3])

    def conv(self, x: Tensor, name: str, outputs: int, kernel: int = 1) -> Tensor:
        return self.w.conv(x, name, outputs, kernel, bias=False)

    def cab(self, x: Tensor, name: str) -> Tensor:
        c = x.shape[1]
        self.w.setdefault(f"{name}.body.1.weight", self.slope)
        inner = F.prelu(self.conv(x, f"{name}.body.0", c, 3), self.w[f"{name}.body.1.weight"])
        y = self.conv(inner, f"{name}.body.2", c, 3)
        squeezed = F.relu(self.conv(y.mean((2, 3), keepdim=True), f"{name}.CA.conv_du.0", c // 4))
        return x + y * torch.sigmoid(self.conv(squeezed, f"{name}.CA.conv_du.2", c))

    def cabs(self, x: Tensor, name: str, count: int) -> Tensor:
        for index in range(count):
            x = self.cab(x, f"{name}.{index}")
        return x

    @staticmethod
    def scaled(x: Tensor, factor: float) -> Tensor:
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    def encode(self, x: Tensor, stage: int, old_enc: list[Tensor], old_dec: list[Tensor]) -> list[Tensor]:
        name, out = f"stage{stage}_encoder", []
        for level in range(3):
            if level:
                x = self.conv(self.scaled(x, 0.5), f"{name}.down{level}{level + 1}.down.1", self.c[level])
            x = self.cabs(x, f"{name}.encoder_level{level + 1}", 2)
            for kind, old in (("enc", old_enc), ("dec", old_dec)):
                if old:
                    x = x + self.conv(old[level], f"{name}.csff_{kind}{level + 1}", self.c[level])
            out.append(x)
        return out

    def decode(self, features: list[Tensor], stage: int) -> list[Tensor]:
        name = f"stage{stage}_decoder"
        three = self.cabs(features[2], f"{name}.decoder_level3", 2)
        x = self.conv(self.scaled(three, 2), f"{name}.up32.up.1", self.c[1])
        two = self.cabs(x + self.cab(features[1], f"{name}.skip_attn2"), f"{name}.decoder_level2", 2)
        x = self.conv(self.scaled(two, 2), f"{name}.up21.up.1", self.c[0])
        one = self.cabs(x + self.cab(features[0], f"{name}.skip_attn1"), f"{name}.decoder_level1", 2)
        return [one, two, three]

    def sam(self, x: Tensor, picture: Tensor, name: str) -> tuple[Tensor, Tensor]:
        restored = self.conv(x, f"{name}.conv2", 3) + picture
        mask = torch.sigmoid(self.conv(restored, f"{name}.conv3", x.shape[1]))
        return self.conv(x, f"{name}.conv1", x.shape[1]) * mask + x, restored

    def shallow(self, x: Tensor, stage: int) -> Tensor:
        return self.cab(self.conv(x, f"shallow_feat{stage}.0", self.c[0], 3), f"shallow_feat{stage}.1")

    def full(self, x: Tensor, enc: list[Tensor], dec: list[Tensor]) -> Tensor:
        name = "stage3_orsnet"
        for i in range(3):
            x = x + self.conv(self.cabs(x, f"{name}.orb{i + 1}.body", 8), f"{name}.orb{i + 1}.body.8", self.o, 3)
            for kind, features in (("enc", enc), ("dec", dec)):
                y = features[i]
                if i == 1:
                    y = self.conv(self.scaled(y, 2), f"{name}.up_{kind}1.up.1", self.c[0])
                if i == 2:
                    y = self.conv(self.scaled(y, 2), f"{name}.up_{kind}2.0.up.1", self.c[1])
                    y = self.conv(self.scaled(y, 2), f"{name}.up_{kind}2.1.up.1", self.c[0])
                x = x + self.conv(y, f"{name}.conv_{kind}{i + 1}", self.o)
        return x

    def __call__(self, picture: Tensor) -> list[Tensor]:
        halves, kept, stage1, enc, dec = picture.chunk(2, 2), [], [], [], []
        for half in halves:
            left, right = (self.encode(self.shallow(q, 1), 1, [], []) for q in half.chunk(2, 3))
            enc.append([torch.cat(pair, 3) for pair in zip(left, right, strict=True)])
            dec.append(self.decode(enc[-1], 1))
            features, restored = self.sam(dec[-1][0], half, "sam12")
            kept.append(features)
            stage1.append(restored)
        second = []
        for half, features, old_enc, old_dec in zip(halves, kept, enc, dec, strict=True):
            joined = torch.cat([self.shallow(half, 2), features], 1)
            second.append(self.encode(self.conv(joined, "concat12", self.c[0], 3), 2, old_enc, old_dec))
        encoded = [torch.cat(pair, 2) for pair in zip(*second, strict=True)]
        decoded = self.decode(encoded, 2)
        features, stage2 = self.sam(decoded[0], picture, "sam23")
        x = self.conv(torch.cat([self.shallow(picture, 3), features], 1), "concat23", self.o, 3)
        x = self.conv(self.full(x, encoded, decoded), "tail", 3, 3)
        return [x + picture, stage2, torch.cat(stage1, 2)]
