"""Recipes: a run is a short function, made of settings that the command line can change one by one.

Settings are frozen dataclasses; unknown keys fail. Defaults come first, then the recipe's own, then `--set`.
"""

import json
import os
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.data.corpus import Corpus, corpus_of
from grainwise.data.crops import NoisyCropSettings
from grainwise.data.degradations import LevelCropSettings
from grainwise.data.degraded_crops import CameraCropSettings
from grainwise.data.mixed_crops import MixedCropSettings
from grainwise.networks.mdrn import SIZES
from grainwise.networks.network import Network
from grainwise.networks.registry import create_network
from grainwise.training.dds_recipes import DDS_RECIPES
from grainwise.training.distillation import StudentSettings, TeachingSettings
from grainwise.training.levels import LevelsSettings
from grainwise.training.loop import LoopConfig
from grainwise.training.malle_recipes import MALLE_RECIPES, supernet
from grainwise.training.noise_reader import CAMERA
from grainwise.training.recipe import Recipe
from grainwise.training.supernet import SupernetSettings


def default() -> Recipe:
    """The weights that ship: the half-resolution U-Net, 12K to 117K MACs/px, any noise level, free pictures only."""
    return Recipe(
        name="default",
        data=("train-free",),
        method=SupernetSettings(subnets=3, synergy=False),
        loop=LoopConfig(
            steps=20_500,
            batch=16,
            crops=((0, 64), (17_500, 96)),
            optimizer="muon",
            learning_rate=1e-3,
            ema=0.9995,
        ),
        predictor_crops=600,
    )


TUNED_CROPS = NoisyCropSettings(shares=(0.75, 0.15, 0.1), texture=1.3, sharpen=0.5, half_chroma=0.75)
"""As CBSD68's pictures are: textured all over, mostly not reduced, sharpened as cameras and scanners do, and with colour at
half resolution."""


def default_tuned() -> Recipe:
    """The second part of the weights that ship, from those of `default` (``init``): crops as CBSD68's pictures are."""
    base = default()
    return replace(
        base,
        name="default-tuned",
        crops=TUNED_CROPS,
        loop=replace(base.loop, steps=9_500, crops=((0, 64), (8_000, 96)), learning_rate=5e-4),
    )


def default_camera() -> Recipe:
    """An experiment, and not in the weights that ship (decision 13): from those (``init``), two crops in five as of a camera.

    They are told more than their noise's deviation, as the level that is read of photographs is (decision 10), and at times
    more than that, as where texture is taken for noise.
    """
    base = default_tuned()
    camera = CameraCropSettings(camera=CAMERA, asked=(1.0, 2.2), error=2 / 255)
    return replace(
        base,
        name="default-camera",
        crops=MixedCropSettings(white=TUNED_CROPS, camera=camera, camera_share=0.4),
        loop=replace(base.loop, steps=5_000, crops=((0, 64), (4_200, 96)), learning_rate=4e-4, warmup=200),
    )


def default_taught() -> Recipe:
    """The first part of the next edition: as `default`, and the weights that ship teach its narrowest plan (decision 12)."""
    base = default()
    method = SupernetSettings(subnets=3, synergy=False, teacher="default")
    return replace(base, name="default-taught", method=method)


def tiny() -> Recipe:
    """A run of seconds that exercises every part of training; its weights are of no use."""
    return Recipe(
        name="tiny",
        data=("train-free/gb82",),
        config={"widths": [[16, 24], [16, 24]], "blocks": [1, 1]},
        crops=NoisyCropSettings(shares=(1.0,)),
        method=SupernetSettings(subnets=3),
        loop=LoopConfig(steps=20, batch=2, crops=((0, 32),), warmup=5, checkpoint_every=5, validate_every=20),
    )


def mdrn() -> Recipe:
    """MDRN as a supernet, from "tiny" to "small". ``method.teacher=FILE`` lets another network teach its narrowest plan."""
    return replace(default(), name="mdrn", network="mdrn", predictor_crops=0)


def mdrn_student(size: str) -> Recipe:
    """MDRN of one size (`grainwise.networks.mdrn.SIZES`), which outside teachers can teach.

    ``method.teacher=FILE`` (the same noisy picture) and ``method.quiet_teacher=FILE`` (half the noise) name weights of any
    network, TorchScript or ONNX; ``method.teacher_taps=blocks.0=blocks.1,blocks.2=blocks.3`` distils features of weights too.
    """
    return replace(
        default(),
        name=f"mdrn-{size}",
        network="mdrn",
        config=dict(SIZES[size]),
        method=StudentSettings(),
        predictor_crops=0,
    )


