"""Time limits on a clock that the test turns: chosen, kept, refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.core.errors import BudgetError, InputError
from grainwise.networks.network import Facts
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.cost import CostModel, Curve, PlanCost
from grainwise.runtime.pace import SLACK, Candidate, Pace, check_seconds, choose_course, courses, least_course
from grainwise.runtime.seams import Seams
from grainwise.runtime.tiles import plan_tiles, tile_extent
from grainwise.runtime.tiling import Tiling
from grainwise.runtime.timer import Timer, Warm, candidate_of

FACTS = Facts(
    channels=3, scale=1, size_multiple=8, halo=16, needs_sigma=True, sigma_max=0.3, exact_tiles=True, least_tile=1
)


def candidate(
    width: int, *, start: float = 0.0, per_tile: float = 1e-4, per_shape: float = 0.0, per_byte: float = 0.0
) -> Candidate:
    plan = ChannelPlan((("level0", width),))
    cost = PlanCost(1000 * width, start, per_tile, width * 1e-9, per_shape)
    return Candidate(plan, cost, 100.0 + width, per_byte=per_byte)


PLANS = [candidate(width) for width in (8, 16, 32, 64)]
COSTS = CostModel({}, "2026-01-01", {str(c.plan): c.cost for c in PLANS}, Curve((10_000, 1_000_000), (0.001, 0.02)), {})


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tiling(height: int = 2000, width: int = 3000, free: int = 10**9) -> Tiling:
    return Tiling(height, width, FACTS, free)


def drive(
    timer: Timer, clock: Clock, picture: Tiling, slower: "float | list[float]", along: float = 0.0
) -> tuple[float, list[int]]:
    """Run a picture whose tiles take ``slower`` times what was predicted; seconds, and the widths that were run."""
    course = timer.course(picture, along=along)
    tiles = picture.tiles(course.side)
    pace = timer.pace(course, tiles, along=along)
    costs = {c.plan: c.cost for c in PLANS}
    widths, seen = [], set()
    for index, tile in enumerate(tiles):
        plan = pace.next()
        factor = (
            slower if isinstance(slower, float) else slower[min(index * len(slower) // len(tiles), len(slower) - 1)]
        )
        seconds = factor * costs[plan].tile(tile.read.area) + (costs[plan].start if plan not in seen else 0.0)
        seen.add(plan)
        clock.now += seconds + along * tile.read.area / sum(t.read.area for t in tiles)
        pace.done(seconds, tile.read.shape)
        widths.append(plan["level0"])
    return clock.now - timer.start, widths


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(8, 700), least=st.integers(1, 30000))
@settings(max_examples=60)
def test_the_extent_is_that_of_the_tiles(height: int, width: int, size: int, least: int) -> None:
    grid = {"size": size, "halo": 16, "multiple": 8, "least_pixels": least}
    tiles, extent = plan_tiles(height, width, **grid), tile_extent(height, width, **grid)
    areas = [tile.read.area for tile in tiles]
    assert (extent.count, extent.pixels, extent.largest) == (len(areas), sum(areas), max(areas))
    assert extent.shapes == {tile.read.shape for tile in tiles}


@pytest.mark.parametrize("limit", [0.06, 0.1, 0.15, 0.3, 0.5, 1.0, 4.0])
def test_the_dearest_plan_that_meets_the_limit_is_run_to_the_end(limit: float) -> None:
    clock = Clock()
    timer = Timer(limit, COSTS, PLANS, clock=clock)
    timer.check(tiling(), estimate=False)
    seconds, widths = drive(timer, clock, tiling(), 1.0)
    assert seconds <= limit
    assert len(set(widths)) == 1
    dearer = [c for c in PLANS if c.plan["level0"] > widths[0]]
    if dearer:
        options = courses(dearer, tiling())[0]
        assert not [course for course in options if course.longest <= 0.1 * limit and course.seconds <= limit]


@given(slower=st.floats(0.3, 3.0), limit=st.floats(0.2, 3.0))
@settings(max_examples=60)
def test_the_limit_is_kept_on_a_machine_that_is_slower_than_measured(slower: float, limit: float) -> None:
    clock = Clock()
    seconds, widths = drive(Timer(limit, COSTS, PLANS, clock=clock), clock, tiling(), slower)
    assert widths == sorted(widths, reverse=True)
    fastest = slower * least_course(courses(PLANS, tiling())).seconds
    if fastest < 0.5 * limit:
        assert seconds <= 1.1 * limit


def test_the_limit_is_kept_when_the_machine_slows_down_on_the_way() -> None:
    clock = Clock()
    seconds, widths = drive(Timer(0.5, COSTS, PLANS, clock=clock), clock, tiling(), [1.0, 1.0, 2.5, 2.5])
    assert seconds <= 1.1 * 0.5
    assert len(set(widths)) > 1
    assert widths == sorted(widths, reverse=True)


def test_one_slow_tile_does_not_change_the_plan_where_time_is_left() -> None:
    clock = Clock()
    factors = [1.0] * 20
    factors[3] = 2.0
    seconds, widths = drive(Timer(10.0, COSTS, PLANS, clock=clock), clock, tiling(), factors)
    assert set(widths) == {64}
    assert seconds < 10


@pytest.mark.parametrize("late", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("limit", [0.1, 0.2, 0.4, 0.8])
def test_cores_that_wake_up_late_are_reckoned_with(late: float, limit: float) -> None:
    """The first tiles take twice their time until ``late`` seconds went by beyond their own; no plan is left for that."""
    clock, costs = Clock(), replace(COSTS, per_call=late)
    timer = Timer(limit, costs, PLANS, clock=clock)
    if timer.least(tiling(), estimate=False) > limit:
        return
    course = timer.course(tiling())
    by_plan = {candidate.plan: candidate.cost for candidate in PLANS}
    tiles = tiling().tiles(course.side)
    pace, beyond, seen = timer.pace(course, tiles), late, set()
    for tile in tiles:
        plan = pace.next()
        own = by_plan[plan].tile(tile.read.area) + (by_plan[plan].start if plan not in seen else 0.0)
        seen.add(plan)
        more = min(beyond, own)
        beyond -= more
        clock.now += own + more
        pace.done(own + more, tile.read.shape)
    assert clock.now - timer.start <= limit * 1.001
    assert seen == {course.candidate.plan}


def test_work_beside_the_tiles_counts() -> None:
    clock, other = Clock(), Clock()
    alone, plain = drive(Timer(1.0, COSTS, PLANS, clock=clock), clock, tiling(), 1.0)
    along, beside = drive(Timer(1.0, COSTS, PLANS, clock=other), other, tiling(), 1.0, along=0.8)
    assert along <= 1.0
    assert max(beside) < max(plain)
    assert alone <= 1.0


def test_the_start_of_a_plan_counts() -> None:
    slow = [candidate(8, start=5.0), candidate(16, start=5.0)]
    timer = Timer(3.0, COSTS, slow, clock=Clock())
    with pytest.raises(BudgetError, match=r"at least 5"):
        timer.check(tiling(), estimate=False)


@given(limit=st.floats(0.001, 0.5), estimate=st.booleans(), spread=st.floats(1, 2))
@settings(max_examples=60)
def test_what_is_refused_names_a_time_that_is_enough(limit: float, estimate: bool, spread: float) -> None:
    costs = replace(COSTS, spread=spread)
    timer = Timer(limit, costs, PLANS, clock=Clock())
    least = timer.least(tiling(), estimate=estimate)
    assert least == pytest.approx(spread * Timer(limit, COSTS, PLANS).least(tiling(), estimate=estimate))
    if limit >= least:
        timer.check(tiling(), estimate=estimate)
        return
    with pytest.raises(BudgetError, match="at least") as caught:
        timer.check(tiling(), estimate=estimate)
    named = float(str(caught.value).split("at least ")[1].split(" s ")[0])
    assert least <= named <= 1.1 * least
    Timer(named, costs, PLANS, clock=Clock()).check(tiling(), estimate=estimate)


FIRST_TIMES = [candidate(width, start=0.004, per_shape=0.006, per_byte=4e-10) for width in (8, 16, 32, 64)]


def drive_first_times(limit: float, picture: Tiling, spare: int) -> tuple[float, float, list[int]]:
    """Seconds predicted and taken by a picture in a process that ran nothing, on a machine that is as it was measured."""
    clock = Clock()
    timer = Timer(limit, COSTS, FIRST_TIMES, spare=spare, clock=clock)
    timer.check(picture, estimate=False)
    course = timer.course(picture)
    tiles = picture.tiles(course.side)
    pace, known = timer.pace(course, tiles), {c.plan: c for c in FIRST_TIMES}
    seen: set[object] = set()
    widths, seams = [], Seams(FACTS.size_multiple)
    for tile in tiles:
        plan = pace.next()
        read = seams.grow(tile, plan).read
        made, needed = known[plan], read.area * known[plan].bytes_per_pixel
        seconds = made.cost.tile(read.area) + 4e-10 * max(0.0, needed - spare)
        seconds += made.cost.start * (plan not in seen) + made.cost.per_shape * ((plan, read.shape) not in seen)
        spare = max(spare, int(needed))
        seen |= {plan, (plan, read.shape)}
        clock.now += seconds
        pace.done(seconds, read.shape)
        widths.append(plan["level0"])
    return course.seconds, clock.now - timer.start, widths


@given(
    height=st.integers(200, 1600),
    width=st.integers(200, 1600),
    factor=st.floats(1.0, 12.0),
    spare=st.sampled_from([0, 10**8]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_done_once_counts_and_the_limit_is_kept(height: int, width: int, factor: float, spare: int) -> None:
    picture = tiling(height, width)
    least = Timer(9.0, COSTS, FIRST_TIMES, spare=spare, clock=Clock()).least(picture, estimate=False)
    limit = factor * least
    planned, seconds, widths = drive_first_times(limit, picture, spare)
    assert seconds <= limit * (1 + 1e-9)
    assert len(set(widths)) == 1
    assert seconds == pytest.approx(planned, rel=1e-6)


def test_shapes_and_memory_cost_once() -> None:
    plan = FIRST_TIMES[1]
    extent = tiling(500, 700).extent(256)
    cold = plan.seconds(extent, 0)
    assert cold == pytest.approx(
        0.004 + 0.006 * len(extent.shapes) + 4e-10 * extent.largest * 116 + plan.cost.tiles(extent)
    )
    warm = replace(plan, shapes=extent.shapes, cost=plan.cost.started())
    assert warm.seconds(extent, 10**9) == pytest.approx(plan.cost.tiles(extent))


def test_a_change_of_plan_pays_for_what_it_does_once() -> None:
    """Where the new plan's first tiles cost more than it saves, the old one goes on."""
    clock = Clock()
    slow, fast = candidate(64), candidate(32, per_shape=10.0)
    pace = Pace([slow, fast], [(100, 100)] * 3, ends=100.0 + 1e-6, slack=0.0, clock=clock)
    assert pace.next() == slow.plan
    pace.done(slow.cost.tile(10_000), (100, 100))
    assert pace.next() == slow.plan
    cheap = candidate(32)
    pace = Pace([slow, cheap], [(100, 100)] * 3, ends=100.0 + 1e-6, slack=0.0, clock=clock)
    assert pace.next() == cheap.plan


