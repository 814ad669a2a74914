"""Cells are taken with their surroundings and put back where they were."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.training.benchmarks import benchmark

module = benchmark("adaptive_canvas")
Canvas, Group = module.Canvas, module.Group


@given(height=st.integers(1, 40), width=st.integers(1, 40), side=st.integers(1, 9), margin=st.integers(0, 3))
def test_taken_cells_are_windows_of_the_map(height: int, width: int, side: int, margin: int) -> None:
    x = torch.rand(1, 5, height, width)
    canvas = Canvas.of(x, side=side, margin=margin)
    rows, columns = -(-height // side), -(-width // side)
    chosen = torch.rand(rows, columns) < 0.5
    group = Group.where(chosen)
    assert group.count == int(chosen.sum())
    taken = canvas.take(group, 3, margin)
    end = (margin, columns * side - width + margin, margin, rows * side - height + margin)
    around = F.pad(x, end)
    for cell, (row, column) in zip(taken, chosen.nonzero().tolist(), strict=True):
        top, left = row * side, column * side
        size = side + 2 * margin
        assert torch.equal(cell, around[0, :3, top : top + size, left : left + size])


@given(height=st.integers(1, 40), width=st.integers(1, 40), side=st.integers(2, 9))
def test_groups_put_back_give_the_map(height: int, width: int, side: int) -> None:
    x = torch.rand(1, 4, height, width)
    source, target = Canvas.of(x, side=side, margin=1), Canvas.empty(x, (height, width), 4, side=side, margin=1)
    chosen = torch.rand(-(-height // side), -(-width // side)) < 0.5
    for part in (chosen, ~chosen):
        group = Group.where(part)
        target.put(group, source.take(group, 4, 0) + 0.0)
    target.clear_outside()
    assert torch.equal(target.inside(), x)
    assert torch.equal(target.data, source.data)


@given(height=st.integers(1, 30), width=st.integers(1, 30), side=st.integers(2, 9), margin=st.integers(1, 2))
def test_a_cleared_ring_is_what_the_canvas_holds_around_the_map(
    height: int, width: int, side: int, margin: int
) -> None:
    x = torch.rand(1, 2, height, width) + 1
    canvas = Canvas.of(x, side=side, margin=margin)
    group = Group.where(torch.ones(-(-height // side), -(-width // side), dtype=torch.bool))
    taken = canvas.take(group, 2, margin)
    dirty = torch.where(taken == 0, 7.0, taken)
    canvas.clear_ring(group, dirty, margin)
    assert torch.equal(dirty, taken)
