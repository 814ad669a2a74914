"""The sets of real noise that `evaluate --data NAME:FOLDER` reads, and submissions to those without references."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from grainwise.core.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from grainwise.data.pairs import Pair
    from grainwise.evaluation.measure import Restorer

WITH_REFERENCES = ("pairs", "sidd-medium", "sidd-val")
WITHOUT_REFERENCES = ("sidd-benchmark", "dnd")
REAL_SETS = WITH_REFERENCES + WITHOUT_REFERENCES


@dataclass(frozen=True, slots=True)
class RealSet:
    """A published set: its name, one of ``REAL_SETS``, and the folder that holds it."""

    name: str
    folder: Path


def real_set(data: str) -> RealSet | None:
    """What ``NAME:FOLDER`` names; None where ``data`` is a folder's path.

    Raises:
        UnknownNameError: the name is not one of ``REAL_SETS``, and there is no folder of the whole text.
        InputError: there is no such folder.
    """
    name, colon, folder = data.partition(":")
    if not colon or Path(data).is_dir():
        return None
    if name not in REAL_SETS:
        raise UnknownNameError("set of real noise", name, REAL_SETS)
    if not folder or not Path(folder).is_dir():
        raise InputError(f"--data {name}:FOLDER names a folder, and there is none at {folder!r}")
    return RealSet(name, Path(folder))


def pairs_of(chosen: RealSet, limit: int | None) -> "Iterator[Pair]":
    """The pairs of a set with references, the first ``limit`` of them, read one at a time.

    Raises:
        InputError: the limit is below 1, the folder does not hold the set, or the pictures of a pair differ in size.
        PictureError: a file cannot be read.
    """
    from grainwise.data.pairs import real_pairs
    from grainwise.data.sidd import medium_pairs, validation_blocks

    if limit is not None and limit < 1:
        raise InputError(f"--limit is at least 1, got {limit}")
    if chosen.name == "pairs":
        return map(_alike, islice(real_pairs(chosen.folder), limit))
    if chosen.name == "sidd-medium":
        return (_alike(pair.read()) for pair in medium_pairs(chosen.folder)[:limit])
    return islice(validation_blocks(chosen.folder).pairs(), limit)


def _alike(pair: "Pair") -> "Pair":
    """A pair whose two pictures have one size and as many channels."""
    name, noisy, clean = pair
    if noisy.shape != clean.shape:
        raise InputError(
            f"{name} is a pair and its pictures differ: {list(noisy.shape)} and {list(clean.shape)} (rows, columns, channels)"
        )
    return pair


@dataclass(frozen=True, slots=True)
class Submitted:
    """How many pictures went into a submission, how large they were, and how long they took."""

    pictures: int
    megapixels: float
    seconds: float


def submit(chosen: RealSet, out: Path, restore: "Restorer", *, method: str, machine: str) -> Submitted:
    """Restore a set without references and write what its server takes: ``out`` is a file for SIDD, a folder for DND.

    Raises:
        InputError: ``out`` is of another kind or cannot be written.
        PictureError: the set cannot be read.
    """
    if chosen.name == "dnd":
        return _submit_dnd(chosen.folder, out, restore)
    return _submit_sidd(chosen.folder, out, restore, {"MethodName": method, "MachineSpecs": machine})


def _submit_sidd(folder: Path, out: Path, restore: "Restorer", about: dict[str, str]) -> Submitted:
    import numpy as np

    from grainwise.data.sidd import benchmark_blocks
    from grainwise.data.sidd_submission import check_submission_path, submitted_block, write_sidd_submission
    from grainwise.evaluation.measure import timed_restore, unit_picture

    check_submission_path(out)
    blocks = benchmark_blocks(folder)
    denoised, seconds = np.empty_like(blocks.noisy), 0.0
    for name, *place in blocks.names():
        noisy = unit_picture(blocks.noisy[tuple(place)], name)
        restored, took = timed_restore(restore, noisy, 0.0, name=name, shape=noisy.shape)
        denoised[tuple(place)] = submitted_block(restored)
        seconds += took
    write_sidd_submission(out, denoised, seconds=seconds, about=about)
    return Submitted(denoised.shape[0] * denoised.shape[1], denoised.size / 3e6, seconds)


def _submit_dnd(folder: Path, out: Path, restore: "Restorer") -> Submitted:
    from grainwise.core.files import whole_folder
    from grainwise.data.dnd import dnd_pictures, write_dnd_picture
    from grainwise.evaluation.measure import timed_restore

    boxes, values, seconds = 0, 0, 0.0
    with whole_folder(out) as temporary:
        for picture in dnd_pictures(folder):
            restored = []
            for index, noisy in enumerate(picture.boxes):
                name = f"{picture.name}-{index:02d}"
                box, took = timed_restore(restore, noisy, 0.0, name=name, shape=noisy.shape)
                restored.append(box)
                boxes, values, seconds = boxes + 1, values + noisy.size, seconds + took
            write_dnd_picture(temporary, picture.name, restored)
    return Submitted(boxes, values / 3e6, seconds)