def hyperres(name: str, degradation: str, levels: tuple[float, ...], validation: float, **config: Any) -> Recipe:
    """HyperRes as published: 16 blocks of 64, every level at once.

    Not as published: the pictures (DIV2K is not free), a cosine instead of one step of the rate, noise that is not clipped.
    """
    luma = config.get("channels") == 1
    return Recipe(
        name=name,
        data=("train-free",),
        network="hyperres",
        config=config,
        crops=LevelCropSettings(degradation=degradation, levels=levels, luma=luma, texture=0.0),
        validation=LevelCropSettings(degradation=degradation, levels=(validation,), luma=luma, texture=0.0),
        method=LevelsSettings(),
        loop=LoopConfig(steps=1_000_000, batch=16, crops=((0, 96),), learning_rate=1e-4, weight_decay=0.0),
    )


def hyperres_small(name: str, degradation: str, levels: tuple[float, ...], validation: float, **config: Any) -> Recipe:
    """A quarter of the blocks, half the stream, three widths inside the blocks at once: for RGB, in hours of a CPU."""
    return Recipe(
        name=name,
        data=("train-free",),
        network="hyperres",
        config={"blocks": 4, "stream": [32], "inner": [8, 16, 32], **config},
        crops=LevelCropSettings(degradation=degradation, levels=levels, shares=(0.45, 0.35, 0.2)),
        validation=LevelCropSettings(degradation=degradation, levels=(validation,)),
        method=LevelsSettings(subnets=3),
        loop=LoopConfig(steps=20_000, batch=4, crops=((0, 64),), optimizer="muon", ema=0.9995),
    )


def restorer(task: str, degradation: str, levels: tuple[float, float], shown: tuple[float, ...]) -> Recipe:
    """The weights that ship for another task than noise: the default network, a little narrower, its kernels by the level.

    Levels are drawn over the whole range, two for a step. Free pictures only; one crop in ten is grey.

    Args:
        task: of the network, and name of the recipe.
        degradation: a name of `grainwise.data.degradations.DEGRADATIONS`.
        levels: the least and the greatest of the training.
        shown: those at which held-out crops are scored.
    """
    return Recipe(
        name=task,
        data=("train-free",),
        config={
            "task": task,
            "convs": "hyper",
            "widths": [[16, 32, 48], [32, 48, 64], [48, 64, 72]],
        },
        crops=LevelCropSettings(
            degradation=degradation, levels=levels, drawn=True, parts=2, grey=0.1, shares=(0.4, 0.35, 0.25)
        ),
        validation=LevelCropSettings(degradation=degradation, levels=shown),
        method=LevelsSettings(subnets=3),
        loop=LoopConfig(
            steps=20_000, batch=16, crops=((0, 64), (17_000, 96)), optimizer="muon", learning_rate=1e-3, ema=0.9995
        ),
    )


def dejpeg() -> Recipe:
    """The weights that ship for JPEG artifacts: quality 5 to 95, colour at half or full resolution."""
    return restorer("dejpeg", "jpeg-any", (5.0, 95.0), (10.0, 40.0, 80.0))


def upscale() -> Recipe:
    """The weights that ship for super-resolution: any scale from 1.5 to 6, of pictures that were reduced with antialiasing."""
    return restorer("upscale", "bicubic", (1.5, 6.0), (2.0, 3.0, 4.0))


_NOISE = tuple(sigma / 255 for sigma in (15, 35, 55, 75))
_QUALITIES, _SCALES = (10.0, 30.0, 50.0, 80.0), (2.0, 3.0, 4.0, 5.0)

RECIPES: dict[str, Callable[[], Recipe]] = {
    "default": default,
    "default-tuned": default_tuned,
    "dejpeg": dejpeg,
    "upscale": upscale,
    "default-camera": default_camera,
    "default-taught": default_taught,
    "tiny": tiny,
    "mallenet": lambda: supernet(default()),
    **MALLE_RECIPES,
    "mdrn": mdrn,
    **{f"mdrn-{size}": partial(mdrn_student, size) for size in SIZES},
    "hyperres-denoise": lambda: hyperres("hyperres-denoise", "gaussian", _NOISE, 25 / 255),
    "hyperres-dejpeg": lambda: hyperres("hyperres-dejpeg", "jpeg", _QUALITIES, 30.0, task="dejpeg", channels=1),
    "hyperres-sr": lambda: hyperres("hyperres-sr", "bicubic-opencv", _SCALES, 3.0, task="upscale"),
    "hyperres-denoise-small": lambda: hyperres_small("hyperres-denoise-small", "gaussian", _NOISE, 25 / 255),
    "hyperres-dejpeg-small": lambda: hyperres_small("hyperres-dejpeg-small", "jpeg", _QUALITIES, 30.0, task="dejpeg"),
    "hyperres-sr-small": lambda: hyperres_small("hyperres-sr-small", "bicubic", _SCALES, 3.0, task="upscale"),
    **DDS_RECIPES,
}


