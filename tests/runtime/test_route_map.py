"""Maps of routes: the result in grey, reduced; a tint for each plan; the tiles' borders; a legend."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import route_map
from grainwise.runtime.restoration import Route
from grainwise.runtime.route_map import RouteMap, colours_of


def plan(width: int) -> ChannelPlan:
    return ChannelPlan((("level0", width),))


FOUR = [
    Route(0, 0, 60, 40, plan(32), 300.0),
    Route(60, 0, 60, 40, plan(32), 300.0),
    Route(0, 40, 60, 50, plan(8), 100.0),
    Route(60, 40, 60, 50, plan(16), 200.0),
]


@given(height=st.integers(1, 90), width=st.integers(1, 90), chunk=st.integers(1, 100), longest=st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_rows_are_reduced_to_means_whatever_their_number(height: int, width: int, chunk: int, longest: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route_map, "LONGEST", longest)
        shown = RouteMap(height, width)
    for top in range(0, height, chunk):
        shown.add(pixels[top : top + chunk])
    grey, factor = shown.grey(), shown.factor
    assert max(grey.shape) <= longest
    for y, x in ((0, 0), (grey.shape[0] - 1, grey.shape[1] - 1)):
        part = pixels[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert grey[y, x] == pytest.approx(part.mean() / 255, abs=1e-5)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_all_depths_are_shown_alike(dtype: type, white: float) -> None:
    shown = RouteMap(4, 6)
    shown.add(np.full((4, 6, 1), white, dtype))
    assert np.array_equal(shown.grey(), np.ones((4, 6), np.float32))


def test_dearer_plans_have_later_colours() -> None:
    colours = colours_of(FOUR)
    assert list(colours) == [plan(8), plan(16), plan(32)]
    assert colours[plan(8)][2] == 255
    assert colours[plan(32)][0] == 240
    assert len(colours_of(FOUR[:1])) == 1
    assert colours_of([]) == {}


def test_each_part_has_the_tint_of_its_plan_and_a_border() -> None:
    shown = RouteMap(90, 120)
    shown.add(np.full((90, 120, 3), 128, np.uint8))
    drawn, colours = shown.draw(FOUR, {"level0=8": "fast"}), colours_of(FOUR)
    for route in FOUR:
        inside = drawn[route.y + 5 : route.y + route.height, route.x + 5 : route.x + route.width].reshape(-1, 3)
        assert len(np.unique(inside, axis=0)) == 1
        np.testing.assert_allclose(inside[0], 0.55 * 128 + 0.45 * colours[route.plan], atol=1)
    assert (drawn[40, :120] == 0).all()
    assert (drawn[:90, 60] == 0).all()
    assert (drawn[0, :60] > 0).any()
    legend = drawn[90:]
    assert legend.shape[0] == 2 * 8 + 3 * 22
    for index, colour in enumerate(colours.values()):
        line = legend[8 + 22 * index : 8 + 22 * (index + 1)]
        assert np.array_equal(line[10, 12], colour.round())
        assert (line[:, 40:] < 128).sum() > 100


def test_large_results_are_reduced() -> None:
    shown = RouteMap(5000, 100)
    for _ in range(50):
        shown.add(np.zeros((100, 100, 3), np.uint16))
    assert shown.factor == 4
    assert shown.draw([Route(0, 0, 100, 5000, plan(8), 1.0)], {}).shape[0] == 1250 + 2 * 8 + 22


def test_what_was_left_alone_has_no_tint() -> None:
    shown = RouteMap(20, 30)
    shown.add(np.full((20, 30, 3), 77, np.uint8))
    assert (shown.draw([], {})[:20, :30] == 77).all()
