"""What every network of the package is: a module that says, as data, what it can do and needs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan, ChannelSpace
from grainwise.primitives.slim_conv import extract, slim_layers


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a caller must know to run a network.

    Args:
        channels: channels of the input and of the output picture.
        scale: output pixels per input pixel, along one side.
        size_multiple: tiles start at multiples of this many input pixels; sizes are padded to it inside the network.
        halo: receptive-field radius in input pixels: an output pixel depends on no input pixel further away.
        needs_sigma: whether ``sigma`` must be given.
        sigma_max: the greatest noise level that the network was built for, in image units.
        exact_tiles: whether a tile with its halo gives exactly the pixels of the whole picture.
        least_tile: pixels that a tile must read for that. Torch takes another kernel, which rounds differently in the last
            bit, for a convolution whose float32 input has at most 20,480 values; this many pixels keep every layer above.
    """

    channels: int
    scale: int
    size_multiple: int
    halo: int
    needs_sigma: bool
    sigma_max: float
    exact_tiles: bool
    least_tile: int

    def given(self, sigma: Tensor) -> dict[str, Tensor]:
        """The keyword arguments that tell the network ``sigma``: none for a network that does not take it."""
        return {"sigma": sigma} if self.needs_sigma else {}


class Network(nn.Module, ABC):
    """A slimmable network: ``net(x, plan, sigma=sigma)``; ``net.extract(plan)(x, sigma=sigma)`` is the same, plain."""

    space: ChannelSpace
    facts: Facts

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""

    @abstractmethod
    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """Restore ``x``.

        Args:
            x: [B, 3, H, W], RGB in [0, 1] (noise may leave that range), any H and W from 1.
            at: what the network's kind of convolution takes at run time: the plan; nothing once extracted.
            sigma: noise level in image units: [B], or a map [B, 1, H, W]. Networks whose facts say `needs_sigma` require
                it; the others refuse it.

        Raises:
            InputError: ``x`` or ``sigma`` has another shape, or ``sigma`` is missing or not wanted.
        """

    @abstractmethod
    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Memory of a running extracted network per input pixel, an upper bound of what was measured.

        Args:
            plan: the channel plan.
            itemsize: bytes of a number of the arithmetic: 4 for float32, 2 for bfloat16.
        """

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """Multiply-adds per input pixel at ``plan``: convolutions only, closed form (DDS-Net's "FLOPs/Pixel")."""
        self.space.check(plan)
        return sum(layer.macs_per_pixel(plan) for layer in slim_layers(self))

    def extract(self, plan: ChannelPlan) -> nn.Module:
        """The plain network of ``plan``: torch layers with weights of their own, in evaluation mode."""
        self.space.check(plan)
        return extract(self, plan).eval()


def check_picture(x: Tensor, channels: int) -> None:
    """Raise `InputError` unless ``x`` is [B, channels, H, W]."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise InputError(f"the network takes [B, {channels}, H, W], got {list(x.shape)}")


def refuse_sigma(sigma: Tensor | None) -> None:
    """Raise `InputError` where a noise level is given to a network that is blind to it."""
    if sigma is not None:
        raise InputError("this network estimates no noise level and takes none; leave sigma out")


def noise_map(sigma: Tensor | None, x: Tensor) -> Tensor:
    """``sigma`` [B] as [B, 1, 1, 1], or a map [B, 1, H, W] as it is, checked against ``x`` [B, C, H, W].

    Raises:
        InputError: sigma is missing or has another shape.
    """
    if sigma is None:
        raise InputError("this network must be told the noise level: sigma=, in image units")
    if sigma.ndim == 1 and sigma.shape[0] == x.shape[0]:
        return sigma.to(x.dtype).view(-1, 1, 1, 1)
    if sigma.shape == (x.shape[0], 1, *x.shape[2:]):
        return sigma.to(x.dtype)
    wanted = f"[{x.shape[0]}] or {[x.shape[0], 1, *x.shape[2:]]}"
    raise InputError(f"sigma must be a tensor {wanted} for a picture {list(x.shape)}, got {list(sigma.shape)}")


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirror ``x`` [B, C, H, W] at its bottom and right until H and W are multiples; any size from 1 works."""
    for dim in (2, 3):
        size = x.shape[dim]
        missing = -size % multiple
        if missing == 0:
            continue
        if missing < size:
            x = F.pad(x, (0, missing, 0, 0) if dim == 3 else (0, 0, 0, missing), mode="reflect")
        else:
            period = max(2 * size - 2, 1)
            index = torch.arange(size + missing, device=x.device) % period
            x = x.index_select(dim, torch.where(index < size, index, period - index))
    return x
