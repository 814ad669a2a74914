"""The routers of benchmarks/adaptive.py: what each plan would leave of a picture's noise, told from a glance at the picture.

Two routers, one contract: from a `Reading` of n pictures each tells a loss of every plan, [n, plans], of which only differences
count. A budget is then kept by a price on multiply-adds (`adaptive_allocation`): a picture takes the plan whose loss plus
price times cost is least. `GainRouter` tells the error in dB. `GateRouter` is DDS-Net's gate (section III-C): its loss is the
negative logit, and the bias by which such a gate is calibrated is the price.

A reading takes one row of cells in `READ_EVERY`, so that it costs little beside the cheapest plan.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.gain_predictor import CELL, FEATURES, cell_features
from grainwise.networks.half_resolution import to_half_resolution
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import check_picture, noise_map
from grainwise.primitives.gate import HIDDEN, GateHead

READ_EVERY = 8
"""One row of cells in so many is read."""
MOST_READ = 2**18
"""Pixels that are read at most, about: large pictures are read more thinly."""
DB = 10 / math.log(10)
TEXTURE = FEATURES + 2
_MEANS = (1, 3, 5)
"""Of the features of a cell, the logarithms of means."""
_MARGIN = 8
"""Rows read around a row of cells: as many as pictures are mirrored to at their end."""
_LEAST_ENERGY = 1e-12


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of n pictures, float32.

    Attributes:
        sigma: [n], noise level in image units.
        texture: [n, TEXTURE]: the features of `cell_features` but the level, means over the cells read; then the logarithm of
            the mean of the cells' gradient energy, for each scale.
        tap: [n, C], the mean of the first convolution behind a ReLU.
        energy: [n, C], its mean square, before the ReLU.
    """

    sigma: Tensor
    texture: Tensor
    tap: Tensor
    energy: Tensor

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.sigma)

    @classmethod
    def of_means(cls, sigma: Tensor, cells: Tensor, gradients: Tensor, tap: Tensor, energy: Tensor) -> "Reading":
        """From means over cells: ``cells`` [n, FEATURES], ``gradients`` [n, 3] of `cell_gradients`, ``tap`` and ``energy``."""
        kept = [index for index in range(FEATURES) if index != FEATURES - 2]
        return cls(
            sigma.float(), torch.cat([cells[:, kept], gradients.log1p()], 1).float(), tap.float(), energy.float()
        )

    @classmethod
    def together(cls, readings: Sequence["Reading"]) -> "Reading":
        """All in one."""
        return cls(*(torch.cat([getattr(reading, part.name) for reading in readings]) for part in fields(cls)))


def cell_gradients(cells: Tensor) -> Tensor:
    """Of features of cells [FEATURES, ...] the means of gradient energy over the noise's, [3, ...], not their logarithms."""
    return cells[list(_MEANS)].expm1()


