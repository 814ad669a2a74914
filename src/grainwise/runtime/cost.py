"""What restoring costs on this machine, in seconds: plans by tile size, the noise estimate by picture size, files by size.

A tile costs a fixed time and a time per pixel that it reads, more of it where the tile is large; conversion to and from
tensors is part of both. The first tile of a plan costs more, because the plan is extracted; so does the first of each
shape, because oneDNN makes its kernels for that shape; and so does memory that the process never touched, because the
system hands it over page by page. `calibration` measures all of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Self

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.tiles import Extent

KNEE = 512 * 512
"""Pixels of a tile from which on the features of a narrow plan no longer fit into the caches of a processor's core."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds over pixels: straight lines between measured points, level before the first and after the last."""

    pixels: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse points that are not in order, or as many of one as of the other."""
        ascending = all(a < b for a, b in pairwise(self.pixels))
        if not self.pixels or len(self.pixels) != len(self.seconds) or not ascending or min(self.seconds) < 0:
            raise InputError(f"a curve needs seconds at ascending numbers of pixels, got {self.pixels}, {self.seconds}")

    def at(self, pixels: int) -> float:
        """Seconds at so many pixels."""
        points = list(zip(self.pixels, self.seconds, strict=True))
        for (a, before), (b, after) in pairwise(points):
            if pixels < b:
                return before + (after - before) * max(0.0, (pixels - a) / (b - a))
        return points[-1][1]


@dataclass(frozen=True, slots=True)
class PlanCost:
    """Seconds of one plan.

    Attributes:
        macs_per_pixel: its multiply-adds.
        start: once, for the first tile in a process.
        per_tile: for every tile.
        per_pixel: for every pixel that a tile reads.
        per_shape: for the first tile of a height and width in a process.
        per_pixel_beyond: for every pixel of a tile beyond `KNEE`, besides ``per_pixel``.
    """

    macs_per_pixel: float
    start: float
    per_tile: float
    per_pixel: float
    per_shape: float = 0.0
    per_pixel_beyond: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what takes no time."""
        others = (self.start, self.per_tile, self.per_shape, self.per_pixel_beyond)
        if not (self.per_pixel > 0 and all(value >= 0 for value in others) and self.macs_per_pixel > 0):
            raise InputError(f"a plan costs seconds per pixel above 0, and no negative ones, got {self}")

    def tile(self, pixels: int) -> float:
        """Seconds of a tile that reads so many pixels."""
        return self.per_tile + pixels * self.per_pixel + max(0, pixels - KNEE) * self.per_pixel_beyond

    def started(self) -> "PlanCost":
        """The same, where the plan has run before in the process."""
        return replace(self, start=0.0)

    def tiles(self, extent: Extent) -> float:
        """Seconds of all the tiles of an extent, which are about equally large."""
        beyond = max(0, extent.pixels - extent.count * KNEE)
        return extent.count * self.per_tile + extent.pixels * self.per_pixel + beyond * self.per_pixel_beyond


@dataclass(frozen=True, slots=True)
class FileCost:
    """Seconds of reading and writing one byte of decoded pixels in one file format; what a file holds changes both."""

    read: float
    write: float

    def __post_init__(self) -> None:
        """Refuse what takes less than no time."""
        if not (self.read >= 0 and self.write >= 0):
            raise InputError(f"a byte of a file costs seconds, 0 or more, got {self}")


@dataclass(frozen=True, slots=True)
class CostModel:
    """What was measured of one set of weights on one machine.

    Attributes:
        machine: processor, cores, threads, torch, device, dtype and weights that it holds for.
        measured: when, UTC, ISO 8601.
        plans: the measured plans, as text, cheapest first.
        estimate: the noise estimate, over the pixels of the picture.
        files: file formats by name.
        per_byte: of memory that the process has not touched before.
        spread: how much longer than in the median the slowest tenth of the measured tiles took, as a factor, 1 or more.
        per_call: seconds that the tiles of a picture take beyond their own, at most as long again, in a slow call: `beyond`.
    """

    machine: Mapping[str, str]
    measured: str
    plans: Mapping[str, PlanCost]
    estimate: Curve
    files: Mapping[str, FileCost]
    per_byte: float = 0.0
    spread: float = 1.0
    per_call: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a model without a plan, memory or calls that take less than no time, and a spread that shortens times."""
        if not self.per_byte >= 0:
            raise InputError(f"memory costs seconds per byte, 0 or more, got {self.per_byte}")
        if not self.per_call >= 0:
            raise InputError(f"a call costs seconds, 0 or more, got {self.per_call}")
        if not self.spread >= 1:
            raise InputError(f"the spread of the times is a factor of 1 or more, got {self.spread}")
        if not self.plans:
            raise InputError("a cost model needs at least one measured plan")
        datetime.fromisoformat(self.measured)

    def of(self, plan: ChannelPlan, macs_per_pixel: float) -> PlanCost:
        """The cost of a plan: measured, or by its MACs/px between the two measured plans next to it."""
        known = self.plans.get(str(plan))
        if known is not None:
            return known
        costs = sorted(self.plans.values(), key=lambda cost: cost.macs_per_pixel)
        below = [cost for cost in costs if cost.macs_per_pixel <= macs_per_pixel][-1:] or costs[:1]
        above = [cost for cost in costs if cost.macs_per_pixel > macs_per_pixel][:1] or costs[-1:]
        a, b = below[0], above[0]
        share = (macs_per_pixel - a.macs_per_pixel) / (b.macs_per_pixel - a.macs_per_pixel) if a is not b else 0.0
        part = min(max(share, 0.0), 1.0)
        outside = macs_per_pixel / a.macs_per_pixel if a is b else 1.0

        def between(low: float, high: float) -> float:
            return low + part * (high - low)

        return PlanCost(
            macs_per_pixel=macs_per_pixel,
            start=between(a.start, b.start),
            per_tile=between(a.per_tile, b.per_tile),
            per_pixel=between(a.per_pixel, b.per_pixel) * outside,
            per_shape=between(a.per_shape, b.per_shape),
            per_pixel_beyond=between(a.per_pixel_beyond, b.per_pixel_beyond) * outside,
        )

    def beyond(self, seconds: float) -> float:
        """Seconds that the tiles of a picture take beyond those of each by itself, because idle cores wake up late."""
        return min(self.per_call, seconds)

    def age(self) -> float:
        """Seconds since it was measured."""
        then = datetime.fromisoformat(self.measured)
        return max(0.0, (datetime.now(UTC) - then.replace(tzinfo=then.tzinfo or UTC)).total_seconds())

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: other values (`InputError` is a `ValueError`).
        """
        return cls(
            machine={str(key): str(value) for key, value in values["machine"].items()},
            measured=str(values["measured"]),
            plans={plan: PlanCost(**cost) for plan, cost in values["plans"].items()},
            estimate=Curve(
                tuple(int(each) for each in values["estimate"]["pixels"]),
                tuple(float(each) for each in values["estimate"]["seconds"]),
            ),
            files={name: FileCost(**cost) for name, cost in values["files"].items()},
            per_byte=float(values["per_byte"]),
            spread=float(values["spread"]),
            per_call=float(values["per_call"]),
        )
