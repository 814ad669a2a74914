"""The level of a degraded picture, told from the picture alone (HyperRes, section 4.4).

The paper's network, as its code has it: a convolution of stride 2, four residual blocks with a max pool by 2 behind each, three
linear layers. It sees 128 x 128 pixels. The code looks at one crop at a random place, so that the same picture gets another
level each time; here a fixed grid of crops covers the picture, their mean is its level, and each says the level of its region.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.network import check_picture, pad_to_multiple
from grainwise.networks.tasks import DENOISE, level_range_of

CROP = 128
"""Side of what the network sees, in pixels."""
BRANCH = 0.1
"""What the residual branches are damped by at first."""


@dataclass(frozen=True, slots=True)
class LevelEstimate:
    """The degradation of one picture.

    Attributes:
        value: in the units of the task (noise level in image units, JPEG quality, scale); the mean of the grid.
        grid: the same for each region, rows of columns from the top left.
    """

    value: float
    grid: tuple[tuple[float, ...], ...]

    def map(self, height: int, width: int) -> Tensor:
        """The regions' values at each pixel, [1, 1, height, width]: linear between the centres of the regions."""
        grid = torch.tensor(self.grid, dtype=torch.float32)[None, None]
        return F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)


class PooledBlock(nn.Module):
    """maxpool(x + conv(relu(conv(x)))), both 3x3."""

    def __init__(self, width: int) -> None:
        """Build both convolutions."""
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / 2, W / 2]."""
        return F.max_pool2d(x + self.conv2(F.relu(self.conv1(x))), 2)


class LevelEstimator(nn.Module):
    """Estimates the level of crops, and of whole pictures.

    Args:
        task: see `grainwise.networks.tasks`.
        level_range: the degradations of level 0 and level 1, between which it was taught; None takes those of the task.
        channels: of the picture.
        width: channels of its convolutions; 64 in the paper.
    """

    def __init__(
        self, *, task: str = DENOISE, level_range: Sequence[float] | None = None, channels: int = 3, width: int = 64
    ) -> None:
        """Build it."""
        super().__init__()
        if width < 1 or channels not in (1, 3):
            raise InputError(
                f"the estimator needs a width, and pictures of 1 or 3 channels, got {width} and {channels}"
            )
        self.task, self.channels, self.width = task, channels, width
        self.level_range = level_range_of(task, level_range)
        self.head = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(PooledBlock(width) for _ in range(4)))
        side = CROP // 2**5
        self.tail = nn.Sequential(
            nn.Flatten(), nn.Linear(width * side**2, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)
        )
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """First weights: Kaiming's, the residual branches damped, the head blind to brightness, the answer half-way.

        The paper's are Kaiming's times 0.001. What tells a level are small differences between neighbours, which brightness
        drowns; with torch's own first weights JPEG quality is learned far more slowly (docs/methods/levels.md).
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.head.weight.sub_(self.head.weight.mean((2, 3), keepdim=True))
        for block in self.blocks:
            block.conv2.weight.mul_(BRANCH)  # type: ignore[operator, union-attr]
        self.tail[-1].bias.fill_(0.5)  # type: ignore[operator]

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {
            "task": self.task, "level_range": list(self.level_range), "channels": self.channels, "width": self.width,
        }  # fmt: skip

    def level(self, value: Tensor) -> Tensor:
        """The level of a degradation in the units of the task: 0 and 1 at the ends of ``level_range``."""
        start, end = self.level_range
        return (value - start) / (end - start)

    def forward(self, x: Tensor) -> Tensor:
        """The level of each crop, [B, channels, 128, 128] -> [B]; about 0 to 1.

        The head computes in the precision of ``x`` under autocast too: bf16 keeps 8 bits of a pixel, and rounding it would add
        to what is to be told.

        Raises:
            InputError: ``x`` has another shape.
        """
        check_picture(x, self.channels)
        if x.shape[2:] != (CROP, CROP):
            raise InputError(
                f"the estimator sees {CROP}x{CROP} pixels, got {list(x.shape)}; give pictures to `estimate`"
            )
        with torch.autocast(x.device.type, enabled=False):
            head: Tensor = self.head(x)
        level: Tensor = self.tail(self.blocks(head))
        return level[:, 0]

    @torch.inference_mode()
    def estimate(self, x: Tensor, *, most: int = 64) -> LevelEstimate:
        """The degradation of a whole picture, the same each time.

        Args:
            x: [1, channels, H, W] in [0, 1] but for its noise; pictures under 128 pixels a side are continued by mirroring.
            most: crops to look at; they cover the picture where so many suffice, and are spread evenly over it otherwise.

        Raises:
            InputError: ``x`` has another shape, or ``most`` is under 1.
        """
        check_picture(x, self.channels)
        if x.shape[0] != 1 or most < 1:
            raise InputError(f"one picture is estimated from at least one crop, got {list(x.shape)} and most={most}")
        if min(x.shape[2:]) < CROP:
            height, width = x.shape[2:]
            x = pad_to_multiple(x, CROP)[:, :, : max(height, CROP), : max(width, CROP)]
        tops, lefts = _grid(x.shape[2], x.shape[3], most)
        crops = [x[:, :, top : top + CROP, left : left + CROP] for top in tops for left in lefts]
        levels = torch.cat([self(torch.cat(crops[first : first + 16])) for first in range(0, len(crops), 16)])
        start, end = self.level_range
        values = (start + levels.double().clamp(0, 1) * (end - start)).view(len(tops), len(lefts))
        rows = tuple(tuple(float(value) for value in row) for row in values.cpu())
        return LevelEstimate(float(values.mean()), rows)


def _grid(height: int, width: int, most: int) -> tuple[list[int], list[int]]:
    """First rows and first columns of at most ``most`` crops of a picture of at least one crop's size."""
    rows, columns = -(-height // CROP), -(-width // CROP)
    if rows * columns > most:
        rows = min(max(1, round((most * height / width) ** 0.5)), most, rows)
        columns = max(1, min(most // rows, columns))
    return _starts(height, rows), _starts(width, columns)


def _starts(length: int, count: int) -> list[int]:
    if count == 1:
        return [(length - CROP) // 2]
    return [index * (length - CROP) // (count - 1) for index in range(count)]
