"""The denoiser: a picture in, the same picture without its noise out, at the budget that the caller chose.

Its way: noise level, budget, plan, tiles; each tile through the extracted network of the plan; stitched. Calls do not
share state but a cache of extracted networks, so that one denoiser serves many threads.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import Weights, load_weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import machine, memory
from grainwise.runtime.budget import Choice, choose_plan, dearest_plan
from grainwise.runtime.calibration import costs_for, keep_costs, load_costs, machine_of, measure_costs
from grainwise.runtime.cost import CostModel
from grainwise.runtime.forecast import Forecast, foretell
from grainwise.runtime.level import Level, is_number
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pace import check_seconds
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.strips import Rows, WriteRows, copy_rows, estimate_rows, restore_rows
from grainwise.runtime.tile_run import OnePlan, Plans, TileRun
from grainwise.runtime.tiles import Tile
from grainwise.runtime.tiling import Tiling
from grainwise.runtime.timer import Timer, candidates_of


class Denoiser:
    """Removes noise from pictures.

    Args:
        weights: the network with its card.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        dtype: of the arithmetic: ``"auto"`` (bfloat16 where the hardware multiplies it), ``"float32"``, ``"bfloat16"``,
            ``"float16"`` (GPU only).
        max_memory: what the process may take, in MB (2**20 bytes), pictures included; None allows half of what is free.

    Attributes:
        costs: what plans cost on this machine, in seconds; None until a time limit asks for it. See `time_machine`.
        notify: called with a line of text before the machine is measured.

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
        self._costs_lock = threading.Lock()
        self.costs: CostModel | None = None
        self._looked_up = False
        self.notify: Callable[[str], object] | None = None

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
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | npt.NDArray[np.floating] | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
    ) -> Image | Tensor:
        """The picture without its noise; see `restore`, which also tells how it was made."""
        return self.restore(image, budget, strength, sigma, progress, max_seconds).image

    def restore(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | npt.NDArray[np.floating] | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
    ) -> Restoration:
        """Remove the noise of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget: ``"fast"``, ``"balanced"``, ``"best"``, or MACs/px as a number or text such as ``"50k"``. None is
                ``"balanced"``, or no limit but the time where ``max_seconds`` is given.
            strength: 0 to 2; multiplies the noise level: 1 removes the noise, 0 gives back the picture.
            sigma: noise level in image units, [0, 1]: one figure or a map HW; None estimates it.
            progress: called after each tile; returning False cancels.
            max_seconds: what the call may take. The dearest plan that is predicted to meet it is run, and no dearer one
                than the budget allows; where tiles turn out slower than predicted, the others get a cheaper plan. The
                first such call on a machine measures it before, which takes some seconds more (see `time_machine`).

        Returns:
            The picture, of the type, depth and shape of ``image``. Integer pictures are clipped and rounded; floats are
            not clipped.

        Raises:
            InputError: a picture, strength or level that cannot be used; not enough memory allowed.
            BudgetError: a budget that cannot be read or met; a time limit that no plan meets.
            Cancelled: ``progress`` returned False.
        """
        cap, timer = self._begin(budget, strength, max_seconds)
        start = time.perf_counter() if timer is None else timer.start
        pixels = as_hwc(image)
        size, held = (pixels.shape[0], pixels.shape[1]), pixels.nbytes
        blind = sigma is None and strength > 0
        if timer is not None:
            timer.check(self._tiling(size, held), estimate=blind)
        told = time.perf_counter()
        estimate = estimate_noise(pixels) if blind else None
        seconds_estimate = time.perf_counter() - told
        level = Level(sigma, estimate, strength, self.weights.network.facts.sigma_max, size)
        run = None
        if level.mean == 0:
            out = pixels.copy()
            tell(progress, 1.0)
        else:
            out = np.empty_like(pixels, order="C")
            run, tiles = self._run(self._tiling(size, held), cap, timer, level, progress)
            run.run(tiles, pixels, out)
        return Restoration(
            image=like_input(out, image),
            sigma=level.mean,
            estimate=estimate,
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
            **self._account(cap, run),
        )

    def restore_rows(
        self,
        rows: Rows,
        write: WriteRows,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        *,
        along: float = 0.0,
    ) -> Account:
        """Remove the noise of a picture that is read and written in rows, because it is larger than memory.

        The result is that of `restore`. Alpha is passed on. Where no level is given, the picture is read twice.

        Args:
            rows: the picture, see `grainwise.core.picture_rows.PictureInfo`.
            write: takes the rows of the result, all bands, from top to bottom.
            budget, strength, sigma, progress, max_seconds: see `restore`; ``sigma`` is no map here.
            along: seconds of ``max_seconds`` that reading and writing are expected to take besides.

        Raises:
            InputError, BudgetError, Cancelled: see `restore`.
        """
        cap, timer = self._begin(budget, strength, max_seconds)
        start = time.perf_counter() if timer is None else timer.start
        blind = sigma is None and strength > 0
        size = rows.height, rows.width
        if timer is not None:
            timer.check(self._tiling(size, 0, rows.row_bytes), estimate=blind, along=along)
        told = time.perf_counter()
        estimate = estimate_rows(rows, progress) if blind else None
        seconds_estimate = time.perf_counter() - told
        level = Level(sigma, estimate, strength, self.weights.network.facts.sigma_max, size)
        run = None
        if level.map is not None:
            raise InputError("a picture that is read in rows takes one noise level, or None; no map")
        if level.mean == 0:
            copy_rows(rows, write, progress)
        else:
            tiling = self._tiling(size, 0, rows.row_bytes)
            run, tiles = self._run(tiling, cap, timer, level, progress, along=along)
            restore_rows(rows, write, run, tiles, tiling.facts)
        return Account(
            sigma=level.mean,
            estimate=estimate,
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
            **self._account(cap, run),
        )

    def forecast(
        self,
        size: tuple[int, int],
        held: int,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        max_seconds: float | None = None,
        *,
        row_bytes: int = 0,
        along: float = 0.0,
    ) -> Forecast:
        """Tell what restoring a picture of this size would take, and run nothing.

        Args:
            size: height and width.
            held: bytes that the picture and its result take in memory.
            budget, strength, sigma, max_seconds: see `restore`.
            row_bytes: of a row, where the picture is restored in strips; else 0.
            along: seconds of ``max_seconds`` that are needed for other work.

        Raises:
            InputError, BudgetError: see `restore`.
        """
        cap, timer = self._begin(budget, strength, max_seconds)
        return foretell(
            self.weights,
            cap,
            self._tiling(size, held, row_bytes),
            itemsize=self.dtype.itemsize,
            held=held,
            blind=sigma is None and strength > 0,
            idle=sigma == 0 or strength == 0,
            costs=self.known_costs(),
            started=self._extracted,
            timer=timer,
            along=along,
        )

    def missing_bytes(
        self, size: tuple[int, int], held: int, budget: str | float | None = None, *, timed: bool = False, side: int = 0
    ) -> int:
        """Bytes by which the memory allowed falls short of a picture that is held whole; 0 or less where it does not.

        Args:
            size: height and width.
            held: bytes that the picture and its result take.
            budget: see `restore`.
            timed: whether there is a time limit.
            side: of the tiles that there shall be room for; at least the smallest.
        """
        facts, tiling = self.weights.network.facts, self._tiling(size, held)
        least = memory.least_written(*size, facts.size_multiple, facts.least_tile)
        plan = self._dearest(budget, timed=timed).plan
        per_pixel = self.weights.network.bytes_per_pixel(plan, self.dtype.itemsize)
        return tiling.bytes(max(side, least), per_pixel) - tiling.free

    def measured_costs(self) -> CostModel:
        """What plans cost on this machine; quickly measured now, if it never was."""
        with self._costs_lock:
            if self.costs is None:
                self.costs = costs_for(self.weights, self._network, self.device, self.dtype, self.notify)
            return self.costs

    def known_costs(self) -> CostModel | None:
        """What plans cost on this machine, if it was ever measured."""
        if self.costs is None and not self._looked_up:
            self._looked_up = True
            self.costs = load_costs(machine_of(self.weights, self.device, self.dtype))
        return self.costs

    def time_machine(
        self, *, quick: bool = False, tell: Callable[[float], object] = lambda _: None
    ) -> tuple[CostModel, Path | None]:
        """Measure what the plans cost on this machine, in seconds, and keep it in the user's cache folder.

        Args:
            quick: measure a few plans only; a time limit then chooses among these.
            tell: called with the finished share, 0 to 1.

        Returns:
            The measurements, and the file that keeps them; None where it cannot be written.
        """
        costs = measure_costs(self.weights, self._network, self.device, self.dtype, quick=quick, tell=tell)
        self.costs = costs
        return costs, keep_costs(costs)

    def _begin(
        self, budget: str | float | None, strength: float, max_seconds: float | None
    ) -> tuple[Choice, Timer | None]:
        """The dearest plan allowed, and the running timer of the call."""
        cap = self._dearest(budget, timed=max_seconds is not None)
        if not (is_number(strength) and 0 <= strength <= 2):
            raise InputError(f"strength lies in 0 to 2, got {strength!r}")
        if max_seconds is None:
            return cap, None
        limit, costs = check_seconds(max_seconds), self.measured_costs()
        candidates = candidates_of(self.weights, costs, cap, self.dtype.itemsize, self._extracted)
        return cap, Timer(limit, costs, candidates, clock=time.perf_counter)

    def _dearest(self, budget: str | float | None, *, timed: bool) -> Choice:
        """The dearest plan that a budget allows; None is ``"balanced"``, or no budget where there is a time limit."""
        if budget is None and timed:
            return dearest_plan(self.weights)
        return choose_plan(self.weights, "balanced" if budget is None else budget)

    def _network(self, plan: ChannelPlan) -> nn.Module:
        """The extracted network of ``plan`` on the device, made once."""
        with self._lock:
            if plan not in self._extracted:
                plain = self.weights.network.extract(plan).to(self.device, self.dtype)
                plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                self._extracted[plan] = plain
            return self._extracted[plan]

    def _free_bytes(self) -> int:
        """What the picture's result and the tiles may take."""
        if self.max_memory is None:
            return memory.available_bytes() // 2
        machine.release_memory()
        return memory.bytes_within(self.max_memory)

    def _tiling(self, size: tuple[int, int], held: int, row_bytes: int = 0) -> Tiling:
        """How a picture may be cut where its result takes ``held`` bytes, or its rows so many each."""
        return Tiling(*size, self.weights.network.facts, self._free_bytes() - held, row_bytes)

    def _run(
        self,
        tiling: Tiling,
        cap: Choice,
        timer: Timer | None,
        level: Level,
        progress: ProgressCallback | None,
        along: float = 0.0,
    ) -> tuple[TileRun, tuple[Tile, ...]]:
        """A run over the tiles of one picture, and these tiles."""
        plans: Plans = OnePlan(cap.plan)
        if timer is None:
            side = tiling.side(self.weights.network.bytes_per_pixel(cap.plan, self.dtype.itemsize))
            tiles = tiling.tiles(side)
        else:
            course = timer.course(tiling, along=along)
            tiles = tiling.tiles(course.side)
            plans = timer.pace(course, tiles, along=along)
        run = TileRun(
            self._network,
            tiling.facts,
            self.device,
            level,
            plans,
            total=sum(tile.read.area for tile in tiles),
            progress=progress,
            sparing=self.max_memory is not None,
        )
        return run, tiles

    def _account(self, cap: Choice, run: TileRun | None) -> dict[str, Any]:
        """What `Account` says of the plans of a run; None where no tile had to be run."""
        if run is None:
            return {"plan": cap.plan, "plans": {}, "macs_per_pixel": cap.measured.macs_per_pixel, "tiles": 0}
        known = self.weights.plans()
        macs = sum(known[plan].macs_per_pixel * pixels for plan, pixels in run.written.items())
        return {
            "plan": next(iter(run.tiles)),
            "plans": dict(run.tiles),
            "macs_per_pixel": macs / run.written.total(),
            "tiles": run.tiles.total(),
        }
