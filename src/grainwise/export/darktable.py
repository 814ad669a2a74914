"""Write a network as a model package of darktable (``.dtmodel``), for its module "neural restore", tab "denoise".

As darktable 5.6 reads it (its ``src/common/ai/restore.c``, ``restore_rgb.c`` and ``ai_models.c``, and the model builder
darktable-ai, release 5.6.0): a zip whose one folder is named as the model's id and holds ``config.json`` and
``model.onnx``. darktable feeds sRGB-encoded tiles [1, 3, T, T] in [0, 1], T one of 2048, 1536 ... 256, that overlap by 64
pixels, with the sizes named ``batch``, ``height`` and ``width`` fixed at load. It has no way to tell a noise level: to a
second input it always gives 25/255. So the level is built in, and a package is made for a level.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainwise import __version__
from grainwise.core.errors import ExportError, InputError
from grainwise.core.optional import optional_module
from grainwise.export import check
from grainwise.export.archive import zip_of
from grainwise.export.formats import Exported, check_target, staged, write_onnx
from grainwise.export.graph import (
    EXPORT_EXTRA,
    Level,
    describe,
    extracted,
    facts_of,
    onnx_graph,
    onnx_library,
    takes_batches,
)
from grainwise.networks.checkpoint import Weights
from grainwise.networks.registry import name_of
from grainwise.runtime.budget import Choice, choose_plan

DEFAULT_SIGMA = 10 / 255
"""Noise level of a package where none is asked for, in image units: that of a developed photograph at a high ISO."""

TILE = 256
"""The least tile that darktable runs, in pixels; every package is run at it as darktable would."""


def export_dtmodel(
    weights: Weights,
    path: Path,
    *,
    budget: str | float = "balanced",
    sigma: float = DEFAULT_SIGMA,
    half: bool = False,
) -> Exported:
    """Write a package that darktable installs. The check file goes inside.

    Args:
        weights: an RGB denoiser, scale 1, that may be run in tiles.
        path: ends in ``.dtmodel``.
        budget: name or MACs/px; see `grainwise.runtime.budget.choose_plan`.
        sigma: the noise level that is built in, in image units, above 0; not used by networks that need none.
        half: store the weights as float16.

    Raises:
        InputError, BudgetError: a name, budget, level or network that does not fit.
        ExportError: the graph cannot be made, or the file differs from the network; nothing is written then.
        GrainwiseError: a library is missing.
        OSError: the folder cannot be written.
    """
    check_target(path, "dtmodel")
    choice = choose_plan(weights, budget)
    level = _level(weights, sigma)
    network = extracted(weights, choice, half=half)
    with staged(path) as folder:
        onnx = folder / "model.onnx"
        proto = onnx_graph(weights, choice, sigma=level, half=half)
        batched = takes_batches(proto)
        describe(onnx_library(), proto, facts_of(weights, (choice,), level, batched=batched))
        cases = check.make_cases(network, weights.network.facts, level, batched=batched)
        worst = max(write_onnx(proto, onnx, cases), _difference_of_a_tile(onnx, network, weights, level))
        config = config_of(weights, choice, level)
        content = {
            "config.json": (json.dumps(config, indent=4) + "\n").encode(),
            "model.onnx": onnx.read_bytes(),
            "check.npz": check.cases_to_bytes(cases),
        }
        onnx.unlink()
        inside = {f"{config['id']}/{name}": value for name, value in content.items()}
        (folder / path.name).write_bytes(zip_of(inside))
        check.verify(folder / path.name)
    return Exported((path,), (choice.plan,), (choice.measured.macs_per_pixel,), worst)


def config_of(weights: Weights, choice: Choice, sigma: Level) -> dict[str, Any]:
    """The ``config.json`` of a package: what darktable's registry reads, and the card that its preferences show."""
    cost = choice.measured.macs_per_pixel
    budget = choice.measured.name or f"{cost / 1000:.0f}k"
    level = f", sigma {255 * sigma:g}" if isinstance(sigma, float) else ""
    made_for = f" for noise of sigma {255 * sigma:g} (of 255)" if isinstance(sigma, float) else ""
    card = weights.card
    return {
        "id": _id("denoise", "grainwise", weights.name, budget, level.replace(", sigma ", "sigma")),
        "name": f"denoise grainwise {weights.name} {budget}{level}",
        "description": f"grainwise at {cost / 1000:.0f}K multiply-adds per pixel{made_for}",
        "task": "denoise",
        "arch": name_of(weights.network),
        "backend": "onnx",
        "version": ".".join(__version__.split(".")[:2]),
        "tiling": True,
        "num_inputs": 1,
        "spatial_dims": ["height", "width"],
        "model_card": {
            "long_description": f"grainwise {weights.name}, plan {choice.plan}, {cost} multiply-adds per pixel{made_for}",
            "scope": "single-image denoising",
            "author": "grainwise",
            "license": card.licence,
            "training_data": "; ".join(card.data),
            "training_data_license": "each named with the training data",
            "notes": f"{card.notes} Rebuilt by: {card.recipe} (commit {card.commit}).".strip(),
        },
    }


def _level(weights: Weights, sigma: float) -> Level:
    """The level to build in, or ``"none"``; refuses networks that darktable cannot run as a denoiser."""
    facts = weights.network.facts
    if (facts.channels, facts.scale, facts.exact_tiles, facts.task) != (3, 1, True, "denoise"):
        raise InputError(
            f"darktable runs a denoiser on tiles of RGB pictures; {weights.name} has {facts.channels} channels, scale "
            f"{facts.scale}, {'exact' if facts.exact_tiles else 'inexact'} tiles and the task {facts.task}. Export it as ONNX"
        )
    if not facts.needs_sigma:
        return "none"
    if isinstance(sigma, bool) or not (isinstance(sigma, int | float) and 0 < sigma <= facts.sigma_max):
        raise InputError(
            f"the noise level of a package lies above 0 and up to {facts.sigma_max:.3f} ({255 * facts.sigma_max:.0f}/255), "
            f"got {sigma!r}"
        )
    return float(sigma)


def _difference_of_a_tile(path: Path, network: torch.nn.Module, weights: Weights, sigma: Level) -> float:
    """Run one tile with the sizes fixed by their names, as darktable does, and compare."""
    runtime = optional_module("onnxruntime", needed_for="checking a package", install=EXPORT_EXTRA)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    for name, size in (("batch", 1), ("height", TILE), ("width", TILE)):
        options.add_free_dimension_override_by_name(name, size)
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    shapes = [tuple(value.shape) for value in (*session.get_inputs(), *session.get_outputs())]
    if shapes != [(1, 3, TILE, TILE)] * 2:
        raise ExportError(
            f"fixing the sizes gives the shapes {shapes}; darktable needs one [1, 3, {TILE}, {TILE}] each way"
        )
    tile = np.random.default_rng(1).random((1, 3, TILE, TILE), np.float32)
    with torch.inference_mode():
        x = torch.from_numpy(tile)
        y = network(x, **({"sigma": torch.tensor([sigma])} if isinstance(sigma, float) else {}))
    case = check.Case({"input": tile}, y.numpy())
    return check.compare(lambda inputs: session.run(None, dict(inputs))[0], [case], "model.onnx")


def _id(*words: str) -> str:
    """A folder name of lower-case words and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(word for word in words if word).lower()).strip("-")
