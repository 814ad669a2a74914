"""What a network restores, and what its level 0 and level 1 mean (docs/decisions/0005)."""

from types import MappingProxyType
from typing import Any

from grainwise.core.errors import InputError, UnknownNameError

DENOISE, DEJPEG, UPSCALE = "denoise", "dejpeg", "upscale"

LEVEL_RANGES: MappingProxyType[str, tuple[float, float]] = MappingProxyType(
    {DENOISE: (0.0, 75 / 255), DEJPEG: (100.0, 0.0), UPSCALE: (1.0, 6.0)}
)
"""Task -> the degradation of level 0 (none at all) and that of level 1: noise level in image units, JPEG quality, scale."""


def level_range_of(task: str, given: Any = None) -> tuple[float, float]:  # noqa: ANN401 -- checked here
    """The level range of ``task``, or ``given`` (two different numbers) instead.

    Raises:
        UnknownNameError: no such task.
        InputError: ``given`` is no such pair, or noise levels are not in image units.
    """
    if task not in LEVEL_RANGES:
        raise UnknownNameError("task", task, LEVEL_RANGES)
    if given is None:
        return LEVEL_RANGES[task]
    start, end = (float(value) for value in given)
    if start == end:
        raise InputError(f"level 0 and level 1 stand for different degradations, got {start} twice")
    if task == DENOISE and not (0 <= start <= 1 and 0 <= end <= 1):
        raise InputError(f"the levels of noise are in image units, [0, 1], got {start} and {end}")
    return start, end
