"""Fitting a `GainPredictor`: run every plan on noisy crops, and learn the excess errors of their cells."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.data.crops import Batches
from grainwise.networks.gain_predictor import CELL, GainPredictor, cell_features
from grainwise.networks.half_unet import HalfUNet
from grainwise.primitives.channels import ChannelPlan

SIDE = 3 * CELL
"""Crops of 3 x 3 cells."""
SEED = 2**31 + 1


def families_of(network: HalfUNet, plans: Sequence[ChannelPlan], count: int = 3) -> list[list[ChannelPlan]]:
    """For up to ``count`` coarse parts among ``plans``, spread over their costs: every width of the finest level."""
    finest, *coarser = network.space.dims
    kinds = list(dict.fromkeys(tuple((dim.name, plan[dim.name]) for dim in coarser) for plan in plans))

    def family(kind: tuple[tuple[str, int], ...]) -> list[ChannelPlan]:
        return [network.space.plan({finest.name: width, **dict(kind)}) for width in finest.widths]

    kinds.sort(key=lambda kind: network.macs_per_pixel(family(kind)[0]))
    steps = [round(i * (len(kinds) - 1) / max(1, count - 1)) for i in range(count)]
    return [family(kinds[step]) for step in dict.fromkeys(steps)]


def cell_errors(network: HalfUNet, plans: Sequence[ChannelPlan], noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared error of each plan in each cell, clipped to [0, 1]: [plans, B, rows, columns]."""
    errors = []
    for plan in plans:
        with torch.inference_mode():
            output = network.extract(plan)(noisy, sigma=sigma)
        errors.append(F.avg_pool2d((output.clamp(0, 1) - clean).square().mean(1, keepdim=True), CELL)[:, 0])
    return torch.stack(errors)


def measure(
    network: HalfUNet,
    families: Sequence[Sequence[ChannelPlan]],
    batches: Batches,
    *,
    crops: int,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Features [n, FEATURES] and excess errors [n, plans] (in units of the noise's variance) of 9 cells a crop."""
    plans = [plan for family in families for plan in family]
    features, targets = [], []
    part = 4
    for first in range(0, crops, part):
        batch = batches.batch(SIDE, part, (SEED, first))
        errors = cell_errors(network, plans, batch.noisy, batch.clean, batch.sigma)
        for index in range(part):
            seen, variance = cell_features(batch.noisy[index : index + 1], batch.sigma[index : index + 1])
            excess = (errors[:, index] - errors[:, index].amin(0)) / variance
            features.append(seen.flatten(1).T)
            targets.append(excess.flatten(1).T)
        if progress is not None:
            progress(first + part, crops)
    return torch.cat(features), torch.cat(targets)


def fit(
    network: HalfUNet,
    families: Sequence[Sequence[ChannelPlan]],
    batches: Batches,
    *,
    crops: int = 400,
    steps: int = 3000,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> GainPredictor:
    """A predictor for ``network``.

    Args:
        network: the supernet, in evaluation mode.
        families: see `GainPredictor`.
        batches: makes the noisy crops, of `SIDE` pixels.
        crops: how many of them, a multiple of 4.
        steps: of AdamW, over all cells at once; the mean squared error of the prediction falls to the conditional mean.
        seed: of the first weights.
        progress: called with the crops done, and all.

    Raises:
        InputError: no crops.
    """
    if crops < 4 or crops % 4:
        raise InputError(f"a predictor is fitted to a multiple of 4 crops, got {crops}")
    features, targets = measure(network, families, batches, crops=crops, progress=progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        predictor = GainPredictor([[str(plan) for plan in family] for family in families])
    predictor.mean.copy_(features.mean(0))
    predictor.spread.copy_(features.std(0).clamp(min=1e-3))
    predictor.scale.copy_(targets.std(0).clamp(min=1e-6))
    optimizer = torch.optim.AdamW(predictor.layers.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    wanted = targets / predictor.scale
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(predictor.relative(features) / predictor.scale, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return predictor.eval().requires_grad_(False)
