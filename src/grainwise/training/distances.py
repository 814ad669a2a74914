"""Distances between an output and its target, by name."""

import math
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError, UnknownNameError

Distance = Callable[[Tensor, Tensor], Tensor]


CHARBONNIER = 1e-3
"""Its epsilon, in image units."""


def charbonnier(output: Tensor, target: Tensor, epsilon: float = CHARBONNIER) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2), Charbonnier et al. 1994; [B, C, H, W] twice -> a scalar."""
    return _rounded(output, target, epsilon).mean()


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


def rounded_distance(name: str, epsilon: float) -> Distance:
    """The distance of that name, its corner at 0 rounded: sqrt(difference^2 + epsilon^2) for |difference|.

    A clean picture differs from what can be restored of it by details that nobody can know, and these round the corner of an
    absolute difference: on average over them, its pull fades as the restored picture comes near to the best one. A teacher's
    picture has no such details, and the pull towards it is as strong at a thousandth as at a tenth, unless it is rounded.

    Args:
        name: of `DISTANCES`.
        epsilon: in image units; 0 rounds nothing. For Gaussian details 1.25 of their standard deviations (the square root of
            pi / 2) give a teacher the pull of the clean picture, where the difference is below one of them; beyond, a
            little less.

    Raises:
        UnknownNameError: no distance has that name.
        InputError: a negative epsilon, or a distance without a corner, or with one that is rounder already.
    """
    plain = get_distance(name)
    if not 0 <= epsilon < math.inf:
        raise InputError(f"a corner is rounded by at least 0, got {epsilon}")
    if epsilon == 0:
        return plain
    if name == "summed_l1":
        return lambda output, target: _rounded(output, target, epsilon).sum((1, 2, 3)).mean()
    if name == "l1" or (name == "charbonnier" and epsilon >= CHARBONNIER):
        return partial(charbonnier, epsilon=epsilon)
    raise InputError(f"the distance {name} cannot be rounded by {epsilon}: it has no corner, or a rounder one")


def _rounded(output: Tensor, target: Tensor, epsilon: float) -> Tensor:
    return (output - target).square().add(epsilon**2).sqrt()
