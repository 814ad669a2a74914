"""The denoiser: a picture in, the same picture without its noise out, at the budget that the caller chose.

Its way: noise level, budget, plan, tiles; each tile through the extracted network of the plan; stitched. Calls do not
share state but a cache of extracted networks, so that one denoiser serves many threads.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import Weights, load_weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import machine, memory
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.level import Level, is_number
from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.tile_run import OnePlan, Plans, TileRun
from grainwise.runtime.tiles import Tile, plan_tiles


@dataclass(frozen=True, slots=True)
class Restoration:
    """A restored picture and how it was made.

    Attributes:
        image: of the type, depth and shape of the input.
        sigma: noise level that the network was told, in image units: the estimate or the caller's, times the strength;
            the mean of the map where it varies.
        estimate: the blind estimate, or None where the caller gave the level.
        plan: the channel plan.
        macs_per_pixel: its cost.
        tiles: number of tiles.
        seconds: of the whole call.
        seconds_estimate: of these, the noise estimate.
    """

    image: Image | Tensor
    sigma: float
    estimate: NoiseEstimate | None
    plan: ChannelPlan
    macs_per_pixel: float
    tiles: int
    seconds: float
    seconds_estimate: float


class Denoiser:
    """Removes noise from pictures.

    Args:
        weights: the network with its card.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        dtype: of the arithmetic: ``"auto"`` (bfloat16 where the hardware multiplies it), ``"float32"``, ``"bfloat16"``,
            ``"float16"`` (GPU only).
        max_memory: what the process may take, in MB (2**20 bytes), pictures included; None allows half of what is free.

    Raises:
        InputError: a device or dtype that is not there, or a network that is no such denoiser.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        max_memory: float | None = None,
    ) -> None:
        """Choose device and dtype, and prepare the allocator."""
        facts = weights.network.facts
        if (facts.channels, facts.scale, facts.needs_sigma, facts.exact_tiles) != (3, 1, True, True):
            raise InputError(
                f"{weights.name} is no RGB denoiser with exact tiles that is told the noise level: {facts}"
            )
        machine.tune_allocator()
        self.weights = weights
        self.device = machine.find_device(device)
        self.dtype = machine.find_dtype(dtype, self.device)
        if max_memory is not None and not (is_number(max_memory) and 0 < max_memory < float("inf")):
            raise InputError(f"max_memory is a number of MB above 0, got {max_memory!r}")
        self.max_memory = max_memory
        self._extracted: dict[ChannelPlan, nn.Module] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        max_memory: float | None = None,
    ) -> "Denoiser":
        """A denoiser with shipped weights (``"default"``, or None) or with those of a file.

        Raises:
            UnknownNameError, WeightsError: no such weights, or a damaged file.
            InputError: a device or dtype that is not there.
        """
        weights = load_weights("default" if name_or_path is None else name_or_path)
        return cls(weights, device=device, dtype=dtype, max_memory=max_memory)

    def __call__(
        self,
        image: Image | Tensor,
        budget: str | float = "balanced",
        strength: float = 1.0,
        sigma: float | npt.NDArray[np.floating] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Image | Tensor:
        """The picture without its noise; see `restore`, which also tells how it was made."""
        return self.restore(image, budget, strength, sigma, progress).image

    def restore(
        self,
        image: Image | Tensor,
        budget: str | float = "balanced",
        strength: float = 1.0,
        sigma: float | npt.NDArray[np.floating] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Restoration:
        """Remove the noise of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget: ``"fast"``, ``"balanced"``, ``"best"``, or MACs/px as a number or text such as ``"50k"``.
            strength: 0 to 2; multiplies the noise level: 1 removes the noise, 0 gives back the picture.
            sigma: noise level in image units, [0, 1]: one figure or a map HW; None estimates it.
            progress: called after each tile; returning False cancels.

        Returns:
            The picture, of the type, depth and shape of ``image``. Integer pictures are clipped and rounded; floats are
            not clipped.

        Raises:
            InputError: a picture, strength or level that cannot be used; not enough memory allowed.
            BudgetError: a budget that cannot be read or met.
            Cancelled: ``progress`` returned False.
        """
        start = time.perf_counter()
        choice = choose_plan(self.weights, budget)
        if not (is_number(strength) and 0 <= strength <= 2):
            raise InputError(f"strength lies in 0 to 2, got {strength!r}")
        pixels = as_hwc(image)
        height, width = pixels.shape[:2]
        estimate = estimate_noise(pixels) if sigma is None and strength > 0 else None
        seconds_estimate = time.perf_counter() - start
        level = Level(sigma, estimate, strength, self.weights.network.facts.sigma_max, (height, width))
        no_tiles: tuple[Tile, ...] = ()
        if level.mean == 0:
            out, tiles = pixels.copy(), no_tiles
            tell(progress, 1.0)
        else:
            out = np.empty_like(pixels, order="C")
            tiles = self._tiles(pixels, choice.plan)
            self._run(tiles, level, OnePlan(choice.plan), progress).run(tiles, pixels, out)
        return Restoration(
            image=like_input(out, image),
            sigma=level.mean,
            estimate=estimate,
            plan=choice.plan,
            macs_per_pixel=choice.measured.macs_per_pixel,
            tiles=len(tiles),
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
        )

    def _network(self, plan: ChannelPlan) -> nn.Module:
        """The extracted network of ``plan`` on the device, made once."""
        with self._lock:
            if plan not in self._extracted:
                plain = self.weights.network.extract(plan).to(self.device, self.dtype)
                plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                self._extracted[plan] = plain
            return self._extracted[plan]

    def _tiles(self, pixels: Image, plan: ChannelPlan) -> tuple[Tile, ...]:
        facts = self.weights.network.facts
        height, width = pixels.shape[:2]
        side = memory.tile_side(
            height,
            width,
            free=self._free_bytes() - pixels.nbytes,
            bytes_per_pixel=self.weights.network.bytes_per_pixel(plan, self.dtype.itemsize),
            halo=facts.halo,
            multiple=facts.size_multiple,
            least_pixels=facts.least_tile,
        )
        return plan_tiles(
            height,
            width,
            size=side,
            halo=facts.halo,
            multiple=facts.size_multiple,
            least_pixels=facts.least_tile,
        )

    def _free_bytes(self) -> int:
        """What the picture's result and the tiles may take."""
        if self.max_memory is None:
            return memory.available_bytes() // 2
        machine.release_memory()
        return memory.bytes_within(self.max_memory)

    def _run(self, tiles: tuple[Tile, ...], level: Level, plans: Plans, progress: ProgressCallback | None) -> TileRun:
        """A run over the tiles of one picture."""
        return TileRun(
            self._network,
            self.weights.network.facts,
            self.device,
            level,
            plans,
            total=sum(tile.read.area for tile in tiles),
            progress=progress,
            sparing=self.max_memory is not None,
        )
