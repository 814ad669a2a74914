"""Write a network as a model package of darktable (``.dtmodel``), for its module "neural restore": denoise, or upscale.

As darktable 5.6 reads it (its ``src/common/ai/restore.c``, ``restore_rgb.c`` and ``ai_models.c``, and the model builder
darktable-ai, release 5.6.0): a zip whose one folder is named as the model's id and holds ``config.json`` and the graphs:
``model.onnx`` for denoising, ``model_x2.onnx`` and ``model_x4.onnx`` for enlarging. darktable feeds sRGB-encoded tiles
[1, 3, T, T], with the sizes named ``batch``, ``height`` and ``width`` fixed at load: T one of 2048, 1536 ... 256, overlapping
by 64 pixels, to denoise, and one of 768, 512 ... 192, overlapping by 16, to enlarge. It has no way to tell a noise level: to
a second input it always gives 25/255. So the level is built in, and a package is made for a level.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from grainwise import __version__
from grainwise.core.errors import ExportError, InputError
from grainwise.core.optional import optional_module
from grainwise.export import check
from grainwise.export.archive import zip_of
from grainwise.export.formats import Exported, check_target, level_of, staged, write_onnx
from grainwise.export.graph import (
    EXPORT_EXTRA,
    Told,
    describe,
    facts_of,
    onnx_graph,
    onnx_library,
    takes_batches,
)
from grainwise.export.reference import Runner, check_half, reference
from grainwise.networks.checkpoint import Weights
from grainwise.networks.registry import name_of
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE
from grainwise.runtime.budget import Choice, choose_plan

DEFAULT_SIGMA = 10 / 255
"""Noise level of a package where none is asked for, in image units: that of a developed photograph at a high ISO."""

TILES = {DENOISE: 256, UPSCALE: 192}
"""The least tile that darktable runs for a task, in pixels; every package is run at it as darktable would."""

SCALES = {"_x2": 2.0, "_x4": 4.0}
"""What the names of the graphs of a package that enlarges end in, and their scales."""


def export_dtmodel(
    weights: Weights,
    path: Path,
    *,
    budget: str | float = "balanced",
    sigma: float | None = None,
    half: bool = False,
) -> Exported:
    """Write a package that darktable installs. The check files go inside.

    Args:
        weights: an RGB denoiser, or a network for super-resolution, that may be run in tiles.
        path: ends in ``.dtmodel``.
        budget: name or MACs/px; see `grainwise.runtime.budget.choose_plan`.
        sigma: the noise level that is built in, in image units, above 0; None is `DEFAULT_SIGMA`. Not used by networks that
            need none.
        half: store the weights as float16.

    Raises:
        InputError, BudgetError: a name, budget, level or network that does not fit.
        ExportError: the graph cannot be made, or the file differs from the network; nothing is written then.
        GrainwiseError: a library is missing.
        OSError: the folder cannot be written.
    """
    check_target(path, "dtmodel")
    choice = choose_plan(weights, budget)
    levels = _levels(weights, sigma, half)
    if half:
        check_half(weights, choice)
    with staged(path) as folder:
        graphs: dict[str, bytes] = {}
        worst = 0.0
        for suffix, level in levels.items():
            run, onnx = reference(weights, choice, level), folder / f"model{suffix}.onnx"
            proto = onnx_graph(weights, choice, told=level, half=half)
            batched = takes_batches(proto)
            describe(onnx_library(), proto, facts_of(weights, (choice,), level, batched=batched))
            cases = check.make_cases(run, weights.network.facts, level, batched=batched)
            scale = int(SCALES.get(suffix, 1))
            side = TILES[weights.network.facts.task]
            worst = max(worst, write_onnx(proto, onnx, cases), _difference_of_a_tile(onnx, run, side, scale))
            graphs[onnx.name] = onnx.read_bytes()
            graphs[f"check{suffix}.npz"] = check.cases_to_bytes(cases)
            onnx.unlink()
        config = config_of(weights, choice, levels.get("", "none"))
        content = {"config.json": (json.dumps(config, indent=4) + "\n").encode(), **graphs}
        inside = {f"{config['id']}/{name}": value for name, value in content.items()}
        (folder / path.name).write_bytes(zip_of(inside))
        check.verify(folder / path.name)
    return Exported((path,), (choice.plan,), (choice.measured.macs_per_pixel,), worst)


def config_of(weights: Weights, choice: Choice, sigma: Told) -> dict[str, Any]:
    """The ``config.json`` of a package: what darktable's registry reads, and the card that its preferences show."""
    cost, task = choice.measured.macs_per_pixel, weights.network.facts.task
    budget = choice.measured.name or f"{cost / 1000:.0f}k"
    level = f", sigma {255 * sigma:g}" if isinstance(sigma, float) else ""
    made_for = f" for noise of sigma {255 * sigma:g} (of 255)" if isinstance(sigma, float) else ""
    pixel = "pixel of the result" if task == UPSCALE else "pixel"
    card = weights.card
    return {
        "id": _id(task, "grainwise", weights.name, budget, level.replace(", sigma ", "sigma")),
        "name": f"{task} grainwise {weights.name} {budget}{level}",
        "description": f"grainwise at {cost / 1000:.0f}K multiply-adds per {pixel}{made_for}",
        "task": task,
        "arch": name_of(weights.network),
        "backend": "onnx",
        "version": ".".join(__version__.split(".")[:2]),
        "tiling": True,
        "num_inputs": 1,
        "spatial_dims": ["height", "width"],
        "model_card": {
            "long_description": f"grainwise {weights.name}, plan {choice.plan}, {cost} multiply-adds per {pixel}{made_for}",
            "scope": "single-image denoising" if task == DENOISE else "single-image super-resolution, 2x and 4x",
            "author": "grainwise",
            "license": card.licence,
            "training_data": "; ".join(card.data),
            "training_data_license": "each named with the training data",
            "notes": f"{card.notes} Rebuilt by: {card.recipe} (commit {card.commit}).".strip(),
        },
    }


