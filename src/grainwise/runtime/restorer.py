"""What all restorers of pictures share: weights, device, memory, time, and the way through the tiles.

Its way: level, budget, plan, tiles; each tile through the extracted network of the plan; stitched. Calls do not share
state but a cache of extracted networks, so that one restorer serves many threads.
"""

import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from grainwise.networks.checkpoint import Weights, load_weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import machine, memory
from grainwise.runtime.budget import Choice, choose_plan, dearest_plan
from grainwise.runtime.calibration import (
    costs_for,
    keep_costs,
    load_costs,
    machine_of,
    measure_costs,
    seconds_a_tile,
)
from grainwise.runtime.call import Call, Held, Source, Told
from grainwise.runtime.cost import CostModel
from grainwise.runtime.dtypes import Seconds, measured_fastest, time_dtypes
from grainwise.runtime.fitting import check_task, check_tiled
from grainwise.runtime.forecast import Forecast, foretell
from grainwise.runtime.pace import check_seconds
from grainwise.runtime.pixels import Image, ProgressCallback
from grainwise.runtime.placed import Dtype, Placed
from grainwise.runtime.restoration import Account, Restoration, Route
from grainwise.runtime.tile_run import OnePlan, Plans, TileRun
from grainwise.runtime.tiles import Shape, Tile
from grainwise.runtime.tiling import Tiling
from grainwise.runtime.timer import Timer, Warm, candidates_of

MOST_SHAPES = 64
"""Shapes of tiles, over all plans, whose kernels are taken to be still there: oneDNN keeps 1024, and a plan needs a dozen."""

READY = 0.5
"""The part of the free memory in the process that a tile finds ready; the other lies in pieces that are too small for it."""


