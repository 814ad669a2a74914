"""What the networks of benchmarks/dds_net.py cost, and for how long each trains."""

import math

import numpy as np
import torch

from grainwise.networks.ratios import RATIOS, RatioNetwork
from grainwise.networks.registry import create_network
from grainwise.training.recipe import Recipe
from grainwise.training.samplers import sampler_of
from grainwise.training.supernet import SandwichSettings

SHARED = 16
"""I-Nets that share the training of one supernet: as many sub-networks of its routing space are scored."""


def passes_of(recipe: Recipe) -> int:
    """Sub-networks that a step trains, each by a pass of its own."""
    assert isinstance(recipe.method, SandwichSettings)
    return recipe.method.subnets


def ratio_for(recipe: Recipe, budget: float) -> float:
    """The ratio at which the backbone itself, static, costs nearest to ``budget``."""
    most = max(RATIOS[1], *recipe.config.get("ratios", RATIOS))
    with torch.device("meta"):
        static = create_network(recipe.network, {**recipe.config, "ratios": [0.1, most], "attention": False})
    assert isinstance(static, RatioNetwork)
    ratios = np.arange(0.1, most + 1e-9, 0.005).round(3).tolist()
    return min(ratios, key=lambda ratio: abs(static.macs_per_pixel(static.plan_at(ratio)) - budget))


def shared_steps(recipe: Recipe) -> int:
    """Steps of each of `SHARED` I-Nets that together take the multiply-adds of the supernet's training.

    Their costs are spread evenly, by their logarithm, between those of the supernet's ends.
    """
    with torch.device("meta"):
        network = create_network(recipe.network, recipe.config)
    method, space = recipe.method, network.space
    assert isinstance(method, SandwichSettings)
    small, large = (network.macs_per_pixel(plan) for plan in (space.narrowest, space.widest))
    drawn = sampler_of(method.sampler, network, method.jitter).draw(256, np.random.default_rng(0))
    random = float(np.mean([network.macs_per_pixel(plan) for plan in drawn]))
    step = small + large + (method.subnets - 2) * random
    return round(recipe.loop.steps * step / (SHARED * (large - small) / math.log(large / small)))