@pytest.mark.parametrize("keeps", [True, False])
def test_a_process_that_keeps_no_memory_pays_for_every_tile(keeps: bool) -> None:
    plan = FIRST_TIMES[0].plan
    costs = CostModel({}, "2026-01-01", {str(plan): PlanCost(8000, 0, 0, 1e-9, 0)}, Curve((1,), (0.0,)), {}, 1e-9)
    extent = tiling(500, 700).extent(256)
    made = candidate_of(plan, 8000, costs, 100.0, Warm(keeps=keeps))
    bytes_taken = 100.0 * (extent.largest if keeps else extent.pixels)
    assert made.seconds(extent, 0) == pytest.approx(1e-9 * (extent.pixels + bytes_taken))


def test_time_that_is_gone_already_means_the_fastest_course() -> None:
    clock = Clock()
    timer = Timer(1.0, COSTS, PLANS, clock=clock)
    clock.now += 5
    assert timer.course(tiling()) == least_course(courses(PLANS, tiling()))
    assert set(drive(timer, clock, tiling(), 1.0)[1]) == {8}


def test_tiles_are_small_enough_to_correct() -> None:
    for limit in (0.1, 0.3, 1.0, 5.0):
        course = choose_course(courses(PLANS, tiling(4000, 6000)), limit)
        if course.seconds > limit / 2 and course != least_course(courses(PLANS, tiling(4000, 6000))):
            assert course.longest <= 0.25 * limit
            assert len(tiling(4000, 6000).tiles(course.side)) >= 4


def test_tiles_fit_into_memory_at_every_plan_that_may_follow() -> None:
    picture = tiling(free=4_000_000)
    for group in courses(PLANS, picture):
        for course in group:
            for follower in PLANS[: PLANS.index(course.candidate) + 1]:
                assert max(t.read.area for t in picture.tiles(course.side)) * follower.bytes_per_pixel <= picture.free
    with pytest.raises(InputError, match="MB more"):
        courses(PLANS, tiling(free=1000))


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), math.inf, "3", True, None])
def test_limits_that_are_none_are_refused(wrong: object) -> None:
    with pytest.raises(BudgetError, match="max_seconds"):
        check_seconds(wrong)
    assert check_seconds(np.float32(2)) == 2


def test_a_pace_needs_plans_and_tiles() -> None:
    for plans, shapes in (([], [(8, 8)]), (PLANS, [])):
        with pytest.raises(InputError, match="needs plans"):
            Pace(plans, shapes, ends=1.0, slack=SLACK)