def _levels(weights: Weights, sigma: float | None, half: bool) -> dict[str, Told]:
    """What the graphs of a package are told, by what their names end in; refuses what darktable cannot run."""
    facts = weights.network.facts
    if facts.task == DEJPEG:
        raise InputError(
            f"darktable gives a network pictures that it has developed, whose JPEG blocks lie on no grid of 8 pixels any more, "
            f"and has no task for them, so {weights.name} has no package. Export it as ONNX, or run grainwise dejpeg before"
        )
    if (facts.channels, facts.scale, facts.exact_tiles) != (3, 1, True):
        raise InputError(
            f"darktable runs networks on tiles of RGB pictures; {weights.name} has {facts.channels} channels, scale "
            f"{facts.scale} and {'exact' if facts.exact_tiles else 'inexact'} tiles. Export it as ONNX"
        )
    if facts.task == UPSCALE:
        if sigma is not None:
            raise InputError(f"{weights.name} enlarges and takes no noise level; leave sigma out")
        if half:
            raise InputError("kernels that are merged at a scale are no 16-bit numbers; leave half out")
        return {suffix: level_of(weights, scale) for suffix, scale in SCALES.items()}
    if not facts.needs_sigma:
        return {"": "none"}
    sigma = DEFAULT_SIGMA if sigma is None else sigma
    if isinstance(sigma, bool) or not (isinstance(sigma, int | float) and 0 < sigma <= facts.sigma_max):
        raise InputError(
            f"the noise level of a package lies above 0 and up to {facts.sigma_max:.3f} ({255 * facts.sigma_max:.0f}/255), "
            f"got {sigma!r}"
        )
    return {"": float(sigma)}


def _difference_of_a_tile(path: Path, run: Runner, side: int, scale: int) -> float:
    """Run one tile of ``side`` pixels with the sizes fixed by their names, as darktable does, and compare."""
    runtime = optional_module("onnxruntime", needed_for="checking a package", install=EXPORT_EXTRA)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    for name, size in (("batch", 1), ("height", side), ("width", side)):
        options.add_free_dimension_override_by_name(name, size)
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken, given = tuple(session.get_inputs()[0].shape), (1, 3, scale * side, scale * side)
    tile = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    made = session.run(None, {"input": tile})[0].shape
    if len(session.get_inputs()) != 1 or taken != tile.shape or made != given:
        raise ExportError(f"fixing the sizes gives {taken} to {made}; darktable needs one {tile.shape} to {given}")
    case = check.Case({"input": tile}, run({"input": tile}))
    return check.compare(lambda inputs: session.run(None, dict(inputs))[0], [case], path.name)


def _id(*words: str) -> str:
    """A folder name of lower-case words and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(word for word in words if word).lower()).strip("-")
