"""MATLAB's files: variables of version 5 (scipy) and of version 7.3, which is HDF5 (h5py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError, PictureError
from grainwise.core.files import whole_file
from grainwise.core.optional import DATA_EXTRA, optional_module

HEADER = b"MATLAB 7.3 MAT-file"
"""How files of version 7.3 begin; HDF5 follows after 512 bytes."""


def read_mat(path: Path, name: str) -> npt.NDArray[Any]:
    """The numeric variable ``name`` of a .mat file of version 5 or 7.3, with the axes as MATLAB shows them.

    Raises:
        PictureError: the file is missing, damaged or no .mat file, or holds no numeric variable of that name.
        GrainwiseError: the library that reads this version is not installed.
    """
    return _read_hdf5(path, name) if is_hdf5(path) else _read_version_5(path, name)


def is_hdf5(path: Path) -> bool:
    """Whether a .mat file is of version 7.3.

    Raises:
        PictureError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(HEADER)) == HEADER
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror or error}; check the path") from error


def read_rgb8(path: Path, name: str) -> npt.NDArray[np.uint8]:
    """The variable ``name`` as a picture, [H, W, 3] uint8.

    Raises:
        PictureError: as `read_mat`, or the variable is no 8-bit RGB picture.
    """
    pixels = read_mat(path, name)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise PictureError(
            f"{name} in {path} is {pixels.dtype} of shape {list(pixels.shape)}, and uint8 [H, W, 3] is needed; "
            "take the file as it is distributed"
        )
    return pixels


def write_mat(path: Path, variables: Mapping[str, Any]) -> None:
    """Write a compressed .mat file of version 5, whole or not at all. NumPy arrays of objects become cell arrays.

    Raises:
        InputError: the file cannot be written.
        GrainwiseError: scipy is not installed.
    """
    scipy_io = optional_module("scipy.io", needed_for=f"writing {path.name}", install=DATA_EXTRA)
    try:
        with whole_file(path) as temporary:
            scipy_io.savemat(temporary, dict(variables), do_compression=True, oned_as="row")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another destination") from error


def _read_version_5(path: Path, name: str) -> npt.NDArray[Any]:
    scipy_io = optional_module("scipy.io", needed_for=f"reading {path.name}", install=DATA_EXTRA)
    try:
        found = scipy_io.loadmat(path, variable_names=[name])
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise PictureError(f"{path} is no readable .mat file ({error}); fetch it again") from error
    return _numeric(path, name, found.get(name))


def _read_hdf5(path: Path, name: str) -> npt.NDArray[Any]:
    h5py = optional_module("h5py", needed_for=f"reading {path.name}", install=DATA_EXTRA)
    try:
        with h5py.File(path, "r") as file:
            found = file.get(name)
            value = found[()].T if isinstance(found, h5py.Dataset) else None
    except (OSError, RuntimeError) as error:
        raise PictureError(f"{path} is no readable .mat file of version 7.3 ({error}); fetch it again") from error
    return _numeric(path, name, value)


def _numeric(path: Path, name: str, value: object) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uifb":
        raise PictureError(f"{path} holds no numeric variable {name!r}; take the file as it is distributed")
    return value