def get_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, changed by entries such as ``loop.steps=1000`` or ``data=/pictures/a,/pictures/b``.

    Raises:
        UnknownNameError: no such recipe or setting.
        InputError: a value that is not of the setting's kind, or a method whose length is not that of the loop.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    recipe = RECIPES[name]()
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise InputError(f"a setting is changed by key=value, such as loop.steps=1000; got {change!r}")
        recipe = _changed(recipe, key.strip().split("."), value, key)
    return _in_step(recipe)


def _in_step(recipe: Recipe) -> Recipe:
    """``recipe`` with a method that knows the length of the run, where it changes over time."""
    method = recipe.method
    for name in ("start_at_input", "start_at_prior", "balanced"):
        if recipe.init and getattr(method, name, False):
            raise InputError(f"init and method.{name} both give first weights; leave out one of them")
    if not isinstance(method, TeachingSettings) or method.steps == recipe.loop.steps:
        return recipe
    if method.steps:
        raise InputError(
            f"method.steps follows loop.steps, so that the teachers fade out at the end of the run; got {method.steps} "
            f"and {recipe.loop.steps}: leave it out"
        )
    return replace(recipe, method=replace(method, steps=recipe.loop.steps))


def _changed(settings: Any, path: list[str], value: str, key: str) -> Any:  # noqa: ANN401 -- any settings dataclass
    names = {f.name for f in fields(settings)}
    if path[0] not in names:
        raise UnknownNameError("setting", key, names)
    old = getattr(settings, path[0])
    if isinstance(old, tuple) and old and is_dataclass(old[0]):
        return replace(settings, **{path[0]: _changed_one_of(old, path, value, key)})
    if len(path) > 1:
        if not is_dataclass(old):
            raise UnknownNameError("setting", key, [path[0]])
        return replace(settings, **{path[0]: _changed(old, path[1:], value, key)})
    if is_dataclass(old):
        raise InputError(f"{key} is a group of settings; change one of {', '.join(f.name for f in fields(old))}")
    kind = typing.get_type_hints(type(settings))[path[0]]
    return replace(settings, **{path[0]: _read(value, kind, key)})


def _changed_one_of(parts: tuple[Any, ...], path: list[str], value: str, key: str) -> tuple[Any, ...]:
    """Named settings in a row, the one that ``path`` names changed: ``stages.slim.crops``."""
    names = [part.name for part in parts]
    if len(path) < 3 or path[1] not in names:
        raise UnknownNameError("setting", key, [f"{path[0]}.{name}" for name in names])
    return tuple(_changed(part, path[2:], value, key) if part.name == path[1] else part for part in parts)


def _read(text: str, kind: Any, key: str) -> Any:  # noqa: ANN401 -- the kind decides
    """``text`` as a value of ``kind``: JSON for numbers, lists and objects; plain text, with commas for lists of text."""
    wrong = InputError(f"{key} takes {_words(kind)}, got {text!r}")
    if kind is str or typing.get_origin(kind) is typing.Literal:
        if typing.get_origin(kind) is typing.Literal and text not in typing.get_args(kind):
            raise wrong
        return text
    if kind == tuple[str, ...]:
        return tuple(part for part in text.split(",") if part)
    try:
        return _typed(json.loads(text), kind)
    except (ValueError, TypeError):
        raise wrong from None


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401 -- the kind decides
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        return tuple(_typed(v, k) for v, k in zip(value, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not (origin or kind):
        raise TypeError
    return value


def _words(kind: Any) -> str:  # noqa: ANN401 -- any annotation
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    plain = {int: "a whole number", float: "a number", bool: "true or false"}
    return plain.get(kind, str(kind) if isinstance(kind, types.GenericAlias) else kind.__name__)


def find_folders(names: Sequence[str]) -> list[Path]:
    """Each folder as given, or below `GRAINWISE_DATA`, `data` or `../shared/data`.

    Raises:
        InputError: a folder is in none of these places.
    """
    roots = [Path(), *map(Path, filter(None, [os.environ.get("GRAINWISE_DATA")])), Path("data"), Path("../shared/data")]
    found = []
    for name in names:
        places = [root / name for root in roots if (root / name).is_dir()]
        if not places:
            raise InputError(
                f"there is no folder of pictures {name!r}; put it into ./data, name the folder above it in "
                "GRAINWISE_DATA, or say where it is with --set data=FOLDER"
            )
        found.append(places[0])
    return found


def corpora(recipe: Recipe, cache: Path, progress: Callable[[int, int], object] | None = None) -> tuple[Corpus, Corpus]:
    """The pictures to train on, and those held out."""
    corpus = corpus_of(
        find_folders(recipe.data),
        cache,
        reductions=recipe.crops.reductions,
        smallest=96,
        paired=recipe.crops.paired,
        progress=progress,
    )
    return corpus.split(recipe.hold_out)


def network_of(recipe: Recipe) -> Network:
    """The network with its first weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.loop.seed)
        network = create_network(recipe.network, recipe.config)
    if recipe.init:
        from grainwise.networks.checkpoint import load_weights

        network.load_state_dict(load_weights(recipe.init).network.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
