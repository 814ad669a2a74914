"""Recipes of DDS-Net's first stage for its three backbones, each with the settings of its own paper, and small forms of them.

The paper trains on SIDD; these recipes draw pictures with a camera's noise (`grainwise.data.camera`) in its place.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from grainwise.data.degraded_crops import CameraCropSettings
from grainwise.training.loop import LoopConfig
from grainwise.training.recipe import Recipe
from grainwise.training.supernet import StagesSettings, SupernetSettings, VariationalSettings

SMALL_LOOP = LoopConfig(
    steps=10_000, batch=16, crops=((0, 64),), betas=(0.9, 0.999), weight_decay=0.0, precision="fp32"
)
"""One CPU core for some hours, for the small forms of DDS-Net's recipes."""


def dds_vdnet() -> Recipe:
    """DDS-VDNet, stage 1 as the papers of DDS-Net and VDNet have it, on pictures with a camera's noise in place of SIDD.

    Half of the random plans are drawn as DDS-Net does, half stratified by cost; ``method.sampler=iid`` is the paper alone.
    VDNet's adaptive limits of the gradient are one fixed limit here.
    """
    epoch = 5_000
    return Recipe(
        name="dds-vdnet",
        data=("train-free",),
        network="vdnet",
        config={"base": 32, "attention": True},
        crops=CameraCropSettings(),
        validation=CameraCropSettings(),
        method=VariationalSettings(sampler="mixed", jitter=8, eps2=1e-6, variance="estimated"),
        loop=LoopConfig(
            steps=50 * epoch,
            batch=64,
            crops=((0, 128),),
            learning_rate=2e-4,
            warmup=0,
            milestones=tuple(epoch * at for at in (10, 20, 25, 30, 35, 40, 45)),
            weight_decay=0.0,
            betas=(0.9, 0.999),
            clip=1e4,
            precision="fp32",
        ),
    )


def dds_danet() -> Recipe:
    """DDS-DANet, stage 1 with the loss and the schedule of DANet+ (no critic), on pictures with a camera's noise.

    DANet+ adds pairs of a generator that DANet taught, for which there are no weights here: all pairs are the camera's.
    """
    epoch = 10_000
    return Recipe(
        name="dds-danet",
        data=("train-free",),
        network="danet",
        config={"base": 32, "attention": True},
        crops=CameraCropSettings(),
        validation=CameraCropSettings(),
        method=SupernetSettings(distance="summed_l1", sampler="mixed", jitter=8),
        loop=LoopConfig(
            steps=70 * epoch,
            batch=32,
            crops=((0, 128),),
            learning_rate=2e-4,
            warmup=0,
            milestones=tuple(epoch * at for at in (20, 30, 40, 50, 55, 60, 65)),
            weight_decay=0.0,
            betas=(0.9, 0.999),
            clip=1e4,
            precision="fp32",
        ),
    )


def dds_mprnet() -> Recipe:
    """DDS-MPRNet, stage 1 with the loss and the schedule of MPRNet's denoiser, on pictures with a camera's noise.

    MPRNet's cosine is not at its end when its run is. Its mixing of pairs (MixUp) is not done here.
    """
    epoch = 6_000
    return Recipe(
        name="dds-mprnet",
        data=("train-free",),
        network="mprnet",
        config={"attention": True},
        crops=CameraCropSettings(),
        validation=CameraCropSettings(),
        method=StagesSettings(sampler="mixed", jitter=8),
        loop=LoopConfig(
            steps=80 * epoch,
            batch=16,
            crops=((0, 128),),
            learning_rate=2e-4,
            warmup=3 * epoch,
            final_rate=0.005,
            period=117 * epoch,
            weight_decay=1e-8,
            betas=(0.9, 0.999),
            clip=1e4,
            precision="fp32",
        ),
    )


def dds_small(full: Callable[[], Recipe]) -> Recipe:
    """A narrower form of one of DDS-Net's recipes with a shorter run of smaller crops; everything else is the same."""
    recipe = full()
    config = {**recipe.config, "base": 16, "ratios": [0.5, 1.5]}
    if recipe.network == "mprnet":
        config |= {"step": 8, "step_full": 8}
    loop = replace(SMALL_LOOP, learning_rate=recipe.loop.learning_rate, clip=recipe.loop.clip)
    return replace(recipe, name=f"{recipe.name}-small", config=config, loop=loop)


_WHOLE = (dds_vdnet, dds_danet, dds_mprnet)

DDS_RECIPES: dict[str, Callable[[], Recipe]] = {
    **{whole().name: whole for whole in _WHOLE},
    **{f"{whole().name}-small": partial(dds_small, whole) for whole in _WHOLE},
}
"""By name."""
