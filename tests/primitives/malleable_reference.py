"""The malleable convolution as plain loops over numbers: what every form is held against."""

import math

import torch
from torch import Tensor


def reference(x: Tensor, grid: Tensor, *, stride: int, kernel: int, offset: bool) -> Tensor:
    """The definition, pixel by pixel."""
    batch, channels, height, width = x.shape
    taps = kernel * kernel
    kernels = grid.shape[1] // (taps + offset)
    group = channels // kernels
    y = torch.zeros_like(x)
    for b in range(batch):
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    total = 0.0
                    for t in range(taps):
                        row, column = i + t // kernel - kernel // 2, j + t % kernel - kernel // 2
                        if 0 <= row < height and 0 <= column < width:
                            weight = blended(grid[b, t * kernels + c // group], i, j, stride)
                            total += weight * float(x[b, c, row, column])
                    if offset:
                        total += blended(grid[b, taps * kernels + c // group], i, j, stride)
                    y[b, c, i, j] = total
    return y


def blended(cells: Tensor, i: int, j: int, stride: int) -> float:
    """The grid [gh, gw] at pixel (i, j), bilinear between the centres of the cells."""
    top, bottom, down = _between(i, stride, cells.shape[0])
    left, right, along = _between(j, stride, cells.shape[1])
    upper = (1 - along) * float(cells[top, left]) + along * float(cells[top, right])
    lower = (1 - along) * float(cells[bottom, left]) + along * float(cells[bottom, right])
    return (1 - down) * upper + down * lower


def _between(pixel: int, stride: int, count: int) -> tuple[int, int, float]:
    place = (pixel + 0.5) / stride - 0.5
    cell = math.floor(place)
    return max(cell, 0), min(cell + 1, count - 1), place - cell
