"""The Darmstadt Noise Dataset (Plötz, Roth, CVPR 2017), sRGB: 50 pictures with 20 boxes each, and its submission bundle.

The folder holds `info.mat` and `images_srgb/0001.mat` to `0050.mat`, all of version 7.3 (HDF5). ``info`` is a struct; its
field ``boundingboxes`` is a cell array of one [20, 4] matrix for each picture: top, left, bottom, right, counted from 1,
all inclusive. A picture's variable is ``InoisySRGB``, single [H, W, 3] in [0, 1]. There are no public references.

A submission is a folder of files of the same names. Each holds ``Idenoised``, a cell array of the denoised boxes (single,
in [0, 1]), ``israw`` = false and ``eval_version`` = "1.0", as the data set's submission kit saves them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError, PictureError
from grainwise.core.optional import DATA_EXTRA, optional_module
from grainwise.data.mat import read_mat, write_mat

PICTURE = "InoisySRGB"
EVALUATION_VERSION = "1.0"

FloatPicture = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DndPicture:
    """One picture of the set.

    Attributes:
        name: of its file, ``0001`` to ``0050``.
        boxes: the noisy boxes, each [H, W, 3] float32 in [0, 1], in the order of ``info``; 20 of 512x512 as published.
    """

    name: str
    boxes: tuple[FloatPicture, ...]


def dnd_pictures(folder: Path) -> Iterator[DndPicture]:
    """The pictures of the set in ``folder``, read one at a time.

    Raises:
        PictureError: a file is missing, damaged or of another form, or a box leaves its picture.
        GrainwiseError: h5py is not installed.
    """
    for index, corners in enumerate(bounding_boxes(folder / "info.mat"), 1):
        path = folder / "images_srgb" / f"{index:04d}.mat"
        picture = read_mat(path, PICTURE)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.kind != "f":
            raise PictureError(
                f"{PICTURE} in {path} is {picture.dtype} of shape {list(picture.shape)}, and single [H, W, 3] is needed; "
                "take the sRGB pictures as they are distributed"
            )
        height, width, _ = picture.shape
        boxes = []
        for top, left, bottom, right in corners:
            if not (1 <= top <= bottom <= height and 1 <= left <= right <= width):
                raise PictureError(f"the box {[top, left, bottom, right]} leaves {path}, {height}x{width} pixels")
            boxes.append(np.ascontiguousarray(picture[top - 1 : bottom, left - 1 : right], dtype=np.float32))
        yield DndPicture(f"{index:04d}", tuple(boxes))


def bounding_boxes(path: Path) -> list[list[tuple[int, int, int, int]]]:
    """For each picture its boxes (top, left, bottom, right), counted from 1, all inclusive, from `info.mat`.

    Raises:
        PictureError: the file is missing, damaged or of another form.
        GrainwiseError: h5py is not installed.
    """
    if not path.is_file():
        raise PictureError(f"there is no {path}; give the folder of DND that holds info.mat and images_srgb")
    h5py = optional_module("h5py", needed_for="reading DND", install=DATA_EXTRA)
    try:
        with h5py.File(path, "r") as file:
            references = file["info/boundingboxes"][()].ravel()
            tables = [np.asarray(file[reference]).T for reference in references]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PictureError(f"{path} is not DND's info.mat ({error}); fetch it again") from error
    if not tables or any(table.ndim != 2 or table.shape[1] != 4 for table in tables):
        raise PictureError(f"the boxes in {path} are of another form than four corners a row; fetch it again")
    return [[(int(t), int(le), int(b), int(r)) for t, le, b, r in table] for table in tables]


def write_dnd_picture(folder: Path, name: str, boxes: Sequence[FloatPicture]) -> None:
    """Write the denoised boxes of one picture into a submission.

    Args:
        folder: of the submission; it is what is handed in, once all pictures are there.
        name: as `DndPicture` has it.
        boxes: in the order of `DndPicture`, of the same sizes; clipped to [0, 1].

    Raises:
        InputError: there is no box, or the file cannot be written.
        GrainwiseError: scipy is not installed.
    """
    if not boxes:
        raise InputError(f"a picture of a DND submission holds its denoised boxes, got none for {name}")
    cells = np.empty(len(boxes), dtype=object)
    for index, box in enumerate(boxes):
        cells[index] = np.clip(box, 0, 1).astype(np.float32)
    variables = {"Idenoised": cells, "israw": False, "eval_version": EVALUATION_VERSION}
    write_mat(folder / f"{name}.mat", variables)
