"""Width that differs from cell to cell, for benchmarks/adaptive.py: what it gains at equal MACs/px, and its seconds.

Each budget is spent four ways: one plan everywhere (the cost between two plans is interpolated), a route by the shipped
predictor, by an oracle that knows the errors, and by chance.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from adaptive_allocation import allocate
from adaptive_routed import RoutedHalfUNet
from adaptive_tables import cell_sums, tensor_of
from torch import Tensor

from grainwise.evaluation.measure import unit_picture
from grainwise.evaluation.protocol import RGB_U8
from grainwise.networks.gain_predictor import CELL, GainPredictor
from grainwise.networks.half_unet import HalfUNet

Floats = np.ndarray
BUDGETS = (0.15, 0.3, 0.5, 0.7, 0.85)
"""Where the budgets lie between the cheapest and the dearest plan of a family, along the logarithm of the cost."""


@dataclass(frozen=True)
class Row:
    """One noise level and budget: dB, mean over the pictures; ``cost`` is what the routes cost, in MACs/px."""

    sigma: int
    budget: float
    cost: float
    uniform: float
    predicted: float
    oracle: float
    chance: float


def squared_error(output: Tensor, clean: Tensor) -> Floats:
    """Per pixel, mean over the channels, of the output rounded to 8 bits; in image units squared."""
    rounded = (output.clamp(0, 1) * 255).round() / 255
    result: Floats = (rounded - clean).square().mean(1)[0].double().numpy()
    return result


def psnr(error: float) -> float:
    """dB of a mean squared error in image units."""
    return -10 * math.log10(error)


class Family:
    """One family of plans: the routed network, and the plain ones."""

    def __init__(self, network: HalfUNet, plans: list) -> None:
        self.plans = plans
        self.plain = [network.extract(plan) for plan in plans]
        self.routed = RoutedHalfUNet(network, plans)
        self.costs = np.array([network.macs_per_pixel(plan) for plan in plans])


def measure(
    family: Family, index: int, predictor: GainPredictor, pictures: list[tuple[str, Floats]], sigma: int
) -> list[Row]:
    """Every budget of a family at one noise level."""
    budgets = np.exp(np.log(family.costs[0]) + np.array(BUDGETS) * np.log(family.costs[-1] / family.costs[0]))
    uniform, spent = [], []
    scores: dict[str, list[list[float]]] = {kind: [] for kind in ("predicted", "oracle", "chance")}
    level = torch.tensor([sigma / 255])
    generator = np.random.default_rng(0)
    for name, picture in pictures:
        unit = unit_picture(picture, name)
        noisy_pixels = RGB_U8.noisy(unit, sigma / 255)
        noisy, clean = tensor_of(noisy_pixels), tensor_of(unit)
        outputs = [squared_error(plain(noisy, sigma=level), clean) for plain in family.plain]
        errors = np.stack([cell_sums(output) for output in outputs])
        areas = cell_sums(np.ones_like(outputs[0]))
        uniform.append([psnr(output.mean()) for output in outputs])
        guess = predictor(noisy, level)[index].numpy()
        truth = errors / areas
        found: dict[str, list[float]] = {kind: [] for kind in scores}
        for budget in budgets:
            told = {"predicted": guess, "oracle": truth, "chance": generator.random(truth.shape) * np.ptp(truth)}
            for kind, what in told.items():
                route = allocate(what, family.costs, float(budget), areas)
                restored = family.routed(noisy, torch.from_numpy(route.route), sigma=level)
                found[kind].append(psnr(squared_error(restored, clean).mean()))
                if kind == "predicted":
                    spent.append(route.cost)
        for kind, values in found.items():
            scores[kind].append(values)
    costs = np.array(spent).reshape(len(pictures), -1)
    curve = np.array(uniform)
    rows = []
    for position, budget in enumerate(budgets):
        same = [
            float(np.interp(np.log(costs[n, position]), np.log(family.costs), curve[n])) for n in range(len(pictures))
        ]
        of = {kind: float(np.mean([values[position] for values in scores[kind]])) for kind in scores}
        rows.append(Row(sigma, float(budget), float(costs[:, position].mean()), float(np.mean(same)), **of))
    return rows


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median wall-clock of a call, after one for warming up."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def overhead(family: Family, predictor: GainPredictor) -> dict[str, float]:
    """Seconds on one picture of 1024x1024: each plan plain and routed, mixed by blocks of cells, and the prediction."""
    x, level = torch.rand(1, 3, 1024, 1024), torch.tensor([0.1])
    cells = 1024 // CELL
    plain = [seconds(lambda net=net: net(x, sigma=level)) for net in family.plain]  # type: ignore[misc]
    routed = [
        seconds(lambda i=i: family.routed(x, torch.full((cells, cells), i), sigma=level))  # type: ignore[misc]
        for i in range(len(plain))
    ]
    blocks = torch.randint(len(plain), (4, 4), generator=torch.Generator().manual_seed(0))
    mixed = blocks.repeat_interleave(cells // 4, 0).repeat_interleave(cells // 4, 1)
    expected = float(np.mean([plain[int(i)] for i in mixed.flatten()]))
    taken = seconds(lambda: family.routed(x, mixed, sigma=level))
    guess = seconds(lambda: predictor(x, level))
    return {
        "routed_over_plain_narrowest": routed[0] / plain[0],
        "routed_over_plain_widest": routed[-1] / plain[-1],
        "mixed_over_mean_of_plain": taken / expected,
        "prediction_over_mean_of_plain": guess / expected,
    }


def cells_part(
    network: HalfUNet, predictor: GainPredictor, pictures: list[tuple[str, Floats]], sigmas: Sequence[int]
) -> dict[str, Any]:
    """The seconds, and the rows of every family, as JSON values."""
    families = [Family(network, plans) for plans in predictor.plans(network.space)]
    with torch.inference_mode():
        speed = overhead(families[len(families) // 2], predictor)
        tables = [
            {
                "plans": [str(family.plans[0]), str(family.plans[-1])],
                "rows": [asdict(row) for sigma in sigmas for row in measure(family, index, predictor, pictures, sigma)],
            }
            for index, family in enumerate(families)
        ]
    return {"speed": speed, "tables": tables}
