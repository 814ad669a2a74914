"""A slider: one picture, restored again and again at another level, while somebody looks at it.

What does not depend on the level is done once: decoding, the estimate, the head of the network. A new level costs the merging
of its kernels (a few milliseconds, measured by benchmarks/live.py) and the rest of the network: first for a preview, reduced
in size and width, then for the part of the picture that is on the screen, or all of it.
"""

import math
import threading
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.networks.network import Network
from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.hyper_conv import LevelConv
from grainwise.runtime import machine, memory
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback, tell, to_pixels, to_tensor
from grainwise.runtime.tiles import Box, Tile, plan_tiles, tile_of


class MergedNetwork:
    """An extracted network whose kernels are merged anew for each level, in place.

    Args:
        network: with level-conditioned layers.
        plan: its channel plan.
        device, dtype: of the arithmetic; kernels are merged in the dtype of the weights.

    Raises:
        InputError: the network has no such layers.
    """

    def __init__(self, network: Network, plan: ChannelPlan, device: torch.device, dtype: torch.dtype) -> None:
        """Extract it twice: with its kernels merged, and with what they are merged from."""
        if network.facts.level_range is None:
            raise InputError("this network takes no level, so there is nothing to slide")
        self.level = 0.0
        source = network.extract(plan).to(device)
        self.network = network.extract(plan, self.level).to(device, dtype).requires_grad_(False)
        for module in (source, self.network):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._pairs: list[tuple[LevelConv, nn.Module]] = [
            (part, self.network.get_submodule(name))
            for name, part in source.named_modules()
            if isinstance(part, LevelConv)
        ]

    def at(self, level: float) -> nn.Module:
        """The network with the kernels of ``level``: the same object each time, valid until the next call."""
        if level != self.level:
            for part, layer in self._pairs:
                part.merge_into(layer, level)
            self.level = level
        return self.network


