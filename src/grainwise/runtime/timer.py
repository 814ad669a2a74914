"""The time limit of one call: refused before work starts where it cannot be met, then a course and a pace."""

import time
from collections.abc import Callable, Collection, Sequence

from grainwise.networks.checkpoint import Weights
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.budget import Choice
from grainwise.runtime.cost import CostModel
from grainwise.runtime.pace import SLACK, Candidate, Course, Pace, choose_course, courses, least_course, refuse
from grainwise.runtime.tiles import Tile
from grainwise.runtime.tiling import Tiling


def candidates_of(
    weights: Weights, costs: CostModel, dearest: Choice, itemsize: int, started: Collection[ChannelPlan]
) -> list[Candidate]:
    """The plans that were timed and cost no more MACs/px than ``dearest``, which is one of them; cheapest first."""
    network, found = weights.network, []
    for plan, measured in weights.plans().items():
        if plan != dearest.plan and (
            str(plan) not in costs.plans or measured.macs_per_pixel > dearest.measured.macs_per_pixel
        ):
            continue
        found.append(
            candidate_of(plan, measured.macs_per_pixel, costs, network.bytes_per_pixel(plan, itemsize), started)
        )
    return sorted(found, key=lambda candidate: candidate.cost.macs_per_pixel)


def candidate_of(
    plan: ChannelPlan, macs: float, costs: CostModel, bytes_per_pixel: float, started: Collection[ChannelPlan]
) -> Candidate:
    """One plan with its cost; it costs nothing to start where it has run before."""
    cost = costs.of(plan, macs)
    return Candidate(plan, cost.started() if plan in started else cost, bytes_per_pixel)


class Timer:
    """Holds one call to its time.

    Args:
        limit: seconds, from now.
        costs: of the machine.
        candidates: the plans to choose from, cheapest first.
        clock: gives seconds.
    """

    def __init__(
        self,
        limit: float,
        costs: CostModel,
        candidates: Sequence[Candidate],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start the clock."""
        self.start = clock()
        self._limit, self._costs, self._candidates, self._clock = limit, costs, candidates, clock

    def least(self, tiling: Tiling, *, estimate: bool) -> float:
        """The least seconds that a picture is predicted to take.

        Raises:
            InputError: not even the smallest tile fits into memory.
        """
        blind = self._costs.estimate.at(tiling.height * tiling.width) if estimate else 0.0
        return blind + least_course(courses(self._candidates, tiling)).seconds

    def check(self, tiling: Tiling, *, estimate: bool, along: float = 0.0) -> None:
        """Refuse a limit that cannot be met, less what goes on ``along``.

        Raises:
            BudgetError: it is less than the least possible time, which the message names.
            InputError: not even the smallest tile fits into memory.
        """
        refuse(along + self.least(tiling, estimate=estimate), self._limit, (tiling.height, tiling.width))

    def course(self, tiling: Tiling, *, along: float = 0.0) -> Course:
        """The course for the time that is left, less what goes on ``along``; the fastest one where it is too little.

        Raises:
            InputError: not even the smallest tile fits into memory.
        """
        return choose_course(courses(self._candidates, tiling), self._ends() - along - self._clock())

    def pace(self, course: Course, tiles: Sequence[Tile], *, along: float = 0.0) -> Pace:
        """The pace of these tiles."""
        index = self._candidates.index(course.candidate)
        return Pace(
            self._candidates[index::-1],
            [tile.read.area for tile in tiles],
            ends=self._ends(),
            slack=SLACK * self._limit,
            along=along,
            clock=self._clock,
        )

    def _ends(self) -> float:
        return self.start + self._limit
