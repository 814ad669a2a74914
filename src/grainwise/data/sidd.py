"""The Smartphone Image Denoising Dataset (Abdelhamed, Lin, Brown, CVPR 2018), sRGB: SIDD-Medium, and the blocks of the
validation and benchmark sets.

SIDD-Medium is a folder `Data` with one folder for each scene instance, named
``instance_scene_phone_ISO_shutter_temperature_light``, such as ``0052_002_S6_01600_01000_5500_N``; each holds pairs of
PNG files, ``0052_NOISY_SRGB_010.PNG`` and ``0052_GT_SRGB_010.PNG``, and the same with 011. There are 160 instances of 10
scenes. What is held out is held out by scene: two instances of one scene show the same things.

The blocks are .mat files of version 5, each with one variable [40 pictures, 32 blocks, 256, 256, 3] uint8.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError, PictureError
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.mat import read_mat
from grainwise.data.pairs import Pair, pair_files

VALIDATION_NOISY, VALIDATION_CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
BENCHMARK_NOISY = "BenchmarkNoisyBlocksSrgb"
"""Names of the .mat files of blocks, and of the variable in each."""

_INSTANCE = re.compile(r"(\d{4})_(\d{3})_([A-Z0-9]{2})_(\d{5})_(\d{5})_(\d{4})_([LNH])")
_FILE = re.compile(r"((?:\d{4}_)?)(NOISY|GT)(_SRGB_\d{3})")


@dataclass(frozen=True, kw_only=True)
class SiddPair:
    """One pair of SIDD-Medium, not yet read.

    Attributes:
        name: folder and shot, such as ``0052_002_S6_01600_01000_5500_N/010``.
        scene: number of the scene, ``001`` to ``010``.
        phone: GP (Google Pixel), IP (iPhone 7), S6 (Galaxy S6 Edge), N6 (Nexus 6) or G4 (LG G4).
        iso: sensitivity.
        noisy: the file of the noisy picture.
        clean: the file of its reference.
    """

    name: str
    scene: str
    phone: str
    iso: int
    noisy: Path
    clean: Path

    def read(self) -> Pair:
        """(name, noisy, clean), both [H, W, 3] uint8.

        Raises:
            PictureError: a file cannot be read.
        """
        return self.name, read_picture(self.noisy).pixels, read_picture(self.clean).pixels


def medium_pairs(folder: Path) -> tuple[SiddPair, ...]:
    """The pairs of SIDD-Medium below ``folder``, sorted by name; 320 where the set is whole.

    Raises:
        InputError: there is no scene instance, or a picture without its counterpart.
    """
    found = []
    for path in picture_paths(folder):
        instance, file = _INSTANCE.fullmatch(path.parent.name), _FILE.fullmatch(path.stem)
        if instance is None or file is None:
            continue
        other = path.with_name(f"{file[1]}{'GT' if file[2] == 'NOISY' else 'NOISY'}{file[3]}{path.suffix}")
        if not other.is_file():
            raise InputError(f"{path} has no counterpart {other.name}; unpack SIDD-Medium again")
        if file[2] == "NOISY":
            _, scene, phone, iso, *_ = instance.groups()
            name = f"{path.parent.name}/{path.stem[-3:]}"
            found.append(SiddPair(name=name, scene=scene, phone=phone, iso=int(iso), noisy=path, clean=other))
    if not found:
        raise InputError(
            f"{folder} holds no folder of SIDD-Medium such as 0052_002_S6_01600_01000_5500_N with pairs of NOISY_SRGB and "
            "GT_SRGB pictures; give the folder Data of SIDD_Medium_Srgb"
        )
    return tuple(sorted(found, key=lambda pair: pair.name))


def training_pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """(what is held out together, noisy, clean) of each pair below a folder of SIDD-Medium, or of NAME_real and NAME_mean.

    Of SIDD the pairs of a scene belong together, of other sets each stands alone.

    Raises:
        InputError: there is no pair, or a picture without its counterpart.
    """
    if any(_INSTANCE.fullmatch(path.parent.name) for path in picture_paths(folder)):
        return [(f"scene {pair.scene}", pair.noisy, pair.clean) for pair in medium_pairs(folder)]
    pairs = pair_files(folder)
    if not pairs:
        raise InputError(
            f"{folder} holds no pairs to train on: neither SIDD-Medium, as it is distributed, nor pictures NAME_real and "
            "NAME_mean"
        )
    return pairs


@dataclass(frozen=True, eq=False)
class SiddBlocks:
    """Blocks of the validation or of the benchmark set.

    Attributes:
        noisy: [pictures, blocks, H, W, 3] uint8; 40, 32, 256, 256 as published.
        clean: the same of the references, or None: those of the benchmark are not public.
    """

    noisy: npt.NDArray[np.uint8]
    clean: npt.NDArray[np.uint8] | None = None

    def names(self) -> Iterator[tuple[str, int, int]]:
        """(name, picture, block) of each block, in the order of the file; the name is such as ``07-31``."""
        pictures, blocks = self.noisy.shape[:2]
        for picture, block in np.ndindex(pictures, blocks):
            yield f"{picture:02d}-{block:02d}", picture, block

    def pairs(self) -> Iterator[Pair]:
        """(name, noisy, clean) of each block, [H, W, 3] uint8.

        Raises:
            InputError: there are no references.
        """
        if self.clean is None:
            raise InputError(
                "the SIDD benchmark has no public references; write a submission, or take the validation set"
            )
        for name, picture, block in self.names():
            yield name, self.noisy[picture, block], self.clean[picture, block]


def validation_blocks(folder: Path) -> SiddBlocks:
    """ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat in ``folder``.

    Raises:
        PictureError: a file is missing, damaged or of another form, or the two are of unlike shape.
        GrainwiseError: scipy is not installed.
    """
    noisy, clean = _blocks(folder, VALIDATION_NOISY), _blocks(folder, VALIDATION_CLEAN)
    if noisy.shape != clean.shape:
        raise PictureError(
            f"{VALIDATION_NOISY} in {folder} is {list(noisy.shape)} and {VALIDATION_CLEAN} {list(clean.shape)}; "
            "fetch both again"
        )
    return SiddBlocks(noisy, clean)


def benchmark_blocks(folder: Path) -> SiddBlocks:
    """BenchmarkNoisyBlocksSrgb.mat in ``folder``.

    Raises:
        PictureError: the file is missing, damaged or of another form.
        GrainwiseError: scipy is not installed.
    """
    return SiddBlocks(_blocks(folder, BENCHMARK_NOISY))


def _blocks(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    path = folder / f"{name}.mat"
    blocks = read_mat(path, name)
    if blocks.ndim != 5 or blocks.shape[4] != 3 or blocks.dtype != np.uint8 or blocks.size == 0:
        raise PictureError(
            f"{name} in {path} is {blocks.dtype} of shape {list(blocks.shape)}, and uint8 [40, 32, 256, 256, 3] is "
            "needed; take the sRGB file as it is distributed"
        )
    return blocks
