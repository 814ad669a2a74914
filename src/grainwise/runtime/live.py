"""A slider: one picture, restored again and again at another level, while somebody looks at it.

What does not depend on where the slider stands is done once: decoding, the estimate, the pixels as the network takes them, the
head of a network whose head knows no level, and, for what is on the screen, the results of the narrowest plan at a few fixed
levels (`LiveRestorer.prepare`). A new level is then first mixed of the two results beside it, in a few milliseconds; where
these are not there yet, its kernels are merged and the narrowest plan runs. The full plan follows, for the part of the picture
that is on the screen, or all of it. Measured by benchmarks/live.py.
"""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.half_resolution import FULL_EFFECT, FULL_EFFECT_OF_LEVEL
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.networks.network import Network
from grainwise.networks.tasks import DEJPEG, DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import machine, memory
from grainwise.runtime.jpeg_quality import estimate_jpeg
from grainwise.runtime.knots import Knots
from grainwise.runtime.level import Level, is_number
from grainwise.runtime.merged_network import MergedNetwork
from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback, tell, to_pixels, to_tensor
from grainwise.runtime.seams import REACH
from grainwise.runtime.tiles import Box, Tile, plan_tiles, tile_of

MOST_LOOKS = 2
"""Windows, the whole picture among them, whose results at fixed levels are kept."""

MOST_PREPARED = 512 << 20
"""Bytes that the results at fixed levels of all windows take at most, if no fewer are allowed: 1.7 megapixels in colour."""

_KNOTS = 24
_STRIP = 64


@dataclass(slots=True)
class _Look:
    """A window of the picture, or all of it, reduced (``tile`` is None); 0 ``prepared_bytes`` where it is not prepared."""

    tile: Tile | None
    knots: Knots
    x: Tensor | None
    noise: Tensor | None
    prepared_bytes: int
    features: Tensor | None = None


