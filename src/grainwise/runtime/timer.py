"""The time limit of one call: refused before work starts where it cannot be met, then a course and a pace."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from grainwise.networks.checkpoint import Weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.budget import Choice
from grainwise.runtime.cost import CostModel
from grainwise.runtime.pace import SLACK, Candidate, Course, Pace, choose_course, courses, least_course, refuse
from grainwise.runtime.tiles import Shape, Tile
from grainwise.runtime.tiling import Tiling


@dataclass(frozen=True, slots=True)
class Warm:
    """What the process has done before, and need not do again for a call.

    Attributes:
        plans: that were made.
        shapes: of tiles, by plan, that were run.
        spare: bytes of memory that it holds and does not use.
        keeps: whether it keeps memory from tile to tile; if not, every tile takes all of it anew.
    """

    plans: Collection[ChannelPlan] = ()
    shapes: Mapping[ChannelPlan, frozenset[Shape]] = field(default_factory=dict)
    spare: int = 0
    keeps: bool = True


def candidates_of(weights: Weights, costs: CostModel, dearest: Choice, itemsize: int, warm: Warm) -> list[Candidate]:
    """The plans that were timed and cost no more MACs/px than ``dearest``, which is one of them; cheapest first."""
    network, found = weights.network, []
    for plan, measured in weights.plans().items():
        if plan != dearest.plan and (
            str(plan) not in costs.plans or measured.macs_per_pixel > dearest.measured.macs_per_pixel
        ):
            continue
        found.append(candidate_of(plan, measured.macs_per_pixel, costs, network.bytes_per_pixel(plan, itemsize), warm))
    return sorted(found, key=lambda candidate: candidate.cost.macs_per_pixel)


def candidate_of(plan: ChannelPlan, macs: float, costs: CostModel, bytes_per_pixel: float, warm: Warm) -> Candidate:
    """One plan with its cost; it costs nothing to start where it has run before."""
    cost, per_byte = costs.of(plan, macs), costs.per_byte
    if plan in warm.plans:
        cost = cost.started()
    if not warm.keeps:
        cost, per_byte = replace(cost, per_pixel=cost.per_pixel + per_byte * bytes_per_pixel), 0.0
    return Candidate(plan, cost, bytes_per_pixel, warm.shapes.get(plan, frozenset()), per_byte)


class Timer:
    """Holds one call to its time.

    Args:
        limit: seconds, from now.
        costs: of the machine.
        candidates: the plans to choose from, cheapest first.
        spare: bytes that lie ready for the tiles, see `Warm`.
        clock: gives seconds.
    """

    def __init__(
        self,
        limit: float,
        costs: CostModel,
        candidates: Sequence[Candidate],
        *,
        spare: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start the clock."""
        self.start = clock()
        self._limit, self._costs, self._candidates, self._spare, self._clock = limit, costs, candidates, spare, clock

    def least(self, tiling: Tiling, *, estimate: bool) -> float:
        """The least seconds that a picture takes, as one that happens to be slow: what is promised holds for it too.

        Raises:
            InputError: not even the smallest tile fits into memory.
        """
        blind = self._costs.estimate.at(tiling.height * tiling.width) if estimate else 0.0
        tiles = least_course(self._courses(tiling)).seconds
        return self._costs.spread * (blind + tiles) + self._costs.beyond(tiles)

    def check(self, tiling: Tiling, *, estimate: bool, along: float = 0.0) -> None:
        """Refuse a limit that cannot be met, less what goes on ``along``.

        Raises:
            BudgetError: it is less than the least possible time, which the message names.
            InputError: not even the smallest tile fits into memory.
        """
        refuse(along + self.least(tiling, estimate=estimate), self._limit, (tiling.height, tiling.width))

    def course(self, tiling: Tiling, *, along: float = 0.0) -> Course:
        """The course for the time that is left, less what goes on ``along``, for tiles that happen to be slow.

        It is counted as in `least`. The fastest one where the time is too little.

        Raises:
            InputError: not even the smallest tile fits into memory.
        """
        left, spread, late = self._ends() - along - self._clock(), self._costs.spread, self._costs.per_call
        return choose_course(self._courses(tiling), max(left / (1 + spread), (left - late) / spread))

    def pace(self, course: Course, tiles: Sequence[Tile], *, along: float = 0.0) -> Pace:
        """The pace of these tiles."""
        index = self._candidates.index(course.candidate)
        return Pace(
            self._candidates[index::-1],
            [tile.read.shape for tile in tiles],
            ends=self._ends(),
            slack=SLACK * self._limit,
            spare=self._spare,
            along=along,
            late=self._costs.per_call,
            clock=self._clock,
        )

    def _courses(self, tiling: Tiling) -> list[list[Course]]:
        return courses(self._candidates, tiling, self._spare)

    def _ends(self) -> float:
        return self.start + self._limit
