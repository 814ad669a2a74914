"""The estimates that ``grainwise estimate`` offers: what each tells of a file, as JSON and in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import quality_of_file
from grainwise.core.pictures import read_picture
from grainwise.data.degradations import to_luma
from grainwise.networks.checkpoint import load_estimator
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE
from grainwise.runtime.blur_scale import estimate_scale
from grainwise.runtime.jpeg_quality import estimate_jpeg
from grainwise.runtime.machine import find_device
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pixels import to_depth, to_tensor, white_of

Line = dict[str, Any]
TASKS = {"denoise": DENOISE, "dejpeg": DEJPEG, "sr": UPSCALE}
KEYS = {"denoise": "sigma", "dejpeg": "quality", "sr": "scale"}


def told_by(task: str, estimator: Path | None) -> Callable[[Path], Line]:
    """What tells the degradation of a file: the classical estimate, or a trained estimator's weights.

    An estimator of one channel sees the BT.601 luma of a colour picture, as it does where it is trained.

    Raises:
        WeightsError: the weights cannot be read.
        InputError: they are for another task.
    """
    if estimator is None:
        return {"denoise": _noise, "dejpeg": _jpeg, "sr": _scale}[task]
    trained, _ = load_estimator(estimator)
    if trained.task != TASKS[task]:
        raise InputError(f"{estimator} estimates for {trained.task}; ask for it with --task, or take other weights")
    unit = 255 if task == "denoise" else 1

    def told(path: Path) -> Line:
        pixels = read_picture(path).pixels
        if trained.channels == 1 and pixels.shape[2] == 3:
            pixels = to_luma(to_depth(pixels / white_of(pixels.dtype), np.uint8))
        found = trained.estimate(to_tensor(pixels, find_device("cpu"))[:, : trained.channels])
        return {KEYS[task]: unit * found.value, "regions": [[unit * value for value in row] for row in found.grid]}

    return told


def _noise(path: Path) -> Line:
    found = estimate_noise(read_picture(path).pixels)
    return {
        "sigma": 255 * found.sigma,
        "smoothed": found.smoothed,
        "depends_on_brightness": found.depends_on_brightness,
        "brightness": [255 * b for b in found.brightness],
        "sigmas": [255 * s for s in found.sigmas],
    }


def _jpeg(path: Path) -> Line:
    picture = read_picture(path)
    found, by_file = estimate_jpeg(picture.pixels), quality_of_file(path)
    return {
        "quality": found.quality,
        "found": found.found,
        "grid": list(found.grid),
        "quality_of_file": None if by_file is None else by_file.quality,
        "standard_tables": None if by_file is None else by_file.exact,
    }


def _scale(path: Path) -> Line:
    found = estimate_scale(read_picture(path).pixels)
    return {"scale": found.scale, "found": found.found}


def _noise_words(line: Line) -> str:
    text = f"sigma {line['sigma']:.1f}"
    if line.get("smoothed"):
        text += " asked for by smoothed noise"
    if line.get("depends_on_brightness"):
        text += f", from {min(line['sigmas']):.1f} to {max(line['sigmas']):.1f} by brightness"
    return text


def _jpeg_words(line: Line) -> str:
    text = f"JPEG quality {line['quality']:.0f} by its pixels" if line.get("found", True) else "no trace of JPEG found"
    if line.get("quality_of_file") is not None:
        text += f"; its file was written at {'' if line['standard_tables'] else 'about '}{line['quality_of_file']}"
    return text


def _scale_words(line: Line) -> str:
    return f"enlarged {line['scale']:g} times" if line.get("found", True) else "no trace of an enlargement found"


WORDS: dict[str, Callable[[Line], str]] = {"denoise": _noise_words, "dejpeg": _jpeg_words, "sr": _scale_words}
"""Task -> a line of `told_by` in words."""