class LiveRestorer:
    """Holds one picture and restores it at any level of a slider. It may be called from several threads.

    Args:
        network: `HyperRes`, or a `HalfUNet`: the networks that ship. For super-resolution the picture is enlarged already.
        image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Grey pictures go through a
            colour network as colour; a network for luma takes grey pictures alone.
        plan: of the full picture; None takes the widest.
        preview_plan: of the preview; None takes the narrowest.
        preview_pixels: the preview of the whole picture is reduced by a whole factor to at most so many.
        estimator: estimates the level; None takes `estimate_noise` for noise and `estimate_jpeg` for JPEG artifacts, and there
            is no estimate for other tasks.
        noise: the noise as it was estimated. Where it depends on brightness, the slider's value is its root mean square over
            the picture, as a denoiser's strength has it; for networks whose kernels do not depend on the level.
        prepared_bytes: what the results that `prepare` keeps take at most; a window that needs more alone is not prepared.
        max_memory: what the process may take, in MB (2**20 bytes), pictures included: full pictures and sharp parts are run in
            tiles that it allows, and no features are kept; a preview runs its narrow plan on its window at once, whatever the
            limit. None allows tiles half of what is free at the first run.
        device, dtype: see `grainwise.runtime.restorer.Restorer`.

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
        noise: NoiseEstimate | None = None,
        prepared_bytes: int = MOST_PREPARED,
        max_memory: float | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """Read the picture and build both networks."""
        if not isinstance(network, HyperRes | HalfUNet):
            raise InputError(f"a slider takes a HyperRes or a HalfUNet, got {type(network).__name__}")
        machine.tune_allocator()
        self.facts = facts = network.facts
        self._image, self._pixels = image, as_hwc(image)
        if facts.channels == 1 and self._pixels.shape[2] != 1:
            raise InputError("this network restores luma; give it a grey picture, [H, W] or [H, W, 1]")
        if estimator is not None and (estimator.task, estimator.channels) != (facts.task, facts.channels):
            raise InputError(
                f"the estimator is one for {estimator.task} in {estimator.channels} channels, not this network's"
            )
        if noise is not None and (facts.task != DENOISE or facts.level_range is not None):
            raise InputError("only a denoiser whose kernels do not depend on the level is told how the noise varies")
        if preview_pixels < 1 or prepared_bytes < 0:
            raise InputError(f"a preview needs at least 1 pixel and 0 bytes, got {preview_pixels} and {prepared_bytes}")
        self._estimator, self._noise, self._prepared_bytes = estimator, noise, prepared_bytes
        self._max_memory = memory.checked_limit(max_memory)
        self._device = machine.find_device(device)
        self._dtype = machine.find_dtype(dtype, self._device)
        full, small = plan or network.space.widest, preview_plan or network.space.narrowest
        self._full = MergedNetwork(network, full, self._device, self._dtype)
        self._small = self._full if small == full else MergedNetwork(network, small, self._device, self._dtype)
        self._bytes_per_pixel = network.bytes_per_pixel(full, self._dtype.itemsize)
        height, width = self._pixels.shape[:2]
        self.factor = min(math.ceil(math.sqrt(height * width / preview_pixels)), height, width)
        self._features: dict[Tile, Tensor] = {}
        self._looks: OrderedDict[Box | None, _Look] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def estimate(self) -> float | None:
        """The degradation of the picture in the units of the task, to start the slider with; None where nothing tells it."""
        if self._estimator is not None:
            x = self._tensor(self._pixels)
            return self._estimator.to(self._device).estimate(x).value
        if self.facts.task == DENOISE:
            return (self._noise or estimate_noise(self._pixels)).sigma
        return estimate_jpeg(self._pixels).quality if self.facts.task == DEJPEG else None

    def full(self, value: float, *, progress: ProgressCallback | None = None) -> Image | Tensor:
        """The picture restored at ``value``, of the type, depth and shape of the image; exactly what a fresh run gives.

        Args:
            value: the degradation in the units of the task: noise level in image units, JPEG quality, scale.
            progress: called after each tile; returning False cancels.

        Raises:
            InputError: a value outside the slider, or not enough memory.
            Cancelled: ``progress`` returned False.
        """
        self._place(value)
        tiles = self._tiles(self._pixels.nbytes)
        total, done = sum(tile.read.area for tile in tiles), 0
        out = np.empty_like(self._pixels, order="C")
        for tile in tiles:
            out[tile.write.slices] = to_pixels(self._restored(self._full, tile, value, keep=True), self._pixels)
            done += tile.read.area
            tell(progress, done / total)
        return like_input(out, self._image)

    def part(self, value: float, window: Box) -> Image:
        """The pixels of ``window``, what is on the screen, as they are in `full`: [height, width, C] of the image's depth.

        Raises:
            InputError: a value outside the slider, a window that is not inside the picture, or not enough memory.
        """
        self._place(value)
        self._tile(window, self.facts.halo, self.facts.least_tile)
        channels = self._pixels.shape[2]
        side = self._side(window.area * channels * self._pixels.itemsize)
        out = np.empty((*window.shape, channels), self._pixels.dtype)
        for box in window.pieces(side):
            tile = self._tile(box, self.facts.halo, self.facts.least_tile)
            out[box.within(window).slices] = to_pixels(
                self._restored(self._full, tile, value, keep=False), self._pixels
            )
        return out

    def preview(self, value: float, window: Box | None = None) -> Image:
        """A quick look at ``value``, by the preview's plan: NumPy pixels [h, w, C] of the image's depth.

        Args:
            value: see `full`.
            window: what is on the screen, in full size (what lies further off than `REACH` pixels is not asked); None looks at
                the whole picture, reduced by means of `factor` x `factor` pixels, rounded down.

        A denoiser sees a whole picture reduced already, which divides the noise by the factor, and is told so. What reducing
        does to other degradations is no level of theirs: they are reduced when they are restored.

        Where `prepare` has been here, the result is mixed of two, and may be off by a step or two of 255 at edges.

        Raises:
            InputError: a value outside the slider, or a window that is not inside the picture.
        """
        place = self._place(value)
        look = self._look(window)
        y = look.knots.at(place)
        return to_pixels(self._glance(look, place) if y is None else y, self._pixels)

    def prepare(
        self, window: Box | None = None, *, around: float | None = None, progress: ProgressCallback | None = None
    ) -> None:
        """Do what previews of ``window`` at any value have in common: results at fixed levels, kept for the last few windows.

        Args:
            window: see `preview`; nothing is done for one whose results would take more than ``prepared_bytes``.
            around: the value whose neighbours come first.
            progress: called after each level; returning False cancels, and what is done is kept.

        Raises:
            InputError: as `preview`.
            Cancelled: ``progress`` returned False.
        """
        look = self._look(window)
        if look.prepared_bytes == 0:
            return
        missing = look.knots.missing(0.5 if around is None else self._place(around))
        for done, place in enumerate(missing, 1):
            look.knots.put(place, self._glance(look, place))
            tell(progress, done / len(missing))

    def _look(self, window: Box | None) -> _Look:
        """What is held of a window; the oldest is forgotten."""
        tile = None if window is None else self._tile(window, REACH, 1)
        with self._lock:
            look = self._looks.get(window)
            if look is None:
                fade = FULL_EFFECT / self.facts.sigma_max if self.facts.task == DENOISE else FULL_EFFECT_OF_LEVEL
                fade *= self.factor if tile is None and self.facts.task == DENOISE else 1
                places = {*(i / _KNOTS for i in range(_KNOTS)), min(1.0, fade)}
                x = noise = None
                if tile is not None:
                    x, noise = self._tensor(self._pixels[tile.read.slices]), self._varying(tile.read)
                elif self.facts.task == DENOISE:
                    x, noise = self._reduced()
                look = self._looks[window] = _Look(
                    tile, Knots(places), x, noise, self._allowed(window, len(places) + 1)
                )
            self._looks.move_to_end(window)
            kept = self._looks.values()
            while len(kept) > MOST_LOOKS or sum(one.prepared_bytes for one in kept) > self._prepared_bytes:
                self._looks.popitem(last=False)
            return look

    def _allowed(self, window: Box | None, places: int) -> int:
        """Bytes that the results of a window take at so many places, as float32; 0 where that is more than may be kept."""
        height, width = self._pixels.shape[:2]
        pixels = (height // self.factor) * (width // self.factor) if window is None else window.area
        needed = pixels * self.facts.channels * torch.float32.itemsize * places
        return needed if needed <= self._prepared_bytes else 0

    def _glance(self, look: _Look, place: float) -> Tensor:
        """[C, h, w] of a look, by the preview's plan."""
        value = self._value(place)
        if look.x is None:
            return self._whole(value)
        if look.tile is None:
            value /= self.factor
        with self._small.lock, torch.inference_mode():
            y, look.features = self._run(self._small, look.x, value, look.noise, look.features)
        if look.tile is None:
            return y[0]
        inner = look.tile.write.within(look.tile.read)
        return y[0, :, *inner.slices].clone()

    def _whole(self, value: float) -> Tensor:
        """The whole picture by the preview's plan, then reduced."""
        height, width = self._pixels.shape[:2]
        tiles = self._tiles(self.facts.channels * height * width * torch.float32.itemsize)
        y = torch.empty(self.facts.channels, height, width, device=self._device)
        for tile in tiles:
            y[:, *tile.write.slices] = self._restored(self._small, tile, value, keep=False)
        return F.avg_pool2d(y, self.factor) if self.factor > 1 else y

    def _reduced(self) -> tuple[Tensor, Tensor | None]:
        """The picture and the noise of its pixels, where it varies, reduced; in strips, so that little memory is needed."""
        height, width = self._pixels.shape[:2]
        parts: list[Tensor] = []
        noises: list[Tensor] = []
        for top in range(0, height - self.factor + 1, _STRIP * self.factor):
            box = Box(top, min(height, top + _STRIP * self.factor), 0, width)
            parts.append(F.avg_pool2d(self._tensor(self._pixels[box.slices]), self.factor))
            noise = self._varying(box)
            if noise is not None:
                noises.append(F.avg_pool2d(noise, self.factor))
        return torch.cat(parts, 2), torch.cat(noises, 2) if noises else None

    def _restored(self, network: MergedNetwork, tile: Tile, value: float, *, keep: bool) -> Tensor:
        """What ``tile`` writes, [C, h, w]; ``keep`` what does not depend on the level."""
        x = self._tensor(self._pixels[tile.read.slices])
        with network.lock, torch.inference_mode():
            known = self._features.get(tile) if network is self._full else None
            y, features = self._run(network, x, value, self._varying(tile.read), known)
            if features is not None and keep and self._max_memory is None and tile not in self._features:
                held = sum(kept.nbytes for kept in self._features.values()) + features.nbytes
                if held <= memory.available_bytes() // 4:
                    self._features[tile] = features
        return y[0, :, *tile.write.within(tile.read).slices]

    def _run(
        self, network: MergedNetwork, x: Tensor, value: float, noise: Tensor | None, features: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """``x`` restored at ``value``, and the output of a head that knows no level.

        Args:
            network: its lock is held.
            x: [1, C, H, W].
            value: in the units of the task.
            noise: the noise at each pixel, [1, 1, H, W], of which ``value`` is the root mean square over the picture.
            features: of the head, where they are known.
        """
        plain: Any = network.at(0.0 if self.facts.level_range is None else float(self.facts.level(value)))
        if isinstance(plain, HyperRes):
            known = plain.features(x) if features is None else features
            return plain.decode(known, x, (), ()), known
        told = {}
        if plain.facts.needs_sigma:
            told["sigma"] = torch.full((1,), value, device=x.device)
        if noise is not None and self._noise is not None:
            told["sigma"] = (noise * (value / self._noise.sigma)).clamp(max=self.facts.sigma_max)
        return plain(x, **told), None

    def _varying(self, box: Box) -> Tensor | None:
        """The noise level at each pixel of ``box`` as it was estimated, [1, 1, H, W]; None where it is even."""
        if self._noise is None or not self._noise.depends_on_brightness or self._noise.sigma == 0:
            return None
        height, width = self._pixels.shape[:2]
        return Level(None, self._noise, 1.0, math.inf, (height, width)).of(box, self._pixels, self._device)

    def _tile(self, window: Box, halo: int, least: int) -> Tile:
        height, width = self._pixels.shape[:2]
        return tile_of(window, height, width, halo=halo, multiple=self.facts.size_multiple, least_pixels=least)

    @property
    def _grid(self) -> dict[str, int]:
        facts = self.facts
        return {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}

    def _tiles(self, held: int) -> tuple[Tile, ...]:
        """Those of the whole picture, beside a result of ``held`` bytes."""
        height, width = self._pixels.shape[:2]
        return plan_tiles(height, width, size=self._side(held), **self._grid)

    def _side(self, held: int) -> int:
        """Of the largest tile that the memory allows, beside a result of ``held`` bytes.

        Raises:
            InputError: it allows none.
        """
        free = self._free_bytes
        if self._max_memory is not None:
            machine.release_memory()
            free = memory.bytes_within(self._max_memory) - held
        height, width = self._pixels.shape[:2]
        return memory.tile_side(height, width, free=free, bytes_per_pixel=self._bytes_per_pixel, **self._grid)

    @cached_property
    def _free_bytes(self) -> int:
        """Fixed at the first run, so that the tiles stay the same and the kept features fit."""
        return memory.available_bytes() // 2

    def _tensor(self, pixels: Image) -> Tensor:
        return to_tensor(pixels, self._device)[:, : self.facts.channels]

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the two ends of the slider, the one that changes nothing first."""
        return self.facts.level_range or (0.0, self.facts.sigma_max)

    def _place(self, value: float) -> float:
        """Where on the slider a value stands, 0 to 1."""
        low, high = sorted(self.ends)
        if not is_number(value) or not low <= value <= high:
            raise InputError(
                f"the level of a slider is a number from {low:g} to {high:g}, in the units of {self.facts.task}, got {value!r}"
            )
        start, end = self.ends
        return (float(value) - start) / (end - start)

    def _value(self, place: float) -> float:
        start, end = self.ends
        return start + place * (end - start)
