"""A time limit, kept: the dearest plan that is predicted to meet it, and cheaper ones for the rest where time runs short.

Tiles are cut small enough that there are several left whenever the prediction proves wrong. While a picture runs, the
prediction is corrected by how long its tiles really took.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grainwise.core.errors import BudgetError, InputError
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.cost import PlanCost
from grainwise.runtime.level import is_number
from grainwise.runtime.tiles import Extent, Shape
from grainwise.runtime.tiling import Tiling

SHARES = (0.1, 0.15, 0.25)
"""One tile takes at most this part of the time that there is; greater parts where the halos of small tiles cost too much."""
SLACK = 0.05
"""A plan is given up when the corrected prediction is over the limit by more than this part of it."""
_TRUST = 0.5  # weight of the newest tile in the correction
_MOST, _LEAST = 8.0, 0.125  # a single tile corrects by no more than this
_BORDER_SHAPES = 2  # tiles that reach into those of another plan have shapes of their own, seldom more than so many


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that may be chosen.

    Attributes:
        plan: the channel plan.
        cost: what it costs; ``start`` is 0 where it has run before in this process.
        bytes_per_pixel: memory of a running tile.
        shapes: of tiles that it has run before in this process.
        per_byte: seconds of a byte that the process has not touched before.
    """

    plan: ChannelPlan
    cost: PlanCost
    bytes_per_pixel: float
    shapes: frozenset[Shape] = frozenset()
    per_byte: float = 0.0

    def fresh(self, pixels: int, spare: float) -> float:
        """Seconds of the memory that a tile which reads so many pixels takes beyond ``spare``, bytes that lie ready."""
        return self.per_byte * max(0.0, pixels * self.bytes_per_pixel - spare)

    def seconds(self, extent: Extent, spare: float) -> float:
        """Seconds of all the tiles of an extent, with what has to be done once for them."""
        new = self.cost.start + len(extent.shapes - self.shapes) * self.cost.per_shape
        return new + self.fresh(extent.largest, spare) + self.cost.tiles(extent)


@dataclass(frozen=True, slots=True)
class Course:
    """A plan, a tile size, and what they are predicted to take.

    Attributes:
        candidate: the plan.
        side: of the tiles.
        longest: seconds of the largest tile.
        seconds: of all tiles.
    """

    candidate: Candidate
    side: int
    longest: float
    seconds: float


def check_seconds(max_seconds: object) -> float:
    """A time limit as a number of seconds.

    Raises:
        BudgetError: no finite number above 0.
    """
    if not (is_number(max_seconds) and 0 < float(max_seconds) < float("inf")):  # type: ignore[arg-type]
        raise BudgetError(
            f"the time limit (--max-seconds, in Python max_seconds) is a number of seconds above 0, got {max_seconds!r}"
        )
    return float(max_seconds)  # type: ignore[arg-type]


def courses(candidates: Sequence[Candidate], tiling: Tiling, spare: float = 0.0) -> list[list[Course]]:
    """For each candidate, cheapest first as given, its courses by tile size, smallest first.

    The tiles leave room for every cheaper plan too. ``spare`` bytes lie ready for them.

    Raises:
        InputError: not even the smallest tile fits into memory.
    """
    found = []
    for index, candidate in enumerate(candidates):
        most = max(other.bytes_per_pixel for other in candidates[: index + 1])
        cost = candidate.cost
        options = []
        for side in tiling.sides(most):
            extent = tiling.extent(side)
            options.append(Course(candidate, side, cost.tile(extent.largest), candidate.seconds(extent, spare)))
        found.append(options)
    return found


def least_course(options: Sequence[Sequence[Course]]) -> Course:
    """The course that takes least time."""
    return min((course for group in options for course in group), key=lambda course: course.seconds)


def choose_course(options: Sequence[Sequence[Course]], seconds: float) -> Course:
    """The dearest plan that is predicted to take at most ``seconds`` in tiles small enough to correct for errors.

    Where no plan does, the course that takes least.
    """
    for group in reversed(options):
        for share in SHARES:
            fine = [course for course in group if course.longest <= share * seconds]
            best = min(fine, key=lambda course: course.seconds, default=None)
            if best is not None and best.seconds <= seconds:
                return best
    return least_course(options)


