"""What benchmarks/dds_net.py measures: scores on pictures, and seconds."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainwise.core.pictures import read_picture
from grainwise.data.camera import Camera, photograph
from grainwise.evaluation.environment import environment
from grainwise.evaluation.measure import evaluate_pairs
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.ratios import RatioNetwork
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.blind import BlindDenoiser

SIDE = 256
"""Pictures are cut to this, the size of SIDD's blocks."""

Pairs = list[tuple[str, np.ndarray, np.ndarray]]
Scores = dict[str, Any]


class Fixed:
    """A sub-network as a method under test."""

    def __init__(self, network: RatioNetwork, plan: ChannelPlan) -> None:
        self.plain = network.extract(plan).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, noisy: np.ndarray, _: float) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(noisy).permute(2, 0, 1)[None]
            return np.ascontiguousarray(self.plain(x)[0].permute(1, 2, 0).numpy())


class Routed:
    """A gated network as a method under test, with an account of its routes."""

    def __init__(self, denoiser: BlindDenoiser) -> None:
        self.denoiser = denoiser
        self.costs: list[float] = []
        self.gate, self.whole = 0.0, 0.0

    def __call__(self, noisy: np.ndarray, _: float) -> np.ndarray:
        told = self.denoiser.restore(noisy)
        self.costs.append(told.macs_per_pixel)
        self.gate, self.whole = self.gate + told.seconds_gate, self.whole + told.seconds
        return np.asarray(told.image)

    def account(self) -> dict[str, Any]:
        return {"macs": float(np.mean(self.costs)), "costs": self.costs, "gate_share": self.gate / self.whole}


def scored(restorer: Callable[..., np.ndarray], pairs: Pairs) -> dict[str, Any]:
    """Mean PSNR, SSIM, seconds, and the PSNR of each picture."""
    told = evaluate_pairs(restorer, pairs, 0.0)
    rows = [round(score.psnr, 4) for score in told.scores]
    return {"psnr": told.psnr, "ssim": told.ssim, "seconds": told.seconds, "rows": rows}


def cut(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, at most SIDE pixels a side."""
    top, left = (max(0, (side - SIDE) // 2) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE])


def photographed(path: Path, index: int) -> tuple[str, np.ndarray, np.ndarray]:
    """A picture as a random camera gives it: the same for the same index."""
    generator = np.random.default_rng((2**31, index))
    pixels = cut(read_picture(path).pixels).astype(np.float32) / 255
    clean, noisy = photograph(pixels, Camera().draw(generator), generator)
    return path.stem, noisy, clean


def seconds_of(restore: Callable[..., np.ndarray], x: np.ndarray, repeats: int = 7) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        restore(x, 0.0)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def gate_seconds(gated: GatedNetwork, x: np.ndarray, repeats: int = 7) -> dict[str, float]:
    """Median seconds of reading and deciding, and the mean multiply-adds a pixel that a gate adds to a route."""
    plain = gated.eval().extract()
    tensor = torch.from_numpy(x).permute(2, 0, 1)[None]
    times = []
    with torch.inference_mode():
        tap = plain.tap(tensor)
        for _ in range(repeats + 1):
            start = time.perf_counter()
            plain.logits(tap)
            times.append(time.perf_counter() - start)
    pixels = x.shape[0] * x.shape[1]
    own = torch.tensor([gated.network.macs_per_pixel(plan) for plan in gated.routes])
    return {"seconds": float(np.median(times[1:])), "macs": float((gated.costs(pixels) - own).mean())}


def speed_of(network: RatioNetwork) -> dict[str, Any]:
    """Seconds of the smallest and the largest sub-network on 512x512, and of a gate over both."""
    ends = (network.space.narrowest, network.space.widest)
    x = torch.rand(512, 512, 3).numpy()
    here = environment()
    told: dict[str, Any] = {"cpu": here.cpu, "threads": here.threads}
    for name, plan in zip(("smallest", "largest"), ends, strict=True):
        told[name] = {"macs": network.macs_per_pixel(plan), "seconds": seconds_of(Fixed(network, plan), x)}
    return {**told, "gate": gate_seconds(GatedNetwork(network, ends), x)}
