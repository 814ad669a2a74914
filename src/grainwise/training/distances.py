"""Distances between an output and its target, by name."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import UnknownNameError

Distance = Callable[[Tensor, Tensor], Tensor]


def charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2), Charbonnier et al. 1994; [B, C, H, W] twice -> a scalar."""
    return (output - target).square().add(epsilon**2).sqrt().mean()


def log_mse(output: Tensor, target: Tensor, floor: float = 1e-5) -> Tensor:
    """Mean over the batch of ln(mean squared error + floor): minus PSNR, in units of 4.34 dB ("PSNR loss")."""
    return (output - target).square().mean((1, 2, 3)).add(floor).log().mean()


def summed_l1(output: Tensor, target: Tensor) -> Tensor:
    """Absolute differences, summed over channels and pixels, mean over the batch: the loss of DANet+ (Yue et al. 2020)."""
    return (output - target).abs().sum((1, 2, 3)).mean()


DISTANCES: dict[str, Distance] = {
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "log_mse": log_mse,
    "summed_l1": summed_l1,
}


def get_distance(name: str) -> Distance:
    """The distance of that name.

    Raises:
        UnknownNameError: no distance has it.
    """
    if name not in DISTANCES:
        raise UnknownNameError("distance", name, DISTANCES)
    return DISTANCES[name]
