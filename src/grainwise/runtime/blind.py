"""A denoiser for networks that take no noise level: a whole picture in, at one plan, or on the route that a gate chooses.

These networks may pool the whole picture (an attention head, a gate), so that it is never cut into tiles.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from grainwise.core.errors import BudgetError, InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import GatedWeights, Weights, holds_gate, load_gated, load_weights
from grainwise.networks.gated import ExtractedGated
from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.gate import choose_route
from grainwise.runtime import memory
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.fitting import check_blind
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.level import is_number
from grainwise.runtime.pixels import Image, ProgressCallback, tell, to_pixels, to_tensor
from grainwise.runtime.placed import Dtype, Placed
from grainwise.runtime.restoration import Restoration, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindRestoration(Restoration):
    """A restored picture, and what it took. It has one tile, or none where nothing was run.

    Attributes:
        macs_per_pixel: of the plan; with a gate, that and the unused channels of the first convolution too.
        seconds: of the network, gate included.
        seconds_gate: of these, the gate; 0 without one.
    """

    seconds_gate: float


class _Ran(NamedTuple):
    """A restored picture [1, 3, H, W], the plan, its MACs/px, and the seconds of the gate."""

    picture: Tensor
    plan: ChannelPlan
    macs_per_pixel: float
    seconds_gate: float


class BlindDenoiser(Placed):
    """Removes the noise of pictures by a network that is told no level.

    Args:
        weights: a network with its card, or one with a gate.
        device, dtype, max_memory: see `Placed`; a gate is float32 whatever the dtype.

    Raises:
        InputError: a device or dtype that is not there, or a network that is no blind RGB denoiser.
    """

    task = DENOISE

    def __init__(
        self,
        weights: Weights | GatedWeights,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_memory: float | None = None,
    ) -> None:
        """Choose device and dtype, and prepare the allocator."""
        network = weights.gated.network if isinstance(weights, GatedWeights) else weights.network
        check_blind(weights.name, network.facts)
        super().__init__(weights, network, device=device, dtype=dtype, max_memory=max_memory)
        self._gated: ExtractedGated | None = None
        if isinstance(weights, GatedWeights):
            self._gated = weights.gated.extract().to(self.device)
            for part in (self._gated.bodies, self._gated.stem):
                part.to(dtype=self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str = "auto", dtype: Dtype = "auto", max_memory: float | None = None
    ) -> "BlindDenoiser":
        """A denoiser with the weights of a file, with a gate or without.

        Raises:
            UnknownNameError, WeightsError: no such weights, or a damaged file.
            InputError: see `BlindDenoiser`.
        """
        weights = load_gated(Path(path)) if holds_gate(path) else load_weights(path)
        denoiser = cls(weights, device=device, dtype=dtype, max_memory=max_memory)
        denoiser.model = str(path)
        return denoiser

    @property
    def gated(self) -> bool:
        """Whether a gate chooses the plan of each picture."""
        return self._gated is not None

    def __call__(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        strength: float = 1.0,
        progress: ProgressCallback | None = None,
    ) -> Image | Tensor:
        """The picture without its noise; see `restore`, which also tells how it was made."""
        return self.restore(image, budget, strength, progress).image

    def restore(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        strength: float = 1.0,
        progress: ProgressCallback | None = None,
    ) -> BlindRestoration:
        """Remove the noise of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget: as `grainwise.Denoiser.restore` takes it; None is ``"balanced"``. A gate has its own and takes none.
            strength: 0 to 1, the share of the result in a mixture with the picture: the network is told no level that it
                could multiply. 0 gives back the picture.
            progress: called before and after the network; returning False cancels.

        Raises:
            InputError: a picture or strength that cannot be used, or too large for the memory.
            BudgetError: a budget that cannot be read or met, or one for a gate.
            Cancelled: ``progress`` returned False.
        """
        self.check_strength(strength)
        pixels = as_hwc(image)
        height, width = pixels.shape[:2]
        plan = self._largest(budget)
        self._check_memory((height, width), pixels.nbytes, plan)
        tell(progress, 0.0)
        start = time.perf_counter()
        ran = None if strength == 0 else self._run(pixels, plan, strength)
        seconds = time.perf_counter() - start
        out = pixels.copy() if ran is None else np.ascontiguousarray(to_pixels(ran.picture[0], pixels))
        tell(progress, 1.0)
        cost = self._most(plan, height * width) if ran is None else ran.macs_per_pixel
        plan = plan if ran is None else ran.plan
        routes = () if ran is None else (Route(0, 0, width, height, plan, cost),)
        return BlindRestoration(
            image=like_input(out, image),
            task=self.task,
            level=None,
            estimate=None,
            plan=plan,
            plans={route.plan: 1 for route in routes},
            macs_per_pixel=cost,
            tiles=len(routes),
            routes=routes,
            seconds=seconds,
            seconds_estimate=0.0,
            seconds_gate=0.0 if ran is None else ran.seconds_gate,
        )

    def forecast(
        self, size: tuple[int, int], held: int, budget: str | float | None = None, strength: float = 1.0
    ) -> Forecast:
        """Tell what a picture would take, and run nothing; of a gate, what its dearest route would take.

        Args:
            size: height and width.
            held: bytes that the picture and its result take in memory.
            budget, strength: see `restore`.

        Raises:
            InputError, BudgetError: see `restore`.
        """
        self.check_strength(strength)
        plan = self._largest(budget)
        return Forecast(
            plan=None if self.gated else plan,
            macs_per_pixel=self._most(plan, size[0] * size[1]),
            tiles=0 if strength == 0 else 1,
            memory=memory.resident_bytes() + held + self._check_memory(size, held, plan),
            seconds_estimate=None,
            seconds_network=None,
            least_seconds=None,
        )

    def check_strength(self, strength: object) -> None:
        """Refuse a strength that no mixture has.

        Raises:
            InputError: no number from 0 to 1.
        """
        if not (is_number(strength) and 0 <= strength <= 1):  # type: ignore[operator]
            raise InputError(
                f"the strength (--strength) of {self.weights.name} lies in 0 to 1: it is told no noise level to multiply, and "
                f"the strength is the share of the result in a mixture with the picture, got {strength!r}"
            )

    def check_budget(self, budget: str | float | None) -> None:
        """See `Placed.check_budget`; a gate has its own and takes none."""
        self._largest(budget)

    def _run(self, pixels: Image, plan: ChannelPlan, strength: float) -> _Ran:
        """The picture through the network of the plan, or on the gate's route."""
        x = to_tensor(pixels, self.device)
        with torch.inference_mode():
            if self._gated is None:
                ran = _Ran(self._network(plan)(x), plan, self._most(plan, x.shape[2] * x.shape[3]), 0.0)
            else:
                ran = self._routed(self._gated, x)
            y = ran.picture.float()
            y = y if strength == 1 else x + strength * (y - x)
            self._wait()
        return ran._replace(picture=y)

    def _most(self, plan: ChannelPlan, pixels: int) -> float:
        """MACs/px of a plan on a picture of so many pixels; of a gate, those of its dearest route."""
        if self._gated is not None:
            return float(self._gated.costs(pixels).max())
        return self.network.macs_per_pixel(plan) + self.network.macs_per_picture(plan) / pixels

    def _routed(self, gated: ExtractedGated, x: Tensor) -> _Ran:
        """The picture on its route."""
        tap = gated.tap(x)
        self._wait()
        start = time.perf_counter()
        routes = choose_route(gated.logits(tap), gated.bias)
        index = int(routes[0])
        seconds = time.perf_counter() - start
        cost = float(gated.costs(x.shape[2] * x.shape[3])[index])
        return _Ran(gated.finish(routes, tap, x), gated.routes[index], cost, seconds)

    def _largest(self, budget: str | float | None) -> ChannelPlan:
        """The plan of a budget, or the gate's dearest route."""
        if isinstance(self.weights, Weights):
            return choose_plan(self.weights, "balanced" if budget is None else budget).plan
        if budget is not None:
            raise BudgetError(
                f"the gate of {self.weights.name} keeps to {self.weights.budget:g} MACs/px on the mean of many pictures, as "
                f"it was trained to; leave out the budget (--budget) {budget}"
            )
        return self.weights.gated.routes[-1]

    def _check_memory(self, size: tuple[int, int], held: int, plan: ChannelPlan) -> int:
        """Bytes that the network takes beside the result, ``held``, if there are so many."""
        height, width = size
        needed = int(height * width * self.network.bytes_per_pixel(plan, self.dtype.itemsize))
        free = self._free_bytes() - held
        if needed > free:
            raise InputError(
                f"a picture of {width}x{height} pixels takes {needed / 2**20:.0f} MB in this network, which sees it whole "
                f"and restores none in strips, and {max(0, free) / 2**20:.0f} MB are free; give a smaller one, a cheaper plan "
                "or more memory"
            )
        return needed

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
