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


_MUST = f"{{}} must hold pairs NAME{NOISY} and NAME{CLEAN}, or Nam's .mat files"


def pair_files(folder: Path) -> list[tuple[str, Path, Path]]:
    """(name, noisy, clean) of each pair of pictures NAME_real and NAME_mean of one folder below ``folder``, sorted by name.

    Raises:
        InputError: a picture without its counterpart, or two files of one name.
    """
    paths: dict[str, Path] = {}
    for path in picture_paths(folder):
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in paths:
            raise InputError(f"{path} and {paths[stem]} have one name; a pair is two pictures, leave one of them out")
        paths[stem] = path
    names = sorted(stem.removesuffix(NOISY) for stem in paths if stem.endswith(NOISY))
    lonely = [name for name in names if name + CLEAN not in paths]
    if lonely:
        raise InputError(f"{_MUST.format(folder)}; {lonely[0]}{NOISY} has no {lonely[0]}{CLEAN}")
    return [(name, paths[name + NOISY], paths[name + CLEAN]) for name in names]


def real_pairs(folder: Path) -> Iterator[Pair]:
    """(name, noisy, clean) of each pair below ``folder``, HWC, sorted by name, read one at a time.

    A pair is two pictures NAME_real and NAME_mean of one folder (PolyU, and the crops of Nam's set), or one .mat file (Nam's
    set as its authors give it). A folder holds one kind; names of pairs in folders below it begin with these.

    Raises:
        InputError: there is no pair, a picture without its counterpart, or two files of one name.
        PictureError: a file cannot be read.
    """
    pairs = pair_files(folder)
    files = sorted(folder.rglob("*.mat")) if not pairs else []
    if not (pairs or files):
        raise InputError(f"{_MUST.format(folder)}; none is there")
    for name, noisy, clean in pairs:
        yield name, read_picture(noisy).pixels, read_picture(clean).pixels
    for path in files:
        yield str(path.relative_to(folder).with_suffix("")), read_rgb8(path, NAM_NOISY), read_rgb8(path, NAM_CLEAN)
