"""Recipes of DDS-Net for its three backbones, in three stages: with the settings of their papers, and small forms of them.

The paper trains on SIDD, and so do the recipes whose name ends in ``-sidd``; the others draw pictures with a camera's noise
(`grainwise.data.camera`) in its place.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from grainwise.data.degraded_crops import CameraCropSettings
from grainwise.data.pair_crops import PairCropSettings
from grainwise.training.dds_stages import GateStage, SlimStage
from grainwise.training.game import GameSettings
from grainwise.training.gating import gate_loop
from grainwise.training.loop import LoopConfig
from grainwise.training.recipe import MakesMethod, Recipe
from grainwise.training.slimming import SlimmingConfig
from grainwise.training.stages import Training
from grainwise.training.supernet import StagesSettings, SupernetSettings, VariationalSettings

PAPER_LOOP = LoopConfig(
    crops=((0, 128),),
    learning_rate=2e-4,
    warmup=0,
    weight_decay=0.0,
    betas=(0.9, 0.999),
    clip=1e4,
    precision="fp32",
)
"""What the papers of the three backbones share."""

BUDGETS = {"vdnet": (20e3, 100e3, 200e3), "danet": (20e3, 100e3, 200e3), "mprnet": (500e3, 1e6, 5e6)}
"""The three groups of tables I and II, multiply-adds per pixel."""


def dds(network: str, method: MakesMethod, loop: LoopConfig, *, lazy: int = 0, **config: Any) -> Recipe:
    """The recipe of one backbone: stage 1 by ``method`` and ``loop``, then slimming, then a gate for each budget.

    Args:
        network: its name.
        method: with the losses of its paper.
        loop: with the schedule of its paper.
        lazy: of the search, see `SlimmingConfig`.
        config: of the network, beside the attention head.
    """
    return Recipe(
        name=f"dds-{network}",
        data=("train-free",),
        network=network,
        config={**config, "attention": True},
        crops=CameraCropSettings(),
        validation=CameraCropSettings(),
        method=method,
        loop=loop,
        stages=(
            Training(name="supernet"),
            SlimStage(search=SlimmingConfig(lazy=lazy)),
            GateStage(budgets=BUDGETS[network]),
        ),
    )


def dds_vdnet() -> Recipe:
    """DDS-VDNet as the papers of DDS-Net and VDNet have it, on pictures with a camera's noise in place of SIDD.

    Half of the random plans are drawn as DDS-Net does, half stratified by cost; ``method.sampler=iid`` is the paper alone.
    VDNet's limits of the gradient shrink from epoch to epoch, and were made for one pass a step; here one limit is fixed.
    ``loop.clip_epoch=5000`` and ``method.noise_clip=1e3`` are VDNet's own.
    """
    epoch = 5_000
    milestones = tuple(epoch * at for at in (10, 20, 25, 30, 35, 40, 45))
    return dds(
        "vdnet",
        VariationalSettings(sampler="mixed", jitter=8, eps2=1e-6, variance="estimated"),
        replace(PAPER_LOOP, steps=50 * epoch, batch=64, milestones=milestones),
        base=32,
    )


def dds_danet() -> Recipe:
    """DDS-DANet with the loss and the schedule of DANet+ (no critic), on pictures with a camera's noise.

    DANet+ adds pairs of a generator that DANet taught, for which there are no weights here: all pairs are the camera's.
    """
    epoch = 10_000
    milestones = tuple(epoch * at for at in (20, 30, 40, 50, 55, 60, 65))
    return dds(
        "danet",
        SupernetSettings(distance="summed_l1", sampler="mixed", jitter=8),
        replace(PAPER_LOOP, steps=70 * epoch, batch=32, milestones=milestones),
        base=32,
    )


def dds_danet_game() -> Recipe:
    """DDS-DANet with DANet's own training: the game of denoiser, noise generator and critic. The critic needs crops of 128."""
    epoch = 15_000
    milestones = tuple(epoch * at for at in (20, 30, 40, 50, 60, 65))
    recipe = dds(
        "danet",
        GameSettings(sampler="mixed", jitter=8),
        replace(PAPER_LOOP, steps=70 * epoch, batch=16, learning_rate=1e-4, milestones=milestones, clip=math.inf),
        base=32,
    )
    return replace(recipe, name="dds-danet-game")