class LiveRestorer:
    """Holds one picture and restores it at any level. Calls from several threads wait for each other.

    Args:
        network: HyperRes, its layers level-conditioned.
        image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Grey pictures go through a
            colour network as colour; a network for luma takes grey pictures alone.
        plan: of the full picture; None takes the widest.
        preview_plan: of the preview; None takes the narrowest.
        preview_pixels: the preview of a denoiser is reduced by a whole factor to at most so many.
        estimator: estimates the level; None takes `estimate_noise` for noise, and there is no estimate for other tasks.
        device, dtype: see `grainwise.runtime.denoiser.Denoiser`.

    Raises:
        InputError: another network, or a picture, device or dtype that cannot be used.
    """

    def __init__(
        self,
        network: Network,
        image: Image | Tensor,
        *,
        plan: ChannelPlan | None = None,
        preview_plan: ChannelPlan | None = None,
        preview_pixels: int = 250_000,
        estimator: LevelEstimator | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """Read the picture and build both networks."""
        if not isinstance(network, HyperRes):
            raise InputError(f"only HyperRes keeps its head apart from its levels, got {type(network).__name__}")
        machine.tune_allocator()
        self.facts = network.facts
        self._image, self._pixels = image, as_hwc(image)
        if self.facts.channels == 1 and self._pixels.shape[2] != 1:
            raise InputError("this network restores luma; give it a grey picture, [H, W] or [H, W, 1]")
        if estimator is not None and (estimator.task, estimator.channels) != (self.facts.task, self.facts.channels):
            raise InputError(
                f"the estimator is one for {estimator.task} in {estimator.channels} channels, not this network's"
            )
        if preview_pixels < 1:
            raise InputError(f"the preview needs at least 1 pixel, got {preview_pixels}")
        self._estimator = estimator
        self._device = machine.find_device(device)
        self._dtype = machine.find_dtype(dtype, self._device)
        self._full_plan = plan or network.space.widest
        self._full = MergedNetwork(network, self._full_plan, self._device, self._dtype)
        small = preview_plan or network.space.narrowest
        self._small = self._full
        if small != self._full_plan:
            self._small = MergedNetwork(network, small, self._device, self._dtype)
        self._bytes_per_pixel = network.bytes_per_pixel(self._full_plan, self._dtype.itemsize)
        height, width = self._pixels.shape[:2]
        factor = math.ceil(math.sqrt(height * width / preview_pixels)) if self.facts.task == DENOISE else 1
        self.factor = min(factor, height, width)
        self._features: dict[Tile, Tensor] = {}
        self._lock = threading.Lock()

    @cached_property
    def estimate(self) -> float | None:
        """The degradation of the picture in the units of the task, to start the slider with; None where nothing tells it."""
        if self._estimator is not None:
            x = self._tensor(self._pixels)
            return self._estimator.to(self._device).estimate(x).value
        return estimate_noise(self._pixels).sigma if self.facts.task == DENOISE else None

    def full(self, value: float, *, progress: ProgressCallback | None = None) -> Image | Tensor:
        """The picture restored at ``value``, of the type, depth and shape of the image; exactly what a fresh run gives.

        Args:
            value: the degradation in the units of the task: noise level in image units, JPEG quality, scale.
            progress: called after each tile; returning False cancels.

        Raises:
            InputError: a value that is no level, or not enough memory.
            Cancelled: ``progress`` returned False.
        """
        level = self._level(value)
        tiles = self._tiles()
        total, done = sum(tile.read.area for tile in tiles), 0
        out = np.empty_like(self._pixels, order="C")
        for tile in tiles:
            with self._lock:
                out[tile.write.slices] = self._restored(tile, level, keep=True)
            done += tile.read.area
            tell(progress, done / total)
        return like_input(out, self._image)

    def part(self, value: float, window: Box) -> Image:
        """The pixels of ``window``, what is on the screen, as they are in `full`: [height, width, C] of the image's depth.

        Raises:
            InputError: a value that is no level, or a window that is not inside the picture.
        """
        level, facts = self._level(value), self.facts
        height, width = self._pixels.shape[:2]
        grid = {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
        with self._lock:
            return self._restored(tile_of(window, height, width, **grid), level, keep=False)

    def preview(self, value: float) -> Image:
        """A quick look at ``value``: [H / factor, W / factor, C] NumPy pixels of the image's depth, rounded down.

        A denoiser sees the picture reduced by means of ``factor`` x ``factor`` pixels, which divides the noise by the factor,
        and is told so. What reducing does to other degradations is no level of theirs: their preview has full size and is
        only narrower. All of it uses the preview's plan.

        Raises:
            InputError: a value that is no level.
        """
        level = self._level(value / self.factor if self.facts.task == DENOISE else value)
        with self._lock, torch.inference_mode():
            features, x = self._small_features
            y = self._small.at(level).decode(features, x, (), ())  # type: ignore[operator]
        return to_pixels(y[0], self._pixels)

    @cached_property
    def _small_features(self) -> tuple[Tensor, Tensor]:
        x = self._tensor(self._pixels)
        x = F.avg_pool2d(x, self.factor) if self.factor > 1 else x
        with torch.inference_mode():
            return self._small.network.features(x), x  # type: ignore[operator]

    def _restored(self, tile: Tile, level: float, *, keep: bool) -> Image:
        """The pixels that ``tile`` writes."""
        x = self._tensor(self._pixels[tile.read.slices])
        with torch.inference_mode():
            features = self._features.get(tile)
            if features is None:
                features = self._full.network.features(x)  # type: ignore[operator]
                held = sum(kept.nbytes for kept in self._features.values()) + features.nbytes
                if keep and held <= memory.available_bytes() // 4:
                    self._features[tile] = features
            y = self._full.at(level).decode(features, x, (), ())  # type: ignore[operator]
        inner = tile.write.within(tile.read)
        return to_pixels(y[0, :, *inner.slices], self._pixels)

    def _tiles(self) -> tuple[Tile, ...]:
        height, width = self._pixels.shape[:2]
        facts = self.facts
        grid = {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
        side = memory.tile_side(height, width, free=self._free_bytes, bytes_per_pixel=self._bytes_per_pixel, **grid)
        return plan_tiles(height, width, size=side, **grid)

    @cached_property
    def _free_bytes(self) -> int:
        """Fixed at the first run, so that the tiles stay the same and the kept features fit."""
        return memory.available_bytes() // 2

    def _tensor(self, pixels: Image) -> Tensor:
        return to_tensor(pixels, self._device)[:, : self.facts.channels]

    def _level(self, value: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"the level of a slider is a finite number in the units of the task, got {value!r}")
        return float(self.facts.level(float(value)))
