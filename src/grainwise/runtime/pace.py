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
from grainwise.runtime.tiling import Tiling

SHARES = (0.1, 0.15, 0.25)
"""One tile takes at most this part of the time that there is; greater parts where the halos of small tiles cost too much."""
SLACK = 0.05
"""A plan is given up when the corrected prediction is over the limit by more than this part of it."""
_TRUST = 0.5  # weight of the newest tile in the correction
_MOST, _LEAST = 8.0, 0.125  # a single tile corrects by no more than this


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that may be chosen.

    Attributes:
        plan: the channel plan.
        cost: what it costs; ``start`` is 0 where it has run before in this process.
        bytes_per_pixel: memory of a running tile.
    """

    plan: ChannelPlan
    cost: PlanCost
    bytes_per_pixel: float


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


def courses(candidates: Sequence[Candidate], tiling: Tiling) -> list[list[Course]]:
    """For each candidate, cheapest first as given, its courses by tile size, smallest first.

    The tiles leave room for every cheaper plan too.

    Raises:
        InputError: not even the smallest tile fits into memory.
    """
    found = []
    for index, candidate in enumerate(candidates):
        most = max(other.bytes_per_pixel for other in candidates[: index + 1])
        cost, options = candidate.cost, []
        for side in tiling.sides(most):
            extent = tiling.extent(side)
            options.append(Course(candidate, side, cost.tile(extent.largest), cost.start + cost.tiles(extent)))
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
        areas: pixels that each tile reads, in order.
        ends: when the last tile must be done, on the clock.
        slack: seconds by which the prediction may be over that before a plan is given up.
        along: seconds of other work that goes on beside the tiles and ends with them (files read and written in rows).
        clock: gives seconds.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        areas: Sequence[int],
        *,
        ends: float,
        slack: float,
        along: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with the first candidate."""
        if not candidates or not areas:
            raise InputError(f"a pace needs plans and tiles, got {len(candidates)} and {len(areas)}")
        self._candidates, self._areas = list(candidates), list(areas)
        self._ends, self._slack, self._clock = ends, slack, clock
        self._along = along / sum(areas)
        self._index = self._done = 0
        self._started: set[ChannelPlan] = set()
        self._correction = 1.0

    def next(self) -> ChannelPlan:
        """The plan of the next tile."""
        left = self._ends - self._clock()
        if self._seconds(self._candidates[self._index]) > left + self._slack:
            cheaper = range(self._index + 1, len(self._candidates))
            fitting = [index for index in cheaper if self._seconds(self._candidates[index]) <= left]
            fastest = min((self._index, *cheaper), key=lambda index: self._seconds(self._candidates[index]))
            self._index = fitting[0] if fitting else fastest
        return self._candidates[self._index].plan

    def done(self, seconds: float) -> None:
        """Correct the prediction by a tile that took so long."""
        candidate = self._candidates[self._index]
        predicted = candidate.cost.tile(self._areas[self._done])
        if candidate.plan not in self._started:
            predicted += candidate.cost.start
            self._started.add(candidate.plan)
        ratio = min(max(seconds / predicted, _LEAST), _MOST)
        self._correction += _TRUST * (ratio - self._correction)
        self._done += 1

    def _seconds(self, candidate: Candidate) -> float:
        """What the tiles that are left are predicted to take."""
        areas = self._areas[self._done :]
        pixels = sum(areas)
        start = 0.0 if candidate.plan in self._started else candidate.cost.start
        tiles = len(areas) * candidate.cost.per_tile + pixels * candidate.cost.per_pixel
        return start + self._correction * (tiles + self._along * pixels)