def dds_mprnet() -> Recipe:
    """DDS-MPRNet with the loss and the schedule of MPRNet's denoiser, on pictures with a camera's noise.

    MPRNet's cosine is not at its end when its run is. Pictures are mixed from its sixth epoch on (`grainwise.training.mixup`).
    """
    epoch = 6_000
    cosine = replace(PAPER_LOOP, warmup=3 * epoch, final_rate=0.005, period=117 * epoch)
    return dds(
        "mprnet",
        StagesSettings(sampler="mixed", jitter=8, mixup=0.6, mixup_from=5 * epoch),
        replace(cosine, steps=80 * epoch, batch=16, weight_decay=1e-8),
        lazy=8,
    )


def on_sidd(full: Callable[[], Recipe]) -> Recipe:
    """The recipe on SIDD-Medium, as the paper has it; one of its ten scenes is held out for slimming and calibration.

    ``data`` is the folder that SIDD-Medium unpacks to, or one of pairs NAME_real and NAME_mean.
    """
    recipe, crops = full(), PairCropSettings()
    return replace(
        recipe,
        name=f"{recipe.name}-sidd",
        data=("SIDD_Medium_Srgb",),
        hold_out=10,
        crops=crops,
        validation=crops,
    )


SMALL_LOOP = LoopConfig(
    steps=6_000,
    batch=8,
    crops=((0, 48),),
    learning_rate=1e-3,
    warmup=100,
    final_rate=0.01,
    weight_decay=0.0,
    betas=(0.9, 0.999),
    ema=0.995,
    checkpoint_every=200,
    validate_every=1_000,
)
"""One CPU core for an hour, in bfloat16: small crops, a higher rate on a cosine that ends."""

SMALL_GATE = replace(
    gate_loop(epochs=30, epoch=100), learning_rate=1e-3, crops=((0, 96),), checkpoint_every=500, validate_every=0
)
"""A gate whose pictures were answered before: seconds."""

SMALL_CONFIG: dict[str, dict[str, Any]] = {
    "danet": {"base": 16},
    "mprnet": {"base": 8, "step": 8, "step_full": 8, "ratios": [1, 2]},
}
"""Base widths that a step of a fifth of a second allows: VDNet keeps its own."""
SMALL_CHANGES: dict[str, dict[str, Any]] = {"mprnet": {"batch": 4, "crops": ((0, 32),)}}
SMALL_METHOD: dict[str, dict[str, Any]] = {
    "vdnet": {"start_at_prior": True},
    "danet": {"start_at_input": True, "rounding": 0.04},
    "mprnet": {"start_at_input": True, "rounding": 0.04},
}
"""Papers start where hundreds of thousands of steps do not mind. Restored pictures are 0.03 (rms) from the clean ones after
such a run, and 0.04 is 1.25 times that; see `grainwise.training.distances.rounded_distance`."""
SMALL_BUDGETS = {"vdnet": BUDGETS["vdnet"], "danet": (10e3, 25e3, 50e3), "mprnet": (200e3, 300e3, 450e3)}
"""As far between the smallest and the largest sub-network as the paper's are, about."""
SMALL_POOL = {"vdnet": 768, "danet": 768, "mprnet": 256}


def dds_small(full: Callable[[], Recipe]) -> Recipe:
    """A recipe of DDS-Net for a CPU core: the same method, a short run of small crops. DANet and MPRNet are narrower too.

    What begins at a step of the whole run begins as far along in the short one.
    """
    recipe = full()
    network, method = recipe.network, replace(recipe.method, **SMALL_METHOD.get(recipe.network, {}))  # type: ignore[type-var]
    if isinstance(method, StagesSettings):
        method = replace(method, mixup_from=method.mixup_from * SMALL_LOOP.steps // recipe.loop.steps)
    return replace(
        recipe,
        name=f"{recipe.name}-small",
        config={**recipe.config, **SMALL_CONFIG.get(network, {})},
        method=method,
        loop=replace(SMALL_LOOP, clip=recipe.loop.clip, **SMALL_CHANGES.get(network, {})),
        stages=(
            Training(name="supernet", measured=24),
            SlimStage(search=SlimmingConfig(lazy=8), crops=32, timed_size=128),
            GateStage(budgets=SMALL_BUDGETS[network], routes=8, pool=SMALL_POOL[network], loop=SMALL_GATE),
        ),
    )


_WHOLE = (dds_vdnet, dds_danet, dds_mprnet)

DDS_RECIPES: dict[str, Callable[[], Recipe]] = {
    "dds-danet-game": dds_danet_game,
    **{whole().name: whole for whole in _WHOLE},
    **{f"{whole().name}-sidd": partial(on_sidd, whole) for whole in (*_WHOLE, dds_danet_game)},
    **{f"{whole().name}-small": partial(dds_small, whole) for whole in _WHOLE},
}
"""By name."""
