"""Which block gives the most PSNR per CPU second, at equal training time?

Each candidate is trained as a supernet (the package's loop, method and data) for the same CPU time: its number of steps is
that time divided by its measured time per step on this machine. Then its three plans are scored and timed.

    python benchmarks/block_bakeoff.py --train ../shared/data/train-free --test ../shared/data/test/cbsd68 --minutes 5
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.corpus import corpus_of
from grainwise.data.crops import NoisyCrops
from grainwise.networks.half_unet import HalfUNet, ResidualBlock
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels
from grainwise.primitives.slim_conv import ConvSet, SlimConv2d, SlimLayer, slim_conv2d
from grainwise.runtime.machine import tune_allocator
from grainwise.training.loop import LoopConfig, train
from grainwise.training.supernet import SupernetMethod


class LayerNorm(SlimLayer):
    """Layer norm over channels, through channels_last memory, the cheap way on a CPU; sliced like a convolution."""

    def __init__(self, dim: ChannelDim) -> None:
        super().__init__(dim, dim, reduction=1)
        self.weight, self.bias = nn.Parameter(torch.ones(dim.widest)), nn.Parameter(torch.zeros(dim.widest))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        return self.extract(plan)(x)

    def extract(self, plan: ChannelPlan) -> nn.Module:
        width = self.inputs.width(plan)
        return _PlainLayerNorm(self.weight[:width], self.bias[:width])

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        return 0.0


class _PlainLayerNorm(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.scale.to(x.dtype), self.shift.to(x.dtype))
        return y.permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """NAFNet's block without its global attention: norm, 1x1, depthwise 3x3, simple gate, 1x1; then the gated 1x1 pair.

    The halves of a gate are two parts of one layout, so that each keeps a prefix of its own.
    """

    def __init__(self, convs: ConvSet, dim: ChannelDim, *, reduction: int) -> None:
        super().__init__()
        double = Channels.of(dim) + Channels.of(dim)
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.widen1 = convs.conv(dim, double, 1, reduction=reduction)
        self.mix = convs.depthwise(double, 3, reduction=reduction)
        self.narrow1 = convs.conv(dim, dim, 1, reduction=reduction)
        self.widen2 = convs.conv(dim, double, 1, reduction=reduction)
        self.narrow2 = convs.conv(dim, dim, 1, reduction=reduction)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        a, b = self.mix(self.widen1(self.norm1(x, *at), *at), *at).chunk(2, 1)
        x = x + self.narrow1(a * b, *at)
        a, b = self.widen2(self.norm2(x, *at), *at).chunk(2, 1)
        return x + self.narrow2(a * b, *at)


class RepConv(SlimConv2d):
    """A 3x3 convolution trained as 3x3 + 1x1 + identity, and folded into one 3x3 when it is extracted (RepVGG)."""

    def __init__(self, dim: ChannelDim, *, reduction: int) -> None:
        super().__init__(dim, dim, 3, reduction=reduction)
        self.point = nn.Parameter(torch.zeros(dim.widest, dim.widest, 1, 1))
        self.skip = nn.Parameter(torch.zeros(dim.widest))

    def folded(self) -> Tensor:
        centre = self.point + torch.diag(self.skip)[:, :, None, None]
        return self.weight + F.pad(centre, (1, 1, 1, 1))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        runs = self.inputs.runs(plan)
        return slim_conv2d(x, self.folded(), self.bias, inputs=runs, outputs=runs, padding=1)

    def extract(self, plan: ChannelPlan) -> nn.Module:
        plain = super().extract(plan)
        width = self.inputs.width(plan)
        plain.weight.data.copy_(self.folded()[:width, :width])
        return plain


class RepBlock(nn.Module):
    """The residual block with re-parameterised convolutions."""

    def __init__(self, convs: ConvSet, dim: ChannelDim, *, reduction: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = RepConv(dim, reduction=reduction), RepConv(dim, reduction=reduction)

    def forward(self, x: Tensor, *at: Any) -> Tensor:
        return x + self.conv2(F.relu_(self.conv1(x, *at)), *at)


CANDIDATES = {
    "residual 3x3, 2 blocks": {"block": ResidualBlock, "blocks": (2, 2, 2)},
    "residual 3x3, 1/2/4 blocks": {"block": ResidualBlock, "blocks": (1, 2, 4)},
    "re-parameterised 3x3": {"block": RepBlock, "blocks": (2, 2, 2)},
    "gated (NAF), 4/4/6 blocks": {"block": GatedBlock, "blocks": (4, 4, 6)},
}


def seconds_per_megapixel(net: nn.Module, dtype: torch.dtype, size: int = 1024) -> float:
    """Median of 5 runs of a [1, 3, size, size] picture."""
    net = net.to(dtype).to(memory_format=torch.channels_last)
    x, sigma = torch.rand(1, 3, size, size), torch.full((1,), 0.1)
    with torch.inference_mode():
        net(x, sigma=sigma)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            net(x, sigma=sigma)
            times.append(time.perf_counter() - start)
    return statistics.median(times) / (size * size / 1e6)


def psnr(net: nn.Module, pictures: list[np.ndarray], sigma: float) -> float:
    """Mean PSNR under the `rgb-u8` protocol."""
    values = []
    for picture in pictures:
        clean = picture.astype(np.float32) / 255
        noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
        noisy = torch.from_numpy(clean + sigma * noise).permute(2, 0, 1)[None]
        with torch.inference_mode():
            out = net(noisy, sigma=torch.tensor([sigma]))[0].permute(1, 2, 0).numpy()
        out = np.rint(out.clip(0, 1) * 255) / 255
        values.append(-10 * np.log10(np.mean((out - clean) ** 2)))
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--out", type=Path, default=Path("runs/block-bakeoff"))
    args = parser.parse_args()
    tune_allocator()
    data = NoisyCrops(corpus=corpus_of([args.train], Path(".cache/corpus"), reductions=(1, 2, 3)), sigma=(0, 55 / 255))
    pictures = [read_picture(path).pixels for path in picture_paths(args.test)[::2]]
    rate: dict[str, float] = {}
    for measuring in (True, False):
        for name in args.only:
            torch.manual_seed(0)
            network = HalfUNet(**CANDIDATES[name])
            network.to(memory_format=torch.channels_last)
            method = SupernetMethod(network, subnets=3, jitter=0, synergy=False)
            steps = 25 if measuring else int(args.minutes * 60 / rate[name])
            times: list[float] = []
            config = LoopConfig(
                steps=steps,
                learning_rate=1e-3,
                warmup=min(200, steps),
                ema=0.995,
                validate_every=0,
                checkpoint_every=10**9,
            )
            run = args.out / f"{name.replace('/', '-')}-{measuring}-{time.time_ns()}"
            result = train(config, method, data, run, report=lambda p, t=times: t.append(p.seconds))
            if measuring:
                rate[name] = statistics.median(np.diff(times[4:]))
                continue
            network.load_state_dict(result.weights)
            for ratio in (1 / 3, 2 / 3, 1.0):
                plan = network.space.scaled(ratio)
                row = {
                    "block": name,
                    "macs_per_pixel": round(network.macs_per_pixel(plan)),
                    "steps": steps,
                    "seconds_per_step": round(rate[name], 4),
                    "psnr25": round(psnr(network.extract(plan), pictures, 25 / 255), 3),
                    "s_per_mp_fp32": round(seconds_per_megapixel(network.extract(plan), torch.float32), 4),
                    "s_per_mp_bf16": round(seconds_per_megapixel(network.extract(plan), torch.bfloat16), 4),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
