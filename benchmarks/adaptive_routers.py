"""Pictures and tiles as units that a budget is spent on, for benchmarks/adaptive.py, and the routers that are compared.

A router says how much is lost with each plan in each unit, [n, plans]; one Lagrangian then spends the budget
(`adaptive_allocation.allocate`). For a gate the loss is its negative logit; the bias by which DDS-Net's gates are
calibrated is then the price of the Lagrangian.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from adaptive_allocation import allocate
from adaptive_networks import DB, PictureRouter, Reading, rows_read
from adaptive_tables import Table
from adaptive_training import fit_gain_router, fit_gate_router

Floats = np.ndarray
Router = Callable[["Units"], Floats]
"""Loss of every plan in every unit, [n, plans]: what it leaves in dB (minus its PSNR), or minus a logit."""
READS: dict[str, tuple[str, ...]] = {"level": (), "texture": ("texture",), "texture and tap": ("texture", "tap")}
"""What the gain predictor looks at beside the level."""
READ_WHOLE = 4
"""Tiles of fewer cells a side are read whole."""


@dataclass(frozen=True)
class Units:
    """Pictures or tiles.

    Attributes:
        mse: [n, plans], mean squared error, as rounded results have it.
        area: [n], pixels.
        picture: [n].
        reading: what routers read.
    """

    mse: Floats
    area: Floats
    picture: Floats
    reading: Reading

    def __len__(self) -> int:
        return len(self.area)

    @property
    def psnr(self) -> Floats:
        """[n, plans], dB."""
        psnr: Floats = -DB * np.log(self.mse)
        return psnr

    @property
    def gains(self) -> Floats:
        """[n, plans - 1]: dB that each plan is above the cheapest."""
        gains: Floats = self.psnr[:, 1:] - self.psnr[:, :1]
        return gains

    def where(self, chosen: Floats) -> "Units":
        """Some of them, by a mask."""
        mask = torch.from_numpy(chosen)
        parts = (getattr(self.reading, name)[mask] for name in Reading.__slots__)
        return Units(self.mse[chosen], self.area[chosen], self.picture[chosen], Reading(*parts))


def units(table: Table, *, side: int | None = None, sets: Sequence[str] | None = None) -> Units:
    """The pictures of ``table``, or its tiles; routers read the rows of cells that they would read of such a picture.

    Args:
        table: the cells.
        side: of tiles, in cells; None for whole pictures.
        sets: folders; None for all.
    """
    folders = np.array([str(name).split("/")[0] for name in table.names])
    chosen = np.flatnonzero(np.ones(len(table.area), bool) if sets is None else np.isin(folders, sets)[table.picture])
    picture, row, column, area = (one[chosen] for one in (table.picture, table.row, table.column, table.area))
    places = [0 * row, 0 * row] if side is None else [row // side, column // side]
    distinct, index = np.unique(np.stack([picture, *places], 1), axis=0, return_inverse=True)
    index = index.ravel()
    if side is None:
        read = np.array([at in rows_read(*table.sizes[one]) for one, at in zip(picture, row, strict=True)])
    else:
        read = (row % side == 1) | (side < READ_WHOLE)
        unread = np.bincount(index, read)[index] == 0
        read |= unread
    weights = area * read

    def mean(values: Floats, over: Floats | None = None) -> Floats:
        total = np.zeros((len(distinct), values.shape[1]))
        np.add.at(total, index, values * (1 if over is None else over[:, None]))
        return total / np.bincount(index, area if over is None else over)[:, None]

    seen = (table.texture, np.expm1(table.texture[:, 1:6:2]), table.tap, table.energy)
    means = (torch.from_numpy(mean(values[chosen], weights)) for values in seen)
    return Units(
        mse=mean(table.errors[chosen]),
        area=np.bincount(index, area),
        picture=distinct[:, 0],
        reading=Reading.of_means(torch.from_numpy(table.sigma[distinct[:, 0]]), *means),
    )


def together(parts: Sequence[Units]) -> Units:
    """Units of several noises as one set; a picture with another noise is another picture."""
    starts = np.cumsum([0, *(part.picture.max() + 1 for part in parts[:-1])])
    return Units(
        mse=np.concatenate([part.mse for part in parts]),
        area=np.concatenate([part.area for part in parts]),
        picture=np.concatenate([part.picture + start for part, start in zip(parts, starts, strict=True)]),
        reading=Reading.together([part.reading for part in parts]),
    )


def losses_of(router: PictureRouter) -> Router:
    """A router of pictures as one of units."""

    def losses(known: Units) -> Floats:
        with torch.inference_mode():
            told: Floats = router(known.reading).double().numpy()
        return told

    return losses


def fit_gains(learned: Units, plans: Sequence[str], channels: int) -> Mapping[str, PictureRouter]:
    """The gain predictors of `READS`."""
    psnr = torch.from_numpy(learned.psnr)
    return {
        name: fit_gain_router(learned.reading, psnr, plans, reads=reads, channels=channels)
        for name, reads in READS.items()
    }


def fit_gates(
    learned: Units, plans: Sequence[str], costs: Floats, budgets: Sequence[float]
) -> Mapping[float, PictureRouter]:
    """DDS-Net's gates, one for each budget; they read all channels of the first convolution."""
    psnr, price = torch.from_numpy(learned.psnr), torch.from_numpy(costs)
    return {budget: fit_gate_router(learned.reading, psnr, plans, price, budget) for budget in budgets}


def spend(losses: Floats, costs: Floats, budget: float, weights: Floats | None = None) -> Floats:
    """The plan of each unit, [n], so that the mean cost, weighted by ``weights``, keeps ``budget``."""
    shares = np.ones(len(losses)) if weights is None else weights
    route: Floats = allocate(losses.T[:, None], costs, budget, shares[None]).route[0]
    return route


def taken(values: Floats, route: Floats) -> Floats:
    """[n, plans] -> [n], of the plan of each."""
    return values[np.arange(len(route)), route]


def along(values: Floats, costs: Floats, cost: float) -> Floats:
    """[n, plans] at one ``cost`` for all: linear in the logarithm of the cost between two plans, [n]."""
    return np.array([np.interp(np.log(cost), np.log(costs), one) for one in values])


def saved(score: float, curve: Floats, costs: Floats, cost: float) -> float:
    """By how much cheaper than one plan for all a route is that scores ``score`` at ``cost``.

    That plan is the cheapest that scores as much, between two plans as in `along`; where none does, the best one, and where the
    cheapest scores more, the cheapest.
    """
    better = [index for index in range(len(curve)) if index == 0 or curve[index] > curve[:index].max()]
    return 1 - cost / float(np.exp(np.interp(score, curve[better], np.log(costs[better]))))
