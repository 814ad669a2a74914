"""What every network of the package is: a module that says, as data, what it can do and needs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan, ChannelSpace
from grainwise.primitives.hyper_conv import checked_level
from grainwise.primitives.malle_conv import MalleConv
from grainwise.primitives.slim_conv import SlimLayer, extract, slim_layers

Value = TypeVar("Value", float, Tensor)


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
        task: ``denoise``, ``dejpeg`` or ``upscale``.
        level_range: for a network of level-conditioned layers, what level 0 and level 1 stand for in the units of the task
            (noise level in image units, JPEG quality, scale); None where no layer takes a level.
    """

    channels: int
    scale: int
    size_multiple: int
    halo: int
    needs_sigma: bool
    sigma_max: float
    exact_tiles: bool
    least_tile: int
    task: str = "denoise"
    level_range: tuple[float, float] | None = None

    def given(self, sigma: Tensor) -> dict[str, Tensor]:
        """The keyword arguments that tell the network ``sigma``: none for a network that does not take it."""
        return {"sigma": sigma} if self.needs_sigma else {}

    def level(self, value: Value) -> Value:
        """The level of a degradation in the units of the task: 0 and 1 at the ends of ``level_range``, linear everywhere.

        Raises:
            InputError: the network takes no level.
        """
        if self.level_range is None:
            raise InputError("this network takes no level; leave it out")
        start, end = self.level_range
        return (value - start) / (end - start)

    def with_context(self, network: "Network") -> "Facts":
        """The facts of ``network``, where these are its facts without the MalleConvs that its convolutions brought along.

        Each of them sees further and works on cells. The halo is then an upper bound.
        """
        parts = [part for part in network.modules() if isinstance(part, MalleConv)]
        layers = [layer for part in parts for layer in slim_layers(part)]
        cells = [part.settings.stride * part.reduction for part in parts]
        return replace(
            self,
            halo=self.halo + sum(part.context * part.reduction for part in parts),
            size_multiple=math.lcm(self.size_multiple, *cells),
            least_tile=max(self.least_tile, least_exact_tile(layers, network.space.narrowest)),
        )


class Network(nn.Module, ABC):
    """A slimmable network: ``net(x, plan, sigma=sigma)``; ``net.extract(plan)(x, sigma=sigma)`` is the same, plain.

    Where the layers are conditioned on a level too (`Facts.level_range`), it follows the plan: ``net(x, plan, level)``; a
    network that is told sigma takes the level of that sigma if none is given. ``net.extract(plan)`` still takes the level
    (or sigma); ``net.extract(plan, level)`` has its kernels merged. See docs/decisions/0005.
    """

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
            at: what the network's kind of convolution takes at run time: the plan, and the level where there is one (a
                number, [B], or a map [B, 1, H, W]); nothing of what is bound by `extract`.
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

    def macs_per_picture(self, plan: ChannelPlan) -> float:
        """Multiply-adds that do not grow with the picture: those on pooled vectors, once per picture of the batch."""
        self.space.check(plan)
        return sum(layer.macs_per_picture(plan) for layer in slim_layers(self))

    def extract(self, plan: ChannelPlan, *level: float | Tensor) -> nn.Module:
        """The plain network of ``plan``: torch layers with weights of their own, in evaluation mode.

        Args:
            plan: the channel plan.
            level: for level-conditioned layers: one level, whose kernels are merged; without it they stay conditioned.

        Raises:
            PlanError: the network has no such plan.
            InputError: a level for a network that takes none, or not a single one.
        """
        self.space.check(plan)
        if len(level) > (self.facts.level_range is not None):
            raise InputError(
                f"this network is extracted at a plan{' and a level' if self.facts.level_range else ''} only"
            )
        plain = extract(self, plan, *level).eval()
        if level:
            plain.facts = replace(self.facts, level_range=None)  # type: ignore[assignment]
        return plain

    def told(self, sigma: Tensor, degradation: Tensor | None = None) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What follows the plan in a call, by position and by name: ``net(x, plan, *at, **named)``.

        Args:
            sigma: noise level in image units, for the networks that need it.
            degradation: its level in the units of the task, [B], or [] for all pictures; [] has kernels merged once. A
                network that takes its level from sigma listens to [] alone.

        Raises:
            InputError: the network takes its level from ``degradation``, and it is None.
        """
        named = self.facts.given(sigma)
        if self.facts.level_range is None or (named and (degradation is None or degradation.ndim > 0)):
            return (), named
        if degradation is None:
            raise InputError(f"this network is told the level of its task, {self.facts.task}; give batches that say it")
        return (self.facts.level(degradation),), named

    def conditioned(self, x: Tensor, at: tuple[Any, ...], sigma: Tensor | None) -> tuple[Any, ...]:
        """``at`` as level-conditioned layers take it: with the level that it holds already, or else that of ``sigma``.

        Raises:
            InputError: there is neither, or a level map is not of the size of ``x``.
        """
        if self.facts.level_range is None:
            return at
        levels = [part for part in at if not isinstance(part, ChannelPlan)]
        if not levels and sigma is None:
            raise InputError(f"this network must be told the level of its task, {self.facts.task}, behind the plan")
        if not levels and sigma is not None:
            return (*at, self.facts.level(sigma))
        if isinstance(levels[0], Tensor) and levels[0].ndim == 4 and levels[0].shape[2:] != x.shape[2:]:
            raise InputError(
                f"a level map has the size of the picture, {list(x.shape[2:])}, got {list(levels[0].shape[2:])}"
            )
        return at


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


def level_map(level: float | Tensor, x: Tensor) -> Tensor:
    """A level as layers take it, as [1 or B, 1, 1, 1], or a map [1 or B, 1, H, W] as it is, in the dtype of ``x``.

    Raises:
        InputError: it has another shape, or is no finite number.
    """
    known = checked_level(level, x.shape[0])
    if not isinstance(known, Tensor):
        return torch.full((1, 1, 1, 1), known, dtype=x.dtype, device=x.device)
    return known.to(x.dtype) if known.ndim == 4 else known.to(x.dtype).view(-1, 1, 1, 1)


def least_exact_tile(layers: Iterable[SlimLayer], narrowest: ChannelPlan, values: int = 20_480) -> int:
    """Input pixels from which the input of every layer has more than ``values`` values, see `Facts.least_tile`."""
    return 1 + max((values * layer.input_reduction**2 // layer.inputs.width(narrowest) for layer in layers), default=0)


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
