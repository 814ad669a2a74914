"""The malleable convolution on a GPU, in Triton, forward and backward. Only imported where CUDA and triton are there.

Each program of the forward pass works on one cell between four kernel centres, for a block of channels, so that the kernels
are loaded once for the cell and blended in registers. The gradients are gathered, not scattered: the results do not depend on
the order in which programs run. Sums are in float32, whatever the storage.
"""

# Triton reads the annotations of its kernels as code, so theirs are left out.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from typing import Any

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

VALUES = 512
"""Values that a program works on at once, about."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _between(pixel, stride, count):
    """Lower and upper grid index, and share, of pixels >= 0: the centres are at (i + 0.5) * stride - 0.5."""
    twice = 2 * pixel + 1 - stride
    cell = tl.where(twice < 0, -1, twice // (2 * stride))
    share = (twice - 2 * stride * cell).to(tl.float32) / (2.0 * stride)
    return tl.maximum(cell, 0), tl.minimum(cell + 1, count - 1), share


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _blended(plane, kept, top, bottom, down, left, right, along, columns):
    """The kernels of `plane` (pointers to its first value) between four cells."""
    upper = tl.load(plane + top * columns + left, mask=kept, other=0.0).to(tl.float32)
    upper += along * (tl.load(plane + top * columns + right, mask=kept, other=0.0).to(tl.float32) - upper)
    lower = tl.load(plane + bottom * columns + left, mask=kept, other=0.0).to(tl.float32)
    lower += along * (tl.load(plane + bottom * columns + right, mask=kept, other=0.0).to(tl.float32) - lower)
    return upper + down * (lower - upper)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _plane(start, batch, index, count, size):
    """Where plane `index` of a picture begins, of `count` planes of `size` values each."""
    return start + (batch.to(tl.int64) * count + index) * size


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _tap(i, j, inside, height, width, tap: tl.constexpr, taps: tl.constexpr):
    """Row and column that a tap of the kernel at (i, j) reads, and whether there is a pixel."""
    row = i + (tap // 3 - 1 if taps == 9 else 0)
    column = j + (tap % 3 - 1 if taps == 9 else 0)
    return row, column, inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _forward_kernel(
    x,
    grid,
    y,
    channels,
    height,
    width,
    rows,
    columns,
    stride,
    group: tl.constexpr,
    taps: tl.constexpr,
    offset: tl.constexpr,
    side: tl.constexpr,
    block: tl.constexpr,
):
    cells = columns + 1
    cell_row, cell_column = tl.program_id(0) // cells - 1, tl.program_id(0) % cells - 1
    batch = tl.program_id(2)
    channel = (tl.program_id(1) * block + tl.arange(0, block))[:, None, None]
    within = tl.arange(0, side)
    i = (cell_row * stride + stride // 2 + within)[None, :, None]
    j = (cell_column * stride + stride // 2 + within)[None, None, :]
    inside = (within < stride)[None, :, None] & (within < stride)[None, None, :] & (channel < channels)
    inside = inside & (i >= 0) & (i < height) & (j >= 0) & (j < width)
    origin = 2 * stride
    down = (2 * i + 1 - stride - origin * cell_row).to(tl.float32) / origin
    along = (2 * j + 1 - stride - origin * cell_column).to(tl.float32) / origin
    top, bottom = tl.maximum(cell_row, 0), tl.minimum(cell_row + 1, rows - 1)
    left, right = tl.maximum(cell_column, 0), tl.minimum(cell_column + 1, columns - 1)
    kernels = channels // group
    kept = channel < channels
    cells_a_plane = rows * columns
    first = _plane(grid, batch, channel // group, (taps + offset) * kernels, cells_a_plane)
    picture = _plane(x, batch, channel, channels, height * width)
    total = tl.zeros([block, side, side], tl.float32)
    for tap in tl.static_range(taps):
        row, column, read = _tap(i, j, inside, height, width, tap, taps)
        value = tl.load(picture + row * width + column, mask=read, other=0.0).to(tl.float32)
        plane = first + tap * kernels * cells_a_plane
        total += value * _blended(plane, kept, top, bottom, down, left, right, along, columns)
    if offset:
        plane = first + taps * kernels * cells_a_plane
        total += _blended(plane, kept, top, bottom, down, left, right, along, columns)
    out = _plane(y, batch, channel, channels, height * width) + i * width + j
    tl.store(out, total.to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _input_kernel(
    dy,
    grid,
    dx,
    channels,
    height,
    width,
    rows,
    columns,
    stride,
    group: tl.constexpr,
    taps: tl.constexpr,
    offset: tl.constexpr,
    side: tl.constexpr,
    block: tl.constexpr,
):
    tiles = tl.cdiv(width, side)
    batch = tl.program_id(2)
    channel = (tl.program_id(1) * block + tl.arange(0, block))[:, None, None]
    i = (tl.program_id(0) // tiles * side + tl.arange(0, side))[None, :, None]
    j = (tl.program_id(0) % tiles * side + tl.arange(0, side))[None, None, :]
    inside = (channel < channels) & (i < height) & (j < width)
    kernels = channels // group
    cells_a_plane = rows * columns
    first = _plane(grid, batch, channel // group, (taps + offset) * kernels, cells_a_plane)
    slopes = _plane(dy, batch, channel, channels, height * width)
    total = tl.zeros([block, side, side], tl.float32)
    for tap in tl.static_range(taps):
        row, column, read = _tap(i, j, inside, height, width, taps - 1 - tap, taps)
        top, bottom, down = _between(row, stride, rows)
        left, right, along = _between(column, stride, columns)
        slope = tl.load(slopes + row * width + column, mask=read, other=0.0).to(tl.float32)
        plane = first + tap * kernels * cells_a_plane
        total += slope * _blended(plane, read, top, bottom, down, left, right, along, columns)
    out = _plane(dx, batch, channel, channels, height * width) + i * width + j
    tl.store(out, total.to(dx.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _grid_kernel(
    dy,
    x,
    dgrid,
    channels,
    height,
    width,
    rows,
    columns,
    stride,
    group: tl.constexpr,
    taps: tl.constexpr,
    offset: tl.constexpr,
    side: tl.constexpr,
    block: tl.constexpr,
):
    cell_row, cell_column = tl.program_id(0) // columns, tl.program_id(0) % columns
    batch = tl.program_id(2)
    kernels = channels // group
    kernel = tl.program_id(1) * block + tl.arange(0, block)
    within = tl.arange(0, side)
    i = ((cell_row - 1) * stride + stride // 2 + within)[None, :, None]
    j = ((cell_column - 1) * stride + stride // 2 + within)[None, None, :]
    kept = (kernel < kernels)[:, None, None]
    inside = kept & (within < 2 * stride)[None, :, None] & (within < 2 * stride)[None, None, :]
    inside = inside & (i >= 0) & (i < height) & (j >= 0) & (j < width)
    top, bottom, down = _between(i, stride, rows)
    left, right, along = _between(j, stride, columns)
    weight = tl.where(top == cell_row, 1 - down, 0.0) + tl.where(bottom == cell_row, down, 0.0)
    weight = weight * (tl.where(left == cell_column, 1 - along, 0.0) + tl.where(right == cell_column, along, 0.0))
    cells_a_plane = rows * columns
    first = _plane(dgrid, batch, kernel, (taps + offset) * kernels, cells_a_plane)
    first += cell_row * columns + cell_column
    for tap in tl.static_range(taps + offset):
        total = tl.zeros([block], tl.float32)
        for member in tl.static_range(group):
            channel = (kernel * group + member)[:, None, None]
            slopes = _plane(dy, batch, channel, channels, height * width)
            value = weight * tl.load(slopes + i * width + j, mask=inside, other=0.0).to(tl.float32)
            if tap < taps:
                row, column, read = _tap(i, j, inside, height, width, tap, taps)
                picture = _plane(x, batch, channel, channels, height * width)
                value = value * tl.load(picture + row * width + column, mask=read, other=0.0).to(tl.float32)
            total += tl.sum(tl.sum(value, 2), 1)
        tl.store(first + tap * kernels * cells_a_plane, total.to(dgrid.dtype.element_ty), mask=kernel < kernels)


def forward(x: Tensor, grid: Tensor, *, stride: int, taps: int, offset: bool) -> Tensor:
    """See `grainwise.primitives.malleable_conv.malleable_conv2d`; the result is contiguous."""
    x, grid = x.contiguous(), grid.contiguous()
    y = torch.empty_like(x)
    cells = (grid.shape[2] + 1) * (grid.shape[3] + 1)
    _launch(_forward_kernel, (x, grid, y), x, grid, stride, taps, offset, programs=cells, side=stride, over=x.shape[1])
    return y


def backward(dy: Tensor, x: Tensor, grid: Tensor, *, stride: int, taps: int, offset: bool) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``grid``; ``dy`` [B, C, H, W]."""
    dy, x, grid = dy.contiguous(), x.contiguous(), grid.contiguous()
    dx, dgrid = torch.empty_like(x), torch.empty_like(grid)
    tile = 16
    tiles = triton.cdiv(x.shape[2], tile) * triton.cdiv(x.shape[3], tile)
    _launch(_input_kernel, (dy, grid, dx), x, grid, stride, taps, offset, programs=tiles, side=tile, over=x.shape[1])
    cells = grid.shape[2] * grid.shape[3]
    kernels = grid.shape[1] // (taps + offset)
    _launch(_grid_kernel, (dy, x, dgrid), x, grid, stride, taps, offset, programs=cells, side=2 * stride, over=kernels)
    return dx, dgrid


def _launch(
    kernel: Any,  # noqa: ANN401 -- what triton.jit makes
    tensors: tuple[Tensor, Tensor, Tensor],
    x: Tensor,
    grid: Tensor,
    stride: int,
    taps: int,
    offset: bool,
    *,
    programs: int,
    side: int,
    over: int,
) -> None:
    """Run ``kernel`` on squares of ``side`` pixels, in blocks of the ``over`` channels or kernels."""
    batch, channels, height, width = x.shape
    side = triton.next_power_of_2(side)
    block = min(max(1, VALUES // side**2), triton.next_power_of_2(over))
    kernels = grid.shape[1] // (taps + offset)
    kernel[(programs, triton.cdiv(over, block), batch)](
        *tensors,
        channels,
        height,
        width,
        *grid.shape[2:],
        stride,
        group=channels // kernels,
        taps=taps,
        offset=int(offset),
        side=side,
        block=block,
        num_warps=1 if side * side * block <= VALUES else 4,
    )
