"""Files as MATLAB writes them, for tests: version 5 through scipy, version 7.3 as HDF5 behind MATLAB's header."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Apr 10 12:00:00 2017 HDF5 schema 1.00 ."


def save_version_5(path: Path, **variables: object) -> Path:
    """Write variables as ``save(path, '-v7')`` does."""
    io = pytest.importorskip("scipy.io")
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, variables, do_compression=True)
    return path


def save_version_73(path: Path, fill: Callable[[object], object]) -> Path:
    """Write a file as ``save(path, '-v7.3')`` does; ``fill`` puts the variables into the open HDF5 file."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        fill(file)
    with path.open("r+b") as raw:
        raw.write(HEADER.ljust(124) + b"\x00\x02IM")
    return path


def matlab_order(array: np.ndarray) -> np.ndarray:
    """An array as HDF5 shows what MATLAB stored: the axes reversed."""
    return np.ascontiguousarray(array.T)
