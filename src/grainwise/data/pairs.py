"""Pairs of real noisy pictures and their clean references."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.pictures import picture_paths, read_picture

NOISY, CLEAN = "_real", "_mean"
"""Endings of the two files' names in the PolyU set: one shot, and the mean of many shots of the still scene."""


def real_pairs(
    folder: Path,
) -> Iterator[tuple[str, npt.NDArray[np.uint8 | np.uint16], npt.NDArray[np.uint8 | np.uint16]]]:
    """(name, noisy, clean) of each pair below ``folder``, HWC, sorted by name, read one at a time.

    Raises:
        InputError: there is no pair, or a picture without its counterpart.
    """
    paths = {path.stem: path for path in picture_paths(folder)}
    names = sorted(stem.removesuffix(NOISY) for stem in paths if stem.endswith(NOISY))
    lonely = [name for name in names if name + CLEAN not in paths]
    if not names or lonely:
        what = f"{lonely[0]}{NOISY} has no {lonely[0]}{CLEAN}" if lonely else "none is there"
        raise InputError(f"{folder} must hold pairs NAME{NOISY} and NAME{CLEAN}; {what}")
    for name in names:
        yield name, read_picture(paths[name + NOISY]).pixels, read_picture(paths[name + CLEAN]).pixels
