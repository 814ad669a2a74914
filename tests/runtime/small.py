"""Weights that run in milliseconds."""

import torch

from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.half_unet import HalfUNet


def small_weights(seed: int = 0, *, task: str = "denoise", convs: str | None = None) -> Weights:
    """A network that runs in milliseconds, with three plans; for another task than noise, its level moves its kernels."""
    torch.manual_seed(seed)
    convs = convs or ("slim" if task == "denoise" else "hyper")
    network = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), task=task, convs=convs).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("_slope"):
            parameter.normal_(std=0.03)
    plans = [network.space.plan({"level0": a, "level1": b}) for a, b in ((16, 16), (16, 32), (24, 32))]
    named = [
        MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, name)
        for plan, name in zip(plans, ("fast", "balanced", "best"), strict=True)
    ]
    card = Card(
        licence="CC0", data=("none",), recipe="none", commit="0", steps=1, seconds=1.0, device="cpu", plans=tuple(named)
    )
    return Weights("small", network, card)
