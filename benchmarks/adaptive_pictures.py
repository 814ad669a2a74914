"""Whole pictures and tiles, for benchmarks/adaptive.py: budgets that are kept on the mean, against one plan for all.

- Pictures: each is a unit, whatever its size; a budget is the mean of their MACs/px. Objective "psnr": the mean PSNR of the
  pictures. Objective "error": the PSNR of their mean squared error, to which the badly restored pictures matter most.
- Tiles: those of one picture are units by their area, and what counts is the squared error of the picture. Results of whole
  pictures are cut: no tile reads a halo, and none is seen at its border. What a halo costs is told beside it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from adaptive_networks import DB, PictureReader
from adaptive_routers import Router, Units, along, saved, spend, taken
from torch import nn

from grainwise.networks.half_unet import HalfUNet

Floats = np.ndarray
HALOS = (24, 92)
"""Pixels that a tile reads around itself: where it blends with another plan's (docs/decisions/0008), and all that count."""


@dataclass(frozen=True)
class Score:
    """One router at one budget.

    Attributes:
        router: its name.
        budget: greatest mean cost, MACs/px.
        macs: what was spent, mean.
        psnr: dB, by the objective.
        gain: dB over one plan for all at equal MACs/px.
        gain_seconds: dB over one plan for all at equal seconds, those of reading the picture included.
        saved: by which share it is cheaper than one plan for all of the same PSNR.
    """

    router: str
    budget: float
    macs: float
    psnr: float
    gain: float
    gain_seconds: float
    saved: float


Told = Callable[[Units, float], Floats]
"""Losses [n, plans] that a router tells for a budget."""


@dataclass(frozen=True)
class Prices:
    """What the plans cost.

    Attributes:
        costs: MACs/px.
        seconds: for a pixel.
        reading: seconds for a pixel that a router takes.
    """

    costs: Floats
    seconds: Floats
    reading: float


def compare(
    known: Units, told: Mapping[str, Told], prices: Prices, budgets: Sequence[float], *, objective: str
) -> list[Score]:
    """Every router at every budget over pictures.

    Args:
        known: the pictures.
        told: routers; for the objective "error" those whose losses are errors in dB.
        prices: of the plans.
        budgets: mean MACs/px.
        objective: "psnr" or "error".
    """
    scores = []
    for budget in budgets:
        for name, losses_of in told.items():
            losses = losses_of(known, budget)
            route = spend(losses if objective == "psnr" else np.exp(losses / DB), prices.costs, budget)
            scores.append(scored(name, known, route, prices, budget, objective=objective))
    return scores


def scored(name: str, known: Units, route: Floats, prices: Prices, budget: float, *, objective: str = "psnr") -> Score:
    """What a route [n] reaches."""
    costs, seconds = prices.costs, prices.seconds
    values = known.psnr if objective == "psnr" else -DB * np.log(known.mse.mean(0, keepdims=True))
    reached = taken(known.psnr, route).mean() if objective == "psnr" else -DB * np.log(taken(known.mse, route).mean())
    macs = float(costs[route].mean())
    return Score(
        router=name,
        budget=budget,
        macs=macs,
        psnr=float(reached),
        gain=float(reached - along(values, costs, macs).mean()),
        gain_seconds=float(reached - along(values, seconds, float(seconds[route].mean()) + prices.reading).mean()),
        saved=saved(float(reached), values.mean(0), costs, macs),
    )


def with_price(router: Router, learned: Units, known: Units, costs: Floats, budget: float) -> Floats:
    """The route of pictures that are not known together: at the price that keeps the budget on what was learned from."""
    losses, low = router(learned), 0.0
    high = float(np.ptp(losses))
    for _ in range(60):
        middle = (low + high) / 2
        dear = costs[(losses + middle * costs / costs[0]).argmin(1)].mean() > budget
        low, high = (middle, high) if dear else (low, middle)
    route: Floats = (router(known) + high * costs / costs[0]).argmin(1)
    return route


def tiles(known: Units, told: Mapping[str, Told], prices: Prices, budgets: Sequence[float]) -> list[Score]:
    """The same over the tiles of each picture, the mean of the pictures; a picture spends its budget by itself.

    What is saved is that of the means, against one plan for all pictures.
    """
    costs, seconds, scores = prices.costs, prices.seconds, []
    for budget in budgets:
        for name, losses_of in told.items():
            losses = np.exp(losses_of(known, budget) / DB)
            rows, curves = [], []
            for picture in np.unique(known.picture):
                own = known.where(known.picture == picture)
                share = own.area / own.area.sum()
                route = spend(losses[known.picture == picture], costs, budget, own.area)
                curve = -DB * np.log(share @ own.mse)
                reached = -DB * np.log(share @ taken(own.mse, route))
                macs, time_taken = float(share @ costs[route]), float(share @ seconds[route]) + prices.reading
                equal = (
                    np.interp(np.log(spent), np.log(table), curve)
                    for spent, table in ((macs, costs), (time_taken, seconds))
                )
                rows.append((macs, reached, *(reached - one for one in equal)))
                curves.append(curve)
            means = [float(value) for value in np.mean(rows, 0)]
            scores.append(Score(name, budget, *means, saved(means[1], np.mean(curves, 0), costs, means[0])))
    return scores


def halo_price(side: int, halo: int) -> float:
    """By which share a square tile of ``side`` pixels is dearer with a halo."""
    return (1 + 2 * halo / side) ** 2 - 1


def seconds_of(plain: Sequence[nn.Module], *, size: tuple[int, int] = (512, 768), repeats: int = 7) -> Floats:
    """Processor seconds of each plan for a pixel, median of ``repeats`` turns in which each plan runs once."""
    x, level = torch.rand(1, 3, *size), torch.tensor([0.1])
    taken_by: list[list[float]] = [[] for _ in plain]
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for index, network in enumerate(plain):
                start = time.process_time()
                network(x, sigma=level)
                if turn:
                    taken_by[index].append(time.process_time() - start)
    return np.median(taken_by, 1) / (size[0] * size[1])  # type: ignore[no-any-return]


def reading_seconds(network: HalfUNet, *, size: tuple[int, int] = (512, 768)) -> float:
    """Processor seconds of reading a picture for a router, for a pixel of it."""
    reader, picture, level = PictureReader(network), torch.rand(1, 3, *size), torch.tensor([0.1])
    with torch.inference_mode():
        return median_seconds(lambda: reader(picture, level)) / (size[0] * size[1])


def median_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Median processor time of a call, after one for warming up."""
    run()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return float(np.median(spent))