def refuse(least: float, seconds: float, size: tuple[int, int]) -> None:
    """Refuse a time limit that is below the least possible time.

    Raises:
        BudgetError: it is; the message names the least time.
    """
    if least > seconds:
        height, width = size
        raise BudgetError(
            f"{width}x{height} pixels take at least {_rounded_up(least)} s on this machine, with the fastest plan, got a "
            f"limit of {seconds:g} s; allow more time, or give a smaller picture"
        )


def _rounded_up(seconds: float) -> str:
    """Two digits, never less than ``seconds``."""
    text = f"{seconds:.2g}"
    return text if float(text) >= seconds else f"{seconds * 1.05:.2g}"


class Pace:
    """Decides the plan of each tile so that all are done in time; see `grainwise.runtime.tile_run.Plans`.

    Args:
        candidates: the plan to begin with, then cheaper ones, dearest first.
        shapes: of what each tile reads, in order.
        ends: when the last tile must be done, on the clock.
        slack: seconds by which the prediction may be over that before a plan is given up.
        spare: bytes that lie ready for the tiles.
        along: seconds of other work that goes on beside the tiles and ends with them (files read and written in rows).
        late: seconds that the first tiles take beyond their own, at most as long again; see `CostModel.beyond`.
        clock: gives seconds.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        shapes: Sequence[Shape],
        *,
        ends: float,
        slack: float,
        spare: float = 0.0,
        along: float = 0.0,
        late: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with the first candidate."""
        if not candidates or not shapes:
            raise InputError(f"a pace needs plans and tiles, got {len(candidates)} and {len(shapes)}")
        self._candidates, self._left = list(candidates), _left_after_each(shapes)
        self._ends, self._slack, self._spare, self._clock = ends, slack, spare, clock
        self._along, self._late = along / self._left[0].pixels, late
        self._index = self._done = 0
        self._ran = {candidate.plan: set(candidate.shapes) for candidate in candidates}
        self._started: set[ChannelPlan] = set()
        self._correction = 1.0

    def next(self) -> ChannelPlan:
        """The plan of the next tile."""
        left = self._ends - self._clock()
        if self._seconds(self._index) > left + self._slack:
            cheaper = range(self._index + 1, len(self._candidates))
            fitting = [index for index in cheaper if self._seconds(index) <= left]
            fastest = min((self._index, *cheaper), key=self._seconds)
            self._index = fitting[0] if fitting else fastest
        return self._candidates[self._index].plan

    def done(self, seconds: float, shape: Shape) -> None:
        """Correct the prediction by a tile that read so much and took so long."""
        candidate, pixels = self._candidates[self._index], shape[0] * shape[1]
        predicted = candidate.cost.tile(pixels) + candidate.fresh(pixels, self._spare)
        if candidate.plan not in self._started:
            predicted += candidate.cost.start
            self._started.add(candidate.plan)
        if shape not in self._ran[candidate.plan]:
            predicted += candidate.cost.per_shape
            self._ran[candidate.plan].add(shape)
        self._spare = max(self._spare, pixels * candidate.bytes_per_pixel)
        late = min(self._late, max(0.0, seconds - predicted), predicted)
        self._late = 0.0 if late == 0 else self._late - late
        predicted += late
        ratio = min(max(seconds / predicted, _LEAST), _MOST)
        self._correction += _TRUST * (ratio - self._correction)
        self._done += 1

    def _seconds(self, index: int) -> float:
        """What the tiles that are left are predicted to take with a candidate; its shapes at the border with another too."""
        candidate, left = self._candidates[index], self._left[self._done]
        start = 0.0 if candidate.plan in self._started else candidate.cost.start
        new = len(left.shapes - self._ran[candidate.plan])
        if index != self._index and self._done:
            new += _BORDER_SHAPES
        once = start + new * candidate.cost.per_shape + candidate.fresh(left.largest, self._spare)
        tiles = candidate.cost.tiles(left)
        return once + min(self._late, tiles) + self._correction * (tiles + self._along * left.pixels)


def _left_after_each(shapes: Sequence[Shape]) -> list[Extent]:
    """What is left before each tile."""
    extents = [Extent(0, 0, 0)]
    for shape in reversed(shapes):
        after, pixels = extents[-1], shape[0] * shape[1]
        extents.append(
            Extent(after.count + 1, after.pixels + pixels, max(after.largest, pixels), after.shapes | {shape})
        )
    return extents[:0:-1]
