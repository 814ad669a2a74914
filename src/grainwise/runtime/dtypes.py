"""Which dtype is the fastest on this machine: measured by `grainwise bench --calibrate`, kept beside the cost models.

Before it was measured, the hardware's flags decide (`grainwise.runtime.machine.find_dtype`). They are not all there is to
know: some systems tell no flags, and a chip may multiply a dtype in hardware that its library does not use.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.networks.checkpoint import Weights
from grainwise.runtime.calibration import cache_path, machine_of
from grainwise.runtime.machine import DTYPES

CANDIDATES = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}
"""By the kind of the device."""

Seconds = Mapping[str, float]
"""By dtype; less is faster."""


def time_dtypes(weights: Weights, device: torch.device, seconds: Callable[[str], float]) -> tuple[Seconds, Path | None]:
    """Time all dtypes of a device, and keep what they took in the user's cache folder.

    Args:
        weights: what the figures hold for.
        device: where they hold.
        seconds: of a dtype.

    Returns:
        The seconds of each dtype in which the network gives the pixels of float32, and the file that keeps them; None where it
        cannot be written.

    Raises:
        InputError: the network gives other pixels in every dtype.
    """
    found: dict[str, float] = {}
    refused = InputError(f"no dtype of {device} is known")
    for dtype in CANDIDATES[device.type]:
        try:
            found[dtype] = seconds(dtype)
        except InputError as error:
            refused = error
    if not found:
        raise refused
    path = _path(weights, device)
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps({"machine": _machine(weights, device), "seconds": found}, indent=1) + "\n")
    except OSError:
        return found, None
    return found, path


def fastest(seconds: Seconds) -> str:
    """The dtype that took least."""
    return min(seconds, key=lambda dtype: seconds[dtype])


def measured_fastest(weights: Weights, device: torch.device) -> torch.dtype | None:
    """The fastest dtype of what was kept; None where nothing was measured, or it is damaged or of another machine."""
    try:
        kept = json.loads(_path(weights, device).read_text())
        seconds = {str(dtype): float(value) for dtype, value in kept["seconds"].items()}
        true = kept["machine"] == _machine(weights, device) and seconds.keys() <= set(CANDIDATES[device.type])
    except (OSError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError):
        return None
    sound = bool(seconds) and all(0 < value < math.inf for value in seconds.values())
    return DTYPES[fastest(seconds)] if true and sound else None


def _machine(weights: Weights, device: torch.device) -> dict[str, str]:
    machine = machine_of(weights, device, torch.float32)
    del machine["dtype"]
    return machine


def _path(weights: Weights, device: torch.device) -> Path:
    path = cache_path(_machine(weights, device))
    return path.with_name(path.name.replace("costs", "dtypes", 1))
