"""Square cells of a feature map: taken out with a margin of their surroundings, computed apart, and put back.

This is how a convolution has a different width in different places without computing a pixel twice: each group of cells
takes the channels that its plan has; a channel that a neighbour lacks reads as zero there.

Shape letters: H and W size, C channels, k side of a cell, m margin, n cells of a group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that are computed together.

    Args:
        runs: neighbours in a row, (row, first column, column after the last), in reading order.
        count: number of cells.
    """

    runs: tuple[tuple[int, int, int], ...]
    count: int

    @classmethod
    def where(cls, chosen: Tensor) -> "Group":
        """The cells that are True in ``chosen`` [rows, columns]."""
        runs = []
        for row, cells in enumerate(chosen.tolist()):
            start = None
            for column, cell in enumerate([*cells, False]):
                if cell and start is None:
                    start = column
                elif not cell and start is not None:
                    runs.append((row, start, column))
                    start = None
        return cls(tuple(runs), int(chosen.sum()))


@dataclass(frozen=True, slots=True)
class Canvas:
    """A feature map with a margin of zeros, in cells of ``side``, stored so that a cell's channels lie together.

    Args:
        data: [rows * side + 2 * margin, columns * side + 2 * margin, C]; zero outside the map.
        side: of a cell.
        margin: on each side of the map; the greatest that can be taken along with a cell.
        height, width: of the map, which may end inside the last cells.
    """

    data: Tensor
    side: int
    margin: int
    height: int
    width: int

    @classmethod
    def empty(cls, like: Tensor, size: tuple[int, int], channels: int, *, side: int, margin: int) -> "Canvas":
        """A canvas of zeros for a map of ``size`` (height, width), of the dtype and device of ``like``."""
        rows, columns = (-(-length // side) * side + 2 * margin for length in size)
        return cls(like.new_zeros(rows, columns, channels), side, margin, *size)

    @classmethod
    def of(cls, x: Tensor, *, side: int, margin: int) -> "Canvas":
        """A canvas with a copy of ``x`` [1, C, H, W]."""
        canvas = cls.empty(x, (x.shape[2], x.shape[3]), x.shape[1], side=side, margin=margin)
        canvas.inside().copy_(x)
        return canvas

    def inside(self) -> Tensor:
        """The map, [1, C, H, W]: a view."""
        m = self.margin
        return self.data[m : m + self.height, m : m + self.width].permute(2, 0, 1)[None]

    def take(self, group: Group, channels: int, margin: int) -> Tensor:
        """The first ``channels`` of the cells with ``margin`` around them: [n, channels, k + 2m, k + 2m], channels_last."""
        windows = self._windows(channels, margin)
        cells = self.data.new_empty(group.count, *windows.shape[2:])
        done = 0
        for row, start, end in group.runs:  # copying runs is three times as fast as indexing
            cells[done : done + end - start].copy_(windows[row, start:end])
            done += end - start
        return cells.permute(0, 3, 1, 2)

    def put(self, group: Group, cells: Tensor) -> None:
        """Write ``cells`` [n, C', k, k] into their places, over the first C' channels."""
        windows = self._windows(cells.shape[1], 0)
        values = cells.permute(0, 2, 3, 1)
        done = 0
        for row, start, end in group.runs:
            windows[row, start:end].copy_(values[done : done + end - start])
            done += end - start

    def clear_outside(self) -> None:
        """Zero what was written beyond the map's end, inside its last cells."""
        m = self.margin
        self.data[m + self.height :] = 0
        self.data[:, m + self.width :] = 0

    def clear_ring(self, group: Group, cells: Tensor, margin: int) -> None:
        """Zero the parts of ``cells`` [n, C, k + 2m, k + 2m], taken or computed with ``margin``, that lie outside the map."""
        below, right = self.height + margin, self.width + margin
        done = 0
        for row, start, end in group.runs:
            part = cells[done : done + end - start]
            done += end - start
            if row == 0:
                part[:, :, :margin] = 0
            if (row + 1) * self.side + margin > self.height:
                part[:, :, below - row * self.side :] = 0
            if start == 0:
                part[:1, :, :, :margin] = 0
            for column in range(end - 1, start - 1, -1):
                if (column + 1) * self.side + margin <= self.width:
                    break
                part[column - start, :, :, right - column * self.side :] = 0

    def _windows(self, channels: int, margin: int) -> Tensor:
        """Every cell with its margin, [rows, columns, k + 2m, k + 2m, channels]: an overlapping view."""
        down, right, deep = self.data.stride()
        rows = (self.data.shape[0] - 2 * self.margin) // self.side
        columns = (self.data.shape[1] - 2 * self.margin) // self.side
        size = self.side + 2 * margin
        start = (self.margin - margin) * (down + right)
        return torch.as_strided(
            self.data,
            (rows, columns, size, size, channels),
            (down * self.side, right * self.side, down, right, deep),
            start,
        )
