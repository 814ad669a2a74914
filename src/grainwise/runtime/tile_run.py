"""Tiles through a network, one after the other: each at the plan that it is given, blended where plans change."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from grainwise.networks.network import Facts
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import machine
from grainwise.runtime.level import Level
from grainwise.runtime.pixels import Image, ProgressCallback, tell, to_pixels, to_tensor
from grainwise.runtime.seams import Seams, blend_into
from grainwise.runtime.tiles import Box, Shape, Tile


class Plans(Protocol):
    """Decides the plan of each tile, in order."""

    def next(self) -> ChannelPlan:
        """The plan of the next tile."""

    def done(self, seconds: float, shape: Shape) -> None:
        """The tile is done; it took so long, and read so much."""


class OnePlan:
    """The same plan for all tiles."""

    def __init__(self, plan: ChannelPlan) -> None:
        """Keep the plan."""
        self._plan = plan

    def next(self) -> ChannelPlan:
        """The plan."""
        return self._plan

    def done(self, seconds: float, shape: Shape) -> None:
        """Change nothing."""


class TileRun:
    """One picture's tiles, run in one go or strip by strip.

    Args:
        network: gives the extracted network of a plan.
        facts: of the network.
        device: where it runs.
        level: the noise level of the picture; None for networks that are not told one.
        plans: decides the plan of each tile.
        total: pixels that all tiles of the picture read together.
        progress: called after each tile; returning False cancels.
        sparing: whether memory is given back to the system after each tile.

    Attributes:
        written: the tiles that are done, what they wrote, and by which plan. Where plans change, the later tile blends
            into the earlier one a little beyond that; see `seams`.
        shapes: what tiles read, by plan.
    """

    def __init__(
        self,
        network: Callable[[ChannelPlan], nn.Module],
        facts: Facts,
        device: torch.device,
        level: Level | None,
        plans: Plans,
        *,
        total: int,
        progress: ProgressCallback | None,
        sparing: bool,
    ) -> None:
        """Start a picture."""
        self._network, self._device, self._level, self._plans = network, device, level, plans
        self._total, self._progress, self._sparing = total, progress, sparing
        self._seams = Seams(facts.size_multiple)
        self._read = 0
        self.written: list[tuple[Box, ChannelPlan]] = []
        self.shapes: set[tuple[ChannelPlan, Shape]] = set()

    def run(self, tiles: tuple[Tile, ...], pixels: Image, out: Image, *, above: int = 0, above_out: int = 0) -> None:
        """Restore tiles of the picture's coordinates.

        Args:
            tiles: row by row, from the left.
            pixels: the part of the picture that they read, whole rows, HWC.
            out: where they write, whole rows, HWC.
            above: rows of the picture that come before those of ``pixels``.
            above_out: rows of the picture that come before those of ``out``.

        Raises:
            Cancelled: the progress callback returned False.
        """
        with torch.inference_mode():
            for tile in tiles:
                start = time.perf_counter()
                plan = self._plans.next()
                grown = self._seams.grow(tile, plan)
                self._restore(grown, tile, plan, pixels, out, above, above_out)
                if self._sparing:
                    machine.release_memory()
                self.written.append((tile.write, plan))
                self._read += tile.read.area
                self.shapes.add((plan, grown.read.shape))
                self._plans.done(time.perf_counter() - start, grown.read.shape)
                tell(self._progress, self._read / self._total)

    def _restore(
        self, grown: Tile, tile: Tile, plan: ChannelPlan, pixels: Image, out: Image, above: int, above_out: int
    ) -> None:
        read = grown.read.moved(-above)
        x = to_tensor(pixels[read.slices], self._device)
        network: Any = self._network(plan)
        told = {}
        if self._level is not None and network.facts.needs_sigma:
            told["sigma"] = self._level.of(read, pixels, self._device)
        y = network(x, **told)
        inner = grown.write.within(grown.read)
        blend_into(
            out[grown.write.moved(-above_out).slices],
            to_pixels(y[0, :, *inner.slices], out),
            up=tile.write.top - grown.write.top,
            aside=tile.write.left - grown.write.left,
        )