class Restorer(Placed):
    """Restores pictures by one network.

    Args:
        weights: the network with its card.
        device, dtype: see `Placed`.
        max_memory: what the process may take, in MB (2**20 bytes), pictures included; None allows half of what is free.

    Attributes:
        task: what its networks restore, see `grainwise.networks.tasks`.
        shipped: the name of the weights that it takes by default.
        weights, model, device, dtype, max_memory, notify: see `Placed`; the last is called before the machine is measured.
        costs: what plans cost on this machine, in seconds; None until a time limit asks for it. See `time_machine`.

    Raises:
        InputError: a device or dtype that is not there, or a network for another task or of another kind.
    """

    task: ClassVar[str]
    shipped: ClassVar[str]
    weights: Weights

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_memory: float | None = None,
    ) -> None:
        """Choose device and dtype, and prepare the allocator."""
        facts = weights.network.facts
        check_task(weights.name, facts, self.task, self.shipped)
        check_tiled(weights.name, facts, told=self._takes(weights), shipped=self.shipped)
        super().__init__(weights, weights.network, device=device, dtype=dtype, max_memory=max_memory)
        self._costs_lock = threading.Lock()
        self.costs: CostModel | None = None
        self._looked_up = False
        self._shapes: dict[tuple[ChannelPlan, Shape], None] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_memory: float | None = None,
    ) -> Self:
        """A restorer with shipped weights (by name; None takes those of its task) or with those of a file.

        Raises:
            UnknownNameError, WeightsError: no such weights, or a damaged file.
            InputError: a device or dtype that is not there, or weights for another task.
        """
        name = cls.shipped if name_or_path is None else name_or_path
        restorer = cls(load_weights(name), device=device, dtype=dtype, max_memory=max_memory)
        restorer.model = str(name)
        return restorer

    @abstractmethod
    def _takes(self, weights: Weights) -> bool:
        """Whether its network is told what this restorer tells."""

    def check_budget(self, budget: str | float | None) -> None:
        """See `Placed.check_budget`."""
        self._dearest(budget, timed=False)

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
        facts, tiling = self.weights.network.facts, self._whole(size, held)
        least = memory.least_written(*size, facts.size_multiple, facts.least_tile)
        plan = self._dearest(budget, timed=timed).plan
        per_pixel = self.weights.network.bytes_per_pixel(plan, self.dtype.itemsize)
        return tiling.bytes(max(side, least), per_pixel) - tiling.free

    def measured_costs(self) -> CostModel:
        """What plans cost on this machine; quickly measured now, if it never was."""
        with self._costs_lock:
            if self.costs is None:
                self.costs = costs_for(
                    self.weights, self._timed_network, self.device, self.dtype, self.notify, self.model
                )
            return self.costs

    def known_costs(self) -> CostModel | None:
        """What plans cost on this machine, if it was ever measured."""
        with self._costs_lock:
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
        costs = measure_costs(self.weights, self._timed_network, self.device, self.dtype, quick=quick, tell=tell)
        with self._costs_lock:
            self.costs = costs
        return costs, keep_costs(costs)

    def time_dtypes(self) -> tuple[Seconds, Path | None]:
        """Time every dtype of this device; a restorer that is made hereafter with the dtype ``"auto"`` takes the fastest.

        Returns:
            Seconds of a tile by dtype, without those in which the network gives other pixels than float32 on the CPU; and the
            file that keeps them, None where it cannot be written.
        """

        def seconds(dtype: str) -> float:
            placed = type(self)(self.weights, device=str(self.device), dtype=dtype)  # type: ignore[arg-type]
            return seconds_a_tile(self.weights, placed._timed_network, self.device)

        return time_dtypes(self.weights, self.device, seconds)

    def _measured_dtype(self) -> torch.dtype | None:
        """See `time_dtypes`."""
        return measured_fastest(self.weights, self.device)

    def _begin(self, budget: str | float | None, max_seconds: float | None, warm: Warm) -> tuple[Choice, Timer | None]:
        """The dearest plan allowed, and the running timer of the call."""
        cap = self._dearest(budget, timed=max_seconds is not None)
        if max_seconds is None:
            return cap, None
        limit, costs = check_seconds(max_seconds), self.measured_costs()
        candidates = candidates_of(self.weights, costs, cap, self.dtype.itemsize, warm)
        return cap, Timer(limit, costs, candidates, spare=warm.spare, clock=time.perf_counter)

    def _restoration(
        self,
        call: Call,
        image: Image | Tensor,
        budget: str | float | None,
        progress: ProgressCallback | None,
        max_seconds: float | None,
    ) -> Restoration:
        """Restore a picture that is held."""
        picture = Held(image)
        account = self._restore(call, picture, budget, progress, max_seconds)
        return Restoration(image=picture.result, **account.fields())

    def _restore(
        self,
        call: Call,
        picture: Source,
        budget: str | float | None,
        progress: ProgressCallback | None,
        max_seconds: float | None,
        *,
        along: float = 0.0,
    ) -> Account:
        """The way of every call: limits, the degradation, then the tiles, or the picture as it is.

        Args:
            call: what the caller says of the degradation.
            picture: what is restored, and where to.
            budget, progress, max_seconds: see `grainwise.Denoiser.restore`.
            along: seconds of ``max_seconds`` that other work takes besides.
        """
        cap, timer = self._begin(budget, max_seconds, self._warm(call))
        start = time.perf_counter() if timer is None else timer.start
        size = picture.size
        if timer is not None:
            timer.check(self._cut(picture), estimate=call.blind and call.foreseen, along=along)
        asked = time.perf_counter()
        estimate = picture.estimate(call, progress) if call.blind else None
        seconds_estimate = time.perf_counter() - asked
        told, run = call.told(estimate, size), None
        if told.idle:
            picture.copy(progress)
        else:
            tiling = self._cut(picture)
            run, tiles = self._run(tiling, cap, timer, told, progress, along=along)
            picture.restore(run, tiles, tiling.facts)
            self._remember(run, told)
        return Account(
            task=self.task,
            level=told.level,
            estimate=told.estimate,
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
            **self._account(cap, run),
        )

    def _warm(self, call: Call) -> Warm:
        """What the process need not do again for a call."""
        shapes: dict[ChannelPlan, set[Shape]] = {}
        with self._lock:
            for plan, shape in self._shapes:
                shapes.setdefault(plan, set()).add(shape)
        keeps = self.max_memory is None
        return Warm(
            plans=call.ready(self._started),
            shapes={plan: frozenset(known) for plan, known in shapes.items()},
            spare=int(READY * machine.spare_bytes()) if keeps else 0,
            keeps=keeps,
        )

    def _remember(self, run: TileRun, told: Told) -> None:
        """Keep in mind what shapes plans have run, the last of them, as oneDNN keeps their kernels."""
        if (told.kernels is None) != (self.network.facts.level_range is None):
            return  # kernels that were not merged, where they mostly are
        with self._lock:
            for each in run.shapes:
                self._shapes.pop(each, None)
                self._shapes[each] = None
            for each in list(self._shapes)[:-MOST_SHAPES]:
                del self._shapes[each]

    def _cut(self, picture: Source) -> Tiling:
        """How a picture may be cut, with the memory that is free now."""
        return self._tiling(picture.size, picture.held, picture.row_bytes, picture.transit_bytes)

    def _foretell(
        self,
        call: Call,
        tiling: Tiling,
        held: int,
        budget: str | float | None,
        max_seconds: float | None,
        along: float,
    ) -> Forecast:
        """What restoring a picture takes; see `foretell`."""
        warm = self._warm(call)
        cap, timer = self._begin(budget, max_seconds, warm)
        return foretell(
            self.weights,
            cap,
            tiling,
            itemsize=self.dtype.itemsize,
            held=held,
            blind=call.blind and call.foreseen,
            idle=call.idle,
            costs=self.known_costs(),
            warm=warm,
            timer=timer,
            along=along,
        )

    def _dearest(self, budget: str | float | None, *, timed: bool) -> Choice:
        """The dearest plan that a budget allows; None is ``"balanced"``, or no budget where there is a time limit."""
        if budget is None and timed:
            return dearest_plan(self.weights)
        return choose_plan(self.weights, "balanced" if budget is None else budget)

    def _timed_network(self, plan: ChannelPlan) -> nn.Module:
        """What the machine is measured with: the kernels of a middling level, where they depend on it."""
        return self._network(plan, None if self.weights.network.facts.level_range is None else 0.5)

    def _free_bytes(self) -> int:
        """What the picture's result and the tiles may take; half of what is free, where no limit was set."""
        return super()._free_bytes() // (2 if self.max_memory is None else 1)

    def _tiling(self, size: tuple[int, int], held: int, row_bytes: int = 0, transit_bytes: int | None = None) -> Tiling:
        """How a picture may be cut where its result takes ``held`` bytes, or its rows so many each; see `Tiling`."""
        return Tiling(*size, self.weights.network.facts, self._free_bytes() - held, row_bytes, transit_bytes)

    def _whole(self, size: tuple[int, int], held: int) -> Tiling:
        """How a picture may be cut that is held whole, ``held`` bytes with its result."""
        return self._tiling(size, held)

    def _run(
        self,
        tiling: Tiling,
        cap: Choice,
        timer: Timer | None,
        told: Told,
        progress: ProgressCallback | None,
        *,
        along: float = 0.0,
    ) -> tuple[TileRun, tuple[Tile, ...]]:
        """A run over the tiles of one picture, and these tiles.

        Args:
            tiling: how the picture may be cut.
            cap: the dearest plan.
            timer: of the call, where it has a limit.
            told: what the network is told.
            progress: called after each tile.
            along: seconds that other work takes besides.
        """
        plans: Plans = OnePlan(cap.plan)
        if timer is None:
            side = tiling.side(self.weights.network.bytes_per_pixel(cap.plan, self.dtype.itemsize))
            tiles = tiling.tiles(side)
        else:
            course = timer.course(tiling, along=along)
            tiles = tiling.tiles(course.side)
            plans = timer.pace(course, tiles, along=along)
        run = TileRun(
            lambda plan: self._network(plan, told.kernels),
            tiling.facts,
            self.device,
            told.noise,
            plans,
            total=sum(tile.read.area for tile in tiles),
            progress=progress,
            sparing=self.max_memory is not None,
        )
        return run, tiles

    def _account(self, cap: Choice, run: TileRun | None) -> dict[str, Any]:
        """What `Account` says of the plans of a run; None where no tile had to be run."""
        if run is None:
            macs = float(cap.measured.macs_per_pixel)
            return {"plan": cap.plan, "plans": {}, "macs_per_pixel": macs, "tiles": 0, "routes": ()}
        known = self.weights.plans()
        routes = tuple(Route.of(box, plan, known[plan].macs_per_pixel) for box, plan in run.written)
        return {
            "plan": routes[0].plan,
            "plans": dict(Counter(route.plan for route in routes)),
            "macs_per_pixel": sum(route.macs_per_pixel * route.area for route in routes) / sum(r.area for r in routes),
            "tiles": len(routes),
            "routes": routes,
        }
