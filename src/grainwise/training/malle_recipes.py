"""Recipes of MalleNet: a slimmable one, and the released code's, full and small: told the level, blind, grey, for a camera.

Data, loss, schedule and patches of the paper are in a supplement that is not public to us: those of the full recipes are the
field's common ones, those of the small ones the same in hours of a CPU.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from grainwise.data.crops import NoisyCropSettings
from grainwise.data.degradations import LevelCropSettings
from grainwise.data.degraded_crops import CameraCropSettings
from grainwise.training.distillation import StudentSettings
from grainwise.training.loop import LoopConfig
from grainwise.training.recipe import GAUSSIAN_25, MakesBatches, Recipe

SHARES = NoisyCropSettings().shares
GREY = LevelCropSettings(levels=(0.0, 75 / 255), drawn=True, luma=True, shares=SHARES)
GREY_25 = LevelCropSettings(levels=(25 / 255,), luma=True)

KINDS: dict[str, tuple[dict[str, Any], MakesBatches, MakesBatches]] = {
    "": ({"condition": "sigma"}, NoisyCropSettings(), GAUSSIAN_25),
    "-blind": ({"condition": "none"}, NoisyCropSettings(), GAUSSIAN_25),
    "-grey": ({"condition": "sigma", "channels": 1}, GREY, GREY_25),
    "-camera": ({"condition": "none"}, CameraCropSettings(), CameraCropSettings()),
}
"""Ending of the name -> configuration, crops and validation: colour and told the level; colour and blind; grey and told the
level; a camera's noise, whose level no number says, and so blind."""

FULL = LoopConfig(steps=400_000, batch=32, crops=((0, 128), (250_000, 192), (330_000, 256)), weight_decay=0.0)
SMALL = LoopConfig(steps=40_000, batch=16, crops=((0, 64), (30_000, 128)), weight_decay=0.0)


def supernet(base: Recipe) -> Recipe:
    """C = 16 to 32 at once, told the level, taught as ``base``; without norms, whose statistics belong to one width."""
    return replace(base, name="mallenet", network="mallenet", config={"condition": "sigma"}, predictor_crops=0)


def released(size: str, kind: str) -> Recipe:
    """The released code's network, batch norms and all: C = 64 ("full") or 16 ("small"); for others set ``config``.

    Args:
        size: "full" or "small".
        kind: a key of `KINDS`.
    """
    config, crops, validation = KINDS[kind]
    return Recipe(
        name=f"mallenet-{size}{kind}",
        data=("train-free",),
        network="mallenet",
        config={"widths": [64 if size == "full" else 16], "norm": "batch", **config},
        crops=crops,
        validation=validation,
        method=StudentSettings(),
        loop=FULL if size == "full" else SMALL,
    )


MALLE_RECIPES: dict[str, Callable[[], Recipe]] = {
    f"mallenet-{size}{kind}": partial(released, size, kind) for size in ("full", "small") for kind in KINDS
}
