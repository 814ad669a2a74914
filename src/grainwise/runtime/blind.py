"""A denoiser for networks that take no noise level: a whole picture in, at one plan, or on the route that a gate chooses.

These networks may pool the whole picture (an attention head, a gate), so that it is never cut into tiles.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from grainwise.core.errors import BudgetError, InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import GatedWeights, Weights, holds_gate, load_gated, load_weights
from grainwise.networks.gated import ExtractedGated
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.gate import choose_route
from grainwise.runtime import machine, memory
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.fitting import check_blind
from grainwise.runtime.pixels import Image, to_pixels, to_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindRestoration:
    """A restored picture, and what it took.

    Attributes:
        image: of the type, depth and shape of the input.
        plan: the channel plan that it ran at.
        macs_per_pixel: its cost; of a gated network with the gate, and the unused channels of the first convolution.
        seconds: of the network, gate included.
        seconds_gate: of these, the gate; 0 without one.
    """

    image: Image | Tensor
    plan: ChannelPlan
    macs_per_pixel: float
    seconds: float
    seconds_gate: float


class BlindDenoiser:
    """Removes the noise of pictures by a network that is told no level.

    Args:
        weights: a network with its card, or one with a gate.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        dtype: of the arithmetic: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` (GPU only). A gate is float32.

    Raises:
        InputError: a device or dtype that is not there, or a network that is no blind RGB denoiser.
    """

    def __init__(
        self,
        weights: Weights | GatedWeights,
        *,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        """Choose device and dtype, and prepare the allocator."""
        self.weights = weights
        self.network = weights.gated.network if isinstance(weights, GatedWeights) else weights.network
        check_blind(weights.name, self.network.facts)
        machine.tune_allocator()
        self.device = machine.find_device(device)
        self.dtype = machine.find_dtype(dtype, self.device)
        self._plain: dict[ChannelPlan, nn.Module] = {}
        self._gated: ExtractedGated | None = None
        if isinstance(weights, GatedWeights):
            self._gated = weights.gated.extract().to(self.device)
            for part in (self._gated.bodies, self._gated.stem):
                part.to(dtype=self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> "BlindDenoiser":
        """A denoiser with the weights of a file, with a gate or without.

        Raises:
            UnknownNameError, WeightsError: no such weights, or a damaged file.
            InputError: see `BlindDenoiser`.
        """
        weights = load_gated(Path(path)) if holds_gate(path) else load_weights(path)
        return cls(weights, device=device, dtype=dtype)

    def __call__(self, image: Image | Tensor, budget: str | float | None = None) -> Image | Tensor:
        """The picture without its noise; see `restore`, which also tells how it was made."""
        return self.restore(image, budget).image

    def restore(self, image: Image | Tensor, budget: str | float | None = None) -> BlindRestoration:
        """Remove the noise of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget: as `grainwise.Denoiser.restore` takes it; None is ``"balanced"``. A gate has its own and takes none.

        Raises:
            InputError: a picture that cannot be used, or too large for the memory.
            BudgetError: a budget that cannot be read or met, or one for a gate.
        """
        pixels = as_hwc(image)
        plan = self._largest(budget)
        self._check_memory(pixels, plan)
        x = to_tensor(pixels, self.device)
        with torch.inference_mode():
            start = time.perf_counter()
            if self._gated is None:
                y, cost, gate = self._network(plan)(x), self.network.macs_per_pixel(plan), 0.0
                cost += self.network.macs_per_picture(plan) / (x.shape[2] * x.shape[3])
            else:
                y, plan, cost, gate = self._routed(self._gated, x)
            self._wait()
            seconds = time.perf_counter() - start
            out = np.ascontiguousarray(to_pixels(y[0].float(), pixels))
        return BlindRestoration(
            image=like_input(out, image), plan=plan, macs_per_pixel=cost, seconds=seconds, seconds_gate=gate
        )

    def _routed(self, gated: ExtractedGated, x: Tensor) -> tuple[Tensor, ChannelPlan, float, float]:
        """The restored picture, its route, what it cost, and the seconds of the gate."""
        tap = gated.tap(x)
        self._wait()
        start = time.perf_counter()
        routes = choose_route(gated.logits(tap), gated.bias)
        index = int(routes[0])
        seconds = time.perf_counter() - start
        cost = float(gated.costs(x.shape[2] * x.shape[3])[index])
        return gated.finish(routes, tap, x), gated.routes[index], cost, seconds

    def _largest(self, budget: str | float | None) -> ChannelPlan:
        """The plan of a budget, or the gate's dearest route."""
        if isinstance(self.weights, Weights):
            return choose_plan(self.weights, "balanced" if budget is None else budget).plan
        if budget is not None:
            raise BudgetError(
                f"the gate of {self.weights.name} keeps to {self.weights.budget:g} MACs/px on the mean of many pictures, as "
                f"it was trained to; leave out the budget {budget}"
            )
        return self.weights.gated.routes[-1]

    def _check_memory(self, pixels: Image, plan: ChannelPlan) -> None:
        height, width = pixels.shape[:2]
        needed = height * width * self.network.bytes_per_pixel(plan, self.dtype.itemsize)
        free = memory.available_bytes()
        if self.device.type == "cpu" and needed > free:
            raise InputError(
                f"a picture of {width}x{height} pixels takes {needed / 2**20:.0f} MB in this network, which sees it whole, and "
                f"{free / 2**20:.0f} MB are free; give a smaller one or a cheaper plan"
            )

    def _network(self, plan: ChannelPlan) -> nn.Module:
        """The extracted network of ``plan`` on the device, made once."""
        if plan not in self._plain:
            plain = self.network.extract(plan)
            self._plain[plan] = plain.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._plain[plan]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
