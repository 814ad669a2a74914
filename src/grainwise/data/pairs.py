"""Pairs of real noisy pictures and their clean references: PolyU, and Nam's set in both forms that are passed on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.mat import read_rgb8

NOISY, CLEAN = "_real", "_mean"
"""Endings of the two files' names in the PolyU set and in the crops of Nam's set (CC15): one shot, and the mean of many
shots of the still scene."""

NAM_NOISY, NAM_CLEAN = "img_noisy", "img_mean"
"""Variables of the .mat files of Nam's set, [H, W, 3] uint8: one shot, and the mean of 500."""

Pair = tuple[str, npt.NDArray[np.uint8 | np.uint16], npt.NDArray[np.uint8 | np.uint16]]
"""(name, noisy, clean), both HWC."""


def real_pairs(folder: Path) -> Iterator[Pair]:
    """(name, noisy, clean) of each pair below ``folder``, HWC, sorted by name, read one at a time.

    A pair is two pictures NAME_real and NAME_mean (PolyU, and the crops of Nam's set), or one .mat file (Nam's set as
    its authors give it). A folder holds one kind.

    Raises:
        InputError: there is no pair, or a picture without its counterpart.
        PictureError: a file cannot be read.
    """
    paths = {path.stem: path for path in picture_paths(folder)}
    names = sorted(stem.removesuffix(NOISY) for stem in paths if stem.endswith(NOISY))
    lonely = [name for name in names if name + CLEAN not in paths]
    files = sorted(folder.rglob("*.mat")) if not names else []
    if lonely or not (names or files):
        what = f"{lonely[0]}{NOISY} has no {lonely[0]}{CLEAN}" if lonely else "none is there"
        raise InputError(f"{folder} must hold pairs NAME{NOISY} and NAME{CLEAN}, or Nam's .mat files; {what}")
    for name in names:
        yield name, read_picture(paths[name + NOISY]).pixels, read_picture(paths[name + CLEAN]).pixels
    for path in files:
        yield str(path.relative_to(folder).with_suffix("")), read_rgb8(path, NAM_NOISY), read_rgb8(path, NAM_CLEAN)
