"""The two files in which results on the SIDD benchmark (sRGB) are handed in.

`SubmitSrgb.mat`, as the benchmark's MATLAB code (version 1.1) saves it: ``DenoisedBlocksSrgb``, a cell array
[pictures, blocks] of single [H, W, 3] in [0, 1]; ``TimeMPSrgb``, seconds per 1024 x 1024 pixels; ``OptionalData``, a
struct of texts about the method. That code saves version 7.3; this is version 5, which MATLAB's ``load`` reads alike.

`SubmitSrgb.csv`, as the benchmark on Kaggle (sidd-benchmark-srgb-psnr) takes it: columns ``ID``, counting from 0 over
pictures, then blocks, and ``BLOCK``, the block's uint8 values in C order, in base64.
"""

import base64
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.core.files import try_writing, whole_file
from grainwise.data.mat import write_mat

SUBMISSION_SUFFIXES = (".mat", ".csv")
"""The kinds of file, by suffix."""

MEGAPIXEL = 1024 * 1024
"""The benchmark's megapixel."""


def write_sidd_submission(
    path: Path, blocks: npt.NDArray[np.uint8], *, seconds: float, about: Mapping[str, str]
) -> None:
    """Write a submission, as its suffix says.

    Args:
        path: ends in .mat or .csv.
        blocks: the denoised blocks, [pictures, blocks, H, W, 3] uint8, in the order of the benchmark's file.
        seconds: that denoising took, all blocks together.
        about: fields of ``OptionalData``: the benchmark names MethodName, Authors, PaperTitle, Venue, MachineSpecs. Only
            a .mat file holds them, and the time.

    Raises:
        InputError: another suffix or form of blocks, or the file cannot be written.
        GrainwiseError: scipy is not installed.
    """
    check_submission_path(path)
    if blocks.ndim != 5 or blocks.shape[4] != 3 or blocks.dtype != np.uint8 or blocks.size == 0:
        raise InputError(
            f"a submission holds uint8 blocks [pictures, blocks, H, W, 3], got {blocks.dtype} of {list(blocks.shape)}"
        )
    if path.suffix.lower() == ".csv":
        _write_csv(path, blocks)
        return
    cells = np.empty(blocks.shape[:2], dtype=object)
    for index in np.ndindex(cells.shape):
        cells[index] = blocks[index].astype(np.float32) / np.float32(255)
    pixels = int(np.prod(blocks.shape[:4]))
    time = seconds * MEGAPIXEL / pixels
    write_mat(path, {"DenoisedBlocksSrgb": cells, "TimeMPSrgb": time, "OptionalData": dict(about)})


def submitted_block(restored: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A denoised block [H, W, 3] in image units as a submission holds it: clipped to [0, 1] and rounded to 8 bits."""
    block: npt.NDArray[np.uint8] = np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)
    return block


def check_submission_path(path: Path) -> None:
    """Raise `InputError` where a submission could not be written to ``path``: its suffix, or its folder."""
    if path.suffix.lower() not in SUBMISSION_SUFFIXES:
        raise InputError(f"a SIDD submission is a file SubmitSrgb.mat or SubmitSrgb.csv, got {path}")
    try:
        try_writing(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another destination") from error


def _write_csv(path: Path, blocks: npt.NDArray[np.uint8]) -> None:
    try:
        with whole_file(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("ID", "BLOCK"))
            for index, block in enumerate(blocks.reshape(-1, *blocks.shape[2:])):
                writer.writerow((index, base64.b64encode(block.tobytes()).decode("ascii")))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another destination") from error
