"""Distances between an output and its target, by name."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError, UnknownNameError

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


def summed_charbonnier(output: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """As `charbonnier`, summed over channels and pixels, mean over the batch."""
    return (output - target).square().add(epsilon**2).sqrt().sum((1, 2, 3)).mean()


DISTANCES: dict[str, Distance] = {
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "log_mse": log_mse,
    "summed_l1": summed_l1,
}


_ROUNDED = {"l1": charbonnier, "charbonnier": charbonnier, "summed_l1": summed_charbonnier}


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
        epsilon: in image units: about 1.25 standard deviations of those details give the teacher the pull of the clean
            picture; 0 rounds nothing.

    Raises:
        UnknownNameError: no distance has that name.
        InputError: a negative epsilon, or a distance without a corner.
    """
    plain = get_distance(name)
    if epsilon < 0:
        raise InputError(f"a corner is rounded by at least 0, got {epsilon}")
    if epsilon == 0:
        return plain
    if name not in _ROUNDED:
        raise InputError(f"{name} has no corner to be rounded; those that have are {', '.join(_ROUNDED)}")
    return partial(_ROUNDED[name], epsilon=epsilon)
