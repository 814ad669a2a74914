"""Tiles as records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.core.errors import InputError
from grainwise.runtime.memory import LARGEST_TILE, tile_side
from grainwise.runtime.tiles import Box, plan_tiles, tile_extent


@given(st.integers(0, 50), st.integers(1, 90), st.integers(0, 50), st.integers(1, 90), st.integers(1, 160))
def test_pieces_cover_a_box_once_and_are_no_larger(top: int, height: int, left: int, width: int, side: int) -> None:
    box = Box(top, top + height, left, left + width)
    seen = np.zeros((150, 150), int)
    pieces = box.pieces(side)
    for piece in pieces:
        seen[piece.slices] += 1
        assert 0 < piece.height <= side
        assert 0 < piece.width <= side
        assert piece.top % side == 0 or piece.top == top
        assert piece.left % side == 0 or piece.left == left
    assert (seen[box.slices] == 1).all()
    assert seen.sum() == box.area
    if side >= 140:
        assert pieces == (box,)


@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    size=st.integers(8, 400),
    halo=st.integers(0, 100),
    multiple=st.sampled_from([1, 2, 8]),
    least=st.sampled_from([1, 500, 20_481]),
)
def test_every_pixel_is_written_once_and_read_with_its_halo(
    height: int, width: int, size: int, halo: int, multiple: int, least: int
) -> None:
    written = np.zeros((height, width), int)
    for tile in plan_tiles(height, width, size=size, halo=halo, multiple=multiple, least_pixels=least):
        written[tile.write.slices] += 1
        assert tile.read.area >= min(least, height * width)
        assert tile.read.top % multiple == tile.read.left % multiple == 0
        assert tile.write.height <= size
        assert tile.write.width <= size
        for low, first, last, high, end in (
            (tile.read.top, tile.write.top, tile.write.bottom, tile.read.bottom, height),
            (tile.read.left, tile.write.left, tile.write.right, tile.read.right, width),
        ):
            assert 0 <= low <= max(0, first - halo)
            assert min(end, last + halo) <= high <= end
            if least == 1:
                assert high <= min(end, last + halo + 32)
                assert low >= max(0, first - halo - multiple - 32)
    assert (written == 1).all()


@given(length=st.integers(500, 3000), across=st.integers(500, 3000), count=st.integers(2, 6))
def test_tiles_at_both_edges_are_alike(length: int, across: int, count: int) -> None:
    size = -(-max(length, across) // count)
    extent = tile_extent(length, across, size=size + -size % 8, halo=92, multiple=8)
    tiles = plan_tiles(length, across, size=size + -size % 8, halo=92, multiple=8)
    corners = [tile for tile in tiles if tile.write.top == 0 or tile.write.bottom == length]
    heights = {tile.read.height for tile in corners}
    rows = sorted({tile.write.top for tile in tiles})
    if len(rows) in (2, 3, 4):
        assert len(heights) == 1
    assert extent.shapes == {tile.read.shape for tile in tiles}


def test_four_tiles_have_one_shape() -> None:
    for height, width in ((480, 640), (481, 643), (1000, 1333)):
        side = -(-width // 2)
        assert len(tile_extent(height, width, size=side + -side % 8, halo=92, multiple=8).shapes) == 1


def test_boxes() -> None:
    box = Box(3, 7, 10, 20)
    assert (box.height, box.width, box.area) == (4, 10, 40)
    assert box.within(Box(1, 9, 8, 30)) == Box(2, 6, 2, 12)


@pytest.mark.parametrize("wrong", [{"height": 0}, {"width": 0}, {"size": 7}])
def test_impossible_tiles_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="cannot cover"):
        plan_tiles(**{"height": 10, "width": 10, "size": 8, "halo": 2, "multiple": 8, **wrong})


@given(
    height=st.integers(1, 20000),
    width=st.integers(1, 20000),
    free=st.integers(10**7, 10**10),
    cost=st.floats(150, 700),
)
def test_tiles_fit_into_the_memory(height: int, width: int, free: int, cost: float) -> None:
    try:
        side = tile_side(height, width, free=free, bytes_per_pixel=cost, halo=92, multiple=8, least_pixels=20_481)
    except InputError:
        assert free < (64 + 8 + 2 * 92) ** 2 * cost
        return
    assert side % 8 == 0
    read = min(height, side + 184) * min(width, side + 184)
    assert read * cost <= free
    assert read >= min(20_481, height * width)
    assert side <= LARGEST_TILE + 8 or min(height, width) < 100


def test_too_little_memory_says_how_much_is_missing() -> None:
    with pytest.raises(InputError, match="at least 21 MB more"):
        tile_side(5000, 5000, free=10, bytes_per_pixel=350, halo=92, multiple=8, least_pixels=20_481)