class PictureReader:
    """Reads pictures for routers.

    Args:
        network: the supernet.
        channels: of its first convolution that are read; None for as many as its narrowest plan has.

    Raises:
        InputError: a network that is told something else than a noise level.
    """

    def __init__(self, network: HalfUNet, channels: int | None = None) -> None:
        """Take the first convolution, in float32."""
        if not network.facts.needs_sigma or network.facts.level_range is not None:
            raise InputError("pictures are read for a denoiser of plain convolutions, got one that takes another level")
        finest = network.space.dims[0]
        least, most = finest.widths[0], finest.widths[-1]
        self.channels = least if channels is None else channels
        if not 1 <= self.channels <= most:
            raise InputError(f"of the first convolution 1 to {most} channels can be read, got {channels}")
        parts: Any = network.extract(network.space.widest if self.channels > least else network.space.narrowest)
        self._head: nn.Module = parts.head.float().requires_grad_(False)
        self._multiple, self._colours = network.facts.size_multiple, network.facts.channels

    def __call__(self, x: Tensor, sigma: Tensor) -> Reading:
        """Read one picture.

        Args:
            x: [1, C, H, W], RGB in [0, 1].
            sigma: noise level in image units: [1], or a map [1, 1, H, W].

        Raises:
            InputError: not one picture, or a level that does not fit it.
        """
        check_picture(x, self._colours)
        return self.of_rows((x.shape[2], x.shape[3]), lambda top, bottom: x[:, :, top:bottom], noise_map(sigma, x))

    def of_rows(self, size: tuple[int, int], rows: Callable[[int, int], Tensor], level: Tensor) -> Reading:
        """Read one picture that is given by the row, so that no more of it becomes a tensor than is read.

        Args:
            size: height and width.
            rows: gives the rows from the first to before the second, [1, C, h, W].
            level: [1, 1, 1, 1], or a map [1, 1, H, W].

        Raises:
            InputError: not one picture.
        """
        total: list[Tensor] = []
        weight = 0.0
        for row in rows_read(*size):
            top, bottom = row * CELL, min((row + 1) * CELL, size[0])
            above, below = max(0, top - _MARGIN), min(size[0], bottom + _MARGIN)
            own = level if level.shape[2] == 1 else level[:, :, above:below]
            cells, tap, energy = self.cells(rows(above, below), own, skip=top - above, height=bottom - top)
            area = cell_areas(bottom - top, size[1]).to(cells.device)
            sums = [(mean * area).sum((1, 2)) for mean in (cells, cell_gradients(cells), tap, energy)]
            total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
            weight += float(area.sum())
        return Reading.of_means(level.mean()[None], *((one / weight)[None] for one in total))

    def cells(
        self, x: Tensor, level: Tensor, *, skip: int = 0, height: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features [FEATURES, rows, columns], tap and energy [C, rows, columns]: means over cells.

        Args:
            x: [1, C, H, W].
            level: [1, 1, 1, 1], or a map.
            skip: rows of ``x`` above the first cell, an even number.
            height: rows behind them that are read; None for all.

        Raises:
            InputError: not one picture.
        """
        check_picture(x, self._colours)
        height = x.shape[2] - skip if height is None else height
        own = level if level.shape[2] == 1 else level[:, :, skip : skip + height]
        cells, _ = cell_features(x[:, :, skip : skip + height], own.expand(-1, 1, height, x.shape[3]))
        stream = to_half_resolution(x, level, multiple=self._multiple, dtype=torch.float32)
        first = self._head(stream)[:, : self.channels, skip // 2 : skip // 2 - (-height // 2), : -(-x.shape[3] // 2)]
        tap, energy = (F.avg_pool2d(part, CELL // 2, ceil_mode=True)[0] for part in (first.relu(), first.square()))
        return cells, tap, energy


def rows_read(height: int, width: int) -> range:
    """The rows of cells of a picture that are read."""
    rows = -(-height // CELL)
    every = max(READ_EVERY, -(-height * width // MOST_READ))
    return range(min(1, rows - 1), rows, every)


def cell_areas(height: int, width: int) -> Tensor:
    """Pixels of each cell, [rows, columns]."""
    down, right = (
        torch.tensor([min(CELL, length - at) for at in range(0, length, CELL)]).float() for length in (height, width)
    )
    return down[:, None] * right


class PictureRouter(nn.Module, ABC):
    """What both routers share.

    Attributes:
        plans: the plans, as text, cheapest first.
        channels: of the first convolution that it reads.
    """

    plans: tuple[str, ...]
    channels: int

    @abstractmethod
    def forward(self, reading: Reading) -> Tensor:
        """The loss of every plan, [n, plans]."""


class GainRouter(PictureRouter):
    """Tells what each plan leaves, in dB: minus the PSNR that it would reach.

    The mean of a few small perceptrons, of the PSNR of the cheapest plan above that of the noise, and of what each dearer plan
    gains over the cheapest.

    Args:
        plans: as text, cheapest first, at least two.
        channels: of the first convolution, at least 1.
        reads: what it looks at beside the level: "texture", "tap".
        hidden: width, at least 1.
        members: how many perceptrons, at least 1.

    Raises:
        InputError: fewer than two plans, another thing to look at, or a count below 1.
    """

    mean: Tensor
    spread: Tensor
    middle: Tensor
    scale: Tensor

    def __init__(
        self,
        plans: Sequence[str],
        channels: int,
        *,
        reads: Sequence[str] = ("texture", "tap"),
        hidden: int = 32,
        members: int = 3,
    ) -> None:
        """Make the regressions with fresh weights."""
        super().__init__()
        _check_plans(plans)
        if not set(reads) <= {"texture", "tap"}:
            raise InputError(f"a gain router reads texture and tap, got {list(reads)}")
        if min(channels, hidden, members) < 1:
            raise InputError(f"channels, hidden and members are at least 1, got {channels}, {hidden} and {members}")
        self.plans, self.channels, self.reads = tuple(plans), channels, tuple(reads)
        inputs = 1 + TEXTURE * ("texture" in reads) + 2 * channels * ("tap" in reads)
        self.members = nn.ModuleList(_perceptron(inputs, hidden, len(plans)) for _ in range(members))
        for name, size, value in (
            ("mean", inputs, 0),
            ("spread", inputs, 1),
            ("middle", len(plans), 0),
            ("scale", len(plans), 1),
        ):
            self.register_buffer(name, torch.full((size,), float(value)))

    def inputs(self, reading: Reading) -> Tensor:
        """[n, inputs], before they are normalised.

        Raises:
            InputError: a reading of fewer channels.
        """
        if reading.energy.shape[1] < self.channels:
            raise InputError(f"this router reads {self.channels} channels, got {reading.energy.shape[1]}")
        level = reading.sigma.log()[:, None]
        found = [level]
        if "texture" in self.reads:
            found.append(reading.texture)
        if "tap" in self.reads:
            energy = reading.energy[:, : self.channels] + _LEAST_ENERGY
            found += [energy.log() - 2 * level, reading.tap[:, : self.channels] / energy.sqrt()]
        return torch.cat(found, 1)

    def told(self, inputs: Tensor) -> list[Tensor]:
        """What each member tells, normalised: [n, plans], the first column the cheapest plan, the others the gains."""
        seen = (inputs - self.mean) / self.spread
        return [member(seen) for member in self.members]

    def forward(self, reading: Reading) -> Tensor:
        """See `PictureRouter.forward`."""
        told = torch.stack(self.told(self.inputs(reading))).mean(0) * self.scale + self.middle
        cheapest = told[:, :1] - 2 * DB * reading.sigma.log()[:, None]
        return -torch.cat([cheapest, cheapest + told[:, 1:]], 1)


class GateRouter(PictureRouter):
    """DDS-Net's gate on the pooled first convolution: minus its logits.

    Args:
        plans: as text, cheapest first, at least two.
        channels: of the first convolution.
        hidden: of the gate.
    """

    def __init__(self, plans: Sequence[str], channels: int, *, hidden: int = HIDDEN) -> None:
        """Build the gate, untrained."""
        super().__init__()
        _check_plans(plans)
        self.plans, self.channels = tuple(plans), channels
        self.gate = GateHead(max(8, channels // 4), len(plans), hidden=hidden, tap=channels)

    def forward(self, reading: Reading) -> Tensor:
        """See `PictureRouter.forward`."""
        logits: Tensor = self.gate(reading.tap[:, : self.channels])
        return -logits


def _check_plans(plans: Sequence[str]) -> None:
    if len(plans) < 2 or len(set(plans)) != len(plans):
        raise InputError(f"a router chooses among at least 2 plans that differ, got {list(plans)}")


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, outputs)
    )
